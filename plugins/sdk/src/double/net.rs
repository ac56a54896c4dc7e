//! The network of a [`FakeHost`]: peers that are played, and answers about names and addresses.

use std::cell::RefCell;

use super::FakeHost;
use crate::net::{DnsAnswer, EchoReply, NetError, RecordType, TlsSession};

type Tls = Box<dyn FnMut(&str, u16) -> Result<TlsSession, NetError>>;
type Tcp = Box<dyn FnMut(&str, u16) -> Result<FakePeer, NetError>>;
type Dns = Box<dyn FnMut(&str, RecordType) -> Result<DnsAnswer, NetError>>;
type Icmp = Box<dyn FnMut(&str) -> Result<EchoReply, NetError>>;

#[derive(Default)]
struct State {
    tls: Option<Tls>,
    tcp: Option<Tcp>,
    dns: Option<Dns>,
    icmp: Option<Icmp>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

pub(super) fn reset() {
    STATE.set(State::default());
}

impl FakeHost {
    /// Answers [`crate::net::tls_handshake`] for a host and port.
    pub fn tls(
        self,
        answer: impl FnMut(&str, u16) -> Result<TlsSession, NetError> + 'static,
    ) -> FakeHost {
        STATE.with_borrow_mut(|state| state.tls = Some(Box::new(answer)));
        self
    }

    /// Answers [`crate::net::tcp_connect`] and [`crate::net::tls_connect`] for a host and port.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shoal_sdk::double::{FakeHost, FakePeer};
    /// use shoal_sdk::net;
    ///
    /// let peer = |written: &[u8]| match written {
    ///     b"QUIT\r\n" => b"221 bye\r\n".to_vec(),
    ///     _ => b"500 what?\r\n".to_vec(),
    /// };
    /// let _host = FakeHost::new().tcp(move |_, _| Ok(FakePeer::new(peer).greeting("220 ready\r\n")));
    /// let second = Duration::from_secs(1);
    /// let connection = net::tcp_connect("mail.example.com", 25, second)?;
    /// assert_eq!(connection.read(100, second)?, b"220 ready\r\n");
    /// connection.write(b"QUIT\r\n", second)?;
    /// assert_eq!(connection.read(3, second)?, b"221");
    /// # Ok::<(), net::NetError>(())
    /// ```
    pub fn tcp(
        self,
        answer: impl FnMut(&str, u16) -> Result<FakePeer, NetError> + 'static,
    ) -> FakeHost {
        STATE.with_borrow_mut(|state| state.tcp = Some(Box::new(answer)));
        self
    }

    /// Answers [`crate::net::dns_query`] for a name and a type.
    pub fn dns(
        self,
        answer: impl FnMut(&str, RecordType) -> Result<DnsAnswer, NetError> + 'static,
    ) -> FakeHost {
        STATE.with_borrow_mut(|state| state.dns = Some(Box::new(answer)));
        self
    }

    /// Answers [`crate::net::icmp_echo`] for a host.
    pub fn icmp(
        self,
        answer: impl FnMut(&str) -> Result<EchoReply, NetError> + 'static,
    ) -> FakeHost {
        STATE.with_borrow_mut(|state| state.icmp = Some(Box::new(answer)));
        self
    }
}

type Answer = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

/// The other end of a connection.
pub struct FakePeer {
    answer: Answer,
    sent: Vec<u8>,
    session: Option<TlsSession>,
}

impl FakePeer {
    /// A peer that answers each write; an empty answer is silence. It closes when all it sent has been read.
    pub fn new(answer: impl FnMut(&[u8]) -> Vec<u8> + 'static) -> FakePeer {
        FakePeer {
            answer: Box::new(answer),
            sent: Vec::new(),
            session: None,
        }
    }

    /// What it sends before it is asked.
    pub fn greeting(mut self, bytes: impl AsRef<[u8]>) -> FakePeer {
        self.sent.extend_from_slice(bytes.as_ref());
        self
    }

    /// What it shows in a handshake over the connection.
    pub fn start_tls(mut self, session: TlsSession) -> FakePeer {
        self.session = Some(session);
        self
    }
}

/// Stands where the host's connection stands in a component.
pub(crate) struct Connection {
    address: String,
    peer: RefCell<FakePeer>,
}

impl Connection {
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn write(&self, bytes: &[u8], _: u32) -> Result<(), NetError> {
        let mut peer = self.peer.borrow_mut();
        let answer = (peer.answer)(bytes);
        peer.sent.extend(answer);
        Ok(())
    }

    pub(crate) fn read(&self, max_bytes: u32, _: u32) -> Result<Vec<u8>, NetError> {
        let mut peer = self.peer.borrow_mut();
        let count = peer.sent.len().min(max_bytes as usize);
        Ok(peer.sent.drain(..count).collect())
    }

    pub(crate) fn start_tls(&self, _: &str, _: u32) -> Result<TlsSession, NetError> {
        let session = self.peer.borrow().session.clone();
        session.ok_or_else(|| NetError::Failed("the fake peer speaks no TLS".to_owned()))
    }
}

pub(crate) fn tls_handshake(host: &str, port: u16, _: u32) -> Result<TlsSession, NetError> {
    asked(|state| &mut state.tls, "TLS", |answer| answer(host, port))
}

pub(crate) fn tcp_connect(host: &str, port: u16, _: u32) -> Result<Connection, NetError> {
    let peer = asked(|state| &mut state.tcp, "TCP", |answer| answer(host, port))?;
    Ok(Connection {
        address: format!("{host}:{port}"),
        peer: RefCell::new(peer),
    })
}

pub(crate) fn tls_connect(host: &str, port: u16, timeout_ms: u32) -> Result<Connection, NetError> {
    tcp_connect(host, port, timeout_ms)
}

pub(crate) fn dns_query(
    name: &str,
    record_type: RecordType,
    _: u32,
) -> Result<DnsAnswer, NetError> {
    asked(
        |state| &mut state.dns,
        "DNS",
        |answer| answer(name, record_type),
    )
}

pub(crate) fn icmp_echo(host: &str, _: u32) -> Result<EchoReply, NetError> {
    asked(|state| &mut state.icmp, "ICMP", |answer| answer(host))
}

/// Calls an answer, outside of the state: it may use the host itself.
fn asked<A, T>(
    of: impl Fn(&mut State) -> &mut Option<A>,
    what: &str,
    call: impl FnOnce(&mut A) -> Result<T, NetError>,
) -> Result<T, NetError> {
    let denied = || NetError::Denied(format!("the fake host has no answer to {what}"));
    let answer = STATE.with_borrow_mut(|state| of(state).take());
    let mut answer = answer.ok_or_else(denied)?;
    let result = call(&mut answer);
    STATE.with_borrow_mut(|state| *of(state) = Some(answer));
    result
}
