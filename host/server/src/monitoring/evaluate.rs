//! The job `evaluate-monitors`: asks every enabled monitor's query at the slot and judges what it returns.
//!
//! Fair between tenants: a tenant has [`QUERIES_PER_TENANT`] queries at a time of [`QUERIES_AT_ONCE`] in all, in the order
//! in which they were asked for, and no query takes longer than [`QUERY_MAX`]. What does not get its turn within
//! [`RUN_MAX`] is left to the next slot and counts as failed.

use std::time::Duration;

use anyhow::ensure;
use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream;
use shoal_model::labels::METRIC_NAME;
use shoal_model::{TenantId, Timestamp};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::judge::{self, Seen};
use crate::app::App;
use crate::clock::{Clock, Stopwatch};
use crate::db::alerts::Judged;
use crate::db::monitors::Monitor;
use crate::db::{Db, DbError, TenantDb};
use crate::jobs::{Job, TenantCount};
use crate::telemetry::Query;

/// How often monitors are evaluated.
const PERIOD: Duration = Duration::from_secs(60);
/// Monitors of one tenant; the API keeps it so.
pub const MONITORS_MAX: i64 = 1000;
/// Queries at a time: some for each of a few processors, the rest waiting for the store.
const QUERIES_AT_ONCE: usize = 16;
/// Queries of one tenant at a time: eight tenants must be slow before a ninth waits for them.
const QUERIES_PER_TENANT: usize = 2;
/// How long one query may take.
const QUERY_MAX: Duration = Duration::from_secs(10);
/// When a run begins no more evaluations: the next one is near.
const RUN_MAX: Duration = Duration::from_secs(50);

/// The job.
pub struct EvaluateMonitors;

#[async_trait]
impl Job for EvaluateMonitors {
    fn name(&self) -> &'static str {
        "evaluate-monitors"
    }

    fn summary(&self) -> &'static str {
        "Evaluates every enabled monitor at its scheduled time and opens and closes alerts"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    async fn run(&self, app: &App, scheduled: Timestamp) -> anyhow::Result<Vec<TenantCount>> {
        let now = app.clock.now();
        ensure!(
            scheduled <= now,
            "monitors cannot be evaluated at {scheduled}: it is {now} now"
        );
        let evaluation = Evaluation::new(
            &app.db,
            &*app.telemetry.query,
            &app.clock,
            &app.to_tell,
            scheduled,
        );
        Ok(evaluation.run().await?)
    }
}

/// One slot of all monitors.
struct Evaluation<'a> {
    db: &'a Db,
    query: &'a dyn Query,
    clock: &'a Clock,
    to_tell: &'a Notify,
    slot: Timestamp,
    turns: Semaphore,
    began: Stopwatch,
}

/// What became of one monitor.
enum Evaluated {
    Processed,
    Failed,
    Skipped,
}

impl<'a> Evaluation<'a> {
    fn new(
        db: &'a Db,
        query: &'a dyn Query,
        clock: &'a Clock,
        to_tell: &'a Notify,
        slot: Timestamp,
    ) -> Evaluation<'a> {
        Evaluation {
            db,
            query,
            clock,
            to_tell,
            slot,
            turns: Semaphore::new(QUERIES_AT_ONCE),
            began: Stopwatch::start(),
        }
    }

    async fn run(&self) -> Result<Vec<TenantCount>, DbError> {
        let tenants = self.db.system().tenants_with_monitors().await?;
        // All tenants at once: each waits for its turns, none for another tenant.
        let at_once = tenants.len().max(1);
        let counts = stream::iter(tenants)
            .map(|(tenant, monitors)| self.tenant(tenant, monitors))
            .buffer_unordered(at_once);
        Ok(counts.collect().await)
    }

    async fn tenant(&self, tenant: TenantId, monitors: u64) -> TenantCount {
        let db = self.db.tenant(tenant);
        let mut count = TenantCount {
            tenant,
            expected: monitors,
            processed: 0,
            failed: 0,
            skipped: 0,
        };
        let enabled = match self.monitors(&db).await {
            Ok(enabled) => enabled,
            Err(error) => {
                tracing::error!(%error, tenant.id = tenant.0, "monitors cannot be read");
                count.failed = monitors;
                return count;
            }
        };
        count.expected = enabled.len() as u64;
        let mut evaluated = stream::iter(enabled)
            .map(|monitor| self.monitor(&db, monitor))
            .buffer_unordered(QUERIES_PER_TENANT);
        while let Some(evaluated) = evaluated.next().await {
            match evaluated {
                Evaluated::Processed => count.processed += 1,
                Evaluated::Failed => count.failed += 1,
                Evaluated::Skipped => count.skipped += 1,
            }
        }
        count
    }

    async fn monitors(&self, db: &TenantDb) -> Result<Vec<Monitor>, DbError> {
        let _turn = self.turns.acquire().await;
        let mut monitors = db.monitors(MONITORS_MAX).await?;
        monitors.retain(|monitor| monitor.definition.is_enabled);
        Ok(monitors)
    }

    async fn monitor(&self, db: &TenantDb, monitor: Monitor) -> Evaluated {
        if monitor.last_slot.is_some_and(|last| last >= self.slot) {
            return Evaluated::Skipped;
        }
        let _turn = self.turns.acquire().await;
        let judged = match self.seen(db.id(), &monitor).await {
            Ok(seen) => self.judge(db, &monitor, seen).await,
            Err(reason) => self.note_error(db, &monitor, &reason).await,
        };
        match judged {
            Ok(Judged::Now { transitions }) => {
                if transitions > 0 {
                    self.to_tell.notify_one();
                }
                Evaluated::Processed
            }
            Ok(Judged::Before | Judged::Outdated) => Evaluated::Skipped,
            Ok(Judged::Refused) => Evaluated::Failed,
            Err(error) => {
                tracing::error!(%error, tenant.id = db.id().0, monitor.id = %monitor.id, "monitor not judged");
                Evaluated::Failed
            }
        }
    }

    /// What the monitor's query returns, or why there is no answer.
    async fn seen(&self, tenant: TenantId, monitor: &Monitor) -> Result<Vec<Seen>, String> {
        let left = RUN_MAX.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return Err("there was no time for it; the slot's other monitors took all".to_owned());
        }
        let definition = &monitor.definition;
        let asked = self.query.instant(tenant, &definition.query, self.slot);
        let rows = match timeout(QUERY_MAX.min(left), asked).await {
            Ok(answer) => answer.map_err(|error| error.to_string())?,
            Err(_) => {
                return Err(format!(
                    "the query took longer than {} s; narrow its selectors or its ranges",
                    QUERY_MAX.as_secs()
                ));
            }
        };
        let seen = rows.into_iter().map(|(labels, value)| {
            let labels = labels.with(METRIC_NAME, "");
            Seen {
                fingerprint: labels.fingerprint(),
                labels,
                evidence: definition.thresholds.judge(value),
                value: Some(value),
                message: None,
            }
        });
        Ok(seen.collect())
    }

    async fn judge(
        &self,
        db: &TenantDb,
        monitor: &Monitor,
        seen: Vec<Seen>,
    ) -> Result<Judged, DbError> {
        let source = monitor.source();
        let (rule, slot) = (monitor.definition.rule, self.slot);
        let decide = |known| judge::decide(&source, rule, slot, seen, known);
        db.judge(&source, slot, self.clock.now(), decide).await
    }

    async fn note_error(
        &self,
        db: &TenantDb,
        monitor: &Monitor,
        reason: &str,
    ) -> Result<Judged, DbError> {
        db.note_error(&monitor.source(), self.slot, reason, self.clock.now())
            .await?;
        Ok(Judged::Refused)
    }
}

#[cfg(test)]
mod tests;
