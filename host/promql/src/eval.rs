//! Evaluates a tree over all steps of a query at once.
//!
//! Every node gives a column for each of its series: one value per step, [`ABSENT`] where the series has none. Columns
//! of intermediate results are counted, and given back when the node above is done.
//!
//! Native histograms are not here yet. They would be a second kind of column beside the numbers in [`Series`] and in the
//! windows' series; selection, matching, grouping and labels do not look at values and stay as they are.

use std::cell::{Cell, RefCell};

use shoal_model::labels::Labels;

use crate::ast::{Expr, ExprKind, UnaryOp, ValueType};
use crate::functions;
use crate::query::{
    Answer, EvalError, Limits, MatrixSeries, NOTES_MAX, Note, Point, Query, Severity, Value,
    VectorSample,
};
use crate::source::{STALE_BITS, SeriesSource, is_stale};
use crate::span::Span;

mod aggregate;
mod aggregate_pick;
mod aggregate_values;
mod binary;
mod cardinality;
mod duration;
mod grid;
mod labels;
mod matching;
mod select;
mod window;

pub(crate) use aggregate_pick::{ascending, descending};
pub(crate) use grid::Grid;
pub(crate) use labels::{merge_same, without_name};
pub(crate) use select::{Reference, Sampled};
pub(crate) use window::{RangeSeries, Window, Windows};

/// What stands in a column at a step where the series has no value. No sample of an answer is stale, so the marker is
/// free for this.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_BITS);

pub(crate) fn is_absent(value: f64) -> bool {
    is_stale(value)
}

/// A series over the steps of a grid.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    /// Whether the metric name goes at the end of the evaluation.
    pub(crate) drops_name: bool,
    pub(crate) values: Vec<f64>,
}

/// What a node came to.
#[derive(Debug)]
pub(crate) enum Output {
    /// One value per step, none absent.
    Scalar(Vec<f64>),
    Vector(Vec<Series>),
    String(String),
}

impl Output {
    fn samples(&self) -> u64 {
        match self {
            Output::Scalar(values) => values.len() as u64,
            Output::Vector(series) => series.iter().map(|one| one.values.len() as u64).sum(),
            Output::String(_) => 0,
        }
    }
}

/// Answers a query.
///
/// Takes as long as the data need, on the calling thread. The source is asked once for each selector.
///
/// # Errors
/// When a limit is reached, the source fails, the query's times make no sense, or the data do not fit the expression.
pub fn evaluate(
    query: &Query,
    source: &dyn SeriesSource,
    limits: &Limits<'_>,
) -> Result<Answer, EvalError> {
    let grid = Grid::of(query, limits)?;
    let found = query.expr.value_type();
    if query.is_range && !query.expr.can_be_ranged() {
        return Err(EvalError::NotRangeable {
            found: found.as_str(),
        });
    }
    let evaluator = Evaluator {
        query,
        source,
        limits,
        notes: RefCell::default(),
        held: Cell::new(0),
    };
    let value = match found {
        ValueType::Matrix => Value::Matrix(evaluator.raw_matrix(&query.expr, &grid)?),
        _ => evaluator.finish(evaluator.eval(&query.expr, &grid)?, &grid)?,
    };
    Ok(Answer {
        value,
        notes: evaluator.notes.into_inner(),
    })
}

pub(crate) struct Evaluator<'a> {
    pub(crate) query: &'a Query,
    source: &'a dyn SeriesSource,
    limits: &'a Limits<'a>,
    notes: RefCell<Vec<Note>>,
    /// Samples held now.
    held: Cell<u64>,
}

impl Evaluator<'_> {
    pub(crate) fn eval(&self, expr: &Expr, grid: &Grid) -> Result<Output, EvalError> {
        // Nearly every node makes a column; steps of subqueries can be too many even for one.
        self.check_room(grid.len as u64)?;
        let before = self.held.get();
        let output = self.eval_node(expr, grid)?;
        // What the node needed on the way is gone now.
        self.held.set(before);
        self.hold(output.samples())?;
        Ok(output)
    }

    fn eval_node(&self, expr: &Expr, grid: &Grid) -> Result<Output, EvalError> {
        match &expr.kind {
            ExprKind::Number(number) => Ok(Output::Scalar(vec![number.value; grid.len])),
            ExprKind::String(text) => Ok(Output::String(text.clone())),
            ExprKind::Paren(inner) => self.eval(inner, grid),
            ExprKind::Selector(selector) => {
                let series = self.selector(selector, grid, Sampled::Value)?;
                Ok(Output::Vector(series))
            }
            ExprKind::Unary(UnaryOp::Plus, inner) => self.eval(inner, grid),
            ExprKind::Unary(UnaryOp::Minus, inner) => self.negate(inner, grid),
            ExprKind::Binary(binary) => self.binary(binary, expr.span, grid),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, grid),
            ExprKind::Call(function, args) => functions::call(self, *function, args, expr, grid),
            // Where types fit, functions take these apart.
            ExprKind::Matrix(..) | ExprKind::Subquery(_) => {
                Err(self.invalid(expr.span, "a range vector cannot stand here"))
            }
        }
    }

    fn negate(&self, inner: &Expr, grid: &Grid) -> Result<Output, EvalError> {
        match self.eval(inner, grid)? {
            Output::Scalar(mut values) => {
                values.iter_mut().for_each(|value| *value = -*value);
                Ok(Output::Scalar(values))
            }
            Output::Vector(series) => {
                let series = self.map_values(series, inner.span, |_, value| -value)?;
                Ok(Output::Vector(series))
            }
            Output::String(text) => Ok(Output::String(text)),
        }
    }

    /// Changes every value by its step and itself, dropping names.
    pub(crate) fn map_values(
        &self,
        mut series: Vec<Series>,
        span: Span,
        change: impl Fn(usize, f64) -> f64,
    ) -> Result<Vec<Series>, EvalError> {
        for one in &mut series {
            self.checkpoint()?;
            for (step, value) in one.values.iter_mut().enumerate() {
                if !is_absent(*value) {
                    *value = change(step, *value);
                }
            }
        }
        self.drop_names(series, span)
    }

    pub(crate) fn vector(&self, expr: &Expr, grid: &Grid) -> Result<Vec<Series>, EvalError> {
        match self.eval(expr, grid)? {
            Output::Vector(series) => Ok(series),
            _ => Err(self.invalid(expr.span, "an instant vector was expected")),
        }
    }

    pub(crate) fn scalar(&self, expr: &Expr, grid: &Grid) -> Result<Vec<f64>, EvalError> {
        match self.eval(expr, grid)? {
            Output::Scalar(values) => Ok(values),
            _ => Err(self.invalid(expr.span, "a scalar was expected")),
        }
    }

    pub(crate) fn string(&self, expr: &Expr, grid: &Grid) -> Result<String, EvalError> {
        match self.eval(expr, grid)? {
            Output::String(text) => Ok(text),
            _ => Err(self.invalid(expr.span, "a string was expected")),
        }
    }

    /// Counts samples as held until the node that is evaluated now is done.
    pub(crate) fn hold(&self, samples: u64) -> Result<(), EvalError> {
        self.checkpoint()?;
        self.check_room(samples)?;
        self.held.set(self.held.get() + samples);
        Ok(())
    }

    /// Whether so many more samples may be held. Asked before space is taken for a moment only.
    pub(crate) fn check_room(&self, samples: u64) -> Result<(), EvalError> {
        let max = self.limits.samples_max;
        match self.held.get().saturating_add(samples) <= max {
            true => Ok(()),
            false => Err(EvalError::TooManySamples { max }),
        }
    }

    /// Counts columns as held before they are made.
    pub(crate) fn hold_columns(&self, series: usize, grid: &Grid) -> Result<(), EvalError> {
        self.hold((series as u64).saturating_mul(grid.len as u64))
    }

    /// Ends the evaluation when it is no longer wanted.
    pub(crate) fn checkpoint(&self) -> Result<(), EvalError> {
        match (self.limits.is_cancelled)() {
            true => Err(EvalError::Cancelled),
            false => Ok(()),
        }
    }

    pub(crate) fn warn(&self, span: Span, message: impl Into<String>) {
        self.note(Severity::Warning, span, message.into());
    }

    pub(crate) fn inform(&self, span: Span, message: impl Into<String>) {
        self.note(Severity::Info, span, message.into());
    }

    fn note(&self, severity: Severity, span: Span, message: String) {
        let note = Note {
            severity,
            message,
            span,
        };
        let mut notes = self.notes.borrow_mut();
        if notes.len() < NOTES_MAX && !notes.contains(&note) {
            notes.push(note);
        }
    }

    pub(crate) fn invalid(&self, span: Span, message: impl Into<String>) -> EvalError {
        EvalError::Invalid {
            message: message.into(),
            span,
        }
    }

    fn finish(&self, output: Output, grid: &Grid) -> Result<Value, EvalError> {
        let series = match output {
            Output::String(text) => return Ok(Value::String(text)),
            Output::Scalar(values) if self.query.is_range => vec![Series {
                labels: Labels::default(),
                drops_name: false,
                values,
            }],
            Output::Scalar(values) => {
                let point = Point {
                    time_ms: self.query.start_ms,
                    value: values[0],
                };
                return Ok(Value::Scalar(point));
            }
            Output::Vector(series) => self.finish_names(series)?,
        };
        let has_value = |one: &Series| one.values.iter().any(|value| !is_absent(*value));
        let series: Vec<Series> = series.into_iter().filter(has_value).collect();
        self.check_series(series.len())?;
        if !self.query.is_range {
            return Ok(Value::Vector(
                series.into_iter().map(|one| sample(one, grid)).collect(),
            ));
        }
        let mut matrix: Vec<MatrixSeries> = Vec::with_capacity(series.len());
        for one in series {
            self.checkpoint()?;
            matrix.push(points(one, grid));
        }
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Value::Matrix(matrix))
    }

    fn finish_names(&self, mut series: Vec<Series>) -> Result<Vec<Series>, EvalError> {
        if !series.iter().any(|one| one.drops_name) {
            return Ok(series);
        }
        for one in series.iter_mut().filter(|one| one.drops_name) {
            one.labels = without_name(&one.labels);
            one.drops_name = false;
        }
        merge_same(self, series, self.query.expr.span)
    }

    fn check_series(&self, series: usize) -> Result<(), EvalError> {
        match series <= self.limits.series_max {
            true => Ok(()),
            false => Err(EvalError::TooManySeries {
                series,
                max: self.limits.series_max,
            }),
        }
    }
}

fn sample(series: Series, grid: &Grid) -> VectorSample {
    VectorSample {
        labels: series.labels,
        point: Point {
            time_ms: grid.time(0),
            value: series.values[0],
        },
    }
}

fn points(series: Series, grid: &Grid) -> MatrixSeries {
    let values = series.values.into_iter().enumerate();
    let points = values
        .filter(|(_, value)| !is_absent(*value))
        .map(|(step, value)| Point {
            time_ms: grid.time(step),
            value,
        })
        .collect();
    MatrixSeries {
        labels: series.labels,
        points,
    }
}
