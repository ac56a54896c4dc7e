//! What a plugin asks for and what it gets.
//!
//! Effective permission = asked ∩ approved by the operator ∩ granted by the tenant ∩ the deployment's ceiling. A
//! capability that is not in the result is not linked, so the plugin cannot even name it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::id::InvalidId;

mod text;

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
        use CapabilityKind::{Http, Ingest, Kv, Mail, Net, Secrets};
        match self {
            Kind::Receiver => &[Ingest, Kv],
            Kind::Check => &[Http, Net, Kv, Secrets],
            Kind::Channel => &[Http, Mail, Kv, Secrets],
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
    /// Connections and facts found by the host (`shoal:plugin/net`).
    Net,
    /// Mail through the operator's relay (`shoal:plugin/mail`).
    Mail,
    /// A few values kept from call to call (`shoal:plugin/kv`).
    Kv,
    /// Secrets that the host puts in on the way out (`shoal:plugin/secrets`).
    Secrets,
}

impl CapabilityKind {
    /// Every sort.
    pub const ALL: [CapabilityKind; 6] = [
        CapabilityKind::Ingest,
        CapabilityKind::Http,
        CapabilityKind::Net,
        CapabilityKind::Mail,
        CapabilityKind::Kv,
        CapabilityKind::Secrets,
    ];

    /// Its name, such as `http`.
    pub fn as_str(self) -> &'static str {
        match self {
            CapabilityKind::Ingest => "ingest",
            CapabilityKind::Http => "http",
            CapabilityKind::Net => "net",
            CapabilityKind::Mail => "mail",
            CapabilityKind::Kv => "kv",
            CapabilityKind::Secrets => "secrets",
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

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HttpMethod {
    /// `GET`, and `HEAD` with it.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

/// What of the network a plugin has the host do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NetOperation {
    /// A connection over which it exchanges bytes.
    Tcp,
    /// A TLS handshake, and bytes over it.
    Tls,
    /// Records of a name; ports do not matter.
    Dns,
    /// Echo requests (ping); ports do not matter.
    Icmp,
}

/// To whom a plugin may send mail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Recipient {
    /// This address, or every address of a domain when it begins with `*@`; in small letters.
    Address(String),
    /// The addresses in this setting. The tenant grants them by saving the settings.
    Setting(String),
}

/// Where the host may put a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretPlace {
    /// In the value of this header, in small letters.
    Header(String),
    /// As the URL's path and query, or a segment of the path.
    Path,
    /// As the value of this query parameter.
    Query(String),
    /// As the string at this JSON pointer of the request's body.
    Body(String),
    /// Nowhere: as the key of a signature (HMAC-SHA-256) that the host computes.
    Hmac,
}

/// Something that a plugin may do. Ordered, so that equal sets are equal text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// Handing telemetry to the host.
    Ingest,
    /// HTTP requests to a destination.
    Http {
        /// The only method; `None` is any.
        method: Option<HttpMethod>,
        /// Where to.
        to: Destination,
    },
    /// Something of the network, with a destination.
    Net {
        /// What.
        operation: NetOperation,
        /// Where to.
        to: Destination,
    },
    /// Mail to somebody.
    Mail(Recipient),
    /// A few values kept from call to call.
    Kv,
    /// The use of a secret.
    Secret {
        /// The setting that holds it.
        setting: String,
        /// Where the host may put it.
        place: SecretPlace,
        /// The only destination to which it may go; `None` for [`SecretPlace::Hmac`] alone.
        to: Option<Destination>,
    },
}

impl Capability {
    /// What sort it is.
    pub fn kind(&self) -> CapabilityKind {
        match self {
            Capability::Ingest => CapabilityKind::Ingest,
            Capability::Http { .. } => CapabilityKind::Http,
            Capability::Net { .. } => CapabilityKind::Net,
            Capability::Mail(_) => CapabilityKind::Mail,
            Capability::Kv => CapabilityKind::Kv,
            Capability::Secret { .. } => CapabilityKind::Secrets,
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
mod tests;
