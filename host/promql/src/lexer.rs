//! Cuts a query into tokens. Words stay words: what is a keyword depends on where it stands, so that a metric
//! can be called `by` or `fill`.

use crate::error::ParseError;
use crate::literal::{Numeric, StringFault, parse_numeric, read_string};
use crate::span::Span;

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    /// A name or a keyword; its text is its span. May hold colons outside of brackets.
    Word,
    Number(f64),
    /// In milliseconds.
    Duration(i64),
    String(String),
    /// An operator or a bracket.
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// Longer ones first.
const SYMBOLS: [&str; 29] = [
    "</", ">/", "==", "!=", "=~", "!~", ">=", "<=", "+", "-", "*", "/", "%", "^", "=", "<", ">",
    "(", ")", "{", "}", "[", "]", ",", ":", "@", "!", "~", ";",
];

/// The tokens of a query, the last one being [`TokenKind::End`].
pub(crate) fn tokenize(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut brackets = 0usize;
    loop {
        at = skip_blank(text, at);
        let Some(first) = text[at..].chars().next() else {
            break;
        };
        let (kind, length) = if is_word_start(first) && (brackets == 0 || first != ':') {
            word(&text[at..], brackets > 0)
        } else if first.is_ascii_digit() || is_fraction(&text[at..]) {
            number(text, at)?
        } else if matches!(first, '"' | '\'' | '`') {
            string(text, at)?
        } else {
            symbol(text, at, first)?
        };
        match kind {
            TokenKind::Symbol("[") => brackets += 1,
            TokenKind::Symbol("]") => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        tokens.push(Token {
            kind,
            span: Span::new(at, at + length),
        });
        at += length;
    }
    tokens.push(Token {
        kind: TokenKind::End,
        span: Span::new(text.len(), text.len()),
    });
    Ok(tokens)
}

/// Skips white space and comments, which run from `#` to the end of the line.
fn skip_blank(text: &str, mut at: usize) -> usize {
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            b'#' => {
                at += bytes[at..]
                    .iter()
                    .position(|b| *b == b'\n')
                    .unwrap_or(bytes.len() - at);
            }
            _ => break,
        }
    }
    at
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':'
}

fn is_fraction(rest: &str) -> bool {
    let mut bytes = rest.bytes();
    bytes.next() == Some(b'.') && bytes.next().is_some_and(|b| b.is_ascii_digit())
}

fn word(rest: &str, is_in_brackets: bool) -> (TokenKind, usize) {
    let length = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || (c == ':' && !is_in_brackets)))
        .unwrap_or(rest.len());
    let kind = match &rest[..length] {
        text if text.eq_ignore_ascii_case("inf") => TokenKind::Number(f64::INFINITY),
        text if text.eq_ignore_ascii_case("nan") => TokenKind::Number(f64::NAN),
        _ => TokenKind::Word,
    };
    (kind, length)
}

fn number(text: &str, at: usize) -> Result<(TokenKind, usize), ParseError> {
    let rest = &text.as_bytes()[at..];
    let is_hex = rest.len() > 1 && rest[0] == b'0' && matches!(rest[1], b'x' | b'X');
    let mut length = 0;
    while let Some(byte) = rest.get(length) {
        let is_sign_of_exponent = matches!(byte, b'+' | b'-')
            && !is_hex
            && length > 0
            && matches!(rest[length - 1], b'e' | b'E')
            && rest.get(length + 1).is_some_and(u8::is_ascii_digit);
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || is_sign_of_exponent) {
            break;
        }
        length += 1;
    }
    let span = Span::new(at, at + length);
    match parse_numeric(span.of(text)) {
        Some(Numeric::Number(value)) => Ok((TokenKind::Number(value), length)),
        Some(Numeric::Duration(value)) => Ok((TokenKind::Duration(value), length)),
        None => Err(ParseError::new(
            text,
            span,
            format!(
                "bad number or duration syntax: {:?}; write 1.5, 0x1f or 1h30m",
                span.of(text)
            ),
        )),
    }
}

fn string(text: &str, at: usize) -> Result<(TokenKind, usize), ParseError> {
    let error = |span: Span, message: String| Err(ParseError::new(text, span, message));
    let rest = &text[at..];
    let to_end = Span::new(at, text.len());
    match read_string(rest) {
        Ok((value, length)) => Ok((TokenKind::String(value), length)),
        Err(StringFault::Unterminated) => {
            let shown: String = rest.chars().take(40).collect();
            error(
                to_end,
                format!("unterminated string {shown:?}: its closing quote is missing"),
            )
        }
        Err(StringFault::Escape(offset)) => {
            let shown: String = rest[offset..].chars().take(2).collect();
            let span = Span::new(at + offset, at + offset + shown.len());
            error(
                span,
                format!("unknown escape sequence {shown:?} in a string"),
            )
        }
        Err(StringFault::NotUtf8) => error(to_end, "the string is not valid UTF-8".to_owned()),
    }
}

fn symbol(text: &str, at: usize, first: char) -> Result<(TokenKind, usize), ParseError> {
    match SYMBOLS
        .iter()
        .find(|symbol| text[at..].starts_with(**symbol))
    {
        Some(symbol) if !matches!(*symbol, "!" | "~" | ";") => {
            Ok((TokenKind::Symbol(symbol), symbol.len()))
        }
        _ => Err(ParseError::new(
            text,
            Span::new(at, at + first.len_utf8()),
            format!("unexpected character {first:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        let tokens = tokenize(text).expect("tokens");
        tokens.into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn a_colon_is_part_of_a_name_except_between_brackets() {
        assert_eq!(kinds("a:b"), [TokenKind::Word, TokenKind::End]);
        assert_eq!(
            kinds("[5m:step()]").len(),
            8,
            "bracket, 5m, colon, step, two parentheses, bracket, end"
        );
    }

    #[test]
    fn comments_and_line_ends_separate_tokens() {
        assert_eq!(kinds("# nothing\n1 # one\n").len(), 2);
    }

    #[test]
    fn an_odd_character_is_named_with_its_position() {
        let error = tokenize("up ? 1").expect_err("odd");
        assert_eq!(error.to_string(), "1:4: unexpected character '?'");
    }
}
