//! A loaded plugin: compiled, checked against its kind's contract ([`load`]), ready to be installed.

mod load;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use shoal_model::grant::{Capability, CapabilityKind, Grants, Kind};
use shoal_model::limit::CallLimits;
use shoal_model::{Digest, InstallationId};
use wasmtime::component::Component;

use crate::admission::Share;
use crate::call::{CallError, CallReport};
use crate::egress::Network;
use crate::egress::allow::{BadDestination, Permits};
use crate::engine::Sort;
use crate::failure::busy;
use crate::inspect::{Inspection, capability_of};
use crate::install::{InstallOptions, World};
use crate::installed::{Installed, InstalledParts};
use crate::link::{Linked, Shape, reason};
use crate::mail::Recipients;
use crate::manifest::Manifest;
use crate::run::{Given, Live, Work};
use crate::runtime::{Inner, Machine};
use crate::secrets::{BadSecret, Secrets};
use crate::services::{Provided, Services};
use crate::settings::{InvalidSettings, Settings};
use crate::state::{FixedWorld, Monotonic, Parts};
use crate::symbols::Symbols;

/// One version of a plugin, loaded. Made by [`Runtime::load`](crate::Runtime::load).
pub struct Plugin {
    inspection: Inspection,
    runtime: Arc<Inner>,
    sort: Sort,
    component: Component,
    limits: CallLimits,
    symbols: Option<Arc<Symbols>>,
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
    /// It was granted something that this deployment does not offer.
    #[error("{plugin} needs {what}, and this deployment has none: {next}")]
    NoService {
        /// The plugin's id.
        plugin: String,
        /// What is missing.
        what: &'static str,
        /// Who does what about it.
        next: &'static str,
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
            tenant,
            weight,
            limits,
            services,
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
        let provided = self.provided(&installation, &grants, &settings, services)?;
        let linked = self.linked(&grants)?;
        let share = Share {
            tenant,
            weight,
            installation: self.runtime.next_key.fetch_add(1, Ordering::Relaxed),
        };
        Ok(Arc::new(Installed::new(InstalledParts {
            share,
            limits: self.limits.lowered(&limits),
            installation,
            plugin: Arc::clone(self),
            runtime: Arc::clone(&self.runtime),
            world,
            linked,
            allow: Arc::new(self.permits(&grants, &settings)?),
            provided,
            grants,
            settings,
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

    /// What its instances are given beside the network.
    fn provided(
        &self,
        installation: &InstallationId,
        grants: &Grants,
        settings: &Settings,
        services: Services,
    ) -> Result<Provided, InstallError> {
        let manifest = self.manifest();
        let plugin = || manifest.id.to_string();
        for (kind, has, what, next) in [
            (
                CapabilityKind::Mail,
                services.mail.is_some(),
                "a relay for mail",
                "the operator sets `relay` and `from` under [mail] in the configuration",
            ),
            (
                CapabilityKind::Kv,
                services.kv.is_some(),
                "a place to keep values",
                "give one to whoever runs it",
            ),
        ] {
            if grants.has(kind) && !has {
                let plugin = plugin();
                return Err(InstallError::NoService { plugin, what, next });
            }
        }
        let of_setting = |setting: &str, reason| InstallError::Destination {
            what: format!("setting {setting}"),
            reason,
        };
        let recipients = Recipients::new(grants, settings)
            .map_err(|(setting, reason)| of_setting(&setting, reason))?;
        let key = &self.runtime.references;
        let secrets = Secrets::new(&manifest.settings, settings, grants, key, installation)
            .map_err(|BadSecret { setting, reason }| of_setting(&setting, reason))?;
        if let Some(useless) = secrets.useless() {
            let asked = manifest.asked();
            let is_for_it = |capability: &&Capability| matches!(capability, Capability::Secret { setting, .. } if setting == useless);
            if let Some(capability) = asked.0.iter().find(is_for_it) {
                return Err(InstallError::MissingGrant {
                    plugin: plugin(),
                    capability: capability.clone(),
                });
            }
        }
        Ok(Provided {
            services,
            secrets: Arc::new(secrets),
            recipients: Arc::new(recipients),
            ..Provided::default()
        })
    }

    fn linked(&self, grants: &Grants) -> Result<Linked, InstallError> {
        let shape = Shape::of(grants);
        let mut known = self.linked.lock();
        if let Some(linked) = known.get(&shape) {
            return Ok(linked.clone());
        }
        let linked =
            link(self.machine(), &self.component, self.kind(), shape).map_err(|reason| {
                InstallError::Link {
                    plugin: self.manifest().id.to_string(),
                    reason,
                }
            })?;
        known.insert(shape, linked.clone());
        Ok(linked)
    }

    /// The engine that runs it.
    pub(crate) fn machine(&self) -> &Machine {
        machine(&self.runtime, self.sort)
    }

    pub(crate) fn symbols(&self) -> Option<&Arc<Symbols>> {
        self.symbols.as_ref()
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
        let patience = self.runtime.options.admission_wait;
        let slot = match self.machine().slots.admit(Share::HOST, patience).await {
            Ok(slot) => slot,
            Err(none) => return (Err(busy(none)), CallReport::default()),
        };
        let parts = Parts {
            limits: self.limits,
            network: Arc::clone(&self.runtime.network),
            allow: Arc::default(),
            provided: Provided::default(),
            fixed: (self.sort == Sort::Exact).then_some(FixedWorld {
                now_unix_ms: 0,
                seed: [0; 32],
                monotonic: Monotonic::Stands,
            }),
        };
        let given = Given {
            limits: self.limits,
            time: self.limits.wall,
            ingest: None,
        };
        let mut live = Live::new(self.machine(), slot, parts);
        let (outcome, report) = live.call(linked, given, work).await;
        (outcome.map_err(|broken| broken.error), report)
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

fn machine(runtime: &Inner, sort: Sort) -> &Machine {
    match sort {
        Sort::General => &runtime.general,
        Sort::Exact => &runtime.exact,
        Sort::Large => runtime
            .large
            .as_ref()
            .expect("a large plugin is refused where there is no room for one"),
    }
}

fn link(
    machine: &Machine,
    component: &Component,
    kind: Kind,
    shape: Shape,
) -> Result<Linked, String> {
    let link = || {
        let linker = machine.linker(shape)?;
        Linked::new(linker.instantiate_pre(component)?, kind)
    };
    link().map_err(|e| reason(&e))
}
