//! `shoal:plugin/net`: which certificate a server shows.

use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::bindings::shoal::plugin::net::{NetError, PeerCertificate};
use crate::egress::Network;
use crate::egress::connect::ConnectError;
use crate::egress::target::Target;
use crate::egress::tls::{self, Recorder, Shown};

/// Longest time for resolving, connecting and the handshake; part of the contract.
const TIMEOUT_MAX: Duration = Duration::from_secs(10);

impl Network {
    /// Makes a handshake with a target that the grant allows, and closes the connection.
    pub(crate) async fn tls_certificate(
        &self,
        target: &Target,
        wanted: Duration,
    ) -> Result<PeerCertificate, NetError> {
        let look = async {
            let stream = self.connect(target).await.map_err(net_error)?;
            let name = tls::server_name(&target.host)
                .ok_or_else(|| NetError::Failed(format!("{target}: no name for a certificate")))?;
            let (recorder, config) = Recorder::new(self.roots.clone());
            let shaken = TlsConnector::from(config).connect(name, stream).await;
            match (recorder.take(), shaken) {
                (Some(shown), _) => described(&shown),
                (None, Err(e)) => Err(NetError::Failed(format!("{target}: {e}"))),
                (None, Ok(_)) => Err(NetError::Failed(format!("{target}: no certificate"))),
            }
        };
        let time = wanted.min(TIMEOUT_MAX);
        timeout(time, look).await.unwrap_or_else(|_| {
            Err(NetError::TimedOut(format!(
                "{target} did not finish a handshake within {} ms",
                time.as_millis()
            )))
        })
    }
}

fn described(shown: &Shown) -> Result<PeerCertificate, NetError> {
    let (_, certificate) = X509Certificate::from_der(&shown.leaf)
        .map_err(|e| NetError::Failed(format!("the certificate cannot be read: {e}")))?;
    let validity = certificate.validity();
    Ok(PeerCertificate {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before_unix_ms: validity.not_before.timestamp().saturating_mul(1000),
        not_after_unix_ms: validity.not_after.timestamp().saturating_mul(1000),
        trusted: shown.trusted,
    })
}

pub(crate) fn net_error(error: ConnectError) -> NetError {
    let text = error.to_string();
    match error {
        ConnectError::NotGranted(_) | ConnectError::AddressRefused { .. } => NetError::Denied(text),
        ConnectError::NotFound(_) => NetError::NotFound(text),
        ConnectError::ResolveTimedOut(_) | ConnectError::ConnectTimedOut(_) => {
            NetError::TimedOut(text)
        }
        ConnectError::Refused { .. } => NetError::Failed(text),
    }
}
