//! What a plugin asks for and what it gets.
//!
//! Effective permission = asked ∩ approved by the operator ∩ granted by the tenant ∩ the deployment's ceiling. A
//! capability that is not in the result is not linked, so the plugin cannot even name it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::id::InvalidId;

/// What a plugin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Brings telemetry in.
    Receiver,
    /// Probes a target.
    Check,
    /// Tells people.
    Channel,
    /// Prices usage.
    BillingRule,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [
        Kind::Receiver,
        Kind::Check,
        Kind::Channel,
        Kind::BillingRule,
    ];

    /// Its name, such as `billing-rule`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Receiver => "receiver",
            Kind::Check => "check",
            Kind::Channel => "channel",
            Kind::BillingRule => "billing-rule",
        }
    }

    /// The capabilities that a plugin of this kind may ask for.
    pub fn may_ask(self) -> &'static [CapabilityKind] {
        match self {
            Kind::Receiver => &[CapabilityKind::Ingest],
            Kind::Check => &[CapabilityKind::Http, CapabilityKind::Net],
            Kind::Channel => &[CapabilityKind::Http],
            Kind::BillingRule => &[],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Kind, InvalidId> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| InvalidId {
                value: text.chars().take(100).collect(),
                wanted: "a kind: receiver, check, channel or billing-rule",
            })
    }
}

/// What sort of thing a capability opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CapabilityKind {
    /// Handing telemetry to the host.
    Ingest,
    /// HTTP requests (`wasi:http`).
    Http,
    /// Network facts found by the host (`shoal:plugin/net`).
    Net,
}

impl CapabilityKind {
    /// Its name, such as `http`.
    pub fn as_str(self) -> &'static str {
        match self {
            CapabilityKind::Ingest => "ingest",
            CapabilityKind::Http => "http",
            CapabilityKind::Net => "net",
        }
    }
}

/// A destination that a plugin may reach.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// This host, or any host below a domain when it begins with `*.`; in small letters.
    Host {
        /// Such as `hooks.slack.com` or `*.example.com`.
        host: String,
        /// The only port; `None` means 443 and 80.
        port: Option<u16>,
    },
    /// The host of the URL in this setting, with the port of that URL. The tenant grants it by saving the
    /// settings.
    Setting(String),
}

/// As the API shows it: `hooks.slack.com:443`, `*.example.com`, `setting:url`.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Host {
                host,
                port: Some(port),
            } => write!(f, "{host}:{port}"),
            Destination::Host { host, port: None } => f.write_str(host),
            Destination::Setting(name) => write!(f, "setting:{name}"),
        }
    }
}

/// Something that a plugin may do. Ordered, so that equal sets are equal text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// Handing telemetry to the host.
    Ingest,
    /// HTTP requests to a destination.
    Http(Destination),
    /// Network facts about a destination.
    Net(Destination),
}

impl Capability {
    /// What sort it is.
    pub fn kind(&self) -> CapabilityKind {
        match self {
            Capability::Ingest => CapabilityKind::Ingest,
            Capability::Http(_) => CapabilityKind::Http,
            Capability::Net(_) => CapabilityKind::Net,
        }
    }
}

/// Such as `ingest`, `http hooks.slack.com:443`, `net setting:url`.
impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capability::Ingest => f.write_str("ingest"),
            Capability::Http(to) => write!(f, "http {to}"),
            Capability::Net(to) => write!(f, "net {to}"),
        }
    }
}

impl FromStr for Capability {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Capability, InvalidId> {
        let wrong = || InvalidId {
            value: text.chars().take(100).collect(),
            wanted: "a capability such as ingest, http example.com:443 or net setting:url",
        };
        let destination = |to: &str| {
            if let Some(setting) = to.strip_prefix("setting:") {
                return (!setting.is_empty()).then(|| Destination::Setting(setting.to_owned()));
            }
            let (host, port) = match to.rsplit_once(':') {
                Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port != 0)?)),
                None => (to, None),
            };
            let bare = host.strip_prefix("*.").unwrap_or(host);
            let is_host = !bare.is_empty()
                && bare.len() <= 253
                && bare.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.'
                });
            is_host.then(|| Destination::Host {
                host: host.to_owned(),
                port,
            })
        };
        match text.split_once(' ') {
            None if text == "ingest" => Ok(Capability::Ingest),
            Some(("http", to)) => destination(to).map(Capability::Http).ok_or_else(wrong),
            Some(("net", to)) => destination(to).map(Capability::Net).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

/// A set of capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grants(pub BTreeSet<Capability>);

impl Grants {
    /// What is in both.
    pub fn intersection(&self, other: &Grants) -> Grants {
        Grants(self.0.intersection(&other.0).cloned().collect())
    }

    /// What is asked here and missing in `granted`, in order.
    pub fn missing_in<'a>(&'a self, granted: &'a Grants) -> impl Iterator<Item = &'a Capability> {
        self.0.difference(&granted.0)
    }

    /// Whether anything of a sort is granted.
    pub fn has(&self, kind: CapabilityKind) -> bool {
        self.0.iter().any(|capability| capability.kind() == kind)
    }
}

impl FromIterator<Capability> for Grants {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(list: &[&str]) -> Grants {
        list.iter()
            .map(|text| text.parse().expect("a capability"))
            .collect()
    }

    #[test]
    fn a_capability_survives_a_trip_through_text() {
        for text in [
            "ingest",
            "http hooks.slack.com:443",
            "http *.example.com",
            "net setting:url",
        ] {
            assert_eq!(text.parse::<Capability>().expect(text).to_string(), text);
        }
        for text in [
            "",
            "http",
            "http ",
            "http EXAMPLE.com",
            "http a:0",
            "fs /tmp",
            "net setting:",
        ] {
            assert!(text.parse::<Capability>().is_err(), "{text}");
        }
    }

    #[test]
    fn permission_is_what_every_side_agrees_to() {
        let asked = grants(&["http a.example", "http b.example"]);
        let approved = grants(&["http a.example", "ingest"]);
        assert_eq!(asked.intersection(&approved), grants(&["http a.example"]));
        assert_eq!(
            asked
                .missing_in(&approved)
                .map(Capability::to_string)
                .collect::<Vec<_>>(),
            ["http b.example"]
        );
        assert!(
            !asked
                .intersection(&Grants::default())
                .has(CapabilityKind::Http),
            "an empty list denies"
        );
    }
}
