//! What a batch of samples is and what can become of it.

use std::time::Duration;

use crate::series::SeriesRef;

/// The bits of the NaN by which Prometheus marks the end of a series. Kept bit by bit.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether a value is the marker that its series has ended. Other NaNs are ordinary values.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// A batch of samples in columns of the same length. The order is free; of samples with the same series and time
/// the later one wins.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// Whose sample it is; all of one tenant.
    pub series: &'a [SeriesRef],
    /// When it was measured, in milliseconds since the epoch.
    pub time_unix_ms: &'a [i64],
    /// What was measured. All bit patterns are kept.
    pub values: &'a [f64],
}

/// A batch is durable and visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The log's sequence number of the commit; grows. Several batches may share one.
    pub sequence: u64,
    /// Samples stored.
    pub accepted: u64,
    /// Samples left out, by reason.
    pub rejected: Rejected,
}

/// Samples left out of a batch, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// More than 10 minutes after `received`.
    pub too_far_ahead: u64,
    /// Older than the tenant's retention when received.
    pub too_old: u64,
}

impl Rejected {
    /// All of them.
    pub fn total(self) -> u64 {
        self.too_far_ahead + self.too_old
    }
}

/// Nothing of a batch was acknowledged. It may be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much waits for the disk, or the log waits for a flush.
    #[error("the store is overloaded ({reason}): send again in {} s", .retry_after.as_secs())]
    Overloaded {
        /// When sending again may succeed.
        retry_after: Duration,
        /// What is full.
        reason: &'static str,
    },
    /// A series of the batch is not active any more, or is another tenant's.
    #[error("the series at index {index} of the batch is not active: resolve it again")]
    UnknownSeries {
        /// Its place in the batch.
        index: usize,
    },
    /// The columns differ in length; a mistake of the caller.
    #[error("columns of different lengths: {series} series, {times} times, {values} values")]
    UnequalColumns {
        /// Length of `series`.
        series: usize,
        /// Length of `time_unix_ms`.
        times: usize,
        /// Length of `values`.
        values: usize,
    },
    /// The batch does not fit into one log record.
    #[error("a batch of {bytes} bytes is over the limit of {max_bytes}: split it")]
    TooLarge {
        /// Its size in the log.
        bytes: usize,
        /// What fits.
        max_bytes: usize,
    },
    /// The log could not be written or synced. Nothing more is acknowledged until the store is opened anew.
    #[error("the log failed: {reason}; repair the disk and restart")]
    LogFailed {
        /// The operating system's words and the file.
        reason: String,
    },
    /// The store is shutting down.
    #[error("the store is shutting down: send again later")]
    ShutDown,
}
