//! What the handle, the log's thread and the flushing task share.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use shoal_model::usage::Usage;
use shoal_model::{TenantId, Timestamp};
use tokio::sync::Notify;

use crate::cardinality::Births;
use crate::catalog::SegmentRecord;
use crate::head::TenantHead;
use crate::options::{StoreOptions, TenantLimits};
use crate::segment::cache::IndexCache;

/// Lock order: `gate`, `tenants`, a tenant's `head`, the others. None is held across an await or a disk access, but
/// for `segments`, which is held for reading while files are opened.
pub(crate) struct Shared {
    pub(crate) options: StoreOptions,
    pub(crate) segment_folder: PathBuf,
    /// Held for reading while an append makes its record and queues it.
    pub(crate) gate: RwLock<Gate>,
    pub(crate) tenants: RwLock<HashMap<TenantId, Arc<Tenant>>>,
    /// By ascending `end_sequence`: later ones win.
    pub(crate) segments: RwLock<Vec<Arc<SegmentRecord>>>,
    pub(crate) indexes: IndexCache,
    pub(crate) pending_usage: Mutex<PendingUsage>,
    pub(crate) flush_wanted: Notify,
    pub(crate) is_closed: AtomicBool,
    /// Where new series get their serial numbers from.
    pub(crate) serials: AtomicU64,
    pub(crate) births: Births,
    pub(crate) series: AtomicU64,
    pub(crate) head_samples: AtomicU64,
    /// `received` of the oldest commit in the head; `i64::MAX` when it is empty.
    pub(crate) head_since: AtomicI64,
    /// The latest `received`: the store's notion of now.
    pub(crate) latest_received: AtomicI64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) samples_total: AtomicU64,
    pub(crate) commits_total: AtomicU64,
    pub(crate) flush_failures_total: AtomicU64,
}

/// Counts what cuts the stream of appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    /// Grows with every flush. Definitions of series hold within one epoch: what was logged before may be overwritten.
    pub(crate) epoch: u64,
    /// Grows with every flush and every eviction; see [`TenantHead::evict`].
    pub(crate) turn: u64,
}

/// Usage that is durable in the log but not yet in the catalog.
pub(crate) type PendingUsage = HashMap<TenantId, HashSet<Usage>>;

/// One tenant's part of memory.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) limits: RwLock<Arc<TenantLimits>>,
    pub(crate) head: RwLock<TenantHead>,
}

impl Shared {
    pub(crate) fn new(options: StoreOptions, segment_folder: PathBuf, now: Timestamp) -> Shared {
        Shared {
            indexes: IndexCache::new(options.index_cache_max_bytes),
            options,
            segment_folder,
            gate: RwLock::default(),
            tenants: RwLock::default(),
            segments: RwLock::default(),
            pending_usage: Mutex::default(),
            flush_wanted: Notify::new(),
            is_closed: AtomicBool::new(false),
            serials: AtomicU64::new(1),
            births: Births::default(),
            series: AtomicU64::new(0),
            head_samples: AtomicU64::new(0),
            head_since: AtomicI64::new(i64::MAX),
            latest_received: AtomicI64::new(now.0),
            log_bytes: AtomicU64::new(0),
            samples_total: AtomicU64::new(0),
            commits_total: AtomicU64::new(0),
            flush_failures_total: AtomicU64::new(0),
        }
    }

    /// A tenant that has sent something.
    pub(crate) fn known_tenant(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.tenants.read().get(&id).cloned()
    }

    /// A tenant, made when it is new.
    pub(crate) fn tenant(&self, id: TenantId) -> Arc<Tenant> {
        if let Some(tenant) = self.known_tenant(id) {
            return tenant;
        }
        let mut tenants = self.tenants.write();
        let tenant = tenants.entry(id).or_insert_with(|| {
            Arc::new(Tenant {
                id,
                limits: RwLock::new(Arc::new(self.options.tenant.clone())),
                head: RwLock::default(),
            })
        });
        tenant.clone()
    }

    /// All tenants, by id.
    pub(crate) fn all_tenants(&self) -> Vec<Arc<Tenant>> {
        let mut tenants: Vec<_> = self.tenants.read().values().cloned().collect();
        tenants.sort_by_key(|tenant| tenant.id);
        tenants
    }

    pub(crate) fn limits(&self, id: TenantId) -> Arc<TenantLimits> {
        match self.known_tenant(id) {
            Some(tenant) => tenant.limits.read().clone(),
            None => Arc::new(self.options.tenant.clone()),
        }
    }

    /// Notes a commit's samples in the head.
    pub(crate) fn note_samples(&self, samples: u64, received: Timestamp) {
        self.head_samples.fetch_add(samples, Relaxed);
        self.head_since.fetch_min(received.0, Relaxed);
        self.latest_received.fetch_max(received.0, Relaxed);
    }

    /// Adds usage to what the catalog still has to get.
    pub(crate) fn add_usage(&self, tenant: TenantId, usage: impl IntoIterator<Item = Usage>) {
        let mut usage = usage.into_iter().peekable();
        if usage.peek().is_some() {
            let mut pending = self.pending_usage.lock();
            pending.entry(tenant).or_default().extend(usage);
        }
    }

    /// Whether the head is large or old enough to be flushed.
    pub(crate) fn wants_flush(&self) -> bool {
        let since = Timestamp(self.head_since.load(Relaxed));
        let latest = Timestamp(self.latest_received.load(Relaxed));
        self.head_samples.load(Relaxed) >= self.options.head_samples_max
            || latest.since(since) >= self.options.head_age_max
    }
}
