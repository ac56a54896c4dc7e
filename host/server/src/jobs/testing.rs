//! What tests of jobs and billing share: a process's state on either database, with a clock that is moved by hand.

use std::future::Future;
use std::sync::Arc;

use shoal_model::time::{Hour, Month};
use shoal_model::usage::{Meter, Usage};
use shoal_model::{TenantId, Timestamp};

use crate::app::App;
use crate::clock::Clock;
use crate::db::TenantDb;
use crate::db::plugins::tests::audit;
use crate::db::plugins::{Approval, VersionRow};
use crate::db::testing::each_database;
use crate::db::tracks::{Release, STABLE, TrackRow};
use crate::testing::{Engines, app};

/// Calls `test` with a process's state on SQLite and then on PostgreSQL. The operator's tenant is there.
pub(crate) async fn with_app<F: Future<Output = ()>>(now: Timestamp, test: impl Fn(Arc<App>) -> F) {
    each_database(|db| {
        let test = &test;
        async move {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let operator = db.system().create_tenant("operator", "Operator", now).await;
            assert_eq!(operator.expect("made").id(), TenantId::OPERATOR);
            // Jobs of billing neither ask nor write.
            let app = app(db, folder.path(), Clock::manual(now), Engines::Nowhere).await;
            let app = Arc::new(app);
            test(app.clone()).await;
            app.store.shutdown().await.expect("the store ends");
        }
    })
    .await;
}

/// Makes a tenant now.
pub(crate) async fn tenant(app: &App, key: &str) -> TenantDb {
    let made = app
        .db
        .system()
        .create_tenant(key, key, app.clock.now())
        .await;
    app.db.tenant(made.expect("made").id())
}

/// A component that `cargo xtask plugins` built: of a first-party plugin, or of a guest for tests.
pub(crate) fn component(file: &str) -> Vec<u8> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let path = ["plugins", "tests/guests"]
        .map(|folder| format!("{root}/{folder}/target/wasm32-wasip2/release/{file}"))
        .into_iter()
        .find(|path| std::path::Path::new(path).is_file());
    let path = path.unwrap_or_else(|| panic!("{file} is not built: cargo xtask plugins"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Adds a first-party plugin, and approves all that it asks for.
pub(crate) async fn add_plugin(app: &App, file: &str) -> VersionRow {
    add_component(app, &component(file)).await
}

/// Adds a component, and publishes it with all that it asks for.
pub(crate) async fn add_component(app: &App, component: &[u8]) -> VersionRow {
    let version = version_of(app, component);
    add_version(app, &version, component).await;
    version
}

/// A component as the catalogue has it.
pub(crate) fn version_of(app: &App, component: &[u8]) -> VersionRow {
    let inspection = shoal_runtime::inspect(component).expect("a component of ours");
    let manifest = inspection.manifest;
    VersionRow {
        digest: inspection.digest.to_string(),
        plugin_id: manifest.id.to_string(),
        version: manifest.version.to_string(),
        kind: inspection.kind.to_string(),
        manifest: manifest.text.clone(),
        size_bytes: component.len() as i64,
        added_at_ms: app.clock.now().unix_ms(),
        ..crate::db::plugins::tests::version("", "")
    }
}

/// Adds a version, and publishes it with all that it asks for without looking whether it can run.
pub(crate) async fn add_version(app: &App, version: &VersionRow, component: &[u8]) {
    let (system, now) = (app.db.system(), app.clock.now());
    let line = audit("plugin.add");
    let added = system.add_version(version, component, &line).await;
    added.expect("added");
    let tracks = system.tracks().await.expect("read");
    let plugin = &version.plugin_id;
    let mut track = tracks
        .into_iter()
        .find(|track| track.plugin_id == *plugin)
        .unwrap_or_else(|| TrackRow::new(plugin, STABLE));
    track.set_former(&track.active_digest.iter().cloned().collect::<Vec<_>>());
    track.active_digest = Some(version.digest.clone());
    let manifest = shoal_runtime::Manifest::parse(&version.manifest).expect("ours");
    let release = Release {
        action: "publish",
        digest: version.digest.clone(),
        reason: String::new(),
        approval: Some(Approval {
            digest: version.digest.clone(),
            grants: manifest.asked(),
            by: "test".to_owned(),
        }),
        settings: Vec::new(),
        audit: audit("plugin.publish"),
        track,
    };
    assert!(system.release(&release, now).await.expect("published"));
}

/// The month of the tests: it has 720 hours.
pub(crate) fn november() -> Month {
    "2026-11".parse().expect("a month")
}

/// An hour of that month, or after it.
pub(crate) fn hour(at: i64) -> Hour {
    Hour(november().first_hour().0 + at)
}

/// The present value of an own metric.
pub(crate) fn metric(app: &App, series: &str) -> Option<f64> {
    app.observe
        .samples(Timestamp(0))
        .into_iter()
        .find(|sample| sample.labels.to_string() == series)
        .map(|sample| sample.value)
}

/// Makes elements of one meter.
pub(crate) struct Of(Meter);

pub(crate) const HOST: Of = Of(Meter::HostStandard);
pub(crate) const SERIES: Of = Of(Meter::MetricStandard);
pub(crate) const MICRO: Of = Of(Meter::HostMicro);

impl Of {
    /// The subject itself.
    pub(crate) fn at(&self, hour: Hour, subject: &str) -> Usage {
        self.member(hour, subject, 0)
    }

    /// One of the subject's members.
    pub(crate) fn member(&self, hour: Hour, subject: &str, member: u64) -> Usage {
        Usage {
            hour,
            meter: self.0,
            subject: subject.to_owned(),
            member,
        }
    }
}
