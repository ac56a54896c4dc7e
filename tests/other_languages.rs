//! Plugins in Python and JavaScript, packed and run by the real server: a check that talks to a server over TCP, a channel
//! that posts, both with their interpreters.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::components::{repository, text};
use crate::support::{Database, Listener, Server, Tenant, eventually};

/// What a memcached of 100 connections, 90 of them in use, answers to `stats`.
const STATS: &str = "STAT pid 1\r\nSTAT max_connections 100\r\nSTAT curr_connections 90\r\nSTAT get_hits 75\r\n\
                     STAT get_misses 25\r\nEND\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_check_in_python_opens_an_alert_that_a_channel_in_javascript_tells() {
    let server = Server::start_with(Database::sqlite(), &["--config", &config()]).await;
    let (check, channel) = tokio::join!(add(&server, "memcached"), add(&server, "teams"));
    assert!(
        check > 16 << 20 && channel > 8 << 20,
        "interpreters are large: {check}, {channel}"
    );
    let tenant = server.tenant("acme").await;
    let told = Listener::start().await;
    let hook = told.url("/workflow?sig=secret");
    tenant.enable("teams", json!({ "url": hook })).await;
    let (address, memcached) = memcached().await;
    let settings = json!({ "url": format!("tcp://{address}"), "hit_warning_percent": 50 });
    tenant.enable_check("memcached", "cache", settings).await;

    is_measured(&tenant).await;
    let post = told
        .wait_for("notification in Teams", |post| post.path == "/workflow")
        .await;
    let card = &post.body["attachments"][0]["content"];
    assert_eq!(card["type"], "AdaptiveCard", "{}", post.body);
    assert_eq!(card["body"][0]["style"], "warning");
    let message = text(&card["body"][1]["text"]);
    assert!(
        message.contains("90% of 100 connections in use"),
        "{message}"
    );
    assert!(post.headers.contains_key("idempotency-key"));

    memcached.abort();
    eventually("the sample that says it is down", async || {
        let up = tenant.value_of("memcached_up").await;
        up.filter(|up| *up == 0.0)
    })
    .await;
    server.stop().await;
}

async fn is_measured(tenant: &Tenant) {
    let used = eventually("sample of the check in Python", async || {
        tenant
            .value_of("memcached_connections{check=\"cache\"}")
            .await
    })
    .await;
    assert_eq!(used, 90.0);
    assert_eq!(
        tenant.value_of("memcached_get_hits_total").await,
        Some(75.0)
    );
}

/// The deployment's configuration: interpreters are welcome.
fn config() -> String {
    let file = repository().join("tests/support/docs.toml");
    file.display().to_string()
}

/// Packs what `cargo xtask plugins --all` built, and adds and approves it; returns its size in bytes.
async fn add(server: &Server, name: &str) -> usize {
    let built = repository().join("target/other-languages").join(name);
    let component = built.join(name).with_extension("wasm");
    assert!(
        component.is_file(),
        "{} is not built: cargo xtask plugins --all (needs Python 3 with venv, Node.js with npm, and their registries)",
        component.display()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let packed: PathBuf = folder.path().join("packed.wasm");
    let done = Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(["plugin", "pack"])
        .arg(&component)
        .arg("--manifest")
        .arg(built.join("plugin.toml"))
        .arg("--output")
        .arg(&packed)
        .output()
        .expect("the binary starts");
    assert!(done.status.success(), "{done:?}");
    let bytes = std::fs::read(&packed).expect("packed");
    let size = bytes.len();
    server.approve_bytes(bytes).await;
    size
}

/// Answers `stats`, and nothing else, on a free port of the loopback address.
async fn memcached() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let serve = async move {
        loop {
            let (stream, _) = listener.accept().await.expect("it listens");
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            // One that goes away without asking gets no answer.
            if stream.read_line(&mut line).await.is_ok() && line == "stats\r\n" {
                let _ = stream.write_all(STATS.as_bytes()).await;
            }
        }
    };
    (address, tokio::spawn(serve))
}
