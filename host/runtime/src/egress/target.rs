//! A host and a port, read strictly: one way to write each.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ports of schemes that a setting may name without saying a port.
const DEFAULT_PORTS: [(&str, u16); 20] = [
    ("http", 80),
    ("https", 443),
    ("ws", 80),
    ("wss", 443),
    ("ssh", 22),
    ("ftp", 21),
    ("smtp", 25),
    ("smtps", 465),
    ("imap", 143),
    ("imaps", 993),
    ("pop3", 110),
    ("pop3s", 995),
    ("ldap", 389),
    ("ldaps", 636),
    ("mysql", 3306),
    ("postgres", 5432),
    ("postgresql", 5432),
    ("redis", 6379),
    ("mqtt", 1883),
    ("mqtts", 8883),
];

/// Where a connection shall go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: Host,
    /// 0 where ports do not matter.
    pub(crate) port: u16,
}

/// A name in small letters without final dot, or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Name(String),
    Ip(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => write!(f, "{}", self.host),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

impl Host {
    /// Reads a host as it stands in a URL; an IPv6 address may stand without brackets.
    ///
    /// Numbers that resolvers would take for addresses (`0x7f.1`, `2130706433`, `127.1`) are refused, as are names
    /// that are not in ASCII.
    pub(crate) fn parse(text: &str) -> Result<Host, String> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(100).collect();
            Err(format!("{shown:?} is not a host: {why}"))
        };
        if let Some(inner) = text.strip_prefix('[') {
            return match inner.strip_suffix(']').map(str::parse::<Ipv6Addr>) {
                Some(Ok(ip)) => Ok(Host::Ip(IpAddr::V6(ip).to_canonical())),
                _ => wrong("no IPv6 address in brackets"),
            };
        }
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Ok(Host::Ip(IpAddr::V6(ip).to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if let Ok(ip) = name.parse::<Ipv4Addr>() {
            return Ok(Host::Ip(IpAddr::V4(ip)));
        }
        if !name.is_ascii() {
            return wrong("write it in ASCII (xn--…)");
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return wrong("labels of letters, digits, '-' and '_', parted by dots");
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
            return wrong("addresses are written as four decimal numbers");
        }
        Ok(Host::Name(name))
    }
}

impl Target {
    /// The host and port of an `http` or `https` URL.
    pub(crate) fn of_url(url: &str) -> Result<Target, String> {
        let uri: ::http::Uri = url.parse().map_err(|_| "is not a URL".to_owned())?;
        Target::of_uri(&uri)
    }

    /// The host and port of an `http` or `https` URI without user information.
    pub(crate) fn of_uri(uri: &::http::Uri) -> Result<Target, String> {
        let default_port = match uri.scheme_str() {
            Some("https") => 443,
            Some("http") => 80,
            _ => return Err("does not begin with https:// or http://".to_owned()),
        };
        let authority = uri.authority().ok_or_else(|| "names no host".to_owned())?;
        let (host, port) = host_and_port(authority.as_str())?;
        let port = port.unwrap_or(default_port);
        Ok(Target { host, port })
    }
}

/// The host of a URL of any scheme, and the port that it says or that its scheme has.
///
/// `tcp://example.com:25`, `https://example.com/a`, and without slashes `dns:example.com`.
pub(crate) fn host_of_url(url: &str) -> Result<(Host, Option<u16>), String> {
    let (scheme, rest) = url
        .split_once(':')
        .ok_or_else(|| "is not a URL such as tcp://example.com:25".to_owned())?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, port) = host_and_port(&rest[..end])?;
    let of_scheme = || {
        let mut known = DEFAULT_PORTS.iter();
        known
            .find(|(name, _)| scheme.eq_ignore_ascii_case(name))
            .map(|(_, port)| *port)
    };
    Ok((host, port.or_else(of_scheme)))
}

/// `example.com`, `example.com:8443`, `[::1]:80`.
fn host_and_port(authority: &str) -> Result<(Host, Option<u16>), String> {
    if authority.contains('@') {
        return Err("holds user information before '@', which is refused".to_owned());
    }
    let after_brackets = authority.rfind(']').unwrap_or(0);
    let end = authority[after_brackets..]
        .find(':')
        .map_or(authority.len(), |at| after_brackets + at);
    let (host, rest) = authority.split_at(end);
    let port = match rest.strip_prefix(':') {
        None => None,
        Some(port) => Some(
            port.parse()
                .ok()
                .filter(|port| *port != 0 && !rest.contains('+'))
                .ok_or_else(|| format!("{rest:?} is not a port"))?,
        ),
    };
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    Ok((Host::parse(host)?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_one_target() {
        for (url, target) in [
            ("https://example.com/a?b", "example.com:443"),
            ("http://EXAMPLE.com.", "example.com:80"),
            ("https://example.com:8443/", "example.com:8443"),
            ("http://127.0.0.1:9/", "127.0.0.1:9"),
            ("https://[::1]/", "[::1]:443"),
            ("https://[::ffff:10.0.0.1]:1/", "10.0.0.1:1"),
        ] {
            assert_eq!(Target::of_url(url).expect(url).to_string(), target);
        }
    }

    #[test]
    fn any_url_names_a_host_and_perhaps_a_port() {
        for (url, host, port) in [
            ("tcp://example.com:25", "example.com", Some(25)),
            ("https://example.com/a:1", "example.com", Some(443)),
            ("SMTPS://example.com", "example.com", Some(465)),
            ("icmp://example.com", "example.com", None),
            ("dns:example.com", "example.com", None),
            ("dns:example.com?type=MX", "example.com", None),
            ("tls://[2001:db8::1]:853", "[2001:db8::1]", Some(853)),
        ] {
            let (found, found_port) = host_of_url(url).expect(url);
            assert_eq!((found.to_string().as_str(), found_port), (host, port));
        }
        for url in [
            "example.com",
            "tcp://",
            "tcp://example.com:0",
            "tcp://example.com:+1",
            "tcp://example.com:x",
            "redis://:secret@example.com",
            "tcp://127.1:80",
            "mailto:someone@example.com",
        ] {
            assert!(host_of_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn odd_ways_to_write_a_host_are_refused() {
        for url in [
            "https://user@example.com/",
            "https://user:password@example.com/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://127.1/",
            "https://0177.0.0.1.0/",
            "https://example.com:0/",
            "https://example.com:99999/",
            "https://example..com/",
            "https://[::1/",
            "ftp://example.com/",
            "/path",
            "example.com",
            "",
            "https:///path",
        ] {
            assert!(Target::of_url(url).is_err(), "{url}");
        }
    }
}
