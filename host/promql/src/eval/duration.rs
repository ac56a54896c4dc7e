//! What durations come to in a query.

use super::Evaluator;
use crate::ast::{At, BinaryOp, Duration, DurationKind, UnaryOp};
use crate::literal::DURATION_MAX_SECONDS;
use crate::query::EvalError;

impl Evaluator<'_> {
    /// A duration in milliseconds.
    pub(crate) fn duration_ms(&self, duration: &Duration) -> Result<i64, EvalError> {
        let seconds = self.seconds(duration)?;
        if seconds.is_nan() || seconds.abs() > DURATION_MAX_SECONDS {
            return Err(self.invalid(
                duration.span,
                format!("duration out of range: {duration} is {seconds} seconds"),
            ));
        }
        Ok((seconds * 1000.0).round() as i64)
    }

    /// A duration in milliseconds that has to be positive.
    pub(crate) fn positive_ms(&self, duration: &Duration) -> Result<i64, EvalError> {
        let duration_ms = self.duration_ms(duration)?;
        match duration_ms > 0 {
            true => Ok(duration_ms),
            false => Err(self.invalid(
                duration.span,
                format!("duration must be greater than 0, {duration} is {duration_ms}ms"),
            )),
        }
    }

    pub(crate) fn offset_ms(&self, offset: Option<&Duration>) -> Result<i64, EvalError> {
        offset.map_or(Ok(0), |offset| self.duration_ms(offset))
    }

    pub(crate) fn at_ms(&self, at: Option<At>) -> Option<i64> {
        match at? {
            At::Time(time_ms) => Some(time_ms),
            At::Start => Some(self.query.start_ms),
            At::End => Some(self.query.end_ms),
        }
    }

    fn seconds(&self, duration: &Duration) -> Result<f64, EvalError> {
        Ok(match &duration.kind {
            DurationKind::Literal(number) => number.value,
            DurationKind::Step => self.query.step_ms as f64 / 1000.0,
            DurationKind::Range => (self.query.end_ms - self.query.start_ms) as f64 / 1000.0,
            DurationKind::Paren(inner) | DurationKind::Unary(UnaryOp::Plus, inner) => {
                self.seconds(inner)?
            }
            DurationKind::Unary(UnaryOp::Minus, inner) => -self.seconds(inner)?,
            DurationKind::MinOf(a, b) => self.seconds(a)?.min(self.seconds(b)?),
            DurationKind::MaxOf(a, b) => self.seconds(a)?.max(self.seconds(b)?),
            DurationKind::Binary(op, a, b) => {
                let (a, b) = (self.seconds(a)?, self.seconds(b)?);
                if b == 0.0 && matches!(op, BinaryOp::Div | BinaryOp::Mod) {
                    return Err(self.invalid(
                        duration.span,
                        format!("division by zero in duration {duration}"),
                    ));
                }
                super::binary::arithmetic(*op, a, b)
            }
        })
    }
}
