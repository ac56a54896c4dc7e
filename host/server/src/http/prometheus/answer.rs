//! Answers and errors in Prometheus' shapes.
//!
//! Large answers are written as text at once: a tree of JSON values would take ten times the memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value as Json, json};
use shoal_model::Labels;
use shoal_model::telemetry::MetricKind;
use shoal_promql::{Point, Value};
use shoal_store::MetricMetadata;

use crate::http::ApiError;
use crate::query::{AskError, Found, Listed};

/// An error as Prometheus' clients expect it.
pub(super) struct PrometheusError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl PrometheusError {
    /// 400: a parameter makes no sense.
    pub(super) fn bad_data(message: impl Into<String>) -> PrometheusError {
        PrometheusError {
            status: StatusCode::BAD_REQUEST,
            kind: "bad_data",
            message: message.into(),
        }
    }
}

impl From<AskError> for PrometheusError {
    fn from(error: AskError) -> PrometheusError {
        let (status, kind) = match &error {
            AskError::Bad(_) => (StatusCode::BAD_REQUEST, "bad_data"),
            AskError::Execution(_) => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            AskError::Timeout(_) => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            AskError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        PrometheusError {
            status,
            kind,
            message: error.to_string(),
        }
    }
}

/// What is wrong with the caller or with us, in the same shape.
impl From<ApiError> for PrometheusError {
    fn from(error: ApiError) -> PrometheusError {
        let status = error.status();
        let kind = if status.is_server_error() {
            "internal"
        } else {
            "bad_data"
        };
        PrometheusError {
            status,
            kind,
            message: error.message().to_owned(),
        }
    }
}

impl IntoResponse for PrometheusError {
    fn into_response(self) -> Response {
        let body = json!({ "status": "error", "errorType": self.kind, "error": self.message });
        (self.status, axum::Json(body)).into_response()
    }
}

/// Any data that is not large.
pub(super) fn success(data: Json) -> Response {
    axum::Json(json!({ "status": "success", "data": data })).into_response()
}

/// Names or values, and what may be missing.
pub(super) fn listed(list: &Listed<Vec<String>>) -> Response {
    with_warnings(json!(list.found), &list.warnings)
}

fn with_warnings(data: Json, warnings: &[String]) -> Response {
    match warnings {
        [] => success(data),
        _ => axum::Json(json!({ "status": "success", "data": data, "warnings": warnings }))
            .into_response(),
    }
}

/// The answer to a query.
pub(super) fn evaluated(found: &Found) -> Response {
    let mut body = String::from(r#"{"status":"success","data":{"resultType":"#);
    value(&mut body, &found.value);
    body.push('}');
    for (name, notes) in [("warnings", &found.warnings), ("infos", &found.infos)] {
        if !notes.is_empty() {
            let _ = write!(body, r#","{name}":{}"#, json!(notes));
        }
    }
    body.push('}');
    document(body)
}

/// The label sets of series.
pub(super) fn series(all: &Listed<Vec<Labels>>) -> Response {
    let mut body = String::from(r#"{"status":"success","data":"#);
    list(&mut body, &all.found, labels);
    if !all.warnings.is_empty() {
        let _ = write!(body, r#","warnings":{}"#, json!(all.warnings));
    }
    body.push('}');
    document(body)
}

/// Kind and unit of metrics.
pub(super) fn metadata(all: &Listed<BTreeMap<String, MetricMetadata>>) -> Response {
    let of = |about: &MetricMetadata| json!([{ "type": kind(about.kind), "help": "", "unit": &*about.unit }]);
    let data: serde_json::Map<String, Json> = all
        .found
        .iter()
        .map(|(name, about)| (name.clone(), of(about)))
        .collect();
    with_warnings(Json::Object(data), &all.warnings)
}

fn kind(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter | MetricKind::DeltaCounter => "counter",
        MetricKind::Gauge | MetricKind::UpDownCounter | MetricKind::DeltaUpDownCounter => "gauge",
        MetricKind::Histogram | MetricKind::DeltaHistogram => "histogram",
        MetricKind::Summary => "summary",
    }
}

fn document(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn value(to: &mut String, value: &Value) {
    match value {
        Value::Scalar(point) => {
            to.push_str(r#""scalar","result":"#);
            write_point(to, *point);
        }
        Value::String(text) => {
            let _ = write!(to, r#""string","result":[0,{}]"#, json!(text));
        }
        Value::Vector(samples) => {
            to.push_str(r#""vector","result":"#);
            list(to, samples, |to, sample| {
                to.push_str(r#"{"metric":"#);
                labels(to, &sample.labels);
                to.push_str(r#","value":"#);
                write_point(to, sample.point);
                to.push('}');
            });
        }
        Value::Matrix(all) => {
            to.push_str(r#""matrix","result":"#);
            list(to, all, |to, series| {
                to.push_str(r#"{"metric":"#);
                labels(to, &series.labels);
                to.push_str(r#","values":"#);
                list(to, &series.points, |to, point| write_point(to, *point));
                to.push('}');
            });
        }
    }
}

fn list<T>(to: &mut String, all: &[T], one: impl Fn(&mut String, &T)) {
    to.push('[');
    for (at, item) in all.iter().enumerate() {
        if at > 0 {
            to.push(',');
        }
        one(to, item);
    }
    to.push(']');
}

fn labels(to: &mut String, labels: &Labels) {
    to.push('{');
    for (at, label) in labels.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let (name, value) = (json!(&*label.name), json!(&*label.value));
        let _ = write!(to, "{comma}{name}:{value}");
    }
    to.push('}');
}

/// `[seconds,"value"]`: the value is text, because JSON has neither infinities nor NaN.
fn write_point(to: &mut String, point: Point) {
    let (seconds, ms) = (
        point.time_ms.div_euclid(1000),
        point.time_ms.rem_euclid(1000),
    );
    let _ = match ms {
        0 => write!(to, "[{seconds},\""),
        _ => write!(to, "[{},\"", point.time_ms as f64 / 1000.0),
    };
    let _ = match point.value {
        value if value.is_nan() => write!(to, "NaN"),
        f64::INFINITY => write!(to, "+Inf"),
        f64::NEG_INFINITY => write!(to, "-Inf"),
        value => write!(to, "{value}"),
    };
    to.push_str("\"]");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(time_ms: i64, value: f64, expected: &str) {
        let mut text = String::new();
        write_point(&mut text, Point { time_ms, value });
        assert_eq!(text, expected);
    }

    #[test]
    fn points_are_written_as_prometheus_does() {
        check(1_435_781_451_781, 1.0, r#"[1435781451.781,"1"]"#);
        check(60_000, 0.1, r#"[60,"0.1"]"#);
        check(0, f64::INFINITY, r#"[0,"+Inf"]"#);
        check(-1500, f64::NEG_INFINITY, r#"[-1.5,"-Inf"]"#);
        check(0, f64::NAN, r#"[0,"NaN"]"#);
        check(0, 1e21, r#"[0,"1000000000000000000000"]"#);
    }

    #[test]
    fn names_and_values_are_escaped() {
        let mut text = String::new();
        labels(&mut text, &Labels::from_pairs([("a", "x\"\n"), ("b", "é")]));
        assert_eq!(text, r#"{"a":"x\"\n","b":"é"}"#);
    }
}
