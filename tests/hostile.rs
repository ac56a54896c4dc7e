//! A plugin that misbehaves harms nobody but itself: its call ends with a clear error, and meanwhile every call of
//! another tenant succeeds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Client, Database, Listener, Server, Tenant, eventually, otlp};

/// Posts a word to the hostile receiver, which does as it says.
async fn behave(client: &Client, word: &str) -> Answer {
    client
        .send_bytes(Method::POST, "/hostile", "text/plain", word.to_owned())
        .await
}

/// Calls of another tenant, one after the other, until told to end.
async fn well_behaved(client: Client, stop: Arc<AtomicBool>) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let value = f64::from(u32::try_from(count).expect("few"));
        let answer = otlp::post(&client, &otlp::gauge("neighbour", "beat", value)).await;
        answer.is(200);
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_receiver_ends_in_a_clear_error_while_its_neighbours_work() {
    let server = Server::start(Database::sqlite()).await;
    for package in ["hostile-receiver", "otlp"] {
        server.approve(package).await;
    }
    let hostile = server.tenant("hostile").await;
    let neighbour = server.tenant("neighbour").await;
    hostile.enable("hostile-receiver", json!({})).await;
    neighbour.enable("otlp", json!({})).await;
    assert_eq!(behave(&hostile.otlp, "well").await.text, "behaved");

    let stop = Arc::new(AtomicBool::new(false));
    let beats = tokio::spawn(well_behaved(neighbour.otlp.clone(), stop.clone()));
    for (word, says) in [
        ("loop", "300 ms are allowed"),
        ("memory", "memory"),
        ("panic", "this plugin panics because it was asked to"),
        ("flood", "ms are allowed"),
        ("refuse", "this plugin refuses because it was asked to"),
        ("nonsense", "no behaviour"),
    ] {
        let answer = behave(&hostile.otlp, word).await;
        assert!(answer.status >= 400, "{word}: {answer:?}");
        assert!(
            answer.text.contains(says),
            "{word}: {answer:?} does not say {says:?}"
        );
        // A failure leaves nothing behind.
        assert_eq!(
            behave(&hostile.otlp, "well").await.text,
            "behaved",
            "after {word}"
        );
    }
    stop.store(true, Ordering::SeqCst);
    let count = beats.await.expect("every call of the neighbour succeeds");
    assert!(count > 0, "the neighbour called nobody");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_calls_in_parallel_do_not_starve_their_neighbours() {
    let server = Server::start(Database::sqlite()).await;
    for package in ["hostile-receiver", "otlp"] {
        server.approve(package).await;
    }
    let hostile = server.tenant("hostile").await;
    let neighbour = server.tenant("neighbour").await;
    hostile.enable("hostile-receiver", json!({})).await;
    neighbour.enable("otlp", json!({})).await;
    otlp::post(&neighbour.otlp, &otlp::gauge("neighbour", "beat", 0.0))
        .await
        .is(200);

    let stop = Arc::new(AtomicBool::new(false));
    let beats = tokio::spawn(well_behaved(neighbour.otlp.clone(), stop.clone()));
    let attacks: Vec<_> = (0..16)
        .map(|at| {
            let client = hostile.otlp.clone();
            let word = if at % 2 == 0 { "loop" } else { "memory" };
            tokio::spawn(async move { behave(&client, word).await.status })
        })
        .collect();
    for attack in attacks {
        let status = attack.await.expect("an answer");
        assert!(status >= 400, "an attack was answered with {status}");
    }
    stop.store(true, Ordering::SeqCst);
    let count = beats.await.expect("every call of the neighbour succeeds");
    assert!(count >= 2, "the neighbour could call only {count} times");
    server.stop().await;
}

/// How a check misbehaves, what its calls are counted as, and what its tenant is told.
const BEHAVIOURS: [(&str, &str, &str); 9] = [
    ("loop", "limit-cpu", "200 ms are allowed"),
    ("allocate", "limit-memory", "bytes of memory are allowed"),
    ("recurse", "trapped", "the plugin crashed"),
    ("panic", "panicked", "the guest panicked on purpose"),
    ("big-output", "limit-output", "at once are allowed"),
    ("many-measurements", "bad-answer", "breaks its contract"),
    ("bad-name", "bad-answer", "breaks its contract"),
    ("reject", "rejected", "rejected on purpose"),
    ("retry", "retry", "later on purpose"),
];

#[tokio::test(flavor = "multi_thread")]
async fn hostile_checks_are_told_what_they_did_while_a_neighbours_check_goes_on() {
    let server = Server::start(Database::sqlite()).await;
    let page = Listener::start().await;
    for package in ["hostile", "http-check"] {
        server.approve(package).await;
    }
    let hostile = server.tenant("hostile").await;
    let neighbour = server.tenant("neighbour").await;
    for (deed, _, _) in BEHAVIOURS {
        let settings = json!({ "do": deed, "url": page.url("/") });
        hostile.enable_check("hostile", deed, settings).await;
    }
    neighbour
        .enable_check("http-check", "page", json!({ "url": page.url("/") }))
        .await;

    for (deed, _, says) in BEHAVIOURS {
        let message = last_error(&hostile, deed).await;
        assert!(
            message.contains(says),
            "{deed}: {message:?} does not say {says:?}"
        );
    }
    eventually("three good runs of the neighbour's check", async || {
        let runs = neighbour
            .value_of("sum_over_time(http_check_up[10m])")
            .await;
        runs.filter(|count| *count >= 3.0)
    })
    .await;
    let worst = neighbour
        .value_of("min_over_time(http_check_up[10m])")
        .await;
    assert_eq!(worst, Some(1.0), "the neighbour's check failed");

    let wanted: BTreeSet<String> = BEHAVIOURS
        .iter()
        .map(|(_, code, _)| (*code).to_owned())
        .collect();
    eventually("count of each outcome", async || {
        (outcomes(&server, "hostile").await == wanted).then_some(())
    })
    .await;
    assert_eq!(
        outcomes(&server, "http-check").await,
        BTreeSet::from(["done".to_owned()])
    );
    server.stop().await;
}

/// Why a check could not run, as its tenant sees it.
async fn last_error(tenant: &Tenant, name: &str) -> String {
    eventually(&format!("reason why {name} could not run"), async || {
        let list = tenant.read.get("/api/v1/checks").await.is(200);
        let checks = list["checks"].as_array().expect("a list");
        let check = checks.iter().find(|check| check["name"] == name)?;
        check["last_error"].as_str().map(str::to_owned)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_reaches_no_other_host_than_the_one_it_was_granted() {
    let server = Server::start(Database::sqlite()).await;
    let (granted, forbidden) = (Listener::start().await, Listener::start().await);
    server.approve("hostile").await;
    let tenant = server.tenant("acme").await;
    let settings =
        json!({ "do": "connect", "url": granted.url("/"), "target": forbidden.url("/") });
    tenant.enable_check("hostile", "connect", settings).await;
    eventually("refusal", async || {
        outcomes(&server, "hostile")
            .await
            .contains("rejected")
            .then_some(())
    })
    .await;
    assert_eq!((granted.requests(), forbidden.requests()), (0, 0));
    assert_eq!(tenant.value_of("hostile_up").await, None);

    let allowed = json!({ "do": "connect", "url": granted.url("/") });
    tenant.enable_check("hostile", "allowed", allowed).await;
    eventually("answer of the granted page", async || {
        tenant.value_of("hostile_up").await
    })
    .await;
    assert!(granted.requests() > 0);
    assert_eq!(forbidden.requests(), 0);
    server.stop().await;
}

/// What the calls of a plugin were counted as, in the operator's own metrics.
async fn outcomes(server: &Server, plugin: &str) -> BTreeSet<String> {
    let query = format!("shoal_plugin_calls_total{{plugin=\"{plugin}\"}}");
    let series = server.operator().series_of(&query).await;
    series
        .iter()
        .filter_map(|(labels, _)| labels["outcome"].as_str().map(str::to_owned))
        .collect()
}
