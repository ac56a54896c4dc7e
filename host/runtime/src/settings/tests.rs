//! Which schemas are accepted, and what is said of settings that do not satisfy one.

use serde_json::json;

use super::*;

fn schema() -> SettingsSchema {
    SettingsSchema::parse(json!({
        "type": "object",
        "required": ["url"],
        "properties": {
            "url": {"type": "string", "format": "uri"},
            "timeout_ms": {"type": "integer", "minimum": 1, "maximum": 20000, "default": 5000},
            "method": {"type": "string", "enum": ["GET", "HEAD"], "default": "GET"},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 10},
            "thresholds": {"type": "object", "default": {}, "properties": {"warning": {"type": "number", "default": 0.5}}},
            "headers": {"type": "object", "additionalProperties": {"type": "string"}},
            "token": {"type": "string", "minLength": 5, "writeOnly": true},
        },
    }))
    .expect("a schema")
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is not an object"),
    }
}

/// What is said of settings with these changes to good ones.
#[track_caller]
fn refused(changes: Value, wanted: &str) {
    let mut settings = map(json!({"url": "https://example.com/"}));
    settings.extend(map(changes));
    let error = schema()
        .validate(settings)
        .expect_err("refused")
        .to_string();
    assert!(error.contains(wanted), "{error:?} says {wanted:?}");
}

#[test]
fn defaults_are_filled_in_even_inside_objects() {
    let settings = schema()
        .validate(map(
            json!({"url": "https://example.com/", "headers": {"x-a": "1"}}),
        ))
        .expect("settings");
    assert_eq!(settings.get("timeout_ms"), Some(&json!(5000)));
    assert_eq!(settings.get("thresholds"), Some(&json!({"warning": 0.5})));
    assert_eq!(settings.get("name"), None);
}

#[test]
fn each_problem_names_its_setting() {
    refused(
        json!({"timeout_ms": 0}),
        "timeout_ms: 0 is less than the minimum of 1",
    );
    refused(
        json!({"timeout_ms": "5"}),
        "timeout_ms: \"5\" is not of type \"integer\"",
    );
    refused(json!({"method": "PUT"}), "method: ");
    refused(
        json!({"url": "not a url"}),
        "url: \"not a url\" is not a \"uri\"",
    );
    refused(json!({"name": "A"}), "name: ");
    refused(
        json!({"thresholds": {"warnin": 1}}),
        "thresholds.warnin: is unknown",
    );
    refused(
        json!({"headers": {"x-a": 1}}),
        "headers.x-a: 1 is not of type \"string\"",
    );
    refused(
        json!({"timeout": 1}),
        "timeout: is unknown: there are url, timeout_ms, method, name, thresholds, headers, token",
    );
    let missing = schema().validate(Map::new()).expect_err("refused");
    assert_eq!(missing.to_string(), "url: is missing");
}

#[test]
fn a_secret_is_never_shown() {
    let settings = map(json!({"url": "https://example.com/", "token": "hush"}));
    let error = schema()
        .validate(settings)
        .expect_err("too short")
        .to_string();
    assert!(
        error.starts_with("token: ") && !error.contains("hush"),
        "{error}"
    );
    let good = map(json!({"url": "https://example.com/", "token": "hush-hush"}));
    let (shown, hidden) = schema().split(good.clone());
    assert!(!shown.contains_key("token") && hidden.contains_key("token"));
    let debug = format!("{:?}", schema().validate(good).expect("settings"));
    assert!(!debug.contains("hush"), "{debug}");
}

#[test]
fn settings_beyond_their_size_are_refused() {
    refused(
        json!({"headers": {"x": "a".repeat(SETTINGS_MAX_BYTES)}}),
        "settings: are larger than 65536 bytes",
    );
}

#[test]
fn a_schema_outside_the_subset_is_refused_by_name() {
    for (property, wanted) in [
        (
            json!({"type": "string", "$ref": "https://example.com/"}),
            "settings.properties.x.$ref: is not a keyword",
        ),
        (
            json!({"type": "string", "format": "colour"}),
            "settings.properties.x.format: \"colour\" is not one of",
        ),
        (
            json!({"type": "text"}),
            "settings.properties.x.type: must be one of",
        ),
        (
            json!({"title": "no type"}),
            "settings.properties.x.type: must be one of",
        ),
        (
            json!({"type": "integer", "writeOnly": true}),
            "settings.properties.x.writeOnly: a secret must be a string",
        ),
        (
            json!({"type": "object", "additionalProperties": true}),
            "additionalProperties: must be false or",
        ),
        (json!({"type": "string", "pattern": "("}), "settings"),
        (
            json!({"type": "integer", "default": "five"}),
            "settings default.x: \"five\" is not of type",
        ),
        (
            json!({"type": "object", "properties": {"y": {"type": "string", "writeOnly": true}}}),
            "x.properties.y.writeOnly",
        ),
    ] {
        let error = SettingsSchema::parse(json!({"type": "object", "properties": {"x": property}}))
            .expect_err(wanted)
            .to_string();
        assert!(error.contains(wanted), "{error:?} says {wanted:?}");
    }
    assert!(SettingsSchema::parse(json!({"type": "string"})).is_err());
}
