//! The latest failures of plugins, by installation: what a tenant needs to find out why.
//!
//! Bounded for each installation by number and for all by age. Nothing in it is a secret: who writes it has the
//! runtime hide what the settings keep.

use shoal_model::{TenantId, Timestamp};

use super::alerts::storable;
use super::{DbError, System, TenantDb, Transaction};

/// Failures kept of each installation.
pub const FAILURES_KEPT: i64 = 20;
/// Failures of one deletion by age.
const DELETED_MAX: i64 = 1000;

/// One call that failed.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct FailureRow {
    /// Whose.
    pub tenant_id: i64,
    /// Of which installation.
    pub installation_id: String,
    /// Grows with time.
    pub id: String,
    /// When it ended, Unix ms.
    pub at_ms: i64,
    /// Which plugin.
    pub plugin_id: String,
    /// Of which version.
    pub version: String,
    /// Of which component.
    pub digest: String,
    /// Its kind.
    pub kind: String,
    /// A short word, such as `panicked`.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// A JSON list, innermost function first.
    pub backtrace: String,
    /// A JSON list of lines with `level`, `source` and `message`.
    pub log: String,
    /// JSON: what it was asked, without secrets and cut.
    pub input: String,
    /// JSON: what the call used.
    pub report: String,
}

impl System {
    /// Stores failures of any tenants; of each installation only the latest stay. Those whose installation is gone are
    /// passed over. Called by the health of plugins, once a second.
    pub async fn add_failures(&self, rows: &[FailureRow]) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        for row in rows {
            insert(&mut tx, row).await?;
            sql!(tx, c => sqlx::query(
                "DELETE FROM plugin_failure
                 WHERE tenant_id = $1 AND installation_id = $2
                   AND id NOT IN (
                       SELECT id
                       FROM plugin_failure
                       WHERE tenant_id = $1 AND installation_id = $2
                       ORDER BY id DESC
                       LIMIT $3)",
            ).bind(row.tenant_id).bind(&row.installation_id).bind(FAILURES_KEPT).execute(c).await?.rows_affected());
        }
        tx.commit().await
    }
}

async fn insert(tx: &mut Transaction, row: &FailureRow) -> Result<(), DbError> {
    sql!(tx, c => sqlx::query(
        "INSERT INTO plugin_failure
             (tenant_id, installation_id, id, at_ms, plugin_id, version, digest, kind, code, message, backtrace, log,
              input, report)
         SELECT tenant_id, id, $3, CAST($4 AS BIGINT), $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
         FROM installation
         WHERE tenant_id = $1 AND id = $2
         ON CONFLICT (tenant_id, installation_id, id) DO NOTHING",
    )
    .bind(row.tenant_id)
    .bind(&row.installation_id)
    .bind(&row.id)
    .bind(row.at_ms)
    .bind(&row.plugin_id)
    .bind(&row.version)
    .bind(&row.digest)
    .bind(&row.kind)
    .bind(&row.code)
    .bind(storable(&row.message))
    .bind(storable(&row.backtrace))
    .bind(storable(&row.log))
    .bind(storable(&row.input))
    .bind(&row.report)
    .execute(c).await?.rows_affected());
    Ok(())
}

impl TenantDb {
    /// An installation's latest failures, the latest first.
    pub async fn failures(&self, installation: &str) -> Result<Vec<FailureRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, installation_id, id, at_ms, plugin_id, version, digest, kind, code, message, backtrace,
                    log, input, report
             FROM plugin_failure
             WHERE tenant_id = $1 AND installation_id = $2
             ORDER BY id DESC
             LIMIT $3",
        ).bind(self.id().0).bind(installation).bind(FAILURES_KEPT).fetch_all(c).await?))
    }

    /// Deletes failures before a time; returns how many.
    pub async fn delete_failures(&self, before: Timestamp) -> Result<u64, DbError> {
        let mut conn = self.writer().await?;
        Ok(sql!(conn, c => sqlx::query(
            "DELETE FROM plugin_failure
             WHERE tenant_id = $1
               AND id IN (
                   SELECT id FROM plugin_failure WHERE tenant_id = $1 AND at_ms < $2 ORDER BY at_ms LIMIT $3)",
        ).bind(self.id().0).bind(before.0).bind(DELETED_MAX).execute(c).await?.rows_affected()))
    }
}

impl FailureRow {
    /// Whose.
    pub fn tenant(&self) -> TenantId {
        TenantId(self.tenant_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::each_database;
    use crate::monitoring::testing::{installation, put, tenant};

    fn failure(db: &TenantDb, n: u8, at: i64) -> FailureRow {
        FailureRow {
            tenant_id: db.id().0,
            installation_id: installation(n, "check").id.to_string(),
            id: format!("{at:016}"),
            at_ms: at,
            plugin_id: "p".to_owned(),
            version: "1.0.0".to_owned(),
            digest: "sha256:a".to_owned(),
            kind: "check".to_owned(),
            code: "panicked".to_owned(),
            message: "with a NUL \0".to_owned(),
            backtrace: "[]".to_owned(),
            log: "[]".to_owned(),
            input: "{}".to_owned(),
            report: "{}".to_owned(),
        }
    }

    #[tokio::test]
    async fn of_each_installation_the_latest_failures_stay() {
        each_database(|db| async move {
            let (acme, other) = (tenant(&db, "acme").await, tenant(&db, "other").await);
            for n in [1, 2] {
                put(&acme, &installation(n, "check")).await;
            }
            let mut rows: Vec<_> = (0..FAILURES_KEPT + 5)
                .map(|at| failure(&acme, 1, at))
                .collect();
            rows.push(failure(&acme, 2, 0));
            rows.push(failure(&acme, 3, 0));
            db.system().add_failures(&rows).await.expect("stored");
            let id = |n: u8| installation(n, "check").id.to_string();
            let kept = acme.failures(&id(1)).await.expect("read");
            let times: Vec<i64> = kept.iter().map(|row| row.at_ms).collect();
            assert_eq!(times, (5..25).rev().collect::<Vec<_>>());
            assert_eq!(acme.failures(&id(2)).await.expect("read").len(), 1);
            assert_eq!(other.failures(&id(1)).await.expect("read"), []);
            assert_eq!(
                acme.delete_failures(Timestamp(10)).await.expect("deleted"),
                6
            );
        })
        .await;
    }
}
