//! Runs Prometheus' own tests against the evaluator. The test files are not part of this repository; they stand in
//! `shared/conformance/promql` beside it. Where they are missing, the test says so and passes.
//!
//! Cases with native histograms are not run. All others have to pass, except those in `exceptions`; each is run as
//! Prometheus' tests are, with metric names dropped at the end, and as we do by default, with names dropped at once.

mod check;
mod exceptions;
mod script;
mod storage;

use std::io::Write;
use std::path::{Path, PathBuf};

use check::Names;
use script::Command;
use storage::Storage;

/// Fewer cases than this mean that the harness or the data are broken.
const CASES_MIN: usize = 900;

#[derive(Default, Debug)]
struct Tally {
    run: usize,
    passed: usize,
    excepted: usize,
    native: usize,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test has no config.rs that could tell it where the files stand"
)]
fn data_folder() -> Option<PathBuf> {
    let given = std::env::var_os("SHOAL_SHARED").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = own.ancestors().map(|folder| folder.join("shared"));
    given
        .into_iter()
        .chain(beside)
        .map(|shared| shared.join("conformance/promql"))
        .find(|folder| folder.is_dir())
}

/// Writes to the terminal even when the test passes, where `println!` would be hidden.
fn tell(text: &str) {
    // Nothing depends on the message being read.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn prometheus_conformance() {
    let Some(folder) = data_folder() else {
        tell(
            "prometheus_conformance: SKIPPED, there is no shared/conformance/promql beside the repository",
        );
        return;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "test")
        })
        .collect();
    files.sort();
    let mut total = Tally::default();
    let mut failures = Vec::new();
    for file in &files {
        run(file, &mut total, &mut failures);
    }
    tell(&format!(
        "prometheus_conformance: {} cases run, {} passed, {} listed exceptions; {} with native histograms not run",
        total.run, total.passed, total.excepted, total.native
    ));
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(total.run >= CASES_MIN, "only {} cases were run", total.run);
}

fn run(file: &Path, total: &mut Tally, failures: &mut Vec<String>) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let text = std::fs::read_to_string(file).expect("the file can be read");
    let mut storage = Storage::default();
    for command in script::read(&text) {
        let case = match command {
            Command::Clear => {
                storage = Storage::default();
                continue;
            }
            Command::Load {
                gap_ms,
                with_native,
                series,
            } => {
                storage.load(gap_ms, with_native, &series);
                continue;
            }
            Command::Eval(case) => case,
        };
        let outcome = check::check(&case, &storage, Names::Delayed).and_then(|()| {
            match exceptions::needs_delay(&name, &case.query) {
                true => Ok(()),
                false => check::check(&case, &storage, Names::AtOnce)
                    .map_err(|fault| format!("with names dropped at once: {fault}")),
            }
        });
        if storage.take_met_native() || case.is_native {
            total.native += 1;
            continue;
        }
        total.run += 1;
        let reason = exceptions::reason(&name, &case.query);
        match (outcome, reason) {
            (Ok(()), None) => total.passed += 1,
            (Err(_), Some(_)) => total.excepted += 1,
            (Ok(()), Some(reason)) => failures.push(format!(
                "{name}:{}: {} passes now, take it off the list ({reason})",
                case.line, case.query
            )),
            (Err(fault), None) => {
                failures.push(format!("{name}:{}: {}\n    {fault}", case.line, case.query))
            }
        }
    }
}
