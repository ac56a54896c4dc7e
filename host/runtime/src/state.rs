//! What the host keeps for one instance, and the host's side of every import.

use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng as _;
use shoal_model::limit::CallLimits;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};
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
use crate::seeded::SeededStream;
use crate::services::Provided;

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
    /// Times that the guest turned to the host in this call.
    pub(crate) host_calls: u64,
    ingest: Option<Arc<dyn Ingest>>,
    pub(crate) provided: Provided,
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
    pub(crate) provided: Provided,
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
            wasi: wasi(&log, &limits, parts.fixed),
            http,
            gate: Gate {
                network: parts.network,
                allow: parts.allow,
                contacts: Contacts::default(),
                secrets: Arc::clone(&parts.provided.secrets),
                log,
                requests_max: limits.http_requests_max,
                request_body_max_bytes: limits.http_request_body_max_bytes,
                body_max_bytes: limits.http_body_max_bytes,
                connections_max: limits.connections_max,
            },
            table,
            memory: MemoryLimiter::new(limits.memory_max_bytes),
            meter: Arc::default(),
            limits,
            cpu_exceeded: false,
            host_calls: 0,
            ingest: None,
            provided: parts.provided,
        }
    }

    /// Makes ready for a call: a new meter, how much it may compute, and where metrics go.
    pub(crate) fn begin_call(
        &mut self,
        limits: CallLimits,
        ingest: Option<Arc<dyn Ingest>>,
    ) -> Arc<Meter> {
        self.meter = Arc::default();
        self.limits = limits;
        self.host_calls = 0;
        self.memory.begin_call();
        self.cpu_exceeded = false;
        self.ingest = ingest;
        Arc::clone(&self.meter)
    }

    /// Lets go of what belonged to the call.
    pub(crate) fn end_call(&mut self) {
        self.ingest = None;
    }

    /// Counts a turn to the host; an error when there have been too many.
    pub(crate) fn count_host_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls_max {
            wasmtime::bail!("too many host calls");
        }
        Ok(())
    }

    pub(crate) fn log(&self) -> &CallLog {
        &self.gate.log
    }

    pub(crate) fn contacts(&self) -> &Contacts {
        &self.gate.contacts
    }
}

/// The harmless baseline: no environment, no arguments, no files, no sockets; output goes to the log.
fn wasi(log: &CallLog, limits: &CallLimits, fixed: Option<FixedWorld>) -> WasiCtx {
    let mut wasi = WasiCtx::builder();
    wasi.stdout(log.stream(LogSource::Stdout))
        .stderr(log.stream(LogSource::Stderr))
        .max_random_size(limits.random_max_bytes)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    if let Some(fixed) = fixed {
        let mut number = SeededStream::new(fixed.seed, b'n');
        let number = u128::from(number.next_u64()) << 64 | u128::from(number.next_u64());
        wasi.insecure_random_seed(number)
            .secure_random(SeededStream::new(fixed.seed, b's'))
            .insecure_random(SeededStream::new(fixed.seed, b'i'))
            .wall_clock(FixedClock(fixed.now_unix_ms));
        if fixed.monotonic == Monotonic::Stands {
            wasi.monotonic_clock(FixedClock(0));
        }
    }
    wasi.build()
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
