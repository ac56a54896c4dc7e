//! A billing rule gives the same statement for the same usage, whenever and wherever it runs.

use shoal_model::grant::Kind;
use shoal_model::usage::{Meter, MonthUsage};
use shoal_runtime::{CallError, LimitKind, Terms};

use crate::hostile::fill::built;
use crate::hostile::repeat::under_load;
use crate::hostile_files::program;
use crate::support::*;

/// A rule whose one line holds the clocks, randomness and a NaN's bits: everything that could differ.
const RULE: &str = r#"
    (import "wasi:clocks/wall-clock@0.2.6" "now" (func $wall (param i32)))
    (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $monotonic (result i64)))
    (import "wasi:random/random@0.2.6" "get-random-u64" (func $random (result i64)))
    (import "wasi:random/insecure-seed@0.2.6" "insecure-seed" (func $seed (param i32)))
    (func (export "shoal:plugin/billing-rule@0.1.0#rate")
      (param i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
      (local $all i64)
      (call $wall (i32.const 3000))
      (call $seed (i32.const 3104))
      (local.set $all (i64.load (i32.const 3000)))
      (local.set $all (i64.xor (local.get $all) (call $monotonic)))
      (local.set $all (i64.xor (local.get $all) (call $random)))
      (local.set $all (i64.xor (local.get $all) (i64.load (i32.const 3112))))
      (local.set $all (i64.xor (local.get $all)
        (i64.reinterpret_f64 (f64.div (f64.const 0) (f64.const 0)))))
      ;; One line at 4096: quantity is what was gathered, price 0, amount 0.
      (i64.store (i32.const 4112) (i64.shr_u (local.get $all) (i64.const 1)))
      (i32.store (i32.const 1032) (i32.const 4096))
      (i32.store (i32.const 1036) (i32.const 1))
      (i32.const 1024))
"#;

fn rule(code: &str) -> Guest<'_> {
    Guest {
        kind: Kind::BillingRule,
        code,
        manifest: "",
    }
}

fn terms() -> Terms {
    Terms {
        currency: "JPY".into(),
        currency_digits: 0,
    }
}

fn usage(hosts: u64) -> MonthUsage {
    let mut usage = MonthUsage::new("2026-11".parse().unwrap());
    usage.closed_hours = 1;
    usage.count(Meter::HostStandard, "web-1", hosts);
    usage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_usage_gives_the_same_statement_and_takes_the_same_instructions() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        // Another runtime, as on another day.
        let rule = installed(&runtime(), &rule(RULE)).await;
        for _ in 0..2 {
            let call = rule.rate(&usage(1), &terms()).await;
            seen.push((call.outcome.unwrap(), call.report.fuel.unwrap()));
        }
    }
    assert!(seen[0].1 > 0);
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    let rule = installed(&runtime(), &rule(RULE)).await;
    let other = rule.rate(&usage(2), &terms()).await.outcome.unwrap();
    assert_ne!(
        other, seen[0].0,
        "other usage, other randomness: the rule really looked at it"
    );
}

/// Runs of each rule in each of two processes.
const RUNS: usize = 6;

/// The answers and instructions of a rule, run by another process in which endless loops compute beside it.
fn runs_elsewhere(path: &std::path::Path) -> Vec<(String, u64)> {
    let output = std::process::Command::new(program())
        .arg("rate")
        .arg(path)
        .arg(RUNS.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", path.display());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_processes_and_other_load_change_neither_answer_nor_instructions() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("odd.wasm");
    std::fs::write(&odd, rule(RULE).component()).unwrap();
    for path in [odd, built("unsteady_rule.wasm")] {
        let mut all = runs_elsewhere(&path);
        all.extend(runs_elsewhere(&path));
        all.extend(under_load(&path, 1).await);
        assert_eq!(all.len(), 2 * RUNS + 1);
        assert!(all[0].1 > 0, "{path:?}: instructions are counted");
        assert!(all.iter().all(|one| *one == all[0]), "{path:?}: {all:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_never_ends_runs_out_of_instructions() {
    let code = r#"
        (func (export "shoal:plugin/billing-rule@0.1.0#rate")
          (param i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
          (loop $again (br $again)) unreachable)
    "#;
    let mut limits = shoal_model::limit::CallLimits::for_kind(Kind::BillingRule);
    limits.fuel = Some(1_000_000);
    let mut options = options();
    options.limits.insert(Kind::BillingRule, limits);
    let runtime = shoal_runtime::Runtime::new(options).unwrap();
    let call = installed(&runtime, &rule(code))
        .await
        .rate(&usage(1), &terms())
        .await;
    let error = call.outcome.unwrap_err();
    let CallError::Limit(limit) = &error else {
        panic!("{error:?}");
    };
    assert_eq!((limit.which, limit.allowed), (LimitKind::Fuel, 1_000_000));
    assert!(call.report.fuel.unwrap() >= 1_000_000 - 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_product_is_not_billed() {
    // Quantity 2, price 3, amount 7.
    let code = r#"
        (func (export "shoal:plugin/billing-rule@0.1.0#rate")
          (param i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
          (i64.store (i32.const 4112) (i64.const 2))
          (i64.store (i32.const 4128) (i64.const 3))
          (i64.store (i32.const 4144) (i64.const 7))
          (i32.store (i32.const 1032) (i32.const 4096))
          (i32.store (i32.const 1036) (i32.const 1))
          (i32.const 1024))
    "#;
    let rule = installed(&runtime(), &rule(code)).await;
    let error = rule.rate(&usage(1), &terms()).await.outcome.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the plugin's answer breaks its contract: line 1: amount 7 is not 2 times 3 rounded to 0 digits, 6"
    );
}
