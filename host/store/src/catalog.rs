//! The store's view of SQL: which segments there are, and up to where the log is in them.
//!
//! The server implements [`Catalog`] over its database; [`MemoryCatalog`] serves tests and tools. A commit is one
//! transaction: a flush makes its segment visible, releases its part of the log and hands over its usage, or does
//! none of it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use parking_lot::Mutex;
use shoal_model::TenantId;
use shoal_model::usage::Usage;

/// A segment's number; never used twice. Fits into SQL's signed 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u64);

/// What the catalog keeps of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRecord {
    /// Its number.
    pub id: SegmentId,
    /// Its file's name within the store's folder of segments.
    pub file_name: String,
    /// Time of its earliest sample, in milliseconds since the epoch.
    pub min_time_ms: i64,
    /// Time of its latest sample, in milliseconds since the epoch.
    pub max_time_ms: i64,
    /// Samples in it.
    pub samples: u64,
    /// Series in it, over all tenants.
    pub series: u64,
    /// Size of its file, in bytes.
    pub bytes: u64,
    /// First commit in it.
    pub first_sequence: u64,
    /// The commit after the last one in it. Of samples with equal series and time, the one in the segment with the
    /// higher `end_sequence` wins.
    pub end_sequence: u64,
    /// The tenants whose samples are in it and not yet expired, by id.
    pub tenants: Vec<SegmentTenant>,
}

/// One tenant's part of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentTenant {
    /// Whose.
    pub tenant: TenantId,
    /// Time of the tenant's earliest sample, in milliseconds since the epoch.
    pub min_time_ms: i64,
    /// Time of the tenant's latest sample, in milliseconds since the epoch.
    pub max_time_ms: i64,
    /// The tenant's samples.
    pub samples: u64,
    /// The tenant's series.
    pub series: u64,
}

/// All that the catalog knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogState {
    /// The visible segments, in any order.
    pub segments: Vec<SegmentRecord>,
    /// Commits of the log with lower sequence numbers are in segments. 0 at first.
    pub log_position: u64,
    /// Higher than the number of every segment that was ever added, those that are gone included. 0 at first.
    pub next_segment: u64,
}

/// One transaction on the catalog. Doing the same change again must change nothing: after an error the store cannot
/// know whether the transaction was committed and repeats it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogChange {
    /// Segments that become visible; insert or replace by id.
    pub add: Vec<SegmentRecord>,
    /// Segments that go; their files are deleted after the commit. Unknown ids are no error.
    pub remove: Vec<SegmentId>,
    /// Tenants' parts of segments that have expired: the tenant leaves [`SegmentRecord::tenants`].
    pub remove_tenants: Vec<(SegmentId, TenantId)>,
    /// Elements to unite with the usage set; those already in it are no error.
    pub usage: Vec<(TenantId, Usage)>,
    /// The new [`CatalogState::log_position`], if it moves. It never moves back.
    pub log_position: Option<u64>,
}

/// The catalog could not be read or changed; the store tries again at its next flush.
#[derive(Debug, thiserror::Error)]
#[error("the catalog failed: {0}")]
pub struct CatalogError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl CatalogError {
    /// Wraps the cause.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CatalogError {
        CatalogError(cause.into())
    }
}

/// Where the store's metadata lives.
///
/// The store calls [`Catalog::load`] once, when it is opened, and [`Catalog::commit`] at every flush, retention run
/// and [`crate::Store::flush_usage`], one call at a time.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Reads everything.
    async fn load(&self) -> Result<CatalogState, CatalogError>;

    /// Applies a change in one transaction, durably: when this returns `Ok`, a power cut does not undo it.
    async fn commit(&self, change: CatalogChange) -> Result<(), CatalogError>;
}

/// A catalog in memory, for tests and tools: it forgets everything when dropped.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    content: Mutex<MemoryContent>,
}

#[derive(Clone, Debug, Default)]
struct MemoryContent {
    state: CatalogState,
    usage: BTreeMap<TenantId, BTreeSet<Usage>>,
}

impl MemoryCatalog {
    /// An empty catalog.
    pub fn new() -> MemoryCatalog {
        MemoryCatalog::default()
    }

    /// What a store would load.
    pub fn state(&self) -> CatalogState {
        self.content.lock().state.clone()
    }

    /// The usage that has reached the catalog.
    pub fn usage(&self, tenant: TenantId) -> BTreeSet<Usage> {
        self.content
            .lock()
            .usage
            .get(&tenant)
            .cloned()
            .unwrap_or_default()
    }

    /// Applies a change.
    pub fn apply(&self, change: CatalogChange) {
        let mut content = self.content.lock();
        let CatalogChange {
            add,
            remove,
            remove_tenants,
            usage,
            log_position,
        } = change;
        let state = &mut content.state;
        state
            .segments
            .retain(|segment| add.iter().all(|added| added.id != segment.id));
        let after = add.iter().map(|added| added.id.0 + 1).max();
        state.next_segment = state.next_segment.max(after.unwrap_or(0));
        state.segments.extend(add);
        state
            .segments
            .retain(|segment| !remove.contains(&segment.id));
        for segment in &mut state.segments {
            segment
                .tenants
                .retain(|part| !remove_tenants.contains(&(segment.id, part.tenant)));
        }
        if let Some(position) = log_position {
            state.log_position = state.log_position.max(position);
        }
        for (tenant, element) in usage {
            content.usage.entry(tenant).or_default().insert(element);
        }
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn load(&self) -> Result<CatalogState, CatalogError> {
        Ok(self.state())
    }

    async fn commit(&self, change: CatalogChange) -> Result<(), CatalogError> {
        self.apply(change);
        Ok(())
    }
}
