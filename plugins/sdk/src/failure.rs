//! Making failures; which one a plugin returns decides what the host does next.

use std::time::Duration;

use crate::{Failure, FailureDetail, RetryDetail};

impl Failure {
    /// Wrong for good: the host does not try again and shows `message` to the tenant.
    ///
    /// `code` is a short stable word such as `peer-refused`; `message` one sentence that names the value
    /// at fault.
    pub fn rejected(code: &str, message: impl Into<String>) -> Failure {
        Failure::Rejected(detail(code, message))
    }

    /// A credential was refused: the host does not try again until the settings change.
    pub fn unauthenticated(code: &str, message: impl Into<String>) -> Failure {
        Failure::Unauthenticated(detail(code, message))
    }

    /// May pass: the host tries again, with growing pauses.
    pub fn retry(code: &str, message: impl Into<String>) -> Failure {
        Failure::Retry(RetryDetail {
            code: code.to_owned(),
            message: message.into(),
            after_ms: None,
        })
    }

    /// May pass, but not earlier than in `after`.
    pub fn retry_after(code: &str, message: impl Into<String>, after: Duration) -> Failure {
        Failure::Retry(RetryDetail {
            code: code.to_owned(),
            message: message.into(),
            after_ms: Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    /// The short stable word.
    pub fn code(&self) -> &str {
        match self {
            Failure::Rejected(detail) | Failure::Unauthenticated(detail) => &detail.code,
            Failure::Retry(detail) => &detail.code,
        }
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        match self {
            Failure::Rejected(detail) | Failure::Unauthenticated(detail) => &detail.message,
            Failure::Retry(detail) => &detail.message,
        }
    }
}

fn detail(code: &str, message: impl Into<String>) -> FailureDetail {
    FailureDetail {
        code: code.to_owned(),
        message: message.into(),
    }
}
