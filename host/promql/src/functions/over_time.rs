//! Functions of the samples of a window: `sum_over_time` and its kin.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::Call;
use super::sum::{Mean, Sum, variance};
use crate::eval::{ABSENT, Evaluator, Grid, RangeSeries, Series, Window, Windows};
use crate::function::Function;
use crate::query::EvalError;
use crate::span::Span;

impl Call<'_> {
    pub(super) fn over_time(&self) -> Result<Vec<Series>, EvalError> {
        use Function as F;
        match self.function {
            F::AvgOverTime => self.each_window(|| {
                |window: Window<'_>| {
                    let mut mean = Mean::default();
                    window.values.iter().for_each(|value| mean.add(*value));
                    Some(mean.value())
                }
            }),
            F::SumOverTime => self.each_window(|| {
                |window: Window<'_>| {
                    let mut sum = Sum::default();
                    window.values.iter().for_each(|value| sum.add(*value));
                    Some(sum.value())
                }
            }),
            F::CountOverTime => {
                self.each_window(|| |window: Window<'_>| Some(window.values.len() as f64))
            }
            F::PresentOverTime => self.each_window(|| |_: Window<'_>| Some(1.0)),
            F::FirstOverTime => {
                self.each_window(|| |window: Window<'_>| window.values.first().copied())
            }
            F::LastOverTime => {
                self.each_window(|| |window: Window<'_>| window.values.last().copied())
            }
            F::TsOfFirstOverTime => self
                .each_window(|| |window: Window<'_>| window.times_ms.first().map(|t| seconds(*t))),
            F::TsOfLastOverTime => self
                .each_window(|| |window: Window<'_>| window.times_ms.last().map(|t| seconds(*t))),
            F::StdvarOverTime => {
                self.each_window(|| |window: Window<'_>| Some(variance(window.values)))
            }
            F::StddevOverTime => {
                self.each_window(|| |window: Window<'_>| Some(variance(window.values).sqrt()))
            }
            F::MinOverTime => self.extreme(|a, b| a < b, |window, at| window.values[at]),
            F::MaxOverTime => self.extreme(|a, b| a > b, |window, at| window.values[at]),
            F::TsOfMinOverTime => {
                self.extreme(|a, b| a < b, |window, at| seconds(window.times_ms[at]))
            }
            F::TsOfMaxOverTime => {
                self.extreme(|a, b| a > b, |window, at| seconds(window.times_ms[at]))
            }
            F::MadOverTime => {
                let mut buffer = Vec::new();
                self.each_window_shared(&mut buffer, |buffer, window| {
                    Some(median_deviation(window.values, buffer))
                })
            }
            _ => {
                let quantiles = self.parameter(0)?;
                self.evaluator
                    .check_quantiles(&quantiles, self.args[0].span);
                let mut buffer = Vec::new();
                self.each_window_shared(&mut buffer, |buffer, window| {
                    buffer.clear();
                    buffer.extend_from_slice(window.values);
                    Some(quantile_of(quantiles[window.step], buffer))
                })
            }
        }
    }

    /// A column for each series; `make` gives each series its own function of a window.
    pub(super) fn each_window<F>(
        &self,
        mut make: impl FnMut() -> F,
    ) -> Result<Vec<Series>, EvalError>
    where
        F: FnMut(Window<'_>) -> Option<f64>,
    {
        self.columns(|_| make())
    }

    fn each_window_shared<B>(
        &self,
        shared: &mut B,
        mut value: impl FnMut(&mut B, Window<'_>) -> Option<f64>,
    ) -> Result<Vec<Series>, EvalError> {
        let windows = self.windows()?;
        let mut results = self.results(&windows)?;
        for one in &windows.series {
            self.evaluator.checkpoint()?;
            let values = windows.column(one, self.grid, |window| value(shared, window));
            self.push(&mut results, one, values);
        }
        self.named(results)
    }

    /// A column for each series; `make` is given the values of the whole series first.
    pub(super) fn columns<F>(
        &self,
        mut make: impl FnMut(&[f64]) -> F,
    ) -> Result<Vec<Series>, EvalError>
    where
        F: FnMut(Window<'_>) -> Option<f64>,
    {
        let windows = self.windows()?;
        let mut results = self.results(&windows)?;
        for one in &windows.series {
            self.evaluator.checkpoint()?;
            let values = self.column(&windows, one, make(&one.values));
            self.push(&mut results, one, values);
        }
        self.named(results)
    }

    /// A column; computed once when all steps look at the same window and nothing else differs between them.
    fn column(
        &self,
        windows: &Windows,
        one: &RangeSeries,
        value: impl FnMut(Window<'_>) -> Option<f64>,
    ) -> Vec<f64> {
        let depends_on_step = matches!(
            self.function,
            Function::PredictLinear | Function::DoubleExponentialSmoothing
        );
        if !windows.is_fixed() || depends_on_step {
            return windows.column(one, self.grid, value);
        }
        let first = Grid {
            len: self.grid.len.min(1),
            ..*self.grid
        };
        let value = windows.column(one, &first, value).first().copied();
        vec![value.unwrap_or(ABSENT); self.grid.len]
    }

    /// The windows of the argument that is a range vector.
    pub(super) fn windows(&self) -> Result<Windows, EvalError> {
        self.evaluator.windows(self.matrix_argument(), self.grid)
    }

    pub(super) fn results(&self, windows: &Windows) -> Result<Vec<Series>, EvalError> {
        self.evaluator
            .hold_columns(windows.series.len(), self.grid)?;
        Ok(Vec::with_capacity(windows.series.len()))
    }

    pub(super) fn push(&self, results: &mut Vec<Series>, from: &RangeSeries, values: Vec<f64>) {
        if values.iter().any(|value| !crate::eval::is_absent(*value)) {
            results.push(Series {
                labels: from.labels.clone(),
                drops_name: from.drops_name,
                values,
            });
        }
    }

    /// Drops the names unless the function gives samples as they were.
    pub(super) fn named(&self, results: Vec<Series>) -> Result<Vec<Series>, EvalError> {
        match self.function {
            Function::FirstOverTime | Function::LastOverTime => Ok(results),
            _ => self.evaluator.drop_names(results, self.call.span),
        }
    }

    /// The latest of the best samples, found by a queue of those that may still become the best: each sample enters and
    /// leaves it once, however windows overlap.
    fn extreme(
        &self,
        is_better: impl Fn(f64, f64) -> bool + Copy,
        result: impl Fn(Window<'_>, usize) -> f64 + Copy,
    ) -> Result<Vec<Series>, EvalError> {
        self.each_window(|| {
            let mut queue: VecDeque<usize> = VecDeque::new();
            let mut seen = 0;
            move |window: Window<'_>| {
                let end = window.first + window.values.len();
                let value = |index: usize| window.values[index - window.first];
                while queue.front().is_some_and(|index| *index < window.first) {
                    queue.pop_front();
                }
                for index in seen.max(window.first)..end {
                    let new = value(index);
                    if new.is_nan() {
                        continue;
                    }
                    while queue
                        .back()
                        .is_some_and(|back| !is_better(value(*back), new))
                    {
                        queue.pop_back();
                    }
                    queue.push_back(index);
                }
                seen = end;
                // Without numbers all samples are NaN, and the last one is as good as any.
                let best = queue
                    .front()
                    .map_or(window.values.len() - 1, |i| i - window.first);
                Some(result(window, best))
            }
        })
    }
}

fn seconds(time_ms: i64) -> f64 {
    time_ms as f64 / 1000.0
}

impl Evaluator<'_> {
    /// Warns of quantiles that no value can have.
    pub(crate) fn check_quantiles(&self, quantiles: &[f64], span: Span) {
        let is_odd = |quantile: &&f64| !(0.0..=1.0).contains(*quantile);
        for quantile in quantiles
            .iter()
            .filter(is_odd)
            .take(crate::query::NOTES_MAX)
        {
            let shown = crate::display::format_number(*quantile);
            let message = format!("quantile value should be between 0 and 1, got {shown}");
            self.warn(span, message);
        }
    }
}

/// From small to large, NaN first.
fn nan_first(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b)
        .unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// A quantile of values, interpolated between neighbours. Sorts them. NaN counts as the smallest.
pub(crate) fn quantile_of(quantile: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(nan_first);
    let last = values.len() - 1;
    let rank = quantile * last as f64;
    let lower = (rank.floor() as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// The median of the distances from the median.
fn median_deviation(values: &[f64], buffer: &mut Vec<f64>) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    buffer.clear();
    buffer.extend_from_slice(values);
    let median = quantile_of(0.5, buffer);
    buffer
        .iter_mut()
        .for_each(|value| *value = (*value - median).abs());
    quantile_of(0.5, buffer)
}
