//! Building the plugins that are not written in Rust: a check in Python, a channel in JavaScript.
//!
//! Each is built as its author would: in a folder with its sources and the contract, by the commands that
//! `docs/writing-plugins/other-languages.md` shows. What was built from the same files by the same commands is not built again.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{root, run, run_long};
use crate::report;

/// A plugin below `plugins/other-languages/`.
#[derive(Hash)]
struct Guest {
    name: &'static str,
    /// What its commands need on the machine.
    needs: &'static str,
    /// Leave `NAME.wasm` in the folder.
    build: &'static [&'static str],
    /// Needs nothing but the language.
    test: &'static str,
}

const GUESTS: [Guest; 2] = [
    Guest {
        name: "memcached",
        needs: "Python 3 with `venv` (Debian's package `python3-venv`) and the Python package index",
        build: &[
            "python3 -m venv .venv",
            ".venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt",
            ".venv/bin/componentize-py -d wit -d world.wit -w example:memcached/memcached componentize app -o memcached.wasm",
        ],
        test: "python3 -m unittest --quiet",
    },
    Guest {
        name: "teams",
        needs: "Node.js with npm (Debian's packages `nodejs` and `npm`) and the npm registry",
        build: &[
            "npm ci --ignore-scripts --no-audit --no-fund --loglevel=error",
            "npm run --silent build",
        ],
        test: "node --test --test-reporter=dot",
    },
];

/// Builds both, or finds them built.
///
/// # Errors
/// When a language or what its build fetches is missing; says what to install.
pub(crate) fn build() -> Result<()> {
    for guest in &GUESTS {
        let folder = root().join("target/other-languages").join(guest.name);
        let component = folder.join(guest.name).with_extension("wasm");
        let stamp = folder.join("built-from");
        let wanted = digest(guest)?;
        if !component.exists() || std::fs::read_to_string(&stamp).unwrap_or_default() != wanted {
            copy(&source(guest), &folder)?;
            copy(&root().join("wit"), &folder.join("wit"))?;
            for command in guest.build {
                run_long(&mut shell(command, &folder)).with_context(|| {
                    format!("could not build {}; it needs {}", guest.name, guest.needs)
                })?;
            }
            std::fs::write(&stamp, &wanted)?;
        }
        let bytes = std::fs::metadata(&component)?.len();
        let shown = component.strip_prefix(root()).unwrap_or(&component);
        report::line(format_args!(
            "    {:>7} KiB  {}",
            bytes / 1024,
            shown.display()
        ));
    }
    Ok(())
}

/// Runs their own tests.
pub(crate) fn test() -> Result<()> {
    for guest in &GUESTS {
        run(&mut shell(guest.test, &source(guest)))
            .with_context(|| format!("tests of {}, which need {}", guest.name, guest.needs))?;
    }
    Ok(())
}

fn source(guest: &Guest) -> PathBuf {
    root().join("plugins/other-languages").join(guest.name)
}

fn shell(command: &str, folder: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder);
    shell
}

/// Names what is built and how.
fn digest(guest: &Guest) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    guest.hash(&mut hasher);
    for folder in [source(guest), root().join("wit")] {
        for file in files(&folder)? {
            file.file_name().hash(&mut hasher);
            std::fs::read(&file)?.hash(&mut hasher);
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for file in files(from)? {
        std::fs::copy(&file, to.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

/// Files of a folder, sorted; not what tools leave beside them in folders of their own.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
