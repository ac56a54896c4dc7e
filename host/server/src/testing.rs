//! A process's state for tests: everything of [`App`] but listeners, with a clock that is moved by hand.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use shoal_model::{Labels, TenantId, Timestamp};
use shoal_runtime::{Runtime, RuntimeOptions};
use shoal_store::{MemoryCatalog, Store, StoreOptions};
use tokio::sync::Notify;

use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, Overrides};
use crate::db::Db;
use crate::ingest::own::OwnSamples;
use crate::observe::Observe;
use crate::plugins::{PluginCalls, PluginRegistry, PluginServices, Policy, RegistryParts};
use crate::query::Queries;
use crate::secrets::SecretBox;
use crate::telemetry::{OwnSample, Query, QueryError, Telemetry, WriteError, WriteSamples};

/// Calls of plugins at a time: enough for any test, with little memory.
const CONCURRENT_CALLS_MAX: u32 = 4;

/// Where the engines' queries and samples go.
pub(crate) enum Engines {
    /// To the process's own store.
    Store,
    /// Every use is an error: what is tested neither asks nor writes.
    Nowhere,
    /// As a test says.
    Given(Telemetry),
}

/// Makes the state of a process whose files are in `folder`.
pub(crate) async fn app(db: Db, folder: &Path, clock: Clock, engines: Engines) -> App {
    let config = Config::load(Overrides {
        data: Some(folder.to_owned()),
        ..Overrides::default()
    });
    let config = Config {
        public_url: "https://shoal.example.com".to_owned(),
        ..config.expect("defaults")
    };
    let runtime = Runtime::new(RuntimeOptions {
        concurrent_calls_max: CONCURRENT_CALLS_MAX,
        ..RuntimeOptions::default()
    });
    let secrets = SecretBox::open(folder).expect("a key for secrets");
    let plugins = PluginRegistry::new(RegistryParts {
        runtime: runtime.expect("a runtime"),
        db: db.clone(),
        secrets,
        clock: clock.clone(),
        policy: Policy::default(),
        services: PluginServices::new(clock.clone(), None),
    });
    let options = StoreOptions::new(folder.join("telemetry"));
    let opened = Store::open(options, Arc::new(MemoryCatalog::new()), clock.now()).await;
    let (store, _) = opened.expect("a store");
    let telemetry = match engines {
        Engines::Store => Telemetry {
            query: Arc::new(Queries::new(store.clone())),
            samples: Arc::new(OwnSamples::new(store.clone(), clock.clone())),
        },
        Engines::Nowhere => Telemetry {
            query: Arc::new(Nowhere),
            samples: Arc::new(Nowhere),
        },
        Engines::Given(telemetry) => telemetry,
    };
    let (plugins, observe) = (Arc::new(plugins), Arc::new(Observe::default()));
    let calls = PluginCalls::new(db.clone(), clock.clone(), observe.clone(), plugins.clone());
    App {
        config,
        db,
        plugins,
        calls: Arc::new(calls),
        queries: Queries::new(store.clone()),
        store,
        telemetry,
        clock,
        observe,
        to_tell: Notify::new(),
    }
}

/// Neither answers nor takes anything.
struct Nowhere;

#[async_trait]
impl Query for Nowhere {
    async fn instant(
        &self,
        _tenant: TenantId,
        promql: &str,
        _at: Timestamp,
    ) -> Result<Vec<(Labels, f64)>, QueryError> {
        Err(QueryError::Refused(promql.to_owned()))
    }
}

#[async_trait]
impl WriteSamples for Nowhere {
    async fn write(&self, _tenant: TenantId, samples: Vec<OwnSample>) -> Result<(), WriteError> {
        Err(WriteError::Refused(format!("{} samples", samples.len())))
    }
}
