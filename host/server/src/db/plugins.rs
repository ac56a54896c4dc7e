//! The catalogue of plugins: versions, their components and what the operator approved.

use sha2::{Digest as _, Sha256};
use shoal_model::grant::Grants;
use shoal_model::{Digest, Timestamp};

use super::audit::record;
use super::{DbError, System, Transaction};
use crate::audit::Audit;

/// One version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct VersionRow {
    /// `sha256:…`.
    pub digest: String,
    /// The plugin's id.
    pub plugin_id: String,
    /// Its semantic version.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// The text of plugin.toml.
    pub manifest: String,
    /// Size of the component.
    pub size_bytes: i64,
    /// When it was added, Unix ms.
    pub added_at_ms: i64,
    /// `unsigned`, `valid` or `unknown-key`, as it was found when it was added.
    pub signature_state: String,
    /// Who signed it, when the signature is valid.
    pub publisher: Option<String>,
    /// How many golden tests it passed when it was added.
    pub golden_passed: i64,
    /// What the operator approved, JSON; `None` until then.
    pub approved_grants: Option<String>,
    /// When, Unix ms.
    pub approved_at_ms: Option<i64>,
    /// By whom.
    pub approved_by: Option<String>,
    /// Of what was approved.
    pub approved_hash: Option<String>,
    /// Grows with each approval.
    pub approval: Option<i64>,
}

impl VersionRow {
    /// What the operator approved; `None` until then.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn approved(&self) -> Result<Option<Grants>, DbError> {
        let Some(text) = &self.approved_grants else {
            return Ok(None);
        };
        grants(text)
            .map(Some)
            .map_err(|problem| DbError::corrupt("plugin_version", &self.digest, problem))
    }
}

/// An approval of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Of which version.
    pub digest: String,
    /// What is approved.
    pub grants: Grants,
    /// By whom.
    pub by: String,
}

/// A name for a set of capabilities: equal sets have equal names.
pub fn grants_hash(grants: &Grants) -> String {
    Digest(Sha256::digest(grants_text(grants)).into()).to_string()
}

/// Reads a JSON list of capabilities.
pub(super) fn grants(text: &str) -> Result<Grants, String> {
    let list: Vec<String> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    list.iter()
        .map(|one| one.parse().map_err(|error| format!("{error}")))
        .collect()
}

/// Writes a JSON list of capabilities.
pub(super) fn grants_text(grants: &Grants) -> String {
    let list: Vec<String> = grants.0.iter().map(ToString::to_string).collect();
    serde_json::Value::from(list).to_string()
}

impl System {
    /// Adds a version with its component; `false` when it is there already. Called by the operator's route.
    pub async fn add_version(
        &self,
        version: &VersionRow,
        component: &[u8],
        audit: &Audit,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let added = sql!(tx, c => sqlx::query(
            "INSERT INTO plugin_version
                 (digest, plugin_id, version, kind, manifest, size_bytes, added_at_ms, signature_state, publisher,
                  golden_passed)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(&version.digest)
        .bind(&version.plugin_id)
        .bind(&version.version)
        .bind(&version.kind)
        .bind(&version.manifest)
        .bind(version.size_bytes)
        .bind(version.added_at_ms)
        .bind(&version.signature_state)
        .bind(&version.publisher)
        .bind(version.golden_passed)
        .execute(c).await?.rows_affected());
        if added == 1 {
            sql!(tx, c => sqlx::query("INSERT INTO plugin_component (digest, bytes) VALUES ($1, $2)")
                .bind(&version.digest).bind(component).execute(c).await?.rows_affected());
            change_catalogue(&mut tx).await?;
            record(&mut tx, audit, Timestamp(version.added_at_ms)).await?;
            change_catalogue(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(added == 1)
    }

    /// Every version of every plugin, newest approval first within a plugin. Called by routes and the registry.
    pub async fn versions(&self) -> Result<Vec<VersionRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT digest, plugin_id, version, kind, manifest, size_bytes, added_at_ms, signature_state,
                    publisher, golden_passed, approved_grants, approved_at_ms, approved_by, approved_hash, approval
             FROM plugin_version
             ORDER BY plugin_id, COALESCE(approval, 0) DESC, added_at_ms DESC, digest",
        ).fetch_all(c).await?))
    }

    /// One version. Called by routes.
    pub async fn version(&self, digest: &str) -> Result<Option<VersionRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT digest, plugin_id, version, kind, manifest, size_bytes, added_at_ms, signature_state,
                    publisher, golden_passed, approved_grants, approved_at_ms, approved_by, approved_hash, approval
             FROM plugin_version
             WHERE digest = $1",
        ).bind(digest).fetch_optional(c).await?))
    }

    /// A version's component. Called by the registry.
    pub async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>, DbError> {
        let mut conn = self.reader().await?;
        let row: Option<(Vec<u8>,)> = sql!(conn, c => sqlx::query_as(
            "SELECT bytes FROM plugin_component WHERE digest = $1",
        ).bind(digest).fetch_optional(c).await?);
        Ok(row.map(|(bytes,)| bytes))
    }

    /// Approves a version, without publishing it. `false` when there is no such version. Called by the operator's route.
    pub async fn approve(
        &self,
        approval: &Approval,
        audit: &Audit,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let is_there = approve(&mut tx, approval, now).await?;
        if is_there {
            record(&mut tx, audit, now).await?;
            change_catalogue(&mut tx).await?;
            tx.commit().await?;
        }
        Ok(is_there)
    }

    /// Grows with every change of versions, tracks and publishers. Called by the registry.
    pub async fn catalogue_revision(&self) -> Result<i64, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_scalar(
            "SELECT next FROM id_counter WHERE name = 'catalogue_revision'",
        ).fetch_one(c).await?))
    }

    /// Grows with every change of what should run. Called by the registry, twice a second.
    pub async fn plugin_revision(&self) -> Result<i64, DbError> {
        let mut conn = self.reader().await?;
        let (revision,): (i64,) = sql!(conn, c => sqlx::query_as(
            "SELECT next FROM id_counter WHERE name = 'plugin_revision'",
        ).fetch_one(c).await?);
        Ok(revision)
    }
}

/// Approves a version. `false` when there is no such version.
pub(super) async fn approve(
    tx: &mut Transaction,
    approval: &Approval,
    now: Timestamp,
) -> Result<bool, DbError> {
    let at = next(tx, "approval").await?;
    let changed = sql!(tx, c => sqlx::query(
        "UPDATE plugin_version
         SET approved_grants = $2, approved_hash = $3, approved_by = $4, approved_at_ms = $5, approval = $6
         WHERE digest = $1",
    )
    .bind(&approval.digest)
    .bind(grants_text(&approval.grants))
    .bind(grants_hash(&approval.grants))
    .bind(&approval.by)
    .bind(now.0)
    .bind(at)
    .execute(c).await?.rows_affected());
    Ok(changed == 1)
}

/// Notes that versions, tracks or publishers change; returns the revision of what changes.
pub(super) async fn change_catalogue(tx: &mut Transaction) -> Result<i64, DbError> {
    next(tx, "catalogue_revision").await?;
    next(tx, "plugin_revision").await
}

/// The next number of a counter; the row stays locked until the transaction ends.
pub(super) async fn next(tx: &mut Transaction, counter: &'static str) -> Result<i64, DbError> {
    let (number,): (i64,) = sql!(tx, c => sqlx::query_as(
        "UPDATE id_counter SET next = next + 1 WHERE name = $1 RETURNING next - 1",
    ).bind(counter).fetch_one(c).await?);
    Ok(number)
}

#[cfg(test)]
pub(crate) mod tests;
