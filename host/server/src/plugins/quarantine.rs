//! Versions that run for nobody, as this process knows them: a copy of the table, renewed once a second.

use std::collections::HashMap;

use arc_swap::ArcSwap;

use super::calls::Refused;
use crate::db::plugin_health::QuarantineRow;
use crate::db::plugins::VersionRow;

/// Reasons by digest.
#[derive(Default)]
pub(super) struct Quarantine(ArcSwap<HashMap<String, String>>);

impl Quarantine {
    /// Fails when the version is in quarantine.
    pub(super) fn check(&self, version: &VersionRow) -> Result<(), Refused> {
        match self.0.load().get(&version.digest) {
            None => Ok(()),
            Some(reason) => Err(Refused::Quarantined {
                plugin: version.plugin_id.clone(),
                version: version.version.clone(),
                digest: version.digest.clone(),
                reason: reason.clone(),
            }),
        }
    }

    /// Whether a component is in quarantine.
    pub(super) fn has(&self, digest: &str) -> bool {
        self.0.load().contains_key(digest)
    }

    /// Takes over the table.
    pub(super) fn learn(&self, rows: &[QuarantineRow]) {
        let reason = |row: &QuarantineRow| (row.digest.clone(), row.reason.clone());
        self.0.store(std::sync::Arc::new(rows.iter().map(reason).collect()));
    }
}
