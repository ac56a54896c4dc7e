//! Why a receiver's client gets no answer of its receiver, in words that both transports can say.

use std::time::Duration;

use shoal_model::Timestamp;
use shoal_runtime::{CallError, Failure};

use crate::plugins::NoAnswer;

/// When to come back after there was no room.
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// When to come back after a plugin used too much: not at once, for it will likely do so again.
const LIMIT_RETRY: Duration = Duration::from_secs(10);

/// A refusal by the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status over HTTP.
    pub http_status: u16,
    /// The code over gRPC.
    pub grpc_code: i32,
    /// What is wrong and what to do.
    pub message: String,
    /// When the same request may succeed; `None` when sending it again is useless, or nobody knows.
    pub retry_after: Option<Duration>,
}

impl Problem {
    fn new(http_status: u16, grpc_code: i32, message: impl Into<String>) -> Problem {
        Problem {
            http_status,
            grpc_code,
            message: message.into(),
            retry_after: None,
        }
    }

    fn after(self, retry_after: Duration) -> Problem {
        Problem {
            retry_after: Some(retry_after),
            ..self
        }
    }

    /// The request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Problem {
        Problem::new(400, 3, message)
    }

    /// There is no valid key.
    pub fn unauthenticated(message: impl Into<String>) -> Problem {
        Problem::new(401, 16, message)
    }

    /// The key does not allow it.
    pub fn forbidden(message: impl Into<String>) -> Problem {
        Problem::new(403, 7, message)
    }

    /// Nothing receives it.
    pub fn not_found(message: impl Into<String>) -> Problem {
        Problem::new(404, 12, message)
    }

    /// The body did not come in time.
    pub fn too_slow(message: impl Into<String>) -> Problem {
        Problem::new(408, 4, message)
    }

    /// The body is longer than what is taken; no `RetryInfo`, so that nobody sends it again.
    pub fn too_large(max_bytes: usize) -> Problem {
        let message = format!(
            "the body has more than {max_bytes} bytes when decompressed; send smaller batches"
        );
        Problem::new(413, 8, message)
    }

    /// The body is written in a way that is not understood.
    pub fn unsupported(message: impl Into<String>) -> Problem {
        Problem::new(415, 12, message)
    }

    /// The sender's own requests in progress take all that one tenant may take.
    pub fn too_many(message: impl Into<String>) -> Problem {
        Problem::new(429, 8, message).after(BUSY_RETRY)
    }

    /// There is no room now, or something that is needed does not answer.
    pub fn unavailable(message: impl Into<String>) -> Problem {
        Problem::new(503, 14, message).after(BUSY_RETRY)
    }

    /// A plugin's call without an answer; `who` names the plugin.
    pub fn of_no_answer(error: &NoAnswer, who: &str, now: Timestamp) -> Problem {
        match error {
            NoAnswer::CannotRun(reason) => {
                Problem::unavailable(format!("{who} cannot run now: {reason}"))
            }
            NoAnswer::Refused(refused) => {
                Problem::unavailable(format!("{who}: {refused}")).after(refused.retry_after(now))
            }
            NoAnswer::Failed(error) => Problem::of_call(error, who),
        }
    }

    fn of_call(error: &CallError, who: &str) -> Problem {
        match error {
            CallError::Failed(Failure::Rejected(detail)) => Problem::bad_request(&*detail.message),
            CallError::Failed(Failure::Unauthenticated(detail)) => {
                Problem::unauthenticated(&*detail.message)
            }
            CallError::Failed(Failure::Retry { detail, after }) => {
                Problem::unavailable(&*detail.message).after(after.unwrap_or(BUSY_RETRY))
            }
            CallError::Busy { .. } => {
                Problem::unavailable(format!("{who} has no room for another request now"))
            }
            CallError::Limit(limit) => Problem::unavailable(format!(
                "{who} used more than it may: {limit}; send smaller batches"
            ))
            .after(LIMIT_RETRY),
            CallError::DeadlinePassed => Problem::new(504, 4, "the request's deadline has passed"),
            CallError::Panicked { .. }
            | CallError::Trapped { .. }
            | CallError::BadAnswer(_)
            | CallError::WrongTypes(_)
            | CallError::WrongKind { .. } => {
                Problem::new(500, 13, format!("{who} failed: {error}"))
            }
        }
    }
}
