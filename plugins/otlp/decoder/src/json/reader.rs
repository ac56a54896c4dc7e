//! Reading JSON front to back, without a tree.
//!
//! Strict by RFC 8259; an object's or array's content is read by a closure. Values of `null` are passed over, as
//! protobuf's JSON wants it. Errors say where: the path grows while they travel up.

use std::borrow::Cow;
use std::fmt::Display;

use crate::DecodeError;

/// Deepest nesting: [`crate::VALUE_DEPTH_MAX`] nested attribute values take three levels each, below twelve of OTLP's own.
const DEPTH_MAX: u32 = 128;

/// Longest name that an error's path repeats, in bytes.
const PATH_NAME_BYTES_MAX: usize = 64;

/// What is wrong and where.
pub(crate) struct JsonError {
    /// From the inside out.
    path: Vec<String>,
    offset: usize,
    problem: String,
}

impl JsonError {
    fn under(mut self, segment: String) -> JsonError {
        self.path.push(segment);
        self
    }

    pub(crate) fn into_decode_error(self) -> DecodeError {
        let path: String = self.path.iter().rev().map(String::as_str).collect();
        let path = match path.trim_start_matches('.') {
            "" => "body".to_owned(),
            path => path.to_owned(),
        };
        DecodeError::Json {
            path,
            offset: self.offset,
            problem: self.problem,
        }
    }
}

pub(crate) struct JsonReader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl<'a> JsonReader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Result<JsonReader<'a>, JsonError> {
        let (text, error) = match std::str::from_utf8(body) {
            Ok(text) => (text, None),
            Err(error) => ("", Some(error.valid_up_to())),
        };
        let mut reader = JsonReader {
            text,
            at: 0,
            depth: 0,
        };
        match error {
            None => Ok(reader),
            Some(at) => {
                reader.at = at;
                Err(reader.wrong("the text is not UTF-8"))
            }
        }
    }

    /// An error at the reader's place.
    #[cold]
    pub(crate) fn wrong(&self, problem: impl Display) -> JsonError {
        JsonError {
            path: Vec::new(),
            offset: self.at,
            problem: problem.to_string(),
        }
    }

    /// What stands where something else should.
    #[cold]
    fn expected(&self, what: &str) -> JsonError {
        let found = match self.byte() {
            None => "the end of the body",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') => "a text",
            Some(b't' | b'f') => "true or false",
            Some(b'n') => "null",
            Some(b'-' | b'0'..=b'9') => "a number",
            Some(b',' | b':' | b'}' | b']') => "punctuation",
            Some(_) => "something that is no JSON",
        };
        self.wrong(format_args!("expected {what}, found {found}"))
    }

    /// Reads an object: calls `member` for each name, which must read or skip the value.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.open(b'{', "an object")?;
        let mut is_first = true;
        while self.has_next(b'}', is_first)? {
            is_first = false;
            let name = self.string()?;
            let value = self.member_value(&name, &mut member);
            value.map_err(|error| {
                let end = name.floor_char_boundary(PATH_NAME_BYTES_MAX);
                error.under(format!(".{}", &name[..end]))
            })?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn member_value(
        &mut self,
        name: &str,
        member: &mut impl FnMut(&mut Self, &str) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.skip_spaces();
        if self.byte() != Some(b':') {
            return Err(self.expected("a colon"));
        }
        self.at += 1;
        self.skip_spaces();
        match self.byte() {
            Some(b'n') => self.word("null"),
            _ => member(self, name),
        }
    }

    /// Reads an array: calls `item` for each, which must read or skip it.
    pub(crate) fn array(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.open(b'[', "an array")?;
        let mut count = 0;
        while self.has_next(b']', count == 0)? {
            item(self).map_err(|error| error.under(format!("[{count}]")))?;
            count += 1;
        }
        self.depth -= 1;
        Ok(())
    }

    fn open(&mut self, bracket: u8, what: &str) -> Result<(), JsonError> {
        self.skip_spaces();
        if self.byte() != Some(bracket) {
            return Err(self.expected(what));
        }
        if self.depth == DEPTH_MAX {
            return Err(self.wrong(format_args!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Whether another member or item follows; passes over the comma or the closing bracket.
    fn has_next(&mut self, bracket: u8, is_first: bool) -> Result<bool, JsonError> {
        self.skip_spaces();
        match self.byte() {
            Some(byte) if byte == bracket => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if !is_first => self.at += 1,
            Some(_) if is_first => return Ok(true),
            _ => return Err(self.expected("a comma or a closing bracket")),
        }
        self.skip_spaces();
        match self.byte() {
            Some(b'}' | b']') => Err(self.expected("a value after the comma")),
            _ => Ok(true),
        }
    }

    /// Passes over any value.
    pub(crate) fn skip(&mut self) -> Result<(), JsonError> {
        self.skip_spaces();
        match self.byte() {
            Some(b'{') => self.object(|reader, _| reader.skip()),
            Some(b'[') => self.array(|reader| reader.skip()),
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number_token().map(drop),
        }
    }

    /// Nothing but white space follows.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        self.skip_spaces();
        match self.byte() {
            None => Ok(()),
            Some(_) => Err(self.wrong("something follows the request")),
        }
    }

    pub(crate) fn bool(&mut self) -> Result<bool, JsonError> {
        match self.byte() {
            Some(b't') => self.word("true").map(|()| true),
            Some(b'f') => self.word("false").map(|()| false),
            _ => Err(self.expected("true or false")),
        }
    }

    /// A number of up to 64 bits without sign, as a number or a text.
    pub(crate) fn u64(&mut self) -> Result<u64, JsonError> {
        self.integer("an integer from 0 to 18446744073709551615", |text| {
            let whole = whole_number(text).filter(|whole| (0.0..MAX_EXACT).contains(whole));
            text.parse().ok().or(whole.map(|whole| whole as u64))
        })
    }

    /// A number of up to 64 bits with sign, as a number or a text.
    pub(crate) fn i64(&mut self) -> Result<i64, JsonError> {
        self.integer("an integer of 64 bits", |text| {
            let whole = whole_number(text).filter(|whole| whole.abs() < MAX_EXACT);
            text.parse().ok().or(whole.map(|whole| whole as i64))
        })
    }

    /// A number of 32 bits with sign, as a number or a text.
    pub(crate) fn i32(&mut self) -> Result<i32, JsonError> {
        self.integer("an integer of 32 bits", |text| {
            let whole = whole_number(text).map(|whole| whole as i64);
            let value: Option<i64> = text.parse().ok().or(whole);
            value.and_then(|value| i32::try_from(value).ok())
        })
    }

    /// The value of an enumeration: OTLP allows the number only.
    pub(crate) fn enumeration(&mut self) -> Result<i64, JsonError> {
        match self.byte() {
            Some(b'"') => Err(self.wrong("an enumeration must be given as its number")),
            _ => self.i32().map(i64::from),
        }
    }

    fn integer<T>(
        &mut self,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, JsonError> {
        let start = self.at;
        let text = self.number_text(what)?;
        let is_number = is_number(&text);
        parse(&text).filter(|_| is_number).ok_or_else(|| {
            self.at = start;
            self.wrong(format_args!("expected {what}, found {}", shown(&text)))
        })
    }

    /// A floating-point number, also as a text, and the texts `NaN`, `Infinity` and `-Infinity`.
    pub(crate) fn f64(&mut self) -> Result<f64, JsonError> {
        let start = self.at;
        let text = self.number_text("a number")?;
        let value = match &*text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text if is_number(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
            _ => None,
        };
        value.ok_or_else(|| {
            self.at = start;
            self.wrong(format_args!(
                "expected a number of 64 bits, found {}",
                shown(&text)
            ))
        })
    }

    /// A number, or the text in its place.
    fn number_text(&mut self, what: &str) -> Result<Cow<'a, str>, JsonError> {
        match self.byte() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number_token().map(Cow::Borrowed),
            _ => Err(self.expected(what)),
        }
    }

    fn number_token(&mut self) -> Result<&'a str, JsonError> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.bytes().take_while(|byte| is_part(byte)).count();
        let token = &rest[..length];
        if !is_number(token) {
            return Err(match length {
                0 => self.expected("a value"),
                _ => self.wrong(format_args!("{} is not a number", shown(token))),
            });
        }
        self.at += length;
        Ok(token)
    }

    /// A text; borrowed unless it has escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.skip_spaces();
        if self.byte() != Some(b'"') {
            return Err(self.expected("a text"));
        }
        self.at += 1;
        let plain = self.plain_text()?;
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_owned();
        while self.byte() != Some(b'"') {
            text.push(self.escape()?);
            text.push_str(self.plain_text()?);
        }
        self.at += 1;
        Ok(Cow::Owned(text))
    }

    /// Text up to a quote or a backslash.
    fn plain_text(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        let Some(length) = rest.iter().position(is_special) else {
            self.at = self.text.len();
            return Err(self.wrong("a text does not end"));
        };
        self.at += length;
        match rest[length] {
            0..0x20 => Err(self.wrong("a control character in a text must be escaped")),
            _ => Ok(&self.text[start..self.at]),
        }
    }

    /// The character of an escape, whose backslash is next.
    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let character = match self.byte() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.wrong("an unknown escape in a text")),
        };
        self.at += 1;
        Ok(character)
    }

    /// The character of `uXXXX`, or of two of them that form a surrogate pair.
    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        let mut code = self.hex4()?;
        if (0xd800..0xdc00).contains(&code) && self.text[self.at..].starts_with("\\u") {
            self.at += 1;
            let low = self.hex4()?;
            let is_low = (0xdc00..0xe000).contains(&low);
            let pair = 0x10000 + ((code - 0xd800) << 10) + low.wrapping_sub(0xdc00);
            code = if is_low { pair } else { code };
        }
        char::from_u32(code).ok_or_else(|| {
            self.at = start;
            self.wrong("half of a surrogate pair in a text")
        })
    }

    /// The number of `uXXXX`.
    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
        let code = digits.and_then(|digits| {
            digits.iter().try_fold(0, |code, digit| {
                Some(code << 4 | char::from(*digit).to_digit(16)?)
            })
        });
        let code = code.ok_or_else(|| self.wrong("\\u must be followed by four hex digits"))?;
        self.at += 5;
        Ok(code)
    }

    fn word(&mut self, word: &str) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong(format_args!("expected {word}")));
        }
        self.at += word.len();
        Ok(())
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
    }
}

/// Whole numbers below this are exact in floating point (2^53).
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The value of a number that is written with a point or an exponent and has no fraction, such as `1e3`.
fn whole_number(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    (value.fract() == 0.0).then_some(value)
}

/// Whether a text is a number by RFC 8259.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let exponent = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    is_digits(whole)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(is_digits)
}

/// A value at fault, short enough for a message.
fn shown(text: &str) -> String {
    let end = text.floor_char_boundary(PATH_NAME_BYTES_MAX);
    format!("{:?}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let mut reader = JsonReader::new(text.as_bytes()).ok().expect("UTF-8");
        let Err(error) = reader.skip().and_then(|()| reader.end()) else {
            panic!("{text} is accepted");
        };
        let message = error.into_decode_error().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        refused("", "body: expected a value, found the end of the body");
        refused("{} {}", "something follows the request (byte 3)");
        refused("{\"a\":1,}", "expected a value after the comma");
        refused(
            "[1 2]",
            "expected a comma or a closing bracket, found a number",
        );
        refused("{\"a\" 1}", "a: expected a colon");
        refused("{\"a\":[{},{\"b\":x}]}", "a[1].b: expected a value");
        refused("[01]", "[0]: \"01\" is not a number");
        refused("[1.]", "is not a number");
        refused("[\"a", "a text does not end");
        refused("[\"\n\"]", "control character");
        refused("[\"\\x\"]", "unknown escape");
        refused("[\"\\ud800\"]", "surrogate");
        refused("[\"\\u12g4\"]", "four hex digits");
        refused("[tru]", "expected true");
        refused(&"[".repeat(1000), "nested deeper than 128 levels");
    }

    #[test]
    fn texts_are_unescaped() {
        let text = r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z""#;
        let mut reader = JsonReader::new(text.as_bytes()).ok().expect("UTF-8");
        let value = reader.string().ok().expect("a text");
        assert_eq!(value, "a\"\\/\u{8}\u{c}\n\r\té😀z");
    }

    #[track_caller]
    fn number<'a, T: PartialEq + std::fmt::Debug>(
        text: &'a str,
        read: impl Fn(&mut JsonReader<'a>) -> Result<T, JsonError>,
        expected: Option<T>,
    ) {
        let mut reader = JsonReader::new(text.as_bytes()).ok().expect("UTF-8");
        assert_eq!(read(&mut reader).ok(), expected, "{text}");
    }

    #[test]
    fn numbers_may_be_texts_and_must_fit() {
        number("18446744073709551615", JsonReader::u64, Some(u64::MAX));
        number("\"18446744073709551615\"", JsonReader::u64, Some(u64::MAX));
        number("18446744073709551616", JsonReader::u64, None);
        number("1e3", JsonReader::u64, Some(1000));
        number("1.5", JsonReader::u64, None);
        number("-1", JsonReader::u64, None);
        number("\"+1\"", JsonReader::u64, None);
        number("\" 1\"", JsonReader::u64, None);
        number("\"-9223372036854775808\"", JsonReader::i64, Some(i64::MIN));
        number("2.0", JsonReader::i32, Some(2));
        number("2147483648", JsonReader::i32, None);
        number("true", JsonReader::i32, None);
        number("-0.25", JsonReader::f64, Some(-0.25));
        number("\"1.5e300\"", JsonReader::f64, Some(1.5e300));
        number("1e999", JsonReader::f64, None);
        number("\"-Infinity\"", JsonReader::f64, Some(f64::NEG_INFINITY));
        number("\"inf\"", JsonReader::f64, None);
        number("\"\"", JsonReader::f64, None);
        number("\"2\"", JsonReader::enumeration, None);
        number("2", JsonReader::enumeration, Some(2));
    }
}
