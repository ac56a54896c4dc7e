//! Where series come from: the one trait through which queries see data.

use shoal_model::labels::Labels;

use crate::matcher::Matcher;

/// Bits of the value that marks the end of a series. A sample with it makes the series absent from its time on,
/// until the next ordinary sample.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether a value is the stale marker; a NaN that was measured is not.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// One series with its samples in a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesData {
    /// Its labels.
    pub labels: Labels,
    /// Times in milliseconds since the epoch, strictly increasing.
    pub times_ms: Vec<i64>,
    /// As many values; stale markers are among them.
    pub values: Vec<f64>,
}

/// Series could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// More matches than one query may read. The message says what to do.
    #[error("{0}")]
    TooMuch(String),
    /// The data cannot be read now.
    #[error("the data cannot be read: {0}")]
    Unavailable(String),
}

/// Gives series to queries.
pub trait SeriesSource {
    /// The series that satisfy all matchers, each at most once and in an order that does not change, with their samples
    /// from `from_ms` to `to_ms`, both included. Series without samples there may be left out.
    ///
    /// Called once for each selector of a query, from the thread that evaluates.
    ///
    /// # Errors
    /// See [`SourceError`].
    fn select(
        &self,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<SeriesData>, SourceError>;
}
