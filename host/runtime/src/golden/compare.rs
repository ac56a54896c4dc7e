//! Whether what was found is what was expected.
//!
//! Expected is a part of found: a table may leave keys out, everything else is exact. `{ contains = "…" }` asks for a
//! part of a text.

use serde_json::Value;

/// Longest value in a message.
const SHOWN_MAX_CHARS: usize = 200;

/// The first difference, in one sentence that names both; `None` when there is none.
pub(crate) fn difference(expected: &Value, found: &Value, at: &str) -> Option<String> {
    match (expected, found) {
        (Value::Object(part), Value::String(text)) => {
            let wanted = part.get("contains").and_then(Value::as_str);
            match wanted.filter(|_| part.len() == 1) {
                Some(wanted) if text.contains(wanted) => None,
                Some(wanted) => Some(format!(
                    "{at}: expected a text that contains {wanted:?}, found {}",
                    shown(found)
                )),
                None => unequal(expected, found, at),
            }
        }
        (Value::Object(part), Value::Object(whole)) => part.iter().find_map(|(key, expected)| {
            let at = format!("{at}.{key}");
            match whole.get(key) {
                Some(found) => difference(expected, found, &at),
                None => Some(format!("{at}: expected {}, found nothing", shown(expected))),
            }
        }),
        (Value::Array(expected), Value::Array(list)) => {
            if expected.len() != list.len() {
                let (wanted, is) = (expected.len(), list.len());
                return Some(format!(
                    "{at}: expected {wanted} entries, found {is}: {}",
                    shown(found)
                ));
            }
            let mut pairs = expected.iter().zip(list).enumerate();
            pairs.find_map(|(i, (expected, found))| {
                difference(expected, found, &format!("{at}[{i}]"))
            })
        }
        (Value::Number(a), Value::Number(b))
            if (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64() =>
        {
            None
        }
        _ if expected == found => None,
        _ => unequal(expected, found, at),
    }
}

fn unequal(expected: &Value, found: &Value, at: &str) -> Option<String> {
    Some(format!(
        "{at}: expected {}, found {}",
        shown(expected),
        shown(found)
    ))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_part_of_what_was_found_is_enough() {
        let found = json!({ "status": "ok", "list": [{ "a": 1, "b": 2 }], "text": "hello world" });
        for expected in [
            json!({}),
            json!({ "status": "ok" }),
            json!({ "list": [{ "a": 1.0 }] }),
            json!({ "text": { "contains": "lo wo" } }),
        ] {
            assert_eq!(difference(&expected, &found, "expect"), None, "{expected}");
        }
    }

    #[test]
    fn a_difference_names_the_place_and_both_values() {
        let found = json!({ "status": "ok", "list": [{ "a": 1 }], "text": "hello" });
        for (expected, message) in [
            (
                json!({ "status": "bad" }),
                r#"expect.status: expected "bad", found "ok""#,
            ),
            (
                json!({ "other": 1 }),
                "expect.other: expected 1, found nothing",
            ),
            (
                json!({ "list": [{ "a": 2 }] }),
                "expect.list[0].a: expected 2, found 1",
            ),
            (
                json!({ "list": [] }),
                r#"expect.list: expected 0 entries, found 1: [{"a":1}]"#,
            ),
            (
                json!({ "text": { "contains": "x" } }),
                r#"expect.text: expected a text that contains "x", found "hello""#,
            ),
            (
                json!({ "text": 1 }),
                r#"expect.text: expected 1, found "hello""#,
            ),
        ] {
            assert_eq!(
                difference(&expected, &found, "expect").as_deref(),
                Some(message)
            );
        }
    }
}
