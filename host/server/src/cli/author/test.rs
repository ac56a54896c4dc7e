//! `shoal plugin test`: the golden tests of a plugin's manifest.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use shoal_runtime::{Faults, GoldenResult, RuntimeOptions};

use super::{all_good, report, runtime, source};
use crate::cli::output::{Output, Table, text};

pub(super) async fn run(plugin: &Path, faults: &Faults, output: Output) -> Result<()> {
    let bytes = source::component(plugin).await?;
    let plugin = runtime(RuntimeOptions::default())?.load(bytes).await?;
    ensure!(
        !plugin.manifest().tests.is_empty(),
        "{} has no golden tests: write [[tests]] in its plugin.toml",
        plugin.manifest().id
    );
    let results = plugin.run_golden_tests_under(faults).await;
    let failed = results.iter().filter(|r| r.outcome.is_err()).count();
    let shown = json!({
        "plugin": plugin.manifest().id.to_string(),
        "version": plugin.manifest().version.to_string(),
        "faults": faults.to_string(),
        "tests": results.iter().map(as_json).collect::<Vec<_>>(),
        "failed": failed,
    });
    output.show(&shown, |shown| as_text(&shown["tests"]));
    all_good(failed, results.len(), "golden tests")
}

/// A result for people and programs.
pub(super) fn as_json(result: &GoldenResult) -> Value {
    json!({
        "name": result.name,
        "passed": result.outcome.is_ok(),
        "problem": result.outcome.as_ref().err(),
        "found": result.found,
        "report": report(&result.report),
    })
}

fn as_text(tests: &Value) -> String {
    let tests = tests.as_array().map_or(&[][..], Vec::as_slice);
    let row = |test: &Value| {
        let report = &test["report"];
        let us = |value: &Value| format!("{:.1} ms", value.as_f64().unwrap_or(0.0) / 1000.0);
        let mib = report["memory_peak_bytes"].as_f64().unwrap_or(0.0) / (1 << 20) as f64;
        json!({
            "": if test["passed"] == true { "ok" } else { "FAILED" },
            "test": test["name"],
            "outcome": test["found"]["outcome"],
            "time": us(&report["duration_us"]),
            "cpu": us(&report["cpu_us"]),
            "memory": format!("{mib:.1} MiB"),
            "fuel": if report["fuel"].is_null() { "-".to_owned() } else { text(&report["fuel"]) },
        })
    };
    let rows = Value::Array(tests.iter().map(row).collect());
    let columns = ["", "test", "outcome", "time", "cpu", "memory", "fuel"];
    let mut all = Table::of(&rows, &columns).to_string();
    for test in tests.iter().filter(|test| test["passed"] != true) {
        let (name, problem) = (text(&test["name"]), text(&test["problem"]));
        all.push_str(&format!(
            "\n\n{name}: {problem}\n  found: {}",
            test["found"]
        ));
        let log = test["report"]["log"].as_array();
        for line in log.into_iter().flatten() {
            let (level, message) = (text(&line["level"]), text(&line["message"]));
            all.push_str(&format!("\n  {level}: {message}"));
        }
    }
    all
}
