//! Statements: what billing rules answered, one row for every input.

use shoal_model::Timestamp;
use shoal_model::time::Month;

use super::{DbError, TenantDb};

/// A recorded answer.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct StatementRow {
    /// Such as `2026-11`.
    pub month: String,
    /// Of usage, terms, settings and component.
    pub input_hash: String,
    /// Of the answer.
    pub output_hash: String,
    /// When it was made, Unix ms.
    pub rated_at_ms: i64,
    /// End of the last hour in it, Unix ms.
    pub as_of_ms: i64,
    /// Hours in it.
    pub closed_hours: i64,
    /// 1 when no hour of the month is open.
    pub is_complete: i64,
    /// The rule's installation.
    pub installation_id: String,
    /// Its plugin.
    pub plugin_id: String,
    /// Of which version.
    pub version: String,
    /// Of which component.
    pub digest: String,
    /// Of the rule's settings.
    pub settings_hash: String,
    /// ISO 4217.
    pub currency: String,
    /// JSON.
    pub lines: String,
    /// A decimal number.
    pub total: String,
}

impl TenantDb {
    /// Records an answer. When its input was rated before nothing changes, and the hash of the answer given then is
    /// returned.
    pub async fn add_statement(&self, new: &StatementRow) -> Result<Option<String>, DbError> {
        // Most are asked for again and again: those need not wait for who writes.
        if let Some(before) = self.recorded(new).await? {
            return Ok(Some(before));
        }
        let mut conn = self.writer().await?;
        let added = sql!(conn, c => sqlx::query(
            "INSERT INTO statement
                 (tenant_id, month, input_hash, output_hash, rated_at_ms, as_of_ms, closed_hours, is_complete,
                  installation_id, plugin_id, version, digest, settings_hash, currency, lines, total)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
             ON CONFLICT (tenant_id, month, input_hash) DO NOTHING",
        )
        .bind(self.id().0)
        .bind(&new.month)
        .bind(&new.input_hash)
        .bind(&new.output_hash)
        .bind(new.rated_at_ms)
        .bind(new.as_of_ms)
        .bind(new.closed_hours)
        .bind(new.is_complete)
        .bind(&new.installation_id)
        .bind(&new.plugin_id)
        .bind(&new.version)
        .bind(&new.digest)
        .bind(&new.settings_hash)
        .bind(&new.currency)
        .bind(&new.lines)
        .bind(&new.total)
        .execute(c).await?.rows_affected());
        drop(conn);
        match added {
            1 => Ok(None),
            _ => self.recorded(new).await,
        }
    }

    /// The hash of the answer that the same input had before.
    async fn recorded(&self, new: &StatementRow) -> Result<Option<String>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_scalar(
            "SELECT output_hash FROM statement WHERE tenant_id = $1 AND month = $2 AND input_hash = $3",
        ).bind(self.id().0).bind(&new.month).bind(&new.input_hash).fetch_optional(c).await?))
    }

    /// A month's answers, oldest first, at most `limit`.
    pub async fn statements(&self, month: Month, limit: i64) -> Result<Vec<StatementRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT month, input_hash, output_hash, rated_at_ms, as_of_ms, closed_hours, is_complete,
                    installation_id, plugin_id, version, digest, settings_hash, currency, lines, total
             FROM statement
             WHERE tenant_id = $1 AND month = $2
             ORDER BY rated_at_ms, closed_hours
             LIMIT $3",
        ).bind(self.id().0).bind(month.to_string()).bind(limit).fetch_all(c).await?))
    }

    /// Deletes answers of open months that were given before a time; those of complete months stay.
    pub async fn delete_drafts(&self, before: Timestamp) -> Result<u64, DbError> {
        let mut conn = self.writer().await?;
        Ok(sql!(conn, c => sqlx::query(
            "DELETE FROM statement WHERE tenant_id = $1 AND rated_at_ms < $2 AND is_complete = 0",
        ).bind(self.id().0).bind(before.0).execute(c).await?.rows_affected()))
    }
}
