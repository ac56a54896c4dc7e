//! What a read returns.

use std::path::PathBuf;
use std::sync::Arc;

use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;

/// The series that matched, sorted by labels, each at most once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Series with at least one sample in the range.
    pub series: Vec<SelectedSeries>,
}

/// One series with its samples in the range.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedSeries {
    /// Its labels.
    pub labels: Labels,
    /// What it measures.
    pub kind: MetricKind,
    /// Its unit as the sender wrote it; empty when unknown.
    pub unit: Arc<str>,
    /// Times in milliseconds since the epoch, strictly increasing.
    pub times_ms: Vec<i64>,
    /// As many values; stale markers are among them (see [`crate::is_stale`]).
    pub values: Vec<f64>,
}

/// What is known of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricMetadata {
    /// What it measures.
    pub kind: MetricKind,
    /// Its unit as the sender wrote it; empty when unknown.
    pub unit: Arc<str>,
}

/// A read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// More samples match than one read may return.
    #[error("the query reads more than {max} samples: shorten its range or select fewer series")]
    TooManySamples {
        /// [`crate::TenantLimits::select_samples_max`].
        max: u64,
    },
    /// More series match than one read may return.
    #[error("the query selects more than {max} series: add matchers")]
    TooManySeries {
        /// [`crate::TenantLimits::select_series_max`].
        max: u64,
    },
    /// A segment is damaged; other segments can be read.
    #[error(
        "{} is damaged in its {section} at byte {offset}: {reason}; restore the file or remove it from the catalog",
        .file.display()
    )]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Which part of it, such as `values`.
        section: &'static str,
        /// Where the damaged page begins.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A segment could not be read.
    #[error("cannot read {}: {error}", .file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}
