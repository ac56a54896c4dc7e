//! Encryption of what must be kept but never shown: secret settings.
//!
//! XChaCha20-Poly1305 under one key of the deployment, in the data folder. The tenant, the installation and the
//! setting's name are authenticated along, so a sealed value opens only where it was put.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::random;

/// The file with the key, in the data folder.
const KEY_FILE: &str = "secret.key";
const NONCE_BYTES: usize = 24;

/// Seals and opens secrets.
#[derive(Clone)]
pub struct SecretBox {
    cipher: XChaCha20Poly1305,
    /// What other keys are derived with.
    derive: Hmac<Sha256>,
}

impl SecretBox {
    /// Reads the deployment's key, or makes it at the first start (mode 0600).
    ///
    /// # Errors
    /// The file cannot be read or made, or has not 32 bytes.
    pub fn open(data: &Path) -> Result<SecretBox> {
        let path = data.join(KEY_FILE);
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match made {
            Ok(mut file) => {
                let key: [u8; 32] = random::bytes();
                file.write_all(&key)
                    .and_then(|()| file.sync_all())
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Ok(SecretBox::new(&key))
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let mut key = Vec::new();
                std::fs::File::open(&path)
                    .and_then(|file| file.take(64).read_to_end(&mut key))
                    .with_context(|| format!("cannot read {}", path.display()))?;
                match <&[u8; 32]>::try_from(key.as_slice()) {
                    Ok(key) => Ok(SecretBox::new(key)),
                    Err(_) => bail!(
                        "{} has {} bytes instead of 32; restore it from a backup",
                        path.display(),
                        key.len()
                    ),
                }
            }
            Err(error) => Err(error).with_context(|| format!("cannot make {}", path.display())),
        }
    }

    fn new(key: &[u8; 32]) -> SecretBox {
        SecretBox {
            cipher: XChaCha20Poly1305::new(key.into()),
            derive: Hmac::new_from_slice(key).expect("HMAC takes keys of any length"),
        }
    }

    /// A key for another purpose, the same at every start, from which nothing else can be concluded.
    pub fn derived_key(&self, purpose: &str) -> [u8; 32] {
        let mut derive = self.derive.clone();
        derive.update(b"shoal key for ");
        derive.update(purpose.as_bytes());
        derive.finalize().into_bytes().into()
    }

    /// Seals a text for one place.
    pub fn seal(&self, text: &str, place: &str) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = random::bytes();
        let payload = Payload {
            msg: text.as_bytes(),
            aad: place.as_bytes(),
        };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a text in memory is shorter than the cipher's limit of 256 GiB");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens what was sealed for the same place.
    ///
    /// # Errors
    /// It was sealed with another key or for another place, or was changed.
    pub fn open_sealed(&self, sealed: &[u8], place: &str) -> Result<String> {
        let wrong = || anyhow!("the secret of {place} cannot be opened; was {KEY_FILE} replaced?");
        let (nonce, sealed) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(wrong)?;
        let payload = Payload {
            msg: sealed,
            aad: place.as_bytes(),
        };
        let text = self
            .cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| wrong())?;
        String::from_utf8(text).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_where_it_was_put() {
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = SecretBox::open(folder.path()).expect("made");
        let sealed = secrets.seal("hunter2", "1/ins_a/token");
        let again = SecretBox::open(folder.path()).expect("read");
        assert_eq!(
            again.open_sealed(&sealed, "1/ins_a/token").expect("opened"),
            "hunter2"
        );
        assert_eq!(again.derived_key("a"), secrets.derived_key("a"));
        assert_ne!(secrets.derived_key("a"), secrets.derived_key("b"));
        assert!(again.open_sealed(&sealed, "2/ins_a/token").is_err());
        assert!(again.open_sealed(&sealed[..10], "1/ins_a/token").is_err());
        assert_ne!(
            secrets.seal("hunter2", "1/ins_a/token"),
            sealed,
            "each sealing is different"
        );
    }

    #[test]
    fn a_damaged_key_file_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(KEY_FILE), "short").expect("written");
        let error = SecretBox::open(folder.path()).err().expect("refused");
        assert!(
            error.to_string().contains("has 5 bytes instead of 32"),
            "{error}"
        );
    }
}
