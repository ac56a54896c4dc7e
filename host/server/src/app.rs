//! What the parts of one process share.

use std::sync::Arc;

use shoal_store::Store;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::observe::Observe;
use crate::plugins::{PluginCalls, PluginRegistry};
use crate::query::Queries;
use crate::telemetry::Telemetry;

/// The state that handlers and background work are given, behind an `Arc`.
pub struct App {
    /// What the operator set.
    pub config: Config,
    /// SQL.
    pub db: Db,
    /// Which plugins run for whom.
    pub plugins: Arc<PluginRegistry>,
    /// The only way to call them.
    pub calls: Arc<PluginCalls>,
    /// The samples of all tenants.
    pub store: Store,
    /// Answers PromQL.
    pub queries: Queries,
    /// The way of engines to samples.
    pub telemetry: Telemetry,
    /// The time.
    pub clock: Clock,
    /// Shoal's own metrics.
    pub observe: Arc<Observe>,
    /// Rung when an alert changed, so that people are told at once instead of at the next run.
    pub to_tell: Notify,
}
