//! A loaded plugin: compiled, checked against its kind's contract, ready to be installed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use shoal_model::Digest;
use shoal_model::grant::{Capability, Grants, Kind};
use shoal_model::limit::CallLimits;
use tokio::sync::Semaphore;
use wasmtime::component::Component;

use crate::call::{CallError, CallReport};
use crate::egress::Network;
use crate::egress::allow::{BadDestination, Permits};
use crate::engine::Determinism;
use crate::failure::busy;
use crate::inspect::{Inspection, capability_of, inspect};
use crate::install::{InstallOptions, World};
use crate::installed::{Installed, InstalledParts};
use crate::link::{Linked, Shape, reason};
use crate::manifest::Manifest;
use crate::optional::{nothing, refusal};
use crate::refusal::Refusal;
use crate::run::{Live, Work};
use crate::runtime::{Inner, determinism};
use crate::settings::{InvalidSettings, Settings};
use crate::state::{FixedWorld, Monotonic, Parts};

/// Of all slots, the part that one installation may use at a time, so that it cannot starve others.
const INSTALLATION_SHARE: usize = 4;

/// One version of a plugin, loaded. Made by [`Runtime::load`](crate::Runtime::load).
pub struct Plugin {
    inspection: Inspection,
    runtime: Arc<Inner>,
    component: Component,
    limits: CallLimits,
    linked: Mutex<HashMap<Shape, Linked>>,
}

/// A plugin cannot be installed like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// It cannot run without something that it was not granted.
    #[error(
        "{plugin} cannot run without {capability}, which is not granted: a tenant grants it with `shoal plugin enable {plugin} --grant '{capability}'`, once the operator has approved it with `shoal plugin approve {plugin}`"
    )]
    MissingGrant {
        /// The plugin's id.
        plugin: String,
        /// What is missing.
        capability: Capability,
    },
    /// The settings do not satisfy the plugin's schema.
    #[error("settings of {plugin}: {problems}")]
    Settings {
        /// The plugin's id.
        plugin: String,
        /// Each setting at fault.
        problems: InvalidSettings,
    },
    /// A granted destination cannot be made out, such as a setting that holds no URL of HTTP.
    #[error("{what} {reason}")]
    Destination {
        /// Which grant or setting.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The plugin does not link; a fault of this release, because loading checks it.
    #[error("{plugin} does not link: {reason}")]
    Link {
        /// The plugin's id.
        plugin: String,
        /// What does not.
        reason: String,
    },
}

impl Plugin {
    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.inspection.manifest
    }

    /// What was read from its bytes.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// The name of this version.
    pub fn digest(&self) -> Digest {
        self.inspection.digest
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.inspection.kind
    }

    /// Bounds of each call: the smaller of what it asks for and what the deployment allows.
    pub fn limits(&self) -> CallLimits {
        self.limits
    }

    /// Makes it ready to be called for one installation.
    ///
    /// Only what is granted *and* asked for is linked; defaults of settings are filled in.
    /// Takes microseconds once the same set of capabilities has been linked before.
    ///
    /// # Errors
    /// A grant is missing that it cannot run without, or the settings are not right.
    pub fn install(
        self: &Arc<Plugin>,
        options: InstallOptions,
    ) -> Result<Arc<Installed>, InstallError> {
        let world = World {
            network: Arc::clone(&self.runtime.network),
            fixed: None,
        };
        self.install_in(options, world)
    }

    /// The way out of this deployment.
    pub(crate) fn network(&self) -> &Network {
        &self.runtime.network
    }

    /// [`install`](Plugin::install) in a world of its own.
    pub(crate) fn install_in(
        self: &Arc<Plugin>,
        options: InstallOptions,
        world: World,
    ) -> Result<Arc<Installed>, InstallError> {
        let InstallOptions {
            installation,
            grants,
            settings,
        } = options;
        let settings = self
            .manifest()
            .settings
            .validate(settings)
            .map_err(|problems| InstallError::Settings {
                plugin: self.manifest().id.to_string(),
                problems,
            })?;
        let grants = self.manifest().asked().intersection(&grants);
        self.check_grants(&grants)?;
        let linked = self.linked(&grants)?;
        let slots = &self.runtime.machine(self.kind()).slots;
        Ok(Arc::new(Installed::new(InstalledParts {
            key: self.runtime.next_key.fetch_add(1, Ordering::Relaxed),
            installation,
            plugin: Arc::clone(self),
            runtime: Arc::clone(&self.runtime),
            world,
            linked,
            allow: Arc::new(self.permits(&grants, &settings)?),
            grants,
            settings,
            gate: Semaphore::new((slots.total() / INSTALLATION_SHARE).max(1)),
        })))
    }

    /// Every interface that is imported needs something granted behind it.
    fn check_grants(&self, grants: &Grants) -> Result<(), InstallError> {
        let imported = self.inspection.imports.iter();
        for kind in imported.filter_map(|import| capability_of(import)) {
            if grants.has(kind) {
                continue;
            }
            let asked = self.manifest().asked();
            let missing = asked.0.iter().find(|capability| capability.kind() == kind);
            if let Some(capability) = missing {
                return Err(InstallError::MissingGrant {
                    plugin: self.manifest().id.to_string(),
                    capability: capability.clone(),
                });
            }
        }
        Ok(())
    }

    fn permits(&self, grants: &Grants, settings: &Settings) -> Result<Permits, InstallError> {
        let manifest = self.manifest();
        Permits::new(manifest.id.as_str(), &manifest.asked(), grants, settings)
            .map_err(|BadDestination { what, reason }| InstallError::Destination { what, reason })
    }

    fn linked(&self, grants: &Grants) -> Result<Linked, InstallError> {
        let shape = Shape::of(grants);
        let mut known = self.linked.lock();
        if let Some(linked) = known.get(&shape) {
            return Ok(linked.clone());
        }
        let linked =
            link(&self.runtime, &self.component, self.kind(), shape).map_err(|reason| {
                InstallError::Link {
                    plugin: self.manifest().id.to_string(),
                    reason,
                }
            })?;
        known.insert(shape, linked.clone());
        Ok(linked)
    }

    /// See [`Runtime::load`](crate::Runtime::load).
    pub(crate) async fn load(runtime: Arc<Inner>, bytes: Vec<u8>) -> Result<Arc<Plugin>, Refusal> {
        let compiling = runtime.compiling.acquire().await.ok();
        let shared = Arc::clone(&runtime);
        let plugin = tokio::task::spawn_blocking(move || Plugin::compile(shared, &bytes))
            .await
            .map_err(|_| Refusal::CannotStart("its compilation was cut off".to_owned()))??;
        drop(compiling);
        plugin.start_once().await?;
        Ok(Arc::new(plugin))
    }

    fn compile(runtime: Arc<Inner>, bytes: &[u8]) -> Result<Plugin, Refusal> {
        let inspection = inspect(bytes)?;
        let kind = inspection.kind;
        let limits = inspection
            .manifest
            .limits
            .within(runtime.limits(kind))
            .map_err(Refusal::LimitBeyond)?;
        let component = Component::from_binary(&runtime.machine(kind).engine, bytes)
            .map_err(|e| incompatible(kind, &e))?;
        // All that is asked for, so that a wrong type is found now and not when it is granted.
        let shape = Shape::of(&inspection.manifest.asked());
        let linked = link(&runtime, &component, kind, shape)
            .map_err(|reason| Refusal::Incompatible { kind, reason })?;
        Ok(Plugin {
            inspection,
            component,
            limits,
            linked: Mutex::new(HashMap::from([(shape, linked)])),
            runtime,
        })
    }

    /// Instantiates it once with nothing open: checks the types of its functions and its start-up code.
    async fn start_once(&self) -> Result<(), Refusal> {
        let (started, _) = self.alone(&self.closed_link(), nothing()).await;
        started.map_err(|failed| refusal(self.kind(), failed))?;
        self.start_rules_once().await
    }

    /// It with all that it asks for linked, as if granted; what is behind it is another question.
    pub(crate) fn closed_link(&self) -> Linked {
        let shape = Shape::of(&self.manifest().asked());
        let linked = self.linked.lock().get(&shape).cloned();
        linked.expect("compile linked everything that is asked for")
    }

    /// Runs one call for nobody: in an instance of its own, with nothing open.
    pub(crate) async fn alone<T>(
        &self,
        linked: &Linked,
        work: Work<T>,
    ) -> (Result<T, CallError>, CallReport) {
        let machine = self.runtime.machine(self.kind());
        let patience = self.runtime.options.admission_wait;
        let slot = match machine.slots.admit(patience).await {
            Ok(slot) => slot,
            Err(none) => return (Err(busy(none)), CallReport::default()),
        };
        let is_exact = determinism(self.kind()) == Determinism::Exact;
        let parts = Parts {
            limits: self.limits,
            network: Arc::clone(&self.runtime.network),
            allow: Arc::default(),
            fixed: is_exact.then_some(FixedWorld {
                now_unix_ms: 0,
                seed: [0; 32],
                monotonic: Monotonic::Stands,
            }),
        };
        let mut live = Live::new(machine, slot, parts);
        live.call(linked, None, self.limits.wall, work).await
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("id", &self.manifest().id)
            .field("version", &self.manifest().version)
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

fn link(
    runtime: &Inner,
    component: &Component,
    kind: Kind,
    shape: Shape,
) -> Result<Linked, String> {
    let link = || {
        let linker = runtime.machine(kind).linker(shape)?;
        Linked::new(linker.instantiate_pre(component)?, kind)
    };
    link().map_err(|e| reason(&e))
}

fn incompatible(kind: Kind, error: &wasmtime::Error) -> Refusal {
    Refusal::Incompatible {
        kind,
        reason: reason(error),
    }
}
