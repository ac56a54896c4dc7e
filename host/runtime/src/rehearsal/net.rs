//! One operation of `shoal:plugin/net` that a test expects, and the answer that it gives.

use std::io::Cursor;
use std::net::SocketAddr;

use serde::Deserialize;
use tokio::io::{join, sink};

use crate::bindings::shoal::plugin::net::{
    Certificate, DnsAnswer, DnsRecord, EchoReply, NetError, TlsSession,
};
use crate::egress::connect::Stream;
use crate::rehearsal::input::time;

/// An address that belongs to nobody: RFC 5737.
const PEER: &str = "192.0.2.1";
/// The operations that a request begins with.
const OPERATIONS: [&str; 4] = ["dns", "icmp", "tcp", "tls"];

/// An entry of `net` in `[[tests]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetExchange {
    /// `dns example.com MX`, `tls example.com:443`, `tcp example.com:25` or `icmp example.com`.
    pub(crate) request: String,
    #[serde(default)]
    pub(crate) answer: NetAnswer,
}

/// What is found out, or why it is not; each operation has keys of its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetAnswer {
    error: Option<NetFailure>,
    /// dns: the response code.
    code: Option<String>,
    #[serde(default)]
    records: Vec<RecordText>,
    /// tls: why the server is not trusted; it is, when this is left out.
    untrusted: Option<String>,
    protocol: Option<String>,
    cipher_suite: Option<String>,
    #[serde(default)]
    chain: Vec<CertificateText>,
    /// tcp, tls: all that the peer sends.
    #[serde(default)]
    sends: String,
    /// icmp.
    round_trip_us: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NetFailure {
    NotFound,
    TimedOut,
    Failed,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordText {
    name: Option<String>,
    record_type: Option<String>,
    ttl_seconds: Option<u32>,
    data: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateText {
    #[serde(default)]
    subject: String,
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    serial: String,
    #[serde(default)]
    names: Vec<String>,
    not_before: Option<String>,
    not_after: String,
}

impl NetExchange {
    /// Checks what the author wrote.
    pub(crate) fn checked(self) -> Result<NetExchange, String> {
        let operation = self.request.split(' ').next().unwrap_or_default();
        if !OPERATIONS.contains(&operation) {
            return Err(format!(
                "request: {:?} does not begin with dns, icmp, tcp or tls",
                self.request
            ));
        }
        for certificate in &self.answer.chain {
            let begin = certificate.not_before.as_deref();
            begin.map_or(Ok(0), unix_ms)?;
            unix_ms(&certificate.not_after)?;
        }
        Ok(self)
    }
}

fn unix_ms(text: &str) -> Result<i64, String> {
    time(text).map(|time| time.unix_ms())
}

impl NetAnswer {
    /// The error that it wants, if it wants one.
    pub(crate) fn error(&self, request: &str) -> Option<NetError> {
        let said = format!("{request}: the test says so");
        self.error.map(|error| match error {
            NetFailure::NotFound => NetError::NotFound(said),
            NetFailure::TimedOut => NetError::TimedOut(said),
            NetFailure::Failed => NetError::Failed(said),
        })
    }

    pub(crate) fn dns(&self, name: &str, record_type: &str) -> DnsAnswer {
        let record = |record: &RecordText| DnsRecord {
            name: record.name.clone().unwrap_or_else(|| name.to_owned()),
            record_type: or(&record.record_type, record_type),
            ttl_seconds: record.ttl_seconds.unwrap_or(300),
            data: record.data.clone(),
        };
        DnsAnswer {
            code: or(&self.code, "NOERROR"),
            records: self.records.iter().map(record).collect(),
        }
    }

    pub(crate) fn echo(&self) -> EchoReply {
        EchoReply {
            address: PEER.to_owned(),
            round_trip_us: self.round_trip_us.unwrap_or(1000),
        }
    }

    pub(crate) fn session(&self, port: u16) -> TlsSession {
        let certificate = |text: &CertificateText| Certificate {
            subject: text.subject.clone(),
            issuer: text.issuer.clone(),
            serial: text.serial.clone(),
            names: text.names.clone(),
            not_before_unix_ms: text.not_before.as_deref().map_or(0, checked_ms),
            not_after_unix_ms: checked_ms(&text.not_after),
            der: Vec::new(),
        };
        TlsSession {
            protocol: or(&self.protocol, "TLS 1.3"),
            cipher_suite: or(&self.cipher_suite, "TLS13_AES_128_GCM_SHA256"),
            address: peer(port).to_string(),
            trusted: self.untrusted.is_none(),
            reason: self.untrusted.clone().unwrap_or_default(),
            chain: self.chain.iter().map(certificate).collect(),
        }
    }

    /// Why a connection over TLS is not made.
    pub(crate) fn untrusted(&self) -> Option<&str> {
        self.untrusted.as_deref()
    }

    /// A peer that sends what it sends, and takes everything.
    pub(crate) fn stream(&self) -> Box<dyn Stream> {
        Box::new(join(Cursor::new(self.sends.clone().into_bytes()), sink()))
    }
}

/// Where a played peer is.
pub(crate) fn peer(port: u16) -> SocketAddr {
    let ip = PEER.parse().expect("the address above is one");
    SocketAddr::new(ip, port)
}

/// A time that was checked when the test was read.
fn checked_ms(text: &str) -> i64 {
    unix_ms(text).unwrap_or(0)
}

fn or(text: &Option<String>, usual: &str) -> String {
    text.clone().unwrap_or_else(|| usual.to_owned())
}
