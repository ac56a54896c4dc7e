//! The way out: which destinations a plugin may reach, and how it is connected to them.
//!
//! Everything passes the same [`gate`], in this order: the grant ([`allow`]) by method or operation, name and port, one
//! resolution of the name, the address policy ([`address`]) on what it resolved to, and a connection to an address that
//! was checked. Nothing is resolved twice, so an answer that changes in between changes nothing. What is refused is
//! remarked in the call's log and in its report. All of it begins at [`Network`]: `connect`, `dns_query`, `icmp_echo`.

pub(crate) mod address;
pub(crate) mod allow;
mod certificate;
pub(crate) mod connect;
pub(crate) mod connection;
mod contacts;
mod dns;
pub(crate) mod gate;
pub(crate) mod http;
mod icmp;
pub(crate) mod net;
pub(crate) mod script;
pub(crate) mod target;
pub(crate) mod tls;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use self::address::AddressPolicy;
use self::connect::{Resolve, SystemResolver};
pub(crate) use self::contacts::Contacts;
use self::dns::Resolvers;
use self::script::Script;

/// Longest time to find a name's addresses.
const RESOLVE_MAX: Duration = Duration::from_secs(3);
/// Longest time to open a connection.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Longest time for a TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(3);

/// What all plugins of a deployment share on their way out.
#[derive(Clone)]
pub(crate) struct Network {
    policy: AddressPolicy,
    resolver: Arc<dyn Resolve>,
    resolvers: Resolvers,
    tls: Arc<ClientConfig>,
    roots: Arc<rustls::RootCertStore>,
    /// Plays the peers, in a rehearsal.
    script: Option<Arc<Script>>,
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
            resolvers: Resolvers::new(&[]),
            tls: tls::trusting(Arc::clone(&roots)),
            roots,
            script: None,
        })
    }

    /// The same with peers that are played.
    pub(crate) fn played_by(&self, script: Arc<Script>) -> Network {
        Network {
            script: Some(script),
            ..self.clone()
        }
    }

    /// The same, with queries for records put to these resolvers instead of the system's, unless there are none.
    pub(crate) fn asking(self, resolvers: &[SocketAddr]) -> Network {
        match resolvers {
            [] => self,
            resolvers => Network {
                resolvers: Resolvers::new(resolvers),
                ..self
            },
        }
    }
}
