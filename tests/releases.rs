//! Versions are published, rolled back, disabled and enabled at full speed: no call fails, none is lost, and a server that
//! is killed in the middle of it comes back with exactly one version active.
//!
//! A disabled installation refuses what it is sent, which is what its tenant asked for. So the calls that may not fail are
//! those of a tenant whose own installation stays enabled, while the version below it changes, while another installation of
//! the same tenant and one of the same plugin at another tenant are disabled and enabled. That other tenant sends all the
//! time as well: it is served or told plainly that nobody serves it, and what was acknowledged is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::components::{component, text};
use crate::support::{Client, Database, Server, Tenant, eventually, now_ms, otlp};

/// Requests in flight of the tenant whose calls may not fail.
const SENDERS: usize = 8;

/// What was sent and what was acknowledged.
#[derive(Default)]
struct Sent {
    calls: AtomicUsize,
    acknowledged: AtomicUsize,
}

/// Sends samples of a series of its own, one a call, until there were enough calls and the changes are over.
async fn send(
    client: Client,
    host: String,
    sent: Arc<Sent>,
    wanted: usize,
    over: Arc<AtomicBool>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut at_ms = now_ms();
    while sent.calls.load(Ordering::SeqCst) < wanted || !over.load(Ordering::SeqCst) {
        // No two samples of a series at one time, so that each one counts.
        at_ms = now_ms().max(at_ms + 1);
        let body = otlp::gauges(&host, at_ms, &[("load", 1.0)]);
        let answer = otlp::post(&client, &body).await;
        sent.calls.fetch_add(1, Ordering::SeqCst);
        match answer.status {
            200 => drop(sent.acknowledged.fetch_add(1, Ordering::SeqCst)),
            _ => wrong.push(format!("{} {}", answer.status, answer.text)),
        }
    }
    wrong
}

/// Adds a component, as it is or with something in it that makes it another version; approves it without publishing it.
async fn approved(server: &Server, bytes: Vec<u8>) -> String {
    let operator = server.operator();
    let path = "/api/v1/plugins";
    let added = operator
        .send_bytes(Method::POST, path, "application/wasm", bytes)
        .await
        .is(201);
    let (plugin, digest) = (text(&added["plugin"]), text(&added["digest"]));
    let approve = format!("/api/v1/plugins/{plugin}/versions/{digest}/approve");
    operator
        .post(&approve, &json!({ "publish": false }))
        .await
        .is(200);
    digest
}

/// The same code with a section that says nothing: another digest.
fn another(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend([0, 6, 5]);
    bytes.extend(b"other");
    bytes
}

async fn publish(operator: &Client, plugin: &str, digest: &str) -> Value {
    let path = format!("/api/v1/plugins/{plugin}/tracks/stable/publish");
    operator
        .post(&path, &json!({ "digest": digest }))
        .await
        .is(200)
}

async fn switch(tenant: &Tenant, installation: &str, is_enabled: bool) {
    let path = format!("/api/v1/installations/{installation}");
    let change = json!({ "enabled": is_enabled });
    tenant.write.patch(&path, &change).await.is(200);
}

/// How many samples a tenant has.
async fn samples(tenant: &Tenant) -> f64 {
    let counted = tenant.value_of("sum(count_over_time(load[1h]))").await;
    counted.unwrap_or_default()
}

/// Makes so many changes while so many calls are made, and counts both.
async fn change_under_load(server: &Server, calls: usize, changes: usize) {
    let operator = server.operator();
    let first = approved(server, component("otlp")).await;
    let second = approved(server, another(component("otlp"))).await;
    publish(operator, "otlp", &first).await;
    server.approve("echo-1").await;
    let (steady, switched) = (
        server.tenant("steady").await,
        server.tenant("switched").await,
    );
    steady.enable("otlp", json!({})).await;
    let beside = steady.enable("echo", json!({})).await;
    let theirs = switched.enable("otlp", json!({})).await;

    let over = Arc::new(AtomicBool::new(false));
    let (kept, other) = (Arc::new(Sent::default()), Arc::new(Sent::default()));
    let mut senders = JoinSet::new();
    for at in 0..SENDERS {
        let client = steady.otlp.clone();
        senders.spawn(send(
            client,
            format!("steady-{at}"),
            kept.clone(),
            calls,
            over.clone(),
        ));
    }
    let their_sender = tokio::spawn(send(
        switched.otlp.clone(),
        "switched".to_owned(),
        other.clone(),
        0,
        over.clone(),
    ));
    for change in 0..changes {
        // Spread over the calls, so that each change meets some.
        while kept.calls.load(Ordering::SeqCst) < change * calls / changes {
            tokio::task::yield_now().await;
        }
        match change % 6 {
            0 => drop(publish(operator, "otlp", &second).await),
            1 => switch(&switched, &theirs, false).await,
            2 => switch(&steady, &beside, false).await,
            3 => {
                let path = "/api/v1/plugins/otlp/tracks/stable/rollback";
                operator.post(path, &json!({})).await.is(200);
            }
            4 => switch(&switched, &theirs, true).await,
            _ => switch(&steady, &beside, true).await,
        }
    }
    over.store(true, Ordering::SeqCst);
    for wrong in senders.join_all().await {
        assert!(
            wrong.is_empty(),
            "{} calls failed: {:?}",
            wrong.len(),
            wrong.first()
        );
    }
    for answer in their_sender.await.expect("the sender does not panic") {
        assert!(
            answer.starts_with('4'),
            "a disabled installation answered {answer}"
        );
    }
    let (kept, other) = (
        kept.acknowledged.load(Ordering::SeqCst),
        other.acknowledged.load(Ordering::SeqCst),
    );
    assert!(kept >= calls, "only {kept} calls were made");
    assert_eq!(
        samples(&steady).await,
        kept as f64,
        "samples of the steady tenant"
    );
    assert_eq!(
        samples(&switched).await,
        other as f64,
        "samples of the switched tenant"
    );
    let counted = "sum(shoal_plugin_calls_total{plugin=\"otlp\",outcome=\"done\"})";
    eventually("count of every call", async || {
        let count = operator.value_of(counted).await?;
        (count >= (kept + other) as f64).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_calls_pass_while_versions_change_a_hundred_times() {
    let server = Server::start(Database::sqlite()).await;
    change_under_load(&server, 10_000, 100).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_pass_while_versions_change_on_postgresql_too() {
    let server = Server::start(Database::postgres().await).await;
    change_under_load(&server, 2000, 40).await;
    server.stop().await;
}

/// The digest that is active, which must be the only one.
async fn active(server: &Server) -> String {
    let tracks = server
        .operator()
        .get("/api/v1/plugins/echo/tracks")
        .await
        .is(200);
    let tracks = tracks["tracks"].as_array().expect("a list").clone();
    assert_eq!(tracks.len(), 1, "{tracks:?}");
    text(&tracks[0]["active"]["digest"])
}

/// Publishes at a server that may be killed meanwhile. The answer, or nothing when there was none.
async fn publish_if_it_lives(
    http: reqwest::Client,
    operator: Client,
    digest: String,
) -> Option<(u16, String)> {
    let path = "/api/v1/plugins/echo/tracks/stable/publish";
    let request = http
        .post(format!("{}{path}", operator.base))
        .bearer_auth(operator.key())
        .header("content-type", "application/json")
        .body(json!({ "digest": digest }).to_string());
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.text().await.ok()?))
}

/// Two kills in a row in the milliseconds in which a version is started accuse it, which an operator forgives with one command
/// (docs/decisions/compile-in-a-child.md).
async fn forgive(operator: &Client, digest: &str) {
    let health = operator.get("/api/v1/plugins/echo/health").await.is(200);
    let versions = health["versions"].as_array().expect("a list");
    let version = versions.iter().find(|version| version["digest"] == digest);
    let quarantine = &version.expect("it is approved")["quarantine"];
    if quarantine.is_null() {
        return;
    }
    let reason = text(&quarantine["reason"]);
    assert_eq!(reason, "the process ended twice while it was being started");
    let release = format!("/api/v1/plugins/echo/versions/{digest}/release");
    operator.post(&release, &json!({})).await.is(200);
}

/// Kills the server while it publishes, at another moment each time.
async fn kill_publishing(mut server: Server, times: u32) {
    let versions = [
        (approved(&server, component("echo-1")).await, "0.1.0"),
        (approved(&server, component("echo-2")).await, "0.2.0"),
    ];
    publish(server.operator(), "echo", &versions[0].0).await;
    let mut tenant = server.tenant("acme").await;
    tenant.enable("echo", json!({})).await;
    // How long a publication takes in a server that has just started.
    server.kill();
    server.start_again(&[]).await;
    let began = Instant::now();
    publish(server.operator(), "echo", &versions[1].0).await;
    let whole = began.elapsed();
    server.kill();
    server.start_again(&[]).await;
    let http = reqwest::Client::builder().no_proxy().build();
    let http = http.expect("a client without special wishes");
    let mut seen = [0, 0];
    for at in 0..times {
        let before = active(&server).await;
        let next = versions.iter().find(|(digest, _)| *digest != before);
        let (digest, _) = next.expect("one of two").clone();
        let operator = server.operator().clone();
        forgive(&operator, &digest).await;
        let mut publishing = tokio::spawn(publish_if_it_lives(http.clone(), operator, digest));
        // From before the request has come to after it was answered, whatever that takes this time.
        let mut answer = None;
        if at + 1 == times {
            answer = Some((&mut publishing).await);
        } else {
            tokio::time::sleep(whole * at * 5 / 4 / times).await;
        }
        server.kill();
        // Without an answer nobody was told anything.
        let answer = match answer {
            Some(answer) => answer,
            None => publishing.await,
        };
        let answer = answer.expect("the request does not panic");
        server.start_again(&[]).await;
        tenant = server.found_again(&tenant);
        let now = active(&server).await;
        let is = versions.iter().position(|(digest, _)| *digest == now);
        let is = is.expect("one of the two is active");
        if let Some((status, told)) = answer {
            assert_eq!(status, 200, "{told}");
            assert_ne!(now, before, "what was answered has happened");
        }
        seen[usize::from(now != before)] += 1;
        let answer = tenant
            .otlp
            .send_bytes(Method::POST, "/echo", "text/plain", "still here")
            .await
            .is(200);
        assert_eq!(
            text(&answer["version"]),
            versions[is].1,
            "what runs is what is active"
        );
        let installations = tenant.read.get("/api/v1/installations").await.is(200);
        assert_eq!(installations["installations"][0]["error"], Value::Null);
    }
    assert!(seen[0] > 0 && seen[1] > 0, "kept and carried out: {seen:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_point_of_a_publication_leaves_exactly_one_version_active() {
    kill_publishing(Server::start(Database::sqlite()).await, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_point_of_a_publication_is_survived_on_postgresql_too() {
    kill_publishing(Server::start(Database::postgres().await).await, 8).await;
}
