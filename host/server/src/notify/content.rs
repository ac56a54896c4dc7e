//! What a channel is told: an alert as it is now, put into the contract's words.

use shoal_model::Timestamp;
use shoal_model::alert::Severity;
use shoal_runtime::{Notification, NotifiedAlert, NotifiedMonitor, Trigger};

use crate::db::alerts::{self, Alert, MonitorNote, TransitionRow};

/// An alert as it is now, for a channel that was told `told` of it last.
pub fn of_alert(
    organization: &str,
    public_url: &str,
    alert: &Alert,
    latest: Option<&TransitionRow>,
    told: Option<Severity>,
) -> Notification {
    let before_latest = latest.map_or(Severity::Ok, |latest| latest.from);
    Notification {
        organization: organization.to_owned(),
        alert: NotifiedAlert {
            id: alert.id.clone(),
            severity: alert.severity,
            previous: match told {
                Some(told) => told,
                // Nobody knew of it: it was as bad as this before it was over.
                None if alert.closed_at.is_some() => before_latest,
                None => Severity::Ok,
            },
            trigger: match latest.map(|latest| latest.trigger) {
                Some(alerts::Trigger::ManualClose) => Trigger::ManualClose,
                Some(alerts::Trigger::MonitorDeleted) => Trigger::MonitorDeleted,
                Some(alerts::Trigger::Monitor) | None => Trigger::Monitor,
            },
            message: alert.message.clone(),
            value: alert.value,
            labels: alert
                .labels
                .iter()
                .map(|label| (label.name.to_string(), label.value.to_string()))
                .collect(),
            opened: alert.opened_at,
            changed: alert.changed_at,
            closed: alert.closed_at,
            url: url(public_url, &alert.id),
        },
        monitor: monitor(&alert.monitor),
    }
}

/// The same for a channel that stands in for another one.
pub fn in_place_of(channel: &str, notification: &Notification) -> Notification {
    let mut told = notification.clone();
    let message = &notification.alert.message;
    told.alert.message =
        format!("{message} (told here in place of the channel {channel:?}, whose plugin is down)");
    told
}

/// What a channel is told to see whether it works.
pub fn of_test(organization: &str, id: &str, now: Timestamp) -> Notification {
    Notification {
        organization: organization.to_owned(),
        alert: NotifiedAlert {
            id: id.to_owned(),
            severity: Severity::Ok,
            previous: Severity::Ok,
            trigger: Trigger::Test,
            message: "this is a test: notifications from Shoal arrive here".to_owned(),
            value: None,
            labels: Vec::new(),
            opened: now,
            changed: now,
            closed: Some(now),
            url: String::new(),
        },
        monitor: NotifiedMonitor {
            id: "test".to_owned(),
            name: "test notification".to_owned(),
            kind: "query".to_owned(),
            memo: String::new(),
            warning: None,
            critical: None,
            comparison: None,
        },
    }
}

fn url(public_url: &str, alert: &str) -> String {
    match public_url.trim_end_matches('/') {
        "" => String::new(),
        base => format!("{base}/api/v1/alerts/{alert}"),
    }
}

fn monitor(note: &MonitorNote) -> NotifiedMonitor {
    NotifiedMonitor {
        id: note.id.clone(),
        name: note.name.clone(),
        kind: note.kind.clone(),
        memo: note.memo.clone(),
        warning: note.warning,
        critical: note.critical,
        comparison: note.comparison(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_made_only_where_there_is_a_public_one() {
        assert_eq!(url("", "alt_1"), "");
        assert_eq!(
            url("https://shoal.example.com/", "alt_1"),
            "https://shoal.example.com/api/v1/alerts/alt_1"
        );
    }
}
