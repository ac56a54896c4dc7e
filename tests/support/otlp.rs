//! A minimal sender of OTLP in JSON.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Client, now_ms};

/// The path of OTLP over HTTP.
pub(crate) const METRICS: &str = "/v1/metrics";

/// One gauge of one host, now: `name` as OpenTelemetry has it, without a unit.
pub(crate) fn gauge(host: &str, name: &str, value: f64) -> Value {
    gauges(host, now_ms(), &[(name, value)])
}

/// Gauges of one host at one time.
pub(crate) fn gauges(host: &str, at_ms: i64, values: &[(&str, f64)]) -> Value {
    let metrics: Vec<Value> = values
        .iter()
        .map(|(name, value)| {
            let point = json!({
                "timeUnixNano": (at_ms * 1_000_000).to_string(),
                "asDouble": value,
            });
            json!({ "name": name, "gauge": { "dataPoints": [point] } })
        })
        .collect();
    json!({ "resourceMetrics": [{
        "resource": { "attributes": [
            { "key": "host.id", "value": { "stringValue": host } },
            { "key": "host.name", "value": { "stringValue": host } },
            { "key": "service.name", "value": { "stringValue": "road" } },
        ] },
        "scopeMetrics": [{ "metrics": metrics }],
    }] })
}

/// Posts a body to the port of receivers; `client` stands at that port.
pub(crate) async fn post(client: &Client, body: &Value) -> Answer {
    client
        .send_bytes(Method::POST, METRICS, "application/json", body.to_string())
        .await
}
