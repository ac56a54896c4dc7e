//! What tests of monitors, checks and notifications have in common.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use shoal_model::alert::{Comparison, Rule, Thresholds};
use shoal_model::{InstallationId, Labels, MonitorId, TenantId, Timestamp};

use crate::app::App;
use crate::clock::Clock;
use crate::db::installations::NewInstallation;
use crate::db::monitors::Definition;
use crate::db::{Db, TenantDb};
use crate::random::RandomId as _;
use crate::telemetry::{OwnSample, Query, QueryError, Telemetry, WriteError, WriteSamples};
use crate::testing::{self, Engines};

/// Hosts and their values, or why there are none.
type Rows = Result<Vec<(String, f64)>, String>;

/// Answers queries as a test says, by the query's text.
#[derive(Default)]
pub(crate) struct FakeQuery(Mutex<HashMap<String, Rows>>);

impl FakeQuery {
    /// What a query returns from now on.
    pub(crate) fn set(&self, query: &str, rows: &[(&str, f64)]) {
        let rows = rows
            .iter()
            .map(|(host, value)| ((*host).to_owned(), *value));
        self.0.lock().insert(query.to_owned(), Ok(rows.collect()));
    }

    /// Makes a query fail from now on.
    pub(crate) fn fail(&self, query: &str, reason: &str) {
        self.0
            .lock()
            .insert(query.to_owned(), Err(reason.to_owned()));
    }
}

#[async_trait]
impl Query for FakeQuery {
    async fn instant(
        &self,
        _: TenantId,
        promql: &str,
        _: Timestamp,
    ) -> Result<Vec<(Labels, f64)>, QueryError> {
        let rows = self.0.lock().get(promql).cloned().unwrap_or(Ok(Vec::new()));
        let labels = |host: &str| Labels::from_pairs([("__name__", "cpu"), ("host", host)]);
        rows.map(|rows| {
            rows.iter()
                .map(|(host, value)| (labels(host), *value))
                .collect()
        })
        .map_err(QueryError::Refused)
    }
}

/// Keeps what is written.
#[derive(Default)]
pub(crate) struct FakeSamples(pub(crate) Mutex<Vec<OwnSample>>);

#[async_trait]
impl WriteSamples for FakeSamples {
    async fn write(&self, _: TenantId, samples: Vec<OwnSample>) -> Result<(), WriteError> {
        self.0.lock().extend(samples);
        Ok(())
    }
}

/// Makes a tenant.
pub(crate) async fn tenant(db: &Db, key: &str) -> TenantDb {
    let made = db.system().create_tenant(key, key, Timestamp(1)).await;
    db.tenant(made.expect("a tenant").id())
}

/// An enabled installation of a kind; `n` makes its id.
pub(crate) fn installation(n: u8, kind: &str) -> NewInstallation {
    NewInstallation {
        id: InstallationId::from_random([n; 10]),
        name: format!("{kind} {n}"),
        plugin_id: "p".to_owned(),
        kind: kind.to_owned(),
        track: "stable".to_owned(),
        pinned_digest: None,
        settings: serde_json::Map::new(),
        secrets: Vec::new(),
        grants: None,
        is_enabled: true,
        interval_ms: (kind == "check").then_some(60_000),
    }
}

/// Stores an installation.
pub(crate) async fn put(db: &TenantDb, new: &NewInstallation) {
    db.put_installation(new, Timestamp(1)).await.expect("put");
}

/// Critical above 90, at once.
pub(crate) fn definition(query: &str) -> Definition {
    Definition {
        name: "cpu".to_owned(),
        query: query.to_owned(),
        thresholds: Thresholds {
            comparison: Comparison::Above,
            warning: Some(80.0),
            critical: Some(90.0),
        },
        rule: Rule {
            max_attempts: 1,
            missing_is: None,
        },
        memo: String::new(),
        is_enabled: true,
        channels: None,
    }
}

/// Stores a monitor.
pub(crate) async fn add(db: &TenantDb, definition: &Definition) -> MonitorId {
    let id = MonitorId::random();
    let added = db.add_monitor(&id, definition, 1000, Timestamp(1)).await;
    assert!(added.expect("stored"));
    id
}

/// A process without listeners, whose queries a test answers.
pub(crate) async fn app(db: Db, folder: &Path, query: Arc<FakeQuery>, clock: Clock) -> Arc<App> {
    let telemetry = Telemetry {
        query,
        samples: Arc::new(FakeSamples::default()),
    };
    Arc::new(testing::app(db, folder, clock, Engines::Given(telemetry)).await)
}
