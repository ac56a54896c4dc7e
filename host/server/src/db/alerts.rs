//! Alerts: what is remembered of each target, what is open, and every change of it.
//!
//! Invariants:
//! - A slot of a source is judged once: [`TenantDb::judge`] moves the source's `last_slot_ms` forward or does nothing,
//!   whichever process comes first.
//! - State, alert, transition and notifications of one slot are one transaction, made under the lock of the
//!   source's row, as are closing by hand and deleting the source.
//! - What is decided is decided by the caller's pure function; nothing here knows what a severity means.

use serde::{Deserialize, Serialize};
use shoal_model::alert::{AlertState, Comparison, Severity, Thresholds, Transition};
use shoal_model::id::AlertId;
use shoal_model::{Labels, TenantId, Timestamp};

use super::notifications::{self, Channel};
use super::{DbError, System, TenantDb, Transaction, monitors};
use crate::random::RandomId as _;

/// Transitions shown with an alert, latest first; an alert that flaps for months has more.
const TRANSITIONS_SHOWN_MAX: i64 = 1000;

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

/// Labels as a JSON object.
pub fn labels_json(labels: &Labels) -> serde_json::Value {
    let pairs = labels
        .iter()
        .map(|label| (label.name.to_string(), (*label.value).into()));
    serde_json::Value::Object(pairs.collect())
}

fn labels_of(text: &str) -> Result<Labels, serde_json::Error> {
    let pairs: std::collections::BTreeMap<String, String> = serde_json::from_str(text)?;
    Ok(Labels::from_pairs(pairs))
}

fn hex(fingerprint: u128) -> String {
    format!("{fingerprint:032x}")
}

#[derive(sqlx::FromRow)]
struct TargetRow {
    fingerprint: String,
    labels: String,
    severity: String,
    pending_severity: Option<String>,
    pending_attempts: i64,
    last_slot_ms: i64,
    seen_slot_ms: i64,
    value: Option<f64>,
    alert_id: Option<String>,
}

impl TargetRow {
    fn parsed(self) -> Result<Target, DbError> {
        let corrupt =
            |problem: String| DbError::corrupt("alert_target", &self.fingerprint, problem);
        let severity = |text: &str| text.parse::<Severity>().map_err(|e| corrupt(e.to_string()));
        let pending = self.pending_severity.as_deref().map(severity).transpose()?;
        let attempts = u32::try_from(self.pending_attempts).map_err(|e| corrupt(e.to_string()))?;
        Ok(Target {
            fingerprint: u128::from_str_radix(&self.fingerprint, 16)
                .map_err(|e| corrupt(e.to_string()))?,
            labels: labels_of(&self.labels).map_err(|e| corrupt(e.to_string()))?,
            state: AlertState {
                severity: severity(&self.severity)?,
                pending: pending.map(|severity| (severity, attempts)),
                last_slot: Some(Timestamp(self.last_slot_ms)),
            },
            seen_slot: Timestamp(self.seen_slot_ms),
            value: self.value,
            alert: self.alert_id,
        })
    }
}

#[derive(sqlx::FromRow)]
struct AlertRow {
    id: String,
    labels: String,
    monitor: String,
    severity: String,
    value: Option<f64>,
    message: String,
    opened_at_ms: i64,
    changed_at_ms: i64,
    closed_at_ms: Option<i64>,
    reason: Option<String>,
    revision: i64,
}

impl AlertRow {
    fn parsed(self) -> Result<Alert, DbError> {
        let corrupt = |problem: String| DbError::corrupt("alert", &self.id, problem);
        Ok(Alert {
            labels: labels_of(&self.labels).map_err(|e| corrupt(e.to_string()))?,
            monitor: serde_json::from_str(&self.monitor).map_err(|e| corrupt(e.to_string()))?,
            severity: self.severity.parse().map_err(|e| corrupt(format!("{e}")))?,
            id: self.id,
            value: self.value,
            message: self.message,
            opened_at: Timestamp(self.opened_at_ms),
            changed_at: Timestamp(self.changed_at_ms),
            closed_at: self.closed_at_ms.map(Timestamp),
            reason: self.reason,
            revision: self.revision,
        })
    }
}

#[derive(sqlx::FromRow)]
struct TransitionText {
    from_severity: String,
    to_severity: String,
    cause: String,
    value: Option<f64>,
    message: String,
    at_ms: i64,
}

#[derive(sqlx::FromRow)]
struct CheckStateRow {
    id: String,
    severity: Option<String>,
    last_slot_ms: Option<i64>,
    last_error: Option<String>,
    last_error_at_ms: Option<i64>,
}

/// What a transition writes, beside the alert that it is of.
struct Step<'a> {
    transition: Transition,
    trigger: Trigger,
    value: Option<f64>,
    message: &'a str,
    reason: Option<&'a str>,
    now: Timestamp,
}

impl TenantDb {
    /// Judges one slot of a source: hands what is known to `decide` and writes what it returns, if the slot is later
    /// than every one that was judged before. `Err` of `decide` refuses: only the reason is written.
    ///
    /// Called by the engines, from several processes at a time.
    pub async fn judge(
        &self,
        source: &Source,
        slot: Timestamp,
        now: Timestamp,
        decide: impl FnOnce(Known) -> Result<Decision, String> + Send,
    ) -> Result<Judged, DbError> {
        let mut tx = self.begin().await?;
        let query_before = self.source_query(&mut tx, source).await?;
        if !self.claim_slot(&mut tx, source, slot).await? {
            return Ok(Judged::Before);
        }
        if !self.is_current(&mut tx, source).await? {
            return Ok(Judged::Outdated);
        }
        let known = Known {
            targets: self.targets(&mut tx, &source.id).await?,
            query: query_before,
        };
        let decision = match decide(known) {
            Ok(decision) => decision,
            Err(reason) => {
                drop(tx);
                self.note_error(source, slot, &reason, now).await?;
                return Ok(Judged::Refused);
            }
        };
        self.write_source(&mut tx, source, decision.error.as_deref(), now)
            .await?;
        let transitions = self
            .write_changes(&mut tx, source, slot, now, decision.changes)
            .await?;
        tx.commit().await?;
        Ok(Judged::Now { transitions })
    }

    /// Notes that a slot of a source could not be judged. The slot stays open: a later attempt may judge it.
    pub async fn note_error(
        &self,
        source: &Source,
        slot: Timestamp,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        lock_source(&mut tx, self.id(), &source.id, source.kind_text()).await?;
        if !self.is_current(&mut tx, source).await? {
            return Ok(());
        }
        sql!(tx, c => sqlx::query(
            "UPDATE alert_source
             SET last_error = $3, last_error_at_ms = $4
             WHERE tenant_id = $1 AND id = $2 AND (last_slot_ms IS NULL OR last_slot_ms < $5)",
        )
        .bind(self.id().0)
        .bind(&source.id)
        .bind(reason)
        .bind(now.0)
        .bind(slot.0)
        .execute(c).await?.rows_affected());
        tx.commit().await
    }

    async fn source_query(&self, tx: &mut Transaction, source: &Source) -> Result<String, DbError> {
        lock_source(tx, self.id(), &source.id, source.kind_text()).await?;
        let (query,): (String,) = sql!(tx, c => sqlx::query_as(
            "SELECT query FROM alert_source WHERE tenant_id = $1 AND id = $2",
        ).bind(self.id().0).bind(&source.id).fetch_one(c).await?);
        Ok(query)
    }

    async fn claim_slot(
        &self,
        tx: &mut Transaction,
        source: &Source,
        slot: Timestamp,
    ) -> Result<bool, DbError> {
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE alert_source
             SET last_slot_ms = $3
             WHERE tenant_id = $1 AND id = $2 AND (last_slot_ms IS NULL OR last_slot_ms < $3)",
        ).bind(self.id().0).bind(&source.id).bind(slot.0).execute(c).await?.rows_affected());
        Ok(changed == 1)
    }

    /// Whether the source still is what was evaluated.
    async fn is_current(&self, tx: &mut Transaction, source: &Source) -> Result<bool, DbError> {
        let found: Option<(i64,)> = match source.kind {
            SourceKind::Query { revision, .. } => sql!(tx, c => sqlx::query_as(
                "SELECT revision
                 FROM monitor
                 WHERE tenant_id = $1 AND id = $2 AND revision = $3 AND is_enabled = 1",
            ).bind(self.id().0).bind(&source.id).bind(revision).fetch_optional(c).await?),
            SourceKind::Check => sql!(tx, c => sqlx::query_as(
                "SELECT revision
                 FROM installation
                 WHERE tenant_id = $1 AND id = $2 AND is_enabled = 1",
            ).bind(self.id().0).bind(&source.id).fetch_optional(c).await?),
        };
        Ok(found.is_some())
    }

    async fn targets(&self, tx: &mut Transaction, source: &str) -> Result<Vec<Target>, DbError> {
        let rows: Vec<TargetRow> = sql!(tx, c => sqlx::query_as(
            "SELECT fingerprint, labels, severity, pending_severity, pending_attempts, last_slot_ms, seen_slot_ms,
                    value, alert_id
             FROM alert_target
             WHERE tenant_id = $1 AND source_id = $2
             ORDER BY fingerprint",
        ).bind(self.id().0).bind(source).fetch_all(c).await?);
        rows.into_iter().map(TargetRow::parsed).collect()
    }

    async fn write_source(
        &self,
        tx: &mut Transaction,
        source: &Source,
        error: Option<&str>,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let query = match &source.kind {
            SourceKind::Query { query, .. } => query,
            SourceKind::Check => "",
        };
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE alert_source
             SET query = $3, last_error = $4, last_error_at_ms = $5
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(self.id().0)
        .bind(&source.id)
        .bind(query)
        .bind(error)
        .bind(error.map(|_| now.0))
        .execute(c).await?.rows_affected());
        DbError::expect_rows("alert_source", &source.id, changed, 1)
    }

    async fn write_changes(
        &self,
        tx: &mut Transaction,
        source: &Source,
        slot: Timestamp,
        now: Timestamp,
        changes: Vec<Change>,
    ) -> Result<u64, DbError> {
        let mut transitions = 0;
        let mut channels = None;
        for change in changes {
            let (mut target, transition) = match change {
                Change::Forget(fingerprint) => {
                    self.forget_target(tx, &source.id, fingerprint).await?;
                    continue;
                }
                Change::Keep { target, transition } => (target, transition),
            };
            if let Some((transition, message)) = transition {
                let step = Step {
                    transition,
                    trigger: Trigger::Monitor,
                    value: target.value,
                    message: &message,
                    reason: None,
                    now,
                };
                target.alert = match target.alert.take() {
                    Some(alert) => {
                        change_alert(tx, self.id(), &alert, Some(&source.note()), &step).await?;
                        (transition.to != Severity::Ok).then_some(alert)
                    }
                    None => {
                        if channels.is_none() {
                            channels = Some(notifications::channels(tx, self.id(), source).await?);
                        }
                        let told = channels.as_deref().unwrap_or_default();
                        Some(self.open_alert(tx, source, &target, &step, told).await?)
                    }
                };
                transitions += 1;
            }
            self.write_target(tx, &source.id, slot, &target).await?;
        }
        Ok(transitions)
    }

    async fn open_alert(
        &self,
        tx: &mut Transaction,
        source: &Source,
        target: &Target,
        step: &Step<'_>,
        channels: &[Channel],
    ) -> Result<String, DbError> {
        let id = AlertId::random().to_string();
        let note = serde_json::to_string(&source.note()).expect("it is text and numbers");
        sql!(tx, c => sqlx::query(
            "INSERT INTO alert
                 (tenant_id, id, source_id, fingerprint, labels, monitor, severity, value, message, opened_at_ms,
                  changed_at_ms, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, 1)",
        )
        .bind(self.id().0)
        .bind(&id)
        .bind(&source.id)
        .bind(hex(target.fingerprint))
        .bind(labels_json(&target.labels).to_string())
        .bind(&note)
        .bind(step.transition.to.as_str())
        .bind(step.value)
        .bind(step.message)
        .bind(step.now.0)
        .execute(c).await?.rows_affected());
        add_transition(tx, self.id(), &id, 1, step).await?;
        notifications::want(tx, self.id(), &id, channels, step.now).await?;
        Ok(id)
    }

    /// The state's `last_slot` is the guard again, as in the source's row.
    async fn write_target(
        &self,
        tx: &mut Transaction,
        source: &str,
        slot: Timestamp,
        target: &Target,
    ) -> Result<(), DbError> {
        let changed = sql!(tx, c => sqlx::query(
            "INSERT INTO alert_target
                 (tenant_id, source_id, fingerprint, labels, severity, pending_severity, pending_attempts,
                  last_slot_ms, seen_slot_ms, value, alert_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (tenant_id, source_id, fingerprint) DO UPDATE
             SET labels = $4, severity = $5, pending_severity = $6, pending_attempts = $7, last_slot_ms = $8,
                 seen_slot_ms = $9, value = $10, alert_id = $11
             WHERE alert_target.last_slot_ms < $8",
        )
        .bind(self.id().0)
        .bind(source)
        .bind(hex(target.fingerprint))
        .bind(labels_json(&target.labels).to_string())
        .bind(target.state.severity.as_str())
        .bind(target.state.pending.map(|(severity, _)| severity.as_str()))
        .bind(i64::from(target.state.pending.map_or(0, |(_, attempts)| attempts)))
        .bind(slot.0)
        .bind(target.seen_slot.0)
        .bind(target.value)
        .bind(&target.alert)
        .execute(c).await?.rows_affected());
        DbError::expect_rows("alert_target", hex(target.fingerprint), changed, 1)
    }

    async fn forget_target(
        &self,
        tx: &mut Transaction,
        source: &str,
        fingerprint: u128,
    ) -> Result<(), DbError> {
        sql!(tx, c => sqlx::query(
            "DELETE FROM alert_target
             WHERE tenant_id = $1 AND source_id = $2 AND fingerprint = $3 AND alert_id IS NULL",
        ).bind(self.id().0).bind(source).bind(hex(fingerprint)).execute(c).await?.rows_affected());
        Ok(())
    }

    /// The tenant's alerts, those opened last first, at most `limit`; with `before`, an alert, only those opened before
    /// it.
    pub async fn alerts(
        &self,
        which: Which,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Alert>, DbError> {
        let which = match which {
            Which::All => "all",
            Which::Open => "open",
            Which::Closed => "closed",
        };
        let mut conn = self.reader().await?;
        let rows: Vec<AlertRow> = sql!(conn, c => sqlx::query_as(
            "SELECT id, labels, monitor, severity, value, message, opened_at_ms, changed_at_ms, closed_at_ms, reason,
                    revision
             FROM alert
             WHERE tenant_id = $1
                 AND ($2 = 'all' OR ($2 = 'open') = (closed_at_ms IS NULL))
                 AND ($3 = '' OR (opened_at_ms, id) < (
                     SELECT b.opened_at_ms, b.id FROM alert b WHERE b.tenant_id = $1 AND b.id = $3))
             ORDER BY opened_at_ms DESC, id DESC
             LIMIT $4",
        )
        .bind(self.id().0)
        .bind(which)
        .bind(before.unwrap_or_default())
        .bind(limit)
        .fetch_all(c).await?);
        rows.into_iter().map(AlertRow::parsed).collect()
    }

    /// One alert.
    pub async fn alert(&self, id: &str) -> Result<Option<Alert>, DbError> {
        let mut conn = self.reader().await?;
        let row: Option<AlertRow> = sql!(conn, c => sqlx::query_as(
            "SELECT id, labels, monitor, severity, value, message, opened_at_ms, changed_at_ms, closed_at_ms, reason,
                    revision
             FROM alert
             WHERE tenant_id = $1 AND id = $2",
        ).bind(self.id().0).bind(id).fetch_optional(c).await?);
        row.map(AlertRow::parsed).transpose()
    }

    /// An alert's transitions, oldest first; of very many the latest.
    pub async fn transitions(&self, alert: &str) -> Result<Vec<TransitionRow>, DbError> {
        let mut conn = self.reader().await?;
        let rows: Vec<TransitionText> = sql!(conn, c => sqlx::query_as(
            "SELECT from_severity, to_severity, cause, value, message, at_ms
             FROM alert_transition
             WHERE tenant_id = $1 AND alert_id = $2
             ORDER BY revision DESC
             LIMIT $3",
        ).bind(self.id().0).bind(alert).bind(TRANSITIONS_SHOWN_MAX).fetch_all(c).await?);
        let corrupt = |problem: String| DbError::corrupt("alert_transition", alert, problem);
        let parsed = |row: TransitionText| {
            Ok(TransitionRow {
                from: row
                    .from_severity
                    .parse()
                    .map_err(|e| corrupt(format!("{e}")))?,
                to: row
                    .to_severity
                    .parse()
                    .map_err(|e| corrupt(format!("{e}")))?,
                trigger: Trigger::ALL
                    .into_iter()
                    .find(|trigger| trigger.as_str() == row.cause)
                    .ok_or_else(|| corrupt(format!("cause {:?}", row.cause)))?,
                value: row.value,
                message: row.message,
                at: Timestamp(row.at_ms),
            })
        };
        rows.into_iter().rev().map(parsed).collect()
    }

    /// Closes an alert by hand. `None` when there is none, `false` when it is closed already.
    ///
    /// Its target begins anew: where the condition persists, a later slot opens a new alert.
    pub async fn close_alert(
        &self,
        id: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<bool>, DbError> {
        let mut tx = self.begin().await?;
        let source: Option<(String, String)> = sql!(tx, c => sqlx::query_as(
            "SELECT source_id, monitor FROM alert WHERE tenant_id = $1 AND id = $2",
        ).bind(self.id().0).bind(id).fetch_optional(c).await?);
        let Some((source, monitor)) = source else {
            return Ok(None);
        };
        let note: MonitorNote = serde_json::from_str(&monitor)
            .map_err(|problem| DbError::corrupt("alert", id, problem))?;
        lock_source(&mut tx, self.id(), &source, &note.kind).await?;
        let open: Option<(String,)> = sql!(tx, c => sqlx::query_as(
            "SELECT severity FROM alert WHERE tenant_id = $1 AND id = $2 AND closed_at_ms IS NULL",
        ).bind(self.id().0).bind(id).fetch_optional(c).await?);
        let Some((severity,)) = open else {
            return Ok(Some(false));
        };
        close(
            &mut tx,
            self.id(),
            id,
            &severity,
            Trigger::ManualClose,
            reason,
            now,
        )
        .await?;
        sql!(tx, c => sqlx::query(
            "UPDATE alert_target
             SET severity = 'ok', pending_severity = NULL, pending_attempts = 0, alert_id = NULL
             WHERE tenant_id = $1 AND source_id = $2 AND alert_id = $3",
        ).bind(self.id().0).bind(&source).bind(id).execute(c).await?.rows_affected());
        tx.commit().await?;
        Ok(Some(true))
    }

    /// What the tenant's checks came to, by installation.
    pub async fn check_states(&self) -> Result<Vec<CheckState>, DbError> {
        let mut conn = self.reader().await?;
        let rows: Vec<CheckStateRow> = sql!(conn, c => sqlx::query_as(
            "SELECT s.id, t.severity, s.last_slot_ms, s.last_error, s.last_error_at_ms
             FROM alert_source s
             LEFT JOIN alert_target t ON t.tenant_id = s.tenant_id AND t.source_id = s.id
             WHERE s.tenant_id = $1 AND s.kind = 'check'
             ORDER BY s.id",
        ).bind(self.id().0).fetch_all(c).await?);
        let parsed = |row: CheckStateRow| {
            let severity = row.severity.as_deref().map_or(Ok(Severity::Ok), str::parse);
            Ok(CheckState {
                severity: severity.map_err(|e| DbError::corrupt("alert_target", &row.id, e))?,
                installation: row.id,
                last_slot: row.last_slot_ms.map(Timestamp),
                last_error: row.last_error.zip(row.last_error_at_ms.map(Timestamp)),
            })
        };
        rows.into_iter().map(parsed).collect()
    }

    /// Closes the open alerts of a check that is no longer installed and forgets it. Returns how many it closed.
    pub async fn forget_check(&self, installation: &str, now: Timestamp) -> Result<u64, DbError> {
        let mut tx = self.begin().await?;
        let closed = forget_source(
            &mut tx,
            self.id(),
            installation,
            Trigger::MonitorDeleted,
            now,
        )
        .await?;
        tx.commit().await?;
        Ok(closed)
    }
}

/// Holds the source's row until the transaction ends, making it where there is none.
async fn lock_source(
    tx: &mut Transaction,
    tenant: TenantId,
    id: &str,
    kind: &str,
) -> Result<(), DbError> {
    sql!(tx, c => sqlx::query(
        "INSERT INTO alert_source (tenant_id, id, kind, query)
         VALUES ($1, $2, $3, '')
         ON CONFLICT (tenant_id, id) DO UPDATE
         SET kind = $3",
    ).bind(tenant.0).bind(id).bind(kind).execute(c).await?.rows_affected());
    Ok(())
}

/// Closes every open alert of a source and forgets the source with its targets. Returns how many it closed.
pub(super) async fn forget_source(
    tx: &mut Transaction,
    tenant: TenantId,
    source: &str,
    trigger: Trigger,
    now: Timestamp,
) -> Result<u64, DbError> {
    lock_source(tx, tenant, source, "gone").await?;
    let open: Vec<(String, String)> = sql!(tx, c => sqlx::query_as(
        "SELECT id, severity
         FROM alert
         WHERE tenant_id = $1 AND source_id = $2 AND closed_at_ms IS NULL
         ORDER BY id",
    ).bind(tenant.0).bind(source).fetch_all(c).await?);
    for (alert, severity) in &open {
        let reason = "the monitor was deleted";
        close(tx, tenant, alert, severity, trigger, reason, now).await?;
    }
    sql!(tx, c => sqlx::query("DELETE FROM alert_source WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.0).bind(source).execute(c).await?.rows_affected());
    Ok(open.len() as u64)
}

/// Closes an open alert for another reason than that its monitor found it well.
async fn close(
    tx: &mut Transaction,
    tenant: TenantId,
    alert: &str,
    severity: &str,
    trigger: Trigger,
    reason: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let from = severity
        .parse()
        .map_err(|problem| DbError::corrupt("alert", alert, problem))?;
    let message = match trigger {
        Trigger::ManualClose => format!("closed by hand: {reason}"),
        Trigger::Monitor | Trigger::MonitorDeleted => format!("closed: {reason}"),
    };
    let step = Step {
        transition: Transition {
            from,
            to: Severity::Ok,
        },
        trigger,
        value: None,
        message: &message,
        reason: Some(reason),
        now,
    };
    change_alert(tx, tenant, alert, None, &step).await
}

/// Writes a transition of an open alert, and that it is to be told. `note` where the monitor may have changed.
async fn change_alert(
    tx: &mut Transaction,
    tenant: TenantId,
    alert: &str,
    note: Option<&MonitorNote>,
    step: &Step<'_>,
) -> Result<(), DbError> {
    let note = note.map(|note| serde_json::to_string(note).expect("it is text and numbers"));
    let closed_at_ms = (step.transition.to == Severity::Ok).then_some(step.now.0);
    let revision: Option<(i64,)> = sql!(tx, c => sqlx::query_as(
        "UPDATE alert
         SET severity = $3, value = $4, message = $5, changed_at_ms = $6, closed_at_ms = $7, reason = $8,
             monitor = COALESCE($9, monitor), revision = revision + 1
         WHERE tenant_id = $1 AND id = $2 AND closed_at_ms IS NULL
         RETURNING revision",
    )
    .bind(tenant.0)
    .bind(alert)
    .bind(step.transition.to.as_str())
    .bind(step.value)
    .bind(step.message)
    .bind(step.now.0)
    .bind(closed_at_ms)
    .bind(step.reason)
    .bind(note)
    .fetch_optional(c).await?);
    let Some((revision,)) = revision else {
        return DbError::expect_rows("alert", alert, 0, 1);
    };
    add_transition(tx, tenant, alert, revision, step).await?;
    notifications::want_again(tx, tenant, alert, revision, step.now).await
}

async fn add_transition(
    tx: &mut Transaction,
    tenant: TenantId,
    alert: &str,
    revision: i64,
    step: &Step<'_>,
) -> Result<(), DbError> {
    sql!(tx, c => sqlx::query(
        "INSERT INTO alert_transition
             (tenant_id, alert_id, revision, from_severity, to_severity, cause, value, message, at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(tenant.0)
    .bind(alert)
    .bind(revision)
    .bind(step.transition.from.as_str())
    .bind(step.transition.to.as_str())
    .bind(step.trigger.as_str())
    .bind(step.value)
    .bind(step.message)
    .bind(step.now.0)
    .execute(c).await?.rows_affected());
    Ok(())
}

impl System {
    /// Checks that are remembered but no longer installed, at most `limit`. Called by the job that runs checks.
    pub async fn checks_not_installed(
        &self,
        limit: i64,
    ) -> Result<Vec<(TenantId, String)>, DbError> {
        let mut conn = self.reader().await?;
        let rows: Vec<(i64, String)> = sql!(conn, c => sqlx::query_as(
            "SELECT s.tenant_id, s.id
             FROM alert_source s
             WHERE s.kind = 'check' AND NOT EXISTS (
                 SELECT 1 FROM installation i WHERE i.tenant_id = s.tenant_id AND i.id = s.id)
             ORDER BY s.tenant_id, s.id
             LIMIT $1",
        ).bind(limit).fetch_all(c).await?);
        Ok(rows
            .into_iter()
            .map(|(tenant, id)| (TenantId(tenant), id))
            .collect())
    }

    /// Deletes alerts closed before a time with what was told of them, at most `limit`. Returns how many. Called by
    /// the job that deletes what is too old.
    pub async fn delete_alerts_closed_before(
        &self,
        before: Timestamp,
        limit: i64,
    ) -> Result<u64, DbError> {
        let mut conn = self.writer().await?;
        Ok(sql!(conn, c => sqlx::query(
            "DELETE FROM alert
             WHERE (tenant_id, id) IN (
                 SELECT a.tenant_id, a.id FROM alert a WHERE a.closed_at_ms < $1 ORDER BY a.closed_at_ms LIMIT $2)",
        ).bind(before.0).bind(limit).execute(c).await?.rows_affected()))
    }
}
