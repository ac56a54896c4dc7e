//! Capabilities as text: in approvals, grants, the API and the command line.
//!
//! `ingest`, `kv`, `http [METHOD] DESTINATION`, `net OPERATION DESTINATION`, `mail RECIPIENT` and
//! `secret SETTING PLACE [DESTINATION]`. What is written reads back as the same.

use std::fmt;
use std::str::FromStr;

use super::{Capability, Destination, HttpMethod, NetOperation, Recipient, SecretPlace};
use crate::id::InvalidId;

impl HttpMethod {
    /// Every method.
    pub const ALL: [HttpMethod; 5] = [
        HttpMethod::Get,
        HttpMethod::Post,
        HttpMethod::Put,
        HttpMethod::Patch,
        HttpMethod::Delete,
    ];

    /// Its name, such as `POST`.
    pub fn as_str(self) -> &'static str {
        match self {
            HttpMethod::Get => "GET",
            HttpMethod::Post => "POST",
            HttpMethod::Put => "PUT",
            HttpMethod::Patch => "PATCH",
            HttpMethod::Delete => "DELETE",
        }
    }

    /// The method of a name in capitals.
    pub fn named(name: &str) -> Option<HttpMethod> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

impl NetOperation {
    /// Every operation.
    pub const ALL: [NetOperation; 4] = [
        NetOperation::Tcp,
        NetOperation::Tls,
        NetOperation::Dns,
        NetOperation::Icmp,
    ];

    /// Its name, such as `tls`.
    pub fn as_str(self) -> &'static str {
        match self {
            NetOperation::Tcp => "tcp",
            NetOperation::Tls => "tls",
            NetOperation::Dns => "dns",
            NetOperation::Icmp => "icmp",
        }
    }

    /// The operation of a name.
    pub fn named(name: &str) -> Option<NetOperation> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.as_str() == name)
    }
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

impl FromStr for Destination {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Destination, InvalidId> {
        destination(text)
            .ok_or_else(|| wrong(text, "a destination such as example.com:443 or setting:url"))
    }
}

fn destination(text: &str) -> Option<Destination> {
    if let Some(setting) = text.strip_prefix("setting:") {
        return is_name(setting).then(|| Destination::Setting(setting.to_owned()));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port != 0)?)),
        None => (text, None),
    };
    is_host(host.strip_prefix("*.").unwrap_or(host)).then(|| Destination::Host {
        host: host.to_owned(),
        port,
    })
}

/// As the API shows it: `ops@example.com`, `*@example.com`, `setting:to`.
impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recipient::Address(address) => f.write_str(address),
            Recipient::Setting(name) => write!(f, "setting:{name}"),
        }
    }
}

impl FromStr for Recipient {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Recipient, InvalidId> {
        recipient(text)
            .ok_or_else(|| wrong(text, "a recipient such as *@example.com or setting:to"))
    }
}

fn recipient(text: &str) -> Option<Recipient> {
    if let Some(setting) = text.strip_prefix("setting:") {
        return is_name(setting).then(|| Recipient::Setting(setting.to_owned()));
    }
    let (local, domain) = text.rsplit_once('@')?;
    let is_local = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._+-".contains(&b);
    let is_good =
        local == "*" || (!local.is_empty() && local.len() <= 64 && local.bytes().all(is_local));
    (is_good && is_host(domain)).then(|| Recipient::Address(text.to_owned()))
}

/// As the API shows it: `header:authorization`, `path`, `query:key`, `body:/token`, `hmac`.
impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretPlace::Header(name) => write!(f, "header:{name}"),
            SecretPlace::Path => f.write_str("path"),
            SecretPlace::Query(name) => write!(f, "query:{name}"),
            SecretPlace::Body(pointer) => write!(f, "body:{pointer}"),
            SecretPlace::Hmac => f.write_str("hmac"),
        }
    }
}

impl FromStr for SecretPlace {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<SecretPlace, InvalidId> {
        secret_place(text).ok_or_else(|| {
            wrong(
                text,
                "a place such as header:authorization, path, query:key, body:/token or hmac",
            )
        })
    }
}

fn secret_place(text: &str) -> Option<SecretPlace> {
    let (sort, what) = text.split_once(':').unwrap_or((text, ""));
    match sort {
        "header" => {
            let is_header = !what.is_empty()
                && what.len() <= 100
                && what.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_'
                });
            is_header.then(|| SecretPlace::Header(what.to_owned()))
        }
        "query" => is_name(what).then(|| SecretPlace::Query(what.to_owned())),
        "body" => {
            let is_pointer = what.starts_with('/')
                && what.len() <= 200
                && !what
                    .bytes()
                    .any(|b| b.is_ascii_whitespace() || b.is_ascii_control());
            is_pointer.then(|| SecretPlace::Body(what.to_owned()))
        }
        "path" if text == "path" => Some(SecretPlace::Path),
        "hmac" if text == "hmac" => Some(SecretPlace::Hmac),
        _ => None,
    }
}

/// Such as `ingest`, `http POST hooks.slack.com:443`, `net tls setting:url`, `secret token header:authorization setting:url`.
impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capability::Ingest => f.write_str("ingest"),
            Capability::Kv => f.write_str("kv"),
            Capability::Http { method: None, to } => write!(f, "http {to}"),
            Capability::Http {
                method: Some(method),
                to,
            } => write!(f, "http {} {to}", method.as_str()),
            Capability::Net { operation, to } => write!(f, "net {} {to}", operation.as_str()),
            Capability::Mail(to) => write!(f, "mail {to}"),
            Capability::Secret {
                setting,
                place,
                to: None,
            } => write!(f, "secret {setting} {place}"),
            Capability::Secret {
                setting,
                place,
                to: Some(to),
            } => write!(f, "secret {setting} {place} {to}"),
        }
    }
}

impl FromStr for Capability {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Capability, InvalidId> {
        let words: Vec<&str> = text.split(' ').collect();
        capability(&words).ok_or_else(|| {
            wrong(
                text,
                "a capability such as ingest, kv, http POST example.com:443, net tls setting:url, mail setting:to or \
                 secret token header:authorization setting:url",
            )
        })
    }
}

fn capability(words: &[&str]) -> Option<Capability> {
    Some(match *words {
        ["ingest"] => Capability::Ingest,
        ["kv"] => Capability::Kv,
        ["http", to] => Capability::Http {
            method: None,
            to: destination(to)?,
        },
        ["http", method, to] => Capability::Http {
            method: Some(HttpMethod::named(method)?),
            to: destination(to)?,
        },
        ["net", operation, to] => Capability::Net {
            operation: NetOperation::named(operation)?,
            to: destination(to)?,
        },
        ["mail", to] => Capability::Mail(recipient(to)?),
        ["secret", setting, place] if is_name(setting) && place == "hmac" => Capability::Secret {
            setting: setting.to_owned(),
            place: SecretPlace::Hmac,
            to: None,
        },
        ["secret", setting, place, to] if is_name(setting) && place != "hmac" => {
            Capability::Secret {
                setting: setting.to_owned(),
                place: secret_place(place)?,
                to: Some(destination(to)?),
            }
        }
        _ => return None,
    })
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

/// Names of settings and parameters: no spaces, so that words stay words.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 100 && name.bytes().all(|b| b.is_ascii_graphic())
}

fn wrong(text: &str, wanted: &'static str) -> InvalidId {
    InvalidId {
        value: text.chars().take(100).collect(),
        wanted,
    }
}
