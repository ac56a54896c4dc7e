//! The gate as a whole, against servers on this machine.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks as _};

use super::address::{AddressPolicy, Cidr};
use super::allow::Permits;
use super::connect::Resolve;
use super::gate::Gate;
use super::*;
use crate::log::CallLog;
use crate::settings::SettingsSchema;

mod names;
mod net;

const ROOT: &[u8] = include_bytes!("../../tests/fixtures/tls/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("../../tests/fixtures/tls/server.pem");
const KEY: &[u8] = include_bytes!("../../tests/fixtures/tls/server.key");

/// Gives the next answer each time; the last one for ever.
struct Answers {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Resolve for Answers {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock();
        let next = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        };
        Ok(next.unwrap_or_default())
    }
}

struct World {
    gate: Gate,
    answers: Arc<Answers>,
    log: CallLog,
}

/// A gate that allows `pages.test` and `*.sub.test` on every port that is asked for, where loopback is open.
fn world(answers: &[&[&str]], grants: &[&str], roots: &[u8]) -> World {
    let answers = answers.iter().map(|answer| {
        let answer = answer.iter().map(|ip| ip.parse().expect("an address"));
        answer.collect()
    });
    let answers = Arc::new(Answers {
        answers: Mutex::new(answers.collect()),
        asked: AtomicUsize::new(0),
    });
    let policy = AddressPolicy {
        open: vec!["127.0.0.0/8".parse::<Cidr>().expect("a range")],
    };
    let network = Network::with_resolver(policy, roots, answers.clone()).expect("roots");
    let grants: shoal_model::grant::Grants = grants
        .iter()
        .map(|grant| grant.parse().expect("a grant"))
        .collect();
    let schema = SettingsSchema::parse(serde_json::json!({"type": "object"})).expect("a schema");
    let settings = schema
        .validate(serde_json::Map::new())
        .expect("no settings");
    let allow = Permits::new("spy", &grants, &grants, &settings);
    let log = CallLog::new(1 << 20);
    World {
        gate: Gate {
            network: Arc::new(network),
            allow: Arc::new(allow.expect("permits")),
            secrets: Arc::default(),
            contacts: Contacts::default(),
            log: log.clone(),
            requests_max: 3,
            request_body_max_bytes: 1000,
            body_max_bytes: 1000,
            connections_max: 2,
        },
        answers,
        log,
    }
}

/// A world whose one server gives `response` to each connection and then waits; with its URL.
async fn serving(response: Vec<u8>) -> (World, String) {
    let (address, _) = server(response).await;
    let world = world(&[&["127.0.0.1"]], &[&grant(address)], b"");
    (world, url(address))
}

fn grant(address: SocketAddr) -> String {
    format!("http pages.test:{}", address.port())
}

fn url(address: SocketAddr) -> String {
    format!("http://pages.test:{}/a?b=c", address.port())
}

/// Listens; for each connection reads the head of a request, writes `response` and reads on until the peer is done.
async fn server(response: Vec<u8>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (response, seen) = (response.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let n = stream.read(&mut head).await.unwrap_or(0);
                seen.lock()
                    .push(String::from_utf8_lossy(&head[..n]).into_owned());
                let _ = stream.write_all(&response).await;
                while stream.read(&mut head).await.is_ok_and(|n| n > 0) {}
            });
        }
    });
    (address, heads)
}

fn body(size: usize) -> WasiBody {
    Full::new(Bytes::from(vec![b'x'; size]))
        .map_err(|never| match never {})
        .boxed_unsync()
}

impl World {
    async fn send(
        &mut self,
        request: ::http::request::Builder,
        size: usize,
    ) -> Result<(u16, Result<Bytes, Error>), Error> {
        self.send_within(request, size, RequestOptions::default())
            .await
    }

    async fn send_within(
        &mut self,
        request: ::http::request::Builder,
        size: usize,
        options: RequestOptions,
    ) -> Result<(u16, Result<Bytes, Error>), Error> {
        let request = request.body(body(size)).expect("a request");
        let done = Box::new(async { Ok(()) });
        let sent = self.gate.send_request(request, Some(options), done);
        let (response, driver) = Box::into_pin(sent).await?;
        let driver = tokio::spawn(Box::into_pin(driver));
        let status = response.status().as_u16();
        let collected = response.into_body().collect().await;
        driver.abort();
        Ok((status, collected.map(|body| body.to_bytes())))
    }

    #[track_caller]
    fn remarked(&self, wanted: &str) {
        let (lines, _) = self.log.take();
        let found = lines.iter().any(|line| line.message.contains(wanted));
        assert!(found, "{lines:?} say {wanted:?}");
    }
}

fn get(url: &str) -> ::http::request::Builder {
    ::http::Request::get(url)
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_request_passes_with_one_resolution_and_reaches_the_address_that_was_checked() {
    let (address, heads) = server(OK.to_vec()).await;
    // A second look would find the metadata service.
    let answers: [&[&str]; 2] = [&["127.0.0.1"], &["169.254.169.254"]];
    let mut world = world(&answers, &[&grant(address)], b"");
    let (status, body) = world.send(get(&url(address)), 0).await.expect("an answer");
    assert_eq!((status, body.expect("whole")), (200, Bytes::from("hello")));
    assert_eq!(world.answers.asked.load(Ordering::SeqCst), 1);
    let traffic = world.gate.contacts.take();
    assert_eq!(
        traffic.contacted,
        [format!("pages.test:{}", address.port())]
    );
    assert_eq!((traffic.requests, traffic.refused.len()), (1, 0));
    let head = heads.lock()[0].clone();
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("user-agent: shoal/"), "{head}");
    assert!(
        traffic.bytes_out.abs_diff(head.len() as u64) < 40,
        "{} bytes for {head}",
        traffic.bytes_out
    );
    let again = world
        .send(get(&url(address)), 0)
        .await
        .expect_err("the name changed");
    assert!(matches!(again, Error::DestinationIpProhibited), "{again:?}");
    world.remarked("169.254.169.254 (cloud metadata)");
    let refused = world.gate.contacts.take().refused;
    assert!(
        refused[0].reason.contains("(cloud metadata)"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_method_that_is_not_granted_is_not_sent() {
    let (address, heads) = server(OK.to_vec()).await;
    let only_get = format!("http GET pages.test:{}", address.port());
    let mut world = world(&[&["127.0.0.1"]], &[&only_get], b"");
    let request = |method: &str| ::http::Request::builder().method(method).uri(url(address));
    assert!(world.send(request("HEAD"), 0).await.is_ok());
    for method in ["POST", "OPTIONS"] {
        let error = world.send(request(method), 0).await.expect_err(method);
        assert!(matches!(error, Error::HttpRequestDenied), "{error:?}");
    }
    let traffic = world.gate.contacts.take();
    assert_eq!(traffic.refused.len(), 2);
    assert!(
        traffic.refused[0].wanted == format!("http POST pages.test:{}", address.port()),
        "{:?}",
        traffic.refused
    );
    assert_eq!(heads.lock().len(), 1, "only HEAD was sent");
}

#[tokio::test]
async fn of_several_addresses_only_open_ones_are_tried() {
    let (address, _) = server(OK.to_vec()).await;
    let mut world = world(
        &[&["10.0.0.1", "::1", "::ffff:127.0.0.1"]],
        &[&grant(address)],
        b"",
    );
    assert!(world.send(get(&url(address)), 0).await.is_ok());
}

#[tokio::test]
async fn what_is_not_granted_is_not_even_resolved() {
    let mut world = world(&[&["127.0.0.1"]], &["http pages.test:1"], b"");
    for url in [
        "https://evil.test/",
        "http://pages.test:2/",
        "http://127.0.0.1:1/",
        "http://pages.test.evil.test:1/",
    ] {
        world.gate.contacts = Contacts::default();
        let error = world.send(get(url), 0).await.expect_err(url);
        assert!(
            matches!(error, Error::HttpRequestDenied),
            "{url}: {error:?}"
        );
    }
    assert_eq!(world.answers.asked.load(Ordering::SeqCst), 0);
    world.remarked("spy may not use http GET pages.test:2");
    for url in [
        "http://user@pages.test:1/",
        "http://2130706433:1/",
        "http://0x7f.1:1/",
    ] {
        world.gate.contacts = Contacts::default();
        let error = world.send(get(url), 0).await.expect_err(url);
        assert!(
            matches!(error, Error::HttpRequestUriInvalid),
            "{url}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_call_makes_so_many_requests_and_no_more() {
    let (mut world, url) = serving(OK.to_vec()).await;
    for _ in 0..3 {
        assert!(world.send(get(&url), 0).await.is_ok());
    }
    let error = world.send(get(&url), 0).await.expect_err("the fourth");
    assert!(matches!(error, Error::ConnectionLimitReached));
    world.remarked("3 are the most that one call may make");
}

#[tokio::test]
async fn a_redirect_is_the_guests_to_follow() {
    let response =
        b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
    let (mut world, url) = serving(response.to_vec()).await;
    assert_eq!(world.send(get(&url), 0).await.expect("an answer").0, 302);
    assert_eq!(world.answers.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn bodies_and_heads_have_a_largest_size() {
    let long = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 1001]].concat();
    let (mut world, url) = serving(long).await;
    let (_, body) = world.send(get(&url), 0).await.expect("a head");
    assert!(
        matches!(body, Err(Error::HttpResponseBodySize(Some(1000)))),
        "{body:?}"
    );
    let error = world.send(get(&url), 1001).await.expect_err("too much");
    assert!(
        matches!(error, Error::HttpRequestBodySize(Some(1000))),
        "{error:?}"
    );
    world.remarked("its body is larger than 1000 bytes");
    let head = [
        b"HTTP/1.1 200 OK\r\n".to_vec(),
        b"x: y\r\n".repeat(101),
        b"\r\n".to_vec(),
    ]
    .concat();
    let (mut world, url) = serving(head).await;
    assert!(world.send(get(&url), 0).await.is_err(), "101 headers");
    let head = [
        b"HTTP/1.1 200 OK\r\nx: ".as_slice(),
        &[b'y'; 300_000],
        b"\r\n\r\n",
    ]
    .concat();
    let (mut world, url) = serving(head).await;
    let error = world
        .send(get(&url), 0)
        .await
        .expect_err("300 kB of header");
    assert!(
        matches!(error, Error::HttpResponseHeaderSectionSize(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn nobody_waits_for_a_server_that_stalls() {
    let options = RequestOptions {
        first_byte_timeout: Some(Duration::from_millis(50)),
        between_bytes_timeout: Some(Duration::from_millis(50)),
        ..RequestOptions::default()
    };
    let (mut world, url) = serving(Vec::new()).await;
    let error = world
        .send_within(get(&url), 0, options)
        .await
        .expect_err("silence");
    assert!(matches!(error, Error::ConnectionReadTimeout), "{error:?}");
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe".to_vec();
    let (mut world, url) = serving(half).await;
    let (_, body) = world
        .send_within(get(&url), 0, options)
        .await
        .expect("a head");
    assert!(
        matches!(body, Err(Error::ConnectionReadTimeout)),
        "{body:?}"
    );
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_an_error() {
    let (mut world, url) = serving(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()).await;
    let error = world.send(get(&url), 0).await.expect_err("no HTTP");
    assert!(matches!(error, Error::HttpProtocolError), "{error:?}");
}

/// Finishes TLS handshakes as `pages.test`.
fn acceptor() -> tokio_rustls::TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(KEY).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a key that fits");
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

/// A server as `pages.test` that answers one request over each connection.
async fn tls_server() -> SocketAddr {
    let acceptor = acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut head = [0; 8192];
                    let _ = stream.read(&mut head).await;
                    let _ = stream.write_all(OK).await;
                    let _ = stream.flush().await;
                    while stream.read(&mut head).await.is_ok_and(|n| n > 0) {}
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn tls_must_lead_to_a_trusted_root_and_carry_the_name() {
    let port = tls_server().await.port();
    let grants = [
        format!("http pages.test:{port}"),
        format!("http other.test:{port}"),
    ];
    let grants: Vec<_> = grants.iter().map(String::as_str).collect();
    let url = format!("https://pages.test:{port}/");
    let mut trusting = world(&[&["127.0.0.1"]], &grants, ROOT);
    let (status, body) = trusting.send(get(&url), 0).await.expect("trusted");
    assert_eq!((status, body.expect("whole")), (200, Bytes::from("hello")));
    let other = format!("https://other.test:{port}/");
    let error = trusting
        .send(get(&other), 0)
        .await
        .expect_err("another name");
    assert!(matches!(error, Error::TlsCertificateError), "{error:?}");
    let mut strict = world(&[&["127.0.0.1"]], &grants, b"");
    let error = strict
        .send(get(&url), 0)
        .await
        .expect_err("an unknown root");
    assert!(matches!(error, Error::TlsCertificateError), "{error:?}");
    strict.remarked("no TLS with pages.test");
}

#[test]
fn roots_that_cannot_be_read_are_refused() {
    let bad = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = Network::new(AddressPolicy::default(), bad)
        .err()
        .expect("refused");
    assert!(
        error
            .to_string()
            .starts_with("certificate 1 of the extra roots: "),
        "{error}"
    );
}
