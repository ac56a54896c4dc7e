//! PromQL: parser and evaluator, with the semantics of Prometheus 3.
//!
//! [`parse`] turns text into an [`Expr`] whose every part knows where it stands; [`evaluate`] answers a [`Query`] about
//! it. Series come through one trait, [`SeriesSource`]. An expression is evaluated node by node over all steps of the
//! query at once, so that selecting, matching and grouping happen once per query, not once per step.
//!
//! Invariants:
//! - Neither text nor data can make this crate panic, overflow the stack, or use more than [`Limits`] allow. Tests:
//!   `nothing_makes_the_parser_panic`, `limits`.
//! - A range query equals a loop of instant queries. Test: `a_range_query_equals_a_loop_of_instant_queries`.
//! - What the expression says is what Prometheus' own tests expect. Test: `prometheus_conformance`.
//!
//! ```
//! use shoal_promql::{Limits, Matcher, Query, SeriesData, SeriesSource, SourceError, Value};
//!
//! struct Nothing;
//! impl SeriesSource for Nothing {
//!     fn select(&self, _: &[Matcher], _: i64, _: i64) -> Result<Vec<SeriesData>, SourceError> {
//!         Ok(Vec::new())
//!     }
//! }
//!
//! let query = Query::instant(shoal_promql::parse("1 + 2 * 3")?, 0);
//! let answer = shoal_promql::evaluate(&query, &Nothing, &Limits::default())?;
//! assert!(matches!(answer.value, Value::Scalar(point) if point.value == 7.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]

mod ast;
mod display;
mod error;
mod eval;
mod function;
mod functions;
mod lexer;
mod literal;
mod matcher;
mod parser;
mod query;
mod source;
mod span;

pub use ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Bounds, Duration, DurationKind, Expr, ExprKind,
    Group, Grouping, Matching, MatchingLabels, Number, Selector, Subquery, UnaryOp, ValueType,
};
pub use display::format_number;
pub use error::ParseError;
pub use eval::evaluate;
pub use function::{Function, Signature};
pub use matcher::{InvalidRegex, MatchOp, Matcher, REGEX_MAX_BYTES};
pub use parser::{DEPTH_MAX, QUERY_MAX_BYTES, parse};
pub use query::{
    Answer, EvalError, LOOKBACK_MS, Limits, MatrixSeries, NOTES_MAX, Note, Point, Query,
    SUBQUERY_STEP_MS, Severity, Value, VectorSample,
};
pub use source::{STALE_BITS, SeriesData, SeriesSource, SourceError, is_stale};
pub use span::Span;
