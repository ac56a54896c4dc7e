//! Changing an alert: each change is a transition, and something to tell.

use shoal_model::alert::{Severity, Transition};
use shoal_model::{TenantId, Timestamp};

use super::{MonitorNote, Trigger, storable};
use crate::db::{DbError, TenantDb, Transaction, notifications};

/// What a transition writes, beside the alert that it is of.
pub(super) struct Step<'a> {
    pub(super) transition: Transition,
    pub(super) trigger: Trigger,
    pub(super) value: Option<f64>,
    pub(super) message: &'a str,
    pub(super) reason: Option<&'a str>,
    pub(super) now: Timestamp,
}

impl TenantDb {
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
pub(super) async fn lock_source(
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
pub(in crate::db) async fn forget_source(
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
pub(super) async fn change_alert(
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
    .bind(storable(step.message))
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

pub(super) async fn add_transition(
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
    .bind(storable(step.message))
    .bind(step.now.0)
    .execute(c).await?.rows_affected());
    Ok(())
}

impl TenantDb {
    /// Deletes alerts closed before a time with what was told of them, those opened first, at most `limit`. Returns how
    /// many. Called by the job that deletes what is too old.
    pub async fn delete_alerts_closed_before(
        &self,
        before: Timestamp,
        limit: i64,
    ) -> Result<u64, DbError> {
        let mut conn = self.writer().await?;
        // What was closed before was opened before, which is what there is an index for.
        Ok(sql!(conn, c => sqlx::query(
            "DELETE FROM alert
             WHERE tenant_id = $1 AND id IN (
                 SELECT a.id
                 FROM alert a
                 WHERE a.tenant_id = $1 AND a.opened_at_ms < $2 AND a.closed_at_ms < $2
                 ORDER BY a.opened_at_ms, a.id
                 LIMIT $3)",
        ).bind(self.id().0).bind(before.0).bind(limit).execute(c).await?.rows_affected()))
    }
}
