//! Web addresses, as much of them as a request needs.

use super::HttpError;

/// How a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear; port 80 unless given.
    Http,
    /// Over TLS; port 443 unless given.
    Https,
}

/// An `http://` or `https://` address in parts. Its fragment is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// How the connection is made.
    pub scheme: Scheme,
    /// The name or address, without the brackets of IPv6.
    pub host: String,
    /// The port, given or the scheme's own.
    pub port: u16,
    /// Host and port as given, for the `Host` header.
    pub authority: String,
    /// Path and query, at least `/`; bytes beyond ASCII and spaces are percent-encoded.
    pub path_with_query: String,
}

impl Url {
    /// Takes an address apart.
    ///
    /// # Errors
    /// [`HttpError::Invalid`] naming what is wrong: another scheme, no host, a user name, a port that is
    /// none, or a host that is not ASCII (write it in its `xn--` form).
    pub fn parse(text: &str) -> Result<Url, HttpError> {
        let wrong = |why: &str| HttpError::Invalid(format!("{text:?} is not a web address: {why}"));
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| wrong("it must begin with http:// or https://"))?;
        let (scheme, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return Err(wrong("it must begin with http:// or https://")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("user and password belong into a header"));
        }
        let (host, port) = split_port(authority, port).ok_or_else(|| wrong("bad port"))?;
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(wrong("the host must be a name or an address in ASCII"));
        }
        Ok(Url {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
            authority: authority.to_owned(),
            path_with_query: encode(path),
        })
    }
}

/// Host and port of an authority; `None` when either is malformed.
fn split_port(authority: &str, default: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':')?),
            };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => return None,
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_number = |port: &&str| port.bytes().all(|b| b.is_ascii_digit());
    match port {
        None => Some((host, default)),
        Some(port) => Some((host, Some(port).filter(is_number)?.parse().ok()?)),
    }
}

fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        encoded.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        for (text, host, port, path) in [
            ("https://example.com", "example.com", 443, "/"),
            (
                "http://Example.com:8080/a?b=c#d",
                "example.com",
                8080,
                "/a?b=c",
            ),
            ("http://[::1]:81/x", "::1", 81, "/x"),
            ("http://[::1]", "::1", 80, "/"),
            ("https://example.com?q", "example.com", 443, "/?q"),
            ("http://h/é x", "h", 80, "/%C3%A9%20x"),
        ] {
            let url = Url::parse(text).expect(text);
            let parts = (url.host.as_str(), url.port, url.path_with_query.as_str());
            assert_eq!(parts, (host, port, path), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_web_address_is_refused() {
        for text in [
            "example.com",
            "ftp://example.com",
            "http://",
            "http:///path",
            "http://u:p@example.com",
            "http://example.com:http",
            "http://example.com:99999",
            "http://example.com:+80",
            "http://a b/",
            "http://例え/",
            "http://a:1:2/",
            "http://[::1",
            "http://a\r\nb/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
