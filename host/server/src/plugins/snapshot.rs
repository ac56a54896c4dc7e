//! What runs at one revision: every enabled installation, ready to be called or with the reason why not.
//!
//! A snapshot stays as it is while it is held; the registry replaces it as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use shoal_model::{InstallationId, TenantId};
use shoal_runtime::{Endpoint, Installed};

use super::catalogue::Known;
use super::permission::Missing;
use crate::db::installations::InstallationRow;
use crate::db::plugins::VersionRow;

/// Every enabled installation at one revision.
#[derive(Default)]
pub struct Snapshot {
    installations: HashMap<TenantId, HashMap<String, Arc<Running>>>,
    receivers: HashMap<(TenantId, Endpoint), Arc<Running>>,
}

/// An enabled installation.
pub struct Running {
    /// As it stands in the database.
    pub row: InstallationRow,
    /// The version that runs; `None` when there is none that may.
    pub version: Option<VersionRow>,
    /// Ready to be called, or why not.
    pub state: Result<Arc<Installed>, String>,
    /// What the version asks for and does not get, though it can run without.
    pub missing: Vec<Missing>,
    /// A version that should run instead and cannot, and why.
    pub held_back: Option<(VersionRow, String)>,
    /// A version that is to see copies of this one's calls; what it answers changes nothing.
    pub shadow: Option<Arc<Shadow>>,
}

/// A version that is tried beside the one that runs.
pub struct Shadow {
    /// Which.
    pub version: VersionRow,
    /// Ready to be called, with the installation's settings.
    pub installed: Arc<Installed>,
    /// On which track.
    pub track: String,
    /// After how many equal answers it becomes active.
    pub needed: u32,
}

impl Running {
    /// Whether it calls a version.
    pub(super) fn uses(&self, digest: &str) -> bool {
        let shadow = self.shadow.as_ref().map(|shadow| &shadow.version);
        let mut versions = self.version.iter().chain(shadow);
        versions.any(|version| version.digest == digest)
    }
}

impl Snapshot {
    /// An enabled installation of a tenant.
    pub fn installation(&self, tenant: TenantId, id: &InstallationId) -> Option<&Arc<Running>> {
        self.installations.get(&tenant)?.get(id.as_str())
    }

    /// The tenant's receiver for an endpoint.
    pub fn receiver(&self, tenant: TenantId, endpoint: &Endpoint) -> Option<&Arc<Running>> {
        self.receivers.get(&(tenant, endpoint.clone()))
    }

    /// Every enabled installation.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Running>> {
        self.installations.values().flat_map(HashMap::values)
    }

    /// Every enabled installation of a tenant.
    pub fn of_tenant(&self, tenant: TenantId) -> impl Iterator<Item = &Arc<Running>> {
        self.installations
            .get(&tenant)
            .into_iter()
            .flat_map(HashMap::values)
    }

    pub(super) fn insert(&mut self, running: Arc<Running>) {
        let tenant = running.row.tenant();
        if let Ok(installed) = &running.state {
            for endpoint in &installed.plugin().manifest().endpoints {
                // Installations come in the order of their ids: which of two receivers serves is settled.
                self.receivers
                    .entry((tenant, endpoint.clone()))
                    .or_insert_with(|| running.clone());
            }
        }
        let of_tenant = self.installations.entry(tenant).or_default();
        of_tenant.insert(running.row.id.clone(), running);
    }

    /// What stands in for an installation while its component is compiled: what ran before, or nothing yet.
    pub(super) fn meanwhile(&self, row: &InstallationRow) -> Arc<Running> {
        let before = self
            .installations
            .get(&row.tenant())
            .and_then(|all| all.get(&row.id));
        before.cloned().unwrap_or_else(|| {
            Arc::new(Running {
                row: row.clone(),
                version: None,
                state: Err("its component is being compiled; try again in some seconds".to_owned()),
                missing: Vec::new(),
                held_back: None,
                shadow: None,
            })
        })
    }

    /// The running copy of an installation of which nothing has changed.
    pub(super) fn unchanged(
        &self,
        row: &InstallationRow,
        version: Option<&&Arc<Known>>,
        shadow: Option<&Arc<Known>>,
    ) -> Option<Arc<Running>> {
        let running = self.installations.get(&row.tenant())?.get(&row.id)?;
        let wanted = match &running.held_back {
            Some((wanted, _)) => Some(wanted),
            None => running.version.as_ref(),
        };
        let shadowed = running.shadow.as_ref().map(|shadow| &shadow.version);
        let is_same = running.row == *row
            && running.state.is_ok()
            && wanted == version.map(|known| &known.row)
            && shadowed == shadow.map(|known| &known.row);
        is_same.then(|| running.clone())
    }
}
