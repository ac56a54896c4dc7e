//! The forms in which a secret shows up: as it is, and as JSON, URLs, HTML and base64 write it.
//!
//! These are what honest servers echo. A server that helps a plugin to smuggle a secret back can always find another
//! one; a secret is given only to destinations that its tenant trusts with it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::SECRET_MIN_BYTES;

/// Shortest part of a URL that is looked for by itself: what is shorter is a word, and no credential.
const PART_MIN_BYTES: usize = 16;

/// What stays as it is everywhere in a URL. Source: RFC 3986, 2.3.
pub(super) const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// What a segment of a path cannot hold. Source: RFC 3986, 3.3.
pub(super) const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The forms of a secret.
pub(super) fn of_text(value: &str) -> Vec<Vec<u8>> {
    let json = serde_json::to_string(value).expect("text has JSON text");
    let json = json[1..json.len() - 1].to_owned();
    let strict = utf8_percent_encode(value, UNRESERVED).to_string();
    let html = value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;");
    let texts = [
        value.to_owned(),
        json.replace('/', "\\/"),
        json,
        lower_hex(&strict),
        strict.replace("%20", "+"),
        strict,
        utf8_percent_encode(value, SEGMENT).to_string(),
        html,
    ];
    let forms = texts.into_iter().map(String::into_bytes);
    forms.chain(of_base64(value.as_bytes())).collect()
}

/// The forms of a URL that is a secret: whole, without its host, and those parts that are long enough to be the
/// credential itself.
pub(super) fn of_url(url: &str, path_and_query: &str) -> Vec<Vec<u8>> {
    let path = path_and_query.trim_start_matches('/');
    let parts = path
        .split(['/', '?', '&', '='])
        .filter(|part| part.len() >= PART_MIN_BYTES);
    let mut needles = of_text(url);
    if path.len() >= SECRET_MIN_BYTES {
        needles.extend(of_text(path));
    }
    needles.extend(parts.flat_map(of_text));
    needles
}

/// `%2F` as `%2f`: both are right, and servers differ.
fn lower_hex(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        text.push('%');
        text.push_str(&hex.to_ascii_lowercase());
        text.push_str(rest);
    }
    text
}

/// What base64 makes of some bytes wherever they stand in a longer text, such as `user:password`: the characters that
/// no neighbour decides, for each of the three ways to stand.
fn of_base64(value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    [STANDARD_NO_PAD, URL_SAFE_NO_PAD]
        .into_iter()
        .flat_map(move |alphabet| {
            (0..3usize).map(move |before| {
                let padded = [&vec![0; before], value].concat();
                let text = alphabet.encode(&padded);
                // The first character that holds bits of the value alone, and the last.
                let from = (before * 8).div_ceil(6);
                let to = padded.len() * 8 / 6;
                text.as_bytes()[from..to].to_vec()
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn has(needles: &[Vec<u8>], text: &str) -> bool {
        needles
            .iter()
            .any(|needle| memchr::memmem::find(text.as_bytes(), needle).is_some())
    }

    #[test]
    fn every_common_form_is_known() {
        let value = "p@ss/w\"ord & <é>";
        let needles = of_text(value);
        for text in [
            value,
            r#"{"a":"p@ss/w\"ord & <é>"}"#,
            r#"{"a":"p@ss\/w\"ord & <é>"}"#,
            "q=p%40ss%2Fw%22ord%20%26%20%3C%C3%A9%3E",
            "q=p%40ss%2fw%22ord%20%26%20%3c%c3%a9%3e",
            "q=p%40ss%2Fw%22ord+%26+%3C%C3%A9%3E",
            "/p@ss%2Fw%22ord%20&%20%3C%C3%A9%3E/",
            "p@ss/w&quot;ord &amp; &lt;é&gt;",
        ] {
            assert!(has(&needles, text), "{text}");
        }
        assert!(!has(&needles, "p@ss/word & <é>"));
    }

    #[test]
    fn base64_is_known_wherever_the_secret_stands() {
        let needles = of_text("hunter2-hunter2");
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "z", "zz", "zzz"] {
                let text = STANDARD.encode(format!("{before}hunter2-hunter2{after}"));
                assert!(has(&needles, &text), "{before:?} {after:?}");
            }
        }
    }

    #[test]
    fn a_url_is_known_by_its_credential_but_not_by_its_words() {
        let url = "https://hooks.example/services/T000/B000/abcdefghijklmnopqrstuvwx";
        let needles = of_url(url, "/services/T000/B000/abcdefghijklmnopqrstuvwx");
        assert!(has(&needles, url));
        assert!(has(&needles, "no such hook: T000/abcdefghijklmnopqrstuvwx"));
        assert!(!has(&needles, "https://hooks.example/services/T000"));
        let short = of_url("http://h/", "/");
        assert!(!has(&short, "http://h2/"));
    }
}
