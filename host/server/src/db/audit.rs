//! Who did what: lines that are added with the change that they tell of, and never changed.

use serde_json::Value;
use shoal_model::Timestamp;

use super::plugins::next;
use super::{DbError, System, TenantDb, Transaction};
use crate::audit::Audit;

/// A line as it is read.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditRow {
    /// Grows from line to line.
    pub id: i64,
    /// Whose it was, by key; `None` for what concerns the deployment.
    pub tenant: Option<String>,
    /// When, Unix ms.
    pub at_ms: i64,
    /// A key's id and name, or `system`.
    pub actor: String,
    /// Such as `plugin.publish`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// JSON.
    pub detail: String,
}

impl AuditRow {
    /// More about it.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn detail(&self) -> Result<Value, DbError> {
        serde_json::from_str(&self.detail)
            .map_err(|problem| DbError::corrupt("audit_event", self.id, problem))
    }
}

/// Which lines are asked for, the newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only lines before this id.
    pub before: Option<i64>,
    /// Only what was done to this.
    pub subject: Option<String>,
    /// At most so many.
    pub limit: i64,
}

/// Adds a line within a transaction.
pub(in crate::db) async fn record(
    tx: &mut Transaction,
    audit: &Audit,
    now: Timestamp,
) -> Result<(), DbError> {
    let id = next(tx, "audit").await?;
    sql!(tx, c => sqlx::query(
        "INSERT INTO audit_event (id, tenant_id, at_ms, actor, action, subject, detail)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id)
    .bind(audit.tenant.map(|tenant| tenant.0))
    .bind(now.0)
    .bind(&audit.actor)
    .bind(audit.action)
    .bind(&audit.subject)
    .bind(audit.detail.to_string())
    .execute(c).await?.rows_affected());
    Ok(())
}

impl System {
    /// Adds a line about what is no change of SQL. Called by routes and engines.
    pub async fn record_audit(&self, audit: &Audit, now: Timestamp) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        record(&mut tx, audit, now).await?;
        tx.commit().await
    }

    /// Lines about the deployment and all tenants. Called by the operator's route.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT a.id, t.key AS tenant, a.at_ms, a.actor, a.action, a.subject, a.detail
             FROM audit_event a
             LEFT JOIN tenant t ON t.id = a.tenant_id
             WHERE a.id < $1 AND ($2 = '' OR a.subject = $2)
             ORDER BY a.id DESC
             LIMIT $3",
        )
        .bind(filter.before.unwrap_or(i64::MAX))
        .bind(filter.subject.as_deref().unwrap_or_default())
        .bind(filter.limit)
        .fetch_all(c).await?))
    }

    /// Deletes at most `limit` lines that were written before a time; returns how many. Called by a job.
    pub async fn delete_audit_before(&self, before: Timestamp, limit: i64) -> Result<u64, DbError> {
        let mut tx = self.begin().await?;
        let deleted = sql!(tx, c => sqlx::query(
            "DELETE FROM audit_event
             WHERE id IN (SELECT id FROM audit_event ORDER BY id LIMIT $2) AND at_ms < $1",
        ).bind(before.0).bind(limit).execute(c).await?.rows_affected());
        tx.commit().await?;
        Ok(deleted)
    }
}

impl TenantDb {
    /// Lines about the tenant.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT a.id, t.key AS tenant, a.at_ms, a.actor, a.action, a.subject, a.detail
             FROM audit_event a
             JOIN tenant t ON t.id = a.tenant_id
             WHERE a.tenant_id = $1 AND a.id < $2 AND ($3 = '' OR a.subject = $3)
             ORDER BY a.id DESC
             LIMIT $4",
        )
        .bind(self.id().0)
        .bind(filter.before.unwrap_or(i64::MAX))
        .bind(filter.subject.as_deref().unwrap_or_default())
        .bind(filter.limit)
        .fetch_all(c).await?))
    }
}
