//! Usage: the set of what was used, and the hours closed over it.

use shoal_model::TenantId;
use shoal_model::usage::Usage;

use super::{DbError, TenantDb, Transaction};

impl TenantDb {
    /// Unites elements with the usage set; those already in it change nothing.
    pub async fn add_usage(&self, usage: &[Usage]) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        for element in usage {
            unite(&mut tx, self.id(), element).await?;
        }
        tx.commit().await
    }
}

/// Unites one element with a tenant's usage set.
pub(super) async fn unite(
    tx: &mut Transaction,
    tenant: TenantId,
    usage: &Usage,
) -> Result<(), DbError> {
    sql!(tx, c => sqlx::query(
        "INSERT INTO usage_member (tenant_id, hour, meter, subject, member)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_id, hour, meter, subject, member) DO NOTHING",
    )
    .bind(tenant.0)
    .bind(usage.hour.0)
    .bind(usage.meter.as_str())
    .bind(&usage.subject)
    .bind(usage.member as i64)
    .execute(c).await?.rows_affected());
    Ok(())
}
