//! Settings from JSON to the plugin's own type; what is wrong is said with the field's name.

use serde::de::DeserializeOwned;

use crate::Failure;

/// Reads the settings of a call.
///
/// The exporting macros call this before the plugin's function; the host has already validated the text
/// against the manifest's schema, so a failure here means that schema and type disagree.
///
/// # Errors
/// [`Failure::Rejected`] with code `bad-settings`, naming the field and what was expected.
pub fn parse<S: DeserializeOwned>(text: &str) -> Result<S, Failure> {
    let mut json = serde_json::Deserializer::from_str(text);
    let settings = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        bad(match path.as_str() {
            "." => format!("settings: {cause}"),
            _ => format!("setting `{path}`: {cause}"),
        })
    })?;
    json.end()
        .map_err(|error| bad(format!("settings: {error}")))?;
    Ok(settings)
}

fn bad(message: String) -> Failure {
    Failure::rejected("bad-settings", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[allow(dead_code, reason = "only read to be refused")]
        url: String,
        #[allow(dead_code, reason = "only read to be refused")]
        limits: Limits,
    }

    #[derive(serde::Deserialize, Debug)]
    struct Limits {
        #[allow(dead_code, reason = "only read to be refused")]
        timeout_ms: u32,
    }

    #[test]
    fn what_is_wrong_is_said_with_the_name_of_the_field() {
        for (text, expected) in [
            (r#"{"limits":{"timeout_ms":1}}"#, "missing field `url`"),
            (
                r#"{"url":"u","limits":{"timeout_ms":"soon"}}"#,
                "setting `limits.timeout_ms`: invalid type: string \"soon\", expected u32",
            ),
            (r#"{"url":"u","color":1}"#, "unknown field `color`"),
            ("", "settings: EOF"),
            (
                r#"{"url":"u","limits":{"timeout_ms":1}} x"#,
                "trailing characters",
            ),
        ] {
            let failure = parse::<Settings>(text).expect_err(text);
            assert!(
                matches!(failure, Failure::Rejected(_)),
                "{text}: {failure:?}"
            );
            assert_eq!(failure.code(), "bad-settings");
            assert!(
                failure.message().contains(expected),
                "{text}: {}",
                failure.message()
            );
        }
    }
}
