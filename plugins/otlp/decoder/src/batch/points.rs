//! Data points: what OTLP asks of each type, and its rows.

use super::rejection::Reason;
use super::{Batch, index};
use crate::columns::{EXPLICIT_BOUNDS, PART_COUNT, PART_QUANTILE, PART_SUM, PART_VALUE};

/// The bit of a point's flags that says that it has no value (`NO_RECORDED_VALUE`).
const NO_RECORDED_VALUE: u64 = 1;

/// Scales that a column can hold and a host understands.
const SCALE_MIN: i32 = -10;
const SCALE_MAX: i32 = 20;

/// A point of a gauge or a sum.
#[derive(Clone, Copy, Default)]
pub(crate) struct NumberPoint {
    pub(crate) set: u32,
    pub(crate) start_unix_nano: u64,
    pub(crate) time_unix_nano: u64,
    pub(crate) value: Option<f64>,
    pub(crate) flags: u64,
}

/// A point of either kind of histogram.
#[derive(Default)]
pub(crate) struct HistogramPoint {
    pub(crate) set: u32,
    pub(crate) start_unix_nano: u64,
    pub(crate) time_unix_nano: u64,
    pub(crate) count: u64,
    pub(crate) sum: Option<f64>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) flags: u64,
    pub(crate) layout: Layout,
    /// Explicit buckets, or the positive ones.
    pub(crate) positive: Buckets,
    pub(crate) negative: Buckets,
    pub(crate) bounds: Vec<f64>,
}

/// What the buckets of a histogram mean.
#[derive(Clone, Copy, Default)]
pub(crate) enum Layout {
    /// They lie between given bounds.
    #[default]
    Explicit,
    /// They grow by a factor of `2^(2^-scale)`.
    Exponential {
        scale: i32,
        zero_count: u64,
        zero_threshold: f64,
    },
}

/// Consecutive buckets.
#[derive(Default)]
pub(crate) struct Buckets {
    /// Index of the first; 0 for explicit ones.
    pub(crate) offset: i32,
    pub(crate) counts: Vec<u64>,
}

/// A point of a summary.
#[derive(Default)]
pub(crate) struct SummaryPoint {
    pub(crate) set: u32,
    pub(crate) start_unix_nano: u64,
    pub(crate) time_unix_nano: u64,
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) flags: u64,
    /// Quantile and value.
    pub(crate) quantiles: Vec<(f64, f64)>,
}

/// Points whose buffers are used again and again, and a text for values that are not strings.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) histogram: HistogramPoint,
    pub(crate) summary: SummaryPoint,
    pub(crate) text: String,
}

impl HistogramPoint {
    /// An empty point that keeps its buffers.
    pub(crate) fn clear(&mut self, layout: Layout) {
        let mut cleared = HistogramPoint {
            layout,
            positive: std::mem::take(&mut self.positive),
            negative: std::mem::take(&mut self.negative),
            bounds: std::mem::take(&mut self.bounds),
            ..HistogramPoint::default()
        };
        cleared.positive.clear();
        cleared.negative.clear();
        cleared.bounds.clear();
        *self = cleared;
    }

    fn check_explicit(&self) -> Result<(), Reason> {
        let (buckets, bounds) = (self.positive.counts.len(), self.bounds.len());
        if buckets != bounds + 1 && !(buckets == 0 && bounds == 0) {
            return Err(Reason::BucketCount { buckets, bounds });
        }
        let is_finite = self.bounds.iter().all(|bound| bound.is_finite());
        match is_finite && self.bounds.is_sorted_by(|low, high| low < high) {
            true => Ok(()),
            false => Err(Reason::Bounds),
        }
    }

    /// Brings the scale into range: above it, neighbouring buckets are merged, which loses only resolution.
    fn fit_scale(&mut self) -> Result<(), Reason> {
        let Layout::Exponential {
            scale,
            zero_threshold,
            ..
        } = &mut self.layout
        else {
            return Ok(());
        };
        if *scale < SCALE_MIN {
            return Err(Reason::Scale(*scale));
        }
        if !zero_threshold.is_finite() || *zero_threshold < 0.0 {
            return Err(Reason::ZeroThreshold(*zero_threshold));
        }
        self.positive.check()?;
        self.negative.check()?;
        let halvings = scale.saturating_sub(SCALE_MAX).clamp(0, 63);
        if halvings > 0 {
            *scale = SCALE_MAX;
            self.positive.merge(halvings);
            self.negative.merge(halvings);
        }
        Ok(())
    }
}

impl Buckets {
    pub(crate) fn clear(&mut self) {
        self.offset = 0;
        self.counts.clear();
    }

    /// The index after the last bucket must be a number of 32 bits, so that nobody's arithmetic overflows.
    fn check(&self) -> Result<(), Reason> {
        match self.offset.checked_add_unsigned(index(self.counts.len())) {
            Some(end) if end < i32::MAX => Ok(()),
            _ => Err(Reason::BucketOffset(self.offset)),
        }
    }

    /// Merges `2^halvings` neighbours each. Source: OTLP, "exponential scale".
    fn merge(&mut self, halvings: i32) {
        let wide = |at: usize| (i64::from(self.offset) + at as i64) >> halvings;
        let first = wide(0);
        let mut last = 0;
        for at in 1..self.counts.len() {
            let into = (wide(at) - first) as usize;
            let count = self.counts[at];
            if into > last {
                self.counts[into] = count;
                last = into;
            } else {
                self.counts[into] = self.counts[into].saturating_add(count);
            }
        }
        self.counts.truncate(last + 1);
        self.offset = i32::try_from(first).expect("a shifted number of 32 bits is one");
    }
}

impl SummaryPoint {
    /// An empty point that keeps its buffer.
    pub(crate) fn clear(&mut self) {
        let mut quantiles = std::mem::take(&mut self.quantiles);
        quantiles.clear();
        *self = SummaryPoint {
            quantiles,
            ..SummaryPoint::default()
        };
    }
}

fn is_stale(flags: u64) -> bool {
    flags & NO_RECORDED_VALUE != 0
}

impl Batch {
    /// Adds a point of a gauge or a sum.
    #[inline(always)]
    pub(crate) fn number(&mut self, point: &NumberPoint) {
        if point.time_unix_nano == 0 {
            return self.metric.reject(Reason::NoTime);
        }
        let value = match point.value {
            _ if is_stale(point.flags) => 0.0,
            Some(value) => value,
            None => return self.metric.reject(Reason::NoValue),
        };
        self.metric.points += 1;
        let series = self.stream(point.set);
        let numbers = &mut self.columns.numbers;
        numbers.series.push(series);
        numbers.start_unix_nano.push(point.start_unix_nano);
        numbers.time_unix_nano.push(point.time_unix_nano);
        numbers.values.push(value);
        if is_stale(point.flags) {
            self.mark_last_number_stale();
        }
    }

    /// Adds a point of a histogram.
    pub(crate) fn histogram(&mut self, point: &mut HistogramPoint) {
        let fits = match point.layout {
            _ if point.time_unix_nano == 0 => Err(Reason::NoTime),
            Layout::Explicit => point.check_explicit(),
            Layout::Exponential { .. } => point.fit_scale(),
        };
        if let Err(reason) = fits {
            return self.metric.reject(reason);
        }
        self.metric.points += 1;
        let series = self.stream(point.set);
        let h = &mut self.columns.histograms;
        h.series.push(series);
        h.start_unix_nano.push(point.start_unix_nano);
        h.time_unix_nano.push(point.time_unix_nano);
        h.counts.push(point.count);
        h.sums.push(point.sum.unwrap_or(f64::NAN));
        h.mins.push(point.min.unwrap_or(f64::NAN));
        h.maxs.push(point.max.unwrap_or(f64::NAN));
        h.stale.push(is_stale(point.flags).into());
        let (scale, zero_count, zero_threshold) = match point.layout {
            Layout::Explicit => (EXPLICIT_BOUNDS, 0, 0.0),
            Layout::Exponential {
                scale,
                zero_count,
                zero_threshold,
            } => {
                let scale = i8::try_from(scale).expect("fit_scale leaves -10 to 20");
                (scale, zero_count, zero_threshold)
            }
        };
        h.scales.push(scale);
        h.zero_counts.push(zero_count);
        h.zero_thresholds.push(zero_threshold);
        h.positive_offsets.push(point.positive.offset);
        h.bucket_counts.extend_from_slice(&point.positive.counts);
        h.positive_ends.push(index(h.bucket_counts.len()));
        h.negative_offsets.push(point.negative.offset);
        h.bucket_counts.extend_from_slice(&point.negative.counts);
        h.negative_ends.push(index(h.bucket_counts.len()));
        h.bounds.extend_from_slice(&point.bounds);
        h.bound_ends.push(index(h.bounds.len()));
    }

    /// Adds a point of a summary: its count, its sum and each quantile.
    pub(crate) fn summary(&mut self, point: &SummaryPoint) {
        if point.time_unix_nano == 0 {
            return self.metric.reject(Reason::NoTime);
        }
        let quantiles = point.quantiles.iter().map(|(quantile, _)| *quantile);
        if let Some(wrong) = { quantiles }.find(|quantile| !(0.0..=1.0).contains(quantile)) {
            return self.metric.reject(Reason::Quantile(wrong));
        }
        self.metric.points += 1;
        self.pad_numbers();
        let series = self.stream(point.set);
        let parts = [
            (PART_COUNT, 0.0, point.count as f64),
            (PART_SUM, 0.0, point.sum),
        ];
        let quantiles = point.quantiles.iter();
        let quantiles = quantiles.map(|(quantile, value)| (PART_QUANTILE, *quantile, *value));
        let numbers = &mut self.columns.numbers;
        for (part, quantile, value) in parts.into_iter().chain(quantiles) {
            numbers.series.push(series);
            numbers.parts.push(part);
            numbers.quantiles.push(quantile);
            numbers.start_unix_nano.push(point.start_unix_nano);
            numbers.time_unix_nano.push(point.time_unix_nano);
            numbers.values.push(value);
            numbers.stale.push(is_stale(point.flags).into());
        }
    }

    #[cold]
    fn mark_last_number_stale(&mut self) {
        self.pad_numbers();
        if let Some(stale) = self.columns.numbers.stale.last_mut() {
            *stale = 1;
        }
    }

    /// Fills the columns that are the same for nearly all number points.
    ///
    /// They are filled at once instead of point by point, which halves the work of a plain point.
    pub(super) fn pad_numbers(&mut self) {
        let numbers = &mut self.columns.numbers;
        let rows = numbers.series.len();
        numbers.parts.resize(rows, PART_VALUE);
        numbers.quantiles.resize(rows, 0.0);
        numbers.stale.resize(rows, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn merged(offset: i32, counts: &[u64], halvings: i32, expected: (i32, &[u64])) {
        let mut buckets = Buckets {
            offset,
            counts: counts.to_vec(),
        };
        buckets.merge(halvings);
        assert_eq!((buckets.offset, &buckets.counts[..]), expected);
    }

    #[test]
    fn merging_buckets_keeps_every_observation_in_the_bucket_that_covers_it() {
        merged(0, &[1, 2, 3, 4], 1, (0, &[3, 7]));
        merged(1, &[1, 2, 3, 4], 1, (0, &[1, 5, 4]));
        merged(-3, &[1, 2, 3, 4], 1, (-2, &[1, 5, 4]));
        merged(-1, &[5], 63, (-1, &[5]));
        merged(i32::MIN, &[1, 1], 63, (-1, &[2]));
        merged(0, &[u64::MAX, 1], 1, (0, &[u64::MAX]));
    }
}
