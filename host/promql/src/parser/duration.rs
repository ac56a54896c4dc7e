//! Durations: literals, and expressions of them in brackets and behind `offset`.

use super::Parser;
use crate::ast::{BinaryOp, Duration, DurationKind, Number, UnaryOp};
use crate::error::ParseError;
use crate::lexer::TokenKind;
use crate::literal::DURATION_MAX_SECONDS;
use crate::parser::DEPTH_MAX;
use crate::span::Span;

impl Parser<'_> {
    /// A duration in brackets. What can be seen now to be zero or less is refused now.
    pub(super) fn positive_duration(&mut self, what: &str) -> Result<Duration, ParseError> {
        let duration = self.duration(0)?;
        if let Some(seconds) = constant(&duration)
            && (seconds <= 0.0 || seconds.is_nan())
        {
            let message = format!("duration must be greater than 0 in a {what}, got {duration}");
            return Err(self.error(duration.span, message));
        }
        Ok(duration)
    }

    /// A duration behind `offset`: without parentheses only a sign and one operand, so that
    /// `x offset 2 ^ 2` is `(x offset 2) ^ 2`.
    pub(super) fn offset_duration(&mut self) -> Result<Duration, ParseError> {
        self.deeper(Self::duration_unary_operand)
    }

    fn duration_unary_operand(&mut self) -> Result<Duration, ParseError> {
        let Some((op, span)) = self.take_sign() else {
            return self.duration_operand();
        };
        let inner = self.duration_operand()?;
        self.duration_node(
            span.to(inner.span),
            inner.depth,
            DurationKind::Unary(op, Box::new(inner)),
        )
    }

    fn duration(&mut self, least_precedence: u8) -> Result<Duration, ParseError> {
        self.deeper(|parser| parser.duration_here(least_precedence))
    }

    fn duration_here(&mut self, least_precedence: u8) -> Result<Duration, ParseError> {
        let mut lhs = self.duration_unary()?;
        while let Some(op) = self.peek_operator() {
            let precedence = op.precedence();
            if precedence < least_precedence {
                break;
            }
            let span = self.next().span;
            let is_odd = op.is_set() || op.is_trim() || op == BinaryOp::Atan2;
            if op.is_comparison() || is_odd {
                let message = format!("{:?} cannot be used in a duration", op.as_str());
                return Err(self.error(span, message));
            }
            let rhs = self.duration(precedence + u8::from(op != BinaryOp::Pow))?;
            let (span, depth) = (lhs.span.to(rhs.span), lhs.depth.max(rhs.depth));
            let kind = DurationKind::Binary(op, Box::new(lhs), Box::new(rhs));
            lhs = self.duration_node(span, depth, kind)?;
        }
        Ok(lhs)
    }

    fn duration_unary(&mut self) -> Result<Duration, ParseError> {
        let Some((op, span)) = self.take_sign() else {
            return self.duration_operand();
        };
        let inner = self.duration(BinaryOp::Pow.precedence())?;
        self.duration_node(
            span.to(inner.span),
            inner.depth,
            DurationKind::Unary(op, Box::new(inner)),
        )
    }

    fn take_sign(&mut self) -> Option<(UnaryOp, Span)> {
        let minus = self.take("-").map(|span| (UnaryOp::Minus, span));
        minus.or_else(|| self.take("+").map(|span| (UnaryOp::Plus, span)))
    }

    fn duration_operand(&mut self) -> Result<Duration, ParseError> {
        let token = self.peek().clone();
        match token.kind {
            TokenKind::Number(value) => self.duration_literal(token.span, value, false),
            TokenKind::Duration(duration_ms) => {
                self.duration_literal(token.span, duration_ms as f64 / 1000.0, true)
            }
            TokenKind::Symbol("(") => {
                self.next();
                let inner = self.duration(0)?;
                let end = self.expect(")", "to close the parenthesis")?;
                let depth = inner.depth;
                self.duration_node(
                    token.span.to(end),
                    depth,
                    DurationKind::Paren(Box::new(inner)),
                )
            }
            TokenKind::Word => self.duration_call(token.span),
            _ => Err(self.unexpected("a duration such as 5m")),
        }
    }

    fn duration_literal(
        &mut self,
        span: Span,
        value: f64,
        is_duration: bool,
    ) -> Result<Duration, ParseError> {
        if value.is_nan() || value.abs() > DURATION_MAX_SECONDS {
            let message = format!("duration out of range: {}", span.of(self.text));
            return Err(self.error(span, message));
        }
        self.next();
        self.duration_node(
            span,
            0,
            DurationKind::Literal(Number { value, is_duration }),
        )
    }

    fn duration_call(&mut self, span: Span) -> Result<Duration, ParseError> {
        let name = span.of(self.text).to_ascii_lowercase();
        if !matches!(&*name, "step" | "range" | "min_of" | "max_of") {
            return Err(self.unexpected("a duration such as 5m, step() or range()"));
        }
        self.next();
        self.expect("(", "after the function's name")?;
        if matches!(&*name, "step" | "range") {
            let end = self.expect(")", "as the function takes no arguments")?;
            let kind = match &*name {
                "step" => DurationKind::Step,
                _ => DurationKind::Range,
            };
            return self.duration_node(span.to(end), 0, kind);
        }
        let first = Box::new(self.duration(0)?);
        self.expect(",", "between two durations")?;
        let second = Box::new(self.duration(0)?);
        let end = self.expect(")", "after two durations")?;
        let depth = first.depth.max(second.depth);
        let kind = match &*name {
            "min_of" => DurationKind::MinOf(first, second),
            _ => DurationKind::MaxOf(first, second),
        };
        self.duration_node(span.to(end), depth, kind)
    }

    fn duration_node(
        &self,
        span: Span,
        depth: usize,
        kind: DurationKind,
    ) -> Result<Duration, ParseError> {
        if depth >= DEPTH_MAX {
            return Err(self.too_deep(span));
        }
        Ok(Duration {
            kind,
            span,
            depth: depth + 1,
        })
    }
}

/// The seconds of a duration that does not depend on the query.
fn constant(duration: &Duration) -> Option<f64> {
    match &duration.kind {
        DurationKind::Literal(number) => Some(number.value),
        DurationKind::Paren(inner) => constant(inner),
        DurationKind::Unary(UnaryOp::Minus, inner) => constant(inner).map(|value| -value),
        DurationKind::Unary(UnaryOp::Plus, inner) => constant(inner),
        _ => None,
    }
}
