//! Frames and statuses; whole calls are tested with the real process and a public client.

use super::*;
use crate::ingest::admission::Admission;
use crate::ingest::receive::tests::{bearer, fixture};

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![flag];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

#[test]
fn one_message_is_taken_out_of_its_frame() {
    let (encoding, message) = unframe(framed(0, b"abc"), Encoding::Gzip).expect("one message");
    assert_eq!((encoding, &*message), (Encoding::Identity, &b"abc"[..]));
    let (encoding, _) = unframe(framed(1, b"abc"), Encoding::Gzip).expect("one message");
    assert_eq!(encoding, Encoding::Gzip);
    for (frame, says) in [
        (vec![0, 0, 0], "carries no message"),
        (
            framed(0, b"abc")[..7].to_vec(),
            "announces a message of 3 bytes and carries 2",
        ),
        (
            [framed(0, b"abc"), framed(0, b"d")].concat(),
            "carries one message",
        ),
        (framed(1, b"abc"), "names no grpc-encoding"),
        (framed(2, b"abc"), "compression flag is 2"),
    ] {
        let problem = unframe(frame, Encoding::Identity).expect_err("refused");
        assert_eq!(problem.grpc_code, 3);
        assert!(problem.message.contains(says), "{}", problem.message);
    }
}

#[test]
fn a_status_tells_when_to_come_back_in_both_places() {
    let long = "é".repeat(5000);
    let status = status(14, &long, Some(Duration::from_secs(2)));
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message().len(), MESSAGE_MAX_BYTES);
    assert!(status.details().ends_with(b"\x0a\x02\x08\x02"));
    let metadata = status.metadata().get_bin("google.rpc.retryinfo-bin");
    let bytes = metadata.and_then(|value| value.to_bytes().ok());
    assert_eq!(bytes.as_deref(), Some(&b"\x0a\x02\x08\x02"[..]));
}

async fn code_of(request: http::request::Builder, fixture: &Arc<Receivers>) -> String {
    let request = request
        .method("POST")
        .uri("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")
        .header("content-type", "application/grpc")
        .body(Body::new(
            Full::new(Bytes::from(framed(0, b""))).map_err(|never| match never {}),
        ))
        .expect("a request");
    let mut unary = Unary {
        receivers: fixture.clone(),
    };
    let response = unary.call(request).await.expect("it never fails");
    let status = response.headers().get("grpc-status");
    status.map_or_else(String::new, |it| it.to_str().unwrap_or("?").to_owned())
}

#[tokio::test]
async fn refusals_are_statuses() {
    let fixture = fixture(Admission::default()).await;
    let unauthenticated = code_of(Request::builder(), &fixture.receivers).await;
    assert_eq!(unauthenticated, "16");
    let mut request = Request::builder();
    request
        .headers_mut()
        .expect("nothing is wrong with it")
        .extend(bearer(&fixture.write_key));
    assert_eq!(code_of(request, &fixture.receivers).await, "12");
}

#[tokio::test]
async fn an_answer_is_a_frame_and_a_trailer() {
    let response = success(b"ok".to_vec());
    let body = response.into_body().collect().await.expect("a body");
    let trailers = body.trailers().cloned().expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(body.to_bytes(), framed(0, b"ok"));
}
