//! The allow-list of one installation: its grants, with settings looked up.

use shoal_model::grant::{Capability, Destination, Grants};

use crate::egress::target::{Host, Target};
use crate::settings::Settings;

/// What one capability opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowList(Vec<Allowed>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    host: Pattern,
    /// `None`: 443 and 80.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(Host),
    /// `.example.com`: any host below the domain.
    Below(String),
}

/// A granted destination cannot be made out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadDestination {
    pub(crate) what: String,
    pub(crate) reason: String,
}

impl AllowList {
    /// The destinations of all grants that `pick` picks. A setting that is absent opens nothing.
    pub(crate) fn new(
        grants: &Grants,
        settings: &Settings,
        pick: impl Fn(&Capability) -> Option<&Destination>,
    ) -> Result<AllowList, BadDestination> {
        let mut list = Vec::new();
        for destination in grants.0.iter().filter_map(pick) {
            match destination {
                Destination::Host { host, port } => list.push(Allowed {
                    host: pattern(host)?,
                    port: *port,
                }),
                Destination::Setting(name) => {
                    let Some(url) = settings.get(name).and_then(|value| value.as_str()) else {
                        continue;
                    };
                    // The URL may be a secret, so the message does not show it.
                    let target = Target::of_url(url).map_err(|reason| BadDestination {
                        what: format!("setting {name}"),
                        reason,
                    })?;
                    list.push(Allowed {
                        host: Pattern::Exact(target.host),
                        port: Some(target.port),
                    });
                }
            }
        }
        Ok(AllowList(list))
    }

    /// Whether a target is on the list.
    pub(crate) fn allows(&self, target: &Target) -> bool {
        self.0.iter().any(|allowed| {
            let host = match (&allowed.host, &target.host) {
                (Pattern::Exact(exact), host) => exact == host,
                (Pattern::Below(suffix), Host::Name(name)) => {
                    name.len() > suffix.len() && name.ends_with(suffix.as_str())
                }
                (Pattern::Below(_), Host::Ip(_)) => false,
            };
            let port = match allowed.port {
                Some(port) => port == target.port,
                None => matches!(target.port, 443 | 80),
            };
            host && port
        })
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

    fn list(grants: &[&str], url: Option<&str>) -> Result<AllowList, BadDestination> {
        let grants: Grants = grants
            .iter()
            .map(|text| text.parse().expect(text))
            .collect();
        AllowList::new(&grants, &settings(url), |capability| match capability {
            Capability::Http { to, .. } => Some(to),
            _ => None,
        })
    }

    #[track_caller]
    fn check(list: &AllowList, url: &str, allowed: bool) {
        assert_eq!(
            list.allows(&Target::of_url(url).expect(url)),
            allowed,
            "{url}"
        );
    }

    #[test]
    fn an_empty_list_denies() {
        let list = list(&["net tls example.com"], Some("https://example.com/")).expect("a list");
        check(&list, "https://example.com/", false);
    }

    #[test]
    fn hosts_and_ports_match_exactly_or_below_a_domain() {
        let grants = [
            "http hooks.slack.com:443",
            "http *.example.com",
            "http 192.0.2.1:8080",
        ];
        let list = list(&grants, None).expect("a list");
        check(&list, "https://hooks.slack.com/x", true);
        check(&list, "http://hooks.slack.com/x", false);
        check(&list, "https://HOOKS.slack.com.:443/x", true);
        check(&list, "https://evil-hooks.slack.com/x", false);
        check(&list, "https://a.example.com/", true);
        check(&list, "http://a.b.example.com/", true);
        check(&list, "https://a.example.com:8443/", false);
        check(&list, "https://example.com/", false);
        check(&list, "https://aexample.com/", false);
        check(&list, "http://192.0.2.1:8080/", true);
        check(&list, "http://192.0.2.1/", false);
    }

    #[test]
    fn a_setting_opens_the_host_and_port_of_its_url() {
        let open = list(&["http setting:url"], Some("https://pages.test:8443/a")).expect("a list");
        check(&open, "https://pages.test:8443/b", true);
        check(&open, "https://pages.test/", false);
        check(&open, "https://www.pages.test:8443/", false);
        let absent = list(&["http setting:url"], None).expect("a list");
        check(&absent, "https://pages.test/", false);
        let bad =
            list(&["http setting:url"], Some("ftp://pages.test/")).expect_err("no URL of HTTP");
        assert_eq!(bad.what, "setting url");
        assert!(
            !bad.reason.contains("pages.test"),
            "a secret URL is not shown"
        );
    }
}
