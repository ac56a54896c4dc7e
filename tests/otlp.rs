//! OTLP with the public exporters: what they send is stored exactly, and what they are refused they understand.
//!
//! The exporters are Python's, because nothing of ours is in them, in the environment that `SHOAL_TEST_PYTHON` names;
//! `cargo xtask test` makes it. What was stored is read back through the API after a restart, sample by sample.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::Samples;
use crate::support::{Client, Database, Server, Tenant, each_database, now_ms, otlp};

/// How often the process is killed.
const KILLS: u32 = 20;
/// Those who send while it is.
const SENDERS: usize = 4;

/// Runs the client script; returns what it saw.
async fn client(arguments: &[&str]) -> Value {
    let python = std::env::var("SHOAL_TEST_PYTHON").unwrap_or_else(|_| {
        panic!("set SHOAL_TEST_PYTHON, or run these tests with: cargo xtask test --only road")
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/otlp/client.py");
    let mut command = Command::new(python);
    command.arg(script).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output
        .expect("it does not panic")
        .expect("the Python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| {
        let errors = String::from_utf8_lossy(&output.stderr);
        panic!("{arguments:?}: {text}\n{errors}")
    })
}

/// A tenant with the OTLP receiver.
async fn receiving(server: &Server) -> Tenant {
    server.approve("otlp").await;
    let tenant = server.tenant("shop").await;
    tenant.enable("otlp", json!({})).await;
    tenant
}

fn grpc(server: &Server) -> String {
    server.address("otlp_grpc").expect("it listens")
}

/// Everything of the last hour that a key can see, at a time.
async fn stored(client: &Client, at_ms: i64) -> Samples {
    client.samples_of("{__name__=~\".+\"}[1h]", at_ms).await
}

/// Names and the labels that tell points apart, with the values at `at`.
fn shown(stored: &Samples, at: i64) -> BTreeMap<String, f64> {
    let mut shown = BTreeMap::new();
    for (labels, samples) in stored {
        let name = labels.filtered(|name| ["__name__", "le", "quantile"].contains(&name));
        for (_, value) in samples.iter().filter(|(time, _)| *time == at) {
            shown.insert(name.to_string(), *value);
        }
    }
    shown
}

/// What `client.py export` sends, as series.
const EXPORTED: [(&str, f64); 19] = [
    ("data_sent_bytes_total", 1000.0),
    ("latency_seconds_bucket{le=\"+Inf\"}", 6.0),
    ("latency_seconds_bucket{le=\"0.1\"}", 1.0),
    ("latency_seconds_bucket{le=\"1\"}", 3.0),
    ("latency_seconds_count", 6.0),
    ("latency_seconds_max", 2.0),
    ("latency_seconds_min", 0.05),
    ("latency_seconds_sum", 1.5),
    ("queue_length", -7.0),
    ("requests_total", 42.0),
    ("size_bytes_bucket{le=\"+Inf\"}", 4.0),
    ("size_bytes_bucket{le=\"0\"}", 1.0),
    ("size_bytes_bucket{le=\"4\"}", 3.0),
    ("size_bytes_bucket{le=\"8\"}", 4.0),
    ("size_bytes_count", 4.0),
    ("size_bytes_max", 7.0),
    ("size_bytes_min", 0.0),
    ("size_bytes_sum", 20.0),
    ("temperature_celsius", 21.5),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_point_is_stored_exactly_whatever_the_transport() {
    each_database(async |server| {
        let shop = receiving(server).await;
        let http = server.address("otlp_http").expect("it listens");
        let grpc = grpc(server);
        let begun = now_ms() - 60_000;
        let ways = [
            ("http", &http, "none"),
            ("http", &http, "gzip"),
            ("grpc", &grpc, "none"),
            ("grpc", &grpc, "gzip"),
        ];
        for (at, (protocol, endpoint, compression)) in (begun..).zip(ways) {
            let nano = (at * 1_000_000).to_string();
            let key = shop.write.key();
            let said = client(&["export", protocol, endpoint, key, compression, &nano]).await;
            assert_eq!(
                said["result"], "SUCCESS",
                "{protocol} {compression}: {said}"
            );
        }
        for (protocol, endpoint, compression) in ways {
            let key = shop.write.key();
            let said = client(&["measure", protocol, endpoint, key, compression]).await;
            assert_eq!(
                said["result"], "SUCCESS",
                "{protocol} {compression}: {said}"
            );
        }
        let at = begun + 10;
        let nano = (at * 1_000_000).to_string();
        let said = client(&["summary", &http, shop.write.key(), &nano]).await;
        assert_eq!(said["status"], 200, "{said}");

        server.end().await;
        let ended = now_ms();
        server.start_again(&[]).await;
        let shop = server.found_again(&shop);
        let stored = stored(&shop.read, ended).await;
        let mut wanted: BTreeMap<String, f64> = EXPORTED
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        wanted.insert("threads".to_owned(), 12.0);
        for time in begun..begun + 4 {
            assert_eq!(
                shown(&stored, time),
                wanted,
                "sent as number {}",
                time - begun
            );
        }
        let summary = shown(&stored, at);
        let values: Vec<f64> = summary.values().copied().collect();
        let names: Vec<&str> = summary.keys().map(String::as_str).collect();
        let quantiles = [
            "rpc_count",
            "rpc_sum",
            "rpc{quantile=\"0.5\"}",
            "rpc{quantile=\"0.99\"}",
        ];
        assert_eq!(
            (names, values),
            (quantiles.to_vec(), vec![10.0, 30.0, 3.0, 9.0])
        );
        check_labels(&stored);
        for (protocol, _, compression) in ways {
            check_measured(&shop, &format!("{protocol}-{compression}")).await;
        }
        check_own_metrics(&self::stored(server.operator(), ended).await);
    })
    .await;
}

/// What an application measured with the SDK's instruments, as its users ask for it.
async fn check_measured(shop: &Tenant, way: &str) {
    for (name, wanted) in [
        ("orders_total{job=\"shop\",WAY}", 3.0),
        ("carts{host_name=\"web-1\",WAY}", -2.0),
        ("outside_celsius{WAY}", 21.5),
        ("checkout_seconds_count{WAY}", 3.0),
        ("checkout_seconds_sum{WAY}", 5.55),
        ("checkout_seconds_bucket{le=\"0.1\",WAY}", 1.0),
        ("checkout_seconds_bucket{le=\"1\",WAY}", 2.0),
        ("checkout_seconds_bucket{le=\"+Inf\",WAY}", 3.0),
    ] {
        let promql = name.replace("WAY", &format!("shop=\"{way}\""));
        let value = shop.value_of(&promql).await;
        let is_close = value.is_some_and(|value| (value - wanted).abs() < 1e-9);
        assert!(is_close, "{promql} is {value:?}, not {wanted}");
    }
}

#[track_caller]
fn check_labels(stored: &Samples) {
    let series = stored
        .keys()
        .find(|labels| labels.metric_name() == Some("temperature_celsius"));
    let labels = series.expect("it was sent").to_string();
    for label in [
        "host_id=\"h-1\"",
        "host_name=\"web-1\"",
        "job=\"shop\"",
        "k=\"v\"",
        "otel_scope_name=\"test.scope\"",
        "otel_scope_part=\"tests\"",
        "otel_scope_version=\"1.2\"",
        "process_pid=\"42\"",
        "service_name=\"shop\"",
    ] {
        assert!(labels.contains(label), "{labels} has no {label}");
    }
}

/// What the server told of itself while it ended.
#[track_caller]
fn check_own_metrics(own: &Samples) {
    let last = |name: &str, outcome: &str| {
        let matching = own.iter().filter(|(labels, _)| {
            labels.metric_name() == Some(name)
                && [labels.get("outcome"), labels.get("result"), Some("")].contains(&Some(outcome))
        });
        let values = matching.filter_map(|(_, samples)| samples.last());
        values.map(|(_, value)| value).sum::<f64>()
    };
    // Four exports, twice four reports of instruments (the second at their shutdown), a summary.
    assert_eq!(last("shoal_ingest_requests_total", "done"), 13.0);
    // Seven metrics four times, four instruments eight times, a summary of four parts.
    assert_eq!(last("shoal_ingest_points_total", "accepted"), 64.0);
    assert_eq!(last("shoal_ingest_points_total", "rejected"), 0.0);
    assert!(last("shoal_ingest_bytes_total", "") > 1000.0);
    assert!(last("shoal_store_samples_committed_total", "") > 80.0);
    assert!(last("shoal_runtime_slots", "") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn exporters_understand_why_they_are_refused() {
    let server = Server::start(Database::sqlite()).await;
    let shop = receiving(&server).await;
    let http = server.address("otlp_http").expect("it listens");
    let (protobuf, key) = ("application/x-protobuf", shop.write.key());

    let said = client(&["post", &http, "nonsense", protobuf, "10"]).await;
    assert_eq!(
        (&said["status"], &said["content_type"]),
        (&json!(401), &json!(protobuf))
    );
    let said = client(&["post", &http, shop.read.key(), protobuf, "10"]).await;
    assert_eq!(said["status"], 403, "{said}");
    let said = client(&["post", &http, key, protobuf, "10"]).await;
    assert_eq!(
        (&said["status"], &said["content_type"]),
        (&json!(400), &json!(protobuf))
    );
    assert!(
        said["message"]
            .as_str()
            .is_some_and(|it| it.contains("at byte 0")),
        "{said}"
    );
    let said = client(&["post", &http, key, "application/json", "10"]).await;
    assert_eq!(
        (&said["status"], &said["content_type"]),
        (&json!(400), &json!("application/json"))
    );
    let said = client(&["post", &http, key, "text/plain", "10"]).await;
    assert_eq!(said["status"], 415, "{said}");
    let said = client(&["call", &grpc(&server), "nonsense", "10"]).await;
    assert_eq!(said["code"], "UNAUTHENTICATED", "{said}");
    let said = client(&["call", &grpc(&server), key, "10"]).await;
    assert_eq!(said["code"], "INVALID_ARGUMENT", "{said}");

    let nobody = server.tenant("nobody").await;
    for said in [
        client(&["post", &http, nobody.write.key(), protobuf, "10"]).await,
        client(&["call", &grpc(&server), nobody.write.key(), "10"]).await,
    ] {
        assert!(
            [&said["status"], &said["code"]]
                .iter()
                .any(|it| **it == 404 || **it == "UNIMPLEMENTED")
        );
        let help = "shoal plugin enable otlp --tenant nobody";
        assert!(
            said["message"].as_str().is_some_and(|it| it.contains(help)),
            "{said}"
        );
    }
    for protocol in ["http", "grpc"] {
        let endpoint = if protocol == "http" {
            http.clone()
        } else {
            grpc(&server)
        };
        let nano = (now_ms() * 1_000_000).to_string();
        let said = client(&["export", protocol, &endpoint, "nonsense", "none", &nano]).await;
        assert_eq!(said["result"], "FAILURE", "{protocol}");
    }
    server.stop().await;
}

/// A connection that has sent all but the last byte of the longest body.
fn holding(address: &str, key: &str) -> TcpStream {
    const LENGTH: usize = 64 << 20;
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "POST /v1/metrics HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {key}\r\n\
         content-type: application/x-protobuf\r\ncontent-length: {LENGTH}\r\n\r\n"
    )
    .expect("it is read");
    stream.write_all(&vec![0; LENGTH - 1]).expect("it is read");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_takes_all_its_room_is_told_when_to_come_back_and_others_go_on() {
    let server = Server::start(Database::sqlite()).await;
    let shop = receiving(&server).await;
    let other = server.tenant("other").await;
    other.enable("otlp", json!({})).await;
    let http = server.address("otlp_http").expect("it listens");
    let address = http.trim_start_matches("http://").to_owned();
    let key = shop.write.key().to_owned();
    let held =
        tokio::task::spawn_blocking(move || [holding(&address, &key), holding(&address, &key)]);
    let held = held.await.expect("both are taken");
    // The server may still have some of it in its sockets.
    let key = shop.write.key();
    let said = loop {
        let said = client(&["post", &http, key, "application/x-protobuf", "2000000"]).await;
        if said["status"] != 400 {
            break said;
        }
    };
    assert_eq!(
        (&said["status"], &said["retry_after"]),
        (&json!(429), &json!("1")),
        "{said}"
    );
    let said = client(&["call", &grpc(&server), key, "2000000"]).await;
    assert_eq!(
        (&said["code"], &said["retry_seconds"]),
        (&json!("RESOURCE_EXHAUSTED"), &json!(1))
    );
    let retry_info = json!(["type.googleapis.com/google.rpc.RetryInfo"]);
    assert_eq!(said["details"], retry_info);
    otlp::post(&other.otlp, &otlp::gauge("web-1", "beat", 1.0))
        .await
        .is(200);
    drop(held);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_long_or_strangely_packed_are_refused_for_good() {
    let server = Server::start(Database::sqlite()).await;
    let shop = receiving(&server).await;
    for (headers, status) in [
        ("content-length: 67108865", 413),
        ("content-encoding: br\r\ncontent-length: 1", 415),
        ("content-encoding: gzip\r\ncontent-length: 1", 400),
    ] {
        let address = shop.otlp.base.trim_start_matches("http://").to_owned();
        let key = shop.otlp.key().to_owned();
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("it listens");
            write!(
                stream,
                "POST /v1/metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-api-key: {key}\r\n{headers}\r\n\r\nx"
            )
            .expect("it is read");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        let answer = answer.await.expect("no panic").expect("an answer");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{headers}: {answer}"
        );
    }
    let answer = shop
        .otlp
        .send_bytes(Method::GET, otlp::METRICS, "application/json", "")
        .await;
    assert_eq!(answer.status, 405);
    server.stop().await;
}

/// Sends one sample after the other, each at a time of its own, until the server is gone; returns those that
/// were acknowledged.
async fn send_until_it_is_gone(client: Client, sender: usize, from_ms: i64) -> BTreeSet<i64> {
    let mut acknowledged = BTreeSet::new();
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    for at in from_ms.. {
        let body = otlp::gauges(&format!("host-{sender}"), at, &[("beat", at as f64)]);
        let request = http
            .post(format!("{}{}", client.base, otlp::METRICS))
            .bearer_auth(client.key())
            .header("content-type", "application/json")
            .body(body.to_string());
        match request.send().await {
            Ok(answer) if answer.status() == 200 => acknowledged.insert(at),
            Ok(answer) => panic!("the server answered {}", answer.status()),
            Err(_) => return acknowledged,
        };
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let mut server = Server::start(Database::sqlite()).await;
    let mut shop = receiving(&server).await;
    let begun = now_ms() - 1_000_000;
    let mut wanted = vec![BTreeSet::new(); SENDERS];
    for kill in 0..KILLS {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let from = begun + i64::from(kill) * 10_000;
                tokio::spawn(send_until_it_is_gone(shop.otlp.clone(), sender, from))
            })
            .collect();
        let [random] = shoal_server::random::bytes::<1>();
        tokio::time::sleep(Duration::from_millis(50 + u64::from(random))).await;
        server.kill();
        for (sender, acknowledged) in senders.into_iter().enumerate() {
            wanted[sender].extend(acknowledged.await.expect("only the kill ends it"));
        }
        server.start_again(&[]).await;
        shop = server.found_again(&shop);
    }
    let stored = stored(&shop.read, now_ms()).await;
    for (sender, wanted) in wanted.iter().enumerate() {
        assert!(
            wanted.len() >= KILLS as usize,
            "{} acknowledged",
            wanted.len()
        );
        let host = format!("host-{sender}");
        let series = stored
            .iter()
            .find(|(labels, _)| labels.get("host_name") == Some(&host));
        let found: BTreeSet<i64> = series
            .map(|(_, samples)| samples.iter().map(|(at, _)| *at).collect())
            .unwrap_or_default();
        let lost: Vec<&i64> = wanted.difference(&found).collect();
        assert!(
            lost.is_empty(),
            "{host} lost {} of {}: {lost:?}",
            lost.len(),
            wanted.len()
        );
    }
    server.stop().await;
}
