//! Binary operators: the arithmetic, and those with a scalar on a side. Two vectors are in `matching`.

use super::{ABSENT, Evaluator, Grid, Output, Series, is_absent};
use crate::ast::{Binary, BinaryOp};
use crate::query::EvalError;
use crate::span::Span;

/// The value of an arithmetic operator.
pub(crate) fn arithmetic(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        _ => f64::from(u8::from(holds(op, a, b))),
    }
}

/// Whether a comparison holds.
fn holds(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Equal => a == b,
        BinaryOp::NotEqual => a != b,
        BinaryOp::Greater => a > b,
        BinaryOp::GreaterOrEqual => a >= b,
        BinaryOp::Less => a < b,
        BinaryOp::LessOrEqual => a <= b,
        _ => false,
    }
}

/// What one operator makes of two present values.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    op: BinaryOp,
    is_filter: bool,
}

impl Operation {
    pub(super) fn of(binary: &Binary) -> Operation {
        Operation {
            op: binary.op,
            is_filter: binary.op.is_comparison() && !binary.is_bool,
        }
    }

    /// Whether the metric name means something else afterwards.
    pub(super) fn drops_name(self) -> bool {
        !self.is_filter
    }

    /// The result; a filter gives `kept` where it holds, else nothing.
    pub(super) fn apply(self, lhs: f64, rhs: f64, kept: f64) -> f64 {
        if self.op.is_trim() {
            return ABSENT;
        }
        if !self.is_filter {
            return arithmetic(self.op, lhs, rhs);
        }
        match holds(self.op, lhs, rhs) {
            true => kept,
            false => ABSENT,
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn binary(
        &self,
        binary: &Binary,
        span: Span,
        grid: &Grid,
    ) -> Result<Output, EvalError> {
        let lhs = self.eval(&binary.lhs, grid)?;
        let rhs = self.eval(&binary.rhs, grid)?;
        let operation = Operation::of(binary);
        if binary.op.is_trim() {
            let op = binary.op.as_str();
            let message = format!(
                "incompatible sample types encountered for binary operator {op:?}: float {op} float"
            );
            self.inform(span, message);
        }
        match (lhs, rhs) {
            (Output::Scalar(mut lhs), Output::Scalar(rhs)) => {
                for (a, b) in lhs.iter_mut().zip(rhs) {
                    *a = arithmetic(binary.op, *a, b);
                }
                Ok(Output::Scalar(lhs))
            }
            (Output::Vector(lhs), Output::Scalar(rhs)) => {
                self.with_scalar(lhs, operation, span, |step, value| {
                    operation.apply(value, rhs[step], value)
                })
            }
            (Output::Scalar(lhs), Output::Vector(rhs)) => {
                self.with_scalar(rhs, operation, span, |step, value| {
                    operation.apply(lhs[step], value, value)
                })
            }
            (Output::Vector(lhs), Output::Vector(rhs)) if binary.op.is_set() => {
                Ok(Output::Vector(self.set(binary, lhs, rhs, span, grid)?))
            }
            (Output::Vector(lhs), Output::Vector(rhs)) => {
                Ok(Output::Vector(self.matched(binary, lhs, rhs, span, grid)?))
            }
            _ => Err(self.invalid(span, "a binary operator needs scalars or instant vectors")),
        }
    }

    fn with_scalar(
        &self,
        mut series: Vec<Series>,
        operation: Operation,
        span: Span,
        change: impl Fn(usize, f64) -> f64,
    ) -> Result<Output, EvalError> {
        if operation.drops_name() {
            return Ok(Output::Vector(self.map_values(series, span, change)?));
        }
        for one in &mut series {
            self.checkpoint()?;
            for (step, value) in one.values.iter_mut().enumerate() {
                if !is_absent(*value) {
                    *value = change(step, *value);
                }
            }
        }
        series.retain(|one| one.values.iter().any(|value| !is_absent(*value)));
        Ok(Output::Vector(series))
    }
}
