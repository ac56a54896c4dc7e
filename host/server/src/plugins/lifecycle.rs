//! Stand-in until the lifecycle is merged.

use super::registry::{NotRunnable, PluginRegistry};
use super::snapshot::Shadow;
use crate::db::plugins::VersionRow;

impl PluginRegistry {
    pub async fn promote_shadow(&self, shadow: &Shadow, reason: &str) -> Result<(), NotRunnable> {
        Err(NotRunnable::Reason(format!("{reason} {}", shadow.track)))
    }
    pub async fn abandon_shadow(&self, shadow: &Shadow, reason: &str) -> Result<(), NotRunnable> {
        Err(NotRunnable::Reason(format!("{reason} {}", shadow.track)))
    }
    pub async fn roll_back_failing(&self, version: &VersionRow, track: &str, reason: &str) -> Result<(), NotRunnable> {
        Err(NotRunnable::Reason(format!("{reason} {track} {}", version.digest)))
    }
}
