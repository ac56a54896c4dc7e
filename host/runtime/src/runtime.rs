//! The runtime: what all plugins share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use shoal_model::Digest;
use shoal_model::grant::Kind;
use shoal_model::limit::{CallLimits, LimitOverrides};
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::artifact::{ArtifactOptions, Artifacts};
use crate::compile::{CompileLimits, CompileStats, Compiler};
use crate::egress::address::{AddressPolicy, Cidr};
use crate::egress::{InvalidRoots, Network};
use crate::engine::{self, Sort};
use crate::link::{self, Shape};
use crate::plugin::Plugin;
use crate::refusal::Refusal;
use crate::secrets::ReferenceKey;
use crate::slots::Slots;
use crate::state::State;

/// Calls of billing rules at a time: each is short, and they are few.
const EXACT_SLOTS: u32 = 16;
/// Calls of large plugins at a time: each may take a quarter of a GiB.
const LARGE_SLOTS: u32 = 8;

/// How plugins are run in this deployment.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// Calls at a time, receivers' idle instances included. Each reserves some 16 GiB of addresses (not memory). Fewer when
    /// the system refuses so much.
    pub concurrent_calls_max: u32,
    /// How long a call waits for room before it is `Busy`.
    pub admission_wait: Duration,
    /// Bounds of kinds that differ from [`CallLimits::for_kind`].
    pub limits: HashMap<Kind, CallLimits>,
    /// Whether plugins of the class `large`, interpreters, are accepted.
    pub allow_large: bool,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// What compiling one may use, where it is not done in this process.
    pub compile: CompileLimits,
    /// Where compiled components are kept; needed where they are not compiled in this process.
    pub artifacts: Option<ArtifactOptions>,
    /// Private, loopback and other special addresses that plugins may be connected to.
    pub allow_private: Vec<Cidr>,
    /// Root certificates trusted beside the public ones, PEM.
    pub extra_roots_pem: Vec<u8>,
    /// Resolvers that plugins' DNS queries are put to; empty for those of the operating system.
    pub resolvers: Vec<SocketAddr>,
}

impl Default for RuntimeOptions {
    fn default() -> RuntimeOptions {
        RuntimeOptions {
            concurrent_calls_max: 128,
            admission_wait: Duration::from_secs(2),
            limits: HashMap::new(),
            allow_large: false,
            compiler: Compiler::InProcess,
            compile: CompileLimits::default(),
            artifacts: None,
            allow_private: Vec::new(),
            extra_roots_pem: Vec::new(),
            resolvers: Vec::new(),
        }
    }
}

/// The runtime cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The extra roots are not certificates.
    #[error(transparent)]
    Roots(#[from] InvalidRoots),
    /// The machine cannot run plugins.
    #[error("the plugin engine cannot be made: {0}")]
    Engine(String),
    /// The folder of artifacts cannot be used, or there is none and one is needed.
    #[error("the folder for compiled plugins cannot be used")]
    Artifacts(#[source] std::io::Error),
    /// No thread for the clock.
    #[error("the plugin clock cannot be started")]
    Clock(#[from] std::io::Error),
}

/// What one tenant's plugins may use beside those of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// How much of the slots it gets while others wait, 1 as a rule.
    pub weight: u32,
    /// Bounds of its own, of which only the lower ones count.
    pub limits: HashMap<Kind, LimitOverrides>,
}

/// What is running now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuntimeStats {
    /// Instances that there is room for.
    pub slots: usize,
    /// Instances alive, idle ones included.
    pub live: usize,
    /// Receivers' instances that wait for their next request.
    pub idle: usize,
    /// Calls that wait for room.
    pub waiting: usize,
}

/// Runs plugins. Clones share everything.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) general: Machine,
    pub(crate) exact: Machine,
    /// `None` where no large plugin is accepted.
    pub(crate) large: Option<Machine>,
    pub(crate) artifacts: Option<Artifacts>,
    pub(crate) network: Arc<Network>,
    pub(crate) options: RuntimeOptions,
    /// One compilation at a time.
    pub(crate) compiling: Semaphore,
    pub(crate) compiled: Mutex<CompileStats>,
    /// Of those that have bounds of their own.
    pub(crate) tenants: RwLock<HashMap<u64, TenantLimits>>,
    /// Numbers installations.
    pub(crate) next_key: AtomicU64,
    pub(crate) references: ReferenceKey,
}

/// An engine with its slots and linkers.
pub(crate) struct Machine {
    sort: Sort,
    pub(crate) engine: Engine,
    pub(crate) slots: Arc<Slots>,
    linkers: Mutex<HashMap<Shape, Arc<Linker<State>>>>,
}

impl Machine {
    fn new(sort: Sort, slots: u32, memory: u64) -> Result<Machine, RuntimeError> {
        let (engine, slots) =
            engine::engine(sort, slots, memory).map_err(|e| RuntimeError::Engine(e.to_string()))?;
        Ok(Machine {
            sort,
            engine,
            slots: Arc::new(Slots::new(slots)),
            linkers: Mutex::default(),
        })
    }

    /// The linker that links what a shape has.
    pub(crate) fn linker(&self, shape: Shape) -> wasmtime::Result<Arc<Linker<State>>> {
        let mut linkers = self.linkers.lock();
        if let Some(linker) = linkers.get(&shape) {
            return Ok(Arc::clone(linker));
        }
        let linker = Arc::new(link::linker(&self.engine, self.sort, shape)?);
        linkers.insert(shape, Arc::clone(&linker));
        Ok(linker)
    }
}

impl Runtime {
    /// Makes engines and starts their clock, which ends when the runtime and all its plugins are gone.
    ///
    /// # Errors
    /// The roots are unreadable, or the machine cannot run plugins.
    pub fn new(options: RuntimeOptions) -> Result<Runtime, RuntimeError> {
        let policy = AddressPolicy {
            open: options.allow_private.clone(),
        };
        let network = Network::new(policy, &options.extra_roots_pem)?.asking(&options.resolvers);
        Runtime::with_network(options, network)
    }

    pub(crate) fn with_network(
        options: RuntimeOptions,
        network: Network,
    ) -> Result<Runtime, RuntimeError> {
        let artifacts = options.artifacts.as_ref().map(Artifacts::open).transpose();
        let artifacts = artifacts.map_err(RuntimeError::Artifacts)?;
        if artifacts.is_none() && options.compiler != Compiler::InProcess {
            let error = std::io::Error::other("compiling in another process needs one");
            return Err(RuntimeError::Artifacts(error));
        }
        let memory = |kinds: &[Kind]| {
            let of = |kind: &Kind| limits(&options, *kind).memory_max_bytes;
            kinds.iter().map(of).max().unwrap_or(0)
        };
        let slots = options.concurrent_calls_max;
        let various = [Kind::Receiver, Kind::Check, Kind::Channel];
        let general = Machine::new(Sort::General, slots, memory(&various))?;
        let exact = slots.min(EXACT_SLOTS);
        let exact = Machine::new(Sort::Exact, exact, memory(&[Kind::BillingRule]))?;
        let large = options.allow_large.then(|| {
            let of = |kind: Kind| limits(&options, kind).large().memory_max_bytes;
            let memory = various.into_iter().map(of).max().unwrap_or(0);
            Machine::new(Sort::Large, slots.min(LARGE_SLOTS), memory)
        });
        let inner = Inner {
            general,
            exact,
            large: large.transpose()?,
            artifacts,
            network: Arc::new(network),
            options,
            compiling: Semaphore::new(1),
            compiled: Mutex::default(),
            tenants: RwLock::default(),
            next_key: AtomicU64::new(0),
            references: ReferenceKey::random(),
        };
        inner.start_clock()?;
        Ok(Runtime(Arc::new(inner)))
    }

    /// Compiles a component, checks it against its kind's contract and starts it once.
    ///
    /// Takes milliseconds for one that was compiled before and kept; else up to what
    /// [`CompileLimits`] says, one component at a time and off the async threads. Dropping the future ends a compilation in
    /// a process of its own, and no other.
    ///
    /// # Errors
    /// Why the file is not accepted.
    pub async fn load(&self, bytes: Vec<u8>) -> Result<Arc<Plugin>, Refusal> {
        Plugin::load(Arc::clone(&self.0), bytes).await
    }

    /// The bounds of a kind in this deployment.
    pub fn limits(&self, kind: Kind) -> CallLimits {
        limits(&self.0.options, kind)
    }

    /// Says which tenants have bounds of their own, by their [`InstallOptions::tenant`](crate::InstallOptions::tenant).
    /// Counts for every call that begins from now on.
    pub fn set_tenants(&self, tenants: HashMap<u64, TenantLimits>) {
        *self.0.tenants.write() = tenants;
    }

    /// What is running now.
    pub fn stats(&self) -> RuntimeStats {
        self.0
            .machines()
            .fold(RuntimeStats::default(), |sum, machine| {
                let slots = &machine.slots;
                RuntimeStats {
                    slots: sum.slots + slots.total(),
                    live: sum.live + slots.live(),
                    idle: sum.idle + slots.idle(),
                    waiting: sum.waiting + slots.waiting(),
                }
            })
    }

    /// What became of components that were to be loaded.
    pub fn compile_stats(&self) -> CompileStats {
        *self.0.compiled.lock()
    }

    /// Components that were being started when this process, or one before it, ended. They are not loaded.
    pub fn suspects(&self) -> Vec<Digest> {
        let artifacts = self.0.artifacts.as_ref();
        artifacts.map(Artifacts::suspects).unwrap_or_default()
    }

    /// Removes what was compiled of a component that is not wanted.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn discard(&self, digest: &Digest) -> std::io::Result<()> {
        let artifacts = self.0.artifacts.as_ref();
        artifacts.map_or(Ok(()), |artifacts| artifacts.discard(digest))
    }

    /// Lets a suspect be loaded again; false when it was none.
    ///
    /// # Errors
    /// The file that remembers it cannot be removed.
    pub fn forgive(&self, digest: &Digest) -> std::io::Result<bool> {
        match &self.0.artifacts {
            Some(artifacts) => artifacts.forgive(digest),
            None => Ok(false),
        }
    }
}

impl Inner {
    fn machines(&self) -> impl Iterator<Item = &Machine> {
        [&self.general, &self.exact].into_iter().chain(&self.large)
    }

    /// Moves the engines' clocks on until they are gone, and lets go of instances that nobody calls.
    fn start_clock(&self) -> std::io::Result<()> {
        let engines = self.machines().map(|machine| machine.engine.weak());
        let slots: Vec<_> = self
            .machines()
            .map(|machine| Arc::downgrade(&machine.slots))
            .collect();
        engine::start_clock(engines.collect(), move || {
            let alive: Vec<_> = slots.iter().filter_map(Weak::upgrade).collect();
            alive.iter().for_each(|slots| slots.expire());
            !alive.is_empty()
        })
    }

    pub(crate) fn limits(&self, kind: Kind) -> CallLimits {
        limits(&self.options, kind)
    }
}

fn limits(options: &RuntimeOptions, kind: Kind) -> CallLimits {
    let set = options.limits.get(&kind).copied();
    set.unwrap_or_else(|| CallLimits::for_kind(kind))
}
