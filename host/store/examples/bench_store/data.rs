//! Samples as all stores get them.

use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;

/// The first sample's time: a fixed one in the past, at which two-hour blocks begin.
pub(crate) const BEGUN_MS: i64 = 1_767_225_600_000;

/// Prometheus' blocks, and the time after which Shoal flushes.
pub(crate) const BLOCK_MS: i64 = 2 * 3_600_000;

/// One set of samples.
pub(crate) struct Dataset {
    /// Of what and how.
    pub(crate) about: String,
    /// What the names of its figures end with.
    pub(crate) suffix: &'static str,
    /// By series, each at most once.
    pub(crate) series: Vec<Series>,
}

impl Dataset {
    pub(crate) fn samples(&self) -> u64 {
        self.series
            .iter()
            .map(|series| series.values.len() as u64)
            .sum()
    }
}

/// One series with its samples.
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) kind: MetricKind,
    /// Milliseconds since the epoch, strictly increasing.
    pub(crate) times_ms: Vec<i64>,
    /// As many, all finite: what is infinite or no number differs between the stores' imports.
    pub(crate) values: Vec<f64>,
}
