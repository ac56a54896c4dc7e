//! The page of errors: every message of a refusal and every outcome of a call has its row, and no row is about another.
//!
//! Messages are read from the source as they are written there, so that a new one without a row is noticed.

use std::collections::BTreeSet;

use super::read;

const SOURCES: [&str; 3] = [
    include_str!("../../../src/refusal.rs"),
    include_str!("../../../src/plugin.rs"),
    include_str!("../../../src/call.rs"),
];

#[test]
fn the_page_of_errors_has_every_message_and_no_other() {
    let [refusals, installs, _] = SOURCES;
    let mut wanted = messages(refusals, "pub enum Refusal");
    wanted.extend(messages(installs, "pub enum InstallError"));
    compare(&rows("messages"), &wanted);
}

#[test]
fn the_page_of_errors_has_every_outcome_and_no_other() {
    let [.., calls] = SOURCES;
    let from = calls.find("pub fn code(").unwrap();
    let code = &calls[from..from + calls[from..].find("\n    }\n").unwrap()];
    let mut wanted: BTreeSet<String> = literals(code).into_iter().collect();
    wanted.insert("done".to_owned());
    compare(&rows("outcomes"), &wanted);
}

#[track_caller]
fn compare(page: &BTreeSet<String>, wanted: &BTreeSet<String>) {
    let missing: Vec<_> = wanted.difference(page).collect();
    let unknown: Vec<_> = page.difference(wanted).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "docs/writing-plugins/errors.md lacks {missing:#?} and has {unknown:#?}, which the code has not"
    );
}

/// First cells of the table below `<!-- NAME -->`, without backticks.
fn rows(name: &str) -> BTreeSet<String> {
    let page = read("errors.md");
    let from = page.find(&format!("<!-- {name} -->")).unwrap();
    let to = page[from..].find(&format!("<!-- /{name} -->")).unwrap() + from;
    let table = page[from..to].lines().filter(|line| line.starts_with('|'));
    let cell = |line: &str| line.split('|').nth(1).unwrap().replace('`', "");
    table
        .skip(2)
        .map(|line| cell(line).trim().to_owned())
        .collect()
}

/// The texts of the `#[error(…)]` of an enum, with `…` for what is filled in.
fn messages(source: &str, item: &str) -> BTreeSet<String> {
    let from = source.find(item).unwrap();
    let body = &source[from..from + source[from..].find("\n}\n").unwrap()];
    let attributes = body.split("#[error(").skip(1);
    attributes
        .filter(|rest| !rest.starts_with("transparent"))
        .map(|rest| filled(&literals(rest)[0]).replace('`', ""))
        // What another error says, word for word, has no words of its own.
        .filter(|message| message.contains(char::is_alphabetic))
        .collect()
}

/// The string literals of a piece of Rust.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(begin) = rest.find('"') {
        rest = &rest[begin + 1..];
        let mut text = String::new();
        let mut characters = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                other => text.push(other),
            }
        }
        found.push(text);
        rest = &rest[end..];
    }
    found
}

/// `{name}` becomes `…`.
fn filled(format: &str) -> String {
    let mut text = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        text.push('…');
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    text + rest
}
