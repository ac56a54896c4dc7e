//! Reading alerts, and what is remembered behind them.

use std::collections::HashMap;

use shoal_model::alert::{AlertState, Severity};
use shoal_model::{Labels, TenantId, Timestamp};

use super::{Alert, CheckState, Target, TransitionRow, Tried, Trigger, Which};
use crate::db::{DbError, System, TenantDb};

/// Transitions shown with an alert, latest first; an alert that flaps for months has more.
const TRANSITIONS_SHOWN_MAX: i64 = 1000;

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

pub(super) fn hex(fingerprint: u128) -> String {
    format!("{fingerprint:032x}")
}

#[derive(sqlx::FromRow)]
pub(super) struct TargetRow {
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
    pub(super) fn parsed(self) -> Result<Target, DbError> {
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

impl TenantDb {
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
}

impl System {
    /// The checks that were tried since a time, and when. Called by the job that runs checks.
    pub async fn checks_tried(
        &self,
        since: Timestamp,
    ) -> Result<HashMap<(TenantId, String), Tried>, DbError> {
        let mut conn = self.reader().await?;
        let rows: Vec<(i64, String, Option<i64>, Option<i64>)> = sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, id, last_slot_ms, last_error_at_ms
             FROM alert_source
             WHERE kind = 'check' AND (last_slot_ms >= $1 OR last_error_at_ms >= $1)",
        ).bind(since.0).fetch_all(c).await?);
        let tried = rows.into_iter().map(|(tenant, id, judged, failed_at)| {
            let tried = Tried {
                judged: judged.map(Timestamp),
                failed_at: failed_at.map(Timestamp),
            };
            ((TenantId(tenant), id), tried)
        });
        Ok(tried.collect())
    }

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
}
