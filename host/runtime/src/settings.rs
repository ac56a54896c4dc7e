//! A plugin's settings: the schema that its author wrote and values that satisfy it.
//!
//! The schema is JSON Schema 2020-12, cut down to what the host can check, show as a form and explain: a keyword
//! outside the list is refused when the plugin is read. Beyond JSON Schema: an object refuses properties
//! that its schema does not name, and `writeOnly = true` marks a secret (only on strings at the top level).
//!
//! Keywords: `type`, `title`, `description`, `default`, `enum`, `const`, `minimum`, `maximum`,
//! `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`, `minLength`, `maxLength`, `pattern`, `format`, `writeOnly`,
//! `properties`, `required`, `additionalProperties` (a schema), `maxProperties`, `items`, `minItems`, `maxItems`, `uniqueItems`.
//! Formats: `uri`, `email`, `hostname`, `ipv4`, `ipv6`, `date`, `date-time`, `duration`.

use std::fmt;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};

/// Largest settings of one installation, as JSON in bytes.
pub const SETTINGS_MAX_BYTES: usize = 64 << 10;

/// Objects and lists in each other; a form deeper than this helps nobody, and recursion needs an end.
const DEPTH_MAX: usize = 8;
/// Problems reported at once: what fits a screen.
pub(crate) const PROBLEMS_MAX: usize = 20;

const FORMATS: [&str; 8] = [
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "date",
    "date-time",
    "duration",
];
const TYPES: [&str; 6] = ["object", "array", "string", "integer", "number", "boolean"];
const KEYWORDS: [&str; 24] = [
    "type",
    "title",
    "description",
    "default",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "writeOnly",
    "properties",
    "required",
    "additionalProperties",
    "maxProperties",
    "items",
    "minItems",
    "maxItems",
    "uniqueItems",
];

/// The schema of a plugin's settings.
#[derive(Clone)]
pub struct SettingsSchema {
    json: Value,
    secrets: Vec<String>,
    validator: Arc<Validator>,
}

/// Settings that satisfy their schema, defaults filled in, secrets included.
#[derive(Clone, PartialEq)]
pub struct Settings(Map<String, Value>);

/// A schema leaves the subset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct InvalidSchema {
    /// Where, such as `settings.properties.url.format`.
    pub path: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// Settings do not satisfy their schema. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidSettings {
    /// At least one, at most 20.
    pub problems: Vec<SettingProblem>,
}

/// What is wrong with one setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct SettingProblem {
    /// Which, such as `thresholds.warning`; `settings` for all of them.
    pub setting: String,
    /// What is wrong.
    pub reason: String,
}

impl SettingsSchema {
    /// Reads a schema.
    ///
    /// # Errors
    /// The first keyword or value outside the subset.
    pub fn parse(mut json: Value) -> Result<SettingsSchema, InvalidSchema> {
        let mut secrets = Vec::new();
        if json.get("type").and_then(Value::as_str) != Some("object") {
            return Err(wrong("settings.type", "must be \"object\""));
        }
        close("settings", &mut json, 0, &mut secrets)?;
        let validator = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(true)
            .with_pattern_options(PatternOptions::regex().size_limit(1 << 20))
            .build(&json)
            .map_err(|e| {
                wrong(
                    &dotted("settings", e.instance_path().as_str()),
                    &e.to_string(),
                )
            })?;
        let schema = SettingsSchema {
            json,
            secrets,
            validator: Arc::new(validator),
        };
        schema.check_defaults()?;
        Ok(schema)
    }

    /// The schema as JSON, with `additionalProperties` closed.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Names of the settings that are secrets, in the author's order.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// Parts settings into what may be shown and what may not.
    pub fn split(&self, settings: Map<String, Value>) -> (Map<String, Value>, Map<String, Value>) {
        settings
            .into_iter()
            .partition(|(name, _)| !self.secrets.contains(name))
    }

    /// Checks settings, secrets included, and fills in defaults.
    ///
    /// # Errors
    /// Every setting at fault, up to 20.
    pub fn validate(&self, given: Map<String, Value>) -> Result<Settings, InvalidSettings> {
        let mut value = Value::Object(given);
        if value.to_string().len() > SETTINGS_MAX_BYTES {
            return Err(InvalidSettings {
                problems: vec![SettingProblem {
                    setting: "settings".into(),
                    reason: format!("are larger than {SETTINGS_MAX_BYTES} bytes"),
                }],
            });
        }
        fill(&self.json, &mut value);
        let mut problems = Vec::new();
        for error in self.validator.iter_errors(&value) {
            self.explain(&error, &mut problems);
            if problems.len() >= PROBLEMS_MAX {
                problems.truncate(PROBLEMS_MAX);
                break;
            }
        }
        match value {
            Value::Object(settings) if problems.is_empty() => Ok(Settings(settings)),
            _ => Err(InvalidSettings { problems }),
        }
    }

    /// Reads one setting from a command line: text where the schema asks for text (a JSON string is taken for what it says,
    /// anything else as it stands), else JSON of the schema's type.
    ///
    /// # Errors
    /// The schema does not name the setting, or the text is nothing of its type. Secrets, which are text, are never shown.
    pub fn read(&self, name: &str, text: &str) -> Result<Value, SettingProblem> {
        let problem = |reason: String| SettingProblem {
            setting: name.to_owned(),
            reason,
        };
        let named = self.json["properties"].get(name);
        let others = self.json.get("additionalProperties");
        let Some(schema) = named.or(others.filter(|schema| schema.is_object())) else {
            return Err(problem(self.unknown("")));
        };
        let kind = schema["type"].as_str().unwrap_or_default();
        let json = serde_json::from_str::<Value>(text).ok();
        let fits = |json: &Value| match kind {
            "string" => json.is_string(),
            "integer" => json.as_f64().is_some_and(|number| number.fract() == 0.0),
            "number" => json.is_number(),
            "boolean" => json.is_boolean(),
            "array" => json.is_array(),
            _ => json.is_object(),
        };
        match json.filter(fits) {
            Some(json) => Ok(json),
            None if kind == "string" => Ok(text.into()),
            None => {
                let shown: String = text.chars().take(100).collect();
                let example = match kind {
                    "array" => ", written as JSON, such as [\"a\", \"b\"]",
                    "object" => ", written as JSON, such as {\"a\": 1}",
                    "boolean" => ", true or false",
                    _ => "",
                };
                Err(problem(format!("{shown:?} is no {kind}{example}")))
            }
        }
    }

    /// Whether a setting at the top level is a string with the format `uri`.
    pub(crate) fn is_url(&self, name: &str) -> bool {
        let property = &self.json["properties"][name];
        property["type"] == "string" && property["format"] == "uri"
    }

    /// Whether a setting at the top level is a string, or a list of strings.
    pub(crate) fn is_text(&self, name: &str) -> bool {
        let property = &self.json["properties"][name];
        let is_list = property["type"] == "array" && property["items"]["type"] == "string";
        property["type"] == "string" || is_list
    }

    /// Defaults must satisfy the schema, or every installation would fail.
    fn check_defaults(&self) -> Result<(), InvalidSchema> {
        let mut value = Value::Object(Map::new());
        fill(&self.json, &mut value);
        let bad = self
            .validator
            .iter_errors(&value)
            .find(|error| !matches!(error.kind(), ValidationErrorKind::Required { .. }));
        match bad {
            None => Ok(()),
            Some(error) => Err(wrong(
                &dotted("settings default", error.instance_path().as_str()),
                &error.to_string(),
            )),
        }
    }

    fn explain(&self, error: &ValidationError<'_>, problems: &mut Vec<SettingProblem>) {
        let path = dotted("", error.instance_path().as_str());
        let inside = |name: &str| {
            if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            }
        };
        match error.kind() {
            ValidationErrorKind::Required { property } => problems.push(SettingProblem {
                setting: inside(property.as_str().unwrap_or_default()),
                reason: "is missing".into(),
            }),
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for name in unexpected {
                    problems.push(SettingProblem {
                        setting: inside(&name.chars().take(100).collect::<String>()),
                        reason: self.unknown(&path),
                    });
                }
            }
            _ => {
                let top = path.split('.').next().unwrap_or_default();
                let reason = if self.secrets.iter().any(|name| name == top) {
                    error.masked_with("the secret").to_string()
                } else {
                    error.to_string().chars().take(500).collect()
                };
                let setting = if path.is_empty() {
                    "settings".into()
                } else {
                    path
                };
                problems.push(SettingProblem { setting, reason });
            }
        }
    }

    /// What to say of a setting that the schema does not name.
    fn unknown(&self, path: &str) -> String {
        let known: Vec<_> = self.json["properties"]
            .as_object()
            .into_iter()
            .flat_map(|properties| properties.keys().map(String::as_str))
            .collect();
        match (path, known.as_slice()) {
            ("", []) => "is unknown: this plugin has no settings".into(),
            ("", known) => format!("is unknown: there are {}", known.join(", ")),
            _ => "is unknown".into(),
        }
    }
}

impl fmt::Debug for SettingsSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SettingsSchema").field(&self.json).finish()
    }
}

impl Settings {
    /// One setting at the top level.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// All of them, secrets included.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The JSON object that the plugin is given.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("JSON values have JSON text")
    }
}

/// Shows names only: values may be secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn wrong(path: &str, reason: &str) -> InvalidSchema {
    InvalidSchema {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Makes `a.b.0` of a JSON pointer `/a/b/0`, after `root`.
fn dotted(root: &str, pointer: &str) -> String {
    let path = pointer
        .replace('/', ".")
        .replace("~1", "/")
        .replace("~0", "~");
    match root {
        "" => path.trim_start_matches('.').to_owned(),
        root => format!("{root}{path}"),
    }
}

/// Checks a schema against the subset, refuses unnamed properties in its objects and collects secrets.
fn close(
    path: &str,
    schema: &mut Value,
    depth: usize,
    secrets: &mut Vec<String>,
) -> Result<(), InvalidSchema> {
    let Value::Object(schema) = schema else {
        return Err(wrong(path, "must be a table"));
    };
    if depth > DEPTH_MAX {
        return Err(wrong(path, "is nested too deeply"));
    }
    let kind = schema
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Some(kind) = TYPES.into_iter().find(|known| *known == kind) else {
        return Err(wrong(
            &format!("{path}.type"),
            &format!("must be one of {}", TYPES.join(", ")),
        ));
    };
    for (keyword, value) in schema.iter() {
        check_keyword(&format!("{path}.{keyword}"), keyword, value, kind)?;
    }
    if schema.get("writeOnly").and_then(Value::as_bool) == Some(true) {
        let name = path.strip_prefix("settings.properties.");
        match name.filter(|_| depth == 1 && kind == "string") {
            Some(name) => secrets.push(name.to_owned()),
            None => {
                return Err(wrong(
                    &format!("{path}.writeOnly"),
                    "a secret must be a string at the top level",
                ));
            }
        }
    }
    close_children(path, schema, kind, depth, secrets)
}

fn check_keyword(
    path: &str,
    keyword: &str,
    value: &Value,
    kind: &str,
) -> Result<(), InvalidSchema> {
    if !KEYWORDS.contains(&keyword) {
        return Err(wrong(path, "is not a keyword that Shoal knows"));
    }
    if contains_datetime(value) {
        return Err(wrong(path, "is a TOML date: write it as a string"));
    }
    match keyword {
        "format" if !FORMATS.iter().any(|format| *format == value) => Err(wrong(
            path,
            &format!("{value} is not one of {}", FORMATS.join(", ")),
        )),
        "writeOnly" if !value.is_boolean() => Err(wrong(path, "must be true or false")),
        "properties" | "required" | "additionalProperties" if kind != "object" => {
            Err(wrong(path, "belongs to type \"object\""))
        }
        "items" if kind != "array" => Err(wrong(path, "belongs to type \"array\"")),
        "additionalProperties" if *value == true => {
            Err(wrong(path, "must be false or the schema of the values"))
        }
        _ => Ok(()),
    }
}

fn close_children(
    path: &str,
    schema: &mut Map<String, Value>,
    kind: &str,
    depth: usize,
    secrets: &mut Vec<String>,
) -> Result<(), InvalidSchema> {
    if let Some(properties) = schema.get_mut("properties") {
        let Value::Object(properties) = properties else {
            return Err(wrong(&format!("{path}.properties"), "must be a table"));
        };
        for (name, property) in properties {
            if name.is_empty() || name.contains(['.', '/', '~']) {
                return Err(wrong(
                    &format!("{path}.properties"),
                    &format!("{name:?} is not a name: no '.', '/' and '~'"),
                ));
            }
            close(
                &format!("{path}.properties.{name}"),
                property,
                depth + 1,
                secrets,
            )?;
        }
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(child) = schema.get_mut(keyword).filter(|child| **child != false) {
            close(&format!("{path}.{keyword}"), child, depth + 1, secrets)?;
        }
    }
    if kind == "object" && !schema.contains_key("additionalProperties") {
        schema.insert("additionalProperties".into(), Value::Bool(false));
    }
    Ok(())
}

/// The TOML reader hands a date on as a table with this one key.
fn contains_datetime(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            map.contains_key("$__toml_private_datetime") || map.values().any(contains_datetime)
        }
        Value::Array(list) => list.iter().any(contains_datetime),
        _ => false,
    }
}

/// Puts defaults where an object lacks them, inside out.
fn fill(schema: &Value, value: &mut Value) {
    let (Some(properties), Value::Object(object)) = (schema["properties"].as_object(), &mut *value)
    else {
        return;
    };
    for (name, property) in properties {
        if let Some(default) = property.get("default")
            && !object.contains_key(name)
        {
            object.insert(name.clone(), default.clone());
        }
        if let Some(child) = object.get_mut(name) {
            fill(property, child);
        }
    }
}

#[cfg(test)]
mod tests;
