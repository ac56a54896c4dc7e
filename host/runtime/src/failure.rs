//! What an error of the engine means: whose fault it is and which limit was reached.
//!
//! Engine errors are never shown with `{:?}`: that form may carry the host's own stack and paths.

use std::time::Duration;

use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};
use wasmtime_wasi::{I32Exit, ResourceTableError};

use crate::admission::NoSlot;
use crate::bindings::shoal::plugin::types as wit;
use crate::call::{CallError, Failure, FailureDetail, LimitExceeded, LimitKind, cut};
use crate::link::WrongTypes;
use crate::state::State;
use crate::symbols::{Frame, LINES_MAX, demangled};

const CODE_MAX_BYTES: usize = 100;
const MESSAGE_MAX_BYTES: usize = 4096;

/// A call that failed, and where, for whoever looks up files and lines.
pub(crate) struct Broken {
    pub(crate) error: CallError,
    /// Innermost first; empty unless it crashed.
    pub(crate) frames: Vec<Frame>,
}

impl From<CallError> for Broken {
    fn from(error: CallError) -> Broken {
        Broken {
            error,
            frames: Vec::new(),
        }
    }
}

/// The outcome that an error of the engine stands for.
pub(crate) fn classify(error: &wasmtime::Error, store: &Store<State>, cpu: Duration) -> Broken {
    let mut broken = Broken::from(outcome(error, store, cpu));
    if let CallError::Panicked { backtrace, .. } | CallError::Trapped { backtrace, .. } =
        &mut broken.error
    {
        broken.frames = frames(error);
        *backtrace = broken
            .frames
            .iter()
            .map(|frame| frame.name.clone())
            .collect();
    }
    broken
}

fn outcome(error: &wasmtime::Error, store: &Store<State>, cpu: Duration) -> CallError {
    let state = store.data();
    let limits = &state.limits;
    let limit = |which, used, allowed| {
        CallError::Limit(LimitExceeded {
            which,
            used,
            allowed,
        })
    };
    let trap = error.downcast_ref::<Trap>();
    let cause = error.root_cause().to_string();
    if state.cpu_exceeded || trap == Some(&Trap::Interrupt) {
        let allowed = limits.cpu.as_millis() as u64;
        return limit(LimitKind::Cpu, Some(cpu.as_millis() as u64), allowed);
    }
    if state.host_calls > limits.host_calls_max {
        let (used, allowed) = (state.host_calls, limits.host_calls_max);
        return limit(LimitKind::HostCalls, Some(used), allowed);
    }
    if trap == Some(&Trap::OutOfFuel) {
        return limit(LimitKind::Fuel, None, limits.fuel.unwrap_or(u64::MAX));
    }
    // The types of these three are private to the engine; their texts are pinned by tests.
    if cause.contains("fuel allocated for hostcalls has been exhausted") {
        return limit(LimitKind::Output, None, limits.output_max_bytes);
    }
    if let Some(asked) = cause.strip_prefix("requested len ") {
        let asked = asked.split(' ').next().and_then(|asked| asked.parse().ok());
        return limit(LimitKind::Random, asked, limits.random_max_bytes);
    }
    let is_full = matches!(
        error.downcast_ref::<ResourceTableError>(),
        Some(ResourceTableError::Full)
    );
    if is_full || cause.contains("handle limit exceeded") {
        return limit(LimitKind::Handles, None, u64::from(limits.handles_max));
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return CallError::Busy {
            running: 0,
            waited: Duration::ZERO,
        };
    }
    if error.downcast_ref::<WrongTypes>().is_some() {
        return CallError::WrongTypes(cause);
    }
    let panic = state.log().panic_message();
    if let Some(wanted) = state.memory.denied_bytes()
        && panic
            .as_ref()
            .is_none_or(|said| said.contains("memory allocation"))
    {
        return limit(LimitKind::Memory, Some(wanted), limits.memory_max_bytes);
    }
    let backtrace = Vec::new();
    if let Some(message) = panic.filter(|_| trap == Some(&Trap::UnreachableCodeReached)) {
        return CallError::Panicked { message, backtrace };
    }
    let message = match error.downcast_ref::<I32Exit>() {
        Some(exit) => format!("it ended itself with status {}", exit.0),
        None => cut(cause, MESSAGE_MAX_BYTES),
    };
    CallError::Trapped { message, backtrace }
}

/// Where it crashed, innermost first.
fn frames(error: &wasmtime::Error) -> Vec<Frame> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let frame = |frame: &wasmtime::FrameInfo| Frame {
        offset: frame.module_offset().map(|offset| offset as u64),
        name: match frame.func_name() {
            Some(name) => demangled(name),
            None => format!("function {}", frame.func_index()),
        },
    };
    trace.frames().iter().take(LINES_MAX).map(frame).collect()
}

/// What it means that there was no slot.
pub(crate) fn busy(none: NoSlot) -> CallError {
    CallError::Busy {
        running: none.running,
        waited: none.waited,
    }
}

/// What a plugin says of work that it did not do, cut to the lengths of the contract.
pub(crate) fn from_wit(failure: wit::Failure) -> Failure {
    let detail = |code: String, message: String| FailureDetail {
        code: cut(code, CODE_MAX_BYTES),
        message: cut(message, MESSAGE_MAX_BYTES),
    };
    match failure {
        wit::Failure::Rejected(d) => Failure::Rejected(detail(d.code, d.message)),
        wit::Failure::Unauthenticated(d) => Failure::Unauthenticated(detail(d.code, d.message)),
        wit::Failure::Retry(d) => Failure::Retry {
            detail: detail(d.code, d.message),
            after: d.after_ms.map(Duration::from_millis),
        },
    }
}
