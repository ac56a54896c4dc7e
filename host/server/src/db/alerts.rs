//! Alerts: what is remembered of each target, what is open, and every change of it.
//!
//! Invariants:
//! - A slot of a source is judged once: [`TenantDb::judge`] moves the source's `last_slot_ms` forward or does nothing,
//!   whichever process comes first.
//! - State, alert, transition and notifications of one slot are one transaction, made under the lock of the
//!   source's row, as are closing by hand and deleting the source.
//! - What is decided is decided by the caller's pure function; nothing here knows what a severity means.

mod change;
mod judge;
mod read;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use shoal_model::alert::{AlertState, Comparison, Severity, Thresholds, Transition};
use shoal_model::{Labels, Timestamp};

use super::monitors;

pub(super) use change::forget_source;
pub use read::labels_json;

/// What raises alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Of the monitor or of the check's installation.
    pub id: String,
    /// The tenant's name for it.
    pub name: String,
    /// Which of both.
    pub kind: SourceKind,
    /// The tenant's note.
    pub memo: String,
    /// Installations of the channels that are told; `None` tells every enabled one.
    pub channels: Option<Vec<String>>,
}

/// A monitor or a check.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    /// A monitor on a query.
    Query {
        /// The revision that is evaluated.
        revision: i64,
        /// Its query.
        query: String,
        /// Its thresholds.
        thresholds: Thresholds,
    },
    /// An installation of a check.
    Check,
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
}

/// What is remembered of one target between evaluations.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Of its labels: what tells it from the source's others.
    pub fingerprint: u128,
    /// What it is, for people.
    pub labels: Labels,
    /// As last decided.
    pub state: AlertState,
    /// The latest slot, to some minutes, at which there was data.
    pub seen_slot: Timestamp,
    /// The latest value that was written.
    pub value: Option<f64>,
    /// The open alert.
    pub alert: Option<String>,
}

/// What is known of a source before a slot is judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Its targets.
    pub targets: Vec<Target>,
    /// The query that the latest slot was judged by; empty at first and for checks.
    pub query: String,
}

/// What is to become of one target.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// To be remembered like this.
    Keep {
        /// As it is now.
        target: Target,
        /// What people are to be told, when the severity changed.
        transition: Option<(Transition, String)>,
    },
    /// To be forgotten. It has no open alert.
    Forget(u128),
}

/// What one slot comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Targets that are not named stay as they are.
    pub changes: Vec<Change>,
    /// Something that could not be found out, though the rest was.
    pub error: Option<String>,
}

/// What became of judging a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is judged now, with so many transitions.
    Now {
        /// Changes of severity.
        transitions: u64,
    },
    /// It, or a later one, was judged before; nothing changed.
    Before,
    /// The source is gone, disabled or was changed since it was read; nothing changed.
    Outdated,
    /// It was refused, with the reason that the source now shows; nothing else changed.
    Refused,
}

/// The monitor as an alert remembers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonitorNote {
    /// Of the monitor or of the check's installation.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `query` or `check`.
    pub kind: String,
    /// The tenant's note.
    pub memo: String,
    /// Where a warning begins.
    pub warning: Option<f64>,
    /// Where it becomes critical.
    pub critical: Option<f64>,
    /// `above` or `below`.
    pub comparison: Option<String>,
}

/// One alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// `alt_…`.
    pub id: String,
    /// What it is about.
    pub labels: Labels,
    /// The monitor at the latest transition.
    pub monitor: MonitorNote,
    /// How bad it is now; OK when it is closed.
    pub severity: Severity,
    /// The value that decided, if there was one.
    pub value: Option<f64>,
    /// One sentence for people.
    pub message: String,
    /// When it opened.
    pub opened_at: Timestamp,
    /// When it changed last.
    pub changed_at: Timestamp,
    /// When it closed.
    pub closed_at: Option<Timestamp>,
    /// Why it was closed, when not by its monitor.
    pub reason: Option<String>,
    /// How many transitions it had.
    pub revision: i64,
}

/// One change of an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct TransitionRow {
    /// What it was.
    pub from: Severity,
    /// What it became.
    pub to: Severity,
    /// What made it change.
    pub trigger: Trigger,
    /// The value that decided, if there was one.
    pub value: Option<f64>,
    /// One sentence for people.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// What the latest run of a check came to.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckState {
    /// Of its installation.
    pub installation: String,
    /// As last decided.
    pub severity: Severity,
    /// The latest slot in which it ran.
    pub last_slot: Option<Timestamp>,
    /// Why its latest run found nothing out, and when that was.
    pub last_error: Option<(String, Timestamp)>,
}

/// When a check was tried last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// The latest slot for which it found something out.
    pub judged: Option<Timestamp>,
    /// When it last found nothing out.
    pub failed_at: Option<Timestamp>,
}

/// Which alerts a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those that are not over.
    Open,
    /// Those that are.
    Closed,
}

impl Source {
    fn kind_text(&self) -> &'static str {
        match self.kind {
            SourceKind::Query { .. } => "query",
            SourceKind::Check => "check",
        }
    }

    /// As an alert remembers it.
    pub fn note(&self) -> MonitorNote {
        let thresholds = match &self.kind {
            SourceKind::Query { thresholds, .. } => Some(thresholds),
            SourceKind::Check => None,
        };
        MonitorNote {
            id: self.id.clone(),
            name: self.name.clone(),
            kind: self.kind_text().to_owned(),
            memo: self.memo.clone(),
            warning: thresholds.and_then(|it| it.warning),
            critical: thresholds.and_then(|it| it.critical),
            comparison: thresholds.map(|it| monitors::comparison_text(it.comparison).to_owned()),
        }
    }
}

impl MonitorNote {
    /// How values compare with the thresholds, if it has any.
    pub fn comparison(&self) -> Option<Comparison> {
        self.comparison.as_deref().and_then(monitors::comparison)
    }
}

/// Text as both databases take it. What plugins say may have NUL characters, which PostgreSQL refuses.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

impl Trigger {
    const ALL: [Trigger; 3] = [
        Trigger::Monitor,
        Trigger::ManualClose,
        Trigger::MonitorDeleted,
    ];

    /// Its name, such as `manual-close`.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Monitor => "monitor",
            Trigger::ManualClose => "manual-close",
            Trigger::MonitorDeleted => "monitor-deleted",
        }
    }
}
