//! Calls of real guests on both databases: who is refused and who is not, what is remembered, what is tried beside.

use async_trait::async_trait;
use serde_json::{Map, json};
use shoal_model::grant::Grants;
use shoal_model::telemetry::ValidMetrics;
use shoal_model::usage::Meter;
use shoal_runtime::{Committed, IngestError, Transport};

use super::*;
use crate::app::App;
use crate::billing::close_usage::CloseUsage;
use crate::billing::statement::{Hours, rate};
use crate::db::TenantDb;
use crate::db::installations::NewInstallation;
use crate::db::tracks::{STABLE, Trial};
use crate::jobs::Job as _;
use crate::jobs::testing::{
    add_component, add_plugin, component, hour, tenant, version_of, with_app,
};
use crate::monitoring::testing::{installation, put};
use crate::plugins::{Approve, By, Publish};

/// Takes nothing: these guests write no metrics.
struct Nowhere;

#[async_trait]
impl Ingest for Nowhere {
    async fn write_metrics(&self, _: ValidMetrics) -> Result<Committed, IngestError> {
        Err(IngestError::Unavailable("a test".to_owned()))
    }
}

/// The same component under another digest: a custom section more, which means nothing.
fn again(component: &[u8], padding: u8) -> Vec<u8> {
    let name = b"padding";
    let mut bytes = component.to_vec();
    bytes.extend([0, name.len() as u8 + 2, name.len() as u8]);
    bytes.extend(name);
    bytes.push(padding);
    bytes
}

/// Enables a version's plugin for a tenant.
async fn enable(
    app: &App,
    db: &TenantDb,
    version: &VersionRow,
    settings: Value,
) -> NewInstallation {
    let new = NewInstallation {
        plugin_id: version.plugin_id.clone(),
        settings: settings.as_object().cloned().unwrap_or_default(),
        ..installation(7, &version.kind)
    };
    put(db, &new).await;
    app.plugins.reload().await.expect("loaded");
    new
}

fn running(app: &App, db: &TenantDb) -> Arc<Running> {
    let snapshot = app.plugins.snapshot();
    let found = snapshot.of_tenant(db.id()).next().cloned();
    found.expect("it is enabled")
}

/// Posts a word to the tenant's receiver.
async fn post(
    app: &App,
    calls: &PluginCalls,
    db: &TenantDb,
    word: &str,
) -> Result<String, NoAnswer> {
    let request = ReceiverRequest {
        transport: Transport::Http,
        endpoint: "/hostile".to_owned(),
        method: "POST".to_owned(),
        content_type: "text/plain".to_owned(),
        body: word.as_bytes().to_vec(),
    };
    let context = CallContext::new(app.clock.now(), "key");
    let running = running(app, db);
    let called = calls
        .receive(&running, &context, request, Arc::new(Nowhere))
        .await;
    let body = |response: ReceiverResponse| String::from_utf8_lossy(&response.body).into_owned();
    called.outcome.map(body)
}

async fn panic(app: &App, db: &TenantDb, times: usize) {
    for _ in 0..times {
        let failed = post(app, &app.calls, db, "panic").await;
        assert_eq!(failed.expect_err("it panics").code(), "panicked");
    }
}

/// A process that starts now on the same database.
async fn restarted(app: &App) -> PluginCalls {
    let calls = PluginCalls::new(
        app.db.clone(),
        app.clock.clone(),
        app.observe.clone(),
        app.plugins.clone(),
    );
    calls.sync().await.expect("read");
    calls
}

#[tokio::test]
async fn a_breaker_survives_a_restart_and_leaves_other_tenants_alone() {
    with_app(hour(0).start(), |app| async move {
        let component = component("hostile_receiver.wasm");
        let version = add_component(&app, &component).await;
        let (acme, other) = (tenant(&app, "acme").await, tenant(&app, "other").await);
        for db in [&acme, &other] {
            enable(&app, db, &version, Value::Null).await;
        }
        panic(&app, &acme, 5).await;
        let refused = post(&app, &app.calls, &acme, "well").await;
        let error = refused.expect_err("it rests");
        assert_eq!(error.code(), "breaker-open");
        assert!(
            error.to_string().contains("panics because it was asked to"),
            "{error}"
        );
        app.calls.sync().await.expect("written");
        let later = restarted(&app).await;
        for calls in [&*app.calls, &later] {
            let refused = post(&app, calls, &acme, "well").await;
            assert_eq!(refused.expect_err("it rests").code(), "breaker-open");
            assert_eq!(
                post(&app, calls, &other, "well").await.as_deref(),
                Ok("behaved")
            );
        }
        // A trial in another process closes it for all.
        app.clock.advance(Duration::from_secs(31));
        assert_eq!(
            post(&app, &later, &acme, "well").await.as_deref(),
            Ok("behaved")
        );
        later.sync().await.expect("written");
        app.calls.sync().await.expect("read");
        assert_eq!(app.db.system().open_breakers().await.expect("read"), []);
        for _ in 0..2 {
            let answer = post(&app, &app.calls, &acme, "well").await;
            assert_eq!(answer.as_deref(), Ok("behaved"));
        }
    })
    .await;
}

#[tokio::test]
async fn changed_settings_begin_with_a_closed_breaker() {
    with_app(hour(0).start(), |app| async move {
        let component = component("hostile_receiver.wasm");
        let version = add_component(&app, &component).await;
        let acme = tenant(&app, "acme").await;
        let other = tenant(&app, "other").await;
        let new = enable(&app, &acme, &version, Value::Null).await;
        enable(&app, &other, &version, Value::Null).await;
        panic(&app, &acme, 5).await;
        app.calls.sync().await.expect("written");
        put(&acme, &new).await;
        app.plugins.reload().await.expect("loaded");
        assert_eq!(
            post(&app, &app.calls, &acme, "well").await.as_deref(),
            Ok("behaved")
        );
        app.calls.sync().await.expect("written");
        assert_eq!(app.db.system().open_breakers().await.expect("read"), []);
    })
    .await;
}

#[tokio::test]
async fn what_is_in_quarantine_stays_there_over_a_restart_until_it_is_released() {
    with_app(hour(0).start(), |app| async move {
        let component = component("hostile_receiver.wasm");
        let version = add_component(&app, &component).await;
        let acme = tenant(&app, "acme").await;
        enable(&app, &acme, &version, Value::Null).await;
        let quarantined = app
            .calls
            .quarantine(&version, "it looks odd", "key_1")
            .await;
        assert!(quarantined.expect("stored"));
        for calls in [&*app.calls, &restarted(&app).await] {
            let error = post(&app, calls, &acme, "well")
                .await
                .expect_err("shut out");
            assert_eq!(error.code(), "quarantined");
            assert!(error.to_string().contains("it looks odd"), "{error}");
        }
        assert!(
            app.calls
                .release(&version, "key_1")
                .await
                .expect("released")
        );
        assert_eq!(
            post(&app, &app.calls, &acme, "well").await.as_deref(),
            Ok("behaved")
        );
    })
    .await;
}

#[tokio::test]
async fn a_version_that_fails_for_many_is_replaced_by_the_one_before() {
    with_app(hour(0).start(), |app| async move {
        let component = component("hostile_receiver.wasm");
        let before = add_component(&app, &component).await;
        let broken = add_component(&app, &again(&component, 1)).await;
        let mut tenants = Vec::new();
        for key in ["a", "b", "c", "d"] {
            let db = tenant(&app, key).await;
            enable(&app, &db, &broken, Value::Null).await;
            tenants.push(db);
        }
        for db in &tenants[..2] {
            panic(&app, db, 5).await;
        }
        app.calls.sync().await.expect("written");
        let runs = |db: &TenantDb| {
            running(&app, db)
                .version
                .as_ref()
                .map(|it| it.digest.clone())
        };
        assert_eq!(
            runs(&tenants[3]),
            Some(broken.digest.clone()),
            "two of four are not enough"
        );
        panic(&app, &tenants[2], 5).await;
        app.calls.sync().await.expect("written");
        for db in &tenants {
            assert_eq!(runs(db), Some(before.digest.clone()));
            assert_eq!(
                post(&app, &app.calls, db, "well").await.as_deref(),
                Ok("behaved")
            );
        }
        let rows = app.db.system().quarantined().await.expect("read");
        assert_eq!((rows.len(), &*rows[0].digest), (1, &*broken.digest));
        assert!(
            !rows[0].reason.contains("panic"),
            "nothing of another tenant's is shown"
        );
        app.calls.publish();
        let is_counted = app
            .observe
            .samples(app.clock.now())
            .into_iter()
            .any(|sample| sample.labels.metric_name() == Some("shoal_plugin_rollbacks_total"));
        assert!(is_counted);
    })
    .await;
}

#[tokio::test]
async fn a_version_without_one_before_goes_on_for_those_for_whom_it_works() {
    with_app(hour(0).start(), |app| async move {
        let component = component("hostile_receiver.wasm");
        let version = add_component(&app, &component).await;
        let mut tenants = Vec::new();
        for key in ["a", "b", "c", "d"] {
            let db = tenant(&app, key).await;
            enable(&app, &db, &version, Value::Null).await;
            tenants.push(db);
        }
        for db in &tenants[..3] {
            panic(&app, db, 5).await;
        }
        app.calls.sync().await.expect("written");
        assert_eq!(app.db.system().quarantined().await.expect("read"), []);
        assert_eq!(
            post(&app, &app.calls, &tenants[3], "well").await.as_deref(),
            Ok("behaved")
        );
        app.calls.publish();
        let samples = app.observe.samples(app.clock.now());
        let down = samples
            .iter()
            .find(|sample| sample.labels.metric_name() == Some("shoal_plugin_down"));
        assert_eq!(
            down.map(|sample| sample.value),
            Some(1.0),
            "the operator sees it"
        );
    })
    .await;
}

/// Begins to try a component beside the one that runs.
async fn shadow(app: &App, component: &[u8], needed: u32) -> VersionRow {
    let version = version_of(app, component);
    let (system, line) = (
        app.db.system(),
        crate::db::plugins::tests::audit("plugin.add"),
    );
    let added = system.add_version(&version, component, &line).await;
    added.expect("added");
    let publish = Publish {
        plugin: version.plugin_id.clone(),
        digest: version.digest.clone(),
        track: STABLE.to_owned(),
        trial: Some(Trial::Shadow { needed }),
        approve: Approve::Now(Grants::default()),
        is_forced: false,
    };
    let by = By {
        actor: "test".to_owned(),
        reason: String::new(),
    };
    app.plugins.publish(&publish, &by).await.expect("tried");
    version
}

/// Has the waiting copies run and acts on what they found.
async fn settle_shadows(app: &App) {
    app.calls.shadows.run_waiting().await;
    app.calls.sync().await.expect("written");
}

#[tokio::test]
async fn a_shadow_that_answers_alike_is_promoted() {
    with_app(hour(0).start(), |app| async move {
        let component = component("echo_1.wasm");
        let live = add_component(&app, &component).await;
        let acme = tenant(&app, "acme").await;
        enable(&app, &acme, &live, json!({ "greeting": "hello" })).await;
        let tried = shadow(&app, &again(&component, 1), 4).await;
        let runs = || {
            running(&app, &acme)
                .version
                .as_ref()
                .map(|it| it.digest.clone())
        };
        for _ in 0..3 {
            post(&app, &app.calls, &acme, "one")
                .await
                .expect("an answer");
        }
        settle_shadows(&app).await;
        let known = app.db.system().shadow(&tried.digest).await.expect("read");
        let known = known.expect("it is on record");
        assert_eq!((known.equal, known.differing, known.ended), (3, 0, None));
        assert_eq!(runs(), Some(live.digest.clone()));
        post(&app, &app.calls, &acme, "two")
            .await
            .expect("an answer");
        settle_shadows(&app).await;
        assert_eq!(runs(), Some(tried.digest.clone()));
        let known = app.db.system().shadow(&tried.digest).await.expect("read");
        assert_eq!(known.and_then(|row| row.ended).as_deref(), Some("promoted"));
    })
    .await;
}

#[tokio::test]
async fn a_shadow_that_answers_otherwise_is_tried_no_longer() {
    with_app(hour(0).start(), |app| async move {
        let live = add_component(&app, &component("echo_1.wasm")).await;
        let acme = tenant(&app, "acme").await;
        enable(&app, &acme, &live, json!({ "greeting": "hello" })).await;
        let tried = shadow(&app, &component("echo_2.wasm"), 4).await;
        post(&app, &app.calls, &acme, "one")
            .await
            .expect("an answer");
        settle_shadows(&app).await;
        let running = running(&app, &acme);
        assert!(running.shadow.is_none(), "its trial has ended");
        let runs = running
            .version
            .as_ref()
            .map(|version| version.digest.clone());
        assert_eq!(runs, Some(live.digest));
        let known = app.db.system().shadow(&tried.digest).await.expect("read");
        let known = known.expect("it is on record");
        assert_eq!(known.ended.as_deref(), Some("abandoned"));
        let excerpts = [known.live_excerpt, known.shadow_excerpt].map(Option::unwrap_or_default);
        assert!(
            excerpts[0].contains("status 200") && excerpts[0] != excerpts[1],
            "{excerpts:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn more_copies_than_there_is_room_for_are_counted_and_nobody_waits() {
    with_app(hour(0).start(), |app| async move {
        let component = component("echo_1.wasm");
        let live = add_component(&app, &component).await;
        let acme = tenant(&app, "acme").await;
        enable(&app, &acme, &live, json!({ "greeting": "hello" })).await;
        let tried = shadow(&app, &again(&component, 1), 1_000).await;
        for _ in 0..20 {
            post(&app, &app.calls, &acme, "one")
                .await
                .expect("an answer");
        }
        settle_shadows(&app).await;
        let known = app.db.system().shadow(&tried.digest).await.expect("read");
        let known = known.expect("it is on record");
        assert_eq!((known.equal, known.skipped), (16, 4));
    })
    .await;
}

#[tokio::test]
async fn a_failure_is_kept_with_what_was_asked_and_without_secrets() {
    with_app(hour(0).start(), |app| async move {
        let version = add_component(&app, &component("hostile.wasm")).await;
        let (acme, other) = (tenant(&app, "acme").await, tenant(&app, "other").await);
        let settings =
            json!({ "do": "panic", "url": "http://127.0.0.1:9/", "token": "the-secret-token" });
        let new = enable(&app, &acme, &version, settings).await;
        let context = CallContext::new(app.clock.now(), "the-secret-token-1");
        let called = app.calls.run_check(&running(&app, &acme), &context).await;
        assert!(called.outcome.is_err());
        app.calls.sync().await.expect("written");
        let failures = acme.failures(new.id.as_str()).await.expect("read");
        let [failure] = &failures[..] else {
            panic!("{failures:?}");
        };
        assert_eq!(failure.code, "panicked");
        assert!(
            failure.message.contains("on purpose"),
            "{}",
            failure.message
        );
        assert_ne!(failure.backtrace, "[]");
        let shown = format!("{failure:?}");
        assert!(!shown.contains("the-secret-token"), "{shown}");
        assert!(failure.input.contains("[secret]-1"), "{}", failure.input);
        assert_eq!(other.failures(new.id.as_str()).await.expect("read"), []);
    })
    .await;
}

#[tokio::test]
async fn what_plugins_used_is_closed_and_reaches_a_statement() {
    with_app(hour(0).start(), |app| async move {
        let version = add_component(&app, &component("echo_1.wasm")).await;
        let made = app
            .db
            .system()
            .create_tenant("acme", "Acme", app.clock.now())
            .await;
        let made = made.expect("made");
        let acme = app.db.tenant(made.id());
        enable(&app, &acme, &version, json!({ "greeting": "hello" })).await;
        for _ in 0..3 {
            post(&app, &app.calls, &acme, "one")
                .await
                .expect("an answer");
        }
        app.clock.advance(Duration::from_secs(2 * 3600));
        CloseUsage.run(&app, hour(1).start()).await.expect("closed");
        // What is flushed again changes nothing.
        app.calls.flush_usage().await.expect("written");
        let rule = add_plugin(&app, "mackerel_plan.wasm").await;
        let new = NewInstallation {
            plugin_id: rule.plugin_id.clone(),
            settings: Map::new(),
            ..installation(8, &rule.kind)
        };
        put(&acme, &new).await;
        app.plugins.reload().await.expect("loaded");
        let rated = rate(&app, &acme, &made, hour(0).month(), Hours::Closed).await;
        let rated = rated.expect("a statement");
        let calls = rated.usage.total(Meter::PluginCalls);
        assert_eq!((calls.active_hours, calls.quantity_hours), (1, 3));
        assert!(rated.usage.meters[&Meter::PluginCalls].contains_key("echo"));
        assert!(
            rated.statement.lines.is_empty(),
            "the plan prices no calls of plugins"
        );
    })
    .await;
}
