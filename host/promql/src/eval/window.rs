//! Range vectors: the samples of a window at each step. Windows only move forward, so two indices follow them.

use super::{ABSENT, Evaluator, Grid, Series, is_absent};
use crate::ast::{Bounds, Expr, ExprKind, Selector, Subquery};
use crate::query::{EvalError, MatrixSeries, Point};
use crate::source::{SeriesData, is_stale};

use shoal_model::labels::Labels;

/// The series of a range vector and where its windows are.
pub(crate) struct Windows {
    pub(crate) series: Vec<RangeSeries>,
    pub(crate) range_ms: i64,
    offset_ms: i64,
    at_ms: Option<i64>,
    /// How far samples before and after a window are looked at.
    before_ms: i64,
    after_ms: i64,
}

/// A series with its samples, without stale markers.
pub(crate) struct RangeSeries {
    pub(crate) labels: Labels,
    pub(crate) drops_name: bool,
    pub(crate) times_ms: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

/// The samples of one series after `start_ms` and up to `end_ms`; with bounds, some around them too.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) times_ms: &'a [i64],
    pub(crate) values: &'a [f64],
    /// The index of the first sample in the series.
    pub(crate) first: usize,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// The time of the step, which an offset or `@` do not move.
    pub(crate) step_ms: i64,
    pub(crate) step: usize,
}

impl Windows {
    /// Whether all steps look at the same window.
    pub(crate) fn is_fixed(&self) -> bool {
        self.at_ms.is_some()
    }

    fn end(&self, time_ms: i64) -> i64 {
        self.at_ms.unwrap_or(time_ms) - self.offset_ms
    }

    /// The column of one series: what `value` says of each window that has samples.
    pub(crate) fn column(
        &self,
        series: &RangeSeries,
        grid: &Grid,
        mut value: impl FnMut(Window<'_>) -> Option<f64>,
    ) -> Vec<f64> {
        let (mut from, mut to) = (0, 0);
        (0..grid.len)
            .map(|step| {
                let step_ms = grid.time(step);
                let end_ms = self.end(step_ms);
                let start_ms = end_ms - self.range_ms;
                let times = &series.times_ms;
                while times
                    .get(to)
                    .is_some_and(|time| *time <= end_ms + self.after_ms)
                {
                    to += 1;
                }
                while from < to && times[from] <= start_ms - self.before_ms {
                    from += 1;
                }
                if from == to {
                    return ABSENT;
                }
                let window = Window {
                    times_ms: &times[from..to],
                    values: &series.values[from..to],
                    first: from,
                    start_ms,
                    end_ms,
                    step_ms,
                    step,
                };
                value(window).unwrap_or(ABSENT)
            })
            .collect()
    }
}

impl Evaluator<'_> {
    /// The windows of an expression that is a range vector.
    pub(crate) fn windows(&self, expr: &Expr, grid: &Grid) -> Result<Windows, EvalError> {
        let expr = expr.without_parens();
        match &expr.kind {
            ExprKind::Matrix(selector, range) => {
                self.selected(selector, self.positive_ms(range)?, grid)
            }
            ExprKind::Subquery(subquery) => self.subquery(subquery, grid),
            _ => Err(self.invalid(expr.span, "a range vector was expected")),
        }
    }

    fn selected(
        &self,
        selector: &Selector,
        range_ms: i64,
        grid: &Grid,
    ) -> Result<Windows, EvalError> {
        let lookback_ms = self.query.lookback_ms;
        let is_smoothed = selector.bounds == Some(Bounds::Smoothed);
        let mut windows = Windows {
            series: Vec::new(),
            range_ms,
            offset_ms: self.offset_ms(selector.offset.as_ref())?,
            at_ms: self.at_ms(selector.at),
            before_ms: if selector.bounds.is_some() {
                lookback_ms
            } else {
                0
            },
            after_ms: if is_smoothed { lookback_ms } else { 0 },
        };
        let from_ms = windows.end(grid.start_ms) - range_ms - windows.before_ms + 1;
        let to_ms = windows.end(grid.last()) + windows.after_ms;
        let data = self.fetch(selector, from_ms, to_ms)?;
        windows.series = data.into_iter().map(without_stale).collect();
        Ok(windows)
    }

    fn subquery(&self, subquery: &Subquery, grid: &Grid) -> Result<Windows, EvalError> {
        let mut windows = Windows {
            series: Vec::new(),
            range_ms: self.positive_ms(&subquery.range)?,
            offset_ms: self.offset_ms(subquery.offset.as_ref())?,
            at_ms: self.at_ms(subquery.at),
            before_ms: 0,
            after_ms: 0,
        };
        let step_ms = match &subquery.step {
            Some(step) => self.positive_ms(step)?,
            None => self.query.subquery_step_ms.max(1),
        };
        let after_ms = windows.end(grid.start_ms) - windows.range_ms;
        // Steps are multiples of the step's length, whenever the query is asked.
        let start_ms = (after_ms.div_euclid(step_ms) + 1) * step_ms;
        let inner = Grid::between(start_ms, windows.end(grid.last()), step_ms);
        if inner.len == 0 || grid.len == 0 {
            return Ok(windows);
        }
        self.hold(inner.len as u64)?;
        for series in self.vector(&subquery.expr, &inner)? {
            self.checkpoint()?;
            windows.series.push(compress(series, &inner));
        }
        Ok(windows)
    }

    /// The samples of a range vector that an instant query is for.
    pub(super) fn raw_matrix(
        &self,
        expr: &Expr,
        grid: &Grid,
    ) -> Result<Vec<MatrixSeries>, EvalError> {
        let windows = self.windows(expr, grid)?;
        let mut matrix = Vec::new();
        for series in &windows.series {
            self.checkpoint()?;
            let mut points = Vec::new();
            windows.column(series, grid, |window| {
                let samples = window.times_ms.iter().zip(window.values);
                points.extend(samples.map(|(time_ms, value)| Point {
                    time_ms: *time_ms,
                    value: *value,
                }));
                None
            });
            if !points.is_empty() {
                matrix.push(MatrixSeries {
                    labels: match series.drops_name {
                        true => super::without_name(&series.labels),
                        false => series.labels.clone(),
                    },
                    points,
                });
            }
        }
        self.check_series(matrix.len())?;
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(matrix)
    }
}

fn without_stale(mut data: SeriesData) -> RangeSeries {
    if data.values.iter().any(|value| is_stale(*value)) {
        let mut values = data.values.iter();
        data.times_ms
            .retain(|_| values.next().is_some_and(|value| !is_stale(*value)));
        data.values.retain(|value| !is_stale(*value));
    }
    RangeSeries {
        labels: data.labels,
        drops_name: false,
        times_ms: data.times_ms,
        values: data.values,
    }
}

fn compress(series: Series, grid: &Grid) -> RangeSeries {
    let present = |(_, value): &(usize, &f64)| !is_absent(**value);
    let steps = series.values.iter().enumerate().filter(present);
    let (times_ms, values) = steps.map(|(step, value)| (grid.time(step), *value)).unzip();
    RangeSeries {
        labels: series.labels,
        drops_name: series.drops_name,
        times_ms,
        values,
    }
}
