//! Vector selectors and lists of names.

use shoal_model::labels::METRIC_NAME;

use super::Parser;
use crate::ast::{Expr, ExprKind, Selector};
use crate::error::ParseError;
use crate::lexer::TokenKind;
use crate::matcher::{MatchOp, Matcher};
use crate::span::Span;

impl Parser<'_> {
    /// A selector whose name, if any, has been taken.
    pub(super) fn selector(&mut self, name: Option<Span>) -> Result<Expr, ParseError> {
        let (selector, span) = self.selector_parts(name)?;
        if !selector
            .conditions()
            .iter()
            .any(|matcher| !matcher.matches(""))
        {
            return Err(self.error(
                span,
                "vector selector must contain at least one non-empty matcher",
            ));
        }
        self.node(span, 0, ExprKind::Selector(Box::new(selector)))
    }

    /// The second argument of `info`: a selector without a name, which may be satisfied by anything.
    pub(super) fn info_selector(&mut self) -> Result<Expr, ParseError> {
        if !self.is_symbol(self.peek(), "{") {
            return Err(self.unexpected("a selector in braces as the second argument of info"));
        }
        let (selector, span) = self.selector_parts(None)?;
        self.node(span, 0, ExprKind::Selector(Box::new(selector)))
    }

    fn selector_parts(&mut self, name: Option<Span>) -> Result<(Selector, Span), ParseError> {
        let mut selector = Selector {
            name: name.map(|span| span.of(self.text).to_owned()),
            ..Selector::default()
        };
        let mut span = name.unwrap_or(self.peek().span);
        if let Some(open) = self.take("{") {
            let close = self.matchers(&mut selector, open)?;
            span = span.to(close);
        }
        Ok((selector, span))
    }

    fn matchers(&mut self, selector: &mut Selector, open: Span) -> Result<Span, ParseError> {
        loop {
            if let Some(close) = self.take("}") {
                return Ok(close);
            }
            self.matcher(selector)?;
            if self.take(",").is_none() {
                let Some(close) = self.take("}") else {
                    let (line, column) = open.line_and_column(self.text);
                    return Err(self.unexpected(&format!(
                        "\",\" or \"}}\" in the braces opened at {line}:{column}"
                    )));
                };
                return Ok(close);
            }
        }
    }

    fn matcher(&mut self, selector: &mut Selector) -> Result<(), ParseError> {
        let token = self.peek().clone();
        let is_quoted = matches!(token.kind, TokenKind::String(_));
        let name = self.label_name("a label name or \"}\"")?;
        let op = match self.peek().kind {
            TokenKind::Symbol("=") => MatchOp::Equal,
            TokenKind::Symbol("!=") => MatchOp::NotEqual,
            TokenKind::Symbol("=~") => MatchOp::Regex,
            TokenKind::Symbol("!~") => MatchOp::NotRegex,
            _ if is_quoted => return self.quoted_name(selector, name, token.span),
            _ => return Err(self.unexpected("a label matching operator: =, !=, =~ or !~")),
        };
        self.next();
        let value_span = self.peek().span;
        let TokenKind::String(value) = self.peek().kind.clone() else {
            return Err(self.unexpected("a label value in quotes"));
        };
        self.next();
        if name == METRIC_NAME
            && let Some(set) = &selector.name
        {
            let message = format!("metric name must not be set twice: {set:?} or {value:?}");
            return Err(self.error(token.span.to(value_span), message));
        }
        let matcher = Matcher::new(name, op, value)
            .map_err(|error| self.error(value_span, error.to_string()))?;
        selector.matchers.push(matcher);
        Ok(())
    }

    /// A metric name in quotes among the matchers.
    fn quoted_name(
        &self,
        selector: &mut Selector,
        name: String,
        span: Span,
    ) -> Result<(), ParseError> {
        let set_before = selector.name.as_deref().or_else(|| {
            let mut matchers = selector.matchers.iter();
            let matcher = matchers.find(|matcher| matcher.name == METRIC_NAME)?;
            Some(&*matcher.value)
        });
        if let Some(set) = set_before {
            let message = format!("metric name must not be set twice: {set:?} or {name:?}");
            return Err(self.error(span, message));
        }
        selector.name = Some(name);
        Ok(())
    }

    /// A label name, in quotes or not.
    pub(super) fn label_name(&mut self, expected: &str) -> Result<String, ParseError> {
        let token = self.peek().clone();
        let text = token.span.of(self.text);
        let name = match token.kind {
            TokenKind::String(name) if !name.is_empty() => name,
            TokenKind::Word if !text.contains(':') => text.to_owned(),
            // `inf` and `nan` are numbers elsewhere.
            TokenKind::Number(_) if text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                text.to_owned()
            }
            _ => return Err(self.unexpected(expected)),
        };
        self.next();
        Ok(name)
    }

    /// Label names in parentheses.
    pub(super) fn label_names(&mut self, context: &str) -> Result<(Vec<String>, Span), ParseError> {
        self.expect("(", context)?;
        let mut names = Vec::new();
        loop {
            if let Some(end) = self.take(")") {
                return Ok((names, end));
            }
            names.push(self.label_name("a label name or \")\"")?);
            if self.take(",").is_none() {
                return Ok((names, self.expect(")", "or \",\" after a label name")?));
            }
        }
    }
}
