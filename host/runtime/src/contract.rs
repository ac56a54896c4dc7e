//! What changed from one version of a plugin to the next, for whoever has installed it, and which step of the version
//! number that takes.

use std::fmt;

use semver::Version;
use serde_json::{Map, Value};

use crate::inspect::Inspection;
use crate::manifest::AskedLimits;

/// A step from one version number to the next. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nobody notices: 1.2.3 to 1.2.4.
    Patch,
    /// There is more, and what was there stays: 1.2.3 to 1.3.0.
    Minor,
    /// Somebody has to act: 1.2.3 to 2.0.0.
    Major,
}

impl Step {
    /// Its name, such as `minor`.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Patch => "patch",
            Step::Minor => "minor",
            Step::Major => "major",
        }
    }

    /// The step that a number took; `None` when it did not rise. In 0.x, the second number is the first.
    pub fn taken(old: &Version, new: &Version) -> Option<Step> {
        if new <= old {
            return None;
        }
        let is_major = old.major != new.major || (old.major == 0 && old.minor != new.minor);
        Some(if is_major {
            Step::Major
        } else if old.minor != new.minor || old.major == 0 {
            Step::Minor
        } else {
            Step::Patch
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The step that it takes.
    pub step: Step,
    /// What changed and what that means, in one sentence.
    pub what: String,
}

/// All that changed for whoever has installed `old`; nothing when only the code did.
pub fn differences(old: &Inspection, new: &Inspection) -> Vec<Difference> {
    let mut found = Found::default();
    let (before, after) = (&old.manifest, &new.manifest);
    if before.id != after.id {
        let what = format!(
            "it is called {} instead of {}: another plugin",
            after.id, before.id
        );
        found.add(Step::Major, what);
    }
    if before.kind != after.kind {
        let what = format!(
            "it is a {} instead of a {}: another plugin",
            after.kind, before.kind
        );
        found.add(Step::Major, what);
    }
    let (asked_before, asked_after) = (before.asked(), after.asked());
    for capability in asked_after.missing_in(&asked_before) {
        let what = format!("asks for {capability}: waits until the operator approves it");
        found.add(Step::Minor, what);
    }
    for capability in asked_before.missing_in(&asked_after) {
        found.add(
            Step::Patch,
            format!("does not ask for {capability} any more"),
        );
    }
    for endpoint in &before.endpoints {
        if !after.endpoints.contains(endpoint) {
            let what = format!("does not serve {endpoint} any more: its clients fail");
            found.add(Step::Major, what);
        }
    }
    for endpoint in &after.endpoints {
        if !before.endpoints.contains(endpoint) {
            found.add(Step::Minor, format!("serves {endpoint}"));
        }
    }
    found.limits(before.limits, after.limits);
    found.schema("settings", before.settings.json(), after.settings.json());
    found.0
}

#[derive(Default)]
struct Found(Vec<Difference>);

impl Found {
    fn add(&mut self, step: Step, what: impl Into<String>) {
        let what = what.into();
        self.0.push(Difference { step, what });
    }

    fn limits(&mut self, old: AskedLimits, new: AskedLimits) {
        let ms = |time: std::time::Duration| time.as_millis() as u64;
        let mib = |bytes: u64| bytes >> 20;
        for (name, old, new) in [
            ("cpu_ms", old.cpu.map(ms), new.cpu.map(ms)),
            ("wall_ms", old.wall.map(ms), new.wall.map(ms)),
            (
                "memory_mib",
                old.memory_max_bytes.map(mib),
                new.memory_max_bytes.map(mib),
            ),
        ] {
            let shown =
                |value: Option<u64>| value.map_or("the kind's".to_owned(), |v| v.to_string());
            // Nothing asked is the most of all.
            let or_most = |value: Option<u64>| value.unwrap_or(u64::MAX);
            let what = format!("limits.{name} is {} instead of {}", shown(new), shown(old));
            match or_most(new).cmp(&or_most(old)) {
                std::cmp::Ordering::Greater => self.add(Step::Minor, what),
                std::cmp::Ordering::Less => self.add(Step::Patch, what),
                std::cmp::Ordering::Equal => {}
            }
        }
    }

    /// What was valid must stay valid.
    fn schema(&mut self, at: &str, old: &Value, new: &Value) {
        for keyword in [
            "type",
            "format",
            "pattern",
            "const",
            "writeOnly",
            "multipleOf",
        ] {
            self.keyword(at, keyword, &old[keyword], &new[keyword]);
        }
        for (keyword, is_least) in [
            ("minimum", true),
            ("exclusiveMinimum", true),
            ("minLength", true),
            ("minItems", true),
            ("maximum", false),
            ("exclusiveMaximum", false),
            ("maxLength", false),
            ("maxItems", false),
            ("maxProperties", false),
        ] {
            self.bound(at, keyword, is_least, &old[keyword], &new[keyword]);
        }
        self.values(at, &old["enum"], &new["enum"]);
        self.keyword(at, "uniqueItems", &old["uniqueItems"], &new["uniqueItems"]);
        if old["default"] != new["default"] {
            let (old, new) = (shown(&old["default"]), shown(&new["default"]));
            self.add(
                Step::Minor,
                format!("{at}: the default is {new} instead of {old}"),
            );
        }
        if old["properties"].is_object() || new["properties"].is_object() {
            self.properties(at, old, new);
        }
        for inner in ["items", "additionalProperties"] {
            if old[inner].is_object() && new[inner].is_object() {
                self.schema(&format!("{at}.{inner}"), &old[inner], &new[inner]);
            } else if old[inner].is_object() {
                let what = format!("{at}: {inner} are not taken any more");
                self.add(Step::Major, what);
            }
        }
    }

    /// A keyword that narrows when it is there, and means something else when it changes.
    fn keyword(&mut self, at: &str, keyword: &str, old: &Value, new: &Value) {
        if old == new {
            return;
        }
        let is_lifted = new.is_null() && keyword != "writeOnly";
        let step = if is_lifted { Step::Minor } else { Step::Major };
        let (old, new) = (shown(old), shown(new));
        self.add(step, format!("{at}: {keyword} is {new} instead of {old}"));
    }

    fn bound(&mut self, at: &str, keyword: &str, is_least: bool, old: &Value, new: &Value) {
        let (a, b) = (old.as_f64(), new.as_f64());
        let is_narrower = match (a, b) {
            (None, Some(_)) => true,
            (Some(old), Some(new)) if is_least => new > old,
            (Some(old), Some(new)) => new < old,
            (_, None) => false,
        };
        if a == b {
            return;
        }
        let step = if is_narrower {
            Step::Major
        } else {
            Step::Minor
        };
        let (old, new) = (shown(old), shown(new));
        self.add(step, format!("{at}: {keyword} is {new} instead of {old}"));
    }

    fn values(&mut self, at: &str, old: &Value, new: &Value) {
        match (old.as_array(), new.as_array()) {
            (Some(old), Some(new)) => {
                for value in old.iter().filter(|value| !new.contains(value)) {
                    self.add(Step::Major, format!("{at}: {value} is not taken any more"));
                }
                for value in new.iter().filter(|value| !old.contains(value)) {
                    self.add(Step::Minor, format!("{at}: {value} is taken"));
                }
            }
            (None, Some(_)) => self.add(Step::Major, format!("{at}: only {new} are taken")),
            (Some(_), None) => self.add(Step::Minor, format!("{at}: other values are taken")),
            (None, None) => {}
        }
    }

    fn properties(&mut self, at: &str, old: &Value, new: &Value) {
        let none = Map::new();
        let before = old["properties"].as_object().unwrap_or(&none);
        let after = new["properties"].as_object().unwrap_or(&none);
        let is_required = |schema: &Value, name: &str| {
            let required = schema["required"].as_array();
            required.is_some_and(|list| list.iter().any(|one| one == name))
        };
        for (name, schema) in before {
            let at = format!("{at}.{name}");
            match after.get(name) {
                Some(next) => self.schema(&at, schema, next),
                None => self.add(
                    Step::Major,
                    format!("{at} is gone: settings that have it are refused"),
                ),
            }
        }
        for (name, schema) in after {
            let at = format!("{at}.{name}");
            let has_default = !schema["default"].is_null();
            let must = is_required(new, name) && !has_default;
            let was_there = before.contains_key(name);
            if must && !is_required(old, name) {
                self.add(Step::Major, format!("{at} is required, without a default"));
            } else if !was_there {
                self.add(Step::Minor, format!("{at} is new"));
            }
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_step_is_what_semantic_versions_say() {
        for (old, new, step) in [
            ("1.2.3", "1.2.4", Some(Step::Patch)),
            ("1.2.3", "1.3.0", Some(Step::Minor)),
            ("1.2.3", "2.0.0", Some(Step::Major)),
            ("0.1.0", "0.1.1", Some(Step::Minor)),
            ("0.1.0", "0.2.0", Some(Step::Major)),
            ("1.0.0", "1.0.0", None),
            ("1.1.0", "1.0.9", None),
        ] {
            let version = |text: &str| Version::parse(text).expect(text);
            assert_eq!(
                Step::taken(&version(old), &version(new)),
                step,
                "{old} {new}"
            );
        }
    }

    #[test]
    fn settings_that_were_valid_must_stay_valid() {
        let old = json!({
            "type": "object",
            "required": ["url"],
            "properties": {
                "url": { "type": "string", "format": "uri" },
                "method": { "type": "string", "enum": ["GET", "POST"], "default": "GET" },
                "tries": { "type": "integer", "maximum": 5 },
            }
        });
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut new = old.clone();
            change(&mut new["properties"]);
            if new["properties"]["key"]["must"] == true {
                new["required"] = json!(["url", "key"]);
            }
            let mut found = Found::default();
            found.schema("settings", &old, &new);
            found
                .0
                .into_iter()
                .map(|d| (d.step, d.what))
                .collect::<Vec<_>>()
        };
        assert_eq!(changed(&|_| {}), []);
        assert_eq!(changed(&|p| p["url"]["title"] = json!("Address")), []);
        for (change, step, what) in [
            (
                &(|p: &mut Value| p["key"] = json!({ "type": "string" })) as &dyn Fn(&mut Value),
                Step::Minor,
                "settings.key is new",
            ),
            (
                &|p| p["key"] = json!({ "type": "string", "must": true }),
                Step::Major,
                "settings.key is required, without a default",
            ),
            (
                &|p| p["method"]["enum"] = json!(["GET"]),
                Step::Major,
                "settings.method: \"POST\" is not taken any more",
            ),
            (
                &|p| p["method"]["default"] = json!("POST"),
                Step::Minor,
                "settings.method: the default is \"POST\" instead of \"GET\"",
            ),
            (
                &|p| p["tries"]["maximum"] = json!(3),
                Step::Major,
                "settings.tries: maximum is 3 instead of 5",
            ),
            (
                &|p| p["tries"]["maximum"] = json!(9),
                Step::Minor,
                "settings.tries: maximum is 9 instead of 5",
            ),
            (
                &|p| p["tries"]["type"] = json!("number"),
                Step::Major,
                "settings.tries: type is \"number\" instead of \"integer\"",
            ),
            (
                &|p| drop(p.as_object_mut().expect("a table").remove("tries")),
                Step::Major,
                "settings.tries is gone: settings that have it are refused",
            ),
        ] {
            assert_eq!(changed(change), [(step, what.to_owned())]);
        }
    }
}
