//! Monitors: conditions on queries, as tenants write them.

use shoal_model::alert::{Comparison, Rule, Severity, Thresholds};
use shoal_model::{MonitorId, TenantId, Timestamp};

use super::alerts::{Source, SourceKind, Trigger, forget_source};
use super::{DbError, System, TenantDb};

/// One monitor.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitor {
    /// `mon_…`.
    pub id: MonitorId,
    /// What of it a tenant can change.
    pub definition: Definition,
    /// When it was made.
    pub created_at: Timestamp,
    /// Grows with every change.
    pub revision: i64,
    /// The latest slot that was judged.
    pub last_slot: Option<Timestamp>,
    /// Why the latest evaluation found nothing out, and when that was.
    pub last_error: Option<(String, Timestamp)>,
}

/// What of a monitor a tenant can change.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// The tenant's name for it.
    pub name: String,
    /// PromQL.
    pub query: String,
    /// What its values are compared with.
    pub thresholds: Thresholds,
    /// How evidence becomes an alert.
    pub rule: Rule,
    /// The tenant's note.
    pub memo: String,
    /// Whether it is evaluated; the open alerts of one that is not stay as they are.
    pub is_enabled: bool,
    /// Installations of the channels that are told; `None` tells every enabled one.
    pub channels: Option<Vec<String>>,
}

impl Monitor {
    /// As alerts know it.
    pub fn source(&self) -> Source {
        let definition = &self.definition;
        Source {
            id: self.id.to_string(),
            name: definition.name.clone(),
            kind: SourceKind::Query {
                revision: self.revision,
                query: definition.query.clone(),
                thresholds: definition.thresholds,
            },
            memo: definition.memo.clone(),
            channels: definition.channels.clone(),
        }
    }
}

#[derive(sqlx::FromRow)]
struct MonitorRow {
    id: String,
    name: String,
    query: String,
    comparison: String,
    warning: Option<f64>,
    critical: Option<f64>,
    max_attempts: i64,
    missing: String,
    memo: String,
    is_enabled: i64,
    channels: Option<String>,
    created_at_ms: i64,
    revision: i64,
    last_slot_ms: Option<i64>,
    last_error: Option<String>,
    last_error_at_ms: Option<i64>,
}

impl MonitorRow {
    fn parsed(self) -> Result<Monitor, DbError> {
        let corrupt = |problem: String| DbError::corrupt("monitor", &self.id, problem);
        let channels = self.channels.as_deref().map(serde_json::from_str);
        Ok(Monitor {
            id: self.id.parse().map_err(|e| corrupt(format!("{e}")))?,
            definition: Definition {
                thresholds: Thresholds {
                    comparison: comparison(&self.comparison)
                        .ok_or_else(|| corrupt(format!("comparison {:?}", self.comparison)))?,
                    warning: self.warning,
                    critical: self.critical,
                },
                rule: Rule {
                    max_attempts: u32::try_from(self.max_attempts)
                        .map_err(|e| corrupt(e.to_string()))?,
                    missing_is: missing(&self.missing)
                        .ok_or_else(|| corrupt(format!("missing {:?}", self.missing)))?,
                },
                channels: channels.transpose().map_err(|e| corrupt(e.to_string()))?,
                name: self.name,
                query: self.query,
                memo: self.memo,
                is_enabled: self.is_enabled == 1,
            },
            created_at: Timestamp(self.created_at_ms),
            revision: self.revision,
            last_slot: self.last_slot_ms.map(Timestamp),
            last_error: self.last_error.zip(self.last_error_at_ms.map(Timestamp)),
        })
    }
}

/// `above` or `below`.
pub fn comparison(text: &str) -> Option<Comparison> {
    match text {
        "above" => Some(Comparison::Above),
        "below" => Some(Comparison::Below),
        _ => None,
    }
}

/// The inverse of [`comparison`].
pub fn comparison_text(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Above => "above",
        Comparison::Below => "below",
    }
}

/// What missing data means: `keep` or a severity.
pub fn missing(text: &str) -> Option<Option<Severity>> {
    match text {
        "keep" => Some(None),
        _ => text.parse().ok().map(Some),
    }
}

/// The inverse of [`missing`].
pub fn missing_text(missing_is: Option<Severity>) -> &'static str {
    missing_is.map_or("keep", Severity::as_str)
}

impl TenantDb {
    /// The tenant's monitors by name, at most `limit`.
    pub async fn monitors(&self, limit: i64) -> Result<Vec<Monitor>, DbError> {
        let mut conn = self.reader().await?;
        let rows: Vec<MonitorRow> = sql!(conn, c => sqlx::query_as(
            "SELECT m.id, m.name, m.query, m.comparison, m.warning, m.critical, m.max_attempts, m.missing, m.memo,
                    m.is_enabled, m.channels, m.created_at_ms, m.revision, s.last_slot_ms, s.last_error,
                    s.last_error_at_ms
             FROM monitor m
             LEFT JOIN alert_source s ON s.tenant_id = m.tenant_id AND s.id = m.id
             WHERE m.tenant_id = $1
             ORDER BY m.name, m.id
             LIMIT $2",
        ).bind(self.id().0).bind(limit).fetch_all(c).await?);
        rows.into_iter().map(MonitorRow::parsed).collect()
    }

    /// One monitor.
    pub async fn monitor(&self, id: &str) -> Result<Option<Monitor>, DbError> {
        let mut conn = self.reader().await?;
        let row: Option<MonitorRow> = sql!(conn, c => sqlx::query_as(
            "SELECT m.id, m.name, m.query, m.comparison, m.warning, m.critical, m.max_attempts, m.missing, m.memo,
                    m.is_enabled, m.channels, m.created_at_ms, m.revision, s.last_slot_ms, s.last_error,
                    s.last_error_at_ms
             FROM monitor m
             LEFT JOIN alert_source s ON s.tenant_id = m.tenant_id AND s.id = m.id
             WHERE m.tenant_id = $1 AND m.id = $2",
        ).bind(self.id().0).bind(id).fetch_optional(c).await?);
        row.map(MonitorRow::parsed).transpose()
    }

    /// Stores a new monitor. `false` when the tenant has `most` already.
    pub async fn add_monitor(
        &self,
        id: &MonitorId,
        definition: &Definition,
        most: i64,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let (present,): (i64,) = sql!(tx, c => sqlx::query_as(
            "SELECT COUNT(*) FROM monitor WHERE tenant_id = $1",
        ).bind(self.id().0).fetch_one(c).await?);
        if present >= most {
            return Ok(false);
        }
        sql!(tx, c => sqlx::query(
            "INSERT INTO monitor
                 (tenant_id, id, name, query, comparison, warning, critical, max_attempts, missing, memo, is_enabled,
                  channels, created_at_ms, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1)",
        )
        .bind(self.id().0)
        .bind(id.as_str())
        .bind(&definition.name)
        .bind(&definition.query)
        .bind(comparison_text(definition.thresholds.comparison))
        .bind(definition.thresholds.warning)
        .bind(definition.thresholds.critical)
        .bind(i64::from(definition.rule.max_attempts))
        .bind(missing_text(definition.rule.missing_is))
        .bind(&definition.memo)
        .bind(i64::from(definition.is_enabled))
        .bind(channels_text(definition))
        .bind(now.0)
        .execute(c).await?.rows_affected());
        tx.commit().await?;
        Ok(true)
    }

    /// Replaces a monitor; its open alerts go on under the new definition. `false` when there is none.
    pub async fn replace_monitor(
        &self,
        id: &str,
        definition: &Definition,
    ) -> Result<bool, DbError> {
        let mut conn = self.writer().await?;
        let changed = sql!(conn, c => sqlx::query(
            "UPDATE monitor
             SET name = $3, query = $4, comparison = $5, warning = $6, critical = $7, max_attempts = $8, missing = $9,
                 memo = $10, is_enabled = $11, channels = $12, revision = revision + 1
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(self.id().0)
        .bind(id)
        .bind(&definition.name)
        .bind(&definition.query)
        .bind(comparison_text(definition.thresholds.comparison))
        .bind(definition.thresholds.warning)
        .bind(definition.thresholds.critical)
        .bind(i64::from(definition.rule.max_attempts))
        .bind(missing_text(definition.rule.missing_is))
        .bind(&definition.memo)
        .bind(i64::from(definition.is_enabled))
        .bind(channels_text(definition))
        .execute(c).await?.rows_affected());
        Ok(changed == 1)
    }

    /// Deletes a monitor, closes its open alerts and wants that told. `None` when there is none, else how many alerts
    /// it closed.
    pub async fn delete_monitor(&self, id: &str, now: Timestamp) -> Result<Option<u64>, DbError> {
        let mut tx = self.begin().await?;
        let closed = forget_source(&mut tx, self.id(), id, Trigger::MonitorDeleted, now).await?;
        let deleted = sql!(tx, c => sqlx::query("DELETE FROM monitor WHERE tenant_id = $1 AND id = $2")
            .bind(self.id().0).bind(id).execute(c).await?.rows_affected());
        if deleted == 0 {
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(closed))
    }
}

fn channels_text(definition: &Definition) -> Option<String> {
    let channels = definition.channels.as_ref()?;
    Some(serde_json::Value::from(channels.clone()).to_string())
}

impl System {
    /// Tenants with enabled monitors, and how many each has. Called by the job that evaluates them.
    pub async fn tenants_with_monitors(&self) -> Result<Vec<(TenantId, u64)>, DbError> {
        let mut conn = self.reader().await?;
        let rows: Vec<(i64, i64)> = sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, COUNT(*)
             FROM monitor
             WHERE is_enabled = 1
             GROUP BY tenant_id
             ORDER BY tenant_id",
        ).fetch_all(c).await?);
        Ok(rows
            .into_iter()
            .map(|(tenant, count)| (TenantId(tenant), count.unsigned_abs()))
            .collect())
    }
}
