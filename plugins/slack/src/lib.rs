//! Tells every change of an alert in a Slack channel, through an incoming webhook.
//!
//! Text from outside is escaped as Slack asks (`&`, `<`, `>`), so that a host's name cannot mention people.

use std::time::Duration;

use serde_json::{Value, json};
use shoal_sdk::channel::{Channel, Notification, Receipt, Severity};
use shoal_sdk::http::{Request, Response};
use shoal_sdk::{Context, Failure};

struct Slack;

#[derive(serde::Deserialize)]
struct Settings {
    url: String,
    #[serde(default)]
    mention: String,
}

/// Labels shown; more would push the message out of sight.
const LABELS_MAX: usize = 10;

impl Channel for Slack {
    type Settings = Settings;

    fn notify(
        _: &Context,
        notification: Notification,
        settings: Settings,
    ) -> Result<Receipt, Failure> {
        let request = Request::post(&settings.url)
            .header("content-type", "application/json")
            .body(message(&notification, &settings.mention).to_string())
            .timeout(Duration::from_secs(8));
        judge(&request.send()?)
    }
}

shoal_sdk::export_channel!(Slack);

/// What Slack's answer means. Source: "Sending messages using incoming webhooks", errors.
fn judge(response: &Response) -> Result<Receipt, Failure> {
    match response.status() {
        // The address is the credential: a revoked one is not found.
        status @ (404 | 410) => {
            let text: String = response.text().chars().take(200).collect();
            let message = format!("the webhook is gone, Slack answered {status}: {text}");
            Err(Failure::unauthenticated("webhook-refused", message))
        }
        _ => Receipt::from_response(response),
    }
}

/// One attachment, coloured by severity.
fn message(notification: &Notification, mention: &str) -> Value {
    let (alert, monitor) = (&notification.alert, &notification.monitor);
    let (word, colour) = match alert.severity {
        Severity::Ok => ("OK", "#2eb67d"),
        Severity::Warning => ("WARNING", "#ecb22e"),
        Severity::Critical => ("CRITICAL", "#e01e5a"),
        Severity::Unknown => ("UNKNOWN", "#999999"),
    };
    let headline = format!(
        "[{}] {word}: {}",
        escape(&notification.organization),
        escape(&monitor.name)
    );
    let title = if alert.url.is_empty() {
        headline.clone()
    } else {
        format!("<{}|{headline}>", alert.url)
    };
    let is_mentioned = alert.severity == Severity::Critical && !mention.is_empty();
    let text = if is_mentioned {
        format!("{mention} {title}")
    } else {
        title
    };
    let fields: Vec<Value> = alert
        .labels
        .iter()
        .take(LABELS_MAX)
        .map(
            |(name, value)| json!({ "title": escape(name), "value": escape(value), "short": true }),
        )
        .collect();
    json!({
        "text": text,
        "attachments": [{
            "fallback": format!("{headline} {}", escape(&alert.message)),
            "color": colour,
            "text": escape(&alert.message),
            "fields": fields,
            "ts": alert.changed_unix_ms.div_euclid(1000),
        }],
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_sdk::channel::{Alert, Monitor, Trigger};
    use shoal_sdk::double::FakeHost;

    fn notification(severity: Severity) -> Notification {
        Notification {
            organization: "A&B".into(),
            alert: Alert {
                id: "alt_1".into(),
                severity,
                previous: Severity::Ok,
                trigger: Trigger::Monitor,
                message: "<!channel> is high".into(),
                value: Some(7.0),
                labels: (0..20)
                    .map(|at| (format!("l{at}"), "v".to_owned()))
                    .collect(),
                opened_unix_ms: 0,
                changed_unix_ms: 2_000,
                closed_unix_ms: None,
                url: "https://shoal.example/alerts/1".into(),
            },
            monitor: Monitor {
                id: "mon_1".into(),
                name: "Load".into(),
                kind: "query".into(),
                memo: String::new(),
                warning: None,
                critical: None,
                comparison: None,
            },
        }
    }

    #[test]
    fn text_from_outside_cannot_mention_anybody() {
        let message = message(&notification(Severity::Critical), "<!here>");
        assert_eq!(
            message["text"],
            "<!here> <https://shoal.example/alerts/1|[A&amp;B] CRITICAL: Load>"
        );
        let attachment = &message["attachments"][0];
        assert_eq!(attachment["text"], "&lt;!channel&gt; is high");
        assert_eq!(attachment["color"], "#e01e5a");
        assert_eq!(attachment["ts"], 2);
        assert_eq!(
            attachment["fields"].as_array().map(Vec::len),
            Some(LABELS_MAX)
        );
    }

    #[test]
    fn only_what_is_critical_mentions() {
        let message = message(&notification(Severity::Ok), "<!here>");
        assert_eq!(
            message["text"],
            "<https://shoal.example/alerts/1|[A&amp;B] OK: Load>"
        );
    }

    #[test]
    fn the_answer_decides_what_happens_next() {
        let outcome = |status: u16| {
            let _host =
                FakeHost::new().http(move |_| Ok(Response::new(status).with_body("no_service")));
            let ctx = Context {
                installation: "ins_0".into(),
                attempt: 1,
                idempotency_key: "k".into(),
                deadline_unix_ms: 0,
                traceparent: None,
            };
            let settings =
                shoal_sdk::parse_settings(r#"{"url":"https://h/"}"#).expect("good settings");
            Slack::notify(&ctx, notification(Severity::Ok), settings)
        };
        assert!(outcome(200).is_ok());
        assert!(matches!(outcome(404), Err(Failure::Unauthenticated(_))));
        assert!(matches!(outcome(429), Err(Failure::Retry(_))));
        assert!(matches!(outcome(400), Err(Failure::Rejected(_))));
        assert_eq!(
            outcome(400).expect_err("refused").message(),
            "the receiver answered 400: no_service"
        );
    }
}
