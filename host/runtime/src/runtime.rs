//! The runtime: what all plugins share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use shoal_model::grant::Kind;
use shoal_model::limit::CallLimits;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::egress::address::{AddressPolicy, Cidr};
use crate::egress::{InvalidRoots, Network};
use crate::engine::{self, Determinism};
use crate::link::{self, Shape};
use crate::plugin::Plugin;
use crate::refusal::Refusal;
use crate::slots::Slots;
use crate::state::State;

/// Calls of billing rules at a time: each is short, and they are few.
const EXACT_SLOTS: u32 = 16;

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
    /// No thread for the clock.
    #[error("the plugin clock cannot be started")]
    Clock(#[from] std::io::Error),
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
}

/// Runs plugins. Clones share everything.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) general: Machine,
    pub(crate) exact: Machine,
    pub(crate) network: Arc<Network>,
    pub(crate) options: RuntimeOptions,
    /// One compilation at a time: each takes tens of MiB and all processors.
    pub(crate) compiling: Semaphore,
    /// Numbers installations.
    pub(crate) next_key: AtomicU64,
}

/// An engine with its slots and linkers.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) slots: Arc<Slots>,
    linkers: Mutex<HashMap<Shape, Arc<Linker<State>>>>,
}

impl Machine {
    fn new(determinism: Determinism, slots: u32, memory: u64) -> Result<Machine, RuntimeError> {
        let (engine, slots) = engine::engine(determinism, slots, memory)
            .map_err(|e| RuntimeError::Engine(e.to_string()))?;
        Ok(Machine {
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
        let linker = Arc::new(link::linker(&self.engine, shape)?);
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
        let memory = |is_exact: bool| {
            Kind::ALL
                .into_iter()
                .filter(|kind| (determinism(*kind) == Determinism::Exact) == is_exact)
                .map(|kind| limits(&options, kind).memory_max_bytes)
                .max()
                .unwrap_or(0)
        };
        let slots = options.concurrent_calls_max;
        let general = Machine::new(Determinism::General, slots, memory(false))?;
        let exact = Machine::new(Determinism::Exact, slots.min(EXACT_SLOTS), memory(true))?;
        let waiting = Arc::downgrade(&general.slots);
        engine::start_clock(
            vec![general.engine.weak(), exact.engine.weak()],
            move || match waiting.upgrade() {
                Some(slots) => {
                    slots.expire();
                    true
                }
                None => false,
            },
        )?;
        Ok(Runtime(Arc::new(Inner {
            general,
            exact,
            network: Arc::new(network),
            options,
            compiling: Semaphore::new(1),
            next_key: AtomicU64::new(0),
        })))
    }

    /// Compiles a component, checks it against its kind's contract and starts it once.
    ///
    /// Takes up to seconds, off the async threads, one component at a time. Dropping the future does not stop a
    /// compilation that has begun.
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

    /// What is running now.
    pub fn stats(&self) -> RuntimeStats {
        let (general, exact) = (&self.0.general.slots, &self.0.exact.slots);
        RuntimeStats {
            slots: general.total() + exact.total(),
            live: general.live() + exact.live(),
            idle: general.idle(),
        }
    }
}

impl Inner {
    pub(crate) fn machine(&self, kind: Kind) -> &Machine {
        match determinism(kind) {
            Determinism::General => &self.general,
            Determinism::Exact => &self.exact,
        }
    }

    pub(crate) fn limits(&self, kind: Kind) -> CallLimits {
        limits(&self.options, kind)
    }
}

fn limits(options: &RuntimeOptions, kind: Kind) -> CallLimits {
    let set = options.limits.get(&kind).copied();
    set.unwrap_or_else(|| CallLimits::for_kind(kind))
}

/// Money must come out the same whenever it is asked for.
pub(crate) fn determinism(kind: Kind) -> Determinism {
    match kind {
        Kind::BillingRule => Determinism::Exact,
        Kind::Receiver | Kind::Check | Kind::Channel => Determinism::General,
    }
}
