//! How series change: `rate` and its kin.

use super::Call;
use crate::ast::{Bounds, Expr, ExprKind};
use crate::eval::{Series, Window};
use crate::function::Function;
use crate::query::EvalError;

use shoal_model::labels::{Labels, METRIC_NAME};

impl Call<'_> {
    pub(super) fn matrix_argument(&self) -> &Expr {
        let is_second = self.function == Function::QuantileOverTime;
        &self.args[usize::from(is_second)]
    }

    pub(super) fn change(&self) -> Result<Vec<Series>, EvalError> {
        use Function as F;
        if let ExprKind::Matrix(selector, _) = &self.args[0].without_parens().kind
            && let Some(bounds) = selector.bounds
        {
            return self.bounded(bounds);
        }
        match self.function {
            F::Irate => self.each_window(|| last_rate),
            F::Idelta => self.each_window(|| last_difference),
            F::Changes => self
                .counted(|before, after| before != after && !(before.is_nan() && after.is_nan())),
            F::Resets => self.counted(|before, after| after < before),
            _ => self.extrapolated(),
        }
    }

    /// How many neighbours in a window are a `change`, by prefix sums over the series.
    fn counted(&self, is_change: impl Fn(f64, f64) -> bool) -> Result<Vec<Series>, EvalError> {
        self.columns(|values| {
            let mut count = 0u32;
            let mut counts = Vec::with_capacity(values.len());
            for (index, value) in values.iter().enumerate() {
                count += u32::from(index > 0 && is_change(values[index - 1], *value));
                counts.push(count);
            }
            move |window: Window<'_>| {
                let last = window.first + window.values.len() - 1;
                Some(f64::from(counts[last] - counts[window.first]))
            }
        })
    }

    /// `rate`, `increase` and `delta`: the change between the first and the last sample, extrapolated to the bounds of
    /// the window when they are near.
    fn extrapolated(&self) -> Result<Vec<Series>, EvalError> {
        let is_counter = self.function != Function::Delta;
        let windows = self.windows()?;
        let range_seconds = windows.range_ms as f64 / 1000.0;
        let mut results = self.results(&windows)?;
        for one in &windows.series {
            self.evaluator.checkpoint()?;
            let resets = if is_counter {
                resets(&one.values)
            } else {
                Vec::new()
            };
            let mut next_reset = 0;
            let values = windows.column(one, self.grid, |window| {
                while resets.get(next_reset).is_some_and(|at| *at <= window.first) {
                    next_reset += 1;
                }
                let last = window.first + window.values.len() - 1;
                let in_window = resets[next_reset..].iter().take_while(|at| **at <= last);
                let lost = in_window.map(|at| one.values[at - 1]);
                let increase = extrapolate(window, is_counter, lost)?;
                Some(match self.function {
                    Function::Rate => increase / range_seconds,
                    _ => increase,
                })
            });
            self.push(&mut results, one, values);
        }
        if is_counter {
            self.check_counters(&results);
        }
        self.named(results)
    }

    /// Remarks on metrics that do not look like counters.
    pub(super) fn check_counters(&self, results: &[Series]) {
        for one in results {
            if let Some(name) = one
                .labels
                .metric_name()
                .filter(|_| !is_counter(&one.labels))
            {
                let message = format!(
                    "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \
                     {name:?}"
                );
                self.evaluator.inform(self.args[0].span, message);
            }
        }
    }

    /// Windows whose bounds are at samples or between them.
    fn bounded(&self, bounds: Bounds) -> Result<Vec<Series>, EvalError> {
        use super::bounded;
        let is_counter = self.function != Function::Delta;
        let windows = self.windows()?;
        let range_seconds = windows.range_ms as f64 / 1000.0;
        let mut results = self.results(&windows)?;
        for one in &windows.series {
            self.evaluator.checkpoint()?;
            let values = windows.column(one, self.grid, |window| match self.function {
                Function::Changes => bounded::count(window, |before, after| {
                    before != after && !(before.is_nan() && after.is_nan())
                }),
                Function::Resets => bounded::count(window, |before, after| after < before),
                Function::Rate => Some(bounded::increase(window, bounds, true)? / range_seconds),
                _ => bounded::increase(window, bounds, is_counter),
            });
            self.push(&mut results, one, values);
        }
        self.named(results)
    }
}

/// The indices of values smaller than the one before.
fn resets(values: &[f64]) -> Vec<usize> {
    let pairs = values.windows(2).enumerate();
    pairs
        .filter(|(_, pair)| pair[1] < pair[0])
        .map(|(index, _)| index + 1)
        .collect()
}

/// Where names or types are known, counters end so.
fn is_counter(labels: &Labels) -> bool {
    const ENDINGS: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];
    if let Some(kind) = labels.get("__type__") {
        return matches!(kind, "counter" | "histogram");
    }
    let name = labels.get(METRIC_NAME).unwrap_or_default();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The change over a window; `lost` are the values that counters had before their resets.
fn extrapolate(
    window: Window<'_>,
    is_counter: bool,
    lost: impl Iterator<Item = f64>,
) -> Option<f64> {
    let (times, values) = (window.times_ms, window.values);
    let (&first_ms, &last_ms) = (times.first()?, times.last()?);
    if times.len() < 2 {
        return None;
    }
    let mut change = values[values.len() - 1] - values[0];
    lost.for_each(|value| change += value);

    let mut to_start = (first_ms - window.start_ms) as f64 / 1000.0;
    let mut to_end = (window.end_ms - last_ms) as f64 / 1000.0;
    let sampled = (last_ms - first_ms) as f64 / 1000.0;
    let between = sampled / (times.len() - 1) as f64;
    // A series begins and ends half an interval around its samples, unless the bound of the window is about where the
    // next sample would be.
    let near = between * 1.1;
    if to_start >= near {
        to_start = between / 2.0;
    }
    if is_counter && change > 0.0 && values[0] >= 0.0 {
        // A counter was not negative before its first sample.
        to_start = to_start.min(sampled * (values[0] / change));
    }
    if to_end >= near {
        to_end = between / 2.0;
    }
    Some(change * ((sampled + to_start + to_end) / sampled))
}

/// The change of a counter between the last two samples, per second and minding a reset.
fn last_rate(window: Window<'_>) -> Option<f64> {
    let [.., old, new] = window.values else {
        return None;
    };
    let [.., old_ms, new_ms] = window.times_ms else {
        return None;
    };
    let change = if new < old { *new } else { new - old };
    Some(change / ((new_ms - old_ms) as f64 / 1000.0))
}

/// The difference of the last two samples.
fn last_difference(window: Window<'_>) -> Option<f64> {
    match window.values {
        [.., old, new] => Some(new - old),
        _ => None,
    }
}
