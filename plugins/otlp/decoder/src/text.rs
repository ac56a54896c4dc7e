//! Attribute values as text.
//!
//! Labels are strings. A value that is not one becomes the text that OTLP's JSON would hold for it; arrays and lists become
//! JSON, bytes become base64. Both decoders write through here, so that equal values become equal labels.

use std::fmt::Write;

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the whole text: a string stands as it is.
    Whole,
    /// It is inside an array or a list: a string is quoted.
    Inside,
}

pub(crate) fn push_string(out: &mut String, place: Place, text: &str) {
    match place {
        Place::Whole => out.push_str(text),
        Place::Inside => push_quoted(out, text),
    }
}

pub(crate) fn push_bool(out: &mut String, value: bool) {
    out.push_str(if value { "true" } else { "false" });
}

pub(crate) fn push_int(out: &mut String, value: i64) {
    write!(out, "{value}").expect("writing to a string cannot fail");
}

/// The shortest text that reads back as the same number; with an exponent below 1e-5 and from 1e17 on.
pub(crate) fn push_double(out: &mut String, place: Place, value: f64) {
    let size = value.abs();
    let written = if value.is_nan() {
        push_string(out, place, "NaN");
        Ok(())
    } else if value.is_infinite() {
        let name = if value > 0.0 { "Infinity" } else { "-Infinity" };
        push_string(out, place, name);
        Ok(())
    } else if size == 0.0 || (1e-5..1e17).contains(&size) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
    written.expect("writing to a string cannot fail");
}

pub(crate) fn push_bytes(out: &mut String, place: Place, bytes: &[u8]) {
    if place == Place::Inside {
        out.push('"');
    }
    push_base64(out, bytes);
    if place == Place::Inside {
        out.push('"');
    }
}

/// A value that is not there.
pub(crate) fn push_nothing(out: &mut String, place: Place) {
    if place == Place::Inside {
        out.push_str("null");
    }
}

/// A JSON string.
pub(crate) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        plain = at + 1;
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}").expect("writing to a string cannot fail");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn push_base64(out: &mut String, bytes: &[u8]) {
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            if digit <= group.len() {
                let sixth = bits >> (18 - 6 * digit) & 63;
                out.push(char::from(BASE64[sixth as usize]));
            } else {
                out.push('=');
            }
        }
    }
}

/// The bytes of a base64 text in the usual or the URL alphabet, with or without padding; none when it is not base64.
pub(crate) fn read_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if padding > 2 || digits.len() % 4 == 1 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits.bytes() {
        let sixth = match digit {
            b'-' => 62,
            b'_' => 63,
            _ => BASE64.iter().position(|known| *known == digit)? as u32,
        };
        bits = bits << 6 | sixth;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn doubles_are_short_and_exact() {
        for (value, expected) in [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (0.1, "0.1"),
            (1e21, "1e21"),
            (1.5e-9, "1.5e-9"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(|out| push_double(out, Place::Whole, value)), expected);
        }
        assert_eq!(
            text(|out| push_double(out, Place::Inside, f64::NAN)),
            "\"NaN\""
        );
    }

    #[test]
    fn strings_inside_are_quoted_json() {
        assert_eq!(
            text(|out| push_string(out, Place::Inside, "a\"b\\c\nd\u{1}é")),
            r#""a\"b\\c\nd\u0001é""#
        );
        assert_eq!(text(|out| push_string(out, Place::Whole, "a\"b")), "a\"b");
    }

    #[test]
    fn base64_writes_and_reads_every_length() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xfb\xff\xfe?", "+//+Pw=="),
        ] {
            assert_eq!(text(|out| push_bytes(out, Place::Whole, bytes)), expected);
            assert_eq!(read_base64(expected).as_deref(), Some(bytes));
            let bare = expected.trim_end_matches('=');
            assert_eq!(read_base64(bare).as_deref(), Some(bytes));
        }
        assert_eq!(read_base64("-__-").as_deref(), Some(&b"\xfb\xff\xfe"[..]));
        for wrong in ["A", "A===", "Zg=", "Z*==", "Zg==Zg=="] {
            assert_eq!(read_base64(wrong), None, "{wrong}");
        }
    }
}
