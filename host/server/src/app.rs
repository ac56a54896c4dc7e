//! What the parts of one process share.

use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::observe::Observe;
use crate::plugins::PluginRegistry;
use std::sync::Arc;

/// The state that handlers and background work are given, behind an `Arc`.
pub struct App {
    /// What the operator set.
    pub config: Config,
    /// SQL.
    pub db: Db,
    /// Which plugins run for whom.
    pub plugins: Arc<PluginRegistry>,
    /// The time.
    pub clock: Clock,
    /// Shoal's own metrics.
    pub observe: Observe,
}
