//! Connections: what is granted, what a server shows, bytes both ways and their bounds.

use super::*;
use crate::bindings::shoal::plugin::net::NetError;
use crate::secrets::Secrets;
use shoal_model::grant::NetOperation::{Icmp, Tcp, Tls};
use tokio::net::TcpStream;

/// A world that is granted these operations for `pages.test` at a port.
fn granted(operations: &[&str], port: u16, roots: &[u8]) -> World {
    let grants = operations
        .iter()
        .map(|operation| format!("net {operation} pages.test:{port}"));
    let grants: Vec<_> = grants.collect();
    let grants: Vec<_> = grants.iter().map(String::as_str).collect();
    world(&[&["127.0.0.1"]], &grants, roots)
}

/// A server that does something with each connection; its port.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    each: impl Fn(TcpStream) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(each(stream));
        }
    });
    port
}

/// Sends back what it is sent.
async fn echo(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

#[track_caller]
fn denied<T: std::fmt::Debug>(result: Result<T, NetError>, wanted: &str) {
    match result {
        Err(NetError::Denied(why)) => assert!(why.contains(wanted), "{why:?} says {wanted:?}"),
        other => panic!("{other:?}"),
    }
}

impl std::fmt::Debug for super::super::connection::Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.peer())
    }
}

#[tokio::test]
async fn a_handshake_shows_the_chain_whether_it_is_trusted_or_not() {
    let port = tls_server().await.port();
    for (roots, name, distrust) in [
        (ROOT, "pages.test", ""),
        (ROOT, "other.test", "not valid for name"),
        (b"".as_slice(), "pages.test", "UnknownIssuer"),
    ] {
        let grant = format!("net tls {name}:{port}");
        let world = world(&[&["127.0.0.1"]], &[&grant], roots);
        let shaken = world.gate.tls_handshake(name, port, 5000).await;
        let session = shaken.expect("a session");
        assert_eq!(session.trusted, distrust.is_empty(), "{name}");
        assert!(session.reason.contains(distrust), "{}", session.reason);
        assert_eq!(session.protocol, "TLS 1.3");
        assert!(session.cipher_suite.starts_with("TLS13_"), "{session:?}");
        assert_eq!(session.address, format!("127.0.0.1:{port}"));
        let [certificate] = session.chain.as_slice() else {
            panic!("{} certificates", session.chain.len());
        };
        assert_eq!(certificate.subject, "CN=pages.test");
        assert_eq!(certificate.issuer, "CN=Shoal test root");
        assert_eq!(certificate.names, ["pages.test"]);
        assert_eq!(certificate.not_before_unix_ms, 1_577_836_800_000);
        assert_eq!(certificate.not_after_unix_ms, 4_701_974_400_000);
        let der = CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate");
        assert_eq!(certificate.der, der.as_ref());
        assert!(!certificate.serial.is_empty());
        assert_eq!(
            world.gate.contacts.take().contacted,
            [format!("{name}:{port}")]
        );
    }
}

#[tokio::test]
async fn a_server_without_tls_or_without_words_is_an_error() {
    let (plain, _) = server(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    let world = granted(&["tls"], plain.port(), b"");
    let shaken = world.gate.tls_handshake("pages.test", plain.port(), 5000);
    let error = shaken.await.expect_err("no TLS");
    assert!(matches!(error, NetError::Failed(_)), "{error:?}");
    let (silent, _) = server(Vec::new()).await;
    let world = granted(&["tls"], silent.port(), b"");
    let shaken = world.gate.tls_handshake("pages.test", silent.port(), 50);
    let error = shaken.await.expect_err("silence");
    assert!(matches!(error, NetError::TimedOut(_)), "{error:?}");
}

#[tokio::test]
async fn what_is_not_granted_is_refused_and_remembered() {
    let port = serve(echo).await;
    let world = granted(&["tcp"], port, b"");
    denied(
        world.gate.tls_handshake("pages.test", port, 5000).await,
        &format!(
            "spy may not use net tls pages.test:{port}, for which its plugin.toml does not ask"
        ),
    );
    denied(
        world.gate.connect(Tcp, "evil.test", port, 5000).await,
        "spy may not use net tcp evil.test",
    );
    denied(
        world.gate.icmp_echo("pages.test", 5000).await,
        "spy may not use net icmp pages.test,",
    );
    assert_eq!(world.answers.asked.load(Ordering::SeqCst), 0);
    let many = world.gate.connect(Tcp, "pages.test", port, 5000).await;
    assert!(matches!(many, Err(NetError::LimitReached(_))), "{many:?}");
    let traffic = world.gate.contacts.take();
    assert_eq!((traffic.requests, traffic.refused.len()), (3, 3));
    assert_eq!(traffic.contacted, [] as [&str; 0]);
    denied(
        world.gate.connect(Tcp, "pages.test", 0, 5000).await,
        "0 is not a port of pages.test",
    );
    denied(
        world.gate.connect(Tcp, "0x7f.1", port, 5000).await,
        "is not a host",
    );
}

#[tokio::test]
async fn a_connection_goes_to_the_address_that_was_checked() {
    let port = serve(echo).await;
    let grant = format!("net tcp pages.test:{port}");
    let grants = [grant.as_str(), "net tcp 10.0.0.1:25"];
    let answers: [&[&str]; 2] = [&["127.0.0.1"], &["169.254.169.254"]];
    let world = world(&answers, &grants, b"");
    let connection = world.gate.connect(Tcp, "pages.test", port, 5000).await;
    let connection = connection.expect("a connection");
    assert_eq!(connection.peer().to_string(), format!("127.0.0.1:{port}"));
    assert_eq!(world.answers.asked.load(Ordering::SeqCst), 1);
    denied(
        world.gate.connect(Tcp, "pages.test", port, 5000).await,
        "169.254.169.254 (cloud metadata)",
    );
    denied(
        world.gate.connect(Tcp, "10.0.0.1", 25, 5000).await,
        "10.0.0.1 (private)",
    );
    assert_eq!(world.gate.contacts.take().refused.len(), 2);
}

#[tokio::test]
async fn bytes_go_both_ways_and_so_many_only() {
    let port = serve(echo).await;
    let world = granted(&["tcp"], port, b"");
    let opened = world.gate.connect(Tcp, "pages.test", port, 5000).await;
    let mut connection = opened.expect("a connection");
    connection.write(b"hello", 5000).await.expect("written");
    assert_eq!(connection.read(3, 5000).await.expect("read"), b"hel");
    assert_eq!(connection.read(100, 5000).await.expect("read"), b"lo");
    let silence = connection.read(100, 20).await;
    assert!(matches!(silence, Err(NetError::TimedOut(_))), "{silence:?}");
    let much = connection.write(&[0; 996], 5000).await;
    assert!(matches!(much, Err(NetError::LimitReached(_))), "{much:?}");
    connection.write(&[1; 995], 5000).await.expect("the rest");
    let mut received = 5;
    while received < 1000 {
        received += connection.read(u32::MAX, 5000).await.expect("read").len();
    }
    let more = connection.read(1, 5000).await;
    assert!(matches!(more, Err(NetError::LimitReached(_))), "{more:?}");
    assert_eq!(world.gate.contacts.take().bytes_out, 1000);
}

#[tokio::test]
async fn the_end_is_an_empty_read_and_writing_on_fails() {
    let port = serve(|stream| async move { drop(stream) }).await;
    let world = granted(&["tcp"], port, b"");
    let opened = world.gate.connect(Tcp, "pages.test", port, 5000).await;
    let mut connection = opened.expect("a connection");
    assert_eq!(connection.read(100, 5000).await.expect("the end"), b"");
    // The first write may still find room in a buffer; a later one meets the reset.
    let mut written = Ok(());
    for _ in 0..1000 {
        written = connection.write(b"x", 5000).await;
        if written.is_err() {
            break;
        }
    }
    assert!(written.is_err(), "the peer is gone");
}

#[tokio::test]
async fn a_call_holds_so_many_connections_at_a_time() {
    let port = serve(echo).await;
    let mut world = granted(&["tcp"], port, b"");
    world.gate.requests_max = 10;
    let first = world.gate.connect(Tcp, "pages.test", port, 5000).await;
    let second = world.gate.connect(Tcp, "pages.test", port, 5000).await;
    let third = world.gate.connect(Tcp, "pages.test", port, 5000).await;
    assert!(matches!(third, Err(NetError::LimitReached(_))), "{third:?}");
    drop(first);
    let third = world.gate.connect(Tcp, "pages.test", port, 5000).await;
    assert!(third.is_ok() && second.is_ok());
}

/// Greets, waits for a line, and goes on over TLS as an echo.
async fn start_tls_server() -> u16 {
    let acceptor = acceptor();
    serve(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut line = [0; 100];
            let _ = stream.write_all(b"220 ready\r\n").await;
            // No more than the command: the handshake comes right behind it.
            let _ = stream.read_exact(&mut line[..b"STARTTLS\r\n".len()]).await;
            if let Ok(mut stream) = acceptor.accept(stream).await {
                while let Ok(count @ 1..) = stream.read(&mut line).await {
                    let _ = stream.write_all(&line[..count]).await;
                    let _ = stream.flush().await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn tls_begins_halfway_and_goes_on_only_with_a_trusted_peer() {
    let port = start_tls_server().await;
    for (roots, is_trusted) in [(ROOT, true), (b"".as_slice(), false)] {
        let world = granted(&["tcp", "tls"], port, roots);
        let opened = world.gate.connect(Tcp, "pages.test", port, 5000).await;
        let mut connection = opened.expect("a connection");
        let greeting = connection.read(100, 5000).await.expect("a greeting");
        assert_eq!(greeting, b"220 ready\r\n");
        connection
            .write(b"STARTTLS\r\n", 5000)
            .await
            .expect("written");
        let session = connection.start_tls("", 5000).await.expect("a session");
        assert_eq!(session.trusted, is_trusted, "{}", session.reason);
        let written = connection.write(b"EHLO", 5000).await;
        assert_eq!(written.is_ok(), is_trusted, "{written:?}");
        if is_trusted {
            assert_eq!(connection.read(9, 5000).await.expect("echo"), b"EHLO");
        }
    }
    let world = granted(&["tcp"], port, ROOT);
    let opened = world.gate.connect(Tcp, "pages.test", port, 5000).await;
    let mut connection = opened.expect("a connection");
    denied(connection.start_tls("", 5000).await, "net tls pages.test");
    assert!(connection.read(100, 5000).await.is_ok(), "it goes on");
}

#[tokio::test]
async fn a_connection_over_tls_is_to_a_trusted_peer() {
    let port = tls_server().await.port();
    let world = granted(&["tls"], port, ROOT);
    let opened = world.gate.connect(Tls, "pages.test", port, 5000).await;
    let mut connection = opened.expect("a connection");
    connection.write(b"GET /", 5000).await.expect("written");
    let answer = connection.read(12, 5000).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 200");
    let strict = granted(&["tls"], port, b"");
    match strict.gate.connect(Tls, "pages.test", port, 5000).await {
        Err(NetError::Failed(why)) => assert!(why.contains("is not trusted"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// Where the system does not let this process send echo requests, the error that says so is what is tested.
#[tokio::test]
async fn an_echo_comes_back_or_the_system_does_not_let_it() {
    let grants = ["net icmp pages.test", "net icmp 10.0.0.1"];
    let world = world(&[&["127.0.0.1"]], &grants, b"");
    match world.gate.icmp_echo("pages.test", 5000).await {
        Ok(reply) => assert_eq!(reply.address, "127.0.0.1"),
        Err(NetError::Failed(why)) => {
            assert!(why.contains("net.ipv4.ping_group_range"), "{why}");
        }
        Err(other) => panic!("{other:?}"),
    }
    denied(
        world.gate.icmp_echo("10.0.0.1", 5000).await,
        "10.0.0.1 (private)",
    );
    let traffic = world.gate.contacts.take();
    assert_eq!(traffic.contacted, ["icmp pages.test"]);
    assert_eq!(traffic.refused.len(), 1);
    assert_eq!(Icmp.as_str(), "icmp");
}

#[tokio::test]
async fn no_secret_comes_in_and_no_reference_goes_out() {
    let port = serve(|mut stream| async move {
        // The second half is sent once the guest has the first.
        let mut byte = [0];
        let said: [&[u8]; 3] = [b"key is hunter2-hun", b"ter2 and hunt", b"ing; hunter2-"];
        for part in said {
            let _ = stream.write_all(part).await;
            let _ = stream.read_exact(&mut byte).await;
        }
    })
    .await;
    for most in [1, 100] {
        let mut world = granted(&["tcp"], port, b"");
        let (secrets, reference) = Secrets::of_test("hunter2-hunter2");
        world.gate.secrets = Arc::new(secrets);
        let connected = world.gate.connect(Tcp, "pages.test", port, 5000).await;
        let mut connection = connected.expect("a connection");
        let sent = connection.write(reference.as_bytes(), 5000).await;
        denied(sent, "the reference of the secret token is in what is sent");
        let mut heard = String::new();
        let mut waited = 0;
        loop {
            match connection.read(most, 200).await {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => heard.push_str(std::str::from_utf8(&bytes).expect("text")),
                Err(NetError::TimedOut(_)) => {
                    waited += 1;
                    connection.write(b"\n", 5000).await.expect("sent");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(heard, "key is *************** and hunting; hunter2-");
        assert_eq!(waited, 3, "the peer waits for an answer each time");
    }
}

#[tokio::test]
async fn what_was_said_before_a_handshake_is_not_taken_for_what_comes_after_it() {
    let port = serve(|mut stream| async move {
        let _ = stream.write_all(b"220 ready\r\nhunter").await;
        // Waits for the end, so that nothing but the guest's host can have closed the connection.
        let _ = stream.read(&mut [0; 100]).await;
    })
    .await;
    let mut world = granted(&["tcp", "tls"], port, ROOT);
    let (secrets, _) = Secrets::of_test("hunter2-hunter2");
    world.gate.secrets = Arc::new(secrets);
    let opened = world.gate.connect(Tcp, "pages.test", port, 5000).await;
    let mut connection = opened.expect("a connection");
    let greeting = connection.read(100, 5000).await.expect("a greeting");
    assert_eq!(greeting, b"220 ready\r\n", "the rest may begin a secret");
    match connection.start_tls("", 5000).await {
        Err(NetError::Failed(why)) => assert!(why.contains("before the handshake"), "{why}"),
        other => panic!("{other:?}"),
    }
    let written = connection.write(b"EHLO", 5000).await;
    assert!(matches!(written, Err(NetError::Failed(_))), "{written:?}");
}
