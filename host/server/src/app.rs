//! What the parts of one process share.

use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::observe::Observe;

/// The state that handlers and background work are given, behind an `Arc`.
pub struct App {
    /// What the operator set.
    pub config: Config,
    /// SQL.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Shoal's own metrics.
    pub observe: Observe,
}
