//! What a plugin says of itself: `plugin.toml`, embedded in its component.
//!
//! The text is carried in the custom section [`SECTION`] of the component, or of the core module in it, and is
//! read without running anything. A key that the host does not know is refused, because a wish that is
//! accepted and not honoured is worse than none.
//!
//! # Format
//!
//! ```toml
//! id = "http-check"              # a-z, 0-9, '-', '.'; never changes
//! version = "0.1.0"              # semantic version of this release
//! kind = "check"                 # receiver | check | channel | billing-rule
//! title = "HTTP check"           # at most 100 characters
//! description = "Asks a web page and measures the answer."    # at most 1,000 characters
//!
//! [[capabilities]]               # everything not asked for is not linked
//! kind = "http"                  # checks, channels
//! methods = ["GET"]              # GET (and HEAD) | POST | PUT | PATCH | DELETE; any when left out
//! setting = "url"                # the host and port of the URL in this setting, and/or
//! hosts = ["hooks.slack.com:443", "*.example.com"]   # exact hosts, hosts below a domain; without port: 443 and 80
//! reason = "to ask the page that you name"           # shown to whoever grants it; at most 300 characters
//!
//! [[capabilities]]
//! kind = "net"                   # checks; destinations as for http
//! operations = ["tls"]           # tcp | tls | dns | icmp
//! setting = "url"
//! reason = "to read the certificate"
//!
//! [[capabilities]]
//! kind = "secrets"               # checks, channels: the host puts a secret in on the way out
//! secret = "token"               # the setting (writeOnly) that holds it
//! places = ["header:authorization"]      # header:NAME | path | query:NAME | body:/JSON/POINTER | hmac
//! setting = "url"                # the only destinations it goes to, as for http; none for hmac
//! reason = "to authenticate"
//!
//! # kind = "ingest"              # receivers: handing metrics over
//! # kind = "kv"                  # receivers, checks, channels: a few values kept from call to call
//! # kind = "mail"                # channels; recipients = ["*@example.com"] and/or setting = "to"
//!
//! [[endpoints]]                  # receivers only, at least one: where requests arrive
//! http = "/v1/metrics"           # a path, or
//! # grpc = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"      # a unary method
//!
//! [limits]                       # optional; less than what the kind gets, or what the operator raised it to
//! cpu_ms = 100
//! wall_ms = 10000
//! memory_mib = 32
//! # class = "large"              # an interpreter; where the operator allows it
//!
//! [settings]                     # JSON Schema 2020-12, the subset in `crate::settings`
//! type = "object"
//! required = ["url"]
//! [settings.properties.url]
//! type = "string"
//! format = "uri"
//! title = "Address"
//! [settings.properties.token]
//! type = "string"
//! writeOnly = true               # a secret: encrypted, never shown again
//!
//! [example]                      # settings that satisfy the schema
//! url = "https://example.com/"
//!
//! [[tests]]                      # golden tests: one call each, run before a version is taken (at most 64)
//! name = "a page that answers is ok"
//! settings = { url = "https://example.com/" }        # without: the example
//! now = "2026-01-01T00:00:00Z"   # where the plugin's clock stands; this unless given
//! # input = { … }                # what the kind is given; whatever does not matter may be left out:
//! #   receiver: endpoint, method, content_type, and body | json | body_base64
//! #   channel: organization, alert = { severity, previous, trigger, message, value, labels, … }, monitor = { name, … }
//! #   billing rule: month = "2026-01", closed_hours, meters = { "host.standard" = { web-1 = 744 } }, currency, currency_digits
//!
//! [[tests.http]]                 # requests in order, each with its answer; any other request fails the test
//! request = "GET https://example.com/"
//! # request_headers = { accept = "text/html" }
//! # request_body = "text" | { contains = "part" } | a table that is part of its JSON
//! answer = { status = 200, headers = { server = "x" }, body = "hello" }   # or json, body_base64
//! # answer = { error = "dns" }   # or refused, timeout (no connection), closed (no answer)
//!
//! [[tests.net]]                  # the same for the interface net
//! request = "tls example.com:443"                    # or tcp HOST:PORT, dns NAME TYPE, icmp HOST
//! answer = { chain = [{ subject = "CN=example.com", not_after = "2026-02-01T00:00:00Z" }] }     # tls; untrusted = "why"
//! # answer = { records = [{ data = "10 mail.example.com" }] }     # dns
//! # answer = { sends = "220 ready" }                 # tcp, tls; icmp: round_trip_us; any: error = "timed-out"
//!
//! [tests.expect]                 # a part of the outcome; { contains = "…" } for a part of a text
//! outcome = "ok"                 # or rejected, retry, unauthenticated (then code, message, after_ms), or limit-cpu, panicked, …
//! status = "ok"                  # check: status, summary, measurements = [{ name, value, labels }]
//! # channel: summary, mail = [{ to, subject, text }]; receiver: status, body | json, metrics = [{ name, kind, attributes, points = [{ value }] }]
//! # billing rule: lines = [{ description, meter, quantity = "6", unit_price, amount }], total = "11000"
//! ```

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use shoal_model::PluginId;
use shoal_model::grant::{Capability, Grants, Kind};
use shoal_model::limit::CallLimits;

use crate::settings::{InvalidSchema, InvalidSettings, SettingsSchema};

mod capabilities;
mod tests_section;

pub use tests_section::GoldenTest;

/// The custom section that holds the text of `plugin.toml`.
pub const SECTION: &str = "shoal:manifest";

/// Longest manifest, in bytes: a hundred settings with descriptions take a quarter of it.
pub const MANIFEST_MAX_BYTES: usize = 256 << 10;

const TITLE_MAX_CHARS: usize = 100;
const DESCRIPTION_MAX_CHARS: usize = 1000;
const REASON_MAX_CHARS: usize = 300;
/// Capabilities and endpoints, each: more than a person would read before granting.
const LIST_MAX: usize = 32;

/// A manifest that has been checked.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The plugin's name, the same for all its versions.
    pub id: PluginId,
    /// The release.
    pub version: semver::Version,
    /// What it is for.
    pub kind: Kind,
    /// Its name for people.
    pub title: String,
    /// What it does, for people.
    pub description: String,
    /// What it asks for, in the author's order.
    pub capabilities: Vec<Asked>,
    /// Where requests for it arrive; empty unless it is a receiver.
    pub endpoints: Vec<Endpoint>,
    /// Bounds that the author thinks are enough.
    pub limits: AskedLimits,
    /// What its settings look like.
    pub settings: SettingsSchema,
    /// Settings that satisfy the schema, if the author gave some.
    pub example: Option<serde_json::Map<String, serde_json::Value>>,
    /// What it promises to answer, in the author's order.
    pub tests: Vec<GoldenTest>,
    /// The text as it was embedded.
    pub text: String,
}

/// One entry of `[[capabilities]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is asked for: one capability a destination, method, operation or place.
    pub capabilities: Vec<Capability>,
    /// Why, in the author's words.
    pub reason: String,
}

/// Where requests for a receiver arrive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// An HTTP path such as `/v1/metrics`.
    Http(String),
    /// A gRPC method such as `/package.Service/Method`.
    Grpc(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Http(path) => write!(f, "http {path}"),
            Endpoint::Grpc(method) => write!(f, "grpc {method}"),
        }
    }
}

/// How much room a plugin needs, in all respects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitClass {
    /// Compiled code, as most plugins are.
    #[default]
    Standard,
    /// An interpreter with its libraries.
    Large,
}

/// Bounds that an author asks for; `None` leaves the kind's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedLimits {
    /// How much room it needs.
    pub class: LimitClass,
    /// Time that the guest computes.
    pub cpu: Option<Duration>,
    /// Time from start to end.
    pub wall: Option<Duration>,
    /// All memories and tables together, in bytes.
    pub memory_max_bytes: Option<u64>,
}

impl AskedLimits {
    /// What a call gets where the deployment allows `allowed`: the smaller of both.
    ///
    /// # Errors
    /// What is asked beyond it, in words that name both numbers.
    pub fn within(self, allowed: CallLimits) -> Result<CallLimits, String> {
        let allowed = match self.class {
            LimitClass::Standard => allowed,
            LimitClass::Large => allowed.large(),
        };
        let mut limits = allowed;
        let ms = |time: Duration| format!("{} ms", time.as_millis());
        if let Some(cpu) = self.cpu {
            limits.cpu = no_more("limits.cpu_ms", cpu, allowed.cpu, ms)?;
        }
        if let Some(wall) = self.wall {
            limits.wall = no_more("limits.wall_ms", wall, allowed.wall, ms)?;
        }
        if let Some(memory) = self.memory_max_bytes {
            let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
            limits.memory_max_bytes =
                no_more("limits.memory_mib", memory, allowed.memory_max_bytes, mib)?;
        }
        Ok(limits)
    }
}

fn no_more<T: PartialOrd + Copy>(
    key: &str,
    asked: T,
    allowed: T,
    show: impl Fn(T) -> String,
) -> Result<T, String> {
    if asked <= allowed {
        return Ok(asked);
    }
    Err(format!(
        "{key} asks for {}, this deployment allows {}",
        show(asked),
        show(allowed)
    ))
}

/// Why a manifest is refused. Names the key at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidManifest {
    /// Not TOML, an unknown key, a missing key or a value of another type.
    #[error("plugin.toml: {0}")]
    Syntax(String),
    /// A value that is not allowed.
    #[error("plugin.toml: {key}: {reason}")]
    Value {
        /// Where, such as `capabilities[0].hosts[1]`.
        key: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The settings' schema leaves the subset.
    #[error("plugin.toml: {0}")]
    Schema(#[from] InvalidSchema),
    /// The example does not satisfy the schema.
    #[error("plugin.toml: example: {0}")]
    Example(InvalidSettings),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    id: String,
    version: semver::Version,
    kind: String,
    title: String,
    description: String,
    #[serde(default)]
    capabilities: Vec<capabilities::Text>,
    #[serde(default)]
    endpoints: Vec<EndpointText>,
    #[serde(default)]
    limits: LimitsText,
    settings: Option<serde_json::Value>,
    example: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    tests: Vec<tests_section::TestText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointText {
    http: Option<String>,
    grpc: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsText {
    cpu_ms: Option<u64>,
    wall_ms: Option<u64>,
    memory_mib: Option<u64>,
    class: Option<String>,
}

impl Manifest {
    /// Reads and checks the text of a `plugin.toml`.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    ///
    /// # Example
    /// ```
    /// let manifest = shoal_runtime::Manifest::parse(r#"
    ///     id = "http-check"
    ///     version = "0.1.0"
    ///     kind = "check"
    ///     title = "HTTP check"
    ///     description = "Asks a web page and measures the answer."
    ///
    ///     [[capabilities]]
    ///     kind = "http"
    ///     setting = "url"
    ///     reason = "to ask the page that you name"
    ///
    ///     [settings]
    ///     type = "object"
    ///     required = ["url"]
    ///     [settings.properties.url]
    ///     type = "string"
    ///     format = "uri"
    /// "#)?;
    /// assert_eq!(manifest.asked().0.first().map(ToString::to_string), Some("http setting:url".into()));
    /// # Ok::<(), shoal_runtime::InvalidManifest>(())
    /// ```
    pub fn parse(text: &str) -> Result<Manifest, InvalidManifest> {
        if text.len() > MANIFEST_MAX_BYTES {
            return Err(InvalidManifest::Syntax(format!(
                "{} bytes where {MANIFEST_MAX_BYTES} are the most",
                text.len()
            )));
        }
        let raw: Text = toml::from_str(text)
            .map_err(|e| InvalidManifest::Syntax(e.to_string().trim_end().replace('\n', " ")))?;
        let kind: Kind = raw.kind.parse().map_err(|e| at("kind", e))?;
        let schema = raw
            .settings
            .unwrap_or_else(|| serde_json::json!({"type": "object"}));
        let settings = SettingsSchema::parse(schema)?;
        if let Some(example) = &raw.example {
            settings
                .validate(example.clone())
                .map_err(InvalidManifest::Example)?;
        }
        let mut manifest = Manifest {
            id: raw.id.parse().map_err(|e| at("id", e))?,
            version: raw.version,
            kind,
            title: prose("title", raw.title, TITLE_MAX_CHARS)?,
            description: prose("description", raw.description, DESCRIPTION_MAX_CHARS)?,
            capabilities: capabilities::read(raw.capabilities, kind, &settings)?,
            endpoints: endpoints(raw.endpoints, kind)?,
            limits: limits(raw.limits)?,
            settings,
            example: raw.example,
            tests: Vec::new(),
            text: text.to_owned(),
        };
        manifest.tests = tests_section::read(raw.tests, &manifest)?;
        Ok(manifest)
    }

    /// Everything it asks for, as a set.
    pub fn asked(&self) -> Grants {
        self.capabilities
            .iter()
            .flat_map(|asked| asked.capabilities.iter().cloned())
            .collect()
    }

    /// Why it asks for a capability, if it does.
    pub fn reason(&self, capability: &Capability) -> Option<&str> {
        self.capabilities
            .iter()
            .find(|asked| asked.capabilities.contains(capability))
            .map(|asked| asked.reason.as_str())
    }
}

fn at(key: impl Into<String>, reason: impl ToString) -> InvalidManifest {
    InvalidManifest::Value {
        key: key.into(),
        reason: reason.to_string(),
    }
}

/// Text for people: one to `max` characters, no control characters but line breaks.
fn prose(key: &str, text: String, max: usize) -> Result<String, InvalidManifest> {
    let chars = text.chars().count();
    if text.trim().is_empty() || chars > max {
        return Err(at(key, format!("has {chars} characters, not 1 to {max}")));
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(at(key, "holds a control character"));
    }
    Ok(text)
}

fn endpoints(texts: Vec<EndpointText>, kind: Kind) -> Result<Vec<Endpoint>, InvalidManifest> {
    if kind != Kind::Receiver && !texts.is_empty() {
        return Err(at("endpoints", format!("a {kind} has none")));
    }
    if kind == Kind::Receiver && texts.is_empty() {
        return Err(at("endpoints", "a receiver needs at least one"));
    }
    if texts.len() > LIST_MAX {
        return Err(at(
            "endpoints",
            format!("{} where {LIST_MAX} are the most", texts.len()),
        ));
    }
    let mut all = Vec::with_capacity(texts.len());
    for (i, text) in texts.into_iter().enumerate() {
        let key = format!("endpoints[{i}]");
        let endpoint = match (text.http, text.grpc) {
            (Some(path), None) if is_path(&path) => Endpoint::Http(path),
            (None, Some(method)) if is_path(&method) && method.matches('/').count() == 2 => {
                Endpoint::Grpc(method)
            }
            _ => {
                return Err(at(
                    key,
                    "wants either http = \"/path\" or grpc = \"/package.Service/Method\"",
                ));
            }
        };
        if all.contains(&endpoint) {
            return Err(at(key, format!("names {endpoint} a second time")));
        }
        all.push(endpoint);
    }
    Ok(all)
}

/// A path without query, dots at a segment's start, empty segments or characters that need escaping.
fn is_path(path: &str) -> bool {
    path.len() <= 200
        && path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|segment| {
                !segment.is_empty()
                    && !segment.starts_with('.')
                    && segment
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            })
        })
}

fn limits(text: LimitsText) -> Result<AskedLimits, InvalidManifest> {
    let positive = |key: &str, value: Option<u64>| match value {
        Some(0) => Err(at(key, "is 0")),
        // An hour and a TiB: beyond any deployment, and far from overflowing.
        Some(value) if value > 3_600_000 => Err(at(key, format!("{value} is beyond 3600000"))),
        value => Ok(value),
    };
    let class = match text.class.as_deref() {
        None | Some("standard") => LimitClass::Standard,
        Some("large") => LimitClass::Large,
        Some(other) => {
            return Err(at(
                "limits.class",
                format!("{other:?} is neither \"standard\" nor \"large\""),
            ));
        }
    };
    Ok(AskedLimits {
        class,
        cpu: positive("limits.cpu_ms", text.cpu_ms)?.map(Duration::from_millis),
        wall: positive("limits.wall_ms", text.wall_ms)?.map(Duration::from_millis),
        memory_max_bytes: positive("limits.memory_mib", text.memory_mib)?.map(|mib| mib << 20),
    })
}

#[cfg(test)]
mod tests;
