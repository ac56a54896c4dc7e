//! The resolver that a guest's queries are put to, which is as hostile as its cases want.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_resolver::proto::op::{Message, OpCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record};
use tokio::net::UdpSocket;

/// Answers on a free port of this machine until the test ends.
pub(crate) async fn start() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut bytes, mut changed_its_mind) = ([0; 2048], false);
        while let Ok((count, peer)) = socket.recv_from(&mut bytes).await {
            let query = Message::from_vec(&bytes[..count]).expect("a query");
            let question = query.queries[0].clone();
            let data = match question.name().to_ascii().as_str() {
                "public.test." => v4([192, 0, 1, 7]),
                "loopback.test." => v4([127, 0, 0, 1]),
                "private.test." => v4([10, 0, 0, 1]),
                "metadata.test." => v4([169, 254, 169, 254]),
                "mapped.test." => mapped([127, 0, 0, 1]),
                "rebinding.test." if changed_its_mind => v4([127, 0, 0, 1]),
                "rebinding.test." => {
                    changed_its_mind = true;
                    v4([192, 0, 1, 7])
                }
                // Silence.
                _ => continue,
            };
            let mut answer = Message::response(query.metadata.id, OpCode::Query);
            let record = Record::from_rdata(question.name().clone(), 0, data);
            answer.add_query(question);
            answer.add_answers([record]);
            let answer = answer.to_vec().expect("an answer");
            let _ = socket.send_to(&answer, peer).await;
        }
    });
    address
}

fn v4(octets: [u8; 4]) -> RData {
    RData::A(A(Ipv4Addr::from(octets)))
}

/// An address of IPv4 in the clothes of IPv6.
fn mapped(octets: [u8; 4]) -> RData {
    let address: Ipv6Addr = Ipv4Addr::from(octets).to_ipv6_mapped();
    RData::AAAA(AAAA(address))
}
