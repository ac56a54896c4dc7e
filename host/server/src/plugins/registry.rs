//! Which plugins run for whom: the database's wishes, made ready to be called.
//!
//! [`PluginRegistry`] holds a snapshot of every enabled installation, linked and with its settings. A reload
//! builds the next snapshot aside and puts it in place at once: calls in progress keep what they began
//! with, new calls take the new one, and nobody waits. An installation that cannot run keeps its reason and
//! disturbs no other.
//!
//! Compiling takes seconds, so it never happens while a snapshot is built: an installation whose component is still to be
//! compiled goes on as it was, and everything else takes effect at once. Where a version that was approved last cannot run, such as
//! with a tenant's settings, the one before goes on and says why.
//!
//! The database is the truth: every change raises a revision, and each process looks at it twice a second.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use futures_util::future::{Fuse, FusedFuture as _};
use serde_json::{Map, Value};
use shoal_model::TenantId;
use shoal_model::grant::Grants;
use shoal_runtime::{InstallOptions, Plugin, Runtime};
use tokio::sync::Mutex;

use crate::db::installations::InstallationRow;
use crate::db::plugins::VersionRow;
use crate::db::{Db, DbError};
use crate::plugins::compiled::Compiled;
use crate::plugins::snapshot::{Running, Snapshot};
use crate::secrets::SecretBox;
use crate::task::Stop;

/// Versions that are tried for one installation, the one approved last first.
const CANDIDATES_MAX: usize = 3;
/// How often the revision is looked at; a change made by another process takes effect within twice this.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
    /// The revision of the snapshot. Held while the next one is built.
    revision: Mutex<Option<i64>>,
    compiled: Compiled,
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
            revision: Mutex::default(),
            compiled: Compiled::default(),
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

    /// Brings the snapshot up to date, compiling what is new. Returns when changes committed before the call are live.
    ///
    /// # Errors
    /// The database does not answer; what is live already stays.
    pub async fn reload(&self) -> Result<(), DbError> {
        loop {
            let missing = self.publish().await?;
            if missing.is_empty() {
                return Ok(());
            }
            for digest in missing {
                // What the runtime refuses is shown by its installations.
                let _ = self.compiled(&digest).await?;
            }
        }
    }

    /// Puts in place what needs no compiling; the rest goes on as it was. After [`PluginRegistry::check`] of an
    /// installation, and while its result is held, that is all there is to do to change it.
    ///
    /// # Errors
    /// The database does not answer; the snapshot stays as it was.
    pub async fn apply(&self) -> Result<(), DbError> {
        self.publish().await.map(drop)
    }

    /// Builds the next snapshot and puts it in place. Returns the digests that have to be compiled before it is what the
    /// database wants.
    async fn publish(&self) -> Result<Vec<String>, DbError> {
        let mut published = self.revision.lock().await;
        let system = self.db.system();
        // Read before the rows: a change in between is seen again next time, never missed.
        let revision = system.plugin_revision().await?;
        if *published == Some(revision) {
            return Ok(Vec::new());
        }
        let versions = system.versions().await?;
        let before = self.snapshot();
        let (mut next, mut missing) = (Snapshot::default(), Vec::new());
        for row in system.enabled_installations().await? {
            let candidates = candidates(&row, &versions);
            let running = match before.unchanged(&row, candidates.first().copied()) {
                Some(running) => running,
                None => match self.next(&row, &candidates).await? {
                    Ok(running) => Arc::new(running),
                    Err(digest) => {
                        missing.push(digest);
                        before.meanwhile(row)
                    }
                },
            };
            next.insert(running);
        }
        missing.sort_unstable();
        missing.dedup();
        let is_new = missing.is_empty().then_some(revision);
        self.compiled.forget_unused(|digest| {
            let has_it = |running: &Arc<Running>| {
                let version = running.version.as_ref();
                version.is_some_and(|version| version.digest == digest)
            };
            missing.iter().any(|missing| missing == digest) || next.iter().any(has_it)
        });
        self.snapshot.store(Arc::new(next));
        *published = is_new;
        Ok(missing)
    }

    /// The first of some versions that can run; when none can, the first with its reason. `Err` is the digest that has to be
    /// compiled before it can be said.
    async fn next(
        &self,
        row: &InstallationRow,
        candidates: &[&VersionRow],
    ) -> Result<Result<Running, String>, DbError> {
        let mut first: Option<Running> = None;
        for version in candidates {
            let Some(plugin) = self.compiled.ready(&version.digest) else {
                return Ok(Err(version.digest.clone()));
            };
            let version = Some((VersionRow::clone(version), plugin));
            let mut running = self.start(row.clone(), version).await?;
            if running.state.is_ok() {
                let refused = first.and_then(|first| first.version.zip(first.state.err()));
                running.held_back = refused;
                return Ok(Ok(running));
            }
            first = first.or(Some(running));
        }
        Ok(Ok(match first {
            Some(first) => first,
            None => self.start(row.clone(), None).await?,
        }))
    }

    async fn start(
        &self,
        row: InstallationRow,
        version: Option<(VersionRow, Result<Arc<Plugin>, String>)>,
    ) -> Result<Running, DbError> {
        let (version, plugin) = version.unzip();
        let settings = self.opened_settings(&row).await;
        let state = match (&version, plugin, settings) {
            (None, ..) | (_, None, _) => Err(no_version(&row)),
            (.., Err(NotRunnable::Db(error))) => return Err(error),
            (.., Err(NotRunnable::Reason(reason))) | (_, Some(Err(reason)), _) => Err(reason),
            (Some(version), Some(Ok(plugin)), Ok(settings)) => {
                let (granted, id) = (effective(&row, version)?, row.id()?);
                plugin
                    .install(InstallOptions::new(id, granted, settings))
                    .map_err(|error| error.to_string())
            }
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
            held_back: None,
            shadow: None,
        })
    }

    /// A component, compiled here unless it was before; or why the runtime refuses it.
    async fn compiled(&self, digest: &str) -> Result<Result<Arc<Plugin>, String>, DbError> {
        let compile = || async {
            let Some(bytes) = self.db.system().component(digest).await? else {
                return Ok(Err(format!(
                    "the component {digest} is gone from the database"
                )));
            };
            let loaded = self.runtime.load(bytes).await;
            Ok(loaded.map_err(|refusal| refusal.to_string()))
        };
        let component = self.compiled.entry(digest);
        component.get_or_try_init(compile).await.cloned()
    }

    /// Checks that an installation could run, without running it: version, grants and settings. While the plugin that it
    /// returns is held, [`PluginRegistry::apply`] finds it compiled.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn check(
        &self,
        row: &InstallationRow,
        settings: Map<String, Value>,
    ) -> Result<Arc<Plugin>, NotRunnable> {
        let versions = self.db.system().versions().await?;
        let version = chosen(row, &versions).ok_or_else(|| NotRunnable::Reason(no_version(row)))?;
        let plugin = self.compiled(&version.digest).await?;
        let plugin = plugin.map_err(NotRunnable::Reason)?;
        let granted = effective(row, version)?;
        plugin
            .install(InstallOptions::new(row.id()?, granted, settings))
            .map_err(|error| NotRunnable::Reason(error.to_string()))?;
        Ok(plugin)
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

    /// Follows changes that other processes make, until it is told to stop. Compiles beside looking, one component at a
    /// time.
    pub async fn watch(self: Arc<Self>, mut stop: Stop) {
        let mut compiling = std::pin::pin!(Fuse::terminated());
        loop {
            tokio::select! {
                goes_on = stop.sleep(LOOK_EVERY) => if !goes_on { return },
                () = &mut compiling => {}
            }
            match self.publish().await {
                Ok(missing) => {
                    if let Some(digest) = missing.into_iter().next()
                        && compiling.is_terminated()
                    {
                        compiling.set(self.compile_beside(digest).fuse());
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "plugins are not up to date; trying again");
                }
            }
        }
    }

    async fn compile_beside(&self, digest: String) {
        if let Err(error) = self.compiled(&digest).await {
            tracing::error!(%error, plugin.digest = digest, "a component cannot be read; trying again");
        }
    }
}

/// The version that an installation is to run: the one it is pinned to, or the one approved last. Only approved ones.
fn chosen<'a>(row: &InstallationRow, versions: &'a [VersionRow]) -> Option<&'a VersionRow> {
    candidates(row, versions).first().copied()
}

/// The version that an installation is to run, and those that may instead when it cannot.
fn candidates<'a>(row: &InstallationRow, versions: &'a [VersionRow]) -> Vec<&'a VersionRow> {
    let is_candidate = |version: &&VersionRow| {
        let is_it = row
            .pinned_digest
            .as_ref()
            .is_none_or(|pinned| *pinned == version.digest);
        is_it && version.plugin_id == row.plugin_id && version.approval.is_some()
    };
    let mut approved: Vec<&VersionRow> = versions.iter().filter(is_candidate).collect();
    approved.sort_by_key(|version| std::cmp::Reverse(version.approval));
    approved.truncate(CANDIDATES_MAX);
    approved
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

#[cfg(test)]
mod tests {
    use shoal_runtime::Manifest;

    use super::*;
    use crate::db::installations::NewInstallation;
    use crate::jobs::testing::{add_plugin, hour, tenant, with_app};
    use crate::monitoring::testing::{installation, put};

    fn of(version: &VersionRow, n: u8) -> NewInstallation {
        NewInstallation {
            plugin_id: version.plugin_id.clone(),
            ..installation(n, &version.kind)
        }
    }

    #[tokio::test]
    async fn where_the_version_approved_last_cannot_run_the_one_before_goes_on() {
        with_app(hour(0).start(), |app| async move {
            let acme = tenant(&app, "acme").await;
            let version = add_plugin(&app, "webhook.wasm").await;
            let manifest = Manifest::parse(&version.manifest).expect("ours");
            let new = NewInstallation {
                settings: manifest.example.expect("it has one"),
                ..of(&version, 1)
            };
            put(&acme, &new).await;
            app.plugins.reload().await.expect("loaded");
            let worse = VersionRow {
                digest: "sha256:worse".to_owned(),
                ..version.clone()
            };
            let (system, nothing) = (app.db.system(), Grants::default());
            system.add_version(&worse, b"").await.expect("added");
            let approved = system.approve(&worse.digest, &nothing, app.clock.now());
            assert!(approved.await.expect("approved"));
            // At once, and when the process is started again.
            let secrets = SecretBox::open(&app.config.data).expect("a key");
            let runtime = app.plugins.runtime().clone();
            let restarted = PluginRegistry::new(runtime, app.db.clone(), secrets);
            for plugins in [&*app.plugins, &restarted] {
                let component = plugins.compiled.entry(&worse.digest);
                component.set(Err("too bad".to_owned())).expect("it is new");
                plugins.reload().await.expect("loaded");
                let snapshot = plugins.snapshot();
                let running = snapshot.of_tenant(acme.id()).next().expect("it is there");
                let digest = running.version.as_ref().map(|version| &*version.digest);
                assert!(running.state.is_ok());
                assert_eq!(digest, Some(&*version.digest));
                let held_back = running.held_back.as_ref().expect("it says so");
                assert_eq!(
                    (&*held_back.0.digest, &*held_back.1),
                    ("sha256:worse", "too bad")
                );
            }
        })
        .await;
    }

    #[tokio::test]
    async fn while_a_component_is_compiled_what_others_change_is_live_at_once() {
        with_app(hour(0).start(), |app| async move {
            let (slow, quick) = (tenant(&app, "slow").await, tenant(&app, "quick").await);
            let version = add_plugin(&app, "webhook.wasm").await;
            let compiling = VersionRow {
                digest: "sha256:slow".to_owned(),
                plugin_id: "slow".to_owned(),
                ..version.clone()
            };
            let system = app.db.system();
            system.add_version(&compiling, b"").await.expect("added");
            let now = app.clock.now();
            let nothing = Grants::default();
            let approved = system.approve(&compiling.digest, &nothing, now);
            assert!(approved.await.expect("approved"));
            put(&slow, &of(&compiling, 1)).await;
            let component = app.plugins.compiled.entry(&compiling.digest);
            let mut compile = std::pin::pin!(
                component.get_or_try_init(std::future::pending::<Result<_, DbError>>)
            );
            assert!(compile.as_mut().now_or_never().is_none());

            let manifest = Manifest::parse(&version.manifest).expect("ours");
            let new = NewInstallation {
                settings: manifest.example.expect("it has one"),
                ..of(&version, 2)
            };
            let row = new.as_row(quick.id());
            let checked = app.plugins.check(&row, new.settings.clone()).await;
            let _plugin = checked.expect("it can run");
            put(&quick, &new).await;
            app.plugins.apply().await.expect("applied");
            let snapshot = app.plugins.snapshot();
            let state = |db: &crate::db::TenantDb| {
                let mut all = snapshot.of_tenant(db.id());
                let state = &all.next().expect("it is there").state;
                state.as_ref().map(|_| ()).map_err(Clone::clone)
            };
            assert_eq!(state(&quick), Ok(()));
            let reason = state(&slow).expect_err("it is not compiled");
            assert!(reason.contains("is being compiled"), "{reason}");
        })
        .await;
    }
}
