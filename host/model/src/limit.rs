//! Bounds on what a plugin call may use, by kind.
//!
//! Whose word counts: the operator sets what a kind may use at most ([`CallLimits::with`]), a tenant's own bounds and
//! what the manifest asks for can only lower it ([`CallLimits::lowered`]), and a large input raises time and instructions
//! of receivers and billing rules up to tenfold ([`CallLimits::scaled`]).

use std::time::Duration;

use crate::grant::Kind;

/// What one call of a plugin may use. Exceeding a bound ends the call, or refuses what would exceed it: a request, a
/// connection, a line of log.
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
    /// Times that the guest may turn to the host.
    pub host_calls_max: u64,
    /// Resource handles that it may hold at a time.
    pub handles_max: u32,
    /// HTTP requests that it may make.
    pub http_requests_max: u32,
    /// Body of one HTTP request, in bytes.
    pub http_request_body_max_bytes: u64,
    /// Body of one HTTP response, in bytes.
    pub http_body_max_bytes: u64,
    /// Connections that it may have open at a time.
    pub connections_max: u32,
    /// Random bytes that it may ask for at once.
    pub random_max_bytes: u64,
    /// Instructions, where runs must be reproducible; `None` elsewhere.
    pub fuel: Option<u64>,
}

/// Bounds that somebody sets; `None` leaves what was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitOverrides {
    /// See [`CallLimits::cpu`].
    pub cpu: Option<Duration>,
    /// See [`CallLimits::wall`].
    pub wall: Option<Duration>,
    /// See [`CallLimits::memory_max_bytes`].
    pub memory_max_bytes: Option<u64>,
    /// See [`CallLimits::log_max_bytes`].
    pub log_max_bytes: Option<u64>,
    /// See [`CallLimits::output_max_bytes`].
    pub output_max_bytes: Option<u64>,
    /// See [`CallLimits::host_calls_max`].
    pub host_calls_max: Option<u64>,
    /// See [`CallLimits::handles_max`].
    pub handles_max: Option<u32>,
    /// See [`CallLimits::http_requests_max`].
    pub http_requests_max: Option<u32>,
    /// See [`CallLimits::http_request_body_max_bytes`].
    pub http_request_body_max_bytes: Option<u64>,
    /// See [`CallLimits::http_body_max_bytes`].
    pub http_body_max_bytes: Option<u64>,
    /// See [`CallLimits::connections_max`].
    pub connections_max: Option<u32>,
    /// See [`CallLimits::random_max_bytes`].
    pub random_max_bytes: Option<u64>,
    /// See [`CallLimits::fuel`]; of no effect on kinds whose instructions are not counted.
    pub fuel: Option<u64>,
}

const MIB: u64 = 1 << 20;

/// Most that a large input raises limits.
const SCALE_MAX: u32 = 10;
/// Of a receiver's input, in bytes, what the plain limits are for.
const SCALE_BYTES: u64 = MIB;
/// Of a billing rule's input, in rows (a meter's subject each), what the plain limits are for.
const SCALE_ROWS: u64 = 10_000;
/// How much more time an interpreter gets: it starts up and works some ten times as long.
const LARGE_TIMES: u32 = 10;
/// Memory of a plugin of the class `large`, in bytes, at least.
const LARGE_MEMORY_BYTES: u64 = 256 * MIB;

impl CallLimits {
    /// The bounds of a kind unless the operator sets others.
    ///
    /// Memory and time follow what comparable systems grant; a receiver gets more because a batch is
    /// 64 MiB at most. Host calls are far beyond what a plugin of that kind needs, and take a second or so.
    pub fn for_kind(kind: Kind) -> CallLimits {
        let base = CallLimits {
            cpu: Duration::from_millis(100),
            wall: Duration::from_secs(10),
            memory_max_bytes: 32 * MIB,
            log_max_bytes: 64 << 10,
            output_max_bytes: 4 * MIB,
            host_calls_max: 1_000_000,
            handles_max: 1000,
            http_requests_max: 10,
            http_request_body_max_bytes: MIB,
            http_body_max_bytes: MIB,
            connections_max: 4,
            random_max_bytes: 64 << 10,
            fuel: None,
        };
        match kind {
            Kind::Receiver => CallLimits {
                cpu: Duration::from_secs(2),
                wall: Duration::from_secs(30),
                memory_max_bytes: 512 * MIB,
                output_max_bytes: 256 * MIB,
                http_requests_max: 0,
                connections_max: 0,
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
                cpu: Duration::from_secs(2),
                wall: Duration::from_secs(30),
                memory_max_bytes: 64 * MIB,
                output_max_bytes: 8 * MIB,
                http_requests_max: 0,
                connections_max: 0,
                fuel: Some(1_000_000_000),
                ..base
            },
        }
    }

    /// These bounds with those that somebody sets, lower or higher: an operator's.
    #[must_use]
    pub fn with(self, set: &LimitOverrides) -> CallLimits {
        self.merge(set, |_, set| set, |_, set| set, |_, set| set)
    }

    /// The smaller of these bounds and those that somebody sets: a tenant's.
    #[must_use]
    pub fn lowered(self, to: &LimitOverrides) -> CallLimits {
        self.merge(to, Ord::min, Ord::min, Ord::min)
    }

    fn merge(
        self,
        set: &LimitOverrides,
        time: impl Fn(Duration, Duration) -> Duration,
        wide: impl Fn(u64, u64) -> u64,
        narrow: impl Fn(u32, u32) -> u32,
    ) -> CallLimits {
        let time = |now, set: Option<Duration>| set.map_or(now, |set| time(now, set));
        let wide = |now, set: Option<u64>| set.map_or(now, |set| wide(now, set));
        let narrow = |now, set: Option<u32>| set.map_or(now, |set| narrow(now, set));
        CallLimits {
            cpu: time(self.cpu, set.cpu),
            wall: time(self.wall, set.wall),
            memory_max_bytes: wide(self.memory_max_bytes, set.memory_max_bytes),
            log_max_bytes: wide(self.log_max_bytes, set.log_max_bytes),
            output_max_bytes: wide(self.output_max_bytes, set.output_max_bytes),
            host_calls_max: wide(self.host_calls_max, set.host_calls_max),
            handles_max: narrow(self.handles_max, set.handles_max),
            http_requests_max: narrow(self.http_requests_max, set.http_requests_max),
            http_request_body_max_bytes: wide(
                self.http_request_body_max_bytes,
                set.http_request_body_max_bytes,
            ),
            http_body_max_bytes: wide(self.http_body_max_bytes, set.http_body_max_bytes),
            connections_max: narrow(self.connections_max, set.connections_max),
            random_max_bytes: wide(self.random_max_bytes, set.random_max_bytes),
            fuel: self.fuel.map(|fuel| wide(fuel, set.fuel)),
        }
    }

    /// What a plugin of the class `large` gets instead: an interpreter with its libraries.
    #[must_use]
    pub fn large(self) -> CallLimits {
        CallLimits {
            cpu: self.cpu * LARGE_TIMES,
            memory_max_bytes: self.memory_max_bytes.max(LARGE_MEMORY_BYTES),
            ..self
        }
    }

    /// The bounds of a call with `bytes` of input: for each MiB that it begins, once more processor time and instructions,
    /// ten times at most.
    #[must_use]
    pub fn scaled(self, bytes: u64) -> CallLimits {
        self.times(bytes.div_ceil(SCALE_BYTES))
    }

    /// The bounds of a call with `rows` of input: for each 10,000 that it begins, once more processor time and
    /// instructions, ten times at most.
    #[must_use]
    pub fn scaled_by_rows(self, rows: u64) -> CallLimits {
        self.times(rows.div_ceil(SCALE_ROWS))
    }

    fn times(self, factor: u64) -> CallLimits {
        let factor = u32::try_from(factor).unwrap_or(SCALE_MAX);
        let factor = factor.clamp(1, SCALE_MAX);
        CallLimits {
            cpu: self.cpu * factor,
            fuel: self.fuel.map(|fuel| fuel.saturating_mul(factor.into())),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_raises_and_lowers_and_a_tenant_only_lowers() {
        let check = CallLimits::for_kind(Kind::Check);
        let set = LimitOverrides {
            cpu: Some(check.cpu * 2),
            handles_max: Some(5),
            fuel: Some(7),
            ..LimitOverrides::default()
        };
        let raised = check.with(&set);
        assert_eq!((raised.cpu, raised.handles_max), (check.cpu * 2, 5));
        assert_eq!(raised.fuel, None, "a check's instructions are not counted");
        let lowered = check.lowered(&set);
        assert_eq!((lowered.cpu, lowered.handles_max), (check.cpu, 5));
        assert_eq!(check.lowered(&LimitOverrides::default()), check);
    }

    #[test]
    fn a_large_input_gets_up_to_ten_times_the_time_and_the_instructions() {
        let rule = CallLimits::for_kind(Kind::BillingRule);
        for (rows, times) in [
            (0, 1),
            (10_000, 1),
            (10_001, 2),
            (95_000, 10),
            (u64::MAX, 10),
        ] {
            let scaled = rule.scaled_by_rows(rows);
            assert_eq!(scaled.cpu, rule.cpu * times, "{rows} rows");
            assert_eq!(scaled.fuel, rule.fuel.map(|fuel| fuel * u64::from(times)));
            assert_eq!(scaled.wall, rule.wall, "waiting does not grow");
        }
        assert_eq!(rule.scaled(3 << 20).cpu, rule.cpu * 3);
    }
}
