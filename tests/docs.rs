//! Every command of `docs/writing-plugins/` is run as the page shows it, and prints what the page says.
//!
//! A block of `console` has commands after `$ ` (a `\` at the end goes on in the next line), each with what it prints below it; `…`
//! stands for anything, and a command with nothing below it may print anything. A block with a file's name after its
//! language is that file. All commands of a page are typed into one shell, in an empty folder, with `shoal` in the path and a
//! server of the page's own; each must end with 0.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::components::repository;
use crate::support::{Database, Listener, Server};

/// The pages with commands, each a test; the others have none.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        const PAGES: &[&str] = &[$($page),*];
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                run($page).await;
            }
        )*
    };
}

pages! {
    the_start_is_as_written: "README.md",
    the_page_of_receivers_is_as_written: "receiver.md",
    the_page_of_checks_is_as_written: "check.md",
    the_page_of_channels_is_as_written: "channel.md",
    the_page_of_billing_rules_is_as_written: "billing-rule.md",
    the_page_of_settings_is_as_written: "settings.md",
    the_page_of_testing_is_as_written: "testing.md",
    the_page_of_versions_is_as_written: "versioning.md",
    the_page_of_publishing_is_as_written: "publishing.md",
    the_page_of_other_languages_is_as_written: "other-languages.md",
}

#[test]
fn no_page_has_commands_that_are_not_run() {
    let mut pages = BTreeSet::new();
    for entry in std::fs::read_dir(folder()).expect("there are pages") {
        let name = entry.expect("a page").file_name();
        let name = name.to_str().expect("in ASCII").to_owned();
        for block in blocks(&name) {
            assert!(
                !matches!(block.info.as_str(), "" | "sh" | "shell" | "bash"),
                "{name}: commands are in blocks of `console`: {}",
                block.text
            );
            if block.info == "console" {
                pages.insert(name.clone());
            }
        }
    }
    let run: BTreeSet<String> = PAGES.iter().map(|page| (*page).to_owned()).collect();
    assert_eq!(pages, run, "pages with commands, and those that are run");
}

/// Cargo keeps one file for each name of a component in the folder that all pages build in, so two pages with one name would
/// get each other's.
#[test]
fn no_two_pages_make_a_plugin_of_the_same_name() {
    let mut made = BTreeSet::new();
    for page in PAGES {
        let consoles = blocks(page).into_iter().filter(|b| b.info == "console");
        for step in consoles.flat_map(|block| steps(&block.text)) {
            if step.command.starts_with("shoal plugin new ") {
                let name = step.command.split_whitespace().next_back();
                let name = name.expect("a command has words").to_owned();
                assert!(made.insert(name.clone()), "{page}: {name} is another's");
            }
        }
    }
    assert!(!made.is_empty(), "pages begin plugins");
}

/// What `cargo xtask plugins --all` runs, because it needs package registries, is on the page as it is run there.
#[test]
fn plugins_in_other_languages_are_built_as_their_page_says() {
    let xtask = include_str!("../xtask/src/other_languages.rs");
    let prepared = blocks("other-languages.md")
        .into_iter()
        .filter(|block| block.info == "console prepared");
    let commands: Vec<String> = prepared
        .flat_map(|block| steps(&block.text))
        .map(|step| step.command)
        .collect();
    assert!(!commands.is_empty(), "the page shows how they are built");
    for command in commands {
        assert!(
            xtask.contains(&format!("{command:?}")),
            "xtask does not run: {command}"
        );
    }
}

fn folder() -> PathBuf {
    repository().join("docs/writing-plugins")
}

/// A fenced block.
struct Block {
    /// What follows the fence's opening.
    info: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(folder().join(page)).expect("the page is there");
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                let info = info.trim().to_owned();
                open = Some(Block {
                    info,
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block does not end");
    found
}

/// A command and what it prints.
struct Step {
    command: String,
    shown: String,
}

fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut continues = false;
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: command.to_owned(),
                shown: String::new(),
            });
        } else {
            let step = steps.last_mut().expect("a block begins with a command");
            let onto = if continues {
                &mut step.command
            } else {
                &mut step.shown
            };
            onto.push('\n');
            onto.push_str(line);
        }
        continues = steps
            .last()
            .is_some_and(|step| step.shown.is_empty() && step.command.ends_with('\\'));
    }
    steps
}

/// Runs a page from its first block to its last.
async fn run(page: &str) {
    let server = Server::start_with(Database::sqlite(), &["--config", &config()]).await;
    let hears = Listener::start().await;
    let mut shell = Shell::start(&place(page), &server, &hears);
    for block in blocks(page) {
        match block.info.split_once(' ') {
            None if block.info == "console" => {
                for step in steps(&block.text) {
                    shell.run(page, &step);
                }
            }
            Some(("console", _)) | None => {}
            Some((_, file)) => shell.write(file, &block.text),
        }
    }
    drop(shell);
    server.stop().await;
}

/// An empty folder, the same for a page each time, so that what it builds is not built again.
fn place(page: &str) -> PathBuf {
    let place = built().join(page.trim_end_matches(".md"));
    // There may be none.
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).expect("the build's folder can be written");
    place
}

fn built() -> PathBuf {
    repository().join("target/writing-plugins")
}

/// The deployment that the pages assume.
fn config() -> String {
    let file = repository().join("tests/support/docs.toml");
    file.display().to_string()
}

/// A shell that keeps its folder and variables from command to command.
struct Shell {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// What no command prints.
const END: &str = "----- end of the command, with ";

impl Shell {
    fn start(folder: &Path, server: &Server, hears: &Listener) -> Shell {
        let shoal = Path::new(env!("CARGO_BIN_EXE_shoal"));
        let path = std::env::var("PATH").expect("there is a path");
        let bin = shoal.parent().expect("it lies in a folder").display();
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("SHOAL_") || text.starts_with("CARGO_") || text.starts_with("RUST_")
            {
                command.env_remove(&name);
            }
        }
        let mut process = command
            .current_dir(folder)
            .env("PATH", format!("{bin}:{path}"))
            .env("SHOAL_SERVER", server.address("http").expect("it listens"))
            .env("SHOAL_DATA", server.data())
            // Pages speak of these.
            .env(
                "SHOAL_OTLP",
                server.address("otlp_http").expect("it listens"),
            )
            .env("SHOAL_SOURCE", repository())
            .env("HOOK", hears.url(""))
            // Libraries are compiled once for all pages; each page's own plugin has a name of its own.
            .env("CARGO_BUILD_BUILD_DIR", built().join("build"))
            .env("CARGO_NET_OFFLINE", "true")
            .env("CARGO_TERM_QUIET", "true")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is bash");
        let to = process.stdin.take().expect("piped");
        let from = BufReader::new(process.stdout.take().expect("piped"));
        Shell { process, to, from }
    }

    /// Types a command, and compares.
    #[track_caller]
    fn run(&mut self, page: &str, step: &Step) {
        let line = format!(
            "{{ {}\n}} 2>&1 </dev/null; echo; echo \"{END}$?\"\n",
            step.command
        );
        self.to
            .write_all(line.as_bytes())
            .expect("the shell listens");
        let mut printed = String::new();
        let status = loop {
            let mut line = String::new();
            let read = self
                .from
                .read_line(&mut line)
                .expect("the shell speaks UTF-8");
            assert!(
                read > 0,
                "{page}: the shell ended in: {}\n{printed}",
                step.command
            );
            match line.strip_prefix(END) {
                Some(status) => break status.trim().to_owned(),
                None => printed.push_str(&line),
            }
        };
        let printed = printed.trim_end();
        assert_eq!(status, "0", "{page}: $ {}\n{printed}", step.command);
        let shown = step.shown.trim();
        assert!(
            shown.is_empty() || matches(printed.trim(), shown),
            "{page}: $ {}\nshould print:\n{shown}\n\nprinted:\n{printed}",
            step.command
        );
    }

    /// Leaves a file where the shell is now.
    fn write(&mut self, file: &str, text: &str) {
        let step = Step {
            command: format!(
                "mkdir -p \"$(dirname {file})\" && cat > {file} <<'END OF FILE'\n{text}END OF FILE"
            ),
            shown: String::new(),
        };
        self.run(file, &step);
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether a text is a pattern's, in which `…` stands for anything.
fn matches(text: &str, pattern: &str) -> bool {
    let lines = |text: &str| {
        text.lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let (text, pattern) = (lines(text), lines(pattern));
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn what_a_page_leaves_out_may_be_anything_and_the_rest_may_not() {
    assert!(matches(
        "added ping 0.1.0 (sha256:12)\nnext",
        "added ping … (sha256:…)\nnext"
    ));
    assert!(matches("a\nb\nc", "a\n…\nc"));
    assert!(!matches("added pong 0.1.0", "added ping …"));
    assert!(!matches("a b", "a"));
    assert!(!matches("a b", "… a"));
}
