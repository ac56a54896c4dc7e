//! The way out: which destinations a plugin may reach, and how it is connected to them.
//!
//! Every connection passes the same gate, in this order: the grant ([`allow`]) by name and port, one resolution of
//! the name, the address policy ([`address`]) on what it resolved to, and a connection to an address that was
//! checked. Nothing is resolved twice, so an answer that changes in between changes nothing. What
//! is refused is remarked in the call's log.

pub(crate) mod address;
pub(crate) mod allow;
pub(crate) mod certificate;
pub(crate) mod connect;
pub(crate) mod http;
pub(crate) mod target;
pub(crate) mod tls;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use self::address::AddressPolicy;
use self::connect::{Resolve, SystemResolver};

/// Longest time to find a name's addresses.
const RESOLVE_MAX: Duration = Duration::from_secs(3);
/// Longest time to open a connection.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Longest time for a TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(3);

/// What all plugins of a deployment share on their way out.
pub(crate) struct Network {
    policy: AddressPolicy,
    resolver: Arc<dyn Resolve>,
    tls: Arc<ClientConfig>,
    roots: Arc<rustls::RootCertStore>,
}

/// The extra root certificates cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("certificate {index} of the extra roots: {reason}: give PEM certificates")]
pub struct InvalidRoots {
    /// Which, counted from 1.
    pub index: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Network {
    /// The public roots and those in `extra_roots_pem`.
    pub(crate) fn new(
        policy: AddressPolicy,
        extra_roots_pem: &[u8],
    ) -> Result<Network, InvalidRoots> {
        Network::with_resolver(policy, extra_roots_pem, Arc::new(SystemResolver))
    }

    pub(crate) fn with_resolver(
        policy: AddressPolicy,
        extra_roots_pem: &[u8],
        resolver: Arc<dyn Resolve>,
    ) -> Result<Network, InvalidRoots> {
        let mut roots = rustls::RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.into(),
        };
        for (i, certificate) in CertificateDer::pem_slice_iter(extra_roots_pem).enumerate() {
            let wrong = |reason: String| InvalidRoots {
                index: i + 1,
                reason,
            };
            let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
            roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
        }
        let roots = Arc::new(roots);
        Ok(Network {
            policy,
            resolver,
            tls: tls::trusting(Arc::clone(&roots)),
            roots,
        })
    }
}

/// Destinations that one call was connected to, and how many it asked for.
#[derive(Clone, Default)]
pub(crate) struct Contacts(Arc<Mutex<ContactsInner>>);

#[derive(Default)]
struct ContactsInner {
    asked: u32,
    open: u32,
    bytes_out: u64,
    contacted: Vec<String>,
}

/// One open connection, as long as it lives.
pub(crate) struct Connection(Contacts);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.0.lock().open -= 1;
    }
}

impl Contacts {
    /// Counts a request; false when there have been `max` already.
    pub(crate) fn may_ask(&self, max: u32) -> bool {
        let mut inner = self.0.lock();
        if inner.asked >= max {
            return false;
        }
        inner.asked += 1;
        true
    }

    /// Counts an open connection; `None` when there are `max` already.
    pub(crate) fn open(&self, max: u32) -> Option<Connection> {
        let mut inner = self.0.lock();
        if inner.open >= max {
            return None;
        }
        inner.open += 1;
        Some(Connection(self.clone()))
    }

    /// Counts bytes that went out.
    pub(crate) fn sent(&self, bytes: u64) {
        self.0.lock().bytes_out += bytes;
    }

    /// How often it asked, and how many bytes went out.
    pub(crate) fn counts(&self) -> (u32, u64) {
        let inner = self.0.lock();
        (inner.asked, inner.bytes_out)
    }

    pub(crate) fn contacted(&self, target: &target::Target) {
        self.0.lock().contacted.push(target.to_string());
    }

    /// Takes the list and begins anew.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut inner = self.0.lock();
        (inner.asked, inner.bytes_out) = (0, 0);
        std::mem::take(&mut inner.contacted)
    }
}
