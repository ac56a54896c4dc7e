//! What is wrong with a query that cannot be parsed.

use std::fmt;

use crate::span::Span;

/// A query is not PromQL, or its types do not fit. Shows as `1:5: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The text at fault; empty at the end of the query.
    pub span: Span,
    /// The line of its first byte, from 1.
    pub line: usize,
    /// The column of its first byte in the line, from 1, in bytes.
    pub column: usize,
    /// What is wrong, naming the text at fault and what was expected.
    pub message: String,
}

impl ParseError {
    pub(crate) fn new(text: &str, span: Span, message: impl Into<String>) -> ParseError {
        let (line, column) = span.line_and_column(text);
        ParseError {
            span,
            line,
            column,
            message: message.into(),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}
