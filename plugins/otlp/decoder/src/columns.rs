//! A batch of metrics as columns.
//!
//! Mirrors the record `metrics` of the plugin contract (`wit/telemetry.wit`) field by field, so that a plugin
//! hands a batch to its host by moving vectors. The meaning of each column is documented there; only
//! what the decoder adds to that is said here:
//! symbol 0 is always the empty string and set 0 always the empty set.

/// A batch of metrics.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the columns are documented in wit/telemetry.wit"
)]
pub struct Columns {
    pub symbol_bytes: Vec<u8>,
    pub symbol_ends: Vec<u32>,
    pub set_pairs: Vec<u32>,
    pub set_ends: Vec<u32>,
    pub series: SeriesColumns,
    pub numbers: NumberColumns,
    pub histograms: HistogramColumns,
}

/// Metric streams.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the columns are documented in wit/telemetry.wit"
)]
pub struct SeriesColumns {
    pub names: Vec<u32>,
    pub units: Vec<u32>,
    pub kinds: Vec<u8>,
    pub resources: Vec<u32>,
    pub scopes: Vec<u32>,
    pub attributes: Vec<u32>,
}

/// Number points.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the columns are documented in wit/telemetry.wit"
)]
pub struct NumberColumns {
    pub series: Vec<u32>,
    pub parts: Vec<u8>,
    pub quantiles: Vec<f64>,
    pub start_unix_nano: Vec<u64>,
    pub time_unix_nano: Vec<u64>,
    pub values: Vec<f64>,
    pub stale: Vec<u8>,
}

/// Histogram points.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the columns are documented in wit/telemetry.wit"
)]
pub struct HistogramColumns {
    pub series: Vec<u32>,
    pub start_unix_nano: Vec<u64>,
    pub time_unix_nano: Vec<u64>,
    pub counts: Vec<u64>,
    pub sums: Vec<f64>,
    pub mins: Vec<f64>,
    pub maxs: Vec<f64>,
    pub scales: Vec<i8>,
    pub zero_counts: Vec<u64>,
    pub zero_thresholds: Vec<f64>,
    pub positive_offsets: Vec<i32>,
    pub positive_ends: Vec<u32>,
    pub negative_offsets: Vec<i32>,
    pub negative_ends: Vec<u32>,
    pub bound_ends: Vec<u32>,
    pub stale: Vec<u8>,
    pub bucket_counts: Vec<u64>,
    pub bounds: Vec<f64>,
}

/// [`HistogramColumns::scales`] of a point with explicit bounds.
pub const EXPLICIT_BOUNDS: i8 = -128;

/// [`NumberColumns::parts`]: the value itself.
pub const PART_VALUE: u8 = 0;
/// [`NumberColumns::parts`]: the sum of a summary.
pub const PART_SUM: u8 = 1;
/// [`NumberColumns::parts`]: the count of a summary.
pub const PART_COUNT: u8 = 2;
/// [`NumberColumns::parts`]: a quantile of a summary.
pub const PART_QUANTILE: u8 = 3;

impl Columns {
    /// Whether there is no point in the batch.
    pub fn is_empty(&self) -> bool {
        self.numbers.series.is_empty() && self.histograms.series.is_empty()
    }

    /// The bytes of a symbol.
    pub(crate) fn symbol(&self, symbol: u32) -> &[u8] {
        &self.symbol_bytes[range(&self.symbol_ends, symbol)]
    }

    /// Name and value symbols of a set, alternating.
    pub(crate) fn set(&self, set: u32) -> &[u32] {
        let attributes = range(&self.set_ends, set);
        &self.set_pairs[attributes.start * 2..attributes.end * 2]
    }

    /// Empties every column, keeping its memory.
    pub(crate) fn clear(&mut self) {
        self.symbol_bytes.clear();
        self.symbol_ends.clear();
        self.set_pairs.clear();
        self.set_ends.clear();
        self.truncate(0, 0, 0);
    }

    /// Keeps the first rows of the three tables of points and streams.
    pub(crate) fn truncate(&mut self, series: usize, numbers: usize, histograms: usize) {
        let s = &mut self.series;
        s.kinds.truncate(series);
        for column in [
            &mut s.names,
            &mut s.units,
            &mut s.resources,
            &mut s.scopes,
            &mut s.attributes,
        ] {
            column.truncate(series);
        }
        let n = &mut self.numbers;
        n.series.truncate(numbers);
        n.parts.truncate(numbers);
        n.quantiles.truncate(numbers);
        n.start_unix_nano.truncate(numbers);
        n.time_unix_nano.truncate(numbers);
        n.values.truncate(numbers);
        n.stale.truncate(numbers);
        self.histograms.truncate(histograms);
    }
}

impl HistogramColumns {
    fn truncate(&mut self, rows: usize) {
        for column in [
            &mut self.start_unix_nano,
            &mut self.time_unix_nano,
            &mut self.counts,
            &mut self.zero_counts,
        ] {
            column.truncate(rows);
        }
        for column in [
            &mut self.sums,
            &mut self.mins,
            &mut self.maxs,
            &mut self.zero_thresholds,
        ] {
            column.truncate(rows);
        }
        for column in [
            &mut self.series,
            &mut self.positive_ends,
            &mut self.negative_ends,
            &mut self.bound_ends,
        ] {
            column.truncate(rows);
        }
        self.positive_offsets.truncate(rows);
        self.negative_offsets.truncate(rows);
        self.scales.truncate(rows);
        self.stale.truncate(rows);
        let buckets = self.negative_ends.last().map_or(0, |end| *end as usize);
        self.bucket_counts.truncate(buckets);
        let bounds = self.bound_ends.last().map_or(0, |end| *end as usize);
        self.bounds.truncate(bounds);
    }
}

/// Row `row` of something whose rows are cut at `ends`.
fn range(ends: &[u32], row: u32) -> std::ops::Range<usize> {
    let row = row as usize;
    let start = if row == 0 { 0 } else { ends[row - 1] as usize };
    start..ends[row] as usize
}
