//! Echo requests over datagram sockets, which need no privileges where the system lets its groups have them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::bindings::shoal::plugin::net::{EchoReply, NetError};
use crate::egress::Network;
use crate::egress::target::Target;

/// What a request carries: as long as that of common tools, so that it is treated like theirs.
const PAYLOAD: [u8; 56] = [b's'; 56];
/// The socket is fresh, so the system tells answers to it from others; one number is enough.
const SEQUENCE: [u8; 2] = [0, 1];

impl Network {
    /// Sends one echo request to an address that was checked, and awaits its answer.
    pub(crate) async fn icmp_echo(
        &self,
        target: &Target,
        ip: IpAddr,
    ) -> Result<EchoReply, NetError> {
        let failed = |e: io::Error| NetError::Failed(format!("no echo of {target}: {e}"));
        let socket = socket(ip).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => NetError::Failed(
                "this system does not let the server send echo requests: the operator lets its group with the setting net.ipv4.ping_group_range of the system"
                    .to_owned(),
            ),
            _ => failed(e),
        })?;
        let sent = Instant::now();
        socket.send(&request(ip)).await.map_err(failed)?;
        let mut answer = [0; 256];
        loop {
            let count = socket.recv(&mut answer).await.map_err(failed)?;
            if is_reply(ip, &answer[..count]) {
                let took = sent.elapsed().as_micros();
                return Ok(EchoReply {
                    address: ip.to_string(),
                    round_trip_us: u64::try_from(took).unwrap_or(u64::MAX),
                });
            }
        }
    }
}

fn socket(ip: IpAddr) -> io::Result<UdpSocket> {
    let (domain, protocol) = match ip {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.connect(&SocketAddr::new(ip, 0).into())?;
    UdpSocket::from_std(socket.into())
}

/// Type, code, checksum and identifier (both set by the system), sequence number, payload.
fn request(ip: IpAddr) -> Vec<u8> {
    let kind = if ip.is_ipv4() { 8 } else { 128 };
    let head = [kind, 0, 0, 0, 0, 0, SEQUENCE[0], SEQUENCE[1]];
    [head.as_slice(), &PAYLOAD].concat()
}

fn is_reply(ip: IpAddr, bytes: &[u8]) -> bool {
    let kind = if ip.is_ipv4() { 0 } else { 129 };
    match bytes {
        [first, 0, _, _, _, _, a, b, payload @ ..] => {
            *first == kind && [*a, *b] == SEQUENCE && payload == PAYLOAD
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_request_is_one() {
        for (ip, kind) in [("192.0.2.1", 0), ("2001:db8::1", 129)] {
            let ip: IpAddr = ip.parse().expect("an address");
            let mut answer = request(ip);
            assert!(!is_reply(ip, &answer), "the request itself");
            answer[0] = kind;
            assert!(is_reply(ip, &answer));
            answer[7] += 1;
            assert!(!is_reply(ip, &answer), "another number");
            assert!(!is_reply(ip, &answer[..4]), "half of one");
        }
    }
}
