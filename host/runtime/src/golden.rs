//! Golden tests: what a plugin's manifest promises, tried out.
//!
//! Each test is one call of the real component under its real limits, with everything around it played: no socket is
//! opened, the clock stands, randomness is the same each time.

use std::sync::Arc;

use serde_json::Value;

use crate::call::{CallError, CallReport};
use crate::egress::script::{Beyond, Script};
use crate::install::InstallOptions;
use crate::manifest::GoldenTest;
use crate::plugin::Plugin;
use crate::rehearsal::faults::Faults;
use crate::rehearsal::{Play, Rehearsed, fixed, installation};
use crate::state::Monotonic;

pub(crate) mod compare;

/// What became of one golden test.
#[derive(Clone, Debug)]
pub struct GoldenResult {
    /// Its name.
    pub name: String,
    /// Whether the promise was kept, or what was expected and what was found.
    pub outcome: Result<(), String>,
    /// What was found, as JSON; null when the call could not begin.
    pub found: Value,
    /// What the call used and said.
    pub report: CallReport,
}

impl Plugin {
    /// Tries out every promise of the manifest, one after the other. Never contacts a network.
    pub async fn run_golden_tests(self: &Arc<Plugin>) -> Vec<GoldenResult> {
        self.run_golden_tests_under(&Faults::default()).await
    }

    /// Makes the calls of the golden tests while something goes wrong.
    ///
    /// What is expected of them then is only that each ends in an answer, a failure of the plugin's own words or a limit:
    /// one that panics, crashes or breaks its contract has not thought of it.
    pub async fn run_golden_tests_under(self: &Arc<Plugin>, faults: &Faults) -> Vec<GoldenResult> {
        let mut results = Vec::with_capacity(self.manifest().tests.len());
        for test in &self.manifest().tests {
            results.push(self.run_golden_test(test, faults).await);
        }
        results
    }

    async fn run_golden_test(
        self: &Arc<Plugin>,
        test: &GoldenTest,
        faults: &Faults,
    ) -> GoldenResult {
        // Where something is to take time, the plugin has to see it pass.
        let monotonic = match faults.delay {
            Some(_) => Monotonic::Runs,
            None => Monotonic::Stands,
        };
        let script = Script::new(test.exchanges.clone(), faults.clone(), Beyond::IsProblem);
        let script = Arc::new(script);
        let grants = self.manifest().asked();
        let play = Play {
            options: InstallOptions::new(installation(), grants, test.settings.clone()),
            input: test.input.clone(),
            now: test.now,
            fixed: Some(fixed(test.now, faults, monotonic)),
            script: Arc::clone(&script),
        };
        let (outcome, found, report) = match play.perform(self).await {
            Err(error) => (Err(error.to_string()), Value::Null, CallReport::default()),
            Ok(done) if faults.is_none() => {
                (judge(test, &done, &script), done.outcome, done.report)
            }
            Ok(done) => (judge_under_fault(&done), done.outcome, done.report),
        };
        GoldenResult {
            name: test.name.clone(),
            outcome,
            found,
            report,
        }
    }
}

/// Whether everything is as promised.
fn judge(test: &GoldenTest, done: &Rehearsed, script: &Script) -> Result<(), String> {
    // What went wrong on the way explains the outcome, so it comes first.
    if let Some(problem) = done.problems.first() {
        return Err(problem.clone());
    }
    if let Some(difference) = compare::difference(&test.expect, &done.outcome, "expect") {
        let said = done.outcome["message"].as_str();
        return Err(match said {
            Some(message) if !difference.contains(message) => format!("{difference} ({message})"),
            _ => difference,
        });
    }
    match script.left().first() {
        Some(request) => Err(format!("expected {request}, which was not made")),
        None => Ok(()),
    }
}

fn judge_under_fault(done: &Rehearsed) -> Result<(), String> {
    match &done.error {
        Some(
            error @ (CallError::Panicked { .. }
            | CallError::Trapped { .. }
            | CallError::BadAnswer(_)
            | CallError::WrongTypes(_)),
        ) => Err(error.to_string()),
        _ => Ok(()),
    }
}
