//! Bounds of the store, each with its reason.

use std::path::PathBuf;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Where the store keeps its files and how much it may hold.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Folder of the log and the segments; made when it does not exist. One process at a time may use it.
    pub folder: PathBuf,
    /// Size of one log file, in bytes; at least 64 KiB. A record must fit into one file. Changing it affects files
    /// made later.
    pub log_file_bytes: u64,
    /// How many log files there may be. When all are full of samples that are not yet in a segment, appends are
    /// refused with [`crate::AppendError::Overloaded`]. At least 2.
    pub log_files_max: u32,
    /// Bytes of records that may wait for the disk at a time; beyond it appends are refused with
    /// [`crate::AppendError::Overloaded`].
    pub in_flight_max_bytes: u32,
    /// Samples in the head that start a flush. The head needs about 24 bytes a sample. It may grow beyond while the
    /// flush is running, but never beyond what the log holds.
    pub head_samples_max: u64,
    /// Age of the head's oldest commit (by the `received` times of appends) that starts a flush.
    pub head_age_max: Duration,
    /// A series without samples for this long (by `received`) stops being active at the next flush.
    pub series_idle: Duration,
    /// Active series of all tenants together; bounds the memory of the index (about 500 bytes each).
    pub series_max: u32,
    /// Bytes of segment indexes kept in memory for queries.
    pub index_cache_max_bytes: u64,
    /// The limits of tenants that have none of their own ([`crate::Store::set_limits`]).
    pub tenant: TenantLimits,
}

impl StoreOptions {
    /// The options of a small server: 256 MiB of log, 96 MB of head.
    pub fn new(folder: impl Into<PathBuf>) -> StoreOptions {
        StoreOptions {
            folder: folder.into(),
            // Small enough that making one takes a moment, large enough to hold many group commits.
            log_file_bytes: 16 * MIB,
            log_files_max: 16,
            // Four of the largest OTLP requests.
            in_flight_max_bytes: 64 << 20,
            head_samples_max: 4_000_000,
            // One segment covers at most about what a two-hour block covers elsewhere.
            head_age_max: Duration::from_secs(2 * 3600),
            series_idle: Duration::from_secs(3600),
            series_max: 4_000_000,
            index_cache_max_bytes: 64 * MIB,
            tenant: TenantLimits::default(),
        }
    }
}

/// What one tenant may store and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Active series; beyond it only *new* series are refused.
    pub active_series_max: u32,
    /// Active series of one metric; beyond it only *new* series of it are refused.
    pub series_of_metric_max: u32,
    /// Labels of one series.
    pub labels_max: u32,
    /// Bytes of one label name.
    pub label_name_max_bytes: u32,
    /// Bytes of one label value.
    pub label_value_max_bytes: u32,
    /// Samples older than this when they are received are rejected. What is already stored is deleted by
    /// [`crate::Store::retain`], which the caller calls with its own times.
    pub retention: Duration,
    /// Samples that one [`crate::Store::select`] may read.
    pub select_samples_max: u64,
    /// Series that one read may return.
    pub select_series_max: u64,
}

impl Default for TenantLimits {
    fn default() -> TenantLimits {
        TenantLimits {
            active_series_max: 1_000_000,
            series_of_metric_max: 1_000_000,
            // Prometheus-compatible services allow 30 to 64; OTLP resource attributes need more.
            labels_max: 128,
            label_name_max_bytes: 1024,
            label_value_max_bytes: 4096,
            retention: Duration::from_secs(460 * 24 * 3600),
            // As Prometheus' query.max-samples; 16 bytes each.
            select_samples_max: 50_000_000,
            select_series_max: 1_000_000,
        }
    }
}
