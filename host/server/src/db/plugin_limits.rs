//! What the operator allows a tenant's plugins.

use shoal_model::Timestamp;
use shoal_runtime::TenantLimits;

use super::audit::record;
use super::plugins::next;
use super::{DbError, System, TenantDb};
use crate::audit::Audit;
use crate::limits::{self, LimitsByKind};

/// A tenant's own bounds.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct TenantLimitRow {
    /// Whose.
    pub tenant_id: i64,
    /// Its share of the slots.
    pub weight: i64,
    /// JSON, as [`LimitsByKind`].
    pub limits: String,
}

impl TenantLimitRow {
    /// What was set.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn by_kind(&self) -> Result<LimitsByKind, DbError> {
        serde_json::from_str(&self.limits)
            .map_err(|error| DbError::corrupt("tenant_limit", self.tenant_id, error))
    }

    /// What the runtime is told of it.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn tenant_limits(&self) -> Result<TenantLimits, DbError> {
        let limits = limits::checked(&self.by_kind()?)
            .map_err(|why| DbError::corrupt("tenant_limit", self.tenant_id, why))?;
        Ok(TenantLimits {
            weight: u32::try_from(self.weight).unwrap_or(1),
            limits,
        })
    }
}

impl System {
    /// The bounds of every tenant that has some. Called by the registry.
    pub async fn plugin_limits(&self) -> Result<Vec<TenantLimitRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, weight, limits FROM tenant_limit ORDER BY tenant_id",
        ).fetch_all(c).await?))
    }
}

impl TenantDb {
    /// The tenant's bounds, if it has some.
    pub async fn plugin_limits(&self) -> Result<Option<TenantLimitRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, weight, limits FROM tenant_limit WHERE tenant_id = $1",
        ).bind(self.id().0).fetch_optional(c).await?))
    }

    /// Sets the tenant's bounds, all at once. Every process learns of it as of any change of plugins.
    pub async fn set_plugin_limits(
        &self,
        weight: u32,
        limits: &str,
        actor: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sql!(tx, c => sqlx::query(
            "INSERT INTO tenant_limit (tenant_id, weight, limits, changed_at_ms)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant_id) DO UPDATE
             SET weight = excluded.weight, limits = excluded.limits, changed_at_ms = excluded.changed_at_ms",
        )
        .bind(self.id().0)
        .bind(i64::from(weight))
        .bind(limits)
        .bind(now.0)
        .execute(c).await?.rows_affected());
        next(&mut tx, "plugin_revision").await?;
        let audit = Audit {
            tenant: Some(self.id()),
            actor: actor.to_owned(),
            action: "tenant.limits",
            subject: "limits".to_owned(),
            detail: serde_json::json!({ "weight": weight, "limits": limits }),
        };
        record(&mut tx, &audit, now).await?;
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::each_database;

    #[tokio::test]
    async fn bounds_are_set_whole_and_every_process_learns_of_it() {
        each_database(|db| async move {
            let system = db.system();
            let tenant = system.create_tenant("acme", "Acme", Timestamp(1)).await;
            let acme = db.tenant(tenant.expect("made").id());
            assert_eq!(acme.plugin_limits().await.expect("read"), None);
            let before = system.plugin_revision().await.expect("read");
            for (weight, limits) in [(1, r#"{"check":{"cpu_ms":50}}"#), (3, "{}")] {
                let set = acme.set_plugin_limits(weight, limits, "me", Timestamp(2));
                set.await.expect("set");
                let row = TenantLimitRow {
                    tenant_id: acme.id().0,
                    weight: i64::from(weight),
                    limits: limits.to_owned(),
                };
                assert_eq!(acme.plugin_limits().await.expect("read"), Some(row.clone()));
                assert_eq!(system.plugin_limits().await.expect("read"), [row]);
            }
            assert_eq!(system.plugin_revision().await.expect("read"), before + 2);
        })
        .await;
    }
}
