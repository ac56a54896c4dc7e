//! Invariants of the repository that the compiler does not keep: who may import whom, that documents link what
//! exists, that each file says what it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::{cargo, output, root};

/// Folders that are not ours or not source.
const LEFT_OUT: [&str; 4] = ["target", ".git", "node_modules", "venv"];

/// Files below `folder` whose name ends in `.end`, sorted; paths relative to the repository.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let entry = entry.expect("the repository can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if path.is_dir() {
                if !LEFT_OUT.contains(&name.as_str()) {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|found| found == end) {
                found.push(path.strip_prefix(root()).expect("it lies below").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails with all findings at once.
#[track_caller]
fn expect_none(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

#[test]
fn every_rust_file_begins_by_saying_what_it_is() {
    let silent: Vec<String> = files("", "rs")
        .iter()
        .filter(|path| !read(path).trim_start_matches('\u{feff}').starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    expect_none("these begin without `//!`", &silent);
}

/// Packages of the workspace with what they are built from; what only tests and benchmarks need is left out.
fn packages() -> Vec<(String, BTreeSet<String>)> {
    let text = output(cargo().args(["metadata", "--no-deps", "--offline", "--format-version=1"]))
        .expect("cargo knows its workspace");
    let metadata: Value = serde_json::from_str(&text).expect("cargo prints JSON");
    let strings = |value: &Value| value["name"].as_str().expect("it has a name").to_owned();
    metadata["packages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list");
            let built_from = dependencies.iter().filter(|one| one["kind"] != "dev");
            (strings(package), built_from.map(strings).collect())
        })
        .collect()
}

#[test]
fn imports_point_down() {
    let floors = [
        ("shoal-model", &[][..]),
        ("shoal-promql", &["shoal-model"]),
        ("shoal-store", &["shoal-model"]),
        ("shoal-artifact", &[]),
        ("shoal-runtime", &["shoal-artifact", "shoal-model"]),
        (
            "shoal-server",
            &[
                "shoal-model",
                "shoal-promql",
                "shoal-runtime",
                "shoal-store",
            ],
        ),
        ("xtask", &[]),
    ];
    let packages = packages();
    for (floor, allowed) in floors {
        let (_, dependencies) = packages
            .iter()
            .find(|(name, _)| name == floor)
            .unwrap_or_else(|| panic!("there is no package {floor}"));
        let upwards: Vec<String> = dependencies
            .iter()
            .filter(|name| name.starts_with("shoal-") && !allowed.contains(&name.as_str()))
            .cloned()
            .collect();
        expect_none(&format!("{floor} must not depend on"), &upwards);
    }
}

#[test]
fn the_model_depends_on_nothing_that_does_input_or_output() {
    let allowed = ["thiserror", "xxhash-rust"];
    let packages = packages();
    let (_, dependencies) = packages
        .iter()
        .find(|(name, _)| name == "shoal-model")
        .expect("there is a model");
    let others: Vec<String> = dependencies
        .iter()
        .filter(|name| !allowed.contains(&name.as_str()))
        .cloned()
        .collect();
    expect_none("the model is pure; it does not need", &others);
}

/// A library that one part keeps to itself.
struct Kept {
    /// How source text betrays that it is used.
    signs: &'static [&'static str],
    /// Folders that are searched.
    searched: &'static [&'static str],
    /// Files and folders that may.
    keepers: &'static [&'static str],
}

#[test]
fn what_one_part_keeps_to_itself_no_other_part_mentions() {
    let kept = [
        Kept {
            signs: &[
                "wasmtime::",
                "wasmtime_wasi",
                "use wasmtime",
                "wasmparser::",
            ],
            searched: &["host/model", "host/promql", "host/store", "host/server/src"],
            keepers: &[],
        },
        Kept {
            signs: &["sqlx::", "use sqlx"],
            searched: &["host/server/src", "host/store/src", "host/runtime/src"],
            keepers: &["host/server/src/db.rs", "host/server/src/db/"],
        },
        Kept {
            signs: &["axum::", "use axum"],
            searched: &["host/server/src", "host/store/src", "host/runtime/src"],
            keepers: &["host/server/src/http.rs", "host/server/src/http/"],
        },
        Kept {
            signs: &["tonic::", "use tonic"],
            searched: &["host/server/src", "host/store/src", "host/runtime/src"],
            keepers: &["host/server/src/grpc.rs", "host/server/src/grpc/"],
        },
        // The handle of a tenant: who authenticated its key, and the engines that work for all tenants in turn.
        Kept {
            signs: &["db.tenant("],
            searched: &["host/server/src"],
            keepers: &[
                "host/server/src/db.rs",
                "host/server/src/db/",
                "host/server/src/http/caller.rs",
                "host/server/src/ingest/receive",
                "host/server/src/serve.rs",
                "host/server/src/billing",
                "host/server/src/jobs",
                "host/server/src/monitoring",
                "host/server/src/notify",
                "host/server/src/plugins",
                "host/server/src/http/tests.rs",
                "host/server/src/http/statements/tests.rs",
            ],
        },
    ];
    let mut findings = Vec::new();
    for Kept {
        signs,
        searched,
        keepers,
    } in kept
    {
        for path in searched.iter().flat_map(|folder| files(folder, "rs")) {
            let shown = path.display().to_string();
            if keepers.iter().any(|keeper| shown.starts_with(keeper)) {
                continue;
            }
            let text = read(&path);
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            if let Some(line) = code
                .into_iter()
                .find(|line| signs.iter().any(|sign| mentions(line, sign)))
            {
                findings.push(format!("{shown}: {}", line.trim()));
            }
        }
    }
    expect_none("these use what another part keeps to itself", &findings);
}

/// Whether a line holds a sign at the beginning of a word: `Monotonic::Stands` is none of tonic's.
fn mentions(line: &str, sign: &str) -> bool {
    let begins = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    line.match_indices(sign).any(|(at, _)| begins(at))
}

/// Markdown documents of ours.
fn documents() -> Vec<PathBuf> {
    files("", "md")
}

/// The `[text](target)` links of a document that lead into the repository.
fn links(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(middle) = rest.find("](") {
        let before = &rest[..middle];
        let label = &before[before.rfind('[').map_or(0, |at| at + 1)..];
        let after = &rest[middle + 2..];
        let Some(end) = after.find(')') else { break };
        let target = after[..end].split('#').next().unwrap_or_default();
        if !target.is_empty() && !target.contains("://") {
            found.push((label.to_owned(), target.to_owned()));
        }
        rest = &after[end..];
    }
    found
}

#[test]
fn documents_link_only_what_exists() {
    let mut broken = Vec::new();
    for document in documents() {
        let folder = document.parent().unwrap_or(Path::new("")).to_owned();
        for (label, target) in links(&read(&document)) {
            if !root().join(&folder).join(&target).exists() {
                broken.push(format!("{}: [{label}]({target})", document.display()));
            }
        }
    }
    expect_none("broken links", &broken);
}

/// Whether a source text defines something called `name`.
fn defines(source: &str, name: &str) -> bool {
    [
        "fn",
        "struct",
        "enum",
        "trait",
        "mod",
        "const",
        "interface",
        "world",
        "record",
    ]
    .iter()
    .any(|word| {
        source
            .match_indices(&format!("{word} {name}"))
            .any(|(at, found)| {
                let next = source[at + found.len()..].chars().next().unwrap_or(' ');
                !(next.is_alphanumeric() || next == '_' || next == '-')
            })
    }) || source.contains(&format!("{name}: func("))
}

#[test]
fn what_architecture_names_is_in_the_file_that_it_links() {
    let mut missing = Vec::new();
    for (label, target) in links(&read(Path::new("ARCHITECTURE.md"))) {
        let Some(name) = label
            .strip_prefix('`')
            .and_then(|label| label.strip_suffix('`'))
        else {
            continue;
        };
        let path = root().join(&target);
        if !path.is_file() || target.ends_with(".md") {
            continue;
        }
        let last = name
            .rsplit("::")
            .next()
            .unwrap_or(name)
            .trim_end_matches("()");
        if !defines(&read(Path::new(&target)), last) {
            missing.push(format!("[`{name}`]({target})"));
        }
    }
    expect_none(
        "ARCHITECTURE.md links these names to files without them",
        &missing,
    );
}

#[test]
fn every_invariant_of_architecture_names_a_test_that_exists() {
    let text = read(Path::new("ARCHITECTURE.md"));
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with("Invariants"))
        .expect("ARCHITECTURE.md has a section Invariants");
    let named: Vec<&str> = section
        .split("Test: `")
        .skip(1)
        .filter_map(|rest| rest.split('`').next())
        .collect();
    let invariants = section
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
        .count();
    assert!(
        invariants > 0 && named.len() >= invariants,
        "{invariants} invariants name {} tests",
        named.len()
    );
    let sources: Vec<String> = files("", "rs").iter().map(|path| read(path)).collect();
    let missing: Vec<String> = named
        .iter()
        .filter(|name| !sources.iter().any(|source| defines(source, name)))
        .map(|name| (*name).to_owned())
        .collect();
    expect_none("ARCHITECTURE.md names tests that do not exist", &missing);
}
