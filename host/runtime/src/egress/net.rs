//! `shoal:plugin/net`: connections and facts of the network, behind the gate.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use shoal_model::grant::NetOperation;
use tokio::time::timeout;
use wasmtime::component::Resource;

use crate::bindings::shoal::plugin::net as wit;
use crate::bindings::shoal::plugin::net::{DnsAnswer, EchoReply, NetError, RecordType, TlsSession};
use crate::egress::allow::Act;
use crate::egress::connect::{ConnectError, Stream};
use crate::egress::connection::{Connection, broken};
use crate::egress::dns::of_wit;
use crate::egress::gate::{Gate, TooMany};
use crate::egress::target::{Host, Target};
use crate::rehearsal::net::{NetAnswer, peer as played_peer};
use crate::state::State;

/// Longest time for one operation; part of the contract.
const TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// The end of an operation that takes longer than the guest wants, or than any may.
pub(crate) async fn within<T>(
    timeout_ms: u32,
    target: &Target,
    operation: impl Future<Output = Result<T, NetError>>,
) -> Result<T, NetError> {
    let time = Duration::from_millis(timeout_ms.into()).min(TIMEOUT_MAX);
    timeout(time, operation).await.unwrap_or_else(|_| {
        Err(NetError::TimedOut(format!(
            "{target} did not answer within {} ms",
            time.as_millis()
        )))
    })
}

impl From<TooMany> for NetError {
    fn from(TooMany(why): TooMany) -> NetError {
        NetError::LimitReached(why)
    }
}

impl Gate {
    /// Shows what a server shows, trusted or not.
    pub(crate) async fn tls_handshake(
        &self,
        host: &str,
        port: u16,
        timeout_ms: u32,
    ) -> Result<TlsSession, NetError> {
        let target = self.granted(NetOperation::Tls, host, Some(port))?;
        let _open = self.may_hold()?;
        if let Some(answer) = self.played("tls", &target, timeout_ms).await? {
            return Ok(answer.session(port));
        }
        within(timeout_ms, &target, async {
            let stream = self.reach(&target).await?;
            let peer = stream.peer_addr().map_err(|e| broken(&target, &e))?;
            let shaking = self
                .network
                .shake(Box::new(stream), &target, &target.host, peer);
            Ok(shaking.await?.1)
        })
        .await
    }

    /// A connection, with TLS to a trusted peer where `operation` is that.
    pub(crate) async fn connect(
        &self,
        operation: NetOperation,
        host: &str,
        port: u16,
        timeout_ms: u32,
    ) -> Result<Connection, NetError> {
        let target = self.granted(operation, host, Some(port))?;
        let open = self.may_hold()?;
        if let Some(answer) = self.played(operation.as_str(), &target, timeout_ms).await? {
            return match answer
                .untrusted()
                .filter(|_| operation == NetOperation::Tls)
            {
                Some(why) => Err(NetError::Failed(format!("{target} is not trusted: {why}"))),
                None => Ok(Connection::new(
                    self,
                    target,
                    played_peer(port),
                    answer.stream(),
                    open,
                )),
            };
        }
        let (peer, stream) = within(timeout_ms, &target, async {
            let stream = self.reach(&target).await?;
            let peer = stream.peer_addr().map_err(|e| broken(&target, &e))?;
            let stream: Box<dyn Stream> = Box::new(stream);
            if operation != NetOperation::Tls {
                return Ok((peer, stream));
            }
            let shaking = self.network.shake(stream, &target, &target.host, peer);
            let (stream, session) = shaking.await?;
            let stream: Box<dyn Stream> = Box::new(stream);
            match session.trusted {
                true => Ok((peer, stream)),
                false => Err(NetError::Failed(format!(
                    "{target} is not trusted: {}",
                    session.reason
                ))),
            }
        })
        .await?;
        Ok(Connection::new(self, target, peer, stream, open))
    }

    /// Asks the operator's resolvers.
    pub(crate) async fn dns_query(
        &self,
        name: &str,
        record_type: RecordType,
        timeout_ms: u32,
    ) -> Result<DnsAnswer, NetError> {
        let target = self.granted(NetOperation::Dns, name, None)?;
        let name = self.network.query_name(&target.host, record_type);
        let name = name.inspect_err(|error| self.note(format_args!("dns {target}"), error))?;
        self.contacts.contacted(format_args!("dns {target}"));
        if let Some(script) = &self.network.script {
            let (host, of) = (target.host.to_string(), of_wit(record_type).to_string());
            let playing = script.net(format!("dns {host} {of}"), &target);
            if let Some(answer) = within(timeout_ms, &target, playing).await? {
                return Ok(answer.dns(&host, &of));
            }
        }
        let asking = self.network.dns_query(&target, name, record_type);
        let answer = within(timeout_ms, &target, asking).await;
        answer.inspect_err(|error| self.note(format_args!("dns {target}"), error))
    }

    /// Sends one echo request.
    pub(crate) async fn icmp_echo(
        &self,
        host: &str,
        timeout_ms: u32,
    ) -> Result<EchoReply, NetError> {
        let target = self.granted(NetOperation::Icmp, host, None)?;
        if let Some(script) = &self.network.script {
            let playing = script.net(format!("icmp {}", target.host), &target);
            if let Some(answer) = within(timeout_ms, &target, playing).await? {
                return Ok(answer.echo());
            }
        }
        within(timeout_ms, &target, async {
            let addresses = self.network.addresses(&target).await;
            let addresses =
                addresses.map_err(|error| self.refusal(format_args!("icmp {target}"), error))?;
            self.contacts.contacted(format_args!("icmp {target}"));
            self.network.icmp_echo(&target, addresses[0]).await
        })
        .await
    }

    /// Counts a request, reads what the guest named and looks at the grant.
    fn granted(
        &self,
        operation: NetOperation,
        host: &str,
        port: Option<u16>,
    ) -> Result<Target, NetError> {
        self.may_ask()?;
        let wanted = format!("{} {host}", operation.as_str());
        let denied = |why: String| NetError::Denied(self.refuse(&wanted, why));
        let host = Host::parse(host).map_err(denied)?;
        if port == Some(0) {
            return Err(denied(format!("0 is not a port of {host}")));
        }
        let port = port.unwrap_or(0);
        let target = Target { host, port };
        self.check(Act::Net(operation), &target)
            .map_err(NetError::Denied)?;
        Ok(target)
    }

    /// The answer of a rehearsal to a connection; `None` on the real network.
    async fn played(
        &self,
        operation: &str,
        target: &Target,
        timeout_ms: u32,
    ) -> Result<Option<NetAnswer>, NetError> {
        let Some(script) = &self.network.script else {
            return Ok(None);
        };
        let playing = script.net(format!("{operation} {target}"), target);
        let answer = within(timeout_ms, target, playing).await?;
        if answer.is_some() {
            self.contacts.contacted(target);
        }
        Ok(answer)
    }

    async fn reach(&self, target: &Target) -> Result<tokio::net::TcpStream, NetError> {
        let connected = self.network.connect(target).await;
        let stream = connected.map_err(|error| self.refusal(target, error))?;
        self.contacts.contacted(target);
        Ok(stream)
    }

    fn refusal(&self, wanted: impl Display, error: ConnectError) -> NetError {
        let error = net_error(error);
        self.note(wanted, &error);
        error
    }

    fn note(&self, wanted: impl Display, error: &NetError) {
        if let NetError::Denied(why) = error {
            self.refuse(wanted, why);
        }
    }
}

/// What it means to the guest that nobody was reached.
pub(crate) fn net_error(error: ConnectError) -> NetError {
    let text = error.to_string();
    match error {
        ConnectError::AddressRefused { .. } => NetError::Denied(text),
        ConnectError::NotFound(_) => NetError::NotFound(text),
        ConnectError::ResolveTimedOut(_) | ConnectError::ConnectTimedOut(_) => {
            NetError::TimedOut(text)
        }
        ConnectError::Refused { .. } => NetError::Failed(text),
    }
}

impl State {
    /// Does something at the gate without counting it as the guest's time.
    fn at_the_gate<F: Future, O: FnOnce(Gate) -> F>(
        &self,
        operation: O,
    ) -> impl Future<Output = F::Output> + use<F, O> {
        let meter = Arc::clone(&self.meter);
        let doing = operation(self.gate.clone());
        async move { meter.uncounted(doing).await }
    }

    async fn connect(
        &mut self,
        operation: NetOperation,
        (host, port, timeout_ms): (String, u16, u32),
    ) -> wasmtime::Result<Result<Resource<Connection>, NetError>> {
        let connected = self
            .at_the_gate(async move |gate| gate.connect(operation, &host, port, timeout_ms).await)
            .await;
        Ok(match connected {
            Ok(connection) => Ok(self.table.push(connection)?),
            Err(error) => Err(error),
        })
    }
}

impl wit::Host for State {
    async fn tls_handshake(
        &mut self,
        host: String,
        port: u16,
        timeout_ms: u32,
    ) -> Result<TlsSession, NetError> {
        self.at_the_gate(async move |gate| gate.tls_handshake(&host, port, timeout_ms).await)
            .await
    }

    async fn tcp_connect(
        &mut self,
        host: String,
        port: u16,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Resource<Connection>, NetError>> {
        self.connect(NetOperation::Tcp, (host, port, timeout_ms))
            .await
    }

    async fn tls_connect(
        &mut self,
        host: String,
        port: u16,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Resource<Connection>, NetError>> {
        self.connect(NetOperation::Tls, (host, port, timeout_ms))
            .await
    }

    async fn dns_query(
        &mut self,
        name: String,
        record_type: RecordType,
        timeout_ms: u32,
    ) -> Result<DnsAnswer, NetError> {
        self.at_the_gate(async move |gate| gate.dns_query(&name, record_type, timeout_ms).await)
            .await
    }

    async fn icmp_echo(&mut self, host: String, timeout_ms: u32) -> Result<EchoReply, NetError> {
        self.at_the_gate(async move |gate| gate.icmp_echo(&host, timeout_ms).await)
            .await
    }
}

impl wit::HostConnection for State {
    fn address(&mut self, connection: Resource<Connection>) -> wasmtime::Result<String> {
        Ok(self.table.get(&connection)?.peer().to_string())
    }

    async fn write(
        &mut self,
        connection: Resource<Connection>,
        bytes: Vec<u8>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<(), NetError>> {
        let writing = self.table.get_mut(&connection)?.write(&bytes, timeout_ms);
        Ok(self.meter.uncounted(writing).await)
    }

    async fn read(
        &mut self,
        connection: Resource<Connection>,
        max_bytes: u32,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, NetError>> {
        let reading = self.table.get_mut(&connection)?.read(max_bytes, timeout_ms);
        Ok(self.meter.uncounted(reading).await)
    }

    async fn start_tls(
        &mut self,
        connection: Resource<Connection>,
        server_name: String,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<TlsSession, NetError>> {
        let connection = self.table.get_mut(&connection)?;
        let shaking = connection.start_tls(&server_name, timeout_ms);
        Ok(self.meter.uncounted(shaking).await)
    }

    fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}
