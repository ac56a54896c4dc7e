//! Installations: plugins that tenants have enabled, with settings, secrets and grants.

use serde_json::{Map, Value};
use shoal_model::grant::Grants;
use shoal_model::{InstallationId, TenantId, Timestamp};

use super::audit::record;
use super::tracks::{VersionSettings, put_version_settings};
use super::{DbError, System, TenantDb, Transaction, plugins};
use crate::audit::Audit;

/// One installation, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct InstallationRow {
    /// Whose.
    pub tenant_id: i64,
    /// `ins_…`.
    pub id: String,
    /// The tenant's name for it.
    pub name: String,
    /// Which plugin.
    pub plugin_id: String,
    /// Its kind.
    pub kind: String,
    /// The track that it follows unless it is pinned.
    pub track: String,
    /// The version that it stays with; `None` follows the track.
    pub pinned_digest: Option<String>,
    /// JSON, without secrets.
    pub settings: String,
    /// What the tenant grants, JSON; `None` grants what the operator approved.
    pub grants: Option<String>,
    /// 1 when it runs.
    pub is_enabled: i64,
    /// How often a check runs.
    pub interval_ms: Option<i64>,
    /// When it was made, Unix ms.
    pub created_at_ms: i64,
    /// Changes with every change.
    pub revision: i64,
}

impl InstallationRow {
    /// Whose.
    pub fn tenant(&self) -> TenantId {
        TenantId(self.tenant_id)
    }

    /// Its id.
    ///
    /// # Errors
    /// [`DbError::Corrupt`]; so of all methods here.
    pub fn id(&self) -> Result<InstallationId, DbError> {
        self.id.parse().map_err(|problem| self.corrupt(problem))
    }

    /// The settings, without secrets.
    pub fn settings(&self) -> Result<Map<String, Value>, DbError> {
        serde_json::from_str(&self.settings).map_err(|problem| self.corrupt(problem))
    }

    /// What the tenant grants; `None` grants what the operator approved.
    pub fn grants(&self) -> Result<Option<Grants>, DbError> {
        self.grants
            .as_deref()
            .map(plugins::grants)
            .transpose()
            .map_err(|problem| self.corrupt(problem))
    }

    fn corrupt(&self, problem: impl ToString) -> DbError {
        DbError::corrupt("installation", &self.id, problem)
    }
}

/// A secret as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct SecretRow {
    /// Whose.
    pub tenant_id: i64,
    /// Of which installation.
    pub installation_id: String,
    /// Which setting.
    pub name: String,
    /// What [`crate::secrets::SecretBox`] made of it.
    pub sealed: Vec<u8>,
}

/// What of an installation is to be stored.
#[derive(Clone, Debug)]
pub struct NewInstallation {
    /// Its id.
    pub id: InstallationId,
    /// The tenant's name for it.
    pub name: String,
    /// Which plugin.
    pub plugin_id: String,
    /// Its kind.
    pub kind: String,
    /// The track that it follows unless it is pinned.
    pub track: String,
    /// The version that it stays with.
    pub pinned_digest: Option<String>,
    /// Without secrets.
    pub settings: Map<String, Value>,
    /// Name and sealed value of each secret.
    pub secrets: Vec<(String, Vec<u8>)>,
    /// What the tenant grants.
    pub grants: Option<Grants>,
    /// Whether it runs.
    pub is_enabled: bool,
    /// How often a check runs.
    pub interval_ms: Option<i64>,
}

/// A change of an installation.
#[derive(Clone, Debug)]
pub struct ChangedInstallation {
    /// As it is to be.
    pub new: NewInstallation,
    /// The revision that the change was made from.
    pub made_from: i64,
    /// What versions need that cannot run with its settings.
    pub version_settings: Vec<VersionSettings>,
}

impl NewInstallation {
    /// As it would be read back.
    pub fn as_row(&self, tenant: TenantId) -> InstallationRow {
        InstallationRow {
            tenant_id: tenant.0,
            id: self.id.to_string(),
            name: self.name.clone(),
            plugin_id: self.plugin_id.clone(),
            kind: self.kind.clone(),
            track: self.track.clone(),
            pinned_digest: self.pinned_digest.clone(),
            settings: Value::Object(self.settings.clone()).to_string(),
            grants: self.grants.as_ref().map(plugins::grants_text),
            is_enabled: i64::from(self.is_enabled),
            interval_ms: self.interval_ms,
            created_at_ms: 0,
            revision: 0,
        }
    }
}

impl TenantDb {
    /// Stores a new installation.
    ///
    /// # Errors
    /// [`DbError::Exists`] when another installation of the tenant has its name.
    pub async fn create_installation(
        &self,
        new: &NewInstallation,
        audit: &Audit,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        let revision = plugins::next(&mut tx, "plugin_revision").await?;
        sql!(tx, c => sqlx::query(
            "INSERT INTO installation
                 (tenant_id, id, name, plugin_id, kind, track, pinned_digest, settings, grants, is_enabled, interval_ms,
                  created_at_ms, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(self.id().0)
        .bind(new.id.as_str())
        .bind(&new.name)
        .bind(&new.plugin_id)
        .bind(&new.kind)
        .bind(&new.track)
        .bind(&new.pinned_digest)
        .bind(Value::Object(new.settings.clone()).to_string())
        .bind(new.grants.as_ref().map(plugins::grants_text))
        .bind(i64::from(new.is_enabled))
        .bind(new.interval_ms)
        .bind(now.0)
        .bind(revision)
        .execute(c).await?.rows_affected());
        self.put_secrets(&mut tx, new).await?;
        record(&mut tx, audit, now).await?;
        tx.commit().await
    }

    /// Changes an installation; secrets that it does not name are deleted. `false` when it is not any more at the
    /// revision that the change was made from.
    ///
    /// # Errors
    /// [`DbError::Exists`] when another installation of the tenant has its name.
    pub async fn change_installation(
        &self,
        change: &ChangedInstallation,
        audit: &Audit,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let new = &change.new;
        let mut tx = self.begin().await?;
        let revision = plugins::next(&mut tx, "plugin_revision").await?;
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE installation
             SET name = $3, track = $4, pinned_digest = $5, settings = $6, grants = $7, is_enabled = $8,
                 interval_ms = $9, revision = $10
             WHERE tenant_id = $1 AND id = $2 AND revision = $11",
        )
        .bind(self.id().0)
        .bind(new.id.as_str())
        .bind(&new.name)
        .bind(&new.track)
        .bind(&new.pinned_digest)
        .bind(Value::Object(new.settings.clone()).to_string())
        .bind(new.grants.as_ref().map(plugins::grants_text))
        .bind(i64::from(new.is_enabled))
        .bind(new.interval_ms)
        .bind(revision)
        .bind(change.made_from)
        .execute(c).await?.rows_affected());
        if changed != 1 {
            return Ok(false);
        }
        self.put_secrets(&mut tx, new).await?;
        for settings in &change.version_settings {
            put_version_settings(&mut tx, settings).await?;
        }
        record(&mut tx, audit, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Disables an installation; it keeps its settings. `false` when there is none, or it is at another revision.
    pub async fn disable_installation(
        &self,
        id: &str,
        made_from: Option<i64>,
        audit: &Audit,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let revision = plugins::next(&mut tx, "plugin_revision").await?;
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE installation
             SET is_enabled = 0, revision = $3
             WHERE tenant_id = $1 AND id = $2 AND revision = COALESCE($4, revision)",
        ).bind(self.id().0).bind(id).bind(revision).bind(made_from).execute(c).await?.rows_affected());
        if changed == 1 {
            record(&mut tx, audit, now).await?;
            tx.commit().await?;
        }
        Ok(changed == 1)
    }

    async fn put_secrets(
        &self,
        tx: &mut Transaction,
        new: &NewInstallation,
    ) -> Result<(), DbError> {
        sql!(tx, c => sqlx::query(
            "DELETE FROM installation_secret WHERE tenant_id = $1 AND installation_id = $2",
        ).bind(self.id().0).bind(new.id.as_str()).execute(c).await?.rows_affected());
        for (name, sealed) in &new.secrets {
            sql!(tx, c => sqlx::query(
                "INSERT INTO installation_secret (tenant_id, installation_id, name, sealed)
                 VALUES ($1, $2, $3, $4)",
            ).bind(self.id().0).bind(new.id.as_str()).bind(name).bind(sealed).execute(c).await?.rows_affected());
        }
        Ok(())
    }

    /// The tenant's installations, by name.
    pub async fn installations(&self) -> Result<Vec<InstallationRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, id, name, plugin_id, kind, track, pinned_digest, settings, grants, is_enabled, interval_ms,
                    created_at_ms, revision
             FROM installation
             WHERE tenant_id = $1
             ORDER BY name",
        ).bind(self.id().0).fetch_all(c).await?))
    }

    /// One installation.
    pub async fn installation(&self, id: &str) -> Result<Option<InstallationRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, id, name, plugin_id, kind, track, pinned_digest, settings, grants, is_enabled, interval_ms,
                    created_at_ms, revision
             FROM installation
             WHERE tenant_id = $1 AND id = $2",
        ).bind(self.id().0).bind(id).fetch_optional(c).await?))
    }

    /// The sealed secrets of one installation.
    pub async fn installation_secrets(&self, id: &str) -> Result<Vec<SecretRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, installation_id, name, sealed
             FROM installation_secret
             WHERE tenant_id = $1 AND installation_id = $2
             ORDER BY name",
        ).bind(self.id().0).bind(id).fetch_all(c).await?))
    }

    /// The sealed secrets of all installations.
    pub async fn all_secrets(&self) -> Result<Vec<SecretRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, installation_id, name, sealed
             FROM installation_secret
             WHERE tenant_id = $1
             ORDER BY installation_id, name",
        ).bind(self.id().0).fetch_all(c).await?))
    }

    /// Settings of all installations for versions that need others.
    pub async fn all_version_settings(&self) -> Result<Vec<VersionSettings>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, installation_id, digest, settings, sealed, secret_names
             FROM installation_settings
             WHERE tenant_id = $1
             ORDER BY installation_id, digest",
        ).bind(self.id().0).fetch_all(c).await?))
    }

    /// Settings of one installation for versions that need others.
    pub async fn version_settings(&self, id: &str) -> Result<Vec<VersionSettings>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, installation_id, digest, settings, sealed, secret_names
             FROM installation_settings
             WHERE tenant_id = $1 AND installation_id = $2
             ORDER BY digest",
        ).bind(self.id().0).bind(id).fetch_all(c).await?))
    }

    /// Deletes an installation with its secrets. `false` when there is none, or it is at another revision.
    pub async fn delete_installation(
        &self,
        id: &str,
        made_from: Option<i64>,
        audit: &Audit,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        plugins::next(&mut tx, "plugin_revision").await?;
        let changed = sql!(tx, c => sqlx::query(
            "DELETE FROM installation WHERE tenant_id = $1 AND id = $2 AND revision = COALESCE($3, revision)",
        ).bind(self.id().0).bind(id).bind(made_from).execute(c).await?.rows_affected());
        if changed == 1 {
            record(&mut tx, audit, now).await?;
            tx.commit().await?;
        }
        Ok(changed == 1)
    }
}

impl System {
    /// Installations of all tenants, disabled ones included, that changed at a revision or since. Called by the registry.
    pub async fn installations_since(
        &self,
        revision: i64,
    ) -> Result<Vec<InstallationRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, id, name, plugin_id, kind, track, pinned_digest, settings, grants, is_enabled, interval_ms,
                    created_at_ms, revision
             FROM installation
             WHERE revision >= $1
             ORDER BY tenant_id, id",
        ).bind(revision).fetch_all(c).await?))
    }

    /// How many installations there are, disabled ones included. Called by the registry, which so notices deletions.
    pub async fn installation_count(&self) -> Result<i64, DbError> {
        let mut conn = self.reader().await?;
        Ok(
            sql!(conn, c => sqlx::query_scalar("SELECT COUNT(*) FROM installation")
            .fetch_one(c).await?),
        )
    }

    /// The sealed secrets of installations that changed at a revision or since. Called by the registry.
    pub async fn secrets_since(&self, revision: i64) -> Result<Vec<SecretRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT s.tenant_id, s.installation_id, s.name, s.sealed
             FROM installation_secret s
             JOIN installation i ON i.tenant_id = s.tenant_id AND i.id = s.installation_id
             WHERE i.revision >= $1
             ORDER BY s.tenant_id, s.installation_id, s.name",
        ).bind(revision).fetch_all(c).await?))
    }

    /// Settings for versions, of installations that changed at a revision or since. Called by the registry.
    pub async fn version_settings_since(
        &self,
        revision: i64,
    ) -> Result<Vec<VersionSettings>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT s.tenant_id, s.installation_id, s.digest, s.settings, s.sealed, s.secret_names
             FROM installation_settings s
             JOIN installation i ON i.tenant_id = s.tenant_id AND i.id = s.installation_id
             WHERE i.revision >= $1
             ORDER BY s.tenant_id, s.installation_id, s.digest",
        ).bind(revision).fetch_all(c).await?))
    }
}

#[cfg(test)]
pub(crate) mod tests;
