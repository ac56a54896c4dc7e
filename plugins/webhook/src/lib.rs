//! Posts every change of an alert as JSON, in the shape of Mackerel's webhook notification.
//!
//! A `2xx` answer is a receipt. What may pass (408, 425, 429, 5xx, no connection) is tried again, with the
//! same `Idempotency-Key`; a refused credential and every other answer are not.

use std::time::Duration;

use serde_json::{Value, json};
use shoal_sdk::channel::{Channel, Comparison, Notification, Receipt, Severity, Trigger};
use shoal_sdk::http::{Request, Response};
use shoal_sdk::{Context, Failure};

struct Webhook;

#[derive(serde::Deserialize)]
struct Settings {
    url: String,
    #[serde(default)]
    memo: String,
    token: Option<String>,
}

impl Channel for Webhook {
    type Settings = Settings;

    fn notify(
        ctx: &Context,
        notification: Notification,
        settings: Settings,
    ) -> Result<Receipt, Failure> {
        let mut request = Request::post(&settings.url)
            .header("content-type", "application/json")
            .header("idempotency-key", &ctx.idempotency_key)
            .body(body(&notification, &settings.memo).to_string())
            .timeout(Duration::from_secs(8));
        if let Some(token) = &settings.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        judge(&request.send()?)
    }
}

shoal_sdk::export_channel!(Webhook);

/// What an answer means for the delivery.
fn judge(response: &Response) -> Result<Receipt, Failure> {
    let status = response.status();
    let message = format!("the receiver answered {status}");
    match status {
        200..=299 => Ok(Receipt {
            summary: status.to_string(),
        }),
        401 | 403 => Err(Failure::unauthenticated("peer-refused", message)),
        408 | 425 | 429 | 500..=599 => Err(match response.retry_after() {
            Some(after) => Failure::retry_after("peer-busy", message, after),
            None => Failure::retry("peer-busy", message),
        }),
        _ => Err(Failure::rejected("peer-refused", message)),
    }
}

/// The body of Mackerel's webhook, event `alert`.
fn body(notification: &Notification, memo: &str) -> Value {
    let (alert, monitor) = (&notification.alert, &notification.monitor);
    let labels: serde_json::Map<String, Value> = alert
        .labels
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect();
    let name = labels
        .get("__name__")
        .and_then(Value::as_str)
        .unwrap_or(&monitor.name);
    json!({
        "orgName": notification.organization,
        "event": "alert",
        "type": monitor.kind,
        "message": alert.message,
        "memo": if memo.is_empty() { monitor.memo.as_str() } else { memo },
        "imageUrl": null,
        "metric": { "name": name, "labels": labels },
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
            "createdAt": alert.opened_unix_ms,
            "monitorName": monitor.name,
            "metricLabel": name,
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
        Trigger::Test => "test",
    }
}

fn seconds(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_sdk::channel::{Alert, Monitor};
    use shoal_sdk::double::FakeHost;

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
            json!({"name":"load","labels":{"__name__":"load","host":"web-1"}})
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
    fn the_answer_decides_what_happens_next() {
        let outcome = |status| deliver(r#"{"url":"http://h/"}"#, Response::new(status)).0;
        for status in [408, 425, 429, 500, 503] {
            assert!(
                matches!(outcome(status), Err(Failure::Retry(_))),
                "{status}"
            );
        }
        assert!(matches!(outcome(401), Err(Failure::Unauthenticated(_))));
        for status in [301, 400, 404, 410] {
            assert!(
                matches!(outcome(status), Err(Failure::Rejected(_))),
                "{status}"
            );
        }
        let busy = Response::new(429).with_header("retry-after", "7");
        let Err(Failure::Retry(retry)) = deliver(r#"{"url":"http://h/"}"#, busy).0 else {
            panic!("no retry")
        };
        assert_eq!(retry.after_ms, Some(7000));
    }
}
