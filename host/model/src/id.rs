//! Names of things. Each says what it names; none can be mistaken for another.

use std::fmt;
use std::str::FromStr;

/// A tenant: a customer whose data is apart from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub i64);

impl TenantId {
    /// The operator's own tenant, where Shoal's metrics of itself go. Made when the database is.
    pub const OPERATOR: TenantId = TenantId(1);
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Text is not an id of the wanted sort.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {wanted}")]
pub struct InvalidId {
    /// What was given.
    pub value: String,
    /// What was wanted, with an example.
    pub wanted: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// What every such id begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id from 10 random bytes: the prefix and 16 characters of base 32.
            pub fn from_random(random: [u8; 10]) -> Self {
                Self(format!("{}{}", $prefix, base32(random)))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let is_id = text.strip_prefix($prefix).is_some_and(|rest| {
                    rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                });
                if is_id {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId {
                        value: text.chars().take(100).collect(),
                        wanted: concat!("an id such as ", $prefix, "0123456789abcdef"),
                    })
                }
            }
        }
    };
}

text_id! {
    /// A plugin enabled for a tenant, with settings, grants and a version. A check's and a channel's
    /// identity is its installation.
    InstallationId, "ins_"
}
text_id! {
    /// A monitor: a condition on a query.
    MonitorId, "mon_"
}
text_id! {
    /// An alert: one monitor's instance while it is not OK.
    AlertId, "alt_"
}
text_id! {
    /// A notification: what is to be told of one alert through one channel.
    NotificationId, "ntf_"
}
text_id! {
    /// One execution of a job.
    RunId, "run_"
}
text_id! {
    /// The public part of an API key.
    KeyId, "key_"
}

/// Crockford's base 32 in small letters: no i, l, o, u.
fn base32(bytes: [u8; 10]) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut bits = bytes
        .iter()
        .fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    let mut text = [0u8; 16];
    for place in text.iter_mut().rev() {
        *place = ALPHABET[(bits & 31) as usize];
        bits >>= 5;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A plugin's name, chosen by its author: 1 to 100 small letters, digits, `-` and `.`, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PluginId(String);

impl PluginId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PluginId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_id = (1..=100).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
        if is_id {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId {
                value: text.chars().take(100).collect(),
                wanted: "a plugin id: 1 to 100 of a-z, 0-9, '-' and '.', beginning with a letter, such as http-check",
            })
        }
    }
}

/// SHA-256 of a component's bytes: the name of one version. Shown as `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = || InvalidId {
            value: text.chars().take(100).collect(),
            wanted: "a digest: sha256: and 64 hex digits",
        };
        let hex = text
            .strip_prefix("sha256:")
            .filter(|hex| hex.len() == 64 && hex.is_ascii())
            .ok_or_else(wrong)?;
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_a_trip_through_text() {
        let id = MonitorId::from_random([255; 10]);
        assert_eq!(id.as_str(), "mon_zzzzzzzzzzzzzzzz");
        assert_eq!(id.as_str().parse(), Ok(id));
        let digest = Digest([0xa5; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn an_id_of_another_sort_is_refused() {
        assert!("ins_0123456789abcdef".parse::<MonitorId>().is_err());
        assert!("Http".parse::<PluginId>().is_err());
        assert!("sha256:éé".parse::<Digest>().is_err());
    }
}
