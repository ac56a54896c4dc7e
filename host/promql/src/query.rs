//! A question, its limits, and its answer.

use shoal_model::labels::Labels;

use crate::ast::Expr;
use crate::source::SourceError;
use crate::span::Span;

/// How long a sample stands for its series when nothing follows: 5 minutes, as in Prometheus.
pub const LOOKBACK_MS: i64 = 5 * 60 * 1000;

/// The step of subqueries that give none: a minute, Prometheus' default interval of evaluation.
pub const SUBQUERY_STEP_MS: i64 = 60 * 1000;

/// An expression and the times at which to evaluate it.
#[derive(Clone, Debug)]
pub struct Query {
    /// What to evaluate.
    pub expr: Expr,
    /// The first time, in milliseconds since the epoch.
    pub start_ms: i64,
    /// No time is later.
    pub end_ms: i64,
    /// Milliseconds between times; 0 for an instant query.
    pub step_ms: i64,
    /// Whether the answer is about a range, even if it has one step.
    pub is_range: bool,
    /// How long a sample stands for its series; [`LOOKBACK_MS`].
    pub lookback_ms: i64,
    /// The step of subqueries that give none; [`SUBQUERY_STEP_MS`].
    pub subquery_step_ms: i64,
    /// Whether functions keep the metric name until the end of the evaluation, so that operators further out can see
    /// it. Off, as in Prometheus.
    pub delays_name_removal: bool,
}

impl Query {
    /// Evaluates `expr` at one time.
    pub fn instant(expr: Expr, at_ms: i64) -> Query {
        Query {
            expr,
            start_ms: at_ms,
            end_ms: at_ms,
            step_ms: 0,
            is_range: false,
            lookback_ms: LOOKBACK_MS,
            subquery_step_ms: SUBQUERY_STEP_MS,
            delays_name_removal: false,
        }
    }

    /// Evaluates `expr` at `start_ms` and every `step_ms` after it, up to and including `end_ms`.
    pub fn range(expr: Expr, start_ms: i64, end_ms: i64, step_ms: i64) -> Query {
        Query {
            end_ms,
            step_ms,
            is_range: true,
            ..Query::instant(expr, start_ms)
        }
    }
}

/// What one evaluation may use. Beyond each bound the query is refused.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Steps of a range query: 11,000, a week of minutes and a bit, as in Prometheus. More points than any screen has
    /// pixels.
    pub steps_max: usize,
    /// Samples held in memory at one time, those of intermediate results included: 50 million, as in Prometheus, which
    /// are 400 to 800 MB.
    pub samples_max: u64,
    /// Series in the answer: 50,000, which already make a JSON document of some 10 MB.
    pub series_max: usize,
    /// Asked again and again while the evaluation runs; it ends when this says `true`. The place for deadlines and for
    /// clients that have gone.
    pub is_cancelled: &'a dyn Fn() -> bool,
}

impl Default for Limits<'_> {
    fn default() -> Self {
        Limits {
            steps_max: 11_000,
            samples_max: 50_000_000,
            series_max: 50_000,
            is_cancelled: &never,
        }
    }
}

fn never() -> bool {
    false
}

/// A value at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    /// The value; may be NaN, is never the stale marker.
    pub value: f64,
}

/// A series of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// Its value at the time of the query.
    pub point: Point,
}

/// A series of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSeries {
    /// Its labels.
    pub labels: Labels,
    /// Its values, sorted by time; not empty.
    pub points: Vec<Point>,
}

/// What an expression came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of an instant query for a number.
    Scalar(Point),
    /// Of an instant query for a vector. In the order of the source, or as `sort` and `topk` made it.
    Vector(Vec<VectorSample>),
    /// Of a range query, scalars being one series without labels; of an instant query for a range vector. Sorted by
    /// labels.
    Matrix(Vec<MatrixSeries>),
    /// Of an instant query for text.
    String(String),
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The answer may not be what was meant.
    Warning,
    /// Something worth knowing.
    Info,
}

/// A remark on an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// What is remarked.
    pub message: String,
    /// The part of the query that it is about.
    pub span: Span,
}

impl Note {
    /// The remark as Prometheus shows it, with the line and the column in the query's text.
    pub fn render(&self, query_text: &str) -> String {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        let (line, column) = self.span.line_and_column(query_text);
        format!("PromQL {severity}: {} ({line}:{column})", self.message)
    }
}

/// Remarks kept for one answer: as many as a reader will look at. More are dropped.
pub const NOTES_MAX: usize = 100;

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What the expression came to.
    pub value: Value,
    /// Remarks, each once, at most [`NOTES_MAX`].
    pub notes: Vec<Note>,
}

/// A query could not be answered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// The times of the query make no sense.
    #[error("{0}")]
    BadTimes(String),
    /// A range query has to be for a scalar or an instant vector.
    #[error("invalid expression type {found:?} for range query, must be scalar or instant vector")]
    NotRangeable {
        /// What the expression evaluates to.
        found: &'static str,
    },
    /// More steps than [`Limits::steps_max`].
    #[error(
        "the query has {steps} steps, at most {max} are allowed: use a longer step or a shorter range"
    )]
    TooManySteps {
        /// Steps asked for.
        steps: u64,
        /// The limit.
        max: usize,
    },
    /// More samples than [`Limits::samples_max`] at one time.
    #[error(
        "the query holds more than {max} samples in memory: shorten its range or select fewer series"
    )]
    TooManySamples {
        /// The limit.
        max: u64,
    },
    /// More series than [`Limits::series_max`].
    #[error(
        "the answer has {series} series, at most {max} are allowed: aggregate, or select fewer series"
    )]
    TooManySeries {
        /// Series in the answer.
        series: usize,
        /// The limit.
        max: usize,
    },
    /// [`Limits::is_cancelled`] said so.
    #[error("the query was cancelled or ran out of time")]
    Cancelled,
    /// The source gave no series.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The data do not fit the expression, such as when two series match where one may.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
        /// The part of the query at fault.
        span: Span,
    },
}
