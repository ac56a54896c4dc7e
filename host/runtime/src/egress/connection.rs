//! A connection that a guest holds: bytes both ways, bounded, and TLS over it when the guest asks.

use std::io;
use std::net::SocketAddr;

use shoal_model::grant::NetOperation;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bindings::shoal::plugin::net::{NetError, TlsSession};
use crate::egress::allow::Act;
use crate::egress::connect::Stream;
use crate::egress::contacts::Open;
use crate::egress::gate::Gate;
use crate::egress::net::within;
use crate::egress::target::{Host, Target};
use crate::secrets::live::Live;

/// Most bytes that one read gives; part of the contract.
const READ_MAX_BYTES: u64 = 64 << 10;

/// A connection. Dropping it closes it.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Connection {
    gate: Gate,
    target: Target,
    peer: SocketAddr,
    /// `None` when it is closed, or was given up halfway.
    stream: Option<Box<dyn Stream>>,
    received: Live,
    read_left: u64,
    write_left: u64,
    _open: Open,
}

impl Connection {
    pub(crate) fn new(
        gate: &Gate,
        target: Target,
        peer: SocketAddr,
        stream: Box<dyn Stream>,
        open: Open,
    ) -> Connection {
        Connection {
            gate: gate.clone(),
            target,
            peer,
            stream: Some(stream),
            received: gate.secrets.live(),
            read_left: gate.body_max_bytes,
            write_left: gate.request_body_max_bytes,
            _open: open,
        }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Writes all of it. No secret goes out here, so a reference to one is a mistake. The stream is kept only when that
    /// worked: what a peer has of half a message is unknown.
    pub(crate) async fn write(&mut self, bytes: &[u8], timeout_ms: u32) -> Result<(), NetError> {
        if let Some(setting) = self.gate.secrets.mentioned_in(bytes) {
            return Err(NetError::Denied(self.gate.refuse(&self.target, format!(
                "the reference of the secret {setting} is in what is sent to {}: the host puts secrets into HTTP requests and mail only, hmac-sha256 signs with them",
                self.target
            ))));
        }
        let left = self.write_left.checked_sub(bytes.len() as u64);
        let most = self.gate.request_body_max_bytes;
        let left = left.ok_or_else(|| self.limit_reached("sent", most))?;
        let mut stream = self.take()?;
        let writing = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        let target = &self.target;
        within(timeout_ms, target, async {
            writing.await.map_err(|e| broken(target, &e))
        })
        .await?;
        self.gate.contacts.sent(bytes.len());
        self.write_left = left;
        self.stream = Some(stream);
        Ok(())
    }

    /// Reads what is there, secrets covered; empty at the end.
    pub(crate) async fn read(
        &mut self,
        max_bytes: u32,
        timeout_ms: u32,
    ) -> Result<Vec<u8>, NetError> {
        let most = READ_MAX_BYTES.min(u64::from(max_bytes.max(1)));
        let target = self.target.clone();
        within(timeout_ms, &target, async {
            loop {
                let ready = self.received.take(most as usize);
                if !ready.is_empty() || !self.receive(most).await? {
                    return Ok(ready);
                }
            }
        })
        .await
    }

    /// Waits for more, at most so many bytes; false when there was nothing after the end.
    async fn receive(&mut self, most: u64) -> Result<bool, NetError> {
        if self.received.is_over() {
            return Ok(false);
        }
        if self.read_left == 0 {
            return Err(self.limit_reached("received", self.gate.body_max_bytes));
        }
        let mut bytes = vec![0; most.min(self.read_left) as usize];
        let stream = self.stream.as_mut().ok_or_else(|| closed(&self.target))?;
        match stream.read(&mut bytes).await {
            Ok(0) => self.received.end(),
            Ok(count) => {
                self.received.push(&bytes[..count]);
                self.read_left -= count as u64;
            }
            // Over TLS, many peers close without saying so.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => self.received.end(),
            Err(e) => {
                self.stream = None;
                return Err(broken(&self.target, &e));
            }
        }
        Ok(true)
    }

    /// Makes a TLS handshake over it, and goes on only with a peer that is trusted.
    pub(crate) async fn start_tls(
        &mut self,
        server_name: &str,
        timeout_ms: u32,
    ) -> Result<TlsSession, NetError> {
        self.gate
            .check(Act::Net(NetOperation::Tls), &self.target)
            .map_err(NetError::Denied)?;
        let name = match server_name {
            "" => self.target.host.clone(),
            name => Host::parse(name).map_err(NetError::Failed)?,
        };
        // Anybody on the way may have said it; after the handshake it would pass for the peer's word.
        if !self.received.is_empty() {
            self.stream = None;
            return Err(NetError::Failed(format!(
                "{} said more before the handshake than was read; the connection is closed",
                self.target
            )));
        }
        let stream = self.take()?;
        let network = &self.gate.network;
        let shaking = network.shake(stream, &self.target, &name, self.peer);
        let (stream, session) = within(timeout_ms, &self.target, shaking).await?;
        if session.trusted {
            self.stream = Some(Box::new(stream));
        }
        Ok(session)
    }

    fn take(&mut self) -> Result<Box<dyn Stream>, NetError> {
        self.stream.take().ok_or_else(|| closed(&self.target))
    }

    fn limit_reached(&self, done: &str, most: u64) -> NetError {
        let why = format!(
            "no more than {most} bytes may be {done} over the connection with {}",
            self.target
        );
        self.gate.log.remark(why.clone());
        NetError::LimitReached(why)
    }
}

/// What a broken connection means to the guest.
pub(crate) fn broken(target: &Target, error: &io::Error) -> NetError {
    NetError::Failed(format!("the connection with {target} broke: {error}"))
}

fn closed(target: &Target) -> NetError {
    NetError::Failed(format!("the connection with {target} is closed"))
}
