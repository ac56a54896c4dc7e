//! Work with a secret that the plugin never sees. Capability `secrets`.
//!
//! A `writeOnly` setting is a reference: text to put where the secret belongs (a header, the URL, a JSON body), which the
//! host replaces on the way out where the manifest asks for that place. For signatures there is [`hmac_sha256`].

use crate::Failure;

pub use crate::bindings::check::shoal::plugin::secrets::{KeyEncoding, SecretError};

/// HMAC-SHA-256 of some data; the key is the secret that `reference`, a setting as it was given, stands for.
///
/// # Errors
/// [`SecretError::Denied`] when the place `hmac` was not granted for it, [`SecretError::Malformed`] when the secret is not
/// what `encoding` says.
pub fn hmac_sha256(
    reference: &str,
    encoding: KeyEncoding,
    data: &[u8],
) -> Result<Vec<u8>, SecretError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::check::shoal::plugin::secrets::hmac_sha256(reference, encoding, data);
    #[cfg(not(target_arch = "wasm32"))]
    crate::double::hmac_sha256(reference, encoding, data)
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Failure {
        match error {
            SecretError::Denied(why) => Failure::rejected("secret-denied", why),
            SecretError::Malformed(why) => Failure::rejected("bad-settings", why),
        }
    }
}
