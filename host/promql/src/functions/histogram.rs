//! Quantiles and fractions of classic histograms: series with cumulative counts and their upper bound in `le`.

use std::collections::HashMap;

use shoal_model::labels::Labels;

use super::Call;
use crate::display::format_number;
use crate::eval::{ABSENT, Evaluator, Grid, Series, is_absent};
use crate::function::Function;
use crate::query::EvalError;
use crate::span::Span;

/// The label with a bucket's upper bound.
const BOUND: &str = "le";

/// Counts that differ by less, relative to their size, differ by rounding only.
const COUNT_TOLERANCE: f64 = 1e-12;

/// One histogram: the columns of its buckets, sorted by bound.
struct Histogram {
    labels: Labels,
    drops_name: bool,
    /// Bounds, and indices of series.
    buckets: Vec<(f64, usize)>,
}

/// A bucket at one step.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    bound: f64,
    count: f64,
}

impl Call<'_> {
    pub(super) fn histogram(&self) -> Result<Vec<Series>, EvalError> {
        match self.function {
            Function::HistogramQuantile => {
                let quantiles = self.parameter(0)?;
                self.evaluator
                    .check_quantiles(&quantiles, self.args[0].span);
                let buckets = Buckets::of(self, 1)?;
                let results = buckets.columns(self, |step, buckets, fixed| {
                    quantile(quantiles[step], buckets, fixed)
                })?;
                self.evaluator.drop_names(results, self.call.span)
            }
            Function::HistogramFraction => {
                let (lower, upper) = (self.parameter(0)?, self.parameter(1)?);
                let buckets = Buckets::of(self, 2)?;
                let results = buckets.columns(self, |step, buckets, _| {
                    fraction(lower[step], upper[step], buckets)
                })?;
                self.evaluator.drop_names(results, self.call.span)
            }
            _ => self.quantiles(),
        }
    }

    fn quantiles(&self) -> Result<Vec<Series>, EvalError> {
        let name = self.evaluator.string(&self.args[1], self.grid)?;
        let buckets = Buckets::of(self, 0)?;
        let mut results = Vec::new();
        for index in 2..self.args.len() {
            let quantiles = self.parameter(index)?;
            let span = self.args[index].span;
            self.evaluator.check_quantiles(&quantiles, span);
            for (step, wanted) in quantiles.iter().enumerate() {
                // Usually the same at all steps, so that there is one result per histogram.
                if step > 0 && wanted.to_bits() == quantiles[step - 1].to_bits() {
                    continue;
                }
                let is_wanted = |at: usize| quantiles[at].to_bits() == wanted.to_bits();
                let columns = buckets.columns(self, |at, buckets, fixed| match is_wanted(at) {
                    true => quantile(*wanted, buckets, fixed),
                    false => ABSENT,
                })?;
                let label = open_number(*wanted);
                for mut one in columns {
                    if one.labels.get(&name).is_some() {
                        let message = "vector cannot contain metrics with the same labelset";
                        return Err(self.evaluator.invalid(self.call.span, message));
                    }
                    one.labels = one.labels.with(&name, &label);
                    results.push(one);
                }
                if quantiles[step..]
                    .iter()
                    .all(|next| next.to_bits() == wanted.to_bits())
                {
                    break;
                }
            }
        }
        self.evaluator.drop_names(results, self.call.span)
    }
}

/// A number as OpenMetrics writes bounds: always with a point or an exponent.
fn open_number(value: f64) -> String {
    let text = format_number(value);
    match value.is_finite() && !text.contains('.') {
        true => format!("{text}.0"),
        false => text,
    }
}

struct Buckets {
    series: Vec<Series>,
    histograms: Vec<Histogram>,
    span: Span,
}

impl Buckets {
    fn of(call: &Call<'_>, argument: usize) -> Result<Buckets, EvalError> {
        let arg = &call.args[argument];
        let series = call.evaluator.vector(arg, call.grid)?;
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut histograms: Vec<Histogram> = Vec::new();
        for (index, one) in series.iter().enumerate() {
            let text = one.labels.get(BOUND).unwrap_or_default();
            let Some(bound) = parse_bound(text) else {
                call.evaluator.warn(arg.span, malformed(text, &one.labels));
                continue;
            };
            let labels = one.labels.filtered(|name| name != BOUND);
            let place = *places.entry(labels.clone()).or_insert_with(|| {
                histograms.push(Histogram {
                    labels,
                    drops_name: false,
                    buckets: Vec::new(),
                });
                histograms.len() - 1
            });
            histograms[place].buckets.push((bound, index));
            histograms[place].drops_name |= one.drops_name;
        }
        for histogram in &mut histograms {
            histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Ok(Buckets {
            series,
            histograms,
            span: arg.span,
        })
    }

    /// A column for each histogram.
    fn columns(
        &self,
        call: &Call<'_>,
        mut value: impl FnMut(usize, &mut Vec<Bucket>, &mut Fixed) -> f64,
    ) -> Result<Vec<Series>, EvalError> {
        let (evaluator, grid): (&Evaluator<'_>, &Grid) = (call.evaluator, call.grid);
        evaluator.hold_columns(self.histograms.len(), grid)?;
        let mut results = Vec::with_capacity(self.histograms.len());
        let mut buckets = Vec::new();
        for histogram in &self.histograms {
            evaluator.checkpoint()?;
            let mut fixed = Fixed::default();
            let values = (0..grid.len)
                .map(|step| {
                    buckets.clear();
                    let at_step = histogram.buckets.iter().map(|(bound, index)| Bucket {
                        bound: *bound,
                        count: self.series[*index].values[step],
                    });
                    buckets.extend(at_step.filter(|bucket| !is_absent(bucket.count)));
                    match buckets.is_empty() {
                        true => ABSENT,
                        false => value(step, &mut buckets, &mut fixed),
                    }
                })
                .collect();
            if fixed.steps > 0 {
                evaluator.inform(self.span, fixed.message(&histogram.labels));
            }
            results.push(Series {
                labels: histogram.labels.clone(),
                drops_name: histogram.drops_name,
                values,
            });
        }
        Ok(results)
    }
}

/// Counts that had to be raised to those of smaller buckets.
#[derive(Default)]
struct Fixed {
    steps: usize,
    least: f64,
    most: f64,
    difference: f64,
}

impl Fixed {
    fn message(&self, labels: &Labels) -> String {
        let name = labels
            .metric_name()
            .map(|name| format!(" for metric name {name:?}"));
        format!(
            "input to histogram_quantile needed to be fixed for monotonicity (see \
             https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}, \
             from buckets {} to {} with a max diff of {:.2} over {} samples",
            name.unwrap_or_default(),
            format_number(self.least),
            format_number(self.most),
            self.difference,
            self.steps
        )
    }
}

fn malformed(text: &str, labels: &Labels) -> String {
    let name = labels
        .metric_name()
        .map(|name| format!(" for metric name {name:?}"));
    format!(
        "bucket label \"le\" is missing or has a malformed value of {text:?}{}",
        name.unwrap_or_default()
    )
}

fn parse_bound(text: &str) -> Option<f64> {
    let is_number = !text.is_empty() && !text.eq_ignore_ascii_case("nan");
    is_number.then(|| text.parse().ok())?
}

/// Makes one bucket of those with the same bound, which differ in spelling only.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|later, first| {
        let is_same = later.bound == first.bound;
        if is_same {
            first.count += later.count;
        }
        is_same
    });
}

/// Raises counts to those of smaller buckets, which contain less.
fn make_monotonic(buckets: &mut [Bucket], fixed: &mut Fixed) {
    let mut largest = buckets[0].count;
    let mut is_fixed = false;
    for bucket in &mut buckets[1..] {
        if bucket.count == largest {
            continue;
        }
        let difference = (bucket.count - largest).abs();
        if difference <= COUNT_TOLERANCE * (bucket.count.abs() + largest.abs()) {
            bucket.count = largest;
        } else if bucket.count < largest {
            bucket.count = largest;
            if fixed.steps == 0 && !is_fixed {
                (fixed.least, fixed.most) = (bucket.bound, bucket.bound);
            }
            is_fixed = true;
            fixed.least = fixed.least.min(bucket.bound);
            fixed.most = fixed.most.max(bucket.bound);
            fixed.difference = fixed.difference.max(difference);
        } else {
            largest = bucket.count;
        }
    }
    fixed.steps += usize::from(is_fixed);
}

/// A quantile, interpolated within its bucket. Buckets are sorted by bound and not empty.
fn quantile(quantile: f64, buckets: &mut Vec<Bucket>, fixed: &mut Fixed) -> f64 {
    if quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    if buckets[buckets.len() - 1].bound != f64::INFINITY {
        return f64::NAN;
    }
    coalesce(buckets);
    make_monotonic(buckets, fixed);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 || observations.is_nan() {
        return f64::NAN;
    }
    let mut rank = quantile * observations;
    let found = buckets[..last].partition_point(|bucket| bucket.count < rank);
    if found == last {
        return buckets[last - 1].bound;
    }
    if found == 0 && buckets[0].bound <= 0.0 {
        return buckets[0].bound;
    }
    let (mut start, end, mut count) = (0.0, buckets[found].bound, buckets[found].count);
    if found > 0 {
        start = buckets[found - 1].bound;
        count -= buckets[found - 1].count;
        rank -= buckets[found - 1].count;
    }
    start + (end - start) * (rank / count)
}

/// The part of the observations between two values, interpolated within buckets that have two bounds.
fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets[buckets.len() - 1].bound != f64::INFINITY {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank(upper, buckets).min(count) - rank(lower, buckets).min(count)) / count
}

/// How many observations are below a value.
fn rank(value: f64, buckets: &[Bucket]) -> f64 {
    let mut below = 0.0;
    let mut start = f64::NEG_INFINITY;
    for (index, bucket) in buckets.iter().enumerate() {
        if index == 0 && bucket.bound > 0.0 {
            start = 0.0;
        }
        if start >= value {
            return below;
        }
        if value < bucket.bound {
            if start == f64::NEG_INFINITY {
                return bucket.count;
            }
            return below + (bucket.count - below) * (value - start) / (bucket.bound - start);
        }
        below = bucket.count;
        start = bucket.bound;
    }
    below
}
