//! API keys: what they look like, what is stored of them, and what they allow.
//!
//! A key is `shoal_<id>_<secret>`: the id finds its row, the secret proves it. Only the SHA-256 of the secret is
//! stored; it has 256 random bits, so a slow hash for passwords would add nothing but time. Secrets are
//! compared in constant time.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use shoal_model::id::KeyId;
use subtle::ConstantTimeEq as _;

use crate::random::{self, RandomId as _};

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looking at the tenant's data.
    Read,
    /// And changing it, posting telemetry included.
    Write,
    /// And running the deployment; only keys of the operator's tenant.
    Operator,
}

impl Role {
    /// Its name, such as `write`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Write => "write",
            Role::Operator => "operator",
        }
    }
}

/// Text is not a role.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role: read, write or operator")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Role, UnknownRole> {
        [Role::Read, Role::Write, Role::Operator]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.chars().take(100).collect()))
    }
}

/// An API key in full. Shown once, never stored, never logged.
pub struct ApiKey {
    /// The public part.
    pub id: KeyId,
    secret: [u8; 32],
}

/// What every key begins with.
const PREFIX: &str = "shoal_";

impl ApiKey {
    /// A new key.
    pub fn random() -> ApiKey {
        ApiKey {
            id: KeyId::random(),
            secret: random::bytes(),
        }
    }

    /// Reads what a client sent; `None` when it has not the form of a key.
    pub fn parse(text: &str) -> Option<ApiKey> {
        let (id, secret) = text.trim().strip_prefix(PREFIX)?.split_once('_')?;
        let id = format!("{}{id}", KeyId::PREFIX).parse().ok()?;
        let secret = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
        Some(ApiKey { id, secret })
    }

    /// The key as its owner keeps it.
    pub fn reveal(&self) -> String {
        let id = self
            .id
            .as_str()
            .strip_prefix(KeyId::PREFIX)
            .unwrap_or_default();
        format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(self.secret))
    }

    /// What is stored.
    pub fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.secret).to_vec()
    }

    /// Whether a stored hash is this key's.
    pub fn matches(&self, hash: &[u8]) -> bool {
        self.hash().as_slice().ct_eq(hash).into()
    }
}

/// Without the secret.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({})", self.id)
    }
}

/// The key that a request carries: `Authorization: Bearer KEY`, the password of `Authorization: Basic`, or
/// `X-Api-Key`.
pub fn key_of(headers: &http::HeaderMap) -> Option<ApiKey> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(key) = text("x-api-key") {
        return ApiKey::parse(key);
    }
    let (scheme, rest) = text("authorization")?.trim().split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return ApiKey::parse(rest);
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(rest.trim())
            .ok()?;
        let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        return ApiKey::parse(password);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_a_trip_through_every_header() {
        let key = ApiKey::random();
        let text = key.reveal();
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("anyone:{text}"));
        for (name, value) in [
            ("x-api-key", text.clone()),
            ("authorization", format!("Bearer {text}")),
            ("authorization", format!("basic {basic}")),
        ] {
            let mut headers = http::HeaderMap::new();
            headers.insert(name, value.parse().expect("a header"));
            let found = key_of(&headers).expect("a key");
            assert_eq!(found.id, key.id);
            assert!(found.matches(&key.hash()));
        }
        assert!(!ApiKey::random().matches(&key.hash()));
        assert!(!format!("{key:?}").contains(text.rsplit('_').next().expect("a secret")));
    }

    #[test]
    fn what_has_not_the_form_of_a_key_is_none() {
        for text in [
            "",
            "shoal_",
            "shoal_0123456789abcdef_",
            "shoal_0123456789abcdef_AA",
            "key_0123456789abcdef",
        ] {
            assert!(ApiKey::parse(text).is_none(), "{text}");
        }
    }
}
