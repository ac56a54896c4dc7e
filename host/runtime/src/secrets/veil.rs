//! Settings for a plugin that looks at settings as such: with references, and made whole again afterwards.
//!
//! A plugin that turns settings of an earlier version into its own moves references about, not secrets. A secret comes
//! back only as a setting that is a secret as well, or the next call could read it; and who is to get it, or to be
//! written to, is for the tenant to say and not for a version.

use serde_json::{Map, Value};
use shoal_model::InstallationId;
use shoal_model::grant::{Capability, Destination, Recipient};

use super::{ReferenceKey, Secret};
use crate::egress::target::Target;
use crate::manifest::Manifest;

/// What was hidden.
pub(crate) struct Veil {
    before: Map<String, Value>,
    secrets: Vec<Secret>,
}

impl Veil {
    /// Settings, a JSON object, with references instead of those whose name is one of some.
    pub(crate) fn over(
        settings_json: &str,
        is_secret: impl Fn(&str) -> bool,
    ) -> Result<(Veil, String), String> {
        let before: Map<String, Value> = serde_json::from_str(settings_json)
            .map_err(|e| format!("are not a JSON object: {e}"))?;
        let (key, nobody) = (ReferenceKey::random(), InstallationId::from_random([0; 10]));
        let mut shown = before.clone();
        let mut secrets = Vec::new();
        for (name, value) in &mut shown {
            let Some(text) = value.as_str().filter(|_| is_secret(name)) else {
                continue;
            };
            let secret = Secret::veiled(name, text, key.token(&nobody, name));
            *value = secret.reference.as_str().into();
            secrets.push(secret);
        }
        let shown = Value::Object(shown).to_string();
        Ok((Veil { before, secrets }, shown))
    }

    /// The secrets where their references are.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub(crate) fn lifted(
        &self,
        settings_json: &str,
        manifest: &Manifest,
    ) -> Result<String, String> {
        let mut settings: Map<String, Value> = serde_json::from_str(settings_json)
            .map_err(|e| format!("are not a JSON object: {e}"))?;
        for (name, value) in &mut settings {
            let secret = self
                .secrets
                .iter()
                .find(|secret| *value == secret.reference);
            if let Some(secret) = secret.filter(|_| manifest.settings.secrets().contains(name)) {
                *value = secret.value.as_str().into();
            }
        }
        let text = Value::Object(settings.clone()).to_string();
        let exposed = self
            .secrets
            .iter()
            .find(|secret| text.contains(&secret.token));
        if let Some(secret) = exposed {
            return Err(format!(
                "hold the secret {} where it could be read: it may only become a setting with writeOnly = true",
                secret.setting
            ));
        }
        self.destinations_stay(&settings, manifest)?;
        Ok(text)
    }

    fn destinations_stay(
        &self,
        settings: &Map<String, Value>,
        manifest: &Manifest,
    ) -> Result<(), String> {
        let known: Vec<&str> = self.before.values().flat_map(texts).collect();
        let is_known = |text: &str| {
            let target = Target::of_url(text).ok();
            known.contains(&text)
                || target.is_some_and(|target| {
                    let mut known = known.iter();
                    known.any(|known| Target::of_url(known).is_ok_and(|known| known == target))
                })
        };
        for capability in &manifest.asked().0 {
            let name = match capability {
                Capability::Http { to, .. }
                | Capability::Net { to, .. }
                | Capability::Secret { to: Some(to), .. } => match to {
                    Destination::Setting(name) => name,
                    Destination::Host { .. } => continue,
                },
                Capability::Mail(Recipient::Setting(name)) => name,
                _ => continue,
            };
            let now = settings.get(name).map(texts).unwrap_or_default();
            if now.into_iter().any(|text| !is_known(text)) {
                return Err(format!(
                    "name a destination in setting {name} that the settings before did not: the tenant alone says where to"
                ));
            }
        }
        Ok(())
    }
}

/// The text of a value, or the texts of a list.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Manifest {
        Manifest::parse(include_str!("../../tests/fixtures/http-check.toml")).expect("a manifest")
    }

    fn through(
        before: Value,
        change: impl Fn(&mut Map<String, Value>),
    ) -> (String, Result<String, String>) {
        let is_secret = |name: &str| name == "key";
        let (veil, shown) = Veil::over(&before.to_string(), is_secret).expect("settings");
        let mut changed: Map<String, Value> = serde_json::from_str(&shown).expect("JSON");
        change(&mut changed);
        let lifted = veil.lifted(&Value::Object(changed).to_string(), &manifest());
        (shown, lifted)
    }

    #[test]
    fn a_secret_becomes_a_secret_again_and_nothing_else() {
        let before = json!({"url": "https://a.test/x", "key": "hunter2-hunter2"});
        let moved_to = |name: &'static str| {
            through(before.clone(), move |settings| {
                let value = settings.remove("key").expect("it is there");
                settings.insert(name.to_owned(), value);
            })
        };
        let (shown, lifted) = moved_to("token");
        assert!(!shown.contains("hunter2"), "{shown}");
        let wanted = json!({"url": "https://a.test/x", "token": "hunter2-hunter2"});
        assert_eq!(lifted, Ok(wanted.to_string()));
        let (_, exposed) = moved_to("contains");
        assert!(exposed.expect_err("readable").contains("the secret key"));
        let (_, hidden) = through(before.clone(), |settings| {
            let text = format!("x{}", settings["key"].as_str().expect("text"));
            settings.insert("token".to_owned(), text.into());
        });
        assert!(hidden.is_err(), "a part of another text");
    }

    #[test]
    fn a_version_names_no_new_destination() {
        let before = json!({"url": "https://a.test/x", "key": "hunter2-hunter2"});
        for (url, is_known) in [
            ("https://a.test/y", true),
            ("https://a.test:443/", true),
            ("https://evil.test/x", false),
            ("https://a.test:8443/x", false),
        ] {
            let (_, lifted) = through(before.clone(), |settings| {
                settings.remove("key");
                settings.insert("url".to_owned(), url.into());
            });
            assert_eq!(lifted.is_ok(), is_known, "{url}: {lifted:?}");
        }
    }
}
