//! A channel: posts every change of an alert as a line of text, in JSON.

use shoal_sdk::channel::{Channel, Notification, Receipt, Severity};
use shoal_sdk::http::Request;
use shoal_sdk::{Context, Failure, json};

struct Plugin;

/// As plugin.toml describes them; the host has checked them and filled in the defaults.
#[derive(serde::Deserialize)]
struct Settings {
    url: String,
}

impl Channel for Plugin {
    type Settings = Settings;

    /// A receipt says that the receiver has it. What may pass is `retry`: the host tries again.
    fn notify(ctx: &Context, told: Notification, settings: Settings) -> Result<Receipt, Failure> {
        let body = json!({ "text": line(&told) }).to_string();
        let response = Request::post(&settings.url)
            .header("content-type", "application/json")
            .header("idempotency-key", ctx.idempotency_key.as_str())
            .body(body)
            .send()?;
        Receipt::from_response(&response)
    }
}

shoal_sdk::export_channel!(Plugin);

fn line(told: &Notification) -> String {
    let severity = match told.alert.severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
        Severity::Unknown => "unknown",
    };
    format!("{severity}: {}", told.alert.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_sdk::channel::{Alert, Monitor, Trigger};
    use shoal_sdk::double::FakeHost;
    use shoal_sdk::http::Response;

    fn told() -> Notification {
        Notification {
            organization: "Example Inc.".into(),
            alert: Alert {
                id: "alt_1".into(),
                severity: Severity::Critical,
                previous: Severity::Ok,
                trigger: Trigger::Monitor,
                message: "load is 5".into(),
                value: Some(5.0),
                labels: Vec::new(),
                opened_unix_ms: 0,
                changed_unix_ms: 0,
                closed_unix_ms: None,
                url: String::new(),
            },
            monitor: Monitor {
                id: "mon_1".into(),
                name: "load".into(),
                kind: "query".into(),
                memo: String::new(),
                warning: None,
                critical: Some(4.0),
                comparison: None,
            },
        }
    }

    fn notify(status: u16) -> (Result<Receipt, Failure>, Vec<Request>) {
        let host = FakeHost::new().http(move |_| Ok(Response::new(status)));
        let ctx = Context {
            installation: "ins_0".into(),
            attempt: 1,
            idempotency_key: "ntf_1".into(),
            deadline_unix_ms: 0,
            traceparent: None,
        };
        let settings = shoal_sdk::parse_settings(r#"{ "url": "https://example.com/" }"#);
        let receipt = Plugin::notify(&ctx, told(), settings.expect("good settings"));
        (receipt, host.requests())
    }

    #[test]
    fn an_alert_becomes_a_line() {
        let (receipt, requests) = notify(204);
        assert_eq!(receipt.expect("delivered").summary, "204");
        let body = String::from_utf8_lossy(requests[0].body_bytes()).into_owned();
        assert_eq!(body, r#"{"text":"critical: load is 5"}"#);
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        assert!(matches!(notify(503).0, Err(Failure::Retry(_))));
        assert!(matches!(notify(404).0, Err(Failure::Rejected(_))));
    }
}
