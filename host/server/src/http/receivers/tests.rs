//! What the host refuses, in the client's own words; what plugins answer is tested with the real process.

use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::ingest::admission::Admission;
use crate::ingest::receive::tests::{Fixture, fixture};

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

async fn post(fixture: &Fixture, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = http::Request::post("/v1/metrics");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.into()).expect("a request");
    let router = router(fixture.receivers.clone());
    let response = router.oneshot(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await.expect("a body").to_bytes().to_vec(),
    }
}

#[tokio::test]
async fn a_refusal_is_in_the_form_of_the_request() {
    let fixture = fixture(Admission::default()).await;
    let protobuf = ("content-type", "application/x-protobuf; charset=utf-8");
    let answer = post(&fixture, &[protobuf], "").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.headers[CONTENT_TYPE], PROTOBUF);
    assert_eq!(answer.headers[WWW_AUTHENTICATE], "Bearer");
    assert!(
        answer.body.starts_with(b"\x08\x10\x12"),
        "{:?}",
        answer.body
    );
    for content_type in ["application/json", "text/plain", ""] {
        let answer = post(&fixture, &[("content-type", content_type)], "").await;
        assert_eq!(answer.headers[CONTENT_TYPE], JSON);
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(body["code"], 16);
    }
}

#[tokio::test]
async fn without_a_receiver_the_answer_says_how_to_get_one() {
    let fixture = fixture(Admission::default()).await;
    let key = ("x-api-key", &*fixture.write_key);
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    bomb.write_all(&[0; 100_000]).expect("into memory");
    let bomb = bomb.finish().expect("into memory");
    let answer = post(&fixture, &[key, ("content-encoding", "gzip")], bomb).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 404, "{text}");
    assert!(
        text.contains("shoal plugin enable otlp --tenant acme"),
        "{text}"
    );
}

#[test]
fn a_refusal_that_may_pass_says_when_to_come_back() {
    let problem = Problem {
        retry_after: Some(Duration::from_millis(1200)),
        ..Problem::unavailable("busy")
    };
    let response = refusal(problem, JSON);
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()[RETRY_AFTER], "2");
}

#[test]
fn a_plugins_answer_is_passed_on_as_it_is() {
    let response = answer(ReceiverResponse {
        status: 429,
        content_type: "text/plain".to_owned(),
        retry_after: Some(Duration::ZERO),
        message: String::new(),
        body: b"later".to_vec(),
    });
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
}

#[test]
fn content_types_lose_their_parameters() {
    for (sent, wanted) in [
        ("Application/JSON; charset=UTF-8", "application/json"),
        ("application/x-protobuf", "application/x-protobuf"),
        ("", ""),
    ] {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, sent.parse().expect("a header"))]);
        assert_eq!(content_type(&headers), wanted);
    }
    let long = "a/".repeat(200).parse().expect("a header");
    assert_eq!(
        content_type(&HeaderMap::from_iter([(CONTENT_TYPE, long)])),
        ""
    );
}
