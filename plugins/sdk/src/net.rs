//! Connections and facts of the network, made and found by the host. Capability `net`; only checks may have it.
//!
//! Each operation is granted on its own. A time-out covers all of an operation; the host uses at most 10 seconds.

use std::time::Duration;

use crate::Failure;

#[cfg(target_arch = "wasm32")]
use crate::bindings::check::shoal::plugin::net as wit;
#[cfg(not(target_arch = "wasm32"))]
use crate::double::net as wit;

pub use crate::bindings::check::shoal::plugin::net::{
    Certificate, DnsAnswer, DnsRecord, EchoReply, NetError, RecordType, TlsSession,
};

/// Makes a TLS handshake with `host:port` and tells what the server showed, trusted or not. Operation `tls`.
///
/// # Errors
/// [`NetError::Denied`] when the grant or the address policy refuses the destination, otherwise what
/// kept the host from making a handshake.
pub fn tls_handshake(host: &str, port: u16, timeout: Duration) -> Result<TlsSession, NetError> {
    wit::tls_handshake(host, port, ms(timeout))
}

/// Connects to `host:port`. Operation `tcp`.
///
/// # Errors
/// See [`tls_handshake`].
pub fn tcp_connect(host: &str, port: u16, timeout: Duration) -> Result<Connection, NetError> {
    wit::tcp_connect(host, port, ms(timeout)).map(Connection)
}

/// Connects to `host:port` over TLS, to a server that is trusted and no other. Operation `tls`.
///
/// # Errors
/// See [`tls_handshake`].
pub fn tls_connect(host: &str, port: u16, timeout: Duration) -> Result<Connection, NetError> {
    wit::tls_connect(host, port, ms(timeout)).map(Connection)
}

/// Asks the operator's resolvers for records of `name`. Operation `dns`.
///
/// An answer without records is an answer: its code says why.
///
/// # Errors
/// [`NetError::Denied`] when the name is not granted, or the answer holds an address that the policy
/// refuses; otherwise what kept the host from having an answer.
pub fn dns_query(
    name: &str,
    record_type: RecordType,
    timeout: Duration,
) -> Result<DnsAnswer, NetError> {
    wit::dns_query(name, record_type, ms(timeout))
}

/// Sends one ICMP echo request (a ping) and awaits its answer. Operation `icmp`.
///
/// # Errors
/// See [`tls_handshake`]; [`NetError::Failed`] also where the operator's system does not let the host do it.
pub fn icmp_echo(host: &str, timeout: Duration) -> Result<EchoReply, NetError> {
    wit::icmp_echo(host, ms(timeout))
}

/// A connection. It ends when it is dropped.
pub struct Connection(wit::Connection);

impl Connection {
    /// The address and port of the peer.
    pub fn address(&self) -> String {
        self.0.address()
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// It did not work, or not in time; the connection is closed then.
    pub fn write(&self, bytes: &[u8], timeout: Duration) -> Result<(), NetError> {
        self.0.write(bytes, ms(timeout))
    }

    /// Reads what is there, at least one byte and at most `max_bytes`; empty when the peer has closed.
    ///
    /// # Errors
    /// Nothing came in time, and one may read again; or the connection broke.
    pub fn read(&self, max_bytes: u32, timeout: Duration) -> Result<Vec<u8>, NetError> {
        self.0.read(max_bytes, ms(timeout))
    }

    /// Makes a TLS handshake over the connection, as after STARTTLS. `server_name` is what the certificate
    /// must carry; the host connected to when empty. Operation `tls`.
    ///
    /// # Errors
    /// There was no handshake. A peer that is not trusted is no error, but the connection is closed then.
    pub fn start_tls(&self, server_name: &str, timeout: Duration) -> Result<TlsSession, NetError> {
        self.0.start_tls(server_name, ms(timeout))
    }
}

impl NetError {
    /// What went wrong, in one sentence.
    pub fn message(&self) -> &str {
        match self {
            NetError::Denied(why)
            | NetError::NotFound(why)
            | NetError::TimedOut(why)
            | NetError::Failed(why)
            | NetError::LimitReached(why) => why,
        }
    }
}

/// What a plugin that depends on it does about it: only what may pass is tried again.
impl From<NetError> for Failure {
    fn from(error: NetError) -> Failure {
        let message = error.message().to_owned();
        match error {
            NetError::Denied(_) => Failure::rejected("denied", message),
            NetError::LimitReached(_) => Failure::rejected("limit-reached", message),
            NetError::NotFound(_) => Failure::retry("not-found", message),
            NetError::TimedOut(_) => Failure::retry("timed-out", message),
            NetError::Failed(_) => Failure::retry("failed", message),
        }
    }
}

fn ms(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)
}
