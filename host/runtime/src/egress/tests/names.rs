//! Records of names: what is asked, what is told, and what is kept from the plugin.

use super::*;
use crate::bindings::shoal::plugin::net::{DnsAnswer, NetError, RecordType};
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, CNAME, MX, PTR, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record};
use tokio::net::UdpSocket;

/// Of an answer over UDP.
const DATAGRAM_MAX_BYTES: usize = 512;

/// A name server with a few names under `test.`; what it is asked, such as `MX pages.test.`.
async fn name_server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let streams = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = streams.local_addr().expect("an address");
    let socket = UdpSocket::bind(address).await.expect("the same port");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut bytes = [0; 2048];
        while let Ok((count, peer)) = socket.recv_from(&mut bytes).await {
            if let Some(answer) = answer(&bytes[..count], DATAGRAM_MAX_BYTES, &seen) {
                let _ = socket.send_to(&answer, peer).await;
            }
        }
    });
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = streams.accept().await {
            let Ok(count) = stream.read_u16().await else {
                continue;
            };
            let mut query = vec![0; usize::from(count)];
            let _ = stream.read_exact(&mut query).await;
            if let Some(answer) = answer(&query, usize::from(u16::MAX), &seen) {
                let _ = stream.write_u16(answer.len() as u16).await;
                let _ = stream.write_all(&answer).await;
            }
        }
    });
    (address, asked)
}

/// The answer to a query; `None` is silence. One that is too long says so instead.
fn answer(query: &[u8], max_bytes: usize, seen: &Mutex<Vec<String>>) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).expect("a query");
    let question = query.queries[0].clone();
    let text = format!("{} {}", question.query_type(), question.name());
    seen.lock().push(text.clone());
    let (code, records) = records(&text)?;
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.metadata.response_code = code;
    answer.add_query(question);
    let mut short = answer.clone();
    short.metadata.truncation = true;
    answer.add_answers(records);
    let bytes = answer.to_vec().expect("an answer");
    Some(match bytes.len() > max_bytes {
        true => short.to_vec().expect("an answer"),
        false => bytes,
    })
}

/// `None` is silence.
fn records(question: &str) -> Option<(ResponseCode, Vec<Record>)> {
    let name = |text: &str| Name::from_ascii(text).expect("a name");
    let record = |owner: &str, data| Record::from_rdata(name(owner), 60, data);
    let records = match question {
        "MX pages.test." => vec![
            record("pages.test.", RData::MX(MX::new(10, name("mail.test.")))),
            record("pages.test.", RData::MX(MX::new(20, name("spare.test.")))),
        ],
        "A pages.test." => vec![
            record("pages.test.", RData::CNAME(CNAME(name("cdn.test.")))),
            record("cdn.test.", RData::A(A::new(192, 0, 1, 7))),
        ],
        "TXT pages.test." => {
            let parts = vec!["v=spf1 ".to_owned(), "-all".to_owned()];
            vec![record("pages.test.", RData::TXT(TXT::new(parts)))]
        }
        "A inside.test." => vec![record("inside.test.", RData::A(A::new(10, 0, 0, 7)))],
        "PTR 1.0.0.127.in-addr.arpa." | "PTR 8.8.8.8.in-addr.arpa." => {
            let owner = question.trim_start_matches("PTR ");
            vec![record(owner, RData::PTR(PTR(name("pages.test."))))]
        }
        "A many.test." => (0..200)
            .map(|i| record("many.test.", RData::A(A::new(1, 1, 1, i))))
            .collect(),
        "A broken.test." => return Some((ResponseCode::ServFail, Vec::new())),
        "A silent.test." => return None,
        "AAAA pages.test." => return Some((ResponseCode::NoError, Vec::new())),
        _ => return Some((ResponseCode::NXDomain, Vec::new())),
    };
    Some((ResponseCode::NoError, records))
}

/// A world that may ask for names under `test`, and the name server.
async fn asking() -> (World, Arc<Mutex<Vec<String>>>) {
    let (address, asked) = name_server().await;
    let grants = ["net dns *.test", "net dns 8.8.8.8", "net dns 10.0.0.1"];
    let mut world = world(&[&["127.0.0.1"]], &grants, b"");
    let network = Network::clone(&world.gate.network);
    world.gate.network = Arc::new(network.asking(&[address]));
    world.gate.requests_max = 20;
    (world, asked)
}

impl World {
    async fn query(&self, name: &str, record_type: RecordType) -> Result<DnsAnswer, NetError> {
        self.gate.dns_query(name, record_type, 5000).await
    }
}

fn texts(answer: &DnsAnswer) -> Vec<String> {
    let records = answer.records.iter();
    let records = records.map(|record| {
        format!(
            "{} {} {} {}",
            record.name, record.ttl_seconds, record.record_type, record.data
        )
    });
    records.collect()
}

#[tokio::test]
async fn records_are_told_as_they_stand() {
    let (world, asked) = asking().await;
    let mail = world
        .query("Pages.test.", RecordType::Mx)
        .await
        .expect("MX");
    assert_eq!(mail.code, "NOERROR");
    assert_eq!(
        texts(&mail),
        [
            "pages.test 60 MX 10 mail.test.",
            "pages.test 60 MX 20 spare.test."
        ]
    );
    let address = world.query("pages.test", RecordType::A).await.expect("A");
    assert_eq!(
        texts(&address),
        ["pages.test 60 CNAME cdn.test.", "cdn.test 60 A 192.0.1.7"]
    );
    let text = world
        .query("pages.test", RecordType::Txt)
        .await
        .expect("TXT");
    assert_eq!(texts(&text), ["pages.test 60 TXT v=spf1 -all"]);
    let reverse = world.query("8.8.8.8", RecordType::Ptr).await.expect("PTR");
    assert_eq!(texts(&reverse), ["8.8.8.8.in-addr.arpa 60 PTR pages.test."]);
    let many = world.query("many.test", RecordType::A).await.expect("many");
    assert_eq!(many.records.len(), 100);
    assert_eq!(asked.lock()[0], "MX pages.test.");
    assert_eq!(world.gate.contacts.take().contacted[0], "dns pages.test");
}

#[tokio::test]
async fn an_answer_without_records_is_an_answer() {
    let (world, _) = asking().await;
    for (name, record_type, code) in [
        ("nobody.test", RecordType::A, "NXDOMAIN"),
        ("pages.test", RecordType::Aaaa, "NOERROR"),
        ("broken.test", RecordType::A, "SERVFAIL"),
    ] {
        let answer = world.query(name, record_type).await.expect(name);
        assert_eq!((answer.code.as_str(), answer.records.len()), (code, 0));
    }
    let silence = world.gate.dns_query("silent.test", RecordType::A, 50).await;
    assert!(matches!(silence, Err(NetError::TimedOut(_))), "{silence:?}");
}

#[tokio::test]
async fn only_granted_names_leave_and_no_private_address_comes_in() {
    let (world, asked) = asking().await;
    for (name, record_type, wanted) in [
        (
            "secret.evil.example",
            RecordType::A,
            "spy may not use net dns",
        ),
        ("1.0.0.127.in-addr.arpa", RecordType::Ptr, "spy may not use"),
        ("10.0.0.1", RecordType::Ptr, "10.0.0.1 (private)"),
        ("inside.test", RecordType::A, "10.0.0.7 (private)"),
    ] {
        match world.query(name, record_type).await {
            Err(NetError::Denied(why)) => assert!(why.contains(wanted), "{why}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(asked.lock().as_slice(), ["A inside.test."]);
    assert_eq!(world.gate.contacts.take().refused.len(), 4);
}

#[tokio::test]
async fn an_address_has_a_name_and_no_other_records() {
    let (world, asked) = asking().await;
    let answer = world.query("8.8.8.8", RecordType::Mx).await;
    assert!(matches!(answer, Err(NetError::Failed(_))), "{answer:?}");
    assert!(asked.lock().is_empty());
}
