//! What every call of a plugin has in common: its context, its outcome and its report.
//!
//! An outcome says whose fault a failure is, because that decides who is told and whether to try again. A report is
//! there for every call, failed or not.

use std::fmt;
use std::time::Duration;

use shoal_model::Timestamp;
use shoal_model::grant::Kind;

/// What the host tells a plugin about the call. Becomes `call-context` of `wit/types.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallContext {
    /// Now, by the caller's clock.
    pub now: Timestamp,
    /// When the work must be over; `None` leaves the wall-clock limit of the kind. The nearer of both ends the
    /// call.
    pub deadline: Option<Timestamp>,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The same for every attempt of one unit of work.
    pub idempotency_key: String,
    /// W3C trace context, when the work is traced.
    pub traceparent: Option<String>,
}

impl CallContext {
    /// A first attempt without deadline or trace.
    pub fn new(now: Timestamp, idempotency_key: impl Into<String>) -> CallContext {
        CallContext {
            now,
            deadline: None,
            attempt: 1,
            idempotency_key: idempotency_key.into(),
            traceparent: None,
        }
    }
}

/// What became of a call.
#[derive(Debug)]
#[must_use]
pub struct Call<T> {
    /// What the plugin answered, or why it did not.
    pub outcome: Result<T, CallError>,
    /// What the call used and said.
    pub report: CallReport,
}

/// What a call used and said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallReport {
    /// From start to end, waiting included.
    pub duration: Duration,
    /// Time that the plugin computed, and the host for it.
    pub cpu: Duration,
    /// How much of the duration it waited for its turn.
    pub queued: Duration,
    /// Most that all memories and tables of the instance took together.
    pub memory_peak_bytes: u64,
    /// Instructions, where they are counted (billing rules).
    pub fuel: Option<u64>,
    /// What the plugin wrote, and what the host had to say to its author, in order.
    pub log: Vec<LogLine>,
    /// Bytes of log that did not fit any more.
    pub log_dropped_bytes: u64,
    /// Requests, connections and queries that it asked the host for.
    pub requests: u32,
    /// Bytes that it sent to the network; of HTTP requests the body, and the head as it is estimated.
    pub bytes_out: u64,
    /// Every destination that the plugin was connected to, in order: `host:port`, `dns name` or `icmp host`.
    pub contacted: Vec<String>,
    /// Everything that the plugin wanted of the network and did not get because of its grant or of the policy, in order.
    pub refused: Vec<RefusedContact>,
    /// Times that the plugin turned to the host, growth of its memory included.
    pub host_calls: u64,
    /// Whether the instance had served calls before.
    pub reused: bool,
}

/// Something that a plugin wanted of the network and may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedContact {
    /// What it wanted, by the plugin's own words where they name no host: `http GET host:port`, `dns name`, `host:port`.
    pub wanted: String,
    /// Why not, as the log says it.
    pub reason: String,
}

/// One line of a call's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// Who wrote it, and how.
    pub source: LogSource,
    /// At most 8,192 bytes; line breaks are possible.
    pub message: String,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For the plugin's author.
    Debug,
    /// Normal course of events.
    Info,
    /// Something was worked around.
    Warn,
    /// Something made the call fail.
    Error,
}

impl LogLevel {
    /// Its name, such as `warn`.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }
}

/// Where a log line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// The plugin, through the interface `log`.
    Log,
    /// The plugin's standard output.
    Stdout,
    /// The plugin's standard error.
    Stderr,
    /// The host, telling the author why something was refused.
    Host,
}

/// What a plugin says of work that it did not do. Decides what the host does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Wrong for good: do not try again, show the message to the tenant.
    Rejected(FailureDetail),
    /// May pass: try again.
    Retry {
        /// What went wrong.
        detail: FailureDetail,
        /// The earliest time worth trying again, from now; the host may wait longer.
        after: Option<Duration>,
    },
    /// A credential was refused: do not try again until the settings change.
    Unauthenticated(FailureDetail),
}

/// What went wrong, for people and for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureDetail {
    /// A short stable word chosen by the plugin, at most 100 bytes.
    pub code: String,
    /// One sentence, at most 4,096 bytes.
    pub message: String,
}

impl Failure {
    /// The code and the message.
    pub fn detail(&self) -> &FailureDetail {
        match self {
            Failure::Rejected(detail)
            | Failure::Retry { detail, .. }
            | Failure::Unauthenticated(detail) => detail,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FailureDetail { code, message } = self.detail();
        match self {
            Failure::Rejected(_) => write!(f, "rejected ({code}): {message}"),
            Failure::Retry { .. } => write!(f, "to be tried again ({code}): {message}"),
            Failure::Unauthenticated(_) => write!(f, "unauthenticated ({code}): {message}"),
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The plugin says so.
    #[error("{0}")]
    Failed(Failure),
    /// The plugin used more than it may; it was stopped.
    #[error("{0}")]
    Limit(LimitExceeded),
    /// The plugin gave up: a panic in its code.
    #[error("the plugin panicked: {message}")]
    Panicked {
        /// What it said, beginning with file and line where its language tells them.
        message: String,
        /// Innermost function first; at most 32.
        backtrace: Vec<String>,
    },
    /// The plugin did something that has no meaning, such as dividing by zero or recursing without end.
    #[error("the plugin crashed: {message}")]
    Trapped {
        /// What it did.
        message: String,
        /// Innermost function first; at most 32.
        backtrace: Vec<String>,
    },
    /// The plugin answered against its contract.
    #[error("the plugin's answer breaks its contract: {0}")]
    BadAnswer(String),
    /// A function of the plugin has other types than the contract; loading finds it, no later call does.
    #[error("the plugin does not fit its contract: {0}")]
    WrongTypes(String),
    /// There is no room to run it now; a fault of nobody, try again.
    #[error("no room to run the plugin: {running} calls are running, waited {waited:?}")]
    Busy {
        /// Calls running at the time, of the tenant where it has any, or of all.
        running: usize,
        /// How long there was no room.
        waited: Duration,
    },
    /// The deadline had passed before the call began.
    #[error("the deadline had passed before the call began")]
    DeadlinePassed,
    /// The caller asked an installation of one kind for the work of another; a fault of the caller.
    #[error("the plugin is a {is}, not a {wanted}")]
    WrongKind {
        /// What was asked for.
        wanted: Kind,
        /// What it is.
        is: Kind,
    },
}

impl CallError {
    /// Whether the plugin's code is at fault, so that its author should be told.
    pub fn is_plugin_fault(&self) -> bool {
        match self {
            CallError::Limit(_)
            | CallError::Panicked { .. }
            | CallError::Trapped { .. }
            | CallError::WrongTypes(_)
            | CallError::BadAnswer(_) => true,
            CallError::Failed(_)
            | CallError::Busy { .. }
            | CallError::DeadlinePassed
            | CallError::WrongKind { .. } => false,
        }
    }

    /// A short stable word for metrics and records, such as `limit-cpu`.
    pub fn code(&self) -> &'static str {
        match self {
            CallError::Failed(Failure::Rejected(_)) => "rejected",
            CallError::Failed(Failure::Retry { .. }) => "retry",
            CallError::Failed(Failure::Unauthenticated(_)) => "unauthenticated",
            CallError::Limit(limit) => match limit.which {
                LimitKind::Cpu => "limit-cpu",
                LimitKind::Wall => "limit-wall",
                LimitKind::Memory => "limit-memory",
                LimitKind::Output => "limit-output",
                LimitKind::Fuel => "limit-fuel",
                LimitKind::Handles => "limit-handles",
                LimitKind::HostCalls => "limit-host-calls",
                LimitKind::Random => "limit-random",
            },
            CallError::Panicked { .. } => "panicked",
            CallError::Trapped { .. } => "trapped",
            CallError::BadAnswer(_) => "bad-answer",
            CallError::WrongTypes(_) => "wrong-types",
            CallError::Busy { .. } => "busy",
            CallError::DeadlinePassed => "deadline-passed",
            CallError::WrongKind { .. } => "wrong-kind",
        }
    }
}

/// Which bound of [`CallLimits`](shoal_model::limit::CallLimits) was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Time that the guest computes, in milliseconds.
    Cpu,
    /// Time from start to end, in milliseconds.
    Wall,
    /// All memories and tables together, in bytes.
    Memory,
    /// What is handed to the host at once, in bytes.
    Output,
    /// Instructions.
    Fuel,
    /// Resources held at a time.
    Handles,
    /// Times that it turned to the host.
    HostCalls,
    /// Random bytes asked for at once.
    Random,
}

/// A plugin used more than it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// Of what.
    pub which: LimitKind,
    /// How much, in the unit of `which`; `None` where it was stopped before it could be counted.
    pub used: Option<u64>,
    /// How much is allowed, in the unit of `which`.
    pub allowed: u64,
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, unit) = match self.which {
            LimitKind::Cpu => ("computed", " ms"),
            LimitKind::Wall => ("took", " ms"),
            LimitKind::Memory => ("needed", " bytes of memory"),
            LimitKind::Output => ("handed over", " bytes at once"),
            LimitKind::Fuel => ("executed", " instructions"),
            LimitKind::Handles => ("held", " resources"),
            LimitKind::HostCalls => ("turned to the host", " times"),
            LimitKind::Random => ("asked for", " random bytes at once"),
        };
        write!(f, "the plugin {what} ")?;
        match self.used {
            Some(used) => write!(f, "{used}{unit}, ")?,
            None => f.write_str("more than it may: ")?,
        }
        write!(f, "{}{unit} are allowed", self.allowed)
    }
}

/// Cuts text at `max` bytes, between characters.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}
