//! Segments: immutable files with the samples of all tenants of one flush.
//!
//! ```text
//! "SHOALSEG" version
//! per tenant:  streams: times | integers, delta order 0 | 1 | 2 | floats    pages of 1024 values, chunks of `pco`
//!              stream directory, time vectors, series (pages of 1024), symbols,
//!              postings (a roaring bitmap each), their index (fst), metrics, header
//! directory of the tenants
//! trailer
//! ```
//!
//! All values of a tenant's series lie in a few streams, one after the other, series that behave alike side by side:
//! a series is a place in a stream, so that many series share a chunk and its tables. Equal time vectors are stored
//! once. Every page has a CRC-32C, which lies with the page's address in the page that leads to it; the trailer has
//! its own. Whatever byte changes, reading it is [`crate::ReadError::Damaged`].
//!
//! [`write`] makes files, [`read`] reads them, [`values`] decides how a series is stored, [`stream`] stores it.

pub(crate) mod cache;
pub(crate) mod page;
pub(crate) mod read;
pub(crate) mod series;
pub(crate) mod stream;
pub(crate) mod values;
pub(crate) mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;

pub(crate) const MAGIC: &[u8; 8] = b"SHOALSEG";
pub(crate) const VERSION: u32 = 1;
/// Magic, version, and nothing else.
pub(crate) const BEGIN_BYTES: usize = 12;
/// Directory's offset, length and CRC; version; CRC of these; magic.
pub(crate) const TRAILER_BYTES: usize = 32;
/// A tenant's entry in the directory: id, and offset, length and CRC of its header.
pub(crate) const DIRECTORY_ENTRY_BYTES: usize = 24;

/// Between name and value in the keys of the postings' index: in no UTF-8 text.
pub(crate) const KEY_SEPARATOR: u8 = 0xff;

/// A series to be written: sorted times without repetition, as many values.
#[derive(Clone, Debug)]
pub(crate) struct SeriesInput {
    pub(crate) labels: Labels,
    pub(crate) kind: MetricKind,
    pub(crate) unit: Arc<str>,
    pub(crate) times_ms: Vec<i64>,
    pub(crate) values: Vec<f64>,
}
