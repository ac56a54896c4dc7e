//! Requests as clients send them, answers as clients read them; the host is played by the SDK's double.

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use prost::Message;
use shoal_otlp_decoder::generate::{self, Workload};
use shoal_sdk::double::FakeHost;
use shoal_sdk::ingest::{Metrics, Rejection};

use super::*;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";
const ONE_GOOD_ONE_BAD: &str = r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [
    {"name": "up", "gauge": {"dataPoints": [{"timeUnixNano": "5", "asInt": 1}]}},
    {"name": "odd", "sum": {"dataPoints": [{"timeUnixNano": "5", "asInt": 1}]}}
]}]}]}"#;

fn context() -> Context {
    Context {
        installation: "ins_1".to_owned(),
        attempt: 1,
        idempotency_key: String::new(),
        deadline_unix_ms: 0,
        traceparent: None,
    }
}

fn receive(request: Request) -> Response {
    Otlp::receive(&context(), request, Settings {}).expect("every request has an answer")
}

fn post(content_type: &str, body: impl Into<Vec<u8>>) -> Response {
    receive(Request {
        transport: Transport::Http,
        endpoint: "/v1/metrics".to_owned(),
        method: "POST".to_owned(),
        content_type: content_type.to_owned(),
        body: body.into(),
    })
}

fn call(body: impl Into<Vec<u8>>) -> Response {
    receive(Request {
        transport: Transport::Grpc,
        endpoint: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export".to_owned(),
        method: "POST".to_owned(),
        content_type: "application/grpc".to_owned(),
        body: body.into(),
    })
}

/// A body of 8 points in protobuf.
fn good_body() -> Vec<u8> {
    let workload = Workload {
        hosts: 1,
        metrics: 4,
        points: 2,
        ..Workload::default()
    };
    generate::body(&workload, 1, 60_000_000_000)
}

/// A host that takes everything.
fn host() -> FakeHost {
    FakeHost::new().ingest(|batch| Ok(all_of(batch)))
}

fn all_of(batch: &Metrics) -> Committed {
    Committed {
        accepted: (batch.numbers.series.len() + batch.histograms.series.len()) as u64,
        rejected: 0,
        rejections: Vec::new(),
    }
}

/// A host that fails.
fn failing(error: impl Fn() -> IngestError + 'static) -> FakeHost {
    FakeHost::new().ingest(move |_| Err(error()))
}

#[track_caller]
fn text(response: &Response) -> &str {
    str::from_utf8(&response.body).expect("JSON is text")
}

/// `google.rpc.Status`, as its definition has it.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    value: Option<RetryInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Duration>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn status(response: &Response) -> Status {
    Status::decode(&response.body[..]).expect("a google.rpc.Status")
}

#[test]
fn a_good_request_is_stored_and_answered_in_its_own_form() {
    let host = host();
    let http = post(PROTOBUF, good_body());
    assert_eq!((http.status, http.content_type.as_str()), (200, PROTOBUF));
    assert_eq!(http.body, b"");
    let grpc = call(good_body());
    assert_eq!((grpc.status, grpc.message.as_str()), (0, ""));
    assert_eq!(grpc.body, b"");
    let body = ONE_GOOD_ONE_BAD.replace("odd\", \"sum", "even\", \"gauge");
    let json = post(JSON, body);
    assert_eq!((json.status, json.content_type.as_str()), (200, JSON));
    assert_eq!(text(&json), "{}");
    let batches = host.batches();
    let points: Vec<usize> = batches.iter().map(|b| b.numbers.values.len()).collect();
    assert_eq!(points, [8, 8, 2]);
    assert_eq!(batches[0], batches[1]);
    assert_eq!(batches[0].series.kinds, [1, 1, 1, 1, 0, 0, 2, 2]);
}

#[test]
fn an_empty_request_succeeds_without_asking_the_host() {
    let host = FakeHost::new();
    assert_eq!(post(PROTOBUF, "").status, 200);
    assert_eq!(post(JSON, "{}").status, 200);
    assert_eq!(call("").status, 0);
    assert!(host.batches().is_empty());
}

#[test]
fn rejected_points_are_a_partial_success() {
    let _host = host();
    let response = post(JSON, ONE_GOOD_ONE_BAD);
    assert_eq!(response.status, 200);
    let unspecified = "aggregation_temporality is unspecified; send cumulative (2) or delta (1)";
    let message = format!("1 of 2 data points were rejected: odd: 1 point: {unspecified}");
    assert_eq!(
        text(&response),
        format!(r#"{{"partialSuccess":{{"errorMessage":"{message}","rejectedDataPoints":"1"}}}}"#)
    );
}

#[test]
fn what_the_host_refuses_is_told_as_well() {
    let _host = FakeHost::new().ingest(|_| {
        Ok(Committed {
            accepted: 5,
            rejected: 3,
            rejections: vec![Rejection {
                series: 0,
                points: 3,
                reason: "http.server.request.v0.count is above the limit of 100 series".to_owned(),
            }],
        })
    });
    for response in [post(PROTOBUF, good_body()), call(good_body())] {
        let answer = ExportMetricsServiceResponse::decode(&response.body[..]).expect("an answer");
        assert_eq!(
            answer.partial_success,
            Some(ExportMetricsPartialSuccess {
                rejected_data_points: 3,
                error_message: "3 of 8 data points were rejected: \
                    3 points: http.server.request.v0.count is above the limit of 100 series"
                    .to_owned(),
            })
        );
    }
}

#[test]
fn bad_data_is_named_in_the_form_of_the_request() {
    let host = host();
    let message = "not a protobuf ExportMetricsServiceRequest: at byte 2: \
        a field is longer than what is left of its message";
    let http = post(PROTOBUF, [0x0a, 9]);
    assert_eq!((http.status, http.content_type.as_str()), (400, PROTOBUF));
    let expected = Status {
        code: 3,
        message: message.to_owned(),
        details: Vec::new(),
    };
    assert_eq!(status(&http), expected);
    let grpc = call([0x0a, 9]);
    assert_eq!((grpc.status, grpc.message.as_str()), (3, message));
    assert_eq!(status(&grpc), expected);
    let json = post(JSON, r#"{"resourceMetrics": [7]}"#);
    assert_eq!((json.status, json.content_type.as_str()), (400, JSON));
    assert_eq!(
        text(&json),
        r#"{"code":3,"message":"not an OTLP/JSON ExportMetricsServiceRequest: resourceMetrics[0]: expected an object, found a number (byte 21)"}"#
    );
    assert!(host.batches().is_empty());
}

#[test]
fn other_methods_and_content_types_are_refused_with_what_to_do() {
    let _host = host();
    let response = post("text/plain", "up 1");
    assert_eq!(
        (response.status, response.content_type.as_str()),
        (415, JSON)
    );
    assert!(text(&response).contains("\\\"text/plain\\\" is not supported; send application/x-"));
    let response = receive(Request {
        transport: Transport::Http,
        endpoint: "/v1/metrics".to_owned(),
        method: "GET".to_owned(),
        content_type: String::new(),
        body: Vec::new(),
    });
    assert_eq!(response.status, 405);
    assert!(text(&response).contains("the method GET is not allowed here; use POST"));
}

#[test]
fn an_overloaded_host_is_told_with_the_time_to_wait() {
    let _host = failing(|| IngestError::Overloaded(1500));
    for (response, code) in [(post(PROTOBUF, good_body()), 503), (call(good_body()), 14)] {
        assert_eq!(
            (response.status, response.retry_after_ms),
            (code, Some(1500))
        );
        let status = status(&response);
        assert_eq!(status.code, 14);
        let [detail] = &status.details[..] else {
            panic!("{status:?}");
        };
        assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.RetryInfo");
        let delay = detail
            .value
            .as_ref()
            .and_then(|info| info.retry_delay.clone());
        let expected = Duration {
            seconds: 1,
            nanos: 500_000_000,
        };
        assert_eq!(delay, Some(expected));
    }
    let json = post(JSON, ONE_GOOD_ONE_BAD);
    assert_eq!((json.status, json.retry_after_ms), (503, Some(1500)));
    assert!(text(&json).contains(r#""retryDelay":"1.500s""#));
}

#[test]
fn a_host_that_cannot_store_is_worth_another_try_and_a_malformed_batch_is_not() {
    let unavailable = failing(|| IngestError::Unavailable("disk full".to_owned()));
    for (response, code) in [(post(PROTOBUF, good_body()), 503), (call(good_body()), 14)] {
        assert_eq!((response.status, response.retry_after_ms), (code, None));
        let message = "the metrics could not be stored: disk full";
        assert_eq!(status(&response).message, message);
    }
    drop(unavailable);
    let malformed = failing(|| IngestError::Malformed("series.names[0]: is empty".to_owned()));
    for (response, code) in [(post(PROTOBUF, good_body()), 500), (call(good_body()), 13)] {
        assert_eq!(response.status, code);
        let message = "the receiver made a malformed batch: series.names[0]: is empty";
        assert_eq!(status(&response).message, message);
    }
    assert_eq!(malformed.lines().len(), 2);
}

#[test]
fn a_body_above_the_limit_is_refused_for_good() {
    let _host = host();
    let body = vec![0; shoal_otlp_decoder::BODY_BYTES_MAX + 1];
    assert_eq!(post(PROTOBUF, body.clone()).status, 413);
    let grpc = call(body);
    assert_eq!((grpc.status, grpc.retry_after_ms), (8, None));
    assert!(status(&grpc).details.is_empty());
}

#[test]
fn a_failed_request_leaves_nothing_for_the_next() {
    let host = host();
    post(PROTOBUF, [good_body(), vec![0x0a, 9]].concat());
    post(PROTOBUF, good_body());
    let batches = host.batches();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].numbers.values.len(), 8);
}
