//! One call from start to end, with every limit.
//!
//! The processor time of the guest is looked at on each tick of the engine's clock; wall-clock time ends the call by dropping
//! it, which is safe at any point. What a call leaves behind is only its report.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use shoal_model::limit::CallLimits;
use tokio::time::{Instant, timeout};
use wasmtime::{CallHook, Store, UpdateDeadline};

use crate::admission::Permit;
use crate::call::{CallError, CallReport, LimitExceeded, LimitKind};
use crate::failure::{self, Broken};
use crate::link::{Guest, Linked};
use crate::receiver::Ingest;
use crate::runtime::Machine;
use crate::state::{Parts, State};

/// An instance and the slot that it holds.
pub(crate) struct Live {
    pub(crate) store: Store<State>,
    /// `None` until it is instantiated, as part of its first call.
    pub(crate) guest: Option<Guest>,
    pub(crate) born: Instant,
    pub(crate) calls: u32,
    pub(crate) slot: Permit,
}

/// What one call is given beside its work.
pub(crate) struct Given {
    pub(crate) limits: CallLimits,
    pub(crate) time: Duration,
    pub(crate) ingest: Option<Arc<dyn Ingest>>,
}

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send + 'a>>;

/// Calls one function of a guest.
pub(crate) type Work<T> =
    Box<dyn for<'a> FnOnce(&'a mut Store<State>, &'a Guest) -> Answer<'a, T> + Send>;

impl Live {
    /// An instance to be; nothing of the guest runs yet.
    pub(crate) fn new(machine: &Machine, slot: Permit, parts: Parts) -> Live {
        let limits = parts.limits;
        let mut store = Store::new(&machine.engine, State::new(parts));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(usize::try_from(limits.output_max_bytes).unwrap_or(usize::MAX));
        store.set_max_component_handles(limits.handles_max as usize);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            if state.meter.used_now() > state.limits.cpu {
                state.cpu_exceeded = true;
                return Ok(UpdateDeadline::Interrupt);
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store.call_hook(|mut store, hook| match hook {
            CallHook::CallingHost => store.data_mut().count_host_call(),
            _ => Ok(()),
        });
        Live {
            store,
            guest: None,
            born: Instant::now(),
            calls: 0,
            slot,
        }
    }

    /// Runs one call. After an error the instance must be dropped.
    pub(crate) async fn call<T>(
        &mut self,
        linked: &Linked,
        given: Given,
        work: Work<T>,
    ) -> (Result<T, Broken>, CallReport) {
        let began = Instant::now();
        let reused = self.calls > 0;
        self.calls += 1;
        let store = &mut self.store;
        let guest = &mut self.guest;
        let time = given.time;
        if let Some(fuel) = given.limits.fuel {
            store.set_fuel(fuel).expect("the exact engine counts fuel");
        }
        let meter = store.data_mut().begin_call(given.limits, given.ingest);
        store.set_epoch_deadline(1);
        let running = async {
            if guest.is_none() {
                *guest = Some(linked.instantiate(&mut *store).await?);
            }
            let guest = guest.as_ref().expect("instantiated above");
            work(&mut *store, guest).await
        };
        let ended = timeout(time, meter.counted(running)).await;
        let duration = began.elapsed();
        let cpu = meter.used();
        let outcome = match ended {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failure::classify(&error, &self.store, cpu)),
            Err(_) => Err(Broken::from(CallError::Limit(LimitExceeded {
                which: LimitKind::Wall,
                used: Some(duration.as_millis() as u64),
                allowed: time.as_millis() as u64,
            }))),
        };
        let (outcome, mut report) = (outcome, self.report());
        report.duration = duration;
        report.cpu = cpu;
        report.reused = reused;
        (outcome, report)
    }

    fn report(&self) -> CallReport {
        let state = self.store.data();
        let (log, log_dropped_bytes) = state.log().take();
        let traffic = state.contacts().take();
        // Not asked of an engine that does not count: making its error costs microseconds.
        let fuel = state.limits.fuel.and_then(|given| {
            let left = self.store.get_fuel().ok()?;
            Some(given.saturating_sub(left))
        });
        CallReport {
            host_calls: state.host_calls,
            memory_peak_bytes: state.memory.peak_bytes(),
            fuel,
            log,
            log_dropped_bytes,
            requests: traffic.requests,
            bytes_out: traffic.bytes_out,
            contacted: traffic.contacted,
            refused: traffic.refused,
            ..CallReport::default()
        }
    }
}
