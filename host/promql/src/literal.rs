//! Numbers, durations and strings as PromQL spells them.

/// The longest duration, in seconds: 10,000 years. Sums of a few of them and of a time fit into 64 bits of
/// milliseconds.
pub(crate) const DURATION_MAX_SECONDS: f64 = 10_000.0 * 365.0 * 86_400.0;

/// What a number or duration is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Numeric {
    Number(f64),
    /// In milliseconds.
    Duration(i64),
}

/// Parses the text of a number (`1e3`, `0x1f`, `1_000`) or of a duration (`1h30m`).
pub(crate) fn parse_numeric(text: &str) -> Option<Numeric> {
    parse_duration(text)
        .map(Numeric::Duration)
        .or_else(|| parse_number(text).map(Numeric::Number))
}

/// Parses a number. As in Prometheus a leading zero means octal where the digits allow it.
fn parse_number(text: &str) -> Option<f64> {
    let starts_or_ends_badly = text.ends_with('_') || text.starts_with('_');
    if starts_or_ends_badly || text.contains("__") {
        return None;
    }
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let lower = digits.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(|n| n as f64);
    }
    let is_octal = lower.len() > 1
        && lower.starts_with('0')
        && lower.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    if is_octal {
        return i64::from_str_radix(&lower, 8).ok().map(|n| n as f64);
    }
    match lower.as_str() {
        "inf" => Some(f64::INFINITY),
        "nan" => Some(f64::NAN),
        _ if !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') => None,
        _ => lower.parse().ok(),
    }
}

/// Units from the longest, in milliseconds. A year has 365 days.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Parses a duration: units from long to short, each at most once. In milliseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total: i64 = 0;
    let mut units = UNITS.iter();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let (_, unit_ms) = units.find(|(name, _)| *name == &rest[..letters])?;
        total = total.checked_add(count.checked_mul(*unit_ms)?)?;
        rest = &rest[letters..];
    }
    Some(total)
}

/// Writes a duration as [`parse_duration`] reads it.
pub(crate) fn format_duration(duration_ms: i64) -> String {
    if duration_ms == 0 {
        return "0s".to_owned();
    }
    let mut rest = duration_ms;
    let mut text = String::new();
    for (name, unit_ms) in UNITS {
        if rest >= unit_ms {
            text.push_str(&format!("{}{name}", rest / unit_ms));
            rest %= unit_ms;
        }
    }
    text
}

/// What is wrong with a string literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StringFault {
    Unterminated,
    /// The byte at which the escape begins.
    Escape(usize),
    NotUtf8,
}

/// Reads the string literal at the beginning of `text`: its value and its length in bytes.
pub(crate) fn read_string(text: &str) -> Result<(String, usize), StringFault> {
    let bytes = text.as_bytes();
    let quote = bytes[0];
    let mut value: Vec<u8> = Vec::new();
    let mut at = 1;
    loop {
        match bytes.get(at) {
            None => return Err(StringFault::Unterminated),
            Some(b) if *b == quote => break,
            Some(b'\n') if quote != b'`' => return Err(StringFault::Unterminated),
            Some(b'\\') if quote != b'`' => {
                at +=
                    read_escape(&bytes[at..], quote, &mut value).ok_or(StringFault::Escape(at))?;
            }
            Some(b) => {
                value.push(*b);
                at += 1;
            }
        }
    }
    let value = String::from_utf8(value).map_err(|_| StringFault::NotUtf8)?;
    Ok((value, at + 1))
}

/// Reads one escape; its length.
fn read_escape(bytes: &[u8], quote: u8, value: &mut Vec<u8>) -> Option<usize> {
    let simple = match *bytes.get(1)? {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' => b'\\',
        b if b == quote => quote,
        b'x' => {
            value.push(radix(bytes, 2, 2, 16)? as u8);
            return Some(4);
        }
        b'u' => return push_char(radix(bytes, 2, 4, 16)?, value, 6),
        b'U' => return push_char(radix(bytes, 2, 8, 16)?, value, 10),
        b'0'..=b'7' => {
            value.push(u8::try_from(radix(bytes, 1, 3, 8)?).ok()?);
            return Some(4);
        }
        _ => return None,
    };
    value.push(simple);
    Some(2)
}

fn radix(bytes: &[u8], from: usize, count: usize, radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(bytes.get(from..from + count)?).ok()?;
    let is_plain = digits.chars().all(|c| c.is_digit(radix));
    is_plain.then(|| u32::from_str_radix(digits, radix).ok())?
}

fn push_char(code: u32, value: &mut Vec<u8>, length: usize) -> Option<usize> {
    let mut buffer = [0; 4];
    value.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_many_spellings() {
        for (text, value) in [
            ("0x1F", 31.0),
            ("1_000", 1000.0),
            ("1e-3", 0.001),
            (".5", 0.5),
            ("2.", 2.0),
            ("010", 8.0),
            ("09", 9.0),
            ("Inf", f64::INFINITY),
        ] {
            assert_eq!(parse_numeric(text), Some(Numeric::Number(value)), "{text}");
        }
        for text in ["1__0", "1_", "0x", "1e", "5q", "infinity", ""] {
            assert_eq!(parse_numeric(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_has_its_units_from_long_to_short() {
        assert_eq!(parse_duration("1h30m"), Some(5_400_000));
        assert_eq!(parse_duration("1m500ms"), Some(60_500));
        assert_eq!(parse_duration("30m1h"), None);
        assert_eq!(parse_duration("5m5m"), None);
        assert_eq!(parse_duration("99999999999y"), None);
        assert_eq!(format_duration(5_400_001), "1h30m1ms");
    }

    #[test]
    fn strings_have_the_escapes_of_go() {
        let read = |text: &str| read_string(text).map(|(value, _)| value);
        assert_eq!(read(r#""a\n\x41\u00e9\"""#), Ok("a\nAé\"".to_owned()));
        assert_eq!(read(r"'it\'s'"), Ok("it's".to_owned()));
        assert_eq!(read(r"`a\n`"), Ok(r"a\n".to_owned()));
        assert_eq!(read(r#""a\q""#), Err(StringFault::Escape(2)));
        assert_eq!(read(r#""abc"#), Err(StringFault::Unterminated));
        assert_eq!(read(r#""\xff""#), Err(StringFault::NotUtf8));
    }
}
