//! Tells every change of an alert by mail, through the operator's relay.
//!
//! The text is for a phone's lock screen first: what, how bad, where; the rest follows. HTML says the same and holds no
//! text from outside that is not escaped.

use shoal_sdk::channel::{Channel, Comparison, Notification, Receipt, Severity, Trigger};
use shoal_sdk::mail::{self, MailError, Message};
use shoal_sdk::{Context, Failure};

struct Mail;

#[derive(serde::Deserialize)]
struct Settings {
    to: Vec<String>,
}

/// Labels told; more would hide the rest.
const LABELS_MAX: usize = 30;
/// Below the 400 bytes that the host takes, whatever the characters are.
const SUBJECT_MAX_CHARS: usize = 100;

impl Channel for Mail {
    type Settings = Settings;

    fn notify(
        _: &Context,
        notification: Notification,
        settings: Settings,
    ) -> Result<Receipt, Failure> {
        let lines = lines(&notification);
        let message = Message {
            to: settings.to,
            subject: subject(&notification),
            text: text(&lines),
            html: Some(html(&lines)),
        };
        match mail::send(&message) {
            Ok(summary) => Ok(Receipt { summary }),
            Err(MailError::Rejected(_)) if message.to.len() > 1 => one_by_one(&message),
            Err(error) => Err(error.into()),
        }
    }
}

shoal_sdk::export_channel!(Mail);

/// Writes to each alone, because one of them may be why all were refused. Told when at least one was.
fn one_by_one(message: &Message) -> Result<Receipt, Failure> {
    let (mut taken, mut refused) = (None, Vec::new());
    for address in &message.to {
        let alone = Message {
            to: vec![address.clone()],
            ..message.clone()
        };
        match mail::send(&alone) {
            Ok(summary) => taken = Some(summary),
            Err(MailError::Rejected(why)) => refused.push(format!("{address}: {why}")),
            // Who has it already gets the same message again, with the same name.
            Err(error) => return Err(error.into()),
        }
    }
    let refused = refused.join("; ");
    match taken {
        None => Err(MailError::Rejected(refused).into()),
        Some(summary) if refused.is_empty() => Ok(Receipt { summary }),
        Some(summary) => Ok(Receipt {
            summary: format!("{summary}; refused for {refused}"),
        }),
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "OK",
        Severity::Warning => "WARNING",
        Severity::Critical => "CRITICAL",
        Severity::Unknown => "UNKNOWN",
    }
}

/// Such as `[Acme] CRITICAL: Load (web-1)`.
fn subject(notification: &Notification) -> String {
    let (alert, monitor) = (&notification.alert, &notification.monitor);
    let mut labels = alert.labels.iter();
    let host = labels.find(|(name, _)| matches!(name.as_str(), "host" | "instance" | "host_name"));
    let place = host.map_or(String::new(), |(_, host)| format!(" ({host})"));
    let what = match alert.trigger {
        Trigger::Test => "test notification".to_owned(),
        _ => format!("{}: {}{place}", word(alert.severity), monitor.name),
    };
    let subject = format!("[{}] {what}", notification.organization);
    // Names come from people; a subject is one line.
    let is_shown = |c: &char| !c.is_control();
    subject
        .chars()
        .filter(is_shown)
        .take(SUBJECT_MAX_CHARS)
        .collect()
}

/// What is told, as names and values; a line without a name is a sentence.
fn lines(notification: &Notification) -> Vec<(String, String)> {
    let (alert, monitor) = (&notification.alert, &notification.monitor);
    let mut lines = vec![(String::new(), alert.message.clone())];
    let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
    if alert.trigger == Trigger::Test {
        line("Organization", notification.organization.clone());
        return lines;
    }
    line(
        "Status",
        format!("{} (was {})", word(alert.severity), word(alert.previous)),
    );
    line("Monitor", monitor.name.clone());
    if let Some(value) = alert.value {
        line("Value", format!("{value}{}", thresholds(notification)));
    }
    for (name, value) in alert.labels.iter().take(LABELS_MAX) {
        line(
            if name == "__name__" { "Metric" } else { name },
            value.clone(),
        );
    }
    match alert.trigger {
        Trigger::ManualClose => line("Closed", "by hand".to_owned()),
        Trigger::MonitorDeleted => line("Closed", "its monitor was deleted".to_owned()),
        Trigger::Monitor | Trigger::Test => {}
    }
    if !monitor.memo.is_empty() {
        line("Memo", monitor.memo.clone());
    }
    if !alert.url.is_empty() {
        line("Alert", alert.url.clone());
    }
    lines
}

/// Such as ` (warning > 5, critical > 10)`.
fn thresholds(notification: &Notification) -> String {
    let monitor = &notification.monitor;
    let sign = match monitor.comparison {
        Some(Comparison::Above) => ">",
        Some(Comparison::Below) => "<",
        None => return String::new(),
    };
    let both = [("warning", monitor.warning), ("critical", monitor.critical)];
    let set: Vec<_> = both
        .into_iter()
        .filter_map(|(name, bound)| Some(format!("{name} {sign} {}", bound?)))
        .collect();
    match set.as_slice() {
        [] => String::new(),
        set => format!(" ({})", set.join(", ")),
    }
}

fn text(lines: &[(String, String)]) -> String {
    let lines = lines.iter().map(|(name, value)| match name.as_str() {
        "" => format!("{value}\n\n"),
        name => format!("{name}: {value}\n"),
    });
    // A NUL would make the message no text.
    lines.collect::<String>().replace('\0', "")
}

fn html(lines: &[(String, String)]) -> String {
    let mut html = String::from("<!DOCTYPE html><html><body style=\"font-family:sans-serif\">");
    let mut rows = String::new();
    for (name, value) in lines {
        let value = match value.strip_prefix("https://") {
            Some(_) if name == "Alert" => {
                let url = escape(value);
                format!("<a href=\"{url}\">{url}</a>")
            }
            _ => escape(value).replace('\n', "<br>"),
        };
        match name.as_str() {
            "" => html.push_str(&format!("<p><strong>{value}</strong></p>")),
            name => rows.push_str(&format!(
                "<tr><td style=\"padding-right:1em\">{}</td><td>{value}</td></tr>",
                escape(name)
            )),
        }
    }
    html.push_str(&format!("<table>{rows}</table></body></html>"));
    html
}

fn escape(text: &str) -> String {
    text.replace('\0', "")
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
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
                message: "load is <7> & rising".into(),
                value: Some(7.0),
                labels: vec![
                    ("__name__".into(), "load".into()),
                    ("host".into(), "web-1".into()),
                ],
                opened_unix_ms: 1_500,
                changed_unix_ms: 1_500,
                closed_unix_ms: None,
                url: "https://shoal.example/alerts/1".into(),
            },
            monitor: Monitor {
                id: "mon_1".into(),
                name: "Load".into(),
                kind: "query".into(),
                memo: "see the\nrunbook".into(),
                warning: Some(3.5),
                critical: Some(5.0),
                comparison: Some(Comparison::Above),
            },
        }
    }

    fn deliver(
        answer: impl FnMut(&Message) -> Result<String, MailError> + 'static,
    ) -> (Result<Receipt, Failure>, Vec<Message>) {
        let host = FakeHost::new().mail(answer);
        let ctx = Context {
            installation: "ins_0".into(),
            attempt: 1,
            idempotency_key: "ntf_1".into(),
            deadline_unix_ms: 0,
            traceparent: None,
        };
        let settings = r#"{"to":["a@example.com","b@example.com"]}"#;
        let settings = shoal_sdk::parse_settings(settings).expect("good settings");
        let receipt = Mail::notify(&ctx, notification(), settings);
        (receipt, host.messages())
    }

    #[test]
    fn a_message_says_what_where_and_how_bad() {
        let (receipt, messages) = deliver(|_| Ok("250 queued".to_owned()));
        assert_eq!(receipt.expect("told").summary, "250 queued");
        let [message] = messages.as_slice() else {
            panic!("one message: {messages:?}")
        };
        assert_eq!(message.to, ["a@example.com", "b@example.com"]);
        assert_eq!(message.subject, "[Acme] CRITICAL: Load (web-1)");
        assert_eq!(
            message.text,
            "load is <7> & rising\n\nStatus: CRITICAL (was OK)\nMonitor: Load\nValue: 7 (warning > 3.5, critical > 5)\nMetric: load\nhost: web-1\nMemo: see the\nrunbook\nAlert: https://shoal.example/alerts/1\n"
        );
        let html = message.html.as_deref().expect("HTML");
        assert!(html.contains("load is &lt;7&gt; &amp; rising"), "{html}");
        assert!(
            html.contains("<a href=\"https://shoal.example/alerts/1\">"),
            "{html}"
        );
        assert!(html.contains("see the<br>runbook"), "{html}");
    }

    #[test]
    fn names_with_line_breaks_stay_in_one_line() {
        let mut odd = notification();
        odd.monitor.name = "Load\r\nBcc: everybody@example.com".into();
        assert_eq!(
            subject(&odd),
            "[Acme] CRITICAL: LoadBcc: everybody@example.com (web-1)"
        );
        odd.monitor.name = "長".repeat(500);
        assert!(subject(&odd).len() <= 400);
    }

    #[test]
    fn one_wrong_address_keeps_nobody_else_from_being_told() {
        let (receipt, messages) =
            deliver(
                |message| match message.to.iter().any(|to| to == "a@example.com") {
                    true => Err(MailError::Rejected("550 no such user".to_owned())),
                    false => Ok("250 queued".to_owned()),
                },
            );
        let summary = receipt.expect("b was told").summary;
        assert_eq!(
            summary,
            "250 queued; refused for a@example.com: 550 no such user"
        );
        assert_eq!(messages.len(), 3);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let retry = |_: &Message| Err(MailError::Retry("451 busy".to_owned()));
        assert!(matches!(deliver(retry).0, Err(Failure::Retry(_))));
        let rejected = |_: &Message| Err(MailError::Rejected("550 no".to_owned()));
        assert!(matches!(deliver(rejected).0, Err(Failure::Rejected(_))));
        let denied = |_: &Message| Err(MailError::Denied("not granted".to_owned()));
        assert!(matches!(deliver(denied).0, Err(Failure::Rejected(_))));
    }
}
