//! `[[capabilities]]` of a manifest: what a plugin asks for.
//!
//! Names are read through the model's own syntax, so that a manifest and an approval always agree.

use std::collections::BTreeSet;

use serde::Deserialize;
use shoal_model::grant::{
    Capability, CapabilityKind, Destination, HttpMethod, Kind, NetOperation, Recipient, SecretPlace,
};

use super::{Asked, InvalidManifest, LIST_MAX, REASON_MAX_CHARS, at, prose};
use crate::settings::SettingsSchema;

/// One entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    kind: String,
    methods: Option<Vec<String>>,
    operations: Option<Vec<String>>,
    recipients: Option<Vec<String>>,
    secret: Option<String>,
    places: Option<Vec<String>>,
    hosts: Option<Vec<String>>,
    setting: Option<String>,
    reason: String,
}

pub(super) fn read(
    texts: Vec<Text>,
    kind: Kind,
    settings: &SettingsSchema,
) -> Result<Vec<Asked>, InvalidManifest> {
    at_most("capabilities", texts.len())?;
    let mut seen = BTreeSet::new();
    let mut all = Vec::with_capacity(texts.len());
    for (i, text) in texts.into_iter().enumerate() {
        let key = format!("capabilities[{i}]");
        let asked = one(&key, text, kind, settings)?;
        for capability in &asked.capabilities {
            if !seen.insert(capability.clone()) {
                return Err(at(key, format!("asks for {capability} a second time")));
            }
        }
        all.push(asked);
    }
    every_secret_goes_somewhere(settings, &seen)?;
    Ok(all)
}

/// A plugin never sees a secret, so one that may go nowhere would be of no use.
fn every_secret_goes_somewhere(
    settings: &SettingsSchema,
    asked: &BTreeSet<Capability>,
) -> Result<(), InvalidManifest> {
    for name in settings.secrets() {
        let is_used = |capability: &Capability| matches!(capability, Capability::Secret { setting, .. } if setting == name);
        if !asked.iter().any(is_used) {
            return Err(at(
                format!("settings.properties.{name}.writeOnly"),
                format!(
                    "the plugin is given a reference and never the secret: ask for where it goes, with [[capabilities]] kind = \"secrets\", secret = \"{name}\" and places, such as [\"header:authorization\"]"
                ),
            ));
        }
    }
    Ok(())
}

fn one(
    key: &str,
    text: Text,
    kind: Kind,
    settings: &SettingsSchema,
) -> Result<Asked, InvalidManifest> {
    let sort = sort(key, &text.kind, kind)?;
    let reason = prose(
        &format!("{key}.reason"),
        text.reason.clone(),
        REASON_MAX_CHARS,
    )?;
    text.has_only_keys_of(key, sort)?;
    let entry = Entry { key, settings };
    let capabilities = match sort {
        CapabilityKind::Ingest => vec![Capability::Ingest],
        CapabilityKind::Kv => vec![Capability::Kv],
        CapabilityKind::Http => entry.http(text)?,
        CapabilityKind::Net => entry.net(text)?,
        CapabilityKind::Mail => entry.mail(text)?,
        CapabilityKind::Secrets => entry.secrets(text)?,
    };
    Ok(Asked {
        capabilities,
        reason,
    })
}

fn sort(key: &str, name: &str, kind: Kind) -> Result<CapabilityKind, InvalidManifest> {
    let may = kind.may_ask();
    may.iter()
        .find(|sort| sort.as_str() == name)
        .copied()
        .ok_or_else(|| {
            let names: Vec<_> = may.iter().map(|sort| sort.as_str()).collect();
            let names = match names.as_slice() {
                [] => "nothing".to_owned(),
                names => names.join(" or "),
            };
            at(
                format!("{key}.kind"),
                format!("{name:?}: a {kind} may ask for {names}"),
            )
        })
}

impl Text {
    /// A key that means nothing for a sort of capability would be a wish that is not honoured.
    fn has_only_keys_of(&self, key: &str, sort: CapabilityKind) -> Result<(), InvalidManifest> {
        use CapabilityKind::{Http, Mail, Net, Secrets};
        let keys: [(&str, bool, &[CapabilityKind]); 7] = [
            ("methods", self.methods.is_some(), &[Http]),
            ("operations", self.operations.is_some(), &[Net]),
            ("recipients", self.recipients.is_some(), &[Mail]),
            ("secret", self.secret.is_some(), &[Secrets]),
            ("places", self.places.is_some(), &[Secrets]),
            ("hosts", self.hosts.is_some(), &[Http, Net, Secrets]),
            (
                "setting",
                self.setting.is_some(),
                &[Http, Net, Mail, Secrets],
            ),
        ];
        for (name, is_set, sorts) in keys {
            if is_set && !sorts.contains(&sort) {
                return Err(at(
                    format!("{key}.{name}"),
                    format!("{} has no such key", sort.as_str()),
                ));
            }
        }
        Ok(())
    }
}

/// Where an entry stands, and the settings that it may name.
struct Entry<'a> {
    key: &'a str,
    settings: &'a SettingsSchema,
}

impl Entry<'_> {
    fn http(&self, text: Text) -> Result<Vec<Capability>, InvalidManifest> {
        let methods = match text.methods {
            None => vec![None],
            Some(names) => self.names(
                "methods",
                &names,
                "GET, POST, PUT, PATCH or DELETE",
                |name| HttpMethod::named(name).map(Some),
            )?,
        };
        let destinations = self.destinations(text.hosts, text.setting)?;
        let each = |method: Option<HttpMethod>| {
            destinations.iter().map(move |to| Capability::Http {
                method,
                to: to.clone(),
            })
        };
        Ok(methods.into_iter().flat_map(each).collect())
    }

    fn net(&self, text: Text) -> Result<Vec<Capability>, InvalidManifest> {
        let names = text.operations.unwrap_or_default();
        let operations = self.names(
            "operations",
            &names,
            "tcp, tls, dns or icmp",
            NetOperation::named,
        )?;
        let destinations = self.destinations(text.hosts, text.setting)?;
        let each = |operation: NetOperation| {
            destinations.iter().map(move |to| Capability::Net {
                operation,
                to: to.clone(),
            })
        };
        Ok(operations.into_iter().flat_map(each).collect())
    }

    fn mail(&self, text: Text) -> Result<Vec<Capability>, InvalidManifest> {
        let mut recipients = match text.recipients {
            None => Vec::new(),
            Some(names) => self.names(
                "recipients",
                &names,
                "an address such as ops@example.com or *@example.com, in small letters",
                |name| {
                    let parsed = name.parse::<Recipient>().ok();
                    parsed.filter(|to| matches!(to, Recipient::Address(_)))
                },
            )?,
        };
        if let Some(name) = text.setting {
            if !self.settings.is_text(&name) {
                return Err(at(
                    format!("{}.setting", self.key),
                    format!(
                        "{name:?} is not a setting at the top level that holds an address or a list of addresses"
                    ),
                ));
            }
            recipients.push(Recipient::Setting(name));
        }
        if recipients.is_empty() {
            return Err(at(
                self.key,
                "names nobody: give recipients, or the setting that holds the addresses",
            ));
        }
        Ok(recipients.into_iter().map(Capability::Mail).collect())
    }

    fn secrets(&self, text: Text) -> Result<Vec<Capability>, InvalidManifest> {
        let secret = text.secret.unwrap_or_default();
        if !self.settings.secrets().contains(&secret) {
            return Err(at(
                format!("{}.secret", self.key),
                format!("{secret:?} is not a setting with writeOnly = true"),
            ));
        }
        let names = text.places.unwrap_or_default();
        let places = self.names(
            "places",
            &names,
            "a place such as header:authorization, path, query:key, body:/token or hmac",
            |name| name.parse::<SecretPlace>().ok(),
        )?;
        let goes_out = places.iter().any(|place| *place != SecretPlace::Hmac);
        let destinations = match goes_out {
            true => self.destinations(text.hosts, text.setting)?,
            false if text.hosts.is_some() || text.setting.is_some() => {
                return Err(at(
                    self.key,
                    "hmac has no destination: the secret goes nowhere",
                ));
            }
            false => Vec::new(),
        };
        let mut all = Vec::new();
        for place in places {
            let setting = secret.clone();
            if place == SecretPlace::Hmac {
                all.push(Capability::Secret {
                    setting,
                    place,
                    to: None,
                });
                continue;
            }
            all.extend(destinations.iter().map(|to| Capability::Secret {
                setting: setting.clone(),
                place: place.clone(),
                to: Some(to.clone()),
            }));
        }
        Ok(all)
    }

    fn destinations(
        &self,
        hosts: Option<Vec<String>>,
        setting: Option<String>,
    ) -> Result<Vec<Destination>, InvalidManifest> {
        let mut destinations = match hosts {
            None => Vec::new(),
            Some(names) => self.names(
                "hosts",
                &names,
                "a host such as hooks.slack.com:443 or *.example.com, in small letters",
                |name| {
                    let parsed = name.parse::<Destination>().ok();
                    parsed.filter(|to| matches!(to, Destination::Host { .. }))
                },
            )?,
        };
        if let Some(name) = setting {
            if !self.settings.is_url(&name) {
                return Err(at(
                    format!("{}.setting", self.key),
                    format!(
                        "{name:?} is not a setting at the top level with type \"string\" and format \"uri\""
                    ),
                ));
            }
            destinations.push(Destination::Setting(name));
        }
        if destinations.is_empty() {
            return Err(at(
                self.key,
                "names no destination: give hosts, or the setting that holds the URL",
            ));
        }
        Ok(destinations)
    }

    /// A list with at least one entry, each of which is one of a sort.
    fn names<T>(
        &self,
        list: &str,
        names: &[String],
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, InvalidManifest> {
        let key = format!("{}.{list}", self.key);
        if names.is_empty() {
            return Err(at(key, format!("is empty: give {wanted}")));
        }
        at_most(&key, names.len())?;
        names
            .iter()
            .enumerate()
            .map(|(i, name)| {
                parse(name)
                    .ok_or_else(|| at(format!("{key}[{i}]"), format!("{name:?} is not {wanted}")))
            })
            .collect()
    }
}

fn at_most(key: &str, count: usize) -> Result<(), InvalidManifest> {
    if count <= LIST_MAX {
        return Ok(());
    }
    Err(at(key, format!("{count} where {LIST_MAX} are the most")))
}
