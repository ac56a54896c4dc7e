//! A host and a port, read strictly: one way to write each.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a connection shall go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: Host,
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
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Host {
    /// Reads a host as it stands in a URL.
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
        if authority.as_str().contains('@') {
            return Err("holds user information before '@', which is refused".to_owned());
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => default_port,
            Some(rest) => rest
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("{rest:?} is not a port"))?,
            None => return Err("names no host".to_owned()),
        };
        Ok(Target {
            host: Host::parse(authority.host())?,
            port,
        })
    }
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
