//! Tenants and their API keys.

use serde_json::json;
use shoal_model::TenantId;
use shoal_model::Timestamp;
use shoal_model::id::KeyId;

use super::audit::record;
use super::{DbError, System, TenantDb, Transaction};
use crate::audit::{Audit, SYSTEM};
use crate::auth::{ApiKey, Role};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Tenant {
    /// Its number.
    pub id: i64,
    /// Its name in commands and addresses: 1 to 63 of a-z, 0-9 and `-`.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// When it was made, Unix ms.
    pub created_at_ms: i64,
}

/// An API key as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct KeyRow {
    /// Its public part, `key_…`.
    pub id: String,
    /// What it is for, in its owner's words.
    pub name: String,
    /// `read`, `write` or `operator`.
    pub role: String,
    /// When it was made, Unix ms.
    pub created_at_ms: i64,
    /// When it was revoked, Unix ms.
    pub revoked_at_ms: Option<i64>,
    /// When it was last used, to the minute, Unix ms.
    pub last_used_at_ms: Option<i64>,
}

/// Whose request it is.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The tenant.
    pub tenant: Tenant,
    /// What its key allows.
    pub role: Role,
    /// Which key.
    pub key: KeyId,
    /// What the key is for, in its owner's words.
    pub key_name: String,
    /// When it was last used before, to the minute, Unix ms.
    pub last_used_at_ms: Option<i64>,
}

/// A key that is to be stored.
pub struct NewKey<'a> {
    /// The key.
    pub key: &'a ApiKey,
    /// What it is for.
    pub name: &'a str,
    /// What it allows.
    pub role: Role,
}

#[derive(sqlx::FromRow)]
struct KeyAndTenant {
    secret_hash: Vec<u8>,
    role: String,
    key_name: String,
    id: i64,
    key: String,
    name: String,
    created_at_ms: i64,
    last_used_at_ms: Option<i64>,
}

/// Revoked keys of one tenant that are kept, so that it can be seen what they were: the latest.
const REVOKED_KEPT_MAX: i64 = 1000;

impl System {
    /// Makes a tenant by itself. Called at the first start.
    ///
    /// # Errors
    /// See [`System::create_tenant_by`].
    pub async fn create_tenant(
        &self,
        key: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Tenant, DbError> {
        self.create_tenant_by(SYSTEM, key, name, now).await
    }

    /// Makes a tenant for somebody. Called by the operator's route.
    ///
    /// # Errors
    /// [`DbError::Exists`] when there is a tenant with this key.
    pub async fn create_tenant_by(
        &self,
        actor: &str,
        key: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Tenant, DbError> {
        let mut tx = self.begin().await?;
        let (id,): (i64,) = sql!(tx, c => sqlx::query_as(
            "UPDATE id_counter SET next = next + 1 WHERE name = 'tenant' RETURNING next - 1",
        ).fetch_one(c).await?);
        sql!(tx, c => sqlx::query(
            "INSERT INTO tenant (id, key, name, created_at_ms) VALUES ($1, $2, $3, $4)",
        ).bind(id).bind(key).bind(name).bind(now.0).execute(c).await?.rows_affected());
        let audit = Audit {
            tenant: Some(TenantId(id)),
            actor: actor.to_owned(),
            action: "tenant.create",
            subject: key.to_owned(),
            detail: json!({ "name": name }),
        };
        record(&mut tx, &audit, now).await?;
        tx.commit().await?;
        Ok(Tenant {
            id,
            key: key.to_owned(),
            name: name.to_owned(),
            created_at_ms: now.0,
        })
    }

    /// Every tenant by its key. Called by the operator's route and by what works for all tenants.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT id, key, name, created_at_ms FROM tenant ORDER BY key",
        ).fetch_all(c).await?))
    }

    /// The tenant with a key. Called where the operator names a tenant.
    pub async fn tenant_by_key(&self, key: &str) -> Result<Option<Tenant>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT id, key, name, created_at_ms FROM tenant WHERE key = $1",
        ).bind(key).fetch_optional(c).await?))
    }

    /// Whose key this is; `None` when it is unknown, revoked or its secret is wrong. Called once a request.
    pub async fn authenticate(&self, key: &ApiKey) -> Result<Option<Authenticated>, DbError> {
        let mut conn = self.reader().await?;
        let row: Option<KeyAndTenant> = sql!(conn, c => sqlx::query_as(
            "SELECT k.secret_hash, k.role, k.name AS key_name, k.last_used_at_ms, t.id, t.key, t.name, t.created_at_ms
             FROM api_key k
             JOIN tenant t ON t.id = k.tenant_id
             WHERE k.id = $1 AND k.revoked_at_ms IS NULL",
        ).bind(key.id.as_str()).fetch_optional(c).await?);
        let Some(row) = row.filter(|row| key.matches(&row.secret_hash)) else {
            return Ok(None);
        };
        let role = row
            .role
            .parse()
            .map_err(|e| DbError::corrupt("api_key", &key.id, e))?;
        let tenant = Tenant {
            id: row.id,
            key: row.key,
            name: row.name,
            created_at_ms: row.created_at_ms,
        };
        Ok(Some(Authenticated {
            tenant,
            role,
            key: key.id.clone(),
            key_name: row.key_name,
            last_used_at_ms: row.last_used_at_ms,
        }))
    }
}

impl Tenant {
    /// Its number.
    pub fn id(&self) -> TenantId {
        TenantId(self.id)
    }
}

impl TenantDb {
    /// Its name for people; empty when it is gone.
    pub async fn name(&self) -> Result<String, DbError> {
        let mut conn = self.reader().await?;
        let name: Option<String> = sql!(conn, c => sqlx::query_scalar(
            "SELECT name FROM tenant WHERE id = $1",
        ).bind(self.id().0).fetch_optional(c).await?);
        Ok(name.unwrap_or_default())
    }

    /// How many of the tenant's keys are not revoked.
    pub async fn valid_keys(&self) -> Result<i64, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_scalar(
            "SELECT COUNT(*) FROM api_key WHERE tenant_id = $1 AND revoked_at_ms IS NULL",
        ).bind(self.id().0).fetch_one(c).await?))
    }

    /// Stores a key that was made at the first start.
    pub async fn add_key(
        &self,
        key: &ApiKey,
        name: &str,
        role: Role,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let new = NewKey { key, name, role };
        self.add_key_by(SYSTEM, &new, now).await
    }

    /// Stores a new key for somebody, and forgets those that were revoked longest ago, beyond [`REVOKED_KEPT_MAX`].
    pub async fn add_key_by(
        &self,
        actor: &str,
        new: &NewKey<'_>,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        insert_key(&mut tx, self.id(), new, now).await?;
        sql!(tx, c => sqlx::query(
            "DELETE FROM api_key
             WHERE tenant_id = $1 AND id IN (
                 SELECT id
                 FROM api_key
                 WHERE tenant_id = $1 AND revoked_at_ms IS NOT NULL
                 ORDER BY revoked_at_ms DESC, id
                 LIMIT 1000 OFFSET $2)",
        ).bind(self.id().0).bind(REVOKED_KEPT_MAX).execute(c).await?.rows_affected());
        let audit = Audit {
            tenant: Some(self.id()),
            actor: actor.to_owned(),
            action: "key.create",
            subject: new.key.id.to_string(),
            detail: json!({ "name": new.name, "role": new.role.as_str() }),
        };
        record(&mut tx, &audit, now).await?;
        tx.commit().await
    }

    /// The tenant's keys, revoked ones included, oldest first.
    pub async fn keys(&self) -> Result<Vec<KeyRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT id, name, role, created_at_ms, revoked_at_ms, last_used_at_ms
             FROM api_key
             WHERE tenant_id = $1
             ORDER BY created_at_ms, id",
        ).bind(self.id().0).fetch_all(c).await?))
    }

    /// Revokes a key. `false` when the tenant has no such key; revoking again changes nothing.
    pub async fn revoke_key(&self, actor: &str, id: &str, now: Timestamp) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE api_key
             SET revoked_at_ms = COALESCE(revoked_at_ms, $3)
             WHERE tenant_id = $1 AND id = $2",
        ).bind(self.id().0).bind(id).bind(now.0).execute(c).await?.rows_affected());
        if changed == 1 {
            let audit = Audit {
                tenant: Some(self.id()),
                actor: actor.to_owned(),
                action: "key.revoke",
                subject: id.to_owned(),
                detail: json!({}),
            };
            record(&mut tx, &audit, now).await?;
        }
        tx.commit().await?;
        Ok(changed == 1)
    }

    /// Notes that a key was used; kept to the minute. Within a minute that is noted already nothing is asked of the
    /// database, so that looking at something waits for nobody who writes.
    pub async fn key_used(&self, used: &Authenticated, now: Timestamp) -> Result<(), DbError> {
        let minute = now.slot(
            std::time::Duration::from_secs(60),
            std::time::Duration::ZERO,
        );
        if used.last_used_at_ms.is_some_and(|last| last >= minute.0) {
            return Ok(());
        }
        let mut conn = self.writer().await?;
        sql!(conn, c => sqlx::query(
            "UPDATE api_key
             SET last_used_at_ms = $3
             WHERE tenant_id = $1 AND id = $2 AND (last_used_at_ms IS NULL OR last_used_at_ms < $3)",
        ).bind(self.id().0).bind(used.key.as_str()).bind(minute.0).execute(c).await?.rows_affected());
        Ok(())
    }
}

async fn insert_key(
    tx: &mut Transaction,
    tenant: TenantId,
    new: &NewKey<'_>,
    now: Timestamp,
) -> Result<(), DbError> {
    sql!(tx, c => sqlx::query(
        "INSERT INTO api_key (tenant_id, id, name, role, secret_hash, created_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tenant.0)
    .bind(new.key.id.as_str())
    .bind(new.name)
    .bind(new.role.as_str())
    .bind(new.key.hash())
    .bind(now.0)
    .execute(c).await?.rows_affected());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::each_database;

    #[tokio::test]
    async fn a_key_opens_its_own_tenant_until_it_is_revoked() {
        each_database(|db| async move {
            let system = db.system();
            let acme = system
                .create_tenant("acme", "Acme", Timestamp(5))
                .await
                .expect("made");
            let other = system
                .create_tenant("other", "Other", Timestamp(6))
                .await
                .expect("made");
            assert_eq!((acme.id(), other.id()), (TenantId(1), TenantId(2)));
            assert_eq!(
                system.tenants().await.expect("listed"),
                [acme.clone(), other.clone()]
            );
            let key = ApiKey::random();
            db.tenant(acme.id())
                .add_key(&key, "agent", Role::Write, Timestamp(7))
                .await
                .expect("added");
            let found = system
                .authenticate(&key)
                .await
                .expect("answered")
                .expect("known");
            assert_eq!((found.tenant, found.role), (acme.clone(), Role::Write));

            let same_id = ApiKey::parse(&ApiKey::random().reveal()).expect("a key");
            assert!(
                system
                    .authenticate(&same_id)
                    .await
                    .expect("answered")
                    .is_none()
            );
            let revoke = |tenant: TenantId| {
                let (db, id) = (db.clone(), key.id.clone());
                async move {
                    db.tenant(tenant)
                        .revoke_key("me", id.as_str(), Timestamp(8))
                        .await
                        .expect("answered")
                }
            };
            assert!(
                !revoke(other.id()).await,
                "another tenant's key is not found"
            );
            assert!(system.authenticate(&key).await.expect("answered").is_some());
            assert!(revoke(acme.id()).await);
            assert!(system.authenticate(&key).await.expect("answered").is_none());
            assert_eq!(db.tenant(other.id()).keys().await.expect("listed"), []);
        })
        .await;
    }

    #[tokio::test]
    async fn two_tenants_cannot_share_a_key() {
        each_database(|db| async move {
            let system = db.system();
            system
                .create_tenant("acme", "Acme", Timestamp(1))
                .await
                .expect("made");
            let again = system.create_tenant("acme", "Acme 2", Timestamp(2)).await;
            assert!(matches!(again, Err(DbError::Exists(_))), "{again:?}");
        })
        .await;
    }

    #[tokio::test]
    async fn use_of_a_key_is_noted_once_a_minute_and_asks_for_no_writer_else() {
        each_database(|db| async move {
            let system = db.system();
            let made = system.create_tenant("acme", "Acme", Timestamp(1)).await;
            let (tenant, key) = (db.tenant(made.expect("made").id()), ApiKey::random());
            tenant
                .add_key(&key, "agent", Role::Read, Timestamp(1))
                .await
                .expect("added");
            let used = |now| {
                let (system, tenant, key) = (&system, &tenant, &key);
                async move {
                    let found = system.authenticate(key).await.expect("answered");
                    let found = found.expect("known");
                    tenant
                        .key_used(&found, Timestamp(now))
                        .await
                        .expect("noted");
                }
            };
            used(61_500).await;
            // SQLite's only writer is taken.
            let writing = db.begin().await.expect("a transaction");
            used(60_000).await;
            used(119_999).await;
            drop(writing);
            assert_eq!(
                tenant.keys().await.expect("listed")[0].last_used_at_ms,
                Some(60_000)
            );
        })
        .await;
    }
}
