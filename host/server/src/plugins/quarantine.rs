//! Versions that run for nobody, as this process knows them: a copy of the table, renewed once a second.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use shoal_model::Timestamp;

use super::calls::Refused;
use crate::db::plugin_health::QuarantineRow;
use crate::db::plugins::VersionRow;

/// By digest.
#[derive(Default)]
pub(super) struct Quarantine(ArcSwap<HashMap<String, QuarantineRow>>);

impl Quarantine {
    /// Fails when the version is in quarantine.
    pub(super) fn check(&self, version: &VersionRow) -> Result<(), Refused> {
        match self.0.load().get(&version.digest) {
            None => Ok(()),
            Some(row) => Err(Refused::Quarantined {
                plugin: version.plugin_id.clone(),
                version: version.version.clone(),
                digest: version.digest.clone(),
                reason: row.reason.clone(),
            }),
        }
    }

    /// Whether a component is in quarantine.
    pub(super) fn has(&self, digest: &str) -> bool {
        self.0.load().contains_key(digest)
    }

    /// Plugin and version of those that were shut out after a time.
    pub(super) fn since(&self, time: Timestamp) -> Vec<(String, String)> {
        let all = self.0.load();
        let late = all.values().filter(|row| row.at_ms > time.unix_ms());
        late.map(|row| (row.plugin_id.clone(), row.version.clone()))
            .collect()
    }

    /// Takes over the table.
    pub(super) fn learn(&self, rows: Vec<QuarantineRow>) {
        let keyed = rows.into_iter().map(|row| (row.digest.clone(), row));
        self.0.store(Arc::new(keyed.collect()));
    }
}
