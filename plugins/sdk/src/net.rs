//! Network facts that the host finds out on a plugin's behalf. Capability `net`; only checks may have it.

use std::time::Duration;

pub use crate::bindings::check::shoal::plugin::net::{NetError, PeerCertificate};

/// Makes a TLS handshake with `host:port` and tells which certificate it showed, trusted or not.
///
/// `timeout` covers resolving, connecting and the handshake; the host uses at most 10 seconds.
///
/// # Errors
/// [`NetError::Denied`] when the grant or the address policy refuses the destination, otherwise what
/// kept the host from seeing a certificate.
pub fn tls_certificate(
    host: &str,
    port: u16,
    timeout: Duration,
) -> Result<PeerCertificate, NetError> {
    #[cfg(target_arch = "wasm32")]
    {
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        crate::bindings::check::shoal::plugin::net::tls_certificate(host, port, timeout_ms)
    }
    #[cfg(not(target_arch = "wasm32"))]
    crate::double::tls_certificate(host, port, timeout)
}
