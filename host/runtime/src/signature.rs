//! Who published a component: an Ed25519 signature in its last bytes.
//!
//! A signed component ends in the custom section [`SIGNATURE_SECTION`], which holds the key's id and a signature over
//! everything before it. As the section has one length and one place, finding it parses nothing, and nothing can stand
//! behind it. A signature says who published these bytes and nothing of what they do.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};
use wasmparser::{Parser, Payload};

/// The custom section that holds a signature; always the last one.
pub const SIGNATURE_SECTION: &str = "shoal:signature";

/// Keeps a signature from meaning anything elsewhere.
const DOMAIN: &[u8] = b"shoal-plugin-signature-v1\0";
const KEY_ID_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 64;
/// Section id 0 (custom), length of what follows, length of the name; both lengths fit one byte.
const HEAD: [u8; 3] = [
    0,
    (1 + SIGNATURE_SECTION.len() + KEY_ID_BYTES + SIGNATURE_BYTES) as u8,
    SIGNATURE_SECTION.len() as u8,
];
/// The whole section.
const SECTION_BYTES: usize = HEAD.len() + SIGNATURE_SECTION.len() + KEY_ID_BYTES + SIGNATURE_BYTES;

const PUBLIC_PREFIX: &str = "shoal-pub:";
const SECRET_PREFIX: &str = "shoal-sec:";

/// The first bytes of the SHA-256 of a public key: its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; KEY_ID_BYTES]);

/// In hexadecimal.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A public key. Its text is `shoal-pub:` and Base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Its name in signatures.
    pub fn id(&self) -> KeyId {
        let hash = Sha256::digest(self.0);
        KeyId(std::array::from_fn(|i| hash[i]))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", BASE64.encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<PublicKey, InvalidKey> {
        from_text(text, PUBLIC_PREFIX).map(PublicKey)
    }
}

/// Signs. Its text, which is a secret, is `shoal-sec:` and Base64.
#[derive(Clone)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// The key that grows from 32 random bytes.
    pub fn from_seed(seed: [u8; 32]) -> SigningKey {
        SigningKey(seed)
    }

    /// The other half, to be given to everybody.
    pub fn public(&self) -> PublicKey {
        let key = self.pair().public_key().as_ref().try_into();
        PublicKey(key.expect("a public key has 32 bytes"))
    }

    /// The text that [`FromStr`] reads. A secret.
    pub fn to_secret_text(&self) -> String {
        format!("{SECRET_PREFIX}{}", BASE64.encode(self.0))
    }

    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&self.0).expect("every 32 bytes are a seed")
    }
}

impl FromStr for SigningKey {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<SigningKey, InvalidKey> {
        from_text(text, SECRET_PREFIX).map(SigningKey)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

/// A text is no key. Never shows the text: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key: {wanted} and 44 characters of base64 are wanted")]
pub struct InvalidKey {
    /// What it should begin with.
    wanted: &'static str,
}

fn from_text(text: &str, prefix: &'static str) -> Result<[u8; 32], InvalidKey> {
    text.trim()
        .strip_prefix(prefix)
        .and_then(|base64| BASE64.decode(base64).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(InvalidKey { wanted: prefix })
}

/// A publisher whose signatures are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherKey {
    /// The publisher's name, for people.
    pub publisher: String,
    /// The publisher's public key.
    pub key: [u8; 32],
}

/// What a component's signature is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureState {
    /// There is none.
    Unsigned,
    /// Signed with a key that is not among the trusted ones, so that nothing is known of it.
    UnknownKey {
        /// Which key.
        key_id: KeyId,
    },
    /// There is one, but not for these bytes.
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// These bytes are as a trusted publisher signed them.
    Valid {
        /// Which key.
        key_id: KeyId,
        /// Whose.
        publisher: String,
    },
}

/// One sentence.
impl fmt::Display for SignatureState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignatureState::Unsigned => f.write_str("not signed"),
            SignatureState::UnknownKey { key_id } => {
                write!(f, "signed with the key {key_id}, which is not trusted here")
            }
            SignatureState::Invalid { reason } => write!(f, "the signature is wrong: {reason}"),
            SignatureState::Valid { key_id, publisher } => {
                write!(f, "signed by {publisher} with the key {key_id}")
            }
        }
    }
}

/// The component with a signature at its end, in place of the one that it may have.
///
/// `bytes` are a component; this is not looked at.
pub fn sign(bytes: &[u8], key: &SigningKey) -> Vec<u8> {
    let body = unsigned(bytes);
    let mut signed = Vec::with_capacity(body.len() + SECTION_BYTES);
    signed.extend_from_slice(body);
    signed.extend_from_slice(&HEAD);
    signed.extend_from_slice(SIGNATURE_SECTION.as_bytes());
    signed.extend_from_slice(&key.public().id().0);
    signed.extend_from_slice(key.pair().sign(&message(body)).as_ref());
    signed
}

/// What a component's signature is worth to somebody who trusts these keys.
pub fn verify(bytes: &[u8], trusted: &[PublisherKey]) -> SignatureState {
    let Some((body, key_id, signature)) = split(bytes) else {
        return if holds_signature(bytes) {
            SignatureState::Invalid {
                reason: "something follows it; sign the component again".to_owned(),
            }
        } else {
            SignatureState::Unsigned
        };
    };
    if holds_signature(body) {
        return SignatureState::Invalid {
            reason: "there are several; sign the component again".to_owned(),
        };
    }
    let with_id = |known: &&PublisherKey| PublicKey(known.key).id() == key_id;
    let Some(known) = trusted.iter().find(with_id) else {
        return SignatureState::UnknownKey { key_id };
    };
    match UnparsedPublicKey::new(&ED25519, known.key).verify(&message(body), signature) {
        Ok(()) => SignatureState::Valid {
            key_id,
            publisher: known.publisher.clone(),
        },
        Err(_) => SignatureState::Invalid {
            reason: "the component was changed after it had been signed".to_owned(),
        },
    }
}

/// The component without its signature.
pub fn unsigned(bytes: &[u8]) -> &[u8] {
    split(bytes).map_or(bytes, |(body, ..)| body)
}

fn split(bytes: &[u8]) -> Option<(&[u8], KeyId, &[u8])> {
    let (body, section) = bytes.split_at_checked(bytes.len().checked_sub(SECTION_BYTES)?)?;
    let named = section.strip_prefix(&HEAD)?;
    let (key_id, signature) = named
        .strip_prefix(SIGNATURE_SECTION.as_bytes())?
        .split_first_chunk()?;
    Some((body, KeyId(*key_id), signature))
}

fn message(body: &[u8]) -> Vec<u8> {
    [DOMAIN, &Sha256::digest(body)[..]].concat()
}

/// Whether a section of that name stands anywhere, in components inside as well.
fn holds_signature(bytes: &[u8]) -> bool {
    Parser::new(0).parse_all(bytes).any(
        |payload| matches!(payload, Ok(Payload::CustomSection(s)) if s.name() == SIGNATURE_SECTION),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed([seed; 32])
    }

    fn trusting(key: &SigningKey) -> Vec<PublisherKey> {
        vec![PublisherKey {
            publisher: "acme".to_owned(),
            key: key.public().0,
        }]
    }

    fn component() -> Vec<u8> {
        wat::parse_str("(component (core module (func (export \"f\"))))").expect("a component")
    }

    #[test]
    fn what_was_signed_verifies_with_the_publishers_key_and_no_other() {
        let signed = sign(&component(), &key(1));
        let key_id = key(1).public().id();
        assert_eq!(
            verify(&signed, &trusting(&key(1))),
            SignatureState::Valid {
                key_id,
                publisher: "acme".to_owned()
            }
        );
        assert_eq!(
            verify(&signed, &trusting(&key(2))),
            SignatureState::UnknownKey { key_id }
        );
        assert_eq!(
            verify(&component(), &trusting(&key(1))),
            SignatureState::Unsigned
        );
        assert_eq!(verify(b"", &[]), SignatureState::Unsigned);
    }

    #[test]
    fn a_signed_component_is_a_component() {
        let signed = sign(&component(), &key(1));
        let mut validator = wasmparser::Validator::new();
        validator.validate_all(&signed).expect("still valid");
        assert_eq!(unsigned(&signed), component());
    }

    #[test]
    fn one_changed_byte_anywhere_and_it_is_not_valid_any_more() {
        let signed = sign(&component(), &key(1));
        let trusted = trusting(&key(1));
        for at in 0..signed.len() {
            for flip in [1, 0x80] {
                let mut changed = signed.clone();
                changed[at] ^= flip;
                let state = verify(&changed, &trusted);
                assert!(!matches!(state, SignatureState::Valid { .. }), "byte {at}");
                if at < signed.len() - SECTION_BYTES {
                    assert!(matches!(state, SignatureState::Invalid { .. }), "byte {at}");
                }
            }
        }
    }

    #[test]
    fn nothing_stands_behind_or_before_a_signature_unnoticed() {
        let trusted = trusting(&key(1));
        let signed = sign(&component(), &key(1));
        let longer = [&signed[..], &[0, 2, 1, b'x']].concat();
        assert!(matches!(
            verify(&longer, &trusted),
            SignatureState::Invalid { .. }
        ));
        let twice = [&signed[..], &sign(&longer, &key(1))[longer.len()..]].concat();
        assert!(matches!(
            verify(&twice, &trusted),
            SignatureState::Invalid { .. }
        ));
        assert_eq!(sign(&signed, &key(1)), signed, "signing again replaces it");
    }

    #[test]
    fn keys_survive_a_trip_through_text_and_secrets_are_not_shown() {
        let secret = key(3);
        let text = secret.to_secret_text();
        let read: SigningKey = text.parse().expect("a key");
        assert_eq!(read.public(), secret.public());
        let public = secret.public().to_string();
        assert_eq!(public.parse::<PublicKey>().expect("a key"), secret.public());
        let error = text
            .parse::<PublicKey>()
            .expect_err("a secret is no public key");
        assert!(!error.to_string().contains(&text[SECRET_PREFIX.len()..]));
        assert!(!format!("{secret:?}").contains(&text[SECRET_PREFIX.len()..]));
        for wrong in ["", "shoal-pub:", "shoal-pub:AAAA", "shoal-pub:?"] {
            assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
        }
    }
}
