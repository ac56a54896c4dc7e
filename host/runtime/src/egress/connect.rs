//! One resolution, checked and used.

use std::io;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::egress::target::{Host, Target};
use crate::egress::{CONNECT_MAX, Network, RESOLVE_MAX};

/// Addresses of one answer that are tried.
const ADDRESSES_MAX: usize = 4;

/// Finds the addresses of names.
#[async_trait]
pub(crate) trait Resolve: Send + Sync {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the operating system does.
pub(crate) struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let addresses = tokio::net::lookup_host((name, 0)).await?;
        Ok(addresses.map(|address| address.ip()).collect())
    }
}

/// Bytes both ways, with TLS or without.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(
        "{target} resolves to {ip} ({range}), which plugins are not connected to unless the operator opens it (network.allow_private)"
    )]
    AddressRefused {
        target: Target,
        ip: IpAddr,
        range: &'static str,
    },
    #[error("{0} has no address")]
    NotFound(Target),
    #[error("the address of {0} was not found in time")]
    ResolveTimedOut(Target),
    #[error("{0} did not answer in time")]
    ConnectTimedOut(Target),
    #[error("no connection to {target}: {source}")]
    Refused { target: Target, source: io::Error },
}

impl Network {
    /// Connects to a target that the grant allows.
    ///
    /// Resolves once, drops addresses that the policy refuses and tries the others in order.
    pub(crate) async fn connect(&self, target: &Target) -> Result<TcpStream, ConnectError> {
        let addresses = self.addresses(target).await?;
        let mut error = ConnectError::NotFound(target.clone());
        let tries = async {
            for ip in addresses {
                match TcpStream::connect(SocketAddr::new(ip, target.port)).await {
                    Ok(stream) => {
                        // Requests are written whole; waiting for more only delays them.
                        let _ = stream.set_nodelay(true);
                        return Some(stream);
                    }
                    Err(source) => {
                        error = ConnectError::Refused {
                            target: target.clone(),
                            source,
                        }
                    }
                }
            }
            None
        };
        match timeout(CONNECT_MAX, tries).await {
            Ok(Some(stream)) => Ok(stream),
            Ok(None) => Err(error),
            Err(_) => Err(ConnectError::ConnectTimedOut(target.clone())),
        }
    }

    /// The addresses that may be connected to; at least one.
    pub(crate) async fn addresses(&self, target: &Target) -> Result<Vec<IpAddr>, ConnectError> {
        if let Some(script) = &self.script {
            script.before_resolving(target).await?;
        }
        let found = match &target.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => timeout(RESOLVE_MAX, self.resolver.resolve(name))
                .await
                .map_err(|_| ConnectError::ResolveTimedOut(target.clone()))?
                .map_err(|_| ConnectError::NotFound(target.clone()))?,
        };
        let refused = found
            .iter()
            .find_map(|ip| Some((*ip, self.policy.refuses(*ip)?)));
        let open: Vec<_> = found
            .into_iter()
            .map(|ip| ip.to_canonical())
            .filter(|ip| self.policy.refuses(*ip).is_none())
            .take(ADDRESSES_MAX)
            .collect();
        match (open.is_empty(), refused) {
            (false, _) => Ok(open),
            (true, Some((ip, range))) => Err(ConnectError::AddressRefused {
                target: target.clone(),
                ip,
                range,
            }),
            (true, None) => Err(ConnectError::NotFound(target.clone())),
        }
    }
}
