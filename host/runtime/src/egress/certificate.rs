//! What a server showed of itself in a TLS handshake, in the contract's words.

use std::net::{IpAddr, SocketAddr};

use rustls::ClientConnection;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::bindings::shoal::plugin::net::{Certificate, NetError, TlsSession};
use crate::call::cut;
use crate::egress::Network;
use crate::egress::connect::Stream;
use crate::egress::target::{Host, Target};
use crate::egress::tls::{self, Recorder, Shown};

/// Certificates of a chain that are told; part of the contract.
const CHAIN_MAX: usize = 10;
/// Names of a certificate that are told; part of the contract.
const NAMES_MAX: usize = 100;
/// Longest name, in bytes: DNS ends at 253.
const NAME_MAX_BYTES: usize = 1000;

impl Network {
    /// Makes a TLS handshake over a connection, whoever the peer is; nothing may be sent unless the session is
    /// trusted.
    pub(crate) async fn shake(
        &self,
        stream: Box<dyn Stream>,
        target: &Target,
        name: &Host,
        peer: SocketAddr,
    ) -> Result<(TlsStream<Box<dyn Stream>>, TlsSession), NetError> {
        let failed = |why: String| NetError::Failed(format!("no TLS with {target}: {why}"));
        let server_name =
            tls::server_name(name).ok_or_else(|| failed(format!("{name} is no name for it")))?;
        let (recorder, config) = Recorder::new(self.roots.clone());
        let connecting = TlsConnector::from(config).connect(server_name, stream);
        let stream = connecting.await.map_err(|e| failed(e.to_string()))?;
        let shown = recorder.take();
        let shown = shown.ok_or_else(|| failed("it showed no certificate".to_owned()))?;
        let session = session(stream.get_ref().1, &shown, peer).map_err(failed)?;
        Ok((stream, session))
    }
}

fn session(
    connection: &ClientConnection,
    shown: &Shown,
    peer: SocketAddr,
) -> Result<TlsSession, String> {
    let protocol = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "unknown",
    };
    let suite = connection.negotiated_cipher_suite();
    let suite = suite.and_then(|suite| suite.suite().as_str());
    let chain = shown.chain.iter().take(CHAIN_MAX);
    Ok(TlsSession {
        protocol: protocol.to_owned(),
        cipher_suite: suite.unwrap_or("unknown").to_owned(),
        address: peer.to_string(),
        trusted: shown.distrust.is_none(),
        reason: shown.distrust.clone().unwrap_or_default(),
        chain: chain.map(|der| described(der)).collect::<Result<_, _>>()?,
    })
}

fn described(der: &[u8]) -> Result<Certificate, String> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|e| format!("its certificate cannot be read: {e}"))?;
    let validity = certificate.validity();
    let serial = certificate.raw_serial().iter();
    Ok(Certificate {
        subject: cut(certificate.subject().to_string(), NAME_MAX_BYTES),
        issuer: cut(certificate.issuer().to_string(), NAME_MAX_BYTES),
        serial: serial.map(|byte| format!("{byte:02x}")).collect(),
        names: names(&certificate),
        not_before_unix_ms: validity.not_before.timestamp().saturating_mul(1000),
        not_after_unix_ms: validity.not_after.timestamp().saturating_mul(1000),
        der: der.to_vec(),
    })
}

/// Host names and addresses of the subject's alternative names.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(cut((*name).to_owned(), NAME_MAX_BYTES)),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    });
    names.take(NAMES_MAX).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
