//! Rules for settings that a plugin exports beside its kind.

use shoal_runtime::{CallError, Refusal};

use crate::support::*;

const URL: &str = r#"
    [settings]
    type = "object"
    required = ["url"]
    [settings.properties.url]
    type = "string"
"#;

/// A check with rules: longer settings than 40 bytes are a problem, and settings of version 0.1.0 become others.
/// `beyond` runs in both.
fn with_rules(beyond: &str) -> String {
    format!(
        r#"
        (func (export "shoal:plugin/check@0.1.0#run")
          (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32)
          (i32.const 1024))
        (data (i32.const 600) "urlis not mine{{\"url\":\"https://b.example/\"}}")
        (func (export "shoal:plugin/settings@0.1.0#validate") (param i32 i32) (result i32)
          {beyond}
          (i32.store (i32.const 1100) (i32.const 600))
          (i32.store (i32.const 1104) (i32.const 3))
          (i32.store (i32.const 1108) (i32.const 603))
          (i32.store (i32.const 1112) (i32.const 11))
          (i32.store (i32.const 1120) (i32.const 1100))
          (i32.store (i32.const 1124) (i32.gt_u (local.get 1) (i32.const 40)))
          (i32.const 1120))
        (func (export "shoal:plugin/settings@0.1.0#migrate") (param i32 i32 i32 i32) (result i32)
          {beyond}
          (i32.store (i32.const 1152) (i32.const 614))
          (i32.store (i32.const 1156)
            (if (result i32) (i32.eq (local.get 1) (i32.const 5)) (then (i32.const 28)) (else (i32.const 27))))
          (i32.const 1144))
        "#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_judges_and_migrates_settings_with_rules_of_its_own() {
    let code = with_rules("");
    let guest = Guest {
        manifest: URL,
        ..Guest::check(&code)
    };
    let runtime = runtime();
    let plugin = load(&runtime, &guest).await.unwrap();
    assert!(plugin.exports_settings());
    let good = plugin.validate_settings(r#"{"url":"https://a/"}"#).await;
    assert_eq!(good.outcome.unwrap(), Ok(()));
    assert!(good.report.memory_peak_bytes > 0, "a call like others");
    let long = r#"{"url":"https://a-host-with-a-long-name.example/"}"#;
    let problems = plugin.validate_settings(long).await.outcome.unwrap();
    let problems = problems.unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].to_string(), "url: is not mine");
    let migrated = plugin.migrate_settings("0.1.0", "{}", |_| false).await;
    assert_eq!(migrated.outcome.unwrap(), r#"{"url":"https://b.example/"}"#);
    let broken = plugin.migrate_settings("0.10.0", "{}", |_| false).await;
    let error = broken.outcome.unwrap_err();
    assert!(matches!(error, CallError::BadAnswer(_)), "{error}");
    assert_eq!(runtime.stats().live, 0, "nothing of the calls is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_plugin_makes_of_settings_satisfies_its_schema() {
    let code = with_rules("");
    let manifest = URL
        .replace("\"url\"]", "\"key\"]")
        .replace("properties.url", "properties.key");
    let guest = Guest {
        manifest: &manifest,
        ..Guest::check(&code)
    };
    let plugin = load(&runtime(), &guest).await.unwrap();
    let error = plugin
        .migrate_settings("0.1.0", "{}", |_| false)
        .await
        .outcome;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("do not satisfy its schema: ") && error.contains("key: is missing"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_have_the_limits_of_their_kind() {
    let code = with_rules("(loop $again (br $again))");
    let plugin = load(&runtime(), &Guest::check(&code)).await.unwrap();
    let call = plugin.validate_settings("{}").await;
    assert_eq!(call.outcome.unwrap_err().code(), "limit-cpu");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rules_settings_are_well_and_stay() {
    let code = r#"
        (func (export "shoal:plugin/check@0.1.0#run")
          (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32)
          (i32.const 1024))
        "#;
    let plugin = load(&runtime(), &Guest::check(code)).await.unwrap();
    assert!(!plugin.exports_settings());
    assert_eq!(
        plugin.validate_settings("{}").await.outcome.unwrap(),
        Ok(())
    );
    let stayed = plugin.migrate_settings("0.1.0", "{}", |_| false).await;
    assert_eq!(stayed.outcome.unwrap(), "{}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_that_nobody_asks_for_is_refused() {
    let code = with_rules("");
    let mut component = Guest::check(&code).component();
    // The same length, so that the file stays whole: an interface that the contract does not have.
    let (known, unknown) = (
        b"shoal:plugin/settings@0.1.0",
        b"shoal:plugin/sattings@0.1.0",
    );
    let mut at = 0;
    while let Some(found) = component[at..]
        .windows(known.len())
        .position(|w| w == known)
    {
        component[at + found..][..known.len()].copy_from_slice(unknown);
        at += found + known.len();
    }
    let refusal = runtime().load(component).await.unwrap_err();
    assert!(matches!(refusal, Refusal::WrongExport { .. }), "{refusal}");
}
