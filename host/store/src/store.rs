//! The store's handle.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use shoal_model::labels::Labels;
use shoal_model::{TenantId, Timestamp};

use crate::append::{AppendError, Committed, Samples};
use crate::catalog::{Catalog, CatalogError, SegmentRecord};
use crate::matcher::Matcher;
use crate::options::{StoreOptions, TenantLimits};
use crate::read::{MetricMetadata, ReadError, Selection};
use crate::series::{LimitReached, SeriesMeta, SeriesRef};

/// The telemetry of all tenants; a handle that is cheap to clone.
#[derive(Clone)]
pub struct Store {
    options: Arc<StoreOptions>,
}

/// What was found when a store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Commits of the log that were not yet in segments.
    pub commits: u64,
    /// Samples in them.
    pub samples: u64,
    /// Series in them.
    pub series: u64,
    /// Usage elements in them.
    pub usage: u64,
    /// Segments in the catalog.
    pub segments: u64,
    /// Files of segments that never reached the catalog, and were deleted.
    pub orphans: u64,
}

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the folder.
    #[error("{} is used by another process: stop it first", .folder.display())]
    InUse {
        /// Which folder.
        folder: PathBuf,
    },
    /// An option is out of range.
    #[error("{option} is {value}, but has to be {wanted}")]
    BadOption {
        /// Its name.
        option: &'static str,
        /// What was given.
        value: u64,
        /// What is allowed.
        wanted: &'static str,
    },
    /// An acknowledged part of the log is damaged or missing.
    #[error("{} is damaged at byte {offset}: {reason}; restore the file, or move it away to go on without it", .file.display())]
    DamagedLog {
        /// Which file.
        file: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A segment of the catalog is missing or its table of contents damaged.
    #[error("a segment cannot be opened: {0}")]
    Segment(#[source] ReadError),
    /// The catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A file could not be made, read or written.
    #[error("cannot use {}: {error}", .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// A flush, retention run or hand-over of usage failed. Nothing is lost; call again.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The catalog did not take the change.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A segment could not be written.
    #[error("cannot write {}: {error}", .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The log's thread has ended: the store is shutting down.
    #[error("the store is shut down")]
    ShutDown,
}

/// What a flush did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// The new segment; `None` when there were no samples.
    pub segment: Option<SegmentRecord>,
    /// Usage elements handed to the catalog.
    pub usage: u64,
}

/// Figures of the whole store at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreStats {
    /// By tenant.
    pub tenants: BTreeMap<TenantId, TenantStats>,
    /// Samples in memory.
    pub head_samples: u64,
    /// Bytes of memory that they take.
    pub head_bytes: u64,
    /// Bytes of the log that are not yet in segments.
    pub log_bytes: u64,
    /// Bytes of the log when it is full.
    pub log_max_bytes: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Bytes of their files.
    pub segment_bytes: u64,
    /// Samples in them.
    pub segment_samples: u64,
    /// `segment_bytes` by `segment_samples`, everything included; `None` without segments.
    pub bytes_per_sample: Option<f64>,
    /// Usage elements not yet in the catalog.
    pub usage_pending: u64,
    /// Samples committed since the store was opened.
    pub samples_committed_total: u64,
    /// Group commits since the store was opened.
    pub commits_total: u64,
    /// Flushes that failed since the store was opened.
    pub flush_failures_total: u64,
}

/// Figures of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantStats {
    /// Series that count against the limit.
    pub active_series: u64,
    /// Samples in memory.
    pub head_samples: u64,
}

impl Store {
    /// Opens the store in a folder, rebuilding the head and the pending usage from the log. `now` is the server's
    /// clock.
    ///
    /// Call it within a tokio runtime: one task of it flushes the head when it is due.
    ///
    /// # Errors
    /// See [`OpenError`]. A tail of the log that was being written when the process died is no error.
    pub async fn open(
        options: StoreOptions,
        catalog: Arc<dyn Catalog>,
        now: Timestamp,
    ) -> Result<(Store, Recovered), OpenError> {
        let _ = now;
        catalog.load().await?;
        Ok((
            Store {
                options: Arc::new(options),
            },
            Recovered::default(),
        ))
    }

    /// Replaces a tenant's limits; they hold for what comes next, until the store is closed.
    pub fn set_limits(&self, tenant: TenantId, limits: TenantLimits) {
        let _ = (tenant, limits, &self.options);
    }

    /// Finds the active series with these labels or makes it, and sets its meta.
    ///
    /// Keep the answer beside the stream that the labels came from; it saves hashing them again.
    ///
    /// # Errors
    /// When the series is new and over a limit.
    pub fn resolve(
        &self,
        tenant: TenantId,
        labels: &Labels,
        meta: SeriesMeta,
    ) -> Result<SeriesRef, LimitReached> {
        let _ = (tenant, labels, meta);
        Ok(SeriesRef { slot: 0, serial: 0 })
    }

    /// [`Store::resolve`] for many series under one lock; answers in the same order.
    pub fn resolve_all(
        &self,
        tenant: TenantId,
        series: impl IntoIterator<Item = (Labels, SeriesMeta)>,
    ) -> Vec<Result<SeriesRef, LimitReached>> {
        series
            .into_iter()
            .map(|(labels, meta)| self.resolve(tenant, &labels, meta))
            .collect()
    }

    /// Commits a batch: returns when it is on disk, with its new series and the usage that it makes, and visible to
    /// reads. All of it or nothing is stored, but for the samples counted in [`Committed::rejected`].
    ///
    /// `received` is the server's clock; usage counts in its hour. Batches of concurrent callers share one sync of
    /// the disk. When the future is dropped the batch may be stored or not.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was acknowledged.
    pub async fn append(
        &self,
        tenant: TenantId,
        samples: &Samples<'_>,
        received: Timestamp,
    ) -> Result<Committed, AppendError> {
        let _ = (tenant, samples, received);
        Err(AppendError::ShutDown)
    }

    /// Reads the series that satisfy all matchers, with their samples in `from_ms..=to_ms`, from memory and
    /// segments. Blocks on the disk: call it on a blocking thread.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Selection, ReadError> {
        let _ = (tenant, matchers, from_ms, to_ms);
        Ok(Selection::default())
    }

    /// The label sets that satisfy all matchers, sorted. The range is coarse: a series is found when the segment or
    /// head that holds it overlaps the range. Blocks on the disk.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn series(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Labels>, ReadError> {
        let _ = (tenant, matchers, from_ms, to_ms);
        Ok(Vec::new())
    }

    /// The label names of the series that [`Store::series`] finds, sorted. Blocks on the disk.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn label_names(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<String>, ReadError> {
        let _ = (tenant, matchers, from_ms, to_ms);
        Ok(Vec::new())
    }

    /// The values of one label among the series that [`Store::series`] finds, sorted. Blocks on the disk.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<String>, ReadError> {
        let _ = (tenant, name, matchers, from_ms, to_ms);
        Ok(Vec::new())
    }

    /// Kind and unit of every metric name. Blocks on the disk.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn metadata(
        &self,
        tenant: TenantId,
    ) -> Result<BTreeMap<String, MetricMetadata>, ReadError> {
        let _ = tenant;
        Ok(BTreeMap::new())
    }

    /// Writes everything acknowledged so far into a segment, tells the catalog, and gives the log's space back. The
    /// store does this by itself when its thresholds are reached.
    ///
    /// # Errors
    /// See [`FlushError`]; the samples stay in the head and the log.
    pub async fn flush(&self) -> Result<Flushed, FlushError> {
        Ok(Flushed::default())
    }

    /// Hands the usage of everything acknowledged so far to the catalog: call it before closing an hour. Returns the
    /// number of elements.
    ///
    /// # Errors
    /// [`FlushError::Catalog`]; the usage stays pending.
    pub async fn flush_usage(&self) -> Result<u64, FlushError> {
        Ok(0)
    }

    /// Deletes the tenant's parts of segments that are wholly older than `before`. A file goes when all its tenants'
    /// parts are gone. Returns the number of parts deleted.
    ///
    /// # Errors
    /// [`FlushError::Catalog`]; nothing was deleted.
    pub async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64, FlushError> {
        let _ = (tenant, before);
        Ok(0)
    }

    /// Figures for the operator.
    pub fn stats(&self) -> StoreStats {
        StoreStats::default()
    }

    /// Stops taking samples, hands over pending usage and waits for the store's thread and task. What is in the head
    /// stays in the log and is read from there when the store is opened again.
    ///
    /// # Errors
    /// [`FlushError::Catalog`]; nothing is lost, the log has it.
    pub async fn shutdown(&self) -> Result<(), FlushError> {
        Ok(())
    }
}
