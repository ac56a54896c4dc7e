//! Usage: the set of what was used, and the hours closed over it.

use shoal_model::TenantId;
use shoal_model::usage::Usage;
use sqlx::AssertSqlSafe;

use super::catalog::{ROWS_MAX, rows};
use super::{DbError, TenantDb, Transaction};

impl TenantDb {
    /// Unites elements with the usage set; those already in it change nothing.
    pub async fn add_usage(&self, usage: &[Usage]) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        let usage: Vec<_> = usage.iter().map(|one| (self.id(), one.clone())).collect();
        unite_all(&mut tx, &usage).await?;
        tx.commit().await
    }
}

/// Unites elements with the usage sets of their tenants, in as few statements as possible.
pub(super) async fn unite_all(
    tx: &mut Transaction,
    usage: &[(TenantId, Usage)],
) -> Result<(), DbError> {
    for chunk in usage.chunks(ROWS_MAX) {
        let text = format!(
            "INSERT INTO usage_member (tenant_id, hour, meter, subject, member)
             VALUES {}
             ON CONFLICT (tenant_id, hour, meter, subject, member) DO NOTHING",
            rows(chunk.len(), 5)
        );
        sql!(tx, c => {
            let mut query = sqlx::query(AssertSqlSafe(text)).persistent(chunk.len() == ROWS_MAX);
            for (tenant, element) in chunk {
                query = query
                    .bind(tenant.0)
                    .bind(element.hour.0)
                    .bind(element.meter.as_str())
                    .bind(&element.subject)
                    .bind(element.member as i64);
            }
            query.execute(c).await?.rows_affected()
        });
    }
    Ok(())
}
