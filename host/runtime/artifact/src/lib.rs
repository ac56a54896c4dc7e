//! Compiled components as bytes that can be kept: sealed by the server that made them, opened only by the same.
//!
//! A compiled component is machine code, and loading it is as much as running it. So nothing here loads bytes whose seal was
//! not checked before: HMAC-SHA-256 under a key that only this server has, over the code, the name of the component and
//! the engine that it was compiled for. This is the only place of the project with `unsafe` in it.
#![warn(missing_docs)]

use std::hash::Hasher;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// How a sealed artifact begins; changes with its form.
const MAGIC: &[u8; 16] = b"shoal-artifact-1";
const TAG_BYTES: usize = 32;

/// The secret that tells what this server made from what anybody else did.
#[derive(Clone)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// A key; 32 bytes that nobody can guess.
    pub fn new(bytes: [u8; 32]) -> SealKey {
        SealKey(bytes)
    }
}

/// What an artifact was made from and for. An artifact opens only as what it was sealed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// SHA-256 of the component.
    pub component: [u8; 32],
    /// What engines must have in common to run it; see [`engine_hash`].
    pub engine: [u8; 32],
}

/// Why an artifact is not loaded. None of these is an error of the component: compile it again.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// Not sealed by this server, sealed as something else, cut off or changed.
    #[error("the artifact was not made by this server, or was changed")]
    Foreign,
    /// Sealed by this server, and the engine cannot run it.
    #[error("the artifact does not load: {0}")]
    Unusable(String),
}

/// What two engines must have in common to run each other's code: version, processor, settings.
pub fn engine_hash(engine: &Engine) -> [u8; 32] {
    use std::hash::Hash as _;
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().into()
}

/// Puts a seal before code that was just compiled.
pub fn seal(key: &SealKey, origin: &Origin, code: &[u8]) -> Vec<u8> {
    let tag: [u8; TAG_BYTES] = mac(key, origin, code).finalize().into_bytes().into();
    [MAGIC.as_slice(), &tag, code].concat()
}

/// Checks the seal and loads the code.
///
/// # Errors
/// See [`NotOpened`].
pub fn open(
    engine: &Engine,
    key: &SealKey,
    origin: &Origin,
    sealed: &[u8],
) -> Result<Component, NotOpened> {
    let (tag, code) = sealed
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_first_chunk::<TAG_BYTES>())
        .ok_or(NotOpened::Foreign)?;
    // Compares in constant time.
    mac(key, origin, code)
        .verify_slice(tag)
        .map_err(|_| NotOpened::Foreign)?;
    load(engine, code).map_err(|error| NotOpened::Unusable(format!("{error:#}")))
}

/// Loads code whose seal was checked.
#[expect(
    unsafe_code,
    reason = "wasmtime cannot know who made a compiled component; the seal says that we did"
)]
fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` asks for bytes that `Engine::precompile_component` made. The only caller has just checked,
    // over these very bytes in memory, the seal of a server that seals nothing else. Version and settings of the engine
    // are checked by wasmtime itself.
    unsafe { Component::deserialize(engine, code) }
}

fn mac(key: &SealKey, origin: &Origin, code: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes keys of any length");
    mac.update(MAGIC);
    mac.update(&origin.component);
    mac.update(&origin.engine);
    mac.update(code);
    mac
}

/// A hash that is the same in every process, which the one of the standard library need not be.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn finish(&self) -> u64 {
        let hash: [u8; 32] = self.0.clone().finalize().into();
        u64::from_le_bytes(*hash.first_chunk().expect("8 of 32 bytes"))
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> (Engine, SealKey, Origin, Vec<u8>) {
        let engine = Engine::default();
        let component = wat::parse_str("(component)").expect("a component");
        let code = engine.precompile_component(&component).expect("compiled");
        let origin = Origin {
            component: Sha256::digest(&component).into(),
            engine: engine_hash(&engine),
        };
        let key = SealKey::new([7; 32]);
        let sealed = seal(&key, &origin, &code);
        (engine, key, origin, sealed)
    }

    #[test]
    fn what_was_sealed_here_is_loaded() {
        let (engine, key, origin, sealed) = sealed();
        assert!(open(&engine, &key, &origin, &sealed).is_ok());
        let other = Engine::default();
        assert_eq!(engine_hash(&other), origin.engine);
        assert!(open(&other, &key, &origin, &sealed).is_ok());
    }

    #[test]
    fn nothing_else_is() {
        let (engine, key, origin, sealed) = sealed();
        let refused = |key: &SealKey, origin: &Origin, bytes: &[u8]| {
            matches!(open(&engine, key, origin, bytes), Err(NotOpened::Foreign))
        };
        assert!(refused(&SealKey::new([8; 32]), &origin, &sealed), "key");
        let other = Origin {
            component: [0; 32],
            ..origin
        };
        assert!(refused(&key, &other, &sealed), "component");
        let other = Origin {
            engine: [0; 32],
            ..origin
        };
        assert!(refused(&key, &other, &sealed), "engine");
        for at in [
            0,
            MAGIC.len(),
            MAGIC.len() + TAG_BYTES + 100,
            sealed.len() - 1,
        ] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(refused(&key, &origin, &changed), "byte {at}");
        }
        assert!(refused(&key, &origin, &sealed[..sealed.len() - 1]), "cut");
        assert!(refused(&key, &origin, &[]), "empty");
    }
}
