//! Which plugins run for whom: the database's wishes, made ready to be called.
//!
//! [`PluginRegistry`] holds a snapshot of every enabled installation, linked and with its settings. A reload
//! builds the next snapshot aside and puts it in place at once: calls in progress keep what they began
//! with, new calls take the new one, and nobody waits. An installation that cannot run keeps its reason and
//! disturbs no other.
//!
//! The database is the truth: every change raises a revision, and each process looks at it twice a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Map, Value};
use shoal_model::grant::Grants;
use shoal_model::{InstallationId, TenantId};
use shoal_runtime::{Endpoint, Installed, Plugin, Runtime};
use tokio::sync::Mutex;

use crate::db::installations::InstallationRow;
use crate::db::plugins::VersionRow;
use crate::db::{Db, DbError};
use crate::secrets::SecretBox;
use crate::task::Stop;

/// How often the revision is looked at; a change made by another process takes effect within twice this.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Every enabled installation at one revision.
#[derive(Default)]
pub struct Snapshot {
    installations: HashMap<(TenantId, String), Arc<Running>>,
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
}

/// An installation cannot run like this.
#[derive(Debug, thiserror::Error)]
pub enum NotRunnable {
    /// Something about the installation or its plugin; the sentence says what to do.
    #[error("{0}")]
    Reason(String),
    /// The database does not answer.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Keeps the snapshot up to date.
pub struct PluginRegistry {
    runtime: Runtime,
    db: Db,
    secrets: SecretBox,
    snapshot: ArcSwap<Snapshot>,
    /// Compiled plugins by digest, and the revision of the snapshot. Held while reloading.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: Option<i64>,
    plugins: HashMap<String, Arc<Plugin>>,
}

/// Where a secret belongs: what its sealing is bound to.
pub fn secret_place(tenant: TenantId, installation: &str, setting: &str) -> String {
    format!("{tenant}/{installation}/{setting}")
}

impl PluginRegistry {
    /// An empty registry; [`PluginRegistry::reload`] fills it.
    pub fn new(runtime: Runtime, db: Db, secrets: SecretBox) -> PluginRegistry {
        PluginRegistry {
            runtime,
            db,
            secrets,
            snapshot: ArcSwap::default(),
            state: Mutex::default(),
        }
    }

    /// What compiles and checks plugins.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// What seals and opens secrets.
    pub fn secrets(&self) -> &SecretBox {
        &self.secrets
    }

    /// The present snapshot; stays as it is while it is held.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Brings the snapshot up to date. Returns when changes committed before the call are live.
    ///
    /// # Errors
    /// The database does not answer; the snapshot stays as it was.
    pub async fn reload(&self) -> Result<(), DbError> {
        let mut state = self.state.lock().await;
        let system = self.db.system();
        // Read before the rows: a change in between is seen again next time, never missed.
        let revision = system.plugin_revision().await?;
        if state.revision == Some(revision) {
            return Ok(());
        }
        let versions = system.versions().await?;
        let before = self.snapshot();
        let mut next = Snapshot::default();
        for row in system.enabled_installations().await? {
            let version = chosen(&row, &versions).cloned();
            let running = match before.unchanged(&row, version.as_ref()) {
                Some(running) => running,
                None => Arc::new(self.start(&mut state.plugins, row, version).await?),
            };
            next.insert(running);
        }
        let is_used = |digest: &String| {
            next.installations
                .values()
                .any(|r| r.version.as_ref().is_some_and(|v| v.digest == *digest))
        };
        state.plugins.retain(|digest, _| is_used(digest));
        self.snapshot.store(Arc::new(next));
        state.revision = Some(revision);
        Ok(())
    }

    async fn start(
        &self,
        plugins: &mut HashMap<String, Arc<Plugin>>,
        row: InstallationRow,
        version: Option<VersionRow>,
    ) -> Result<Running, DbError> {
        let settings = self.opened_settings(&row).await;
        let state = match (&version, settings) {
            (None, _) => Err(no_version(&row)),
            (_, Err(NotRunnable::Db(error))) => return Err(error),
            (_, Err(NotRunnable::Reason(reason))) => Err(reason),
            (Some(version), Ok(settings)) => match self.plugin(plugins, &version.digest).await {
                Err(NotRunnable::Db(error)) => return Err(error),
                Err(NotRunnable::Reason(reason)) => Err(reason),
                Ok(plugin) => {
                    let (granted, id) = (effective(&row, version)?, row.id()?);
                    plugin
                        .install(id, &granted, settings)
                        .map_err(|error| error.to_string())
                }
            },
        };
        if let Err(reason) = &state {
            tracing::warn!(
                tenant.id = row.tenant_id,
                installation.id = row.id,
                plugin.id = row.plugin_id,
                reason,
                "installation cannot run"
            );
        }
        Ok(Running {
            row,
            version,
            state,
        })
    }

    async fn plugin(
        &self,
        plugins: &mut HashMap<String, Arc<Plugin>>,
        digest: &str,
    ) -> Result<Arc<Plugin>, NotRunnable> {
        if let Some(plugin) = plugins.get(digest) {
            return Ok(plugin.clone());
        }
        let bytes = self.db.system().component(digest).await?;
        let bytes = bytes.ok_or_else(|| {
            NotRunnable::Reason(format!("the component {digest} is gone; add it again"))
        })?;
        let plugin = self
            .runtime
            .load(bytes)
            .await
            .map_err(|refusal| NotRunnable::Reason(refusal.to_string()))?;
        plugins.insert(digest.to_owned(), plugin.clone());
        Ok(plugin)
    }

    /// Checks that an installation could run, without running it: version, grants and settings.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn check(
        &self,
        row: &InstallationRow,
        settings: Map<String, Value>,
    ) -> Result<(), NotRunnable> {
        let versions = self.db.system().versions().await?;
        let version = chosen(row, &versions).ok_or_else(|| NotRunnable::Reason(no_version(row)))?;
        let plugin = {
            let mut state = self.state.lock().await;
            self.plugin(&mut state.plugins, &version.digest).await?
        };
        let granted = effective(row, version)?;
        plugin
            .install(row.id()?, &granted, settings)
            .map(|_| ())
            .map_err(|error| NotRunnable::Reason(error.to_string()))
    }

    /// The settings with their secrets.
    pub(crate) async fn opened_settings(
        &self,
        row: &InstallationRow,
    ) -> Result<Map<String, Value>, NotRunnable> {
        let mut settings = row.settings()?;
        for secret in self
            .db
            .tenant(row.tenant())
            .installation_secrets(&row.id)
            .await?
        {
            let place = secret_place(row.tenant(), &row.id, &secret.name);
            let text = self.secrets.open_sealed(&secret.sealed, &place);
            let text = text.map_err(|error| NotRunnable::Reason(error.to_string()))?;
            let value = serde_json::from_str(&text)
                .map_err(|error| NotRunnable::Reason(error.to_string()))?;
            settings.insert(secret.name, value);
        }
        Ok(settings)
    }

    /// Follows changes that other processes make, until it is told to stop.
    pub async fn watch(self: Arc<Self>, mut stop: Stop) {
        while stop.sleep(LOOK_EVERY).await {
            if let Err(error) = self.reload().await {
                tracing::error!(%error, "plugins are not up to date; trying again");
            }
        }
    }
}

impl Snapshot {
    /// An enabled installation of a tenant.
    pub fn installation(&self, tenant: TenantId, id: &InstallationId) -> Option<&Arc<Running>> {
        self.installations.get(&(tenant, id.as_str().to_owned()))
    }

    /// The tenant's receiver for an endpoint.
    pub fn receiver(&self, tenant: TenantId, endpoint: &Endpoint) -> Option<&Arc<Running>> {
        self.receivers.get(&(tenant, endpoint.clone()))
    }

    /// Every enabled installation.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Running>> {
        self.installations.values()
    }

    fn insert(&mut self, running: Arc<Running>) {
        let tenant = running.row.tenant();
        if let Ok(installed) = &running.state {
            for endpoint in &installed.plugin().manifest().endpoints {
                // Installations come in the order of their ids: which of two receivers serves is settled.
                self.receivers
                    .entry((tenant, endpoint.clone()))
                    .or_insert_with(|| running.clone());
            }
        }
        self.installations
            .insert((tenant, running.row.id.clone()), running);
    }

    /// The running copy of an installation of which nothing has changed.
    fn unchanged(
        &self,
        row: &InstallationRow,
        version: Option<&VersionRow>,
    ) -> Option<Arc<Running>> {
        let running = self.installations.get(&(row.tenant(), row.id.clone()))?;
        (running.row == *row && running.version.as_ref() == version && running.state.is_ok())
            .then(|| running.clone())
    }
}

/// The version that an installation runs: the one it is pinned to, or the one approved last. Only approved ones.
fn chosen<'a>(row: &InstallationRow, versions: &'a [VersionRow]) -> Option<&'a VersionRow> {
    let approved = versions
        .iter()
        .filter(|version| version.plugin_id == row.plugin_id && version.approval.is_some());
    match &row.pinned_digest {
        Some(digest) => approved
            .into_iter()
            .find(|version| version.digest == *digest),
        None => approved.into_iter().max_by_key(|version| version.approval),
    }
}

/// Approved by the operator ∩ granted by the tenant. The runtime intersects with what is asked.
fn effective(row: &InstallationRow, version: &VersionRow) -> Result<Grants, DbError> {
    let approved = version.approved()?.unwrap_or_default();
    Ok(match row.grants()? {
        Some(granted) => approved.intersection(&granted),
        None => approved,
    })
}

fn no_version(row: &InstallationRow) -> String {
    let plugin = &row.plugin_id;
    match &row.pinned_digest {
        Some(digest) => format!(
            "version {digest} of {plugin} is not approved; an operator does it with: shoal plugin approve {plugin} --digest {digest}"
        ),
        None => format!(
            "no version of {plugin} is approved; an operator does it with: shoal plugin approve {plugin}"
        ),
    }
}
