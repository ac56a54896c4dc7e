//! Segments: immutable files with the samples of all tenants of one flush or one compaction.
//!
//! ```text
//! "SHOALSEG" version
//! per tenant:  streams: times | integers | floats     pages of at most 360 or 1024 samples, in chunks of `pco`
//!              directory of each stream, time vectors
//!              series (pages of 128), their table
//!              labels (fst), sets of series (ranges, lists, roaring) and their table
//!              kinds and units, metrics
//!              header: a list of these sections
//! directory of the tenants
//! trailer
//! ```
//!
//! What makes it small: equal time vectors are stored once; constants are in their series' entry; exact decimals are
//! integers, divided by what they have in common; NaNs and other odd bits are patches; series that behave alike lie
//! side by side and share `pco` tables. Every bit comes back.
//!
//! Every page and section has a CRC-32C, which lies with its address in what leads to it; the trailer has its own.
//! Whatever byte changes, what cannot be read is named ([`crate::Damage`]) and the rest is read.
//!
//! | file | does |
//! |---|---|
//! | [`write`], [`read`], [`select`] | files: make them; open them and find series; read samples |
//! | [`values`], [`integers`] | how one column is stored; how integers become small |
//! | [`chunk`], [`stream`], [`pages`] | chunks of `pco`; columns to pages; pages to columns |
//! | [`series`], [`postings`], [`section`], [`page`] | series table; labels; compressed tables; checked bytes |
//! | [`compact`], [`verify`], [`cache`] | several segments to one; every byte checked; indexes in memory |

pub(crate) mod cache;
pub(crate) mod chunk;
pub(crate) mod compact;
pub(crate) mod integers;
pub(crate) mod page;
pub(crate) mod pages;
pub(crate) mod postings;
pub(crate) mod read;
pub(crate) mod section;
pub(crate) mod select;
pub(crate) mod series;
pub(crate) mod stream;
pub(crate) mod values;
pub(crate) mod verify;
pub(crate) mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;

pub(crate) const MAGIC: &[u8; 8] = b"SHOALSEG";
pub(crate) const VERSION: u32 = 2;
/// Magic, version, and nothing else.
pub(crate) const BEGIN_BYTES: usize = 12;
/// Directory's offset, length and CRC; version; CRC of these; magic.
pub(crate) const TRAILER_BYTES: usize = 32;
/// A tenant's entry in the directory: id, and offset, length and CRC of its header.
pub(crate) const DIRECTORY_ENTRY_BYTES: usize = 24;

/// A series to be written: sorted times without repetition, as many values.
#[derive(Clone, Debug)]
pub(crate) struct SeriesInput {
    pub(crate) labels: Labels,
    pub(crate) kind: MetricKind,
    pub(crate) unit: Arc<str>,
    pub(crate) times_ms: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

/// A tenant's tables, by the number that its header has for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    Times = 1,
    Integers = 2,
    Floats = 3,
    Vectors = 4,
    Series = 5,
    Labels = 6,
    Postings = 7,
    Metas = 8,
    Metrics = 9,
}

impl Section {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Section::Times => "times directory",
            Section::Integers => "integers directory",
            Section::Floats => "floats directory",
            Section::Vectors => "time vectors",
            Section::Series => "series table",
            Section::Labels => "labels",
            Section::Postings => "postings table",
            Section::Metas => "kinds and units",
            Section::Metrics => "metrics",
        }
    }

    /// What the pages are called that it leads to.
    pub(crate) fn pages_name(self) -> &'static str {
        match self {
            Section::Times => "times",
            Section::Integers => "integer values",
            Section::Floats => "float values",
            Section::Series => "series",
            Section::Postings => "postings",
            other => other.name(),
        }
    }
}
