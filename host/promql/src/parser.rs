//! Turns a query's text into a tree: precedence climbing over the tokens, types checked on the way.
//!
//! Recursion is bounded by [`DEPTH_MAX`], and so is the depth of the tree, however it came about: everything that
//! later walks the tree may recurse.

use crate::ast::{Binary, BinaryOp, Expr, ExprKind, UnaryOp, ValueType};
use crate::error::ParseError;
use crate::lexer::{Token, TokenKind, tokenize};
use crate::span::Span;

mod aggregate;
mod check;
mod duration;
mod matching;
mod primary;
mod selector;

/// The longest query, in bytes. Generated dashboards stay far below; beyond it a query is refused unread.
pub const QUERY_MAX_BYTES: usize = 64 * 1024;

/// Levels of a tree. Each costs a few frames of the stack while it is parsed, evaluated or dropped; so many fit into
/// 2 MiB, a thread's usual stack, even without optimisation.
pub const DEPTH_MAX: usize = 128;

/// Parses a query and checks its types.
///
/// ```
/// let expr = shoal_promql::parse(r#"sum by (job) (rate(requests_total{code=~"5.."}[5m]))"#)?;
/// assert_eq!(expr.value_type(), shoal_promql::ValueType::Vector);
///
/// let error = shoal_promql::parse("rate(requests_total)").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "1:6: expected type range vector in call to function \"rate\", got instant vector"
/// );
/// # Ok::<(), shoal_promql::ParseError>(())
/// ```
///
/// # Errors
/// When the text is longer than [`QUERY_MAX_BYTES`], is not PromQL, nests deeper than [`DEPTH_MAX`], holds a regular
/// expression that cannot be used, or when types do not fit.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    if text.len() > QUERY_MAX_BYTES {
        return Err(ParseError::new(
            "",
            Span::default(),
            format!(
                "the query has {} bytes, at most {QUERY_MAX_BYTES} are allowed",
                text.len()
            ),
        ));
    }
    let mut parser = Parser {
        text,
        tokens: tokenize(text)?,
        at: 0,
        depth: 0,
    };
    if parser.peek().kind == TokenKind::End {
        return Err(parser.unexpected("an expression"));
    }
    let expr = parser.expression(0)?;
    if parser.peek().kind != TokenKind::End {
        return Err(parser.unexpected("an operator or the end of the query"));
    }
    Ok(expr)
}

pub(crate) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn expression(&mut self, least_precedence: u8) -> Result<Expr, ParseError> {
        self.deeper(|parser| parser.expression_here(least_precedence))
    }

    fn expression_here(&mut self, least_precedence: u8) -> Result<Expr, ParseError> {
        let mut lhs = self.unary()?;
        while let Some(op) = self.peek_operator() {
            let precedence = op.precedence();
            if precedence < least_precedence {
                break;
            }
            let op_span = self.next().span;
            let (is_bool, matching) = self.binary_modifiers(op)?;
            // `^` groups from the right, all others from the left.
            let rhs = self.expression(precedence + u8::from(op != BinaryOp::Pow))?;
            let binary = Binary {
                op,
                is_bool,
                matching,
                lhs: Box::new(lhs),
                rhs: Box::new(rhs),
            };
            self.check_binary(&binary, op_span)?;
            lhs = self.node(
                binary.lhs.span.to(binary.rhs.span),
                binary.lhs.depth.max(binary.rhs.depth),
                ExprKind::Binary(Box::new(binary)),
            )?;
        }
        Ok(lhs)
    }

    fn unary(&mut self) -> Result<Expr, ParseError> {
        let op = match self.peek().kind {
            TokenKind::Symbol("+") => UnaryOp::Plus,
            TokenKind::Symbol("-") => UnaryOp::Minus,
            _ => return self.postfix(),
        };
        let sign = self.next().span;
        // Binds like `*`: `-2 ^ 2` is `-(2 ^ 2)`.
        let expr = self.expression(BinaryOp::Pow.precedence())?;
        if !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector) {
            let message = format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                expr.value_type().as_str()
            );
            return Err(self.error(expr.span, message));
        }
        self.node(
            sign.to(expr.span),
            expr.depth,
            ExprKind::Unary(op, Box::new(expr)),
        )
    }

    fn peek_operator(&self) -> Option<BinaryOp> {
        let token = self.peek();
        Some(match token.kind {
            TokenKind::Symbol("+") => BinaryOp::Add,
            TokenKind::Symbol("-") => BinaryOp::Sub,
            TokenKind::Symbol("*") => BinaryOp::Mul,
            TokenKind::Symbol("/") => BinaryOp::Div,
            TokenKind::Symbol("%") => BinaryOp::Mod,
            TokenKind::Symbol("^") => BinaryOp::Pow,
            TokenKind::Symbol("==") => BinaryOp::Equal,
            TokenKind::Symbol("!=") => BinaryOp::NotEqual,
            TokenKind::Symbol(">") => BinaryOp::Greater,
            TokenKind::Symbol(">=") => BinaryOp::GreaterOrEqual,
            TokenKind::Symbol("<") => BinaryOp::Less,
            TokenKind::Symbol("</") => BinaryOp::TrimUpper,
            TokenKind::Symbol(">/") => BinaryOp::TrimLower,
            TokenKind::Symbol("<=") => BinaryOp::LessOrEqual,
            TokenKind::Word if self.is_word(token, "atan2") => BinaryOp::Atan2,
            TokenKind::Word if self.is_word(token, "and") => BinaryOp::And,
            TokenKind::Word if self.is_word(token, "or") => BinaryOp::Or,
            TokenKind::Word if self.is_word(token, "unless") => BinaryOp::Unless,
            _ => return None,
        })
    }

    /// Makes an expression above others, the deepest of which has `depth` levels.
    fn node(&self, span: Span, depth: usize, kind: ExprKind) -> Result<Expr, ParseError> {
        if depth >= DEPTH_MAX {
            return Err(self.too_deep(span));
        }
        Ok(Expr {
            kind,
            span,
            depth: depth + 1,
        })
    }

    /// Runs `parse` one level of recursion deeper.
    fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth >= DEPTH_MAX {
            return Err(self.too_deep(self.peek().span));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn too_deep(&self, span: Span) -> ParseError {
        self.error(
            span,
            format!(
                "the query nests deeper than {DEPTH_MAX} levels: split it into recording rules"
            ),
        )
    }

    fn peek(&self) -> &Token {
        // The last token is the end, and nothing steps over it.
        &self.tokens[self.at]
    }

    fn peek_second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    /// Takes the symbol if it is next.
    fn take(&mut self, symbol: &str) -> Option<Span> {
        let is_next = matches!(self.peek().kind, TokenKind::Symbol(next) if next == symbol);
        is_next.then(|| self.next().span)
    }

    fn expect(&mut self, symbol: &str, context: &str) -> Result<Span, ParseError> {
        self.take(symbol)
            .ok_or_else(|| self.unexpected(&format!("\"{symbol}\" {context}")))
    }

    /// Takes the keyword if it is next.
    fn take_word(&mut self, word: &str) -> Option<Span> {
        self.is_word(self.peek(), word).then(|| self.next().span)
    }

    fn is_word(&self, token: &Token, word: &str) -> bool {
        token.kind == TokenKind::Word && token.span.of(self.text).eq_ignore_ascii_case(word)
    }

    fn is_symbol(&self, token: &Token, symbol: &str) -> bool {
        matches!(token.kind, TokenKind::Symbol(found) if found == symbol)
    }

    fn unexpected(&self, expected: &str) -> ParseError {
        let token = self.peek();
        let found = match &token.kind {
            TokenKind::End => "end of input".to_owned(),
            TokenKind::String(_) => format!("string {}", shorten(token.span.of(self.text))),
            _ => format!("\"{}\"", shorten(token.span.of(self.text))),
        };
        self.error(
            token.span,
            format!("unexpected {found}, expected {expected}"),
        )
    }

    fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, span, message)
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests;
