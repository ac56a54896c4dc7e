//! How plugins are: breakers that are open, versions in quarantine, shadow runs, and who stands in for a channel.
//!
//! What processes find out by themselves is shared through these rows: each writes what changed and reads what others
//! wrote, once a second. Nothing here is read while a plugin is called.

use serde_json::json;
use shoal_model::{TenantId, Timestamp};

use super::alerts::storable;
use super::audit::record;
use super::plugins::VersionRow;
use super::{DbError, System, TenantDb};
use crate::audit::Audit;

/// How long after a trial's end copies of live calls may still be on their way.
const STRAGGLERS_MS: i64 = 30_000;

/// A breaker that is open.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct BreakerRow {
    /// Whose installation.
    pub tenant_id: i64,
    /// `ins_…`.
    pub installation_id: String,
    /// Of the version whose calls failed.
    pub digest: String,
    /// The installation's revision whose calls failed.
    pub revision: i64,
    /// How often in a row it opened.
    pub openings: i64,
    /// When it opened last, Unix ms.
    pub opened_at_ms: i64,
    /// When the next call is let through, Unix ms.
    pub until_ms: i64,
    /// The failure that opened it.
    pub reason: String,
}

impl BreakerRow {
    /// Whose.
    pub fn tenant(&self) -> TenantId {
        TenantId(self.tenant_id)
    }
}

/// A version that runs for nobody.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct QuarantineRow {
    /// `sha256:…`.
    pub digest: String,
    /// Of which plugin.
    pub plugin_id: String,
    /// Its semantic version.
    pub version: String,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub actor: String,
    /// When, Unix ms.
    pub at_ms: i64,
}

/// How a version does that sees copies of live calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct ShadowRow {
    /// `sha256:…`.
    pub digest: String,
    /// Of which plugin.
    pub plugin_id: String,
    /// Its semantic version.
    pub version: String,
    /// Copies that it answered as the live version did.
    pub equal: i64,
    /// Copies that it answered otherwise.
    pub differing: i64,
    /// Copies that its code failed on.
    pub failed: i64,
    /// Copies that were not compared.
    pub skipped: i64,
    /// Of the latest live answer that was another one.
    pub live_excerpt: Option<String>,
    /// Of the shadow's answer to the same call.
    pub shadow_excerpt: Option<String>,
    /// `promoted` or `abandoned`; `None` while it is tried.
    pub ended: Option<String>,
    /// When it changed last, Unix ms.
    pub updated_at_ms: i64,
}

impl System {
    /// Every breaker that is open. Called by the health of plugins, once a second.
    pub async fn open_breakers(&self) -> Result<Vec<BreakerRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, installation_id, digest, revision, openings, opened_at_ms, until_ms, reason
             FROM plugin_breaker
             ORDER BY tenant_id, installation_id, digest",
        ).fetch_all(c).await?))
    }

    /// Stores that a breaker is open; nothing when the installation is gone. Called by the health of plugins.
    pub async fn put_breaker(&self, row: &BreakerRow) -> Result<(), DbError> {
        let mut conn = self.writer().await?;
        sql!(conn, c => sqlx::query(
            "INSERT INTO plugin_breaker
                 (tenant_id, installation_id, digest, revision, openings, opened_at_ms, until_ms, reason)
             SELECT tenant_id, id, $3, CAST($4 AS BIGINT), CAST($5 AS BIGINT), CAST($6 AS BIGINT), CAST($7 AS BIGINT), $8
             FROM installation
             WHERE tenant_id = $1 AND id = $2
             ON CONFLICT (tenant_id, installation_id, digest) DO UPDATE
             SET revision = $4, openings = $5, opened_at_ms = $6, until_ms = $7, reason = $8",
        )
        .bind(row.tenant_id)
        .bind(&row.installation_id)
        .bind(&row.digest)
        .bind(row.revision)
        .bind(row.openings)
        .bind(row.opened_at_ms)
        .bind(row.until_ms)
        .bind(storable(&row.reason))
        .execute(c).await?.rows_affected());
        Ok(())
    }

    /// Stores that a breaker is closed. Called by the health of plugins.
    pub async fn delete_breaker(
        &self,
        tenant: TenantId,
        installation: &str,
        digest: &str,
    ) -> Result<(), DbError> {
        let mut conn = self.writer().await?;
        sql!(conn, c => sqlx::query(
            "DELETE FROM plugin_breaker WHERE tenant_id = $1 AND installation_id = $2 AND digest = $3",
        ).bind(tenant.0).bind(installation).bind(digest).execute(c).await?.rows_affected());
        Ok(())
    }

    /// Every version in quarantine. Called by the health of plugins, once a second, and by routes.
    pub async fn quarantined(&self) -> Result<Vec<QuarantineRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT digest, plugin_id, version, reason, actor, at_ms FROM plugin_quarantine ORDER BY at_ms, digest",
        ).fetch_all(c).await?))
    }

    /// Puts a version into quarantine. `false` when it is there already. Called by the health of plugins and the operator's
    /// route.
    pub async fn quarantine(&self, row: &QuarantineRow) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let added = sql!(tx, c => sqlx::query(
            "INSERT INTO plugin_quarantine (digest, plugin_id, version, reason, actor, at_ms)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(&row.digest)
        .bind(&row.plugin_id)
        .bind(&row.version)
        .bind(storable(&row.reason))
        .bind(&row.actor)
        .bind(row.at_ms)
        .execute(c).await?.rows_affected());
        if added == 1 {
            let line = Audit {
                tenant: None,
                actor: row.actor.clone(),
                action: "plugin.quarantine",
                subject: row.plugin_id.clone(),
                detail: json!({ "version": row.version, "digest": row.digest, "reason": row.reason }),
            };
            record(&mut tx, &line, Timestamp(row.at_ms)).await?;
        }
        tx.commit().await?;
        Ok(added == 1)
    }

    /// Lets a version run again, its breakers closed. `false` when it is not in quarantine. Called by the operator's route.
    pub async fn release_quarantined(
        &self,
        version: &VersionRow,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let digest = &version.digest;
        let mut tx = self.begin().await?;
        let released = sql!(tx, c => sqlx::query("DELETE FROM plugin_quarantine WHERE digest = $1")
            .bind(digest).execute(c).await?.rows_affected());
        sql!(tx, c => sqlx::query("DELETE FROM plugin_breaker WHERE digest = $1")
            .bind(digest).execute(c).await?.rows_affected());
        if released == 1 {
            let line = Audit {
                tenant: None,
                actor: actor.to_owned(),
                action: "plugin.release",
                subject: version.plugin_id.clone(),
                detail: json!({ "version": version.version, "digest": digest }),
            };
            record(&mut tx, &line, now).await?;
        }
        tx.commit().await?;
        Ok(released == 1)
    }

    /// How a version does that is tried. Called by shadow runs and routes.
    pub async fn shadow(&self, digest: &str) -> Result<Option<ShadowRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT digest, plugin_id, version, equal, differing, failed, skipped, live_excerpt, shadow_excerpt, ended,
                    updated_at_ms
             FROM plugin_shadow
             WHERE digest = $1",
        ).bind(digest).fetch_optional(c).await?))
    }

    /// Adds to what is known of a version that is tried; excerpts replace earlier ones. One whose trial ended begins anew,
    /// but for copies of calls that were on their way when it ended. Called by shadow runs.
    pub async fn add_shadow(&self, more: &ShadowRow) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sql!(tx, c => sqlx::query("DELETE FROM plugin_shadow WHERE digest = $1 AND ended IS NOT NULL AND updated_at_ms < $2")
            .bind(&more.digest).bind(more.updated_at_ms - STRAGGLERS_MS).execute(c).await?.rows_affected());
        sql!(tx, c => sqlx::query(
            "INSERT INTO plugin_shadow
                 (digest, plugin_id, version, equal, differing, failed, skipped, live_excerpt, shadow_excerpt,
                  updated_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (digest) DO UPDATE
             SET equal = plugin_shadow.equal + $4, differing = plugin_shadow.differing + $5,
                 failed = plugin_shadow.failed + $6, skipped = plugin_shadow.skipped + $7,
                 live_excerpt = COALESCE($8, plugin_shadow.live_excerpt),
                 shadow_excerpt = COALESCE($9, plugin_shadow.shadow_excerpt), updated_at_ms = $10
             WHERE plugin_shadow.ended IS NULL",
        )
        .bind(&more.digest)
        .bind(&more.plugin_id)
        .bind(&more.version)
        .bind(more.equal)
        .bind(more.differing)
        .bind(more.failed)
        .bind(more.skipped)
        .bind(more.live_excerpt.as_deref().map(storable))
        .bind(more.shadow_excerpt.as_deref().map(storable))
        .bind(more.updated_at_ms)
        .execute(c).await?.rows_affected());
        tx.commit().await
    }

    /// Notes how the trial of a version ended: `promoted` or `abandoned`. Called by shadow runs.
    pub async fn end_shadow(
        &self,
        digest: &str,
        ended: &'static str,
        at_ms: i64,
    ) -> Result<(), DbError> {
        let mut conn = self.writer().await?;
        sql!(conn, c => sqlx::query("UPDATE plugin_shadow SET ended = $2, updated_at_ms = $3 WHERE digest = $1")
            .bind(digest).bind(ended).bind(at_ms).execute(c).await?.rows_affected());
        Ok(())
    }

    /// How the versions of a plugin do or did that are or were tried, the latest first. Called by routes.
    pub async fn shadows(&self, plugin: &str) -> Result<Vec<ShadowRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT digest, plugin_id, version, equal, differing, failed, skipped, live_excerpt, shadow_excerpt, ended,
                    updated_at_ms
             FROM plugin_shadow
             WHERE plugin_id = $1
             ORDER BY updated_at_ms DESC, digest
             LIMIT 20",
        ).bind(plugin).fetch_all(c).await?))
    }
}

impl TenantDb {
    /// The tenant's open breakers.
    pub async fn open_breakers(&self) -> Result<Vec<BreakerRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, installation_id, digest, revision, openings, opened_at_ms, until_ms, reason
             FROM plugin_breaker
             WHERE tenant_id = $1
             ORDER BY installation_id, digest",
        ).bind(self.id().0).fetch_all(c).await?))
    }

    /// The channel that stands in for a channel.
    pub async fn fallback(&self, installation: &str) -> Result<Option<String>, DbError> {
        let mut conn = self.reader().await?;
        let row: Option<(String,)> = sql!(conn, c => sqlx::query_as(
            "SELECT fallback_id FROM channel_fallback WHERE tenant_id = $1 AND installation_id = $2",
        ).bind(self.id().0).bind(installation).fetch_optional(c).await?);
        Ok(row.map(|(id,)| id))
    }

    /// Sets or, with `None`, removes the channel that stands in for a channel.
    ///
    /// # Errors
    /// [`DbError::Reference`] when there is no such installation.
    pub async fn set_fallback(
        &self,
        installation: &str,
        fallback: Option<&str>,
        actor: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        match fallback {
            None => sql!(tx, c => sqlx::query(
                "DELETE FROM channel_fallback WHERE tenant_id = $1 AND installation_id = $2",
            ).bind(self.id().0).bind(installation).execute(c).await?.rows_affected()),
            Some(fallback) => sql!(tx, c => sqlx::query(
                "INSERT INTO channel_fallback (tenant_id, installation_id, fallback_id)
                 VALUES ($1, $2, $3)
                 ON CONFLICT (tenant_id, installation_id) DO UPDATE SET fallback_id = $3",
            ).bind(self.id().0).bind(installation).bind(fallback).execute(c).await?.rows_affected()),
        };
        let line = Audit {
            tenant: Some(self.id()),
            actor: actor.to_owned(),
            action: "installation.fallback",
            subject: installation.to_owned(),
            detail: json!({ "to": fallback }),
        };
        record(&mut tx, &line, now).await?;
        tx.commit().await
    }

    /// Channels that may stand in for one of an alert's: first the one that was set, then those enabled ones that are not
    /// themselves told of the alert, then the others.
    pub async fn stand_ins(&self, installation: &str, alert: &str) -> Result<Vec<String>, DbError> {
        let mut conn = self.reader().await?;
        let rows: Vec<(String,)> = sql!(conn, c => sqlx::query_as(
            "SELECT i.id
             FROM installation i
             LEFT JOIN channel_fallback f
                 ON f.tenant_id = i.tenant_id AND f.installation_id = $2 AND f.fallback_id = i.id
             LEFT JOIN notification n
                 ON n.tenant_id = i.tenant_id AND n.alert_id = $3 AND n.installation_id = i.id
             WHERE i.tenant_id = $1 AND i.id <> $2 AND i.kind = 'channel' AND i.is_enabled = 1
             ORDER BY CASE WHEN f.fallback_id IS NOT NULL THEN 0 WHEN n.id IS NULL THEN 1 ELSE 2 END, i.id
             LIMIT 10",
        ).bind(self.id().0).bind(installation).bind(alert).fetch_all(c).await?);
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }
}

#[cfg(test)]
mod tests;
