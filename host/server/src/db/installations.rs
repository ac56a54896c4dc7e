//! Installations: plugins that tenants have enabled, with settings, secrets and grants.

use serde_json::{Map, Value};
use shoal_model::grant::Grants;
use shoal_model::{InstallationId, TenantId, Timestamp};

use super::{DbError, System, TenantDb, Transaction, plugins};

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
    /// The version that it stays with; `None` follows the version approved last.
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

impl NewInstallation {
    /// As it would be read back.
    pub fn as_row(&self, tenant: TenantId) -> InstallationRow {
        InstallationRow {
            tenant_id: tenant.0,
            id: self.id.to_string(),
            name: self.name.clone(),
            plugin_id: self.plugin_id.clone(),
            kind: self.kind.clone(),
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
    /// Stores an installation, new or changed; secrets that it does not name are deleted.
    ///
    /// # Errors
    /// [`DbError::Exists`] when another installation of the tenant has its name.
    pub async fn put_installation(
        &self,
        new: &NewInstallation,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        let revision = plugins::next(&mut tx, "plugin_revision").await?;
        sql!(tx, c => sqlx::query(
            "INSERT INTO installation
                 (tenant_id, id, name, plugin_id, kind, pinned_digest, settings, grants, is_enabled, interval_ms,
                  created_at_ms, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (tenant_id, id) DO UPDATE
             SET name = $3, pinned_digest = $6, settings = $7, grants = $8, is_enabled = $9, interval_ms = $10,
                 revision = $12",
        )
        .bind(self.id().0)
        .bind(new.id.as_str())
        .bind(&new.name)
        .bind(&new.plugin_id)
        .bind(&new.kind)
        .bind(&new.pinned_digest)
        .bind(Value::Object(new.settings.clone()).to_string())
        .bind(new.grants.as_ref().map(plugins::grants_text))
        .bind(i64::from(new.is_enabled))
        .bind(new.interval_ms)
        .bind(now.0)
        .bind(revision)
        .execute(c).await?.rows_affected());
        self.put_secrets(&mut tx, new).await?;
        tx.commit().await
    }

    /// Disables an installation; it keeps its settings. `false` when there is none.
    pub async fn disable_installation(&self, id: &str) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let revision = plugins::next(&mut tx, "plugin_revision").await?;
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE installation SET is_enabled = 0, revision = $3 WHERE tenant_id = $1 AND id = $2",
        ).bind(self.id().0).bind(id).bind(revision).execute(c).await?.rows_affected());
        tx.commit().await?;
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
            "SELECT tenant_id, id, name, plugin_id, kind, pinned_digest, settings, grants, is_enabled, interval_ms,
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
            "SELECT tenant_id, id, name, plugin_id, kind, pinned_digest, settings, grants, is_enabled, interval_ms,
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

    /// Deletes an installation with its secrets. `false` when there is none.
    pub async fn delete_installation(&self, id: &str) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        plugins::next(&mut tx, "plugin_revision").await?;
        let changed = sql!(tx, c => sqlx::query("DELETE FROM installation WHERE tenant_id = $1 AND id = $2")
            .bind(self.id().0).bind(id).execute(c).await?.rows_affected());
        tx.commit().await?;
        Ok(changed == 1)
    }
}

impl System {
    /// Every enabled installation of every tenant. Called by the registry.
    pub async fn enabled_installations(&self) -> Result<Vec<InstallationRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, id, name, plugin_id, kind, pinned_digest, settings, grants, is_enabled, interval_ms,
                    created_at_ms, revision
             FROM installation
             WHERE is_enabled = 1
             ORDER BY tenant_id, id",
        ).fetch_all(c).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::plugins::tests::version;
    use crate::db::testing::each_database;

    fn installation(name: &str) -> NewInstallation {
        NewInstallation {
            id: InstallationId::from_random([7; 10]),
            name: name.to_owned(),
            plugin_id: "p".to_owned(),
            kind: "check".to_owned(),
            pinned_digest: None,
            settings: Map::new(),
            secrets: vec![("token".to_owned(), vec![1, 2])],
            grants: None,
            is_enabled: true,
            interval_ms: Some(60_000),
        }
    }

    #[tokio::test]
    async fn an_installation_belongs_to_its_tenant_alone() {
        each_database(|db| async move {
            let system = db.system();
            system
                .add_version(&version("sha256:a", "p"), b"abc")
                .await
                .expect("added");
            let acme = system
                .create_tenant("acme", "Acme", Timestamp(1))
                .await
                .expect("made")
                .id();
            let other = system
                .create_tenant("other", "Other", Timestamp(1))
                .await
                .expect("made")
                .id();
            let (acme, other) = (db.tenant(acme), db.tenant(other));
            let mut new = installation("page");
            acme.put_installation(&new, Timestamp(2))
                .await
                .expect("put");
            let first = acme
                .installation(new.id.as_str())
                .await
                .expect("read")
                .expect("there");
            assert_eq!(
                acme.installation_secrets(new.id.as_str())
                    .await
                    .expect("read")
                    .len(),
                1
            );
            assert_eq!(
                system.enabled_installations().await.expect("read"),
                std::slice::from_ref(&first)
            );

            assert_eq!(
                other.installation(new.id.as_str()).await.expect("read"),
                None
            );
            assert_eq!(
                other
                    .installation_secrets(new.id.as_str())
                    .await
                    .expect("read"),
                []
            );
            assert!(
                !other
                    .delete_installation(new.id.as_str())
                    .await
                    .expect("answered")
            );

            new.is_enabled = false;
            new.secrets.clear();
            new.pinned_digest = Some("sha256:a".to_owned());
            acme.put_installation(&new, Timestamp(3))
                .await
                .expect("put again");
            let second = acme
                .installation(new.id.as_str())
                .await
                .expect("read")
                .expect("there");
            assert!(second.revision > first.revision);
            assert_eq!((second.created_at_ms, second.is_enabled), (2, 0));
            assert_eq!(
                acme.installation_secrets(new.id.as_str())
                    .await
                    .expect("read"),
                []
            );
            assert_eq!(system.enabled_installations().await.expect("read"), []);
            assert!(
                acme.delete_installation(new.id.as_str())
                    .await
                    .expect("answered")
            );
        })
        .await;
    }

    #[tokio::test]
    async fn two_installations_of_a_tenant_cannot_share_a_name() {
        each_database(|db| async move {
            let acme = db
                .system()
                .create_tenant("acme", "Acme", Timestamp(1))
                .await
                .expect("made")
                .id();
            let acme = db.tenant(acme);
            acme.put_installation(&installation("page"), Timestamp(2))
                .await
                .expect("put");
            let mut same_name = installation("page");
            same_name.id = InstallationId::from_random([8; 10]);
            let refused = acme.put_installation(&same_name, Timestamp(2)).await;
            assert!(matches!(refused, Err(DbError::Exists(_))), "{refused:?}");
        })
        .await;
    }
}
