//! What the developer sees; the only module here that prints.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Prints one line.
#[expect(clippy::print_stdout, reason = "this is the module that prints")]
pub(crate) fn line(text: impl Display) {
    println!("{text}");
}

/// Prints why the command failed, with all causes.
#[expect(clippy::print_stderr, reason = "this is the module that prints")]
pub(crate) fn failure(error: &anyhow::Error) {
    eprintln!("xtask: {error:#}");
}

/// What became of the steps of one command, one line each.
#[derive(Default)]
pub(crate) struct Summary {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

impl Summary {
    /// Announces a step, runs it and remembers how it went.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> Option<T> {
        line(format_args!("==> {name}"));
        let begun = Instant::now();
        let (value, outcome) = match work() {
            Ok(value) => (Some(value), Outcome::Passed),
            Err(error) => {
                failure(&error);
                (None, Outcome::Failed(format!("{error:#}")))
            }
        };
        self.rows.push(Row {
            name: name.to_owned(),
            took: begun.elapsed(),
            outcome,
        });
        value
    }

    /// Remembers a step that was not run, and why.
    pub(crate) fn skip(&mut self, name: &str, why: impl Into<String>) {
        self.rows.push(Row {
            name: name.to_owned(),
            took: Duration::ZERO,
            outcome: Outcome::Skipped(why.into()),
        });
    }

    /// Prints one line a step; an error when any failed.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        line("");
        let mut failed = Vec::new();
        for row in &self.rows {
            let (mark, why) = match &row.outcome {
                Outcome::Passed => ("passed ", ""),
                Outcome::Failed(why) => ("FAILED ", why.as_str()),
                Outcome::Skipped(why) => ("skipped", why.as_str()),
            };
            if matches!(row.outcome, Outcome::Failed(_)) {
                failed.push(row.name.as_str());
            }
            let seconds = row.took.as_secs_f64();
            line(format_args!("{mark} {seconds:>7.1} s  {}  {why}", row.name));
        }
        anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
        Ok(())
    }
}
