//! What one installation may do on the network: its grants, with settings looked up.

use http::Method;
use shoal_model::grant::{Capability, Destination, Grants, HttpMethod, NetOperation};

use crate::egress::target::{self, Host, Target};
use crate::settings::Settings;

/// What one destination opens: nothing where it is a setting that is absent, or whose URL lacks the port that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened(Option<Place>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: Pattern,
    ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(Host),
    /// `.example.com`: any host below the domain.
    Below(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    One(u16),
    /// 443 and 80.
    OfTheWeb,
    /// The operation knows none.
    Any,
}

/// A granted destination cannot be made out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadDestination {
    pub(crate) what: String,
    pub(crate) reason: String,
}

/// How destinations are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// URLs of HTTP.
    Http,
    /// Any URL that says a port, or whose scheme has one; others open nothing.
    WithPort,
    /// Any URL; ports do not matter.
    WithoutPort,
}

impl Opened {
    /// What a destination opens to requests of HTTP.
    pub(crate) fn over_http(
        to: &Destination,
        settings: &Settings,
    ) -> Result<Opened, BadDestination> {
        Opened::new(to, settings, Sort::Http)
    }

    fn new(to: &Destination, settings: &Settings, sort: Sort) -> Result<Opened, BadDestination> {
        let (host, ports) = match to {
            Destination::Host { host, port } => {
                (pattern(host)?, port.map_or(Ports::OfTheWeb, Ports::One))
            }
            Destination::Setting(name) => {
                let Some(url) = settings.get(name).and_then(|value| value.as_str()) else {
                    return Ok(Opened(None));
                };
                // The URL may be a secret, so the message does not show it.
                let (host, port) = host_and_port(url, sort).map_err(|reason| BadDestination {
                    what: format!("setting {name}"),
                    reason,
                })?;
                match port {
                    Some(port) => (Pattern::Exact(host), Ports::One(port)),
                    None if sort == Sort::WithoutPort => (Pattern::Exact(host), Ports::Any),
                    None => return Ok(Opened(None)),
                }
            }
        };
        let ports = match sort {
            Sort::WithoutPort => Ports::Any,
            Sort::Http | Sort::WithPort => ports,
        };
        Ok(Opened(Some(Place { host, ports })))
    }

    /// Whether a target is open.
    pub(crate) fn allows(&self, target: &Target) -> bool {
        self.0.as_ref().is_some_and(|place| place.fits(target))
    }
}

fn host_and_port(url: &str, sort: Sort) -> Result<(Host, Option<u16>), String> {
    match sort {
        Sort::Http => Target::of_url(url).map(|target| (target.host, Some(target.port))),
        Sort::WithPort | Sort::WithoutPort => target::host_of_url(url),
    }
}

impl Place {
    fn fits(&self, target: &Target) -> bool {
        let host = match (&self.host, &target.host) {
            (Pattern::Exact(exact), host) => exact == host,
            (Pattern::Below(suffix), Host::Name(name)) => {
                name.len() > suffix.len() && name.ends_with(suffix.as_str())
            }
            (Pattern::Below(_), Host::Ip(_)) => false,
        };
        let port = match self.ports {
            Ports::One(port) => port == target.port,
            Ports::OfTheWeb => matches!(target.port, 443 | 80),
            Ports::Any => true,
        };
        host && port
    }
}

fn pattern(host: &str) -> Result<Pattern, BadDestination> {
    let parse = |text: &str| {
        Host::parse(text).map_err(|reason| BadDestination {
            what: host.to_owned(),
            reason,
        })
    };
    match host.strip_prefix("*.") {
        None => Ok(Pattern::Exact(parse(host)?)),
        Some(domain) => match parse(domain)? {
            Host::Name(name) => Ok(Pattern::Below(format!(".{name}"))),
            Host::Ip(_) => Err(BadDestination {
                what: host.to_owned(),
                reason: "there is nothing below an address".to_owned(),
            }),
        },
    }
}

/// What a plugin wants to do with a target.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act<'a> {
    Http(&'a Method),
    Net(NetOperation),
}

/// All that an installation asked for on the network, and which of it was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Permits {
    plugin: String,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    capability: Capability,
    to: Opened,
    is_granted: bool,
}

/// Why something is not permitted, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotPermitted {
    /// The manifest does not ask for it.
    #[error(
        "{plugin} may not use {wanted}, for which its plugin.toml does not ask: with a setting as destination, only the address in the setting is open"
    )]
    NotAsked { plugin: String, wanted: String },
    /// The tenant did not grant it, or the operator did not approve it.
    #[error(
        "{plugin} may not use {wanted}: grant {capability} with `shoal plugin enable {plugin} --grant '{capability}'`, once the operator has approved it with `shoal plugin approve {plugin}`"
    )]
    NotGranted {
        plugin: String,
        wanted: String,
        capability: Box<Capability>,
    },
}

impl NotPermitted {
    /// What the plugin wanted, such as `http GET host:port`.
    pub(crate) fn wanted(&self) -> &str {
        match self {
            NotPermitted::NotAsked { wanted, .. } | NotPermitted::NotGranted { wanted, .. } => {
                wanted
            }
        }
    }
}

impl Permits {
    /// The rules of everything that is `asked` for.
    ///
    /// # Errors
    /// A destination that is granted and cannot be made out.
    pub(crate) fn new(
        plugin: &str,
        asked: &Grants,
        granted: &Grants,
        settings: &Settings,
    ) -> Result<Permits, BadDestination> {
        let mut rules = Vec::new();
        for capability in &asked.0 {
            let opened = match capability {
                Capability::Http { to, .. } => Opened::over_http(to, settings),
                Capability::Net { operation, to } => match operation {
                    NetOperation::Tcp | NetOperation::Tls => {
                        Opened::new(to, settings, Sort::WithPort)
                    }
                    NetOperation::Dns | NetOperation::Icmp => {
                        Opened::new(to, settings, Sort::WithoutPort)
                    }
                },
                _ => continue,
            };
            let is_granted = granted.0.contains(capability);
            let to = match opened {
                Err(bad) if is_granted => return Err(bad),
                opened => opened.unwrap_or_default(),
            };
            rules.push(Rule {
                capability: capability.clone(),
                to,
                is_granted,
            });
        }
        Ok(Permits {
            plugin: plugin.to_owned(),
            rules,
        })
    }

    /// Whether the plugin may do this.
    pub(crate) fn check(&self, act: Act<'_>, target: &Target) -> Result<(), NotPermitted> {
        let fits = |rule: &&Rule| rule.to.allows(target) && covers(&rule.capability, act);
        let mut fitting = self.rules.iter().filter(fits);
        if fitting.clone().any(|rule| rule.is_granted) {
            return Ok(());
        }
        let plugin = self.plugin.clone();
        let wanted = match act {
            Act::Http(method) => format!("http {method} {target}"),
            Act::Net(operation) => format!("net {} {target}", operation.as_str()),
        };
        Err(match fitting.next() {
            None => NotPermitted::NotAsked { plugin, wanted },
            Some(rule) => NotPermitted::NotGranted {
                plugin,
                wanted,
                capability: Box::new(rule.capability.clone()),
            },
        })
    }
}

/// Whether a capability is for an act. Methods without a name of their own need the grant of any method.
fn covers(capability: &Capability, act: Act<'_>) -> bool {
    match (capability, act) {
        (Capability::Http { method: None, .. }, Act::Http(_)) => true,
        (
            Capability::Http {
                method: Some(granted),
                ..
            },
            Act::Http(method),
        ) => {
            *granted == HttpMethod::Get && method == Method::HEAD
                || granted.as_str() == method.as_str()
        }
        (Capability::Net { operation, .. }, Act::Net(wanted)) => *operation == wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SettingsSchema;
    use serde_json::json;

    fn settings(url: Option<&str>) -> Settings {
        let schema = SettingsSchema::parse(json!({
            "type": "object",
            "properties": {"url": {"type": "string", "format": "uri"}},
        }));
        let mut given = serde_json::Map::new();
        if let Some(url) = url {
            given.insert("url".into(), url.into());
        }
        schema
            .map(|s| s.validate(given).expect("settings"))
            .expect("a schema")
    }

    fn grants(texts: &[&str]) -> Grants {
        let grants = texts.iter().map(|text| text.parse().expect(text));
        grants.collect()
    }

    fn list(text: &str, url: Option<&str>) -> Result<Opened, BadDestination> {
        Opened::over_http(&text.parse().expect(text), &settings(url))
    }

    #[track_caller]
    fn check(opened: &Opened, url: &str, allowed: bool) {
        let target = Target::of_url(url).expect(url);
        assert_eq!(opened.allows(&target), allowed, "{url}");
    }

    #[test]
    fn hosts_and_ports_match_exactly_or_below_a_domain() {
        let slack = list("hooks.slack.com:443", None).expect("a place");
        check(&slack, "https://hooks.slack.com/x", true);
        check(&slack, "http://hooks.slack.com/x", false);
        check(&slack, "https://HOOKS.slack.com.:443/x", true);
        check(&slack, "https://evil-hooks.slack.com/x", false);
        let below = list("*.example.com", None).expect("a place");
        check(&below, "https://a.example.com/", true);
        check(&below, "http://a.b.example.com/", true);
        check(&below, "https://a.example.com:8443/", false);
        check(&below, "https://example.com/", false);
        check(&below, "https://aexample.com/", false);
        let address = list("192.0.2.1:8080", None).expect("a place");
        check(&address, "http://192.0.2.1:8080/", true);
        check(&address, "http://192.0.2.1/", false);
    }

    #[test]
    fn a_setting_opens_the_host_and_port_of_its_url() {
        let open = list("setting:url", Some("https://pages.test:8443/a")).expect("a place");
        check(&open, "https://pages.test:8443/b", true);
        check(&open, "https://pages.test/", false);
        check(&open, "https://www.pages.test:8443/", false);
        let absent = list("setting:url", None).expect("nothing");
        check(&absent, "https://pages.test/", false);
        let bad = list("setting:url", Some("ftp://pages.test/")).expect_err("no URL of HTTP");
        assert_eq!(bad.what, "setting url");
        assert!(
            !bad.reason.contains("pages.test"),
            "a secret URL is not shown"
        );
    }

    fn permits(asked: &[&str], granted: &[&str], url: &str) -> Result<Permits, BadDestination> {
        Permits::new(
            "spy",
            &grants(asked),
            &grants(granted),
            &settings(Some(url)),
        )
    }

    fn target(host: &str, port: u16) -> Target {
        let host = Host::parse(host).expect(host);
        Target { host, port }
    }

    #[test]
    fn a_method_is_granted_on_its_own_and_get_brings_head() {
        let some = ["http GET a.test:443", "http POST a.test:443"];
        let some = permits(&some, &some, "https://x.test/").expect("permits");
        let any = permits(
            &["http a.test:443"],
            &["http a.test:443"],
            "https://x.test/",
        );
        let any = any.expect("permits");
        let there = target("a.test", 443);
        for (method, is_open) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::POST, true),
            (Method::PUT, false),
            (Method::DELETE, false),
            (Method::OPTIONS, false),
            (Method::from_bytes(b"PROPFIND").expect("a method"), false),
            (Method::from_bytes(b"get").expect("a method"), false),
        ] {
            let checked = some.check(Act::Http(&method), &there);
            assert_eq!(checked.is_ok(), is_open, "{method}");
            assert!(any.check(Act::Http(&method), &there).is_ok(), "{method}");
        }
        let post = ["http POST a.test"];
        let post = permits(&post, &post, "https://x.test/").expect("permits");
        let head = post.check(Act::Http(&Method::HEAD), &there);
        assert!(head.is_err(), "POST does not bring HEAD");
    }

    #[test]
    fn a_refusal_names_what_is_missing_and_who_gives_it() {
        let asked = ["http GET setting:url", "http POST setting:url"];
        let permits = permits(&asked, &asked[..1], "https://a.test/x").expect("permits");
        let refused = |method, port| {
            let error = permits.check(Act::Http(&method), &target("a.test", port));
            error.expect_err("refused").to_string()
        };
        assert_eq!(
            refused(Method::POST, 443),
            "spy may not use http POST a.test:443: grant http POST setting:url with `shoal plugin enable spy --grant 'http POST setting:url'`, once the operator has approved it with `shoal plugin approve spy`"
        );
        assert!(
            refused(Method::PUT, 443).starts_with(
                "spy may not use http PUT a.test:443, for which its plugin.toml does not ask"
            ),
            "{}",
            refused(Method::PUT, 443)
        );
        assert!(refused(Method::GET, 80).contains("http GET a.test:80"));
    }

    #[test]
    fn an_operation_is_granted_on_its_own_and_two_know_no_ports() {
        use NetOperation::{Dns, Icmp, Tcp, Tls};
        let asked = [
            "net tcp setting:url",
            "net dns setting:url",
            "net icmp *.a.test",
        ];
        let permits = permits(&asked, &asked, "tcp://a.test:25").expect("permits");
        for (operation, host, port, is_open) in [
            (Tcp, "a.test", 25, true),
            (Tcp, "a.test", 443, false),
            (Tls, "a.test", 25, false),
            (Dns, "a.test", 0, true),
            (Dns, "secret.a.test", 0, false),
            (Icmp, "a.test", 0, false),
            (Icmp, "b.a.test", 0, true),
        ] {
            let checked = permits.check(Act::Net(operation), &target(host, port));
            assert_eq!(checked.is_ok(), is_open, "{operation:?} {host}:{port}");
        }
        let no_port = self::permits(&asked, &asked, "dns:a.test").expect("permits");
        assert!(no_port.check(Act::Net(Dns), &target("a.test", 0)).is_ok());
        for port in [25, 80, 443] {
            let tcp = no_port.check(Act::Net(Tcp), &target("a.test", port));
            assert!(tcp.is_err(), "{port}");
        }
    }
}
