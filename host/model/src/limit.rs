//! Bounds on what a plugin call may use, by kind.

use std::time::Duration;

use crate::grant::Kind;

/// What one call of a plugin may use. Exceeding a bound ends the call (or, for the log, drops and counts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// Time that the guest computes; waiting for the host does not count.
    pub cpu: Duration,
    /// Time from start to end, waiting included.
    pub wall: Duration,
    /// All linear memories and tables of the instance together, in bytes.
    pub memory_max_bytes: u64,
    /// Log lines and standard output together, in bytes; the rest is dropped and counted.
    pub log_max_bytes: u64,
    /// What the guest may hand to the host in one call or result, in bytes.
    pub output_max_bytes: u64,
    /// HTTP requests that it may make.
    pub http_requests_max: u32,
    /// Body of one HTTP request or response, in bytes.
    pub http_body_max_bytes: u64,
    /// Resource handles that it may hold at a time.
    pub handles_max: u32,
    /// Instructions, where runs must be reproducible; `None` elsewhere.
    pub fuel: Option<u64>,
}

const MIB: u64 = 1 << 20;

impl CallLimits {
    /// The bounds of a kind unless the operator sets others.
    ///
    /// Memory and time follow what comparable systems grant; a receiver gets more because a batch is
    /// 64 MiB at most and decoding 10,000 points takes about a millisecond.
    pub fn for_kind(kind: Kind) -> CallLimits {
        let base = CallLimits {
            cpu: Duration::from_millis(100),
            wall: Duration::from_secs(10),
            memory_max_bytes: 32 * MIB,
            log_max_bytes: 64 << 10,
            output_max_bytes: 4 * MIB,
            http_requests_max: 10,
            http_body_max_bytes: MIB,
            handles_max: 1000,
            fuel: None,
        };
        match kind {
            Kind::Receiver => CallLimits {
                cpu: Duration::from_secs(2),
                wall: Duration::from_secs(30),
                memory_max_bytes: 512 * MIB,
                output_max_bytes: 256 * MIB,
                http_requests_max: 0,
                ..base
            },
            Kind::Check => CallLimits {
                cpu: Duration::from_millis(200),
                wall: Duration::from_secs(30),
                memory_max_bytes: 64 * MIB,
                http_body_max_bytes: 4 * MIB,
                ..base
            },
            Kind::Channel => base,
            Kind::BillingRule => CallLimits {
                cpu: Duration::from_secs(5),
                wall: Duration::from_secs(30),
                memory_max_bytes: 64 * MIB,
                output_max_bytes: 8 * MIB,
                http_requests_max: 0,
                fuel: Some(2_000_000_000),
                ..base
            },
        }
    }
}
