//! Usage: the set of what was used, and the hours closed over it.
//!
//! An hour is closed in one transaction that counts the set, and never changes afterwards: not its counts, and
//! not its part of the set. Hours close in order, one after another, from the tenant's first; so one hour, the last
//! closed one, says of every other whether it is closed. What arrives for a closed hour goes to `usage_late`.
//!
//! Adding and closing hold the tenant's row of `usage_closing` until their transaction ends: on PostgreSQL, where
//! transactions run side by side, an hour could else be counted while an element of it is on its way.

use std::collections::HashMap;

use shoal_model::time::{Hour, Month};
use shoal_model::usage::{Meter, MonthUsage, SubjectUsage, Usage};
use shoal_model::{TenantId, Timestamp};
use sqlx::AssertSqlSafe;

use super::catalog::{ROWS_MAX, rows};
use super::{DbError, TenantDb, Transaction};

/// A closed hour of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ClosedHour {
    /// Whole hours since the epoch.
    pub hour: i64,
    /// When it was closed, Unix ms.
    pub closed_at_ms: i64,
    /// Pairs of meter and subject in it.
    pub subjects: i64,
    /// Their quantities, summed: distinct members, and sums of what plugins used.
    pub quantity: i64,
}

/// Of one closed hour, one meter.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct HourMeter {
    /// Whole hours since the epoch.
    pub hour: i64,
    /// Which meter.
    pub meter: String,
    /// Its subjects.
    pub subjects: i64,
    /// Their quantities, summed.
    pub quantity: i64,
}

#[derive(sqlx::FromRow)]
struct SubjectSum {
    meter: String,
    subject: String,
    active_hours: i64,
    quantity_hours: i64,
}

#[derive(sqlx::FromRow)]
struct SubjectHour {
    meter: String,
    subject: String,
    quantity: i64,
}

impl TenantDb {
    /// Unites elements with the usage set; those already in it change nothing.
    pub async fn add_usage(&self, usage: &[Usage]) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        let usage: Vec<_> = usage.iter().map(|one| (self.id(), one.clone())).collect();
        unite_all(&mut tx, &usage).await?;
        tx.commit().await
    }

    /// The hour that is closed next: the one after the last closed one, or the tenant's first, which is that in which it
    /// was made, or that of its first usage when a clock was wrong.
    pub async fn next_open_hour(&self, made: Timestamp) -> Result<Hour, DbError> {
        if let Some(last) = self.last_closed_hour().await? {
            return Ok(last.next());
        }
        let mut conn = self.reader().await?;
        let first: Option<i64> = sql!(conn, c => sqlx::query_scalar(
            "SELECT MIN(hour)
             FROM (SELECT hour FROM usage_member WHERE tenant_id = $1
                   UNION ALL
                   SELECT hour FROM plugin_usage WHERE tenant_id = $1) AS used",
        ).bind(self.id().0).fetch_one(c).await?);
        let made = made.hour();
        Ok(first.map_or(made, |first| made.min(Hour(first))))
    }

    /// The last closed hour; `None` before the first.
    pub async fn last_closed_hour(&self) -> Result<Option<Hour>, DbError> {
        let mut conn = self.reader().await?;
        let last: Option<Option<i64>> = sql!(conn, c => sqlx::query_scalar(
            "SELECT last_hour FROM usage_closing WHERE tenant_id = $1",
        ).bind(self.id().0).fetch_optional(c).await?);
        Ok(last.flatten().map(Hour))
    }

    /// Counts the distinct members of an hour and closes it, without usage too. `false`, and nothing changes, when it is
    /// closed already. The caller closes hours in order.
    pub async fn close_hour(&self, hour: Hour, now: Timestamp) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        lock_closing(&mut tx, &[self.id()]).await?;
        let closed = sql!(tx, c => sqlx::query(
            "INSERT INTO usage_hour (tenant_id, hour, closed_at_ms, subjects, quantity)
             VALUES ($1, $2, $3, 0, 0)
             ON CONFLICT (tenant_id, hour) DO NOTHING",
        ).bind(self.id().0).bind(hour.0).bind(now.0).execute(c).await?.rows_affected());
        if closed == 0 {
            return Ok(false);
        }
        let subjects = sql!(tx, c => sqlx::query(
            "INSERT INTO usage_hour_subject (tenant_id, hour, meter, subject, quantity)
             SELECT tenant_id, hour, meter, subject, COUNT(*)
             FROM usage_member
             WHERE tenant_id = $1 AND hour = $2
             GROUP BY tenant_id, hour, meter, subject",
        ).bind(self.id().0).bind(hour.0).execute(c).await?.rows_affected());
        let subjects = subjects + self.close_plugin_usage(&mut tx, hour).await?;
        if subjects > 0 {
            let changed = sql!(tx, c => sqlx::query(
                "UPDATE usage_hour
                 SET subjects = $3,
                     quantity = (SELECT CAST(SUM(quantity) AS BIGINT)
                                 FROM usage_hour_subject
                                 WHERE tenant_id = $1 AND hour = $2)
                 WHERE tenant_id = $1 AND hour = $2",
            ).bind(self.id().0).bind(hour.0).bind(subjects as i64).execute(c).await?.rows_affected());
            DbError::expect_rows("usage_hour", hour.0, changed, 1)?;
        }
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE usage_closing
             SET last_hour = $2
             WHERE tenant_id = $1 AND (last_hour IS NULL OR last_hour < $2)",
        ).bind(self.id().0).bind(hour.0).execute(c).await?.rows_affected());
        DbError::expect_rows("usage_closing", self.id(), changed, 1)?;
        tx.commit().await?;
        Ok(true)
    }

    /// Members of the set that no closed hour counts although its hour, from `from` on, is closed. Always 0, or usage
    /// was lost: both sides are counted anew.
    pub async fn uncounted_members(&self, from: Hour) -> Result<i64, DbError> {
        let Some(last) = self.last_closed_hour().await? else {
            return Ok(0);
        };
        let mut conn = self.reader().await?;
        let members: i64 = sql!(conn, c => sqlx::query_scalar(
            "SELECT COUNT(*) FROM usage_member WHERE tenant_id = $1 AND hour >= $2 AND hour <= $3",
        ).bind(self.id().0).bind(from.0).bind(last.0).fetch_one(c).await?);
        let counted: i64 = sql!(conn, c => sqlx::query_scalar(
            "SELECT COALESCE(CAST(SUM(quantity) AS BIGINT), 0)
             FROM usage_hour_subject
             WHERE tenant_id = $1 AND hour >= $2 AND hour <= $3 AND meter NOT LIKE 'plugin.%'",
        ).bind(self.id().0).bind(from.0).bind(last.0).fetch_one(c).await?);
        Ok(members - counted)
    }

    /// Elements that arrived after their hour was closed.
    pub async fn late_members(&self) -> Result<i64, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_scalar(
            "SELECT COUNT(*) FROM usage_late WHERE tenant_id = $1",
        ).bind(self.id().0).fetch_one(c).await?))
    }

    /// Elements of one hour's set.
    pub async fn usage_members(&self, hour: Hour) -> Result<i64, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_scalar(
            "SELECT COUNT(*) FROM usage_member WHERE tenant_id = $1 AND hour = $2",
        ).bind(self.id().0).bind(hour.0).fetch_one(c).await?))
    }

    /// What the closed hours of a month before `open` sum up to. With [`TenantDb::next_open_hour`] these are all; as closed
    /// hours never change, what is read is of one state, without a transaction.
    pub async fn month_usage(&self, month: Month, open: Hour) -> Result<MonthUsage, DbError> {
        let mut usage = MonthUsage::new(month);
        let (from, end) = (month.first_hour(), month.next().first_hour().min(open));
        let mut conn = self.reader().await?;
        let closed: i64 = sql!(conn, c => sqlx::query_scalar(
            "SELECT COUNT(*) FROM usage_hour WHERE tenant_id = $1 AND hour >= $2 AND hour < $3",
        ).bind(self.id().0).bind(from.0).bind(end.0).fetch_one(c).await?);
        usage.closed_hours = closed as u32;
        let sums: Vec<SubjectSum> = sql!(conn, c => sqlx::query_as(
            "SELECT meter, subject, COUNT(*) AS active_hours, CAST(SUM(quantity) AS BIGINT) AS quantity_hours
             FROM usage_hour_subject
             WHERE tenant_id = $1 AND hour >= $2 AND hour < $3
             GROUP BY meter, subject",
        ).bind(self.id().0).bind(from.0).bind(end.0).fetch_all(c).await?);
        for sum in sums {
            let of_subject = SubjectUsage {
                active_hours: sum.active_hours as u32,
                quantity_hours: sum.quantity_hours as u64,
            };
            usage.add(
                meter("usage_hour_subject", &sum.meter)?,
                &sum.subject,
                of_subject,
            );
        }
        Ok(usage)
    }

    /// Counts the hours from `open` to `present` that lie in the month into `usage`, as if they were closed now.
    pub async fn count_open_hours(
        &self,
        usage: &mut MonthUsage,
        open: Hour,
        present: Hour,
    ) -> Result<(), DbError> {
        let month = usage.month;
        let from = open.max(month.first_hour());
        let end = present.next().min(month.next().first_hour());
        if from >= end {
            return Ok(());
        }
        let mut conn = self.reader().await?;
        let counted: Vec<SubjectHour> = sql!(conn, c => sqlx::query_as(
            "SELECT meter, subject, COUNT(*) AS quantity
             FROM usage_member
             WHERE tenant_id = $1 AND hour >= $2 AND hour < $3
             GROUP BY hour, meter, subject",
        ).bind(self.id().0).bind(from.0).bind(end.0).fetch_all(c).await?);
        for row in counted {
            usage.count(
                meter("usage_member", &row.meter)?,
                &row.subject,
                row.quantity as u64,
            );
        }
        drop(conn);
        self.count_plugin_usage(usage, from, end).await?;
        usage.closed_hours += (end.0 - from.0) as u32;
        Ok(())
    }

    /// The closed hours of a month, in order; 744 at most.
    pub async fn closed_hours(&self, month: Month) -> Result<Vec<ClosedHour>, DbError> {
        let (from, end) = (month.first_hour(), month.next().first_hour());
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT hour, closed_at_ms, subjects, quantity
             FROM usage_hour
             WHERE tenant_id = $1 AND hour >= $2 AND hour < $3
             ORDER BY hour",
        ).bind(self.id().0).bind(from.0).bind(end.0).fetch_all(c).await?))
    }

    /// What was counted in the closed hours of a month, by hour and meter; meters without usage are absent.
    pub async fn closed_meters(&self, month: Month) -> Result<Vec<HourMeter>, DbError> {
        let (from, end) = (month.first_hour(), month.next().first_hour());
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT hour, meter, COUNT(*) AS subjects, CAST(SUM(quantity) AS BIGINT) AS quantity
             FROM usage_hour_subject
             WHERE tenant_id = $1 AND hour >= $2 AND hour < $3
             GROUP BY hour, meter
             ORDER BY hour, meter",
        ).bind(self.id().0).bind(from.0).bind(end.0).fetch_all(c).await?))
    }

    /// Deletes the set of the oldest hour that has one and is closed and before `before`, and what was late for hours
    /// up to it. Returns the number of elements; 0 when there is no such hour.
    pub async fn delete_closed_usage(&self, before: Hour) -> Result<u64, DbError> {
        let Some(last) = self.last_closed_hour().await? else {
            return Ok(0);
        };
        let end = before.min(last.next());
        let mut tx = self.begin().await?;
        let members = sql!(tx, c => sqlx::query(
            "DELETE FROM usage_member
             WHERE tenant_id = $1 AND hour < $2
               AND hour = (SELECT MIN(hour) FROM usage_member WHERE tenant_id = $1)",
        ).bind(self.id().0).bind(end.0).execute(c).await?.rows_affected());
        let late = sql!(tx, c => sqlx::query(
            "DELETE FROM usage_late
             WHERE tenant_id = $1 AND hour < $2
               AND hour = (SELECT MIN(hour) FROM usage_late WHERE tenant_id = $1)",
        ).bind(self.id().0).bind(end.0).execute(c).await?.rows_affected());
        tx.commit().await?;
        Ok(members + late)
    }
}

fn meter(table: &'static str, text: &str) -> Result<Meter, DbError> {
    text.parse()
        .map_err(|problem| DbError::corrupt(table, text, problem))
}

/// Unites elements with the usage sets of their tenants, in as few statements as possible; those whose hour is closed
/// go on record as late.
pub(super) async fn unite_all(
    tx: &mut Transaction,
    usage: &[(TenantId, Usage)],
) -> Result<(), DbError> {
    let mut tenants: Vec<TenantId> = usage.iter().map(|(tenant, _)| *tenant).collect();
    // In one order everywhere, so that transactions never wait for each other in a circle.
    tenants.sort_unstable();
    tenants.dedup();
    let closed = lock_closing(tx, &tenants).await?;
    let mut open = Vec::with_capacity(usage.len());
    for (tenant, element) in usage {
        if closed.get(tenant).is_some_and(|last| element.hour <= *last) {
            note_late(tx, *tenant, element).await?;
        } else {
            open.push((*tenant, element));
        }
    }
    for chunk in open.chunks(ROWS_MAX) {
        insert(tx, chunk).await?;
    }
    Ok(())
}

/// Holds the tenants' rows until the transaction ends, and returns the last closed hour of each that has one. `tenants`
/// are in order, each once.
pub(super) async fn lock_closing(
    tx: &mut Transaction,
    tenants: &[TenantId],
) -> Result<HashMap<TenantId, Hour>, DbError> {
    let mut closed = HashMap::new();
    for chunk in tenants.chunks(ROWS_MAX) {
        let text = format!(
            "INSERT INTO usage_closing (tenant_id)
             VALUES {}
             ON CONFLICT (tenant_id) DO UPDATE SET last_hour = usage_closing.last_hour
             RETURNING tenant_id, last_hour",
            rows(chunk.len(), 1)
        );
        let held: Vec<(i64, Option<i64>)> = sql!(tx, c => {
            let mut query = sqlx::query_as(AssertSqlSafe(text)).persistent(chunk.len() == 1);
            for tenant in chunk {
                query = query.bind(tenant.0);
            }
            query.fetch_all(c).await?
        });
        let known = held
            .into_iter()
            .filter_map(|(tenant, last)| Some((TenantId(tenant), Hour(last?))));
        closed.extend(known);
    }
    Ok(closed)
}

async fn insert(tx: &mut Transaction, chunk: &[(TenantId, &Usage)]) -> Result<(), DbError> {
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
    Ok(())
}

/// Puts an element on record whose hour is closed, unless the hour has counted it.
async fn note_late(tx: &mut Transaction, tenant: TenantId, usage: &Usage) -> Result<(), DbError> {
    sql!(tx, c => sqlx::query(
        "INSERT INTO usage_late (tenant_id, hour, meter, subject, member)
         SELECT CAST($1 AS BIGINT), CAST($2 AS BIGINT), $3, $4, CAST($5 AS BIGINT)
         WHERE NOT EXISTS (
               SELECT 1
               FROM usage_member
               WHERE tenant_id = $1 AND hour = $2 AND meter = $3 AND subject = $4 AND member = $5)
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

#[cfg(test)]
mod tests;
