//! What the host keeps for one instance, and the host's side of every import.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use shoal_model::limit::CallLimits;
use tokio::sync::Semaphore;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{
    Deterministic, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView,
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::bindings::shoal::plugin as wit;
use crate::call::{LogLevel, LogSource};
use crate::egress::allow::Permits;
use crate::egress::gate::Gate;
use crate::egress::http::FIELDS_MAX_BYTES;
use crate::egress::{Contacts, Network};
use crate::log::CallLog;
use crate::memory::MemoryLimiter;
use crate::meter::Meter;
use crate::receiver::{self, Ingest};

/// Connections that a guest may hold at a time.
const CONNECTIONS_MAX: usize = 4;
/// Random bytes that a guest may ask for at once.
const RANDOM_MAX_BYTES: u64 = 64 << 10;
/// Length of the seeded stream before it repeats: beyond what key generation or shuffling takes.
const SEEDED_BYTES: usize = 4096;

/// Data of one store.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(crate) gate: Gate,
    pub(crate) table: ResourceTable,
    pub(crate) memory: MemoryLimiter,
    pub(crate) meter: Arc<Meter>,
    pub(crate) limits: CallLimits,
    /// Set when the guest was stopped for computing too long.
    pub(crate) cpu_exceeded: bool,
    ingest: Option<Arc<dyn Ingest>>,
}

/// The world as a guest sees it for whom it is made up.
#[derive(Clone, Debug)]
pub(crate) struct FixedWorld {
    /// What its clock shows, milliseconds since the Unix epoch.
    pub(crate) now_unix_ms: i64,
    /// Where its randomness comes from.
    pub(crate) seed: [u8; 32],
    /// What it measures time with.
    pub(crate) monotonic: Monotonic,
}

/// The clock that measures how long something takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monotonic {
    /// Everything takes no time.
    Stands,
    /// As it is.
    Runs,
}

/// What a state is made of.
pub(crate) struct Parts {
    pub(crate) limits: CallLimits,
    pub(crate) network: Arc<Network>,
    pub(crate) allow: Arc<Permits>,
    pub(crate) fixed: Option<FixedWorld>,
}

impl State {
    pub(crate) fn new(parts: Parts) -> State {
        let limits = parts.limits;
        let log = CallLog::new(limits.log_max_bytes);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles_max as usize);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_MAX_BYTES);
        State {
            wasi: wasi(&log, parts.fixed),
            http,
            gate: Gate {
                network: parts.network,
                allow: parts.allow,
                contacts: Contacts::default(),
                log,
                requests_max: limits.http_requests_max,
                body_max_bytes: limits.http_body_max_bytes,
                connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            },
            table,
            memory: MemoryLimiter::new(limits.memory_max_bytes),
            meter: Arc::default(),
            limits,
            cpu_exceeded: false,
            ingest: None,
        }
    }

    /// Makes ready for a call: a new meter, and where metrics go.
    pub(crate) fn begin_call(&mut self, ingest: Option<Arc<dyn Ingest>>) -> Arc<Meter> {
        self.meter = Arc::default();
        self.memory.begin_call();
        self.cpu_exceeded = false;
        self.ingest = ingest;
        Arc::clone(&self.meter)
    }

    /// Lets go of what belonged to the call.
    pub(crate) fn end_call(&mut self) {
        self.ingest = None;
    }

    pub(crate) fn log(&self) -> &CallLog {
        &self.gate.log
    }

    pub(crate) fn contacts(&self) -> &Contacts {
        &self.gate.contacts
    }
}

/// The harmless baseline: no environment, no arguments, no files, no sockets; output goes to the log.
fn wasi(log: &CallLog, fixed: Option<FixedWorld>) -> WasiCtx {
    let mut wasi = WasiCtx::builder();
    wasi.stdout(log.stream(LogSource::Stdout))
        .stderr(log.stream(LogSource::Stderr))
        .max_random_size(RANDOM_MAX_BYTES);
    if let Some(fixed) = fixed {
        let bytes = seeded(&fixed.seed);
        let number = |at: usize| {
            u128::from_le_bytes(bytes[at..at + 16].try_into().expect("16 bytes of 4096"))
        };
        wasi.insecure_random_seed(number(0))
            .secure_random(Deterministic::new(bytes.clone()))
            .insecure_random(Deterministic::new(bytes.iter().rev().copied().collect()))
            .wall_clock(FixedClock(fixed.now_unix_ms));
        if fixed.monotonic == Monotonic::Stands {
            wasi.monotonic_clock(FixedClock(0));
        }
    }
    wasi.build()
}

/// SHA-256 in counter mode.
fn seeded(seed: &[u8; 32]) -> Vec<u8> {
    (0u64..)
        .flat_map(|counter| {
            let mut hash = Sha256::new();
            hash.update(seed);
            hash.update(counter.to_le_bytes());
            <[u8; 32]>::from(hash.finalize())
        })
        .take(SEEDED_BYTES)
        .collect()
}

/// A clock that stands.
struct FixedClock(i64);

impl HostWallClock for FixedClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

impl HostMonotonicClock for FixedClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.gate,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

// Interfaces that only hold types need an implementation all the same.
impl wit::types::Host for State {}
impl wit::telemetry::Host for State {}

impl wit::log::Host for State {
    fn write(&mut self, level: wit::log::Level, message: String) {
        let level = match level {
            wit::log::Level::Debug => LogLevel::Debug,
            wit::log::Level::Info => LogLevel::Info,
            wit::log::Level::Warn => LogLevel::Warn,
            wit::log::Level::Error => LogLevel::Error,
        };
        self.gate.log.write(level, message);
    }
}

impl wit::ingest::Host for State {
    async fn write_metrics(
        &mut self,
        batch: wit::telemetry::Metrics,
    ) -> Result<wit::ingest::Committed, wit::ingest::IngestError> {
        let meter = Arc::clone(&self.meter);
        let Some(ingest) = self.ingest.clone() else {
            let why = "metrics can only be handed over while a request is served";
            return Err(wit::ingest::IngestError::Unavailable(why.to_owned()));
        };
        let log = self.gate.log.clone();
        meter
            .uncounted(async move {
                match receiver::columns(batch).validate() {
                    Err(malformed) => {
                        let reason = malformed.to_string();
                        log.remark(format!("a batch of metrics was refused: {reason}"));
                        Err(wit::ingest::IngestError::Malformed(reason))
                    }
                    Ok(valid) => receiver::answer(ingest.write_metrics(valid).await),
                }
            })
            .await
    }
}
