//! The network as a plugin sees it: connections that it holds, and what its report says.

use shoal_runtime::RuntimeOptions;
use std::io::{Read as _, Write as _};

use crate::support::*;

const ASKS: &str = r#"
    [[capabilities]]
    kind = "net"
    operations = ["tcp"]
    hosts = ["127.0.0.1:PORT"]
    reason = "to talk"
"#;

/// Connects to `127.0.0.1:PORT`, writes `ping`, reads once, and answers with what it read; what it does before it drops
/// the connection, and after, is `before` and `after`.
fn talks_to(port: u16, before: &str, after: &str) -> String {
    format!(
        r#"
        (import "shoal:plugin/net@0.1.0" "tcp-connect" (func $connect (param i32 i32 i32 i32 i32)))
        (import "shoal:plugin/net@0.1.0" "[method]connection.write" (func $write (param i32 i32 i32 i32 i32)))
        (import "shoal:plugin/net@0.1.0" "[method]connection.read" (func $read (param i32 i32 i32 i32)))
        (import "shoal:plugin/net@0.1.0" "[resource-drop]connection" (func $drop (param i32)))
        (data (i32.const 600) "127.0.0.1ping")
        (func (export "shoal:plugin/check@0.1.0#run")
          (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32)
          (local $connection i32)
          (call $connect (i32.const 600) (i32.const 9) (i32.const {port}) (i32.const 5000) (i32.const 2048))
          (if (i32.load8_u (i32.const 2048)) (then (unreachable)))
          (local.set $connection (i32.load (i32.const 2052)))
          (call $write (local.get $connection) (i32.const 609) (i32.const 4) (i32.const 5000) (i32.const 2048))
          (if (i32.load8_u (i32.const 2048)) (then (unreachable)))
          (call $read (local.get $connection) (i32.const 100) (i32.const 5000) (i32.const 2048))
          (if (i32.load8_u (i32.const 2048)) (then (unreachable)))
          {before}
          (call $drop (local.get $connection))
          {after}
          (i32.store (i32.const 1036) (i32.load (i32.const 2052)))
          (i32.store (i32.const 1040) (i32.load (i32.const 2056)))
          (i32.const 1024))
        "#
    )
}

fn open() -> shoal_runtime::Runtime {
    shoal_runtime::Runtime::new(RuntimeOptions {
        allow_private: vec!["127.0.0.0/8".parse().unwrap()],
        ..options()
    })
    .unwrap()
}

/// Answers `pong` to the first connection and says when the peer has closed it.
fn server() -> (u16, std::thread::JoinHandle<std::io::Result<usize>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut bytes = [0; 100];
        let count = stream.read(&mut bytes)?;
        stream.write_all(b"pong")?;
        assert_eq!(&bytes[..count], b"ping");
        stream.read(&mut bytes)
    });
    (port, served)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_carries_bytes_and_ends_when_it_is_dropped() {
    let (port, served) = server();
    let code = talks_to(port, "", "");
    let guest = Guest {
        manifest: &ASKS.replace("PORT", &port.to_string()),
        ..Guest::check(&code)
    };
    let check = installed(&open(), &guest).await;
    let call = check.run_check(&context()).await;
    assert_eq!(call.outcome.unwrap().summary, "pong");
    assert_eq!(call.report.contacted, [format!("127.0.0.1:{port}")]);
    assert_eq!(call.report.refused, []);
    assert_eq!((call.report.requests, call.report.bytes_out), (1, 4));
    assert_eq!(served.join().unwrap().unwrap(), 0, "it was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_held_ends_with_its_call() {
    let (port, served) = server();
    let code = talks_to(port, "unreachable", "");
    let guest = Guest {
        manifest: &ASKS.replace("PORT", &port.to_string()),
        ..Guest::check(&code)
    };
    let check = installed(&open(), &guest).await;
    let call = check.run_check(&context()).await;
    assert_eq!(call.outcome.unwrap_err().code(), "trapped");
    assert_eq!(served.join().unwrap().unwrap(), 0, "it was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_the_network_is_not_computing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let code = talks_to(port, "", "").replace(
        "(i32.const 100) (i32.const 5000)",
        "(i32.const 100) (i32.const 300)",
    );
    let guest = Guest {
        manifest: &ASKS.replace("PORT", &port.to_string()),
        ..Guest::check(&code)
    };
    let check = installed(&open(), &guest).await;
    let call = check.run_check(&context()).await;
    assert_eq!(
        call.outcome.unwrap_err().code(),
        "trapped",
        "nobody answers"
    );
    assert!(call.report.duration >= std::time::Duration::from_millis(300));
    assert!(
        call.report.cpu < std::time::Duration::from_millis(100),
        "{:?}",
        call.report.cpu
    );
}
