//! The deployment's ceiling: what no plugin gets beyond, whoever approves and grants it.
//!
//! A list of patterns in the operator's configuration. A capability is below the ceiling when the patterns cover all of it; one
//! that they cover in part is not granted in part, because the plugin asked for something else than it would get. A destination
//! or recipient that a setting names is looked at as it is in the settings.

use std::str::FromStr;

use serde_json::{Map, Value};
use shoal_model::grant::{
    Capability, Destination, HttpMethod, NetOperation, Recipient, SecretPlace,
};

/// Ports of a destination that names none.
const DEFAULT_PORTS: [u16; 2] = [443, 80];

/// What the deployment allows at most.
#[derive(Clone, Debug, Default)]
pub struct Ceiling(Option<Vec<Pattern>>);

/// One line of the ceiling.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Everything,
    Ingest,
    Kv,
    Http {
        method: Option<HttpMethod>,
        to: Place,
    },
    Net {
        operation: Option<NetOperation>,
        to: Place,
    },
    /// `None` is any recipient.
    Mail(Option<String>),
    /// `None` is any setting.
    Secret(Option<String>),
}

/// Where to: `None` is any host, or any port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: Option<String>,
    port: Option<u16>,
}

/// A line of the ceiling is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "[plugins] ceiling: {0:?} is not a pattern such as http *:443, http GET *.example.com, net tls *, mail *@example.com, secret *, kv, ingest or *"
)]
pub struct InvalidPattern(String);

impl Ceiling {
    /// Nothing beyond these patterns. An empty list allows nothing.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn new(patterns: &[String]) -> Result<Ceiling, InvalidPattern> {
        let parsed: Result<_, _> = patterns.iter().map(|text| text.parse()).collect();
        parsed.map(|patterns| Ceiling(Some(patterns)))
    }

    /// Whether a capability is below it, with the settings that name its destination.
    pub fn allows(&self, capability: &Capability, settings: &Map<String, Value>) -> bool {
        let Some(patterns) = &self.0 else {
            return true;
        };
        let any = |covers: &dyn Fn(&Pattern) -> bool| {
            let covers_all = |pattern: &Pattern| *pattern == Pattern::Everything;
            patterns.iter().any(|one| covers_all(one) || covers(one))
        };
        match capability {
            Capability::Ingest => any(&|one| *one == Pattern::Ingest),
            Capability::Kv => any(&|one| *one == Pattern::Kv),
            Capability::Http { method, to } => ends(to, settings).iter().all(|end| {
                any(&|one| {
                    matches!(one, Pattern::Http { method: only, to }
                        if only.is_none_or(|only| Some(only) == *method) && to.covers(end))
                })
            }),
            Capability::Net { operation, to } => ends(to, settings).iter().all(|end| {
                any(&|one| {
                    matches!(one, Pattern::Net { operation: only, to }
                        if only.is_none_or(|only| only == *operation) && to.covers(end))
                })
            }),
            Capability::Mail(to) => recipients(to, settings).iter().all(|recipient| {
                any(&|one| {
                    matches!(one, Pattern::Mail(only)
                        if only.as_deref().is_none_or(|only| address_covers(only, recipient)))
                })
            }),
            Capability::Secret { setting, .. } => any(&|one| {
                matches!(one, Pattern::Secret(only)
                    if only.as_ref().is_none_or(|only| only == setting))
            }),
        }
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;
    fn from_str(text: &str) -> Result<Pattern, InvalidPattern> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let wrong = || InvalidPattern(text.to_owned());
        Ok(match parts[..] {
            ["*"] => Pattern::Everything,
            ["ingest"] => Pattern::Ingest,
            ["kv"] => Pattern::Kv,
            ["http", to] => Pattern::Http {
                method: None,
                to: place(to).ok_or_else(wrong)?,
            },
            ["http", method, to] => Pattern::Http {
                method: Some(HttpMethod::named(method).ok_or_else(wrong)?),
                to: place(to).ok_or_else(wrong)?,
            },
            ["net", to] => Pattern::Net {
                operation: None,
                to: place(to).ok_or_else(wrong)?,
            },
            ["net", operation, to] => Pattern::Net {
                operation: match operation {
                    "*" => None,
                    name => Some(NetOperation::named(name).ok_or_else(wrong)?),
                },
                to: place(to).ok_or_else(wrong)?,
            },
            ["mail", "*"] => Pattern::Mail(None),
            ["mail", to] => match to.parse() {
                Ok(Recipient::Address(address)) => Pattern::Mail(Some(address)),
                _ => return Err(wrong()),
            },
            ["secret", "*"] => Pattern::Secret(None),
            ["secret", setting] => {
                let place = SecretPlace::Hmac;
                let known = format!("secret {setting} {place}").parse::<Capability>();
                known.map_err(|_| wrong())?;
                Pattern::Secret(Some(setting.to_owned()))
            }
            _ => return Err(wrong()),
        })
    }
}

/// `*`, `*:443`, `example.com`, `*.example.com:8443`.
fn place(text: &str) -> Option<Place> {
    if let Some(rest) = text.strip_prefix('*')
        && !rest.starts_with('.')
    {
        let port = match rest {
            "" => None,
            port => Some(
                port.strip_prefix(':')?
                    .parse()
                    .ok()
                    .filter(|port| *port != 0)?,
            ),
        };
        return Some(Place { host: None, port });
    }
    match text.parse().ok()? {
        Destination::Host { host, port } => Some(Place {
            host: Some(host),
            port,
        }),
        Destination::Setting(_) => None,
    }
}

/// One host, or all below a domain, and one port.
struct End {
    host: String,
    /// `None` when it cannot be told: only a pattern of any port covers it.
    port: Option<u16>,
}

impl Place {
    fn covers(&self, end: &End) -> bool {
        let host = self
            .host
            .as_deref()
            .is_none_or(|host| host_covers(host, &end.host));
        host && self.port.is_none_or(|port| end.port == Some(port))
    }
}

/// Whether a host or `*.domain` has another one, or all hosts below another domain, in it.
fn host_covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern == host,
        Some(domain) => host
            .strip_suffix(domain)
            .is_some_and(|before| before.ends_with('.')),
    }
}

fn address_covers(pattern: &str, address: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(domain) => address.ends_with(domain),
        None => pattern == address,
    }
}

/// What a destination comes to. Nothing when its setting is not set: then it opens nothing.
fn ends(to: &Destination, settings: &Map<String, Value>) -> Vec<End> {
    match to {
        Destination::Host { host, port } => {
            let ports = port.map_or(DEFAULT_PORTS.to_vec(), |port| vec![port]);
            let end = |port| End {
                host: host.clone(),
                port: Some(port),
            };
            ports.into_iter().map(end).collect()
        }
        Destination::Setting(name) => match settings.get(name).and_then(Value::as_str) {
            None => Vec::new(),
            Some(url) => vec![end_of_url(url)],
        },
    }
}

/// The host and port of a URL; what is none has no host that a pattern names.
fn end_of_url(url: &str) -> End {
    let uri: http::Uri = url.parse().unwrap_or_default();
    let default_port = match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    End {
        host: host.strip_suffix('.').unwrap_or(&host).to_owned(),
        port: uri.port_u16().or(default_port),
    }
}

fn recipients(to: &Recipient, settings: &Map<String, Value>) -> Vec<String> {
    let addresses = |text: &str| -> Vec<String> {
        let parts = text.split([',', ';', ' ']).filter(|part| !part.is_empty());
        parts.map(str::to_ascii_lowercase).collect()
    };
    match to {
        Recipient::Address(address) => vec![address.clone()],
        Recipient::Setting(name) => match settings.get(name) {
            Some(Value::String(text)) => addresses(text),
            Some(Value::Array(list)) => {
                let texts = list.iter().filter_map(Value::as_str);
                texts.flat_map(addresses).collect()
            }
            _ => Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling(patterns: &[&str]) -> Ceiling {
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        Ceiling::new(&patterns).expect("patterns")
    }

    fn allows(patterns: &[&str], capability: &str) -> bool {
        let settings = serde_json::json!({
            "url": "https://Web.Example.com/a", "plain": "http://web.example.com/", "to": ["A@example.com", "b@other.org"],
        });
        let Value::Object(settings) = settings else {
            unreachable!("it is an object")
        };
        let capability = capability.parse().expect("a capability");
        ceiling(patterns).allows(&capability, &settings)
    }

    #[test]
    fn patterns_cover_hosts_ports_methods_and_operations() {
        for (patterns, capability, wanted) in [
            (&["*"][..], "http a.example", true),
            (&[], "ingest", false),
            (&["ingest"], "ingest", true),
            (&["kv"], "ingest", false),
            (&["http *"], "http a.example:8080", true),
            (&["http *:443"], "http a.example:443", true),
            (&["http *:443"], "http a.example", false),
            (&["http *:443", "http *:80"], "http a.example", true),
            (&["http *.example.com"], "http a.example.com", true),
            (&["http *.example.com"], "http *.b.example.com", true),
            (&["http *.example.com"], "http example.com", false),
            (&["http *.example.com"], "http aexample.com", false),
            (&["http a.example.com"], "http *.example.com", false),
            (&["http GET *"], "http GET a.example", true),
            (&["http GET *"], "http a.example", false),
            (&["net tls *"], "net tls a.example:443", true),
            (&["net tls *"], "net tcp a.example:443", false),
            (&["net *"], "net icmp a.example", true),
            (&["http *"], "net tls a.example", false),
        ] {
            assert_eq!(
                allows(patterns, capability),
                wanted,
                "{patterns:?} {capability}"
            );
        }
    }

    #[test]
    fn what_a_setting_names_is_looked_at_as_it_is_set() {
        for (patterns, capability, wanted) in [
            (&["http *:443"][..], "http setting:url", true),
            (&["http *:443"], "http setting:plain", false),
            (&["http web.example.com"], "http setting:url", true),
            (&["http other.example.com"], "http setting:url", false),
            (&["http *:443"], "http setting:unset", true),
            (&["mail *@example.com"], "mail setting:to", false),
            (
                &["mail *@example.com", "mail b@other.org"],
                "mail setting:to",
                true,
            ),
            (&["mail *"], "mail *@example.com", true),
            (&["mail a@example.com"], "mail *@example.com", false),
            (
                &["secret token"],
                "secret token header:authorization setting:url",
                true,
            ),
            (
                &["secret other"],
                "secret token header:authorization setting:url",
                false,
            ),
        ] {
            assert_eq!(
                allows(patterns, capability),
                wanted,
                "{patterns:?} {capability}"
            );
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for text in [
            "",
            "fs *",
            "http",
            "http FETCH *",
            "net ftp *",
            "http setting:url",
            "http *:0",
            "http *x",
            "mail example.com",
            "kv now",
        ] {
            let error = Ceiling::new(&[text.to_owned()]).expect_err(text);
            assert_eq!(error, InvalidPattern(text.to_owned()));
        }
    }
}
