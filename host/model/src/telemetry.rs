//! A batch of metrics as columns, and the check that makes it trustworthy.
//!
//! [`Metrics`] mirrors the interface `telemetry` of `wit/telemetry.wit` column by column; its documentation is there.
//! A batch from a plugin is only data: [`Metrics::validate`] turns it into [`ValidMetrics`], whose indices
//! need no further checks.

use std::ops::Range;

/// A batch of metrics as a plugin gave it. See `wit/telemetry.wit`.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the columns are documented in wit/telemetry.wit"
)]
pub struct Metrics {
    pub symbol_bytes: Vec<u8>,
    pub symbol_ends: Vec<u32>,
    pub set_pairs: Vec<u32>,
    pub set_ends: Vec<u32>,
    pub series: SeriesColumns,
    pub numbers: NumberColumns,
    pub histograms: HistogramColumns,
}

/// Metric streams. See `series` in `wit/telemetry.wit`.
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

/// Number points. See `numbers` in `wit/telemetry.wit`.
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

/// Histogram points. See `histograms` in `wit/telemetry.wit`.
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

/// What a stream measures and how its points relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MetricKind {
    /// A value that goes up and down.
    Gauge = 0,
    /// A running total that only grows.
    Counter = 1,
    /// A running total that may fall.
    UpDownCounter = 2,
    /// What was added since the point before; never negative.
    DeltaCounter = 3,
    /// What was added since the point before.
    DeltaUpDownCounter = 4,
    /// A distribution since the start.
    Histogram = 5,
    /// A distribution since the point before.
    DeltaHistogram = 6,
    /// Quantiles that the sender computed.
    Summary = 7,
}

impl MetricKind {
    /// The kind with a number of `wit/telemetry.wit`.
    pub fn from_number(number: u8) -> Option<MetricKind> {
        use MetricKind::*;
        [
            Gauge,
            Counter,
            UpDownCounter,
            DeltaCounter,
            DeltaUpDownCounter,
            Histogram,
            DeltaHistogram,
            Summary,
        ]
        .get(usize::from(number))
        .copied()
    }

    /// Whether a point holds only what happened since the point before.
    pub fn is_delta(self) -> bool {
        matches!(
            self,
            Self::DeltaCounter | Self::DeltaUpDownCounter | Self::DeltaHistogram
        )
    }
}

/// What a number point is of its stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NumberPart {
    /// The value itself.
    Value,
    /// The sum of a summary.
    Sum,
    /// The count of a summary.
    Count,
    /// A quantile of a summary, 0 to 1.
    Quantile(f64),
}

/// A batch breaks a rule. The plugin that made it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{column}[{row}]: {reason}")]
pub struct MalformedMetrics {
    /// Which column, as `wit/telemetry.wit` names it.
    pub column: &'static str,
    /// Which row of it.
    pub row: usize,
    /// What is wrong there.
    pub reason: String,
}

/// A batch whose indices, offsets and text have been checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValidMetrics(Metrics);

impl Metrics {
    /// Checks every index, offset, length, number range and UTF-8 sequence.
    ///
    /// Takes time in proportion to the batch and allocates nothing.
    ///
    /// # Errors
    /// The first rule of `wit/telemetry.wit` that the batch breaks.
    pub fn validate(self) -> Result<ValidMetrics, MalformedMetrics> {
        self.check_symbols()?;
        self.check_sets()?;
        self.check_series()?;
        self.check_numbers()?;
        self.check_histograms()?;
        Ok(ValidMetrics(self))
    }

    fn check_symbols(&self) -> Result<(), MalformedMetrics> {
        check_ends("symbols.ends", &self.symbol_ends, self.symbol_bytes.len())?;
        let text = std::str::from_utf8(&self.symbol_bytes).map_err(|e| MalformedMetrics {
            column: "symbols.bytes",
            row: e.valid_up_to(),
            reason: "is not UTF-8".into(),
        })?;
        let cut = self
            .symbol_ends
            .iter()
            .position(|end| !text.is_char_boundary(*end as usize));
        at_fault("symbols.ends", cut, || "lies inside a character".into())
    }

    fn check_sets(&self) -> Result<(), MalformedMetrics> {
        check_below(
            "sets.pairs",
            &self.set_pairs,
            self.symbol_ends.len(),
            "symbols",
        )?;
        if !self.set_pairs.len().is_multiple_of(2) {
            return at_fault("sets.pairs", Some(self.set_pairs.len()), || {
                "a name without a value".into()
            });
        }
        check_ends("sets.ends", &self.set_ends, self.set_pairs.len() / 2)
    }

    fn check_series(&self) -> Result<(), MalformedMetrics> {
        let s = &self.series;
        let rows = s.names.len();
        check_rows("series.units", s.units.len(), rows)?;
        check_rows("series.kinds", s.kinds.len(), rows)?;
        check_rows("series.resources", s.resources.len(), rows)?;
        check_rows("series.scopes", s.scopes.len(), rows)?;
        check_rows("series.attributes", s.attributes.len(), rows)?;
        check_below("series.names", &s.names, self.symbol_ends.len(), "symbols")?;
        check_below("series.units", &s.units, self.symbol_ends.len(), "symbols")?;
        check_below(
            "series.resources",
            &s.resources,
            self.set_ends.len(),
            "sets",
        )?;
        check_below("series.scopes", &s.scopes, self.set_ends.len(), "sets")?;
        check_below(
            "series.attributes",
            &s.attributes,
            self.set_ends.len(),
            "sets",
        )?;
        let odd = s
            .kinds
            .iter()
            .position(|kind| MetricKind::from_number(*kind).is_none());
        at_fault("series.kinds", odd, || "is not a kind (0 to 7)".into())?;
        let nameless = s
            .names
            .iter()
            .position(|name| symbol_range(&self.symbol_ends, *name).is_empty());
        at_fault("series.names", nameless, || "is empty".into())
    }

    fn check_numbers(&self) -> Result<(), MalformedMetrics> {
        let n = &self.numbers;
        let rows = n.series.len();
        check_rows("numbers.parts", n.parts.len(), rows)?;
        check_rows("numbers.quantiles", n.quantiles.len(), rows)?;
        check_rows("numbers.start-unix-nano", n.start_unix_nano.len(), rows)?;
        check_rows("numbers.time-unix-nano", n.time_unix_nano.len(), rows)?;
        check_rows("numbers.values", n.values.len(), rows)?;
        check_rows("numbers.stale", n.stale.len(), rows)?;
        check_below(
            "numbers.series",
            &n.series,
            self.series.names.len(),
            "series",
        )?;
        let odd = n.parts.iter().position(|part| *part > 3);
        at_fault("numbers.parts", odd, || "is not a part (0 to 3)".into())?;
        let histogram = n
            .series
            .iter()
            .position(|row| matches!(self.series.kinds[*row as usize], 5 | 6));
        at_fault("numbers.series", histogram, || {
            "refers to a histogram".into()
        })?;
        let parted = n.series.iter().zip(&n.parts).position(|(row, part)| {
            (*part != 0) != (self.series.kinds[*row as usize] == MetricKind::Summary as u8)
        });
        at_fault("numbers.parts", parted, || {
            "parts 1 to 3 belong to summaries, and only they have them".into()
        })
    }

    fn check_histograms(&self) -> Result<(), MalformedMetrics> {
        let h = &self.histograms;
        let rows = h.series.len();
        for (column, len) in [
            ("histograms.start-unix-nano", h.start_unix_nano.len()),
            ("histograms.time-unix-nano", h.time_unix_nano.len()),
            ("histograms.counts", h.counts.len()),
            ("histograms.sums", h.sums.len()),
            ("histograms.mins", h.mins.len()),
            ("histograms.maxs", h.maxs.len()),
            ("histograms.scales", h.scales.len()),
            ("histograms.zero-counts", h.zero_counts.len()),
            ("histograms.zero-thresholds", h.zero_thresholds.len()),
            ("histograms.positive-offsets", h.positive_offsets.len()),
            ("histograms.positive-ends", h.positive_ends.len()),
            ("histograms.negative-offsets", h.negative_offsets.len()),
            ("histograms.negative-ends", h.negative_ends.len()),
            ("histograms.bound-ends", h.bound_ends.len()),
            ("histograms.stale", h.stale.len()),
        ] {
            check_rows(column, len, rows)?;
        }
        check_below(
            "histograms.series",
            &h.series,
            self.series.names.len(),
            "series",
        )?;
        let number = h
            .series
            .iter()
            .position(|row| !matches!(self.series.kinds[*row as usize], 5 | 6));
        at_fault("histograms.series", number, || {
            "does not refer to a histogram".into()
        })?;
        let odd = h
            .scales
            .iter()
            .position(|scale| *scale != EXPLICIT_BOUNDS && !(-10..=20).contains(scale));
        at_fault("histograms.scales", odd, || {
            "is neither -128 nor from -10 to 20".into()
        })?;
        check_ends("histograms.bound-ends", &h.bound_ends, h.bounds.len())?;
        let mut at = 0;
        for row in 0..rows {
            let (positive, negative) =
                (h.positive_ends[row] as usize, h.negative_ends[row] as usize);
            if positive < at || negative < positive || negative > h.bucket_counts.len() {
                return at_fault("histograms.positive-ends", Some(row), || {
                    "falls or passes the end".into()
                });
            }
            let bounds = range(&h.bound_ends, row);
            let explicit = h.scales[row] == EXPLICIT_BOUNDS;
            let buckets = positive - at;
            if explicit
                && (negative != positive
                    || (buckets != bounds.len() + 1 && !(buckets == 0 && bounds.is_empty())))
            {
                return at_fault("histograms.positive-ends", Some(row), || {
                    format!("{buckets} buckets do not fit {} bounds", bounds.len())
                });
            }
            if explicit && !h.bounds[bounds].is_sorted_by(|a, b| a < b) {
                return at_fault("histograms.bounds", Some(row), || {
                    "the bounds do not rise".into()
                });
            }
            at = negative;
        }
        Ok(())
    }
}

impl ValidMetrics {
    /// The text of a symbol of this batch.
    pub fn symbol(&self, symbol: u32) -> &str {
        let bytes = &self.0.symbol_bytes[symbol_range(&self.0.symbol_ends, symbol)];
        std::str::from_utf8(bytes).expect("validated: symbols are UTF-8 cut between characters")
    }

    /// Name and value of each attribute of a set, in the sender's order.
    pub fn set(&self, set: u32) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.set_symbols(set)
            .iter()
            .map(|[name, value]| (self.symbol(*name), self.symbol(*value)))
    }

    /// Name and value symbol of each attribute of a set.
    pub fn set_symbols(&self, set: u32) -> &[[u32; 2]] {
        let range = range(&self.0.set_ends, set as usize);
        self.0.set_pairs[range.start * 2..range.end * 2]
            .as_chunks()
            .0
    }

    /// What a row of `series` measures.
    pub fn kind(&self, series: u32) -> MetricKind {
        MetricKind::from_number(self.0.series.kinds[series as usize]).expect("validated: 0 to 7")
    }

    /// What a row of `numbers` is of its stream.
    pub fn part(&self, row: usize) -> NumberPart {
        match self.0.numbers.parts[row] {
            0 => NumberPart::Value,
            1 => NumberPart::Sum,
            2 => NumberPart::Count,
            _ => NumberPart::Quantile(self.0.numbers.quantiles[row]),
        }
    }

    /// How many points there are, numbers and histograms.
    pub fn points(&self) -> usize {
        self.0.numbers.series.len() + self.0.histograms.series.len()
    }

    /// Where the positive (or explicit) buckets of a histogram row lie in `bucket_counts`.
    pub fn positive_buckets(&self, row: usize) -> Range<usize> {
        let h = &self.0.histograms;
        let start = if row == 0 {
            0
        } else {
            h.negative_ends[row - 1] as usize
        };
        start..h.positive_ends[row] as usize
    }

    /// Where the negative buckets of a histogram row lie in `bucket_counts`.
    pub fn negative_buckets(&self, row: usize) -> Range<usize> {
        let h = &self.0.histograms;
        h.positive_ends[row] as usize..h.negative_ends[row] as usize
    }

    /// Where the explicit bounds of a histogram row lie in `bounds`.
    pub fn explicit_bounds(&self, row: usize) -> Range<usize> {
        range(&self.0.histograms.bound_ends, row)
    }
}

/// Reads the columns.
impl std::ops::Deref for ValidMetrics {
    type Target = Metrics;
    fn deref(&self) -> &Metrics {
        &self.0
    }
}

/// Row `row` of something whose rows are cut at `ends`.
fn range(ends: &[u32], row: usize) -> Range<usize> {
    let start = if row == 0 { 0 } else { ends[row - 1] as usize };
    start..ends[row] as usize
}

fn symbol_range(ends: &[u32], symbol: u32) -> Range<usize> {
    range(ends, symbol as usize)
}

fn at_fault(
    column: &'static str,
    row: Option<usize>,
    reason: impl FnOnce() -> String,
) -> Result<(), MalformedMetrics> {
    match row {
        None => Ok(()),
        Some(row) => Err(MalformedMetrics {
            column,
            row,
            reason: reason(),
        }),
    }
}

fn check_rows(column: &'static str, len: usize, rows: usize) -> Result<(), MalformedMetrics> {
    let wrong = (len != rows).then_some(len.min(rows));
    at_fault(column, wrong, || {
        format!("has {len} rows where its first column has {rows}")
    })
}

/// Every value is below `bound`, the number of rows of `what`.
fn check_below(
    column: &'static str,
    values: &[u32],
    bound: usize,
    what: &str,
) -> Result<(), MalformedMetrics> {
    // The maximum first: it needs no early exit, so the compiler makes it a few vector instructions.
    if values
        .iter()
        .copied()
        .max()
        .is_none_or(|max| (max as usize) < bound)
    {
        return Ok(());
    }
    let row = values.iter().position(|value| *value as usize >= bound);
    at_fault(column, row, || format!("is beyond the {bound} {what}"))
}

/// Ends never fall and the last one is `len`.
fn check_ends(column: &'static str, ends: &[u32], len: usize) -> Result<(), MalformedMetrics> {
    if ends.last().map_or(0, |end| *end as usize) != len {
        return at_fault(column, Some(ends.len()), || {
            format!("the last end is not the length {len}")
        });
    }
    if ends.is_sorted() {
        return Ok(());
    }
    let row = ends
        .windows(2)
        .position(|pair| pair[0] > pair[1])
        .map(|row| row + 1);
    at_fault(column, row, || "is below the end before it".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One gauge `m` with one point.
    fn gauge() -> Metrics {
        Metrics {
            symbol_bytes: b"mkv".to_vec(),
            symbol_ends: vec![0, 1, 2, 3],
            set_pairs: vec![2, 3],
            set_ends: vec![0, 1],
            series: SeriesColumns {
                names: vec![1],
                units: vec![0],
                kinds: vec![0],
                resources: vec![1],
                scopes: vec![0],
                attributes: vec![0],
            },
            numbers: NumberColumns {
                series: vec![0],
                parts: vec![0],
                quantiles: vec![0.0],
                start_unix_nano: vec![0],
                time_unix_nano: vec![1],
                values: vec![1.0],
                stale: vec![0],
            },
            histograms: HistogramColumns::default(),
        }
    }

    /// One explicit histogram `m` with the given buckets and bounds.
    fn histogram(buckets: &[u64], bounds: &[f64]) -> Metrics {
        let mut metrics = gauge();
        metrics.series.kinds = vec![5];
        metrics.numbers = NumberColumns::default();
        metrics.histograms = HistogramColumns {
            series: vec![0],
            start_unix_nano: vec![0],
            time_unix_nano: vec![1],
            counts: vec![buckets.iter().sum()],
            sums: vec![0.0],
            mins: vec![f64::NAN],
            maxs: vec![f64::NAN],
            scales: vec![EXPLICIT_BOUNDS],
            zero_counts: vec![0],
            zero_thresholds: vec![0.0],
            positive_offsets: vec![0],
            positive_ends: vec![buckets.len() as u32],
            negative_offsets: vec![0],
            negative_ends: vec![buckets.len() as u32],
            bound_ends: vec![bounds.len() as u32],
            stale: vec![0],
            bucket_counts: buckets.to_vec(),
            bounds: bounds.to_vec(),
        };
        metrics
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Metrics), message: &str) {
        let mut metrics = gauge();
        change(&mut metrics);
        assert_eq!(
            metrics.validate().expect_err("refused").to_string(),
            message
        );
    }

    #[test]
    fn a_good_batch_reads_back() {
        let metrics = gauge().validate().expect("good");
        assert_eq!(metrics.symbol(metrics.series.names[0]), "m");
        assert_eq!(metrics.set(1).collect::<Vec<_>>(), [("k", "v")]);
        assert_eq!(metrics.set(0).len(), 0);
        assert!(Metrics::default().validate().is_ok());
        assert!(histogram(&[1, 2], &[0.5]).validate().is_ok());
        assert!(histogram(&[], &[]).validate().is_ok());
    }

    #[test]
    fn every_index_offset_and_text_is_checked() {
        refused(
            |m| m.symbol_bytes[0] = 0xff,
            "symbols.bytes[0]: is not UTF-8",
        );
        refused(
            |m| m.symbol_ends[1] = 3,
            "symbols.ends[2]: is below the end before it",
        );
        refused(
            |m| m.symbol_ends[3] = 9,
            "symbols.ends[4]: the last end is not the length 3",
        );
        refused(
            |m| m.symbol_bytes = "é!".into(),
            "symbols.ends[1]: lies inside a character",
        );
        refused(
            |m| m.set_pairs[1] = 4,
            "sets.pairs[1]: is beyond the 4 symbols",
        );
        refused(
            |m| m.set_pairs.push(1),
            "sets.pairs[3]: a name without a value",
        );
        refused(|m| m.series.names[0] = 0, "series.names[0]: is empty");
        refused(
            |m| m.series.names[0] = u32::MAX,
            "series.names[0]: is beyond the 4 symbols",
        );
        refused(
            |m| m.series.resources[0] = 2,
            "series.resources[0]: is beyond the 2 sets",
        );
        refused(
            |m| m.series.kinds[0] = 8,
            "series.kinds[0]: is not a kind (0 to 7)",
        );
        refused(
            |m| m.series.kinds[0] = 5,
            "numbers.series[0]: refers to a histogram",
        );
        refused(
            |m| m.series.kinds[0] = 7,
            "numbers.parts[0]: parts 1 to 3 belong to summaries, and only they have them",
        );
        refused(
            |m| m.numbers.series[0] = 1,
            "numbers.series[0]: is beyond the 1 series",
        );
        refused(
            |m| m.numbers.values.clear(),
            "numbers.values[0]: has 0 rows where its first column has 1",
        );
    }

    #[test]
    fn buckets_must_fit_their_bounds() {
        let refused = |metrics: Metrics| metrics.validate().expect_err("refused").to_string();
        assert_eq!(
            refused(histogram(&[1], &[0.5])),
            "histograms.positive-ends[0]: 1 buckets do not fit 1 bounds"
        );
        assert_eq!(
            refused(histogram(&[1, 1, 1], &[0.5, 0.5])),
            "histograms.bounds[0]: the bounds do not rise"
        );
        let mut metrics = histogram(&[1, 2], &[0.5]);
        metrics.histograms.negative_ends[0] = 3;
        assert_eq!(
            refused(metrics),
            "histograms.positive-ends[0]: falls or passes the end"
        );
    }

    proptest::proptest! {
        /// Whatever a plugin sends, validation answers, and what it lets through can be read.
        #[test]
        fn no_batch_makes_reading_panic(
            bytes in proptest::collection::vec(0u8..200, 0..8),
            ends in proptest::collection::vec(0u32..8, 0..5),
            pairs in proptest::collection::vec(0u32..5, 0..5),
            set_ends in proptest::collection::vec(0u32..4, 0..4),
            names in proptest::collection::vec(0u32..5, 0..3),
        ) {
            let mut metrics = gauge();
            metrics.symbol_bytes = bytes;
            metrics.symbol_ends = ends;
            metrics.set_pairs = pairs;
            metrics.set_ends = set_ends;
            metrics.series.names = names;
            if let Ok(valid) = metrics.validate() {
                for row in 0..valid.series.names.len() {
                    valid.symbol(valid.series.names[row]);
                    valid.set(valid.series.resources[row]).count();
                }
            }
        }
    }
}
