//! Posts every change of an alert as JSON, in the shape of Mackerel's webhook notification.
//!
//! A `2xx` answer is a receipt. What may pass (408, 425, 429, 5xx, no connection) is tried again, with the
//! same `Idempotency-Key`; a refused credential and every other answer are not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use shoal_sdk::channel::{Alert, Channel, Comparison, Notification, Receipt, Severity, Trigger};
use shoal_sdk::http::Request;
use shoal_sdk::secrets::{self, KeyEncoding};
use shoal_sdk::{Context, Failure};

struct Webhook;

#[derive(serde::Deserialize)]
struct Settings {
    url: String,
    #[serde(default)]
    memo: String,
    token: Option<String>,
    signing_secret: Option<String>,
}

/// Below the 10 seconds that a channel has, so that a slow receiver is a clear answer.
const TIMEOUT: Duration = Duration::from_secs(8);

impl Channel for Webhook {
    type Settings = Settings;

    fn notify(
        ctx: &Context,
        notification: Notification,
        settings: Settings,
    ) -> Result<Receipt, Failure> {
        let body = body(&notification, &settings.memo).to_string();
        let mut request = Request::post(&settings.url)
            .header("content-type", "application/json")
            .header("user-agent", "Shoal-Webhook")
            .header("idempotency-key", &ctx.idempotency_key)
            .body(body.as_str())
            .timeout(TIMEOUT);
        if let Some(traceparent) = &ctx.traceparent {
            request = request.header("traceparent", traceparent);
        }
        if let Some(token) = &settings.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(secret) = &settings.signing_secret {
            request = signed(request, secret, &ctx.idempotency_key, now_seconds(), &body)?;
        }
        Receipt::from_response(&request.send()?)
    }
}

shoal_sdk::export_channel!(Webhook);

/// Signs a delivery after the Standard Webhooks specification, so that its receiver can trust it. The host computes the
/// signature, for it alone has the key.
fn signed(
    request: Request,
    secret: &str,
    id: &str,
    unix_seconds: u64,
    body: &str,
) -> Result<Request, Failure> {
    let signing = format!("{id}.{unix_seconds}.{body}");
    let signature = secrets::hmac_sha256(secret, KeyEncoding::Base64, signing.as_bytes())?;
    let signature = BASE64.encode(signature);
    Ok(request
        .header("webhook-id", id)
        .header("webhook-timestamp", unix_seconds.to_string())
        .header("webhook-signature", format!("v1,{signature}")))
}

/// The body of Mackerel's webhook: event `alert`, or `sample` for a test.
fn body(notification: &Notification, memo: &str) -> Value {
    let (alert, monitor) = (&notification.alert, &notification.monitor);
    if alert.trigger == Trigger::Test {
        return json!({
            "orgName": notification.organization,
            "event": "sample",
            "message": alert.message,
            "imageUrl": null,
        });
    }
    let (metric, labels) = metric(alert);
    let metric = metric.unwrap_or(&monitor.name);
    json!({
        "orgName": notification.organization,
        "event": "alert",
        "type": monitor.kind,
        "message": alert.message,
        "memo": if memo.is_empty() { monitor.memo.as_str() } else { memo },
        "imageUrl": null,
        "metric": { "name": metric, "labels": labels },
        "alert": {
            "id": alert.id,
            "status": status(alert.severity),
            "previousStatus": status(alert.previous),
            "isOpen": alert.closed_unix_ms.is_none(),
            "trigger": trigger(alert.trigger),
            "url": alert.url,
            "openedAt": seconds(alert.opened_unix_ms),
            "closedAt": alert.closed_unix_ms.map(seconds),
            "statusChangedAt": seconds(alert.changed_unix_ms),
            // Milliseconds, unlike the others; Mackerel keeps it for old receivers.
            "createdAt": alert.opened_unix_ms,
            "monitorName": monitor.name,
            "metricLabel": metric,
            "metricValue": alert.value,
            "criticalThreshold": monitor.critical,
            "warningThreshold": monitor.warning,
            "monitorOperator": monitor.comparison.map(|comparison| match comparison {
                Comparison::Above => ">",
                Comparison::Below => "<",
            }),
        },
    })
}

/// Name and labels of what the alert is about; a check's alert has no metric name.
fn metric(alert: &Alert) -> (Option<&str>, Map<String, Value>) {
    let mut labels = Map::new();
    let mut metric = None;
    for (name, value) in &alert.labels {
        match name.as_str() {
            "__name__" => metric = Some(value.as_str()),
            _ => drop(labels.insert(name.clone(), Value::from(value.as_str()))),
        }
    }
    (metric, labels)
}

fn status(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
        Severity::Unknown => "unknown",
    }
}

fn trigger(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Monitor => "monitor",
        Trigger::ManualClose => "manual close",
        Trigger::MonitorDeleted => "delete monitor",
        // Never sent with event `alert`.
        Trigger::Test => "test",
    }
}

fn seconds(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(1000)
}

fn now_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_sdk::channel::Monitor;
    use shoal_sdk::double::FakeHost;
    use shoal_sdk::http::Response;

    fn notification() -> Notification {
        Notification {
            organization: "Acme".into(),
            alert: Alert {
                id: "alt_1".into(),
                severity: Severity::Critical,
                previous: Severity::Ok,
                trigger: Trigger::Monitor,
                message: "load is 7".into(),
                value: Some(7.0),
                labels: vec![
                    ("__name__".into(), "load".into()),
                    ("host".into(), "web-1".into()),
                ],
                opened_unix_ms: 1_500,
                changed_unix_ms: 1_500,
                closed_unix_ms: None,
                url: String::new(),
            },
            monitor: Monitor {
                id: "mon_1".into(),
                name: "Load".into(),
                kind: "query".into(),
                memo: "see the runbook".into(),
                warning: None,
                critical: Some(5.0),
                comparison: Some(Comparison::Above),
            },
        }
    }

    fn deliver(settings: &str, answer: Response) -> (Result<Receipt, Failure>, Vec<Request>) {
        let host = FakeHost::new().http(move |_| Ok(answer.clone()));
        let ctx = Context {
            installation: "ins_0".into(),
            attempt: 2,
            idempotency_key: "ntf_1".into(),
            deadline_unix_ms: 0,
            traceparent: None,
        };
        let settings = shoal_sdk::parse_settings(settings).expect("good settings");
        (
            Webhook::notify(&ctx, notification(), settings),
            host.requests(),
        )
    }

    #[test]
    fn the_body_is_mackerels() {
        let (receipt, requests) = deliver(r#"{"url":"http://h/","token":"t"}"#, Response::new(204));
        assert_eq!(receipt.expect("delivered").summary, "204");
        assert_eq!(requests[0].header_value("idempotency-key"), Some("ntf_1"));
        assert_eq!(requests[0].header_value("authorization"), Some("Bearer t"));
        let body: Value = serde_json::from_slice(requests[0].body_bytes()).expect("JSON");
        assert_eq!(body["orgName"], "Acme");
        assert_eq!(body["event"], "alert");
        assert_eq!(body["memo"], "see the runbook");
        assert_eq!(
            body["metric"],
            json!({"name":"load","labels":{"host":"web-1"}})
        );
        assert_eq!(body["alert"]["status"], "critical");
        assert_eq!(body["alert"]["isOpen"], true);
        assert_eq!(body["alert"]["openedAt"], 1);
        assert_eq!(body["alert"]["createdAt"], 1500);
        assert_eq!(body["alert"]["closedAt"], Value::Null);
        assert_eq!(body["alert"]["monitorOperator"], ">");
        assert_eq!(body["alert"]["criticalThreshold"], 5.0);
    }

    #[test]
    fn a_test_is_mackerels_sample() {
        let mut test = notification();
        test.alert.trigger = Trigger::Test;
        assert_eq!(
            body(&test, ""),
            json!({"orgName":"Acme","event":"sample","message":"load is 7","imageUrl":null})
        );
    }

    #[test]
    fn a_closed_alert_says_when() {
        let mut closed = notification();
        closed.alert.severity = Severity::Ok;
        closed.alert.previous = Severity::Critical;
        closed.alert.trigger = Trigger::MonitorDeleted;
        closed.alert.closed_unix_ms = Some(61_999);
        let alert = &body(&closed, "")["alert"];
        assert_eq!(alert["isOpen"], false);
        assert_eq!(alert["closedAt"], 61);
        assert_eq!(alert["status"], "ok");
        assert_eq!(alert["trigger"], "delete monitor");
    }

    #[test]
    fn the_settings_memo_goes_before_the_monitors() {
        assert_eq!(body(&notification(), "call Ann")["memo"], "call Ann");
    }

    /// The example of the specification's reference implementations.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let _host = FakeHost::new().secret("shoal-secret-1", key);
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let text = r#"{"test": 2432232314}"#;
        let request = signed(
            Request::post("http://h/"),
            "shoal-secret-1",
            id,
            1_614_265_330,
            text,
        );
        let request = request.expect("signed");
        assert_eq!(request.header_value("webhook-id"), Some(id));
        assert_eq!(
            request.header_value("webhook-timestamp"),
            Some("1614265330")
        );
        assert_eq!(
            request.header_value("webhook-signature"),
            Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
    }

    #[test]
    fn what_cannot_be_signed_is_not_sent() {
        let settings = r#"{"url":"http://h/","signing_secret":"not a reference"}"#;
        let (receipt, requests) = deliver(settings, Response::new(200));
        let failure = receipt.expect_err("refused");
        assert!(matches!(failure, Failure::Rejected(_)), "{failure:?}");
        assert_eq!(requests, []);
    }
}
