//! Which plugins run for whom: the database's wishes, made ready to be called.
//!
//! [`PluginRegistry`] holds a snapshot of every enabled installation, linked and with its settings. A reload
//! builds the next snapshot aside and puts it in place at once: calls in progress keep what they began
//! with, new calls take the new one, and nobody waits. An installation that cannot run keeps its reason and
//! disturbs no other.
//!
//! Compiling takes seconds, so it never happens while a snapshot is built: an installation whose component is still to be
//! compiled goes on as it was, and everything else takes effect at once. Where a version that was published last cannot run, such
//! as with a tenant's settings, the one before goes on and says why.
//!
//! The database is the truth: every change raises a revision, and each process looks at it twice a second.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use futures_util::future::{Fuse, FusedFuture as _};
use serde_json::{Map, Value};
use shoal_model::{Digest, TenantId};
use shoal_runtime::{Plugin, Runtime};
use tokio::sync::Mutex;

use super::catalogue::{Catalogue, Known, nothing_to_run};
use super::ceiling::Ceiling;
use super::compiled::Compiled;
use super::install::Installer;
use super::prepare::SignaturePolicy;
use super::services::PluginServices;
use super::snapshot::{Running, Shadow, Snapshot};
use super::wishes::{Wish, Wishes};
use crate::clock::Clock;
use crate::config::PluginsSection;
use crate::db::installations::InstallationRow;
use crate::db::{Db, DbError};
use crate::limits;
use crate::secrets::SecretBox;
use crate::task::Stop;

/// How often the revision is looked at; a change made by another process takes effect within twice this.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// It cannot be done like this.
#[derive(Debug, thiserror::Error)]
pub enum NotRunnable {
    /// Something about the installation or its plugin; the sentence says what to do.
    #[error("{0}")]
    Reason(String),
    /// There is no such plugin, version or track.
    #[error("{0}")]
    Unknown(String),
    /// The database does not answer.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What the operator's configuration says of plugins.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Which signatures versions must have.
    pub signatures: SignaturePolicy,
    /// What no plugin gets beyond.
    pub ceiling: Ceiling,
}

impl Policy {
    /// Reads `[plugins]`.
    ///
    /// # Errors
    /// The value that is not understood.
    pub fn of(section: &PluginsSection) -> anyhow::Result<Policy> {
        let signatures = match &section.signatures {
            None => SignaturePolicy::default(),
            Some(name) => SignaturePolicy::named(name).with_context(|| {
                format!("[plugins] signatures: {name:?} is neither off nor warn nor require")
            })?,
        };
        let ceiling = section.ceiling.as_deref().map(Ceiling::new).transpose()?;
        Ok(Policy {
            signatures,
            ceiling: ceiling.unwrap_or_default(),
        })
    }
}

/// What a registry works with.
pub struct RegistryParts {
    /// Compiles, checks and runs.
    pub runtime: Runtime,
    /// Says what is wanted.
    pub db: Db,
    /// Seals and opens secrets.
    pub secrets: SecretBox,
    /// Dates releases.
    pub clock: Clock,
    /// Bounds what plugins get.
    pub policy: Policy,
    /// Does things for them.
    pub services: PluginServices,
}

/// Keeps the snapshot up to date.
pub struct PluginRegistry {
    pub(super) runtime: Runtime,
    pub(super) db: Db,
    pub(super) secrets: SecretBox,
    pub(super) clock: Clock,
    pub(super) signatures: SignaturePolicy,
    pub(super) installer: Installer,
    snapshot: ArcSwap<Snapshot>,
    /// Held while the next snapshot is built.
    wanted: Mutex<Wanted>,
    compiled: Compiled,
}

/// What the database wants, and whether that is what runs.
#[derive(Default)]
struct Wanted {
    wishes: Wishes,
    is_live: bool,
}

/// What the database wants at one moment.
pub(super) struct Present {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) installations: Vec<Arc<Wish>>,
}

/// Where a secret belongs: what its sealing is bound to. `what` is a setting, or the digest of a version for which all
/// secrets are sealed together.
pub fn secret_place(tenant: TenantId, installation: &str, what: &str) -> String {
    format!("{tenant}/{installation}/{what}")
}

impl PluginRegistry {
    /// An empty registry; [`PluginRegistry::reload`] fills it.
    pub fn new(parts: RegistryParts) -> PluginRegistry {
        PluginRegistry {
            runtime: parts.runtime,
            db: parts.db.clone(),
            secrets: parts.secrets,
            clock: parts.clock,
            signatures: parts.policy.signatures,
            installer: Installer {
                ceiling: parts.policy.ceiling,
                db: parts.db,
                services: parts.services,
            },
            snapshot: ArcSwap::default(),
            wanted: Mutex::default(),
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

    /// The catalogue as the database has it now.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn catalogue(&self) -> Result<Arc<Catalogue>, DbError> {
        let mut wanted = self.wanted.lock().await;
        wanted.refresh(&self.db).await?;
        Ok(wanted.wishes.catalogue.clone())
    }

    /// What the database wants now.
    pub(super) async fn present(&self) -> Result<Present, DbError> {
        let mut wanted = self.wanted.lock().await;
        wanted.refresh(&self.db).await?;
        Ok(Present {
            catalogue: wanted.wishes.catalogue.clone(),
            installations: wanted.wishes.installations.values().cloned().collect(),
        })
    }

    /// Brings the snapshot up to date, compiling what is new. Returns when changes committed before the call are live.
    ///
    /// # Errors
    /// The database does not answer; what is live already stays.
    pub async fn reload(&self) -> Result<(), DbError> {
        loop {
            let missing = self.update().await?;
            if missing.is_empty() {
                return Ok(());
            }
            for digest in missing {
                // What the runtime refuses is shown by its installations.
                let _ = self.compiled(&digest).await?;
            }
        }
    }

    /// Lets a component be started again that was being started when this process ended, and runs it where it is wanted.
    ///
    /// # Errors
    /// See [`PluginRegistry::reload`].
    pub async fn forgive(&self, digest: &Digest) -> Result<(), DbError> {
        if let Err(error) = self.runtime.forgive(digest) {
            tracing::warn!(%error, plugin.digest = %digest, "a released version is still suspect here");
        }
        self.compiled.forget_refused(&digest.to_string());
        self.wanted.lock().await.is_live = false;
        self.reload().await
    }

    /// Puts in place what needs no compiling; the rest goes on as it was. After [`PluginRegistry::check`] of an
    /// installation, and while its result is held, that is all there is to do to change it.
    ///
    /// # Errors
    /// The database does not answer; the snapshot stays as it was.
    pub async fn apply(&self) -> Result<(), DbError> {
        self.update().await.map(drop)
    }

    /// Builds the next snapshot and puts it in place. Returns the digests that have to be compiled before it is what the
    /// database wants.
    async fn update(&self) -> Result<Vec<String>, DbError> {
        let mut wanted = self.wanted.lock().await;
        wanted.refresh(&self.db).await?;
        if wanted.is_live {
            return Ok(Vec::new());
        }
        limits::tell(&self.runtime, &self.db.system()).await?;
        let before = self.snapshot();
        let (mut next, mut missing) = (Snapshot::default(), Vec::new());
        let catalogue = wanted.wishes.catalogue.clone();
        let installations = wanted.wishes.installations.values();
        for wish in installations.filter(|wish| wish.row.is_enabled == 1) {
            let candidates = catalogue.candidates(&wish.row)?;
            let shadow = catalogue.shadow(&wish.row)?;
            let is_same = before.unchanged(&wish.row, candidates.first(), shadow.map(|(it, _)| it));
            next.insert(match is_same {
                Some(running) => running,
                None => match self.next(wish, &candidates) {
                    Ok(running) => Arc::new(self.with_shadow(running, wish, shadow, &mut missing)),
                    Err(digest) => {
                        missing.push(digest);
                        before.meanwhile(&wish.row)
                    }
                },
            });
        }
        missing.sort_unstable();
        missing.dedup();
        self.compiled.forget_unused(|digest| {
            missing.iter().any(|missing| missing == digest)
                || next.iter().any(|running| running.uses(digest))
        });
        self.snapshot.store(Arc::new(next));
        wanted.is_live = missing.is_empty();
        Ok(missing)
    }

    /// The first of some versions that can run; when none can, the first with its reason. `Err` is the digest that has to be
    /// compiled before it can be said.
    fn next(&self, wish: &Wish, candidates: &[&Arc<Known>]) -> Result<Running, String> {
        let mut first: Option<Running> = None;
        for known in candidates {
            let Some(plugin) = self.compiled.ready(&known.row.digest) else {
                return Err(known.row.digest.clone());
            };
            let mut running = self.start(wish, known, plugin);
            if running.state.is_ok() {
                running.held_back = first.and_then(|first| first.version.zip(first.state.err()));
                return Ok(running);
            }
            first = first.or(Some(running));
        }
        Ok(first.unwrap_or_else(|| Running {
            row: wish.row.clone(),
            version: None,
            state: Err(nothing_to_run(&wish.row)),
            missing: Vec::new(),
            held_back: None,
            shadow: None,
        }))
    }

    fn start(&self, wish: &Wish, known: &Known, plugin: Result<Arc<Plugin>, String>) -> Running {
        let row = &wish.row;
        let ready = plugin.and_then(|plugin| {
            let settings = wish.opened(Some(&known.row.digest), &self.secrets)?;
            let approved = known.row.approved().map_err(|error| error.to_string())?;
            let approved = approved.unwrap_or_default();
            self.installer.install(row, &plugin, &approved, settings)
        });
        if let Err(reason) = &ready {
            tracing::warn!(
                tenant.id = row.tenant_id,
                installation.id = row.id,
                plugin.id = row.plugin_id,
                plugin.version = known.row.version,
                reason,
                "installation cannot run"
            );
        }
        let (state, missing) = match ready {
            Ok(ready) => (Ok(ready.installed), ready.missing),
            Err(reason) => (Err(reason), Vec::new()),
        };
        Running {
            row: row.clone(),
            version: Some(known.row.clone()),
            state,
            missing,
            held_back: None,
            shadow: None,
        }
    }

    /// Adds the version that is to see copies of calls, when it can run with these settings.
    fn with_shadow(
        &self,
        mut running: Running,
        wish: &Wish,
        shadow: Option<(&Arc<Known>, u32)>,
        missing: &mut Vec<String>,
    ) -> Running {
        let Some((known, needed)) = shadow else {
            return running;
        };
        let Some(plugin) = self.compiled.ready(&known.row.digest) else {
            missing.push(known.row.digest.clone());
            return running;
        };
        let started = self.start(wish, known, plugin);
        running.shadow = started.state.ok().map(|installed| {
            Arc::new(Shadow {
                version: known.row.clone(),
                installed,
                track: wish.row.track.clone(),
                needed,
            })
        });
        running
    }

    /// A component, compiled here unless it was before; or why the runtime refuses it.
    pub(super) async fn compiled(
        &self,
        digest: &str,
    ) -> Result<Result<Arc<Plugin>, String>, DbError> {
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

    /// The version that an installation is to run.
    ///
    /// # Errors
    /// There is none, and who does what about it.
    pub async fn chosen(&self, row: &InstallationRow) -> Result<Arc<Known>, NotRunnable> {
        let catalogue = self.catalogue().await?;
        let chosen = catalogue.chosen(row)?.cloned();
        chosen.ok_or_else(|| NotRunnable::Reason(nothing_to_run(row)))
    }

    /// Checks that an installation could run a version, without running it: grants, ceiling and settings. While the plugin
    /// that it returns is held, [`PluginRegistry::apply`] finds it compiled.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn check(
        &self,
        row: &InstallationRow,
        known: &Known,
        settings: Map<String, Value>,
    ) -> Result<Arc<Plugin>, NotRunnable> {
        let plugin = self.compiled(&known.row.digest).await?;
        let plugin = plugin.map_err(NotRunnable::Reason)?;
        let approved = known.row.approved()?.unwrap_or_default();
        self.installer
            .install(row, &plugin, &approved, settings.clone())
            .map_err(NotRunnable::Reason)?;
        self.accepts(&plugin, &settings)
            .await
            .map_err(NotRunnable::Reason)?;
        Ok(plugin)
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
            match self.update().await {
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

impl Wanted {
    async fn refresh(&mut self, db: &Db) -> Result<(), DbError> {
        // An error in the middle leaves what was read and not yet live.
        let was_live = std::mem::replace(&mut self.is_live, false);
        let has_changed = self.wishes.refresh(db).await?;
        self.is_live = was_live && !has_changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
