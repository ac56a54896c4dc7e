//! Runs of jobs: posted once, claimed by a lease, recorded by whoever still holds it.

use shoal_model::id::RunId;
use shoal_model::{TenantId, Timestamp};

use super::{DbError, System, Transaction};
use crate::jobs::TenantCount;
use crate::random::RandomId as _;

/// Rows that one deletion takes at most, so that it never keeps other writers waiting for long.
const DELETE_BATCH: i64 = 5_000;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct RunRow {
    /// `run_…`.
    pub id: String,
    /// Which job.
    pub job: String,
    /// For which time, Unix ms.
    pub scheduled_at_ms: i64,
    /// `waiting`, `running`, `done` or `failed`.
    pub status: String,
    /// How often it was begun.
    pub attempt: i64,
    /// Who holds it: grows with every claim.
    pub fence: i64,
    /// When the latest attempt began, Unix ms.
    pub started_at_ms: Option<i64>,
    /// When it ended, Unix ms.
    pub ended_at_ms: Option<i64>,
    /// Units of work there were.
    pub expected: i64,
    /// Done.
    pub processed: i64,
    /// Tried in vain.
    pub failed: i64,
    /// Left out on purpose.
    pub skipped: i64,
    /// Why the latest attempt failed.
    pub error: Option<String>,
}

impl RunRow {
    /// Whether nothing more happens to it by itself.
    pub fn is_ended(&self) -> bool {
        self.status == "done" || self.status == "failed"
    }

    /// For which time.
    pub fn scheduled(&self) -> Timestamp {
        Timestamp(self.scheduled_at_ms)
    }
}

/// What a run did for one tenant.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct RunTenantRow {
    /// The tenant's key.
    pub tenant: String,
    /// Units of work there were.
    pub expected: i64,
    /// Done.
    pub processed: i64,
    /// Tried in vain.
    pub failed: i64,
    /// Left out on purpose.
    pub skipped: i64,
}

/// Everything here is called by the engine of jobs and by the operator's routes.
impl System {
    /// Posts a run that begins at `not_before`, unless there is one of this job and time; returns the one there is.
    pub async fn post_run(
        &self,
        job: &str,
        scheduled: Timestamp,
        not_before: Timestamp,
        now: Timestamp,
    ) -> Result<RunRow, DbError> {
        let mut tx = self.begin().await?;
        sql!(tx, c => sqlx::query(
            "INSERT INTO job_run (id, job, scheduled_at_ms, status, attempt, fence, not_before_ms, posted_at_ms,
                                  expected, processed, failed, skipped)
             VALUES ($1, $2, $3, 'waiting', 0, 0, $4, $5, 0, 0, 0, 0)
             ON CONFLICT (job, scheduled_at_ms) DO NOTHING",
        )
        .bind(RunId::random().as_str()).bind(job).bind(scheduled.0).bind(not_before.0).bind(now.0)
        .execute(c).await?.rows_affected());
        let run = sql!(tx, c => sqlx::query_as(
            "SELECT id, job, scheduled_at_ms, status, attempt, fence, started_at_ms, ended_at_ms,
                    expected, processed, failed, skipped, error
             FROM job_run
             WHERE job = $1 AND scheduled_at_ms = $2",
        ).bind(job).bind(scheduled.0).fetch_one(c).await?);
        tx.commit().await?;
        Ok(run)
    }

    /// Posts a run for the scheduler. `false` when a run of the job that was never begun is due already: the queue of
    /// a job that is slower than its period does not grow.
    pub async fn post_slot(
        &self,
        job: &str,
        scheduled: Timestamp,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let posted = sql!(tx, c => sqlx::query(
            "INSERT INTO job_run (id, job, scheduled_at_ms, status, attempt, fence, not_before_ms, posted_at_ms,
                                  expected, processed, failed, skipped)
             SELECT $1, $2, CAST($3 AS BIGINT), 'waiting', 0, 0, CAST($4 AS BIGINT), CAST($4 AS BIGINT), 0, 0, 0, 0
             WHERE NOT EXISTS (
                 SELECT 1
                 FROM job_run
                 WHERE status = 'waiting' AND job = $2 AND attempt = 0 AND not_before_ms <= $4)
             ON CONFLICT (job, scheduled_at_ms) DO NOTHING",
        )
        .bind(RunId::random().as_str()).bind(job).bind(scheduled.0).bind(now.0)
        .execute(c).await?.rows_affected());
        let there: Option<i64> = sql!(tx, c => sqlx::query_scalar(
            "SELECT scheduled_at_ms FROM job_run WHERE job = $1 AND scheduled_at_ms = $2",
        ).bind(job).bind(scheduled.0).fetch_optional(c).await?);
        tx.commit().await?;
        Ok(posted == 1 || there.is_some())
    }

    /// Lets a failed run begin again from its first attempt. `false` when it has not failed.
    pub async fn requeue_run(&self, id: &str, now: Timestamp) -> Result<bool, DbError> {
        let mut conn = self.writer().await?;
        let changed = sql!(conn, c => sqlx::query(
            "UPDATE job_run
             SET status = 'waiting', attempt = 0, not_before_ms = $2, ended_at_ms = NULL
             WHERE id = $1 AND status = 'failed'",
        ).bind(id).bind(now.0).execute(c).await?.rows_affected());
        Ok(changed == 1)
    }

    /// The jobs that have a run to begin or to take over.
    pub async fn due_jobs(&self, now: Timestamp) -> Result<Vec<String>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_scalar(
            "SELECT DISTINCT job
             FROM job_run
             WHERE (status = 'waiting' AND not_before_ms <= $1) OR (status = 'running' AND lease_until_ms < $1)",
        ).bind(now.0).fetch_all(c).await?))
    }

    /// Claims the job's next run, or takes over one whose lease has expired, until `lease_until`. `None` when none is
    /// due, or one of the job is running.
    pub async fn claim_run(
        &self,
        job: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<RunRow>, DbError> {
        let mut conn = self.writer().await?;
        let claimed = sql!(conn, c => sqlx::query_as(
            "UPDATE job_run
             SET status = 'running', attempt = attempt + 1, fence = fence + 1, lease_until_ms = $3, started_at_ms = $2,
                 ended_at_ms = NULL
             WHERE id = (
                 SELECT id
                 FROM job_run
                 WHERE job = $1
                   AND ((status = 'running' AND lease_until_ms < $2)
                        OR (status = 'waiting' AND not_before_ms <= $2
                            AND NOT EXISTS (SELECT 1 FROM job_run WHERE status = 'running' AND job = $1)))
                 ORDER BY scheduled_at_ms
                 LIMIT 1)
               AND ((status = 'running' AND lease_until_ms < $2) OR (status = 'waiting' AND not_before_ms <= $2))
             RETURNING id, job, scheduled_at_ms, status, attempt, fence, started_at_ms, ended_at_ms,
                       expected, processed, failed, skipped, error",
        ).bind(job).bind(now.0).bind(lease_until.0).fetch_optional(c).await.map_err(DbError::from));
        match claimed {
            // Another process claimed another run of the job a moment ago.
            Err(DbError::Exists(_)) => Ok(None),
            claimed => claimed,
        }
    }

    /// Ends runs whose holders died at every attempt; returns them.
    pub async fn bury_runs(
        &self,
        job: &str,
        attempts_max: i64,
        error: &str,
        now: Timestamp,
    ) -> Result<Vec<RunRow>, DbError> {
        let mut conn = self.writer().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "UPDATE job_run
             SET status = 'failed', fence = fence + 1, lease_until_ms = NULL, ended_at_ms = $3, error = $4
             WHERE status = 'running' AND job = $1 AND lease_until_ms < $3 AND attempt >= $2
             RETURNING id, job, scheduled_at_ms, status, attempt, fence, started_at_ms, ended_at_ms,
                       expected, processed, failed, skipped, error",
        ).bind(job).bind(attempts_max).bind(now.0).bind(error).fetch_all(c).await?))
    }

    /// Extends the lease. `false` when the run has changed hands.
    pub async fn renew_run(&self, run: &RunRow, lease_until: Timestamp) -> Result<bool, DbError> {
        let mut conn = self.writer().await?;
        let changed = sql!(conn, c => sqlx::query(
            "UPDATE job_run
             SET lease_until_ms = $3
             WHERE id = $1 AND fence = $2 AND status = 'running'",
        ).bind(&run.id).bind(run.fence).bind(lease_until.0).execute(c).await?.rows_affected());
        Ok(changed == 1)
    }

    /// Records what a run did, and ends it as `done`. `false`, and nothing is recorded, when it has changed hands.
    pub async fn finish_run(
        &self,
        run: &RunRow,
        counts: &[TenantCount],
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let sum = |of: fn(&TenantCount) -> u64| counts.iter().map(of).sum::<u64>() as i64;
        let mut tx = self.begin().await?;
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE job_run
             SET status = 'done', lease_until_ms = NULL, ended_at_ms = $3, error = NULL,
                 expected = $4, processed = $5, failed = $6, skipped = $7
             WHERE id = $1 AND fence = $2 AND status = 'running'",
        )
        .bind(&run.id)
        .bind(run.fence)
        .bind(now.0)
        .bind(sum(|count| count.expected))
        .bind(sum(|count| count.processed))
        .bind(sum(|count| count.failed))
        .bind(sum(|count| count.skipped))
        .execute(c).await?.rows_affected());
        if changed != 1 {
            return Ok(false);
        }
        for count in counts {
            insert_count(&mut tx, run, count).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Ends an attempt that failed: the run waits until `again`, or is `failed` when there is no further attempt.
    /// `false` when it has changed hands.
    pub async fn fail_run(
        &self,
        run: &RunRow,
        error: &str,
        again: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let status = if again.is_some() { "waiting" } else { "failed" };
        let ended = again.is_none().then_some(now.0);
        let mut conn = self.writer().await?;
        let changed = sql!(conn, c => sqlx::query(
            "UPDATE job_run
             SET status = $3, lease_until_ms = NULL, not_before_ms = $4, ended_at_ms = $5, error = $6
             WHERE id = $1 AND fence = $2 AND status = 'running'",
        )
        .bind(&run.id)
        .bind(run.fence)
        .bind(status)
        .bind(again.unwrap_or(now).0)
        .bind(ended)
        .bind(error)
        .execute(c).await?.rows_affected());
        Ok(changed == 1)
    }

    /// Gives back a run that was interrupted by the end of the process; the attempt does not count. `false` when it has
    /// changed hands.
    pub async fn release_run(&self, run: &RunRow, now: Timestamp) -> Result<bool, DbError> {
        let mut conn = self.writer().await?;
        let changed = sql!(conn, c => sqlx::query(
            "UPDATE job_run
             SET status = 'waiting', attempt = attempt - 1, lease_until_ms = NULL, not_before_ms = $3
             WHERE id = $1 AND fence = $2 AND status = 'running'",
        ).bind(&run.id).bind(run.fence).bind(now.0).execute(c).await?.rows_affected());
        Ok(changed == 1)
    }

    /// One run.
    pub async fn run(&self, id: &str) -> Result<Option<RunRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT id, job, scheduled_at_ms, status, attempt, fence, started_at_ms, ended_at_ms,
                    expected, processed, failed, skipped, error
             FROM job_run
             WHERE id = $1",
        ).bind(id).fetch_optional(c).await?))
    }

    /// The job's runs for times before `before`, latest first, at most `limit`.
    pub async fn runs(
        &self,
        job: &str,
        before: Timestamp,
        limit: i64,
    ) -> Result<Vec<RunRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT id, job, scheduled_at_ms, status, attempt, fence, started_at_ms, ended_at_ms,
                    expected, processed, failed, skipped, error
             FROM job_run
             WHERE job = $1 AND scheduled_at_ms < $2
             ORDER BY scheduled_at_ms DESC
             LIMIT $3",
        ).bind(job).bind(before.0).bind(limit).fetch_all(c).await?))
    }

    /// The job's latest run that did its work.
    pub async fn last_done_run(&self, job: &str) -> Result<Option<RunRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT id, job, scheduled_at_ms, status, attempt, fence, started_at_ms, ended_at_ms,
                    expected, processed, failed, skipped, error
             FROM job_run
             WHERE status = 'done' AND job = $1
             ORDER BY scheduled_at_ms DESC
             LIMIT 1",
        ).bind(job).fetch_optional(c).await?))
    }

    /// What a run did by tenant, by key; tenants for which there was nothing to do are absent.
    pub async fn run_tenants(&self, run: &str) -> Result<Vec<RunTenantRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT t.key AS tenant, r.expected, r.processed, r.failed, r.skipped
             FROM job_run_tenant r
             JOIN tenant t ON t.id = r.tenant_id
             WHERE r.run_id = $1
             ORDER BY t.key",
        ).bind(run).fetch_all(c).await?))
    }

    /// Deletes runs of one outcome that ended before a time, a bounded number; returns how many. Call it until it
    /// deletes none.
    pub async fn delete_runs(&self, status: &str, before: Timestamp) -> Result<u64, DbError> {
        let mut conn = self.writer().await?;
        Ok(sql!(conn, c => sqlx::query(
            "DELETE FROM job_run
             WHERE id IN (
                 SELECT id
                 FROM job_run
                 WHERE status = $1 AND ended_at_ms < $2
                 LIMIT $3)",
        ).bind(status).bind(before.0).bind(DELETE_BATCH).execute(c).await?.rows_affected()))
    }

    /// Deletes what a job's runs that ended before a time did by tenant, a bounded number; the runs stay.
    pub async fn delete_run_tenants(&self, job: &str, before: Timestamp) -> Result<u64, DbError> {
        let mut conn = self.writer().await?;
        Ok(sql!(conn, c => sqlx::query(
            "DELETE FROM job_run_tenant
             WHERE run_id IN (
                 SELECT r.id
                 FROM job_run r
                 WHERE r.status = 'done' AND r.job = $1 AND r.ended_at_ms < $2
                   AND EXISTS (SELECT 1 FROM job_run_tenant t WHERE t.run_id = r.id)
                 LIMIT $3)",
        ).bind(job).bind(before.0).bind(DELETE_BATCH / 10).execute(c).await?.rows_affected()))
    }
}

async fn insert_count(
    tx: &mut Transaction,
    run: &RunRow,
    count: &TenantCount,
) -> Result<(), DbError> {
    let TenantId(tenant) = count.tenant;
    // A run that was posted again replaces what it recorded before.
    sql!(tx, c => sqlx::query(
        "INSERT INTO job_run_tenant (tenant_id, run_id, expected, processed, failed, skipped)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id, run_id) DO UPDATE
         SET expected = $3, processed = $4, failed = $5, skipped = $6",
    )
    .bind(tenant)
    .bind(&run.id)
    .bind(count.expected as i64)
    .bind(count.processed as i64)
    .bind(count.failed as i64)
    .bind(count.skipped as i64)
    .execute(c).await?.rows_affected());
    Ok(())
}
