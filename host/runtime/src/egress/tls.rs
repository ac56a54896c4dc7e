//! TLS to the outside: whom to trust, and looking without trusting.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::egress::target::Host;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Connections whose certificate must lead to one of `roots`; HTTP/1.1.
pub(crate) fn trusting(roots: Arc<RootCertStore>) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the ring provider speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The name that a certificate must carry.
pub(crate) fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Ip(ip) => Some(ServerName::from(*ip)),
        Host::Name(name) => ServerName::try_from(name.clone()).ok(),
    }
}

/// What a server showed in its handshake.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The certificates, DER, the server's own first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// Why a strict client would not have trusted it.
    pub(crate) distrust: Option<String>,
}

/// Accepts every certificate, to look at it, and remembers what a strict client would have thought.
#[derive(Debug)]
pub(crate) struct Recorder {
    strict: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    shown: Mutex<Option<Shown>>,
}

impl Recorder {
    /// A recorder and the configuration for one handshake with it. Nothing may be sent over such a connection.
    pub(crate) fn new(roots: Arc<RootCertStore>) -> (Arc<Recorder>, Arc<ClientConfig>) {
        let provider = provider();
        let strict =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let recorder = Arc::new(Recorder {
            strict: strict.ok(),
            provider: Arc::clone(&provider),
            shown: Mutex::new(None),
        });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the ring provider speaks TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        (recorder, Arc::new(config))
    }

    /// What was shown, if the handshake came so far.
    pub(crate) fn take(&self) -> Option<Shown> {
        self.shown.lock().take()
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let distrust = match &self.strict {
            Some(strict) => strict
                .verify_server_cert(leaf, chain, name, ocsp, now)
                .err()
                .map(|error| error.to_string()),
            None => Some("there are no roots to trust".to_owned()),
        };
        let chain = std::iter::once(leaf).chain(chain);
        *self.shown.lock() = Some(Shown {
            chain: chain.map(|certificate| certificate.to_vec()).collect(),
            distrust,
        });
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
