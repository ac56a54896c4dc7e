//! What a channel is told and answers. See `wit/channel.wit`.

use shoal_model::Timestamp;
use shoal_model::alert::{Comparison, Severity};

use crate::bindings::exports::shoal::plugin::channel as wit;
use crate::call::cut;

const SUMMARY_MAX_BYTES: usize = 1024;

/// What is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The tenant's name, as people know it.
    pub organization: String,
    /// The alert as it is now.
    pub alert: NotifiedAlert,
    /// The monitor behind it.
    pub monitor: NotifiedMonitor,
}

/// One alert as a channel sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct NotifiedAlert {
    /// Its id, the same in every notification of this alert.
    pub id: String,
    /// How bad it is now.
    pub severity: Severity,
    /// How bad it was before this change.
    pub previous: Severity,
    /// Why it changed.
    pub trigger: Trigger,
    /// One sentence for people.
    pub message: String,
    /// The value that decided, if there is one.
    pub value: Option<f64>,
    /// Labels of the series or target that the alert is about.
    pub labels: Vec<(String, String)>,
    /// When it opened.
    pub opened: Timestamp,
    /// When it changed last.
    pub changed: Timestamp,
    /// When it closed; `None` while it is open.
    pub closed: Option<Timestamp>,
    /// Where a person can look at it; empty when the deployment has no public address.
    pub url: String,
}

/// A monitor as a channel sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct NotifiedMonitor {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its kind: `query` or `check`.
    pub kind: String,
    /// The tenant's note.
    pub memo: String,
    /// Warning threshold, if it has one.
    pub warning: Option<f64>,
    /// Critical threshold, if it has one.
    pub critical: Option<f64>,
    /// How values compare with the thresholds, if it has any.
    pub comparison: Option<Comparison>,
}

/// What made an alert change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The monitor's condition.
    Monitor,
    /// A person closed it.
    ManualClose,
    /// The monitor was deleted.
    MonitorDeleted,
    /// A person asked for a test notification.
    Test,
}

/// Proof that it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What the receiver answered, at most 1,024 bytes.
    pub summary: String,
}

impl Receipt {
    pub(crate) fn from_wit(receipt: wit::Receipt) -> Receipt {
        Receipt {
            summary: cut(receipt.summary, SUMMARY_MAX_BYTES),
        }
    }
}

impl Notification {
    pub(crate) fn to_wit(&self) -> wit::Notification {
        let (alert, monitor) = (&self.alert, &self.monitor);
        wit::Notification {
            organization: self.organization.clone(),
            alert: wit::Alert {
                id: alert.id.clone(),
                severity: severity(alert.severity),
                previous: severity(alert.previous),
                trigger: match alert.trigger {
                    Trigger::Monitor => wit::Trigger::Monitor,
                    Trigger::ManualClose => wit::Trigger::ManualClose,
                    Trigger::MonitorDeleted => wit::Trigger::MonitorDeleted,
                    Trigger::Test => wit::Trigger::Test,
                },
                message: alert.message.clone(),
                value: alert.value,
                labels: alert.labels.clone(),
                opened_unix_ms: alert.opened.unix_ms(),
                changed_unix_ms: alert.changed.unix_ms(),
                closed_unix_ms: alert.closed.map(Timestamp::unix_ms),
                url: alert.url.clone(),
            },
            monitor: wit::Monitor {
                id: monitor.id.clone(),
                name: monitor.name.clone(),
                kind: monitor.kind.clone(),
                memo: monitor.memo.clone(),
                warning: monitor.warning,
                critical: monitor.critical,
                comparison: monitor.comparison.map(|comparison| match comparison {
                    Comparison::Above => wit::Comparison::Above,
                    Comparison::Below => wit::Comparison::Below,
                }),
            },
        }
    }
}

fn severity(severity: Severity) -> wit::Severity {
    match severity {
        Severity::Ok => wit::Severity::Ok,
        Severity::Unknown => wit::Severity::Unknown,
        Severity::Warning => wit::Severity::Warning,
        Severity::Critical => wit::Severity::Critical,
    }
}
