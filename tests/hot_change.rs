//! Plugins change while requests come in: not one request fails, and what was asked for is live within a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::components::{enable, text};
use crate::support::{Client, Tenant, each_database};

/// How soon after the answer to a change every new request must see it.
const LIVE_WITHIN: Duration = Duration::from_secs(1);

/// Requests in flight at any time.
const SENDERS: usize = 8;

/// Sends requests without a pause and keeps every answer that is not as expected.
struct Load {
    stop: Arc<AtomicBool>,
    senders: Vec<JoinHandle<Sent>>,
}

/// What became of one sender's requests.
#[derive(Default)]
struct Sent {
    count: usize,
    wrong: Vec<String>,
}

impl Load {
    fn start(client: &Client) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let senders = (0..SENDERS)
            .map(|at| tokio::spawn(send_all(client.clone(), at, stop.clone())))
            .collect();
        Load { stop, senders }
    }

    /// Ends the load; not one request may have failed.
    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        let mut count = 0;
        for sender in self.senders {
            let sent = sender.await.expect("the sender does not panic");
            assert!(sent.wrong.is_empty(), "{:?}", sent.wrong);
            count += sent.count;
        }
        assert!(count >= SENDERS, "only {count} requests were sent");
    }
}

async fn send_all(client: Client, sender: usize, stop: Arc<AtomicBool>) -> Sent {
    let mut sent = Sent::default();
    while !stop.load(Ordering::SeqCst) {
        let body = format!("{sender}/{}", sent.count);
        let answer = echo(&client, &body).await;
        let is_echo = answer.as_ref().is_ok_and(|answer| answer["body"] == *body);
        if !is_echo {
            sent.wrong.push(format!("{body}: {answer:?}"));
        }
        sent.count += 1;
    }
    sent
}

/// Asks the receiver; an error is its status and text.
async fn echo(client: &Client, body: &str) -> Result<Value, String> {
    let answer = client
        .send_bytes(Method::POST, "/echo", "text/plain", body.to_owned())
        .await;
    match answer.status {
        200 => Ok(answer.json()),
        status => Err(format!("{status} {}", answer.text)),
    }
}

/// Checks that new requests see a change within the time, and from then on always.
async fn becomes_live(what: &str, client: &Client, is_so: impl Fn(&Result<Value, String>) -> bool) {
    let begun = Instant::now();
    loop {
        let answer = echo(client, "probe").await;
        if is_so(&answer) {
            break;
        }
        let waited = begun.elapsed();
        assert!(
            waited < LIVE_WITHIN,
            "{what} is not live after {waited:?}: {answer:?}"
        );
    }
    for _ in 0..20 {
        let answer = echo(client, "probe").await;
        assert!(is_so(&answer), "{what} was live and is not: {answer:?}");
    }
}

fn shows(field: &str, wanted: &str) -> impl Fn(&Result<Value, String>) -> bool {
    move |answer| answer.as_ref().is_ok_and(|answer| answer[field] == wanted)
}

fn is_refused(answer: &Result<Value, String>) -> bool {
    answer.is_err()
}

async fn change(tenant: &Tenant, installation: &str, change: Value) {
    let path = format!("/api/v1/installations/{installation}");
    tenant.write.patch(&path, &change).await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_change_under_load_and_no_request_fails() {
    each_database(async |server| {
        let process = server.process_id();
        let first = server.approve("echo-1").await;
        let changing = server.tenant("changing").await;
        let steady = server.tenant("steady").await;
        let unchanged = enable(
            &steady.write,
            &json!({
                "plugin": "echo", "settings": { "greeting": "steady" }, "digest": first["digest"],
            }),
        )
        .await;
        let steady_load = Load::start(&steady.otlp);

        // Enable: from nothing to an answer.
        assert!(is_refused(&echo(&changing.otlp, "x").await));
        let echo_id = changing
            .enable("echo", json!({ "greeting": "hello" }))
            .await;
        becomes_live("enabling", &changing.otlp, shows("greeting", "hello")).await;
        let load = Load::start(&changing.otlp);

        // Settings.
        change(
            &changing,
            &echo_id,
            json!({ "settings": { "greeting": "good day" } }),
        )
        .await;
        becomes_live(
            "new settings",
            &changing.otlp,
            shows("greeting", "good day"),
        )
        .await;

        // A new version, once it is approved and not before.
        let second = server.add("echo-2").await;
        assert_ne!(first["digest"], second["digest"]);
        assert_eq!(
            echo(&changing.otlp, "x").await.expect("it answers")["version"],
            "0.1.0"
        );
        server.approve("echo-2").await;
        becomes_live("an upgrade", &changing.otlp, shows("version", "0.2.0")).await;
        becomes_live(
            "settings over an upgrade",
            &changing.otlp,
            shows("greeting", "good day"),
        )
        .await;

        // Back to the first by a pin, and forward again without it.
        change(&changing, &echo_id, json!({ "digest": first["digest"] })).await;
        becomes_live("a pin", &changing.otlp, shows("version", "0.1.0")).await;
        change(&changing, &echo_id, json!({ "digest": null })).await;
        becomes_live(
            "the end of a pin",
            &changing.otlp,
            shows("version", "0.2.0"),
        )
        .await;

        // Nobody's request failed, neither where things changed nor where nothing did.
        load.end().await;

        // Disable for one tenant only.
        change(&changing, &echo_id, json!({ "enabled": false })).await;
        becomes_live("disabling", &changing.otlp, is_refused).await;
        change(&changing, &echo_id, json!({ "enabled": true })).await;
        becomes_live(
            "enabling again",
            &changing.otlp,
            shows("greeting", "good day"),
        )
        .await;
        let path = format!("/api/v1/installations/{echo_id}");
        changing.write.delete(&path).await.is(204);
        becomes_live("deleting", &changing.otlp, is_refused).await;

        steady_load.end().await;
        let shown = steady
            .read
            .get(&format!("/api/v1/installations/{unchanged}"))
            .await
            .is(200);
        assert_eq!(
            text(&shown["version"]),
            "0.1.0",
            "a pinned tenant stays where it is"
        );
        assert_eq!(server.process_id(), process, "it is the same process");
    })
    .await;
}

#[tokio::test]
async fn a_change_outlives_a_restart() {
    each_database(async |server| {
        let first = server.approve("echo-1").await;
        server.approve("echo-2").await;
        let tenant = server.tenant("acme").await;
        let body = json!({
            "plugin": "echo", "settings": { "greeting": "still here" }, "digest": first["digest"],
        });
        enable(&tenant.write, &body).await;
        server.kill();
        server.start_again(&[]).await;
        let tenant = server.found_again(&tenant);
        becomes_live(
            "the installation",
            &tenant.otlp,
            shows("greeting", "still here"),
        )
        .await;
        becomes_live("the pin", &tenant.otlp, shows("version", "0.1.0")).await;
    })
    .await;
}
