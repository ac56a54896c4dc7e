//! The job `run-checks`: runs every check that is due in a slot, and records what it found.
//!
//! Whether a check is due follows from its id, its interval and the slot alone: nothing is remembered, and checks with the
//! same interval are spread over it. A run that is still waiting for a slow target when the next slots come must not cost
//! other tenants their checks, so each run also takes those of the last [`LOOK_BACK`] that no run tried; what was missed
//! longer ago is not made up. A check that found something out leaves samples,
//! usage and the state of its alert, in that order: each may be written again, and only the last says that the slot
//! is done. One that could not run leaves its reason and its alert as it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream;
use shoal_model::alert::{Evidence, Rule, Severity};
use shoal_model::telemetry::MetricKind;
use shoal_model::usage::{Meter, Usage};
use shoal_model::{Labels, TenantId, Timestamp};
use shoal_runtime::{CallContext, CheckOutcome};
use tokio::sync::{Notify, Semaphore};
use xxhash_rust::xxh3::xxh3_64;

use super::judge::{self, Seen};
use crate::app::App;
use crate::clock::{Clock, Stopwatch};
use crate::db::alerts::{Judged, Source, SourceKind, Tried};
use crate::db::installations::InstallationRow;
use crate::db::{Db, DbError, TenantDb};
use crate::jobs::{Job, TenantCount};
use crate::plugins::Running;
use crate::telemetry::{OwnSample, WriteSamples};

/// How often it is looked which checks are due; intervals are multiples of it.
pub const PERIOD: Duration = Duration::from_secs(10);
/// Checks at a time: a quarter of the calls that the runtime has room for.
const CHECKS_AT_ONCE: usize = 32;
/// Checks of one tenant at a time.
const CHECKS_PER_TENANT: usize = 8;
/// How long one check may take, whatever its interval.
const CHECK_MAX: Duration = Duration::from_secs(30);
/// How much longer than its interval a check may take: a target that does not answer within ten seconds is something that
/// a check every ten seconds should still live to tell.
const CHECK_GRACE: Duration = Duration::from_secs(5);
/// When a run begins no more checks.
const RUN_MAX: Duration = Duration::from_secs(45);
/// How far back a run looks for checks that were due and not tried: longer than the runs before it may have taken.
const LOOK_BACK: Duration = Duration::from_secs(60);
/// Checks that are gone, closed in one run; the rest is left to the next.
const GONE_MAX: i64 = 100;
/// A check's state changes at once: what it found is what it says.
const RULE: Rule = Rule {
    max_attempts: 1,
    missing_is: None,
};

/// The job.
pub struct RunChecks;

#[async_trait]
impl Job for RunChecks {
    fn name(&self) -> &'static str {
        "run-checks"
    }

    fn summary(&self) -> &'static str {
        "Runs every check that is due at its scheduled time and records what it found"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn refuse(&self, scheduled: Timestamp) -> Option<String> {
        let period_ms = PERIOD.as_millis() as i64;
        (scheduled.0 % period_ms != 0).then(|| {
            format!(
                "no check is ever due at {}; scheduled_at_ms must be a multiple of {period_ms}",
                scheduled.0
            )
        })
    }

    async fn run(&self, app: &App, scheduled: Timestamp) -> anyhow::Result<Vec<TenantCount>> {
        let now = app.clock.now();
        anyhow::ensure!(
            scheduled <= now,
            "checks cannot run for {scheduled}: it is {now} now"
        );
        close_what_is_gone(&app.db, &app.to_tell, now).await?;
        let due = due(app, scheduled).await?;
        let run = Run {
            app,
            turns: Semaphore::new(CHECKS_AT_ONCE),
            began: Stopwatch::start(),
        };
        let at_once = due.len().max(1);
        let counts = stream::iter(due)
            .map(|(tenant, due)| run.tenant(tenant, due))
            .buffer_unordered(at_once);
        Ok(counts.collect().await)
    }
}

/// A check that a run is to do, and for which of its slots.
struct Due {
    slot: Timestamp,
    running: Arc<Running>,
    /// It was done in an earlier attempt of this run.
    is_done: bool,
}

/// What is due at a slot, by tenant, with what was due shortly before and not tried.
async fn due(app: &App, scheduled: Timestamp) -> Result<BTreeMap<TenantId, Vec<Due>>, DbError> {
    let tried = app.db.system().checks_tried(scheduled - LOOK_BACK).await?;
    let mut due: BTreeMap<TenantId, Vec<Due>> = BTreeMap::new();
    for running in app.plugins.snapshot().iter() {
        let (row, tenant) = (&running.row, running.row.tenant());
        let tried = tried.get(&(tenant, row.id.clone())).copied();
        if let Some(slot) = due_slot(row, scheduled, tried.unwrap_or_default()) {
            due.entry(tenant).or_default().push(Due {
                slot,
                running: running.clone(),
                is_done: tried.is_some_and(|tried| tried.judged >= Some(slot)),
            });
        }
    }
    Ok(due)
}

/// The installation's slot that a run at `scheduled` is to do: that time itself, or one shortly before that was not tried.
fn due_slot(row: &InstallationRow, scheduled: Timestamp, tried: Tried) -> Option<Timestamp> {
    let slot = scheduled.slot(interval(row), offset(row));
    let is_tried = tried.judged >= Some(slot) || tried.failed_at >= Some(slot);
    let is_left = !is_tried && scheduled.since(slot) < LOOK_BACK;
    (row.kind == "check" && (slot == scheduled || is_left)).then_some(slot)
}

/// In whole periods, at least one.
fn interval(row: &InstallationRow) -> Duration {
    let period = PERIOD.as_millis() as i64;
    let periods = (row.interval_ms.unwrap_or(0) / period).max(1);
    PERIOD * u32::try_from(periods).unwrap_or(u32::MAX)
}

/// Where in its interval a check runs: by a hash of its id, in whole periods.
fn offset(row: &InstallationRow) -> Duration {
    let periods = interval(row).as_millis() / PERIOD.as_millis();
    let place = u128::from(xxh3_64(row.id.as_bytes())) % periods.max(1);
    PERIOD * place as u32
}

/// Closes the alerts of checks that are no longer installed.
async fn close_what_is_gone(db: &Db, to_tell: &Notify, now: Timestamp) -> Result<(), DbError> {
    for (tenant, installation) in db.system().checks_not_installed(GONE_MAX).await? {
        if db.tenant(tenant).forget_check(&installation, now).await? > 0 {
            to_tell.notify_one();
        }
    }
    Ok(())
}

/// One slot of all checks.
struct Run<'a> {
    app: &'a App,
    turns: Semaphore,
    began: Stopwatch,
}

/// What became of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ran {
    Processed,
    Failed,
    Skipped,
}

impl Run<'_> {
    async fn tenant(&self, tenant: TenantId, due: Vec<Due>) -> TenantCount {
        let db = self.app.db.tenant(tenant);
        let mut count = TenantCount {
            tenant,
            expected: due.len() as u64,
            processed: 0,
            failed: 0,
            skipped: 0,
        };
        let mut ran = stream::iter(due)
            .map(|due| self.check(&db, due))
            .buffer_unordered(CHECKS_PER_TENANT);
        while let Some(ran) = ran.next().await {
            match ran {
                Ran::Processed => count.processed += 1,
                Ran::Failed => count.failed += 1,
                Ran::Skipped => count.skipped += 1,
            }
        }
        count
    }

    async fn check(&self, db: &TenantDb, due: Due) -> Ran {
        let (running, row, slot) = (&due.running, &due.running.row, due.slot);
        let is_missed = self.app.clock.now().since(slot) >= interval(row);
        if is_missed || due.is_done {
            return Ran::Skipped;
        }
        let _turn = self.turns.acquire().await;
        let began = self.app.clock.now();
        let found = self.call(running, slot, began).await;
        let record = Record {
            db,
            samples: &*self.app.telemetry.samples,
            clock: &self.app.clock,
            to_tell: &self.app.to_tell,
            row,
            slot,
            began,
        };
        match record.all(found).await {
            Ok(ran) => ran,
            Err(error) => {
                tracing::error!(%error, tenant.id = row.tenant_id, installation.id = row.id, "check not recorded");
                Ran::Failed
            }
        }
    }

    /// What the check found and how long it took, or why it found nothing.
    async fn call(
        &self,
        running: &Running,
        slot: Timestamp,
        now: Timestamp,
    ) -> Result<Found, String> {
        if self.began.elapsed() >= RUN_MAX {
            return Err("there was no time for it; the slot's other checks took all".to_owned());
        }
        let row = &running.row;
        let time = CHECK_MAX.min(interval(row) + CHECK_GRACE);
        let mut context = CallContext::new(now, format!("{}-{}", row.id, slot.0));
        context.deadline = Some(now + time);
        let call = self.app.calls.run_check(running, &context).await;
        let duration = call.report.duration;
        call.outcome
            .map(|outcome| Found { outcome, duration })
            .map_err(|error| error.to_string())
    }
}

/// What a check found, and how long it took.
struct Found {
    outcome: CheckOutcome,
    duration: Duration,
}

/// Where what one check found is recorded.
struct Record<'a> {
    db: &'a TenantDb,
    samples: &'a dyn WriteSamples,
    clock: &'a Clock,
    to_tell: &'a Notify,
    row: &'a InstallationRow,
    slot: Timestamp,
    began: Timestamp,
}

impl Record<'_> {
    async fn all(&self, found: Result<Found, String>) -> Result<Ran, DbError> {
        let source = source(self.row);
        let found = match found {
            Ok(found) => found,
            Err(reason) => {
                let now = self.clock.now();
                self.db.note_error(&source, self.slot, &reason, now).await?;
                return Ok(Ran::Failed);
            }
        };
        let samples = samples(self.row, &found, self.began);
        let written = self.samples.write(self.db.id(), samples).await;
        let usage = Usage {
            hour: self.began.hour(),
            meter: Meter::CheckExternal,
            subject: self.row.id.clone(),
            member: 0,
        };
        self.db.add_usage(&[usage]).await?;
        let error = written
            .err()
            .map(|error| format!("what it measured is lost: {error}"));
        self.judge(&source, found.outcome, error).await
    }

    async fn judge(
        &self,
        source: &Source,
        outcome: CheckOutcome,
        error: Option<String>,
    ) -> Result<Ran, DbError> {
        let seen = Seen {
            // A check has one target, whatever it is called.
            fingerprint: Labels::default().fingerprint(),
            labels: labels(self.row),
            evidence: Evidence::Is(outcome.status),
            value: None,
            message: Some(outcome.summary),
        };
        let is_whole = error.is_none();
        let slot = self.slot;
        let decide = |known| {
            let mut decision = judge::decide(source, RULE, slot, vec![seen], known)?;
            decision.error = error;
            Ok(decision)
        };
        let judged = self
            .db
            .judge(source, slot, self.clock.now(), decide)
            .await?;
        Ok(match judged {
            Judged::Now { transitions } => {
                if transitions > 0 {
                    self.to_tell.notify_one();
                }
                if is_whole {
                    Ran::Processed
                } else {
                    Ran::Failed
                }
            }
            Judged::Before | Judged::Outdated => Ran::Skipped,
            Judged::Refused => Ran::Failed,
        })
    }
}

/// A check as alerts know it. It tells every enabled channel.
fn source(row: &InstallationRow) -> Source {
    Source {
        id: row.id.clone(),
        name: row.name.clone(),
        kind: SourceKind::Check,
        memo: String::new(),
        channels: None,
    }
}

fn labels(row: &InstallationRow) -> Labels {
    Labels::from_pairs([("check", &row.name), ("check_id", &row.id)])
}

/// What it measured, how it is and how long it took. Nobody owns the series: checks are metered as such.
fn samples(row: &InstallationRow, found: &Found, at: Timestamp) -> Vec<OwnSample> {
    let own = labels(row);
    let sample = |name: &str, labels: &[(String, String)], value: f64| {
        let theirs = labels.iter().map(|(name, value)| (&**name, &**value));
        let ours = own.iter().map(|label| (&*label.name, &*label.value));
        let all = theirs.chain(ours).chain([("__name__", name)]);
        OwnSample {
            labels: Labels::from_pairs(all),
            kind: MetricKind::Gauge,
            owner: None,
            at,
            value,
        }
    };
    let status = match found.outcome.status {
        Severity::Ok => 0.0,
        Severity::Warning => 1.0,
        Severity::Critical => 2.0,
        Severity::Unknown => 3.0,
    };
    let seconds = found.duration.as_secs_f64();
    let mut samples = vec![
        sample("shoal_check_status", &[], status),
        sample("shoal_check_duration_seconds", &[], seconds),
    ];
    let measured = found.outcome.measurements.iter();
    samples.extend(measured.map(|m| sample(&m.name, &m.labels, m.value)));
    samples
}

#[cfg(test)]
mod tests;
