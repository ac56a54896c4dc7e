//! Telemetry storage: what a sample goes through between its receiver and a query.
//!
//! A batch of samples becomes one record of the **commit log** (a local file, overwritten in place, synced by one
//! thread for all who wait), is acknowledged, and is then visible in the **head** (in memory, per tenant). A flush
//! turns the head into one immutable **segment** file, tells the [`Catalog`] (SQL, behind a trait) in one
//! transaction, and gives the log's space back.
//!
//! Invariants, each kept by a test:
//! 1. What [`Store::append`] acknowledged is on disk, together with the usage it makes; `kill -9` loses none of it.
//! 2. Overlap is legal: the same series and time may be in several places, the last commit wins.
//! 3. A damaged byte is an error that names its place, never a wrong value and never a panic.
//! 4. Nothing grows without a bound: see [`StoreOptions`] and [`TenantLimits`].
//!
//! Start with [`Store`]. This crate knows neither SQL, nor tenants' keys, nor PromQL, nor a clock.
#![warn(missing_docs)]
#![expect(
    clippy::disallowed_methods,
    reason = "`Store` is the owner of what runs here: its flusher, its committer and work on files"
)]

mod append;
mod cardinality;
mod catalog;
mod codec;
mod head;
mod log;
mod matcher;
mod options;
mod postings;
mod read;
mod segment;
mod series;
mod store;

pub use append::{AppendError, Committed, Rejected, STALE_NAN_BITS, Samples, is_stale};
pub use cardinality::{
    CARDINALITY_TOP_MAX, Cardinality, CardinalityOf, LabelCount, MetricCount, PairCount,
};
pub use catalog::{
    Catalog, CatalogChange, CatalogError, CatalogState, MemoryCatalog, SegmentId, SegmentRecord,
    SegmentTenant,
};
pub use matcher::{InvalidMatcher, MatchOp, Matcher};
pub use options::{StoreOptions, TenantLimits};
pub use read::{
    Checksums, DAMAGES_MAX, Damage, Found, MetricMetadata, ReadError, SelectedSeries, Selection,
};
pub use segment::compact::{CompactError, compact_segments};
pub use segment::page::ChecksumUse;
pub use segment::select::read_segment;
pub use segment::verify::Checked;
pub use segment::write::{Written, write_segment};
pub use series::{Limit, LimitReached, SeriesMeta, SeriesRef};
pub use store::{
    FlushError, Flushed, OpenError, Recovered, Store, StoreStats, TenantStats, verify,
    verify_log_bytes, verify_segment_bytes,
};
