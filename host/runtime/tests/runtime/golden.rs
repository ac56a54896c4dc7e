//! Golden tests: promises of a manifest, tried out on the component that carries them.

use shoal_model::Timestamp;
use shoal_model::grant::{Grants, Kind};
use shoal_runtime::{Peers, Rehearsal};

use crate::support::*;

/// A check that is always well, if its clock shows 2026-01-01T00:00:00Z, and dies an hour later.
const PUNCTUAL: &str = r#"
    (import "wasi:clocks/wall-clock@0.2.6" "now" (func $now (param i32)))
    (func (export "shoal:plugin/check@0.1.0#run") (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32)
      (call $now (i32.const 3000))
      (if (i64.ge_u (i64.load (i32.const 3000)) (i64.const 1767229200)) (then unreachable))
      (i32.store8 (i32.const 1032)
        (select (i32.const 0) (i32.const 2) (i64.eq (i64.load (i32.const 3000)) (i64.const 1767225600))))
      (i32.const 1024))
"#;

fn punctual(tests: &str) -> Guest<'_> {
    Guest {
        kind: Kind::Check,
        code: PUNCTUAL,
        manifest: tests,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promise_is_kept_or_the_difference_is_named() {
    let guest = punctual(
        r#"
        [[tests]]
        name = "at midnight all is well"
        expect = { outcome = "ok", status = "ok" }
        [[tests]]
        name = "a minute later it is not"
        now = "2026-01-01T00:01:00Z"
        expect = { outcome = "ok", status = "ok" }
        [[tests]]
        name = "nobody is asked"
        http = [{ request = "GET https://example.com/" }]
        expect = { outcome = "ok" }
        "#,
    );
    let plugin = load(&runtime(), &guest).await.unwrap();
    let results = plugin.run_golden_tests().await;
    let outcomes: Vec<_> = results.iter().map(|r| r.outcome.clone()).collect();
    assert_eq!(
        outcomes,
        [
            Ok(()),
            Err("expect.status: expected \"ok\", found \"critical\"".to_owned()),
            Err("expected GET https://example.com/, which was not made".to_owned()),
        ]
    );
    assert_eq!(results[0].name, "at midnight all is well");
    assert_eq!(results[0].found["status"], "ok");
    assert!(results[0].report.memory_peak_bytes > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_fault_a_plugin_may_fail_but_not_crash() {
    let guest = punctual(
        r#"
        [[tests]]
        name = "at midnight all is well"
        expect = { outcome = "ok", status = "ok" }
        "#,
    );
    let plugin = load(&runtime(), &guest).await.unwrap();
    let under = async |faults: &str| {
        let faults = faults.parse().unwrap();
        plugin.run_golden_tests_under(&faults).await.remove(0)
    };
    let late = under("clock=+1m").await;
    assert_eq!(late.outcome, Ok(()));
    assert_eq!(late.found["status"], "critical");
    let dead = under("clock=+1h").await;
    assert_eq!(dead.found["outcome"], "trapped");
    assert!(dead.outcome.unwrap_err().contains("crashed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_shows_what_a_receiver_handed_over() {
    let code = r#"
        (import "shoal:plugin/ingest@0.1.0" "write-metrics" (func $ingest (param i32 i32)))
        (func (export "shoal:plugin/receiver@0.1.0#receive") (param $request i32) (result i32)
          (call $ingest (i32.const 8192) (i32.const 2048))
          (i32.store16 (i32.const 1032) (i32.const 204))
          (i32.const 1024))"#;
    let guest = Guest {
        kind: Kind::Receiver,
        code,
        manifest: "",
    };
    let plugin = load(&runtime(), &guest).await.unwrap();
    let rehearsal = |input| Rehearsal {
        grants: plugin.manifest().asked(),
        settings: serde_json::Map::new(),
        input,
        now: Timestamp(0),
        peers: Peers::None,
        faults: "clock=+1h".parse().unwrap(),
    };
    let done = plugin
        .rehearse(rehearsal(serde_json::json!({ "body": "x" })))
        .await;
    let outcome = done.unwrap().outcome;
    assert_eq!(
        outcome,
        serde_json::json!({
            "outcome": "ok", "status": 204, "content_type": "", "message": "", "body": "", "metrics": [],
        })
    );
    let wrong = plugin
        .rehearse(rehearsal(serde_json::json!({ "path": "/" })))
        .await;
    let error = wrong.unwrap_err().to_string();
    assert!(error.starts_with("input: unknown field `path`"), "{error}");
    let ungranted = Rehearsal {
        grants: Grants::default(),
        ..rehearsal(serde_json::json!({}))
    };
    let error = plugin.rehearse(ungranted).await.unwrap_err().to_string();
    assert!(
        error.starts_with("guest cannot run without ingest"),
        "{error}"
    );
}
