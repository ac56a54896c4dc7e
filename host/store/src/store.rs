//! The store's handle.
//!
//! | part | does |
//! |---|---|
//! | [`committer`] | the log's thread: commits groups of batches, applies them, splits the head for a flush |
//! | [`flush`] | head to segment, usage to catalog, retention |
//! | [`query`] | reads over head and segments |
//! | [`recover`] | opens a folder and replays its log |
//! | [`shared`] | what these share, and the order of its locks |
//! | [`verify`] | everything on disk checked, without a store |

mod committer;
mod flush;
pub(crate) mod query;
mod recover;
pub(crate) mod shared;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use shoal_model::labels::Labels;
use shoal_model::{TenantId, Timestamp};
use tokio::sync::{Semaphore, oneshot};

use crate::append::{AppendError, Committed, Rejected, Samples};
use crate::cardinality::{Cardinality, CardinalityOf};
use crate::catalog::{Catalog, CatalogError, SegmentRecord};
use crate::head::TenantHead;
use crate::head::columns::SAMPLE_BYTES;
use crate::log::folder::{DiskFolder, LogFolder};
use crate::log::payload_max_bytes;
use crate::log::record::Record;
use crate::matcher::Matcher;
use crate::options::{StoreOptions, TenantLimits};
use crate::read::{Found, MetricMetadata, ReadError, Selection};
use crate::series::{Limit, LimitReached, SeriesMeta, SeriesRef};
use committer::{Batch, Committer, Message};
use flush::FlushState;
use shared::{Shared, Tenant};
pub use verify::{verify, verify_log_bytes, verify_segment_bytes};

/// Samples may be this much ahead of the server's clock; more is a sender whose clock is wrong.
const AHEAD_MAX: Duration = Duration::from_secs(600);

/// When to send again after too much waited for the disk: a queue of 64 MiB is written in less.
const OVERLOADED_RETRY: Duration = Duration::from_secs(1);

/// Between attempts of a flush that fails.
const FLUSH_RETRY: Duration = Duration::from_secs(1);

/// The telemetry of all tenants; a handle that is cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The store itself. When the last handle goes, so does the log's thread.
struct Inner {
    shared: Arc<Shared>,
    catalog: Arc<dyn Catalog>,
    queue: mpsc::Sender<Message>,
    /// Bytes that may still be queued.
    in_flight: Arc<Semaphore>,
    flush_state: tokio::sync::Mutex<FlushState>,
    catalog_turn: tokio::sync::Mutex<()>,
    committer: Mutex<Option<JoinHandle<()>>>,
    flusher: Mutex<Option<tokio::task::JoinHandle<()>>>,
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
    /// Of which so many are missing or cut short; their samples are missing from reads.
    pub damaged_segments: u64,
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
    /// All segments of the catalog are missing.
    #[error(
        "no segment of the catalog is there: {0}; is the disk mounted, and the database this server's?"
    )]
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
        let path = options.folder.join("log");
        Store::open_with(options, catalog, now, move || {
            let folder = DiskFolder::open(path.clone());
            match folder {
                Ok(folder) => Ok(Arc::new(folder)),
                Err(error) => Err(OpenError::Io { path, error }),
            }
        })
        .await
    }

    /// [`Store::open`] with the log's files elsewhere.
    pub(crate) async fn open_with(
        options: StoreOptions,
        catalog: Arc<dyn Catalog>,
        now: Timestamp,
        log_folder: impl FnOnce() -> Result<Arc<dyn LogFolder>, OpenError> + Send + 'static,
    ) -> Result<(Store, Recovered), OpenError> {
        recover::check(&options)?;
        // Before the catalog is read: another process may be changing both.
        let lock = recover::lock_folder(&options.folder)?;
        let state = catalog.load().await?;
        let position = state.log_position;
        let folder = options.folder.clone();
        let opened = tokio::task::spawn_blocking(move || {
            recover::open(options, state, now, log_folder()?, lock)
        })
        .await
        .map_err(|error| OpenError::Io {
            path: folder,
            error: std::io::Error::other(error),
        })??;
        let recovered = opened.recovered.clone();
        let store = Store::start(opened, catalog, position)?;
        Ok((store, recovered))
    }

    /// Starts the thread and the task.
    fn start(
        opened: recover::Opened,
        catalog: Arc<dyn Catalog>,
        position: u64,
    ) -> Result<Store, OpenError> {
        let shared = Arc::new(opened.shared);
        shared.begin_births();
        let (queue, messages) = mpsc::channel();
        let committer = Committer::new(shared.clone(), opened.log);
        let lock: File = opened.lock;
        let thread = std::thread::Builder::new()
            .name("store-log".to_owned())
            .spawn(move || {
                committer.run(&messages);
                // Another process may come only when nothing is written any more.
                drop(lock);
            })
            .map_err(|error| OpenError::Io {
                path: shared.options.folder.clone(),
                error,
            })?;
        let inner = Arc::new(Inner {
            catalog,
            queue,
            in_flight: Arc::new(Semaphore::new(shared.options.in_flight_max_bytes as usize)),
            flush_state: tokio::sync::Mutex::new(FlushState::new(position, opened.next_segment)),
            catalog_turn: tokio::sync::Mutex::default(),
            committer: Mutex::new(Some(thread)),
            flusher: Mutex::default(),
            shared,
        });
        let task = tokio::spawn(flush_when_due(inner.shared.clone(), Arc::downgrade(&inner)));
        *inner.flusher.lock() = Some(task);
        Ok(Store { inner })
    }

    /// Replaces a tenant's limits; they hold for what comes next, until the store is closed.
    pub fn set_limits(&self, tenant: TenantId, limits: TenantLimits) {
        *self.inner.shared.tenant(tenant).limits.write() = Arc::new(limits);
    }

    /// The times, in milliseconds since the epoch, that a sample of a tenant may have when it is received at
    /// `received`. [`Store::append`] leaves out and counts others; who asks here first can say which they were.
    pub fn acceptable_times(
        &self,
        tenant: TenantId,
        received: Timestamp,
    ) -> std::ops::RangeInclusive<i64> {
        acceptable_times(received, self.inner.shared.limits(tenant).retention)
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
        let tenant = self.inner.shared.tenant(tenant);
        let limits = tenant.limits.read().clone();
        self.inner.resolve(&tenant, &limits, labels, meta)
    }

    /// [`Store::resolve`] for many series; answers in the same order.
    pub fn resolve_all(
        &self,
        tenant: TenantId,
        series: impl IntoIterator<Item = (Labels, SeriesMeta)>,
    ) -> Vec<Result<SeriesRef, LimitReached>> {
        let tenant = self.inner.shared.tenant(tenant);
        let limits = tenant.limits.read().clone();
        series
            .into_iter()
            .map(|(labels, meta)| self.inner.resolve(&tenant, &limits, &labels, meta))
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
        match self.inner.queue_batch(tenant, samples, received)? {
            Queued::Waiting(answer) => answer.await.map_err(|_| AppendError::ShutDown)?,
            Queued::Nothing(rejected) => Ok(Committed {
                rejected,
                ..Committed::default()
            }),
        }
    }

    /// Reads the series that satisfy all matchers, with their samples in `from_ms..=to_ms`, from memory and
    /// segments. Blocks on the disk: call it on a blocking thread.
    ///
    /// # Errors
    /// Limits of [`ReadError`]. What is damaged is left out and named in the answer; so of all reads here.
    pub fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Selection, ReadError> {
        self.inner.shared.select(tenant, matchers, (from_ms, to_ms))
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
    ) -> Result<Found<Vec<Labels>>, ReadError> {
        self.inner.shared.series(tenant, matchers, (from_ms, to_ms))
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
    ) -> Result<Found<Vec<String>>, ReadError> {
        let range = (from_ms, to_ms);
        self.inner.shared.label_names(tenant, matchers, range)
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
    ) -> Result<Found<Vec<String>>, ReadError> {
        let range = (from_ms, to_ms);
        self.inner
            .shared
            .label_values(tenant, name, matchers, range)
    }

    /// Kind and unit of every metric name. Blocks on the disk.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn metadata(
        &self,
        tenant: TenantId,
    ) -> Result<Found<BTreeMap<String, MetricMetadata>>, ReadError> {
        self.inner.shared.metadata(tenant)
    }

    /// What a tenant's active series consist of; `of` says what is counted. In memory, but long work when there are
    /// millions: call it on a blocking thread.
    pub fn cardinality(&self, tenant: TenantId, of: &CardinalityOf) -> Cardinality {
        self.inner.shared.cardinality(tenant, of)
    }

    /// Writes everything acknowledged so far into a segment, tells the catalog, and gives the log's space back. The
    /// store does this by itself when its thresholds are reached.
    ///
    /// # Errors
    /// See [`FlushError`]; the samples stay in the head and the log.
    pub async fn flush(&self) -> Result<Flushed, FlushError> {
        self.inner.flush().await
    }

    /// Hands the usage of everything acknowledged so far to the catalog: call it before closing an hour. Returns the
    /// number of elements.
    ///
    /// # Errors
    /// [`FlushError::Catalog`]; the usage stays pending.
    pub async fn flush_usage(&self) -> Result<u64, FlushError> {
        self.inner.flush_usage().await
    }

    /// Deletes the tenant's parts of segments that are wholly older than `before`. A file goes when all its tenants'
    /// parts are gone. Returns the number of parts deleted.
    ///
    /// # Errors
    /// [`FlushError::Catalog`]; nothing was deleted.
    pub async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64, FlushError> {
        self.inner.retain(tenant, before).await
    }

    /// Figures for the operator.
    pub fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    /// Stops taking samples, hands over pending usage and waits for the store's thread and task. What is in the head
    /// stays in the log and is read from there when the store is opened again. Reads go on working.
    ///
    /// # Errors
    /// [`FlushError::Catalog`]; nothing is lost, the log has it.
    pub async fn shutdown(&self) -> Result<(), FlushError> {
        self.inner.shutdown().await
    }
}

/// What became of a batch that was to be queued.
enum Queued {
    /// The log's thread answers.
    Waiting(oneshot::Receiver<Result<Committed, AppendError>>),
    /// All samples were rejected.
    Nothing(Rejected),
}

impl Inner {
    fn send(&self, message: Message) -> Result<(), FlushError> {
        self.queue.send(message).map_err(|_| FlushError::ShutDown)
    }

    fn resolve(
        &self,
        tenant: &Tenant,
        limits: &TenantLimits,
        labels: &Labels,
        meta: SeriesMeta,
    ) -> Result<SeriesRef, LimitReached> {
        let fingerprint = labels.fingerprint();
        if let Some(series) = tenant.head.read().find(fingerprint, &meta) {
            return Ok(series);
        }
        let shared = &self.shared;
        let mut head = tenant.head.write();
        let is_new = !head.contains(fingerprint);
        if is_new {
            check_limits(labels, limits)?;
            let over = |limit, max| Err(too_many_series(limit, max, labels, &head));
            if head.series_count() as u64 >= u64::from(limits.active_series_max) {
                return over(Limit::ActiveSeries, limits.active_series_max);
            }
            let metric = labels.metric_name().unwrap_or_default();
            if head.series_of_metric(metric) >= u64::from(limits.series_of_metric_max) {
                return over(Limit::SeriesOfMetric, limits.series_of_metric_max);
            }
            let series_max = shared.options.series_max;
            let reserve = |count| (count < u64::from(series_max)).then_some(count + 1);
            if shared
                .series
                .fetch_update(Relaxed, Relaxed, reserve)
                .is_err()
            {
                return over(Limit::StoreSeries, series_max);
            }
        }
        let serial = shared.serials.fetch_add(1, Relaxed);
        let now = Timestamp(shared.latest_received.load(Relaxed));
        if is_new {
            shared.births.note(now, serial);
        }
        Ok(head.define(labels, fingerprint, meta, serial, now))
    }

    /// Makes a batch's record and queues it, both within one turn, so that the log has records in the order in which
    /// they were made.
    fn queue_batch(
        &self,
        tenant: TenantId,
        samples: &Samples<'_>,
        received: Timestamp,
    ) -> Result<Queued, AppendError> {
        check_columns(samples)?;
        if self.shared.is_closed.load(Relaxed) {
            return Err(AppendError::ShutDown);
        }
        let tenant = self.shared.tenant(tenant);
        let retention = tenant.limits.read().retention;
        let gate = self.shared.gate.read();
        let head = tenant.head.read();
        let (mut record, rejected) = accept(tenant.id, samples, received, retention);
        for (index, series) in samples.series.iter().enumerate() {
            if !head.touch(*series, gate.turn, received) {
                return Err(AppendError::UnknownSeries { index });
            }
        }
        if record.slots.is_empty() {
            return Ok(Queued::Nothing(rejected));
        }
        if !head.has_room_for(record.slots.len()) {
            return Err(AppendError::Overloaded {
                retry_after: OVERLOADED_RETRY,
                reason: "the head waits for a flush",
            });
        }
        let additions = head.additions(&record.slots, gate.epoch, received.hour());
        record.definitions = additions.definitions;
        record.usage = additions.usage;
        let mut bytes = Vec::with_capacity(64 + 12 * record.slots.len());
        record.encode(&mut bytes);
        let permit = self.admit(bytes.len())?;
        let (answer, waiting) = oneshot::channel();
        let batch = Batch {
            tenant: tenant.clone(),
            record,
            bytes,
            counted: additions.counted,
            rejected,
            epoch: gate.epoch,
            _permit: permit,
            answer,
        };
        self.send(Message::Batch(Box::new(batch)))
            .map_err(|_| AppendError::ShutDown)?;
        Ok(Queued::Waiting(waiting))
    }

    /// Takes a record's bytes from what may be in flight.
    fn admit(&self, bytes: usize) -> Result<tokio::sync::OwnedSemaphorePermit, AppendError> {
        let options = &self.shared.options;
        let max_bytes = payload_max_bytes(options.log_file_bytes);
        if bytes > max_bytes {
            return Err(AppendError::TooLarge { bytes, max_bytes });
        }
        // A record larger than the whole allowance takes all of it, small ones as much as their memory needs.
        let weight = (bytes.max(MEMORY_MIN_BYTES) as u32).min(options.in_flight_max_bytes);
        self.in_flight
            .clone()
            .try_acquire_many_owned(weight)
            .map_err(|_| AppendError::Overloaded {
                retry_after: OVERLOADED_RETRY,
                reason: "too much waits for the disk",
            })
    }

    fn stats(&self) -> StoreStats {
        let shared = &self.shared;
        let mut stats = StoreStats {
            log_bytes: shared.log_bytes.load(Relaxed),
            log_max_bytes: shared.options.log_file_bytes * u64::from(shared.options.log_files_max),
            samples_committed_total: shared.samples_total.load(Relaxed),
            commits_total: shared.commits_total.load(Relaxed),
            flush_failures_total: shared.flush_failures_total.load(Relaxed),
            ..StoreStats::default()
        };
        for tenant in shared.all_tenants() {
            let head = tenant.head.read();
            let figures = TenantStats {
                active_series: head.series_count() as u64,
                head_samples: head.sample_count() as u64,
            };
            stats.head_samples += figures.head_samples;
            stats.tenants.insert(tenant.id, figures);
        }
        stats.head_bytes = stats.head_samples * SAMPLE_BYTES;
        for segment in shared.segments.read().iter() {
            stats.segments += 1;
            stats.segment_bytes += segment.bytes;
            stats.segment_samples += segment.samples;
        }
        stats.bytes_per_sample = (stats.segment_samples > 0)
            .then(|| stats.segment_bytes as f64 / stats.segment_samples as f64);
        let pending = shared.pending_usage.lock();
        stats.usage_pending = pending.values().map(|usage| usage.len() as u64).sum();
        stats
    }

    async fn shutdown(&self) -> Result<(), FlushError> {
        self.shared.is_closed.store(true, Relaxed);
        // Lets the task notice.
        self.shared.flush_wanted.notify_one();
        let flusher = self.flusher.lock().take();
        if let Some(flusher) = flusher {
            // It ends by itself; a panic in it was reported when it happened.
            let _ = flusher.await;
        }
        let thread = {
            // Whoever holds the gate has queued or not: nothing follows the message to stop.
            let _gate = self.shared.gate.write();
            // It may have ended before.
            let _ = self.send(Message::Stop);
            self.committer.lock().take()
        };
        if let Some(thread) = thread {
            // As above.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.flush_usage().await.map(drop)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Relaxed);
        self.shared.flush_wanted.notify_one();
        // The thread may have ended before; one group at most is being synced.
        let _ = self.queue.send(Message::Stop);
        if let Some(thread) = self.committer.lock().take() {
            let _ = thread.join();
        }
    }
}

/// Flushes when the log's thread asks for it, until the store is closed or gone.
async fn flush_when_due(shared: Arc<Shared>, inner: std::sync::Weak<Inner>) {
    loop {
        shared.flush_wanted.notified().await;
        if shared.is_closed.load(Relaxed) {
            return;
        }
        let Some(inner) = inner.upgrade() else {
            return;
        };
        match inner.flush().await {
            Ok(flushed) => {
                let segment = flushed.segment.as_ref();
                tracing::debug!(
                    segment.id = segment.map(|segment| segment.id.0),
                    segment.samples = segment.map(|segment| segment.samples),
                    segment.bytes = segment.map(|segment| segment.bytes),
                    "flushed the head"
                );
            }
            Err(FlushError::ShutDown) => return,
            Err(error) => {
                tracing::error!(%error, "cannot flush; trying again");
                drop(inner);
                tokio::time::sleep(FLUSH_RETRY).await;
                shared.flush_wanted.notify_one();
            }
        }
    }
}

/// What a record takes in memory at least.
const MEMORY_MIN_BYTES: usize = 1024;

fn check_columns(samples: &Samples<'_>) -> Result<(), AppendError> {
    let (series, times, values) = (
        samples.series.len(),
        samples.time_unix_ms.len(),
        samples.values.len(),
    );
    if series != times || series != values {
        return Err(AppendError::UnequalColumns {
            series,
            times,
            values,
        });
    }
    Ok(())
}

fn acceptable_times(received: Timestamp, retention: Duration) -> std::ops::RangeInclusive<i64> {
    (received - retention).0..=(received + AHEAD_MAX).0
}

/// Takes the samples whose times are acceptable.
fn accept(
    tenant: TenantId,
    samples: &Samples<'_>,
    received: Timestamp,
    retention: Duration,
) -> (Record, Rejected) {
    let acceptable = acceptable_times(received, retention);
    let mut rejected = Rejected::default();
    let mut record = Record {
        tenant,
        received,
        definitions: Vec::new(),
        usage: Vec::new(),
        slots: Vec::with_capacity(samples.series.len()),
        times_ms: Vec::with_capacity(samples.series.len()),
        values: Vec::with_capacity(samples.series.len()),
    };
    let times = samples.time_unix_ms.iter();
    for ((series, time), value) in samples.series.iter().zip(times).zip(samples.values) {
        if time > acceptable.end() {
            rejected.too_far_ahead += 1;
        } else if time < acceptable.start() {
            rejected.too_old += 1;
        } else {
            record.slots.push(series.slot);
            record.times_ms.push(*time);
            record.values.push(*value);
        }
    }
    (record, rejected)
}

fn check_limits(labels: &Labels, limits: &TenantLimits) -> Result<(), LimitReached> {
    if labels.len() as u64 > u64::from(limits.labels_max) {
        return Err(limit_reached(
            Limit::Labels,
            limits.labels_max,
            labels,
            None,
        ));
    }
    for label in labels {
        let checks = [
            (
                Limit::LabelNameBytes,
                &label.name,
                limits.label_name_max_bytes,
            ),
            (
                Limit::LabelValueBytes,
                &label.value,
                limits.label_value_max_bytes,
            ),
        ];
        for (limit, text, max) in checks {
            if text.len() as u64 > u64::from(max) {
                return Err(limit_reached(limit, max, labels, Some(&label.name)));
            }
        }
    }
    Ok(())
}

fn limit_reached(limit: Limit, max: u32, labels: &Labels, label: Option<&str>) -> LimitReached {
    let cut = |text: &str| text.chars().take(100).collect();
    LimitReached {
        limit,
        max: u64::from(max),
        metric: cut(labels.metric_name().unwrap_or_default()),
        label: label.map(cut),
        label_values: None,
    }
}

fn too_many_series(limit: Limit, max: u32, labels: &Labels, head: &TenantHead) -> LimitReached {
    let growing = head.growing_label(labels);
    LimitReached {
        label_values: growing.map(|(_, values)| values),
        ..limit_reached(limit, max, labels, growing.map(|(label, _)| label))
    }
}
