//! What plugins used, and whom they contacted.
//!
//! Each process keeps sums of its own for every hour and writes them again whenever they grew: writing twice changes
//! nothing. When an hour closes, the sums of all processes become the meters `plugin.…` of the closed hour, under the
//! same lock as the usage set; what a process writes later stays on record here and is never billed.

use shoal_model::TenantId;
use shoal_model::time::Hour;
use shoal_model::usage::{Meter, MonthUsage};
use sqlx::AssertSqlSafe;

use super::catalog::{ROWS_MAX, rows};
use super::{DbError, System, TenantDb, Transaction, usage};

/// Hosts kept of one plugin, version, tenant and day; further ones are counted together.
const HOSTS_MAX: i64 = 200;
/// Hosts of one answer over all tenants.
const SHOWN_MAX: i64 = 1000;
/// The host under which further ones are counted.
pub const FURTHER_HOSTS: &str = "*";

/// One process's sums of one plugin in one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginUse {
    /// For whom it worked.
    pub tenant: TenantId,
    /// When.
    pub hour: Hour,
    /// Which plugin.
    pub plugin: String,
    /// Calls that began.
    pub calls: u64,
    /// Computing time in microseconds.
    pub cpu_us: u64,
    /// Bytes that it sent to the network.
    pub bytes_out: u64,
}

/// So many contacts of one host in one day, since they were written last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewContacts {
    /// For whom the plugin worked.
    pub tenant: TenantId,
    /// Which plugin.
    pub plugin: String,
    /// Its semantic version.
    pub version: String,
    /// Whole days since the epoch.
    pub day: i64,
    /// `host:port`.
    pub host: String,
    /// How often it was connected to.
    pub contacts: u64,
    /// How often that was refused.
    pub refused: u64,
}

/// A host that a plugin was connected to.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ContactRow {
    /// Of which version.
    pub version: String,
    /// `host:port`.
    pub host: String,
    /// How often it was connected to.
    pub contacts: i64,
    /// How often that was refused.
    pub refused: i64,
    /// Whole days since the epoch.
    pub last_day: i64,
}

#[derive(sqlx::FromRow)]
struct Sums {
    plugin_id: String,
    calls: i64,
    cpu_us: i64,
    bytes_out: i64,
}

impl Sums {
    /// What is closed and billed of them; microseconds rounded to milliseconds.
    fn meters(&self) -> [(Meter, i64); 3] {
        [
            (Meter::PluginCalls, self.calls),
            (Meter::PluginCpuMs, (self.cpu_us + 500) / 1000),
            (Meter::PluginBytesOut, self.bytes_out),
        ]
    }
}

impl System {
    /// Writes a process's sums, in place of those that it wrote before. Called by the meters of plugins.
    pub async fn put_plugin_usage(&self, process: &str, uses: &[PluginUse]) -> Result<(), DbError> {
        let mut tenants: Vec<TenantId> = uses.iter().map(|one| one.tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        let mut tx = self.begin().await?;
        usage::lock_closing(&mut tx, &tenants).await?;
        for chunk in uses.chunks(ROWS_MAX) {
            let text = format!(
                "INSERT INTO plugin_usage (tenant_id, hour, plugin_id, process, calls, cpu_us, bytes_out)
                 VALUES {}
                 ON CONFLICT (tenant_id, hour, plugin_id, process) DO UPDATE
                 SET calls = excluded.calls, cpu_us = excluded.cpu_us, bytes_out = excluded.bytes_out",
                rows(chunk.len(), 7)
            );
            sql!(tx, c => {
                let mut query = sqlx::query(AssertSqlSafe(text)).persistent(chunk.len() == ROWS_MAX);
                for one in chunk {
                    query = query
                        .bind(one.tenant.0)
                        .bind(one.hour.0)
                        .bind(&one.plugin)
                        .bind(process)
                        .bind(one.calls as i64)
                        .bind(one.cpu_us as i64)
                        .bind(one.bytes_out as i64);
                }
                query.execute(c).await?.rows_affected()
            });
        }
        tx.commit().await
    }

    /// Hosts that a plugin was connected to for anybody since a day, by version and host. Called by the operator's route.
    pub async fn contacts(&self, plugin: &str, since_day: i64) -> Result<Vec<ContactRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT version, host, CAST(SUM(contacts) AS BIGINT) AS contacts,
                    CAST(SUM(refused) AS BIGINT) AS refused, MAX(day) AS last_day
             FROM plugin_contact
             WHERE plugin_id = $1 AND day >= $2
             GROUP BY version, host
             ORDER BY version, host
             LIMIT $3",
        ).bind(plugin).bind(since_day).bind(SHOWN_MAX).fetch_all(c).await?))
    }

    /// Adds contacts of hosts. Called by the meters of plugins.
    pub async fn add_contacts(&self, contacts: &[NewContacts]) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        for one in contacts {
            let known: i64 = sql!(tx, c => sqlx::query_scalar(
                "SELECT COUNT(*)
                 FROM plugin_contact
                 WHERE tenant_id = $1 AND plugin_id = $2 AND version = $3 AND day = $4 AND host NOT IN ($5, '*')",
            )
            .bind(one.tenant.0)
            .bind(&one.plugin)
            .bind(&one.version)
            .bind(one.day)
            .bind(&one.host)
            .fetch_one(&mut *c).await?);
            let host = if known < HOSTS_MAX {
                one.host.as_str()
            } else {
                FURTHER_HOSTS
            };
            sql!(tx, c => sqlx::query(
                "INSERT INTO plugin_contact (tenant_id, plugin_id, version, day, host, contacts, refused)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (tenant_id, plugin_id, version, day, host) DO UPDATE
                 SET contacts = plugin_contact.contacts + $6, refused = plugin_contact.refused + $7",
            )
            .bind(one.tenant.0)
            .bind(&one.plugin)
            .bind(&one.version)
            .bind(one.day)
            .bind(host)
            .bind(one.contacts as i64)
            .bind(one.refused as i64)
            .execute(c).await?.rows_affected());
        }
        tx.commit().await
    }
}

impl TenantDb {
    /// Hosts that a plugin was connected to for the tenant since a day, by version and host.
    pub async fn contacts(&self, plugin: &str, since_day: i64) -> Result<Vec<ContactRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT version, host, CAST(SUM(contacts) AS BIGINT) AS contacts,
                    CAST(SUM(refused) AS BIGINT) AS refused, MAX(day) AS last_day
             FROM plugin_contact
             WHERE tenant_id = $1 AND plugin_id = $2 AND day >= $3
             GROUP BY version, host
             ORDER BY version, host",
        ).bind(self.id().0).bind(plugin).bind(since_day).fetch_all(c).await?))
    }

    /// Deletes contacts before a day, and sums of closed hours before an hour; returns how many rows.
    pub async fn delete_plugin_usage(&self, day: i64, before: Hour) -> Result<u64, DbError> {
        let Some(last) = self.last_closed_hour().await? else {
            return Ok(0);
        };
        let mut tx = self.begin().await?;
        let contacts = sql!(tx, c => sqlx::query("DELETE FROM plugin_contact WHERE tenant_id = $1 AND day < $2")
            .bind(self.id().0).bind(day).execute(c).await?.rows_affected());
        let sums = sql!(tx, c => sqlx::query("DELETE FROM plugin_usage WHERE tenant_id = $1 AND hour < $2")
            .bind(self.id().0).bind(before.min(last.next()).0).execute(c).await?.rows_affected());
        tx.commit().await?;
        Ok(contacts + sums)
    }

    /// Calls that were written when their hour was closed: on record, never billed.
    pub async fn late_plugin_calls(&self, from: Hour) -> Result<i64, DbError> {
        let Some(last) = self.last_closed_hour().await? else {
            return Ok(0);
        };
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_scalar(
            "SELECT COALESCE((SELECT CAST(SUM(calls) AS BIGINT)
                              FROM plugin_usage
                              WHERE tenant_id = $1 AND hour >= $2 AND hour <= $3), 0)
                  - COALESCE((SELECT CAST(SUM(quantity) AS BIGINT)
                              FROM usage_hour_subject
                              WHERE tenant_id = $1 AND hour >= $2 AND hour <= $3 AND meter = $4), 0)",
        )
        .bind(self.id().0)
        .bind(from.0)
        .bind(last.0)
        .bind(Meter::PluginCalls.as_str())
        .fetch_one(c).await?))
    }

    /// Writes an hour's sums of all processes as the quantities of the closed hour; returns how many. The caller holds the
    /// tenant's row of `usage_closing`.
    pub(super) async fn close_plugin_usage(
        &self,
        tx: &mut Transaction,
        hour: Hour,
    ) -> Result<u64, DbError> {
        let sums: Vec<Sums> = sql!(tx, c => sqlx::query_as(
            "SELECT plugin_id, CAST(SUM(calls) AS BIGINT) AS calls, CAST(SUM(cpu_us) AS BIGINT) AS cpu_us,
                    CAST(SUM(bytes_out) AS BIGINT) AS bytes_out
             FROM plugin_usage
             WHERE tenant_id = $1 AND hour = $2
             GROUP BY plugin_id
             ORDER BY plugin_id",
        ).bind(self.id().0).bind(hour.0).fetch_all(c).await?);
        let mut written = 0;
        for sum in &sums {
            for (meter, quantity) in sum.meters().into_iter().filter(|(_, q)| *q > 0) {
                written += sql!(tx, c => sqlx::query(
                    "INSERT INTO usage_hour_subject (tenant_id, hour, meter, subject, quantity)
                     VALUES ($1, $2, $3, $4, $5)",
                )
                .bind(self.id().0)
                .bind(hour.0)
                .bind(meter.as_str())
                .bind(&sum.plugin_id)
                .bind(quantity)
                .execute(c).await?.rows_affected());
            }
        }
        Ok(written)
    }

    /// Counts an open hour's sums into `usage`, as if it were closed now.
    pub(super) async fn count_plugin_usage(
        &self,
        usage: &mut MonthUsage,
        from: Hour,
        end: Hour,
    ) -> Result<(), DbError> {
        let mut conn = self.reader().await?;
        let sums: Vec<Sums> = sql!(conn, c => sqlx::query_as(
            "SELECT plugin_id, CAST(SUM(calls) AS BIGINT) AS calls, CAST(SUM(cpu_us) AS BIGINT) AS cpu_us,
                    CAST(SUM(bytes_out) AS BIGINT) AS bytes_out
             FROM plugin_usage
             WHERE tenant_id = $1 AND hour >= $2 AND hour < $3
             GROUP BY hour, plugin_id",
        ).bind(self.id().0).bind(from.0).bind(end.0).fetch_all(c).await?);
        for sum in &sums {
            for (meter, quantity) in sum.meters().into_iter().filter(|(_, q)| *q > 0) {
                usage.count(meter, &sum.plugin_id, quantity as u64);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use shoal_model::Timestamp;

    use super::*;
    use crate::db::testing::each_database;
    use crate::jobs::testing::hour;
    use crate::monitoring::testing::tenant;

    fn one(db: &TenantDb, at: i64, calls: u64, cpu_us: u64) -> PluginUse {
        PluginUse {
            tenant: db.id(),
            hour: hour(at),
            plugin: "echo".to_owned(),
            calls,
            cpu_us,
            bytes_out: 0,
        }
    }

    #[tokio::test]
    async fn sums_of_processes_are_closed_once_and_what_is_late_is_on_record() {
        each_database(|db| async move {
            let (acme, system) = (tenant(&db, "acme").await, db.system());
            let put = async |process: &str, uses: &[PluginUse]| {
                let put = system.put_plugin_usage(process, uses).await;
                put.expect("written");
            };
            put("a", &[one(&acme, 0, 1, 400)]).await;
            put("a", &[one(&acme, 0, 3, 1_200)]).await;
            put("b", &[one(&acme, 0, 2, 1_400), one(&acme, 1, 7, 0)]).await;
            let closed = acme.close_hour(hour(0), Timestamp(1)).await;
            assert!(closed.expect("closed"));
            let mut usage = acme
                .month_usage(hour(0).month(), hour(1))
                .await
                .expect("read");
            let of = |usage: &MonthUsage, meter| usage.total(meter).quantity_hours;
            assert_eq!(of(&usage, Meter::PluginCalls), 5);
            assert_eq!(of(&usage, Meter::PluginCpuMs), 3);
            assert!(!usage.meters.contains_key(&Meter::PluginBytesOut));
            acme.count_open_hours(&mut usage, hour(1), hour(1))
                .await
                .expect("counted");
            assert_eq!(of(&usage, Meter::PluginCalls), 12);
            assert_eq!(acme.uncounted_members(hour(0)).await.expect("read"), 0);
            assert_eq!(acme.late_plugin_calls(hour(0)).await.expect("read"), 0);
            put("a", &[one(&acme, 0, 4, 1_600)]).await;
            assert_eq!(acme.late_plugin_calls(hour(0)).await.expect("read"), 1);
            let usage = acme
                .month_usage(hour(0).month(), hour(1))
                .await
                .expect("read");
            assert_eq!(of(&usage, Meter::PluginCalls), 5);
            let deleted = acme.delete_plugin_usage(0, hour(9)).await;
            assert_eq!(deleted.expect("deleted"), 2, "the open hour stays");
        })
        .await;
    }

    #[tokio::test]
    async fn contacts_add_up_and_further_hosts_are_counted_together() {
        each_database(|db| async move {
            let (acme, other) = (tenant(&db, "acme").await, tenant(&db, "other").await);
            let contact = |host: &str| NewContacts {
                tenant: acme.id(),
                plugin: "slack".to_owned(),
                version: "1.0.0".to_owned(),
                day: 7,
                host: host.to_owned(),
                contacts: 2,
                refused: 0,
            };
            let mut all: Vec<_> = (0..HOSTS_MAX + 3)
                .map(|at| contact(&format!("h{at:03}:443")))
                .collect();
            all.push(contact("h000:443"));
            db.system().add_contacts(&all).await.expect("added");
            let rows = acme.contacts("slack", 0).await.expect("read");
            assert_eq!(rows.len() as i64, HOSTS_MAX + 1);
            let shown = |row: &ContactRow| (row.host.clone(), row.contacts);
            assert_eq!(shown(&rows[0]), (FURTHER_HOSTS.to_owned(), 6));
            assert_eq!(shown(&rows[1]), ("h000:443".to_owned(), 4));
            assert_eq!(other.contacts("slack", 0).await.expect("read"), []);
            assert_eq!(acme.contacts("slack", 8).await.expect("read"), []);
        })
        .await;
    }
}
