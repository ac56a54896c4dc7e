//! Literals, parentheses, calls, and what may stand behind an expression.

use super::Parser;
use crate::ast::{AggregateOp, At, Bounds, Duration, Expr, ExprKind, Number, Subquery, ValueType};
use crate::error::ParseError;
use crate::function::Function;
use crate::lexer::TokenKind;
use crate::span::Span;

impl Parser<'_> {
    /// A primary expression and its brackets, offsets and the like.
    pub(super) fn postfix(&mut self) -> Result<Expr, ParseError> {
        let mut expr = self.primary()?;
        loop {
            let token = self.peek();
            expr = if self.is_symbol(token, "[") {
                self.bracket(expr)?
            } else if self.is_symbol(token, "@") {
                self.at_modifier(expr)?
            } else if self.is_word(token, "offset") {
                self.offset_modifier(expr)?
            } else if self.is_word(token, "anchored") {
                self.bounds_modifier(expr, Bounds::Anchored)?
            } else if self.is_word(token, "smoothed") {
                self.bounds_modifier(expr, Bounds::Smoothed)?
            } else {
                return Ok(expr);
            };
        }
    }

    fn primary(&mut self) -> Result<Expr, ParseError> {
        let token = self.peek().clone();
        match token.kind {
            TokenKind::Number(value) => {
                self.next();
                self.literal(token.span, value, false)
            }
            TokenKind::Duration(duration_ms) => {
                self.next();
                self.literal(token.span, duration_ms as f64 / 1000.0, true)
            }
            TokenKind::String(text) => {
                self.next();
                self.node(token.span, 0, ExprKind::String(text))
            }
            TokenKind::Symbol("(") => {
                self.next();
                let inner = self.expression(0)?;
                let end = self.expect(")", "to close the parenthesis")?;
                let depth = inner.depth;
                self.node(token.span.to(end), depth, ExprKind::Paren(Box::new(inner)))
            }
            TokenKind::Symbol("{") => self.selector(None),
            TokenKind::Word => self.word(token.span),
            _ => Err(self.unexpected("an expression")),
        }
    }

    fn literal(&self, span: Span, value: f64, is_duration: bool) -> Result<Expr, ParseError> {
        self.node(span, 0, ExprKind::Number(Number { value, is_duration }))
    }

    fn word(&mut self, span: Span) -> Result<Expr, ParseError> {
        let name = span.of(self.text);
        let second = self.peek_second();
        let is_called = self.is_symbol(second, "(");
        let is_grouped = self.is_word(second, "by") || self.is_word(second, "without");
        if let Some(op) = AggregateOp::from_name(name).filter(|_| is_called || is_grouped) {
            return self.aggregate(op);
        }
        if is_called {
            return self.call(span);
        }
        const RESERVED: [&str; 6] = [
            "on",
            "ignoring",
            "group_left",
            "group_right",
            "bool",
            "atan2",
        ];
        if RESERVED.iter().any(|word| name.eq_ignore_ascii_case(word)) {
            return Err(self.unexpected("an expression"));
        }
        self.next();
        self.selector(Some(span))
    }

    fn call(&mut self, name_span: Span) -> Result<Expr, ParseError> {
        let name = name_span.of(self.text);
        // Durations accept these in any case, so calls do.
        let lower = name.to_ascii_lowercase();
        let is_duration_function = matches!(
            &*lower,
            "step" | "range" | "start" | "end" | "min_of" | "max_of"
        );
        let known = if is_duration_function { &lower } else { name };
        let Some(function) = Function::from_name(known) else {
            return Err(self.error(name_span, format!("unknown function with name {name:?}")));
        };
        self.next();
        self.next();
        let mut args = Vec::new();
        let end = loop {
            if let Some(end) = self.take(")") {
                break end;
            }
            args.push(self.argument(function, args.len())?);
            if self.take(",").is_none() {
                break self.expect(")", "or \",\" after an argument")?;
            }
        };
        let span = name_span.to(end);
        self.check_call(function, &args, span)?;
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0);
        self.node(span, depth, ExprKind::Call(function, args))
    }

    fn argument(&mut self, function: Function, index: usize) -> Result<Expr, ParseError> {
        if function == Function::Info && index == 1 {
            return self.info_selector();
        }
        self.expression(0)
    }

    /// `[5m]` or `[5m:1m]`
    fn bracket(&mut self, expr: Expr) -> Result<Expr, ParseError> {
        let start = self.next().span;
        let range = self.positive_duration("range")?;
        if self.take(":").is_none() {
            let end = self.expect("]", "or \":\" after a range")?;
            return self.matrix(expr, range, end);
        }
        let step = match self.is_symbol(self.peek(), "]") {
            true => None,
            false => Some(self.positive_duration("step")?),
        };
        let end = self.expect("]", "after a subquery's step")?;
        if !matches!(expr.value_type(), ValueType::Vector | ValueType::Scalar) {
            let message = format!(
                "subquery is only allowed on instant vector, got {} instead",
                expr.value_type().as_str()
            );
            return Err(self.error(expr.span.to(start), message));
        }
        if expr.value_type() == ValueType::Scalar {
            let message = "subquery is only allowed on instant vector, got scalar instead";
            return Err(self.error(expr.span, message));
        }
        let (span, depth) = (expr.span.to(end), expr.depth);
        let subquery = Subquery {
            expr: Box::new(expr),
            range,
            step,
            offset: None,
            at: None,
        };
        self.node(span, depth, ExprKind::Subquery(Box::new(subquery)))
    }

    fn matrix(&self, expr: Expr, range: Duration, end: Span) -> Result<Expr, ParseError> {
        let span = expr.span.to(end);
        let ExprKind::Selector(selector) = expr.kind else {
            return Err(self.error(expr.span, "ranges only allowed for vector selectors"));
        };
        if selector.offset.is_some() {
            return Err(self.error(expr.span, "no offset modifiers allowed before range"));
        }
        if selector.at.is_some() {
            return Err(self.error(expr.span, "no @ modifiers allowed before range"));
        }
        if let Some(bounds) = selector.bounds {
            let message = format!("no {} modifiers allowed before range", bounds.as_str());
            return Err(self.error(expr.span, message));
        }
        self.node(span, 0, ExprKind::Matrix(selector, Box::new(range)))
    }

    fn offset_modifier(&mut self, mut expr: Expr) -> Result<Expr, ParseError> {
        let keyword = self.next().span;
        let duration = self.offset_duration()?;
        expr.span = expr.span.to(duration.span);
        let slot = match &mut expr.kind {
            ExprKind::Selector(selector) | ExprKind::Matrix(selector, _) => &mut selector.offset,
            ExprKind::Subquery(subquery) => &mut subquery.offset,
            _ => return Err(self.misplaced("offset", keyword)),
        };
        if slot.is_some() {
            return Err(self.error(keyword, "offset may not be set multiple times"));
        }
        *slot = Some(duration);
        Ok(expr)
    }

    fn at_modifier(&mut self, mut expr: Expr) -> Result<Expr, ParseError> {
        let keyword = self.next().span;
        let (at, end) = self.at_time()?;
        expr.span = expr.span.to(end);
        let slot = match &mut expr.kind {
            ExprKind::Selector(selector) | ExprKind::Matrix(selector, _) => &mut selector.at,
            ExprKind::Subquery(subquery) => &mut subquery.at,
            _ => return Err(self.misplaced("@", keyword)),
        };
        if slot.is_some() {
            return Err(self.error(keyword, "@ <timestamp> may not be set multiple times"));
        }
        *slot = Some(at);
        Ok(expr)
    }

    fn at_time(&mut self) -> Result<(At, Span), ParseError> {
        let named = [("start", At::Start), ("end", At::End)];
        for (name, at) in named {
            if self.take_word(name).is_some() {
                self.expect("(", "after start or end")?;
                return Ok((at, self.expect(")", "after start( or end(")?));
            }
        }
        let sign = match self.take("-") {
            Some(_) => -1.0,
            None => {
                self.take("+");
                1.0
            }
        };
        let token = self.peek().clone();
        let seconds = match token.kind {
            TokenKind::Number(value) => value,
            TokenKind::Duration(duration_ms) => duration_ms as f64 / 1000.0,
            _ => return Err(self.unexpected("a time in seconds, start() or end() after @")),
        };
        self.next();
        let time_ms = (sign * seconds * 1000.0).round();
        // As far from the ends of an i64 as offsets and ranges can reach.
        if !time_ms.is_finite() || time_ms.abs() > 2f64.powi(61) {
            let message = format!(
                "timestamp out of bounds for @ modifier: {:?}",
                token.span.of(self.text)
            );
            return Err(self.error(token.span, message));
        }
        Ok((At::Time(time_ms as i64), token.span))
    }

    fn bounds_modifier(&mut self, mut expr: Expr, bounds: Bounds) -> Result<Expr, ParseError> {
        let keyword = self.next().span;
        let is_vector = matches!(expr.kind, ExprKind::Selector(_));
        expr.span = expr.span.to(keyword);
        match &mut expr.kind {
            ExprKind::Selector(_) if bounds == Bounds::Anchored => Err(self.error(
                keyword,
                "anchored modifier can only be used with range vectors",
            )),
            ExprKind::Selector(selector) | ExprKind::Matrix(selector, _)
                if selector.bounds.is_none() =>
            {
                selector.bounds = Some(bounds);
                Ok(expr)
            }
            ExprKind::Selector(_) | ExprKind::Matrix(..) => {
                let what = if is_vector { "an instant" } else { "a range" };
                let message = format!("{what} vector can be anchored or smoothed only once");
                Err(self.error(keyword, message))
            }
            _ => Err(self.misplaced(bounds.as_str(), keyword)),
        }
    }

    fn misplaced(&self, modifier: &str, span: Span) -> ParseError {
        self.error(
            span,
            format!(
                "{modifier} modifier must be preceded by an instant vector selector or range vector \
                 selector or a subquery"
            ),
        )
    }
}
