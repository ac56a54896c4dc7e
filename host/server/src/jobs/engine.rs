//! The engine of jobs: posts runs, claims them by a lease, does and records them.
//!
//! - Several processes share the work through the database alone. A run is claimed by one statement; its holder
//!   renews the lease while it works, and records only with the fencing number that its claim gave it. Who lost its
//!   lease records nothing.
//! - Different jobs run at the same time, the same job never twice.
//! - A run that fails, panics or takes too long is tried again, ever later, and is `failed` after
//!   [`ATTEMPTS_MAX`] attempts: visible, and begun again when it is posted by hand.
//! - The scheduler posts a job's latest slot only. What was missed while nothing ran is not made up, because a job
//!   that must not leave anything out looks for what was left out itself.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use shoal_model::{TenantId, Timestamp};
use tokio::sync::Notify;

use super::{Job, TenantCount, all};
use crate::app::App;
use crate::clock::Stopwatch;
use crate::db::DbError;
use crate::db::jobs::RunRow;
use crate::task::{Stop, Tasks, panic_message};

/// After this long without renewal a run is taken over.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often the holder renews it: two renewals may fail.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How often a run is begun before it counts as failed.
pub const ATTEMPTS_MAX: i64 = 5;
/// The first pause before another attempt; each further one is four times as long.
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// How often the scheduler looks for slots and for runs that others posted.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a run may go on when the process is to end; then it is given back.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The job that [`App::to_tell`] rings.
const TELLING: &str = "deliver-notifications";
/// What is kept of an error.
const ERROR_MAX_BYTES: usize = 2_000;

/// All jobs of a process, and its part in doing them.
pub struct Jobs {
    app: Arc<App>,
    workers: Vec<Worker>,
}

struct Worker {
    job: Box<dyn Job>,
    /// Rung when a run may be due.
    wake: Notify,
    /// The latest slot that is known to be posted.
    posted: Mutex<Option<Timestamp>>,
}

/// A run cannot be posted.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// There is no such job.
    #[error("there is no job {job:?}; the jobs are {known}")]
    UnknownJob {
        /// What was asked for, cut.
        job: String,
        /// The names of all.
        known: String,
    },
    /// The job cannot run at this time.
    #[error("{0}")]
    Refused(String),
    /// The database does not answer.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// How an attempt ended.
enum Outcome {
    Done(Vec<TenantCount>),
    Failed(anyhow::Error),
    /// Another process has taken over.
    LeaseLost,
    /// The process is to end.
    Interrupted,
}

impl Jobs {
    /// The jobs of the product.
    pub fn new(app: Arc<App>) -> Jobs {
        Jobs::with(app, all())
    }

    /// Other jobs, for tests.
    pub fn with(app: Arc<App>, jobs: Vec<Box<dyn Job>>) -> Jobs {
        let worker = |job| Worker {
            job,
            wake: Notify::new(),
            posted: Mutex::default(),
        };
        Jobs {
            app,
            workers: jobs.into_iter().map(worker).collect(),
        }
    }

    /// Every job, in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Job> {
        self.workers.iter().map(|worker| &*worker.job)
    }

    /// The job with a name.
    ///
    /// # Errors
    /// [`PostError::UnknownJob`].
    pub fn find(&self, name: &str) -> Result<&dyn Job, PostError> {
        self.iter()
            .find(|job| job.name() == name)
            .ok_or_else(|| PostError::UnknownJob {
                job: name.chars().take(100).collect(),
                known: self.iter().map(Job::name).collect::<Vec<_>>().join(", "),
            })
    }

    /// Posts a run by hand; without a time, for the latest slot. Posting again returns the same run; one that has
    /// failed begins again.
    ///
    /// # Errors
    /// See [`PostError`].
    pub async fn post(
        &self,
        name: &str,
        scheduled: Option<Timestamp>,
    ) -> Result<RunRow, PostError> {
        let job = self.find(name)?;
        let now = self.app.clock.now();
        let scheduled = scheduled.unwrap_or_else(|| latest_slot(job, now));
        check_time(job, scheduled, now)?;
        let system = self.app.db.system();
        let not_before = now.max(scheduled + job.delay());
        let run = system
            .post_run(job.name(), scheduled, not_before, now)
            .await?;
        if run.status == "failed" && system.requeue_run(&run.id, now).await? {
            let again = system.run(&run.id).await?;
            return Ok(again.unwrap_or(run));
        }
        Ok(run)
    }

    /// Posts the latest slot of every job, and rings the workers that have something to do.
    ///
    /// # Errors
    /// The database does not answer; call it again.
    pub async fn post_slots(&self) -> Result<(), DbError> {
        let now = self.app.clock.now();
        let system = self.app.db.system();
        for worker in &self.workers {
            let slot = latest_slot(&*worker.job, now);
            if *worker.posted.lock() == Some(slot) {
                continue;
            }
            if system.post_slot(worker.job.name(), slot, now).await? {
                *worker.posted.lock() = Some(slot);
            }
        }
        self.ring(&system.due_jobs(now).await?);
        Ok(())
    }

    fn ring(&self, due: &[String]) {
        for worker in &self.workers {
            if due.iter().any(|name| name == worker.job.name()) {
                worker.wake.notify_one();
            }
        }
    }

    /// Claims one run of a job and does it. Returns the run as it was claimed; `None` when there is nothing to do.
    ///
    /// # Errors
    /// The database does not answer. A run that was claimed is taken over when its lease has expired.
    pub async fn work(&self, job: &dyn Job, stop: &mut Stop) -> Result<Option<RunRow>, DbError> {
        let now = self.app.clock.now();
        let system = self.app.db.system();
        let buried = system
            .bury_runs(
                job.name(),
                ATTEMPTS_MAX,
                "its process ended at every attempt",
                now,
            )
            .await?;
        for run in buried {
            self.log_failed(&run, "its process ended at every attempt", None);
        }
        let Some(run) = system.claim_run(job.name(), now, now + LEASE).await? else {
            return Ok(None);
        };
        let stopwatch = Stopwatch::start();
        let outcome = self.attempt(job, &run, stop).await;
        self.record(&run, outcome, stopwatch.elapsed()).await?;
        Ok(Some(run))
    }

    async fn attempt(&self, job: &dyn Job, run: &RunRow, stop: &mut Stop) -> Outcome {
        let deadline = job.deadline();
        let work = AssertUnwindSafe(job.run(&self.app, run.scheduled())).catch_unwind();
        let ending = async {
            stop.requested().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        // Dropping the work ends it at its next await, as the end of the process would.
        tokio::select! {
            done = tokio::time::timeout(deadline, work) => match done {
                Ok(Ok(Ok(counts))) => Outcome::Done(merged(counts)),
                Ok(Ok(Err(error))) => Outcome::Failed(error),
                Ok(Err(panic)) => Outcome::Failed(anyhow!("it panicked: {}", panic_message(&*panic))),
                Err(_) => Outcome::Failed(anyhow!("it took longer than {deadline:?}")),
            },
            () = self.keep_lease(run) => Outcome::LeaseLost,
            () = ending => Outcome::Interrupted,
        }
    }

    /// Renews the lease; returns when it is lost.
    async fn keep_lease(&self, run: &RunRow) {
        let mut lease_until = self.app.clock.now() + LEASE;
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            let now = self.app.clock.now();
            match self.app.db.system().renew_run(run, now + LEASE).await {
                Ok(true) => lease_until = now + LEASE,
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(run.id, %error, "cannot renew a run's lease; trying again");
                    if now >= lease_until {
                        return;
                    }
                }
            }
        }
    }

    async fn record(
        &self,
        run: &RunRow,
        outcome: Outcome,
        duration: Duration,
    ) -> Result<(), DbError> {
        let system = self.app.db.system();
        let now = self.app.clock.now();
        let is_recorded = match outcome {
            Outcome::Done(counts) => {
                let is_recorded = system.finish_run(run, &counts, now).await?;
                if is_recorded {
                    self.log_done(run, &counts, duration, now);
                }
                is_recorded
            }
            Outcome::Failed(error) => {
                let mut text = format!("{error:#}");
                text.truncate(text.floor_char_boundary(ERROR_MAX_BYTES));
                let again = (run.attempt < ATTEMPTS_MAX).then(|| now + backoff(run.attempt));
                let is_recorded = system.fail_run(run, &text, again, now).await?;
                if is_recorded {
                    self.log_failed(run, &text, again);
                }
                is_recorded
            }
            Outcome::Interrupted => system.release_run(run, now).await?,
            Outcome::LeaseLost => false,
        };
        if !is_recorded {
            self.app
                .observe
                .add("shoal_job_runs_total", &labels(run, "lost"), 1.0);
            tracing::warn!(
                job.name = run.job,
                run.id,
                run.attempt,
                "a run was taken over while it worked; what it did is recorded by who took it"
            );
        }
        Ok(())
    }

    /// The one line of a run that did its work, and its metrics.
    fn log_done(&self, run: &RunRow, counts: &[TenantCount], duration: Duration, now: Timestamp) {
        let sum = |of: fn(&TenantCount) -> u64| counts.iter().map(of).sum::<u64>();
        let results = [
            ("expected", sum(|count| count.expected)),
            ("processed", sum(|count| count.processed)),
            ("failed", sum(|count| count.failed)),
            ("skipped", sum(|count| count.skipped)),
        ];
        let job = ("job", run.job.as_str());
        let observe = &self.app.observe;
        for (result, units) in results {
            observe.add(
                "shoal_job_units_total",
                &[job, ("result", result)],
                units as f64,
            );
        }
        observe.add("shoal_job_runs_total", &labels(run, "done"), 1.0);
        observe.set(
            "shoal_job_last_success_timestamp_seconds",
            &[job],
            seconds(now),
        );
        observe.set(
            "shoal_job_lag_seconds",
            &[job],
            now.since(run.scheduled()).as_secs_f64(),
        );
        tracing::info!(
            job.name = run.job,
            run.id,
            run.scheduled = %run.scheduled(),
            run.attempt,
            run.duration_ms = duration.as_millis() as u64,
            run.expected = results[0].1,
            run.processed = results[1].1,
            run.failed = results[2].1,
            run.skipped = results[3].1,
            "run done"
        );
        for count in counts.iter().filter(|count| !count.is_accounted()) {
            observe.add("shoal_job_unaccounted_total", &[job], 1.0);
            tracing::error!(
                job.name = run.job,
                run.id,
                tenant.id = count.tenant.0,
                run.expected = count.expected,
                run.processed = count.processed,
                run.failed = count.failed,
                run.skipped = count.skipped,
                "a run did not account for all that it expected"
            );
        }
    }

    fn log_failed(&self, run: &RunRow, error: &str, again: Option<Timestamp>) {
        let scheduled = run.scheduled();
        match again {
            Some(again) => {
                self.app
                    .observe
                    .add("shoal_job_runs_total", &labels(run, "retried"), 1.0);
                tracing::warn!(
                    job.name = run.job, run.id, run.scheduled = %scheduled, run.attempt, error, again_at = %again,
                    "run failed; it is tried again"
                );
            }
            None => {
                self.app
                    .observe
                    .add("shoal_job_runs_total", &labels(run, "failed"), 1.0);
                tracing::error!(
                    job.name = run.job, run.id, run.scheduled = %scheduled, run.attempt, error,
                    "run failed for good; when its cause is gone, post it again: shoal job run NAME --at TIME"
                );
            }
        }
    }

    /// Starts the scheduler and the workers.
    pub(super) fn start(self: Arc<Self>, tasks: &Tasks) {
        for at in 0..self.workers.len() {
            let jobs = self.clone();
            tasks.spawn("job worker", move |stop| jobs.work_always(at, stop));
        }
        tasks.spawn("job scheduler", move |stop| self.schedule(stop));
    }

    async fn work_always(self: Arc<Self>, at: usize, mut stop: Stop) {
        let worker = &self.workers[at];
        while !stop.is_requested() {
            match self.work(&*worker.job, &mut stop).await {
                Ok(Some(_)) => continue,
                Ok(None) => {}
                // The scheduler rings again when the database answers again.
                Err(error) => {
                    tracing::error!(job.name = worker.job.name(), %error, "a job cannot work now; trying again");
                }
            }
            tokio::select! {
                () = worker.wake.notified() => {}
                () = stop.requested() => {}
            }
        }
    }

    async fn schedule(self: Arc<Self>, mut stop: Stop) {
        self.remember_success().await;
        let mut told_at = Timestamp(i64::MIN);
        let mut is_rung = false;
        loop {
            let now = self.app.clock.now();
            // Not oftener than every look, so that a storm of alerts is told in a few runs.
            if is_rung && now.since(told_at) >= LOOK_EVERY {
                match self.post_telling(now).await {
                    Ok(()) => (is_rung, told_at) = (false, now),
                    Err(error) => {
                        tracing::error!(%error, "cannot post a run of {TELLING}; trying again")
                    }
                }
            }
            if let Err(error) = self.post_slots().await {
                tracing::error!(%error, "cannot post runs of jobs; trying again");
            }
            tokio::select! {
                goes_on = stop.sleep(LOOK_EVERY) => if !goes_on { return },
                () = self.app.to_tell.notified(), if !is_rung => is_rung = true,
            }
        }
    }

    /// Posts the job that tells people, for now: a run that has not begun yet serves as well.
    async fn post_telling(&self, now: Timestamp) -> Result<(), DbError> {
        if self.find(TELLING).is_ok() {
            self.app.db.system().post_slot(TELLING, now, now).await?;
        }
        Ok(())
    }

    /// Sets the gauges of last success, which the process does not remember.
    async fn remember_success(&self) {
        for job in self.iter() {
            match self.app.db.system().last_done_run(job.name()).await {
                Ok(Some(run)) => self.app.observe.set(
                    "shoal_job_last_success_timestamp_seconds",
                    &[("job", job.name())],
                    seconds(Timestamp(run.ended_at_ms.unwrap_or(run.scheduled_at_ms))),
                ),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(job.name = job.name(), %error, "the last run is not known");
                }
            }
        }
    }
}

/// The job's latest time for which a run may begin.
pub fn latest_slot(job: &dyn Job, now: Timestamp) -> Timestamp {
    (now - job.delay()).slot(job.period(), Duration::ZERO)
}

/// Refuses times that nobody can mean.
fn check_time(job: &dyn Job, scheduled: Timestamp, now: Timestamp) -> Result<(), PostError> {
    let latest = now + job.period();
    if scheduled > latest {
        return Err(PostError::Refused(format!(
            "{scheduled} is more than one period ({:?}) ahead of the server's clock, {now}; post it when its time comes",
            job.period()
        )));
    }
    if scheduled < Timestamp(0) {
        return Err(PostError::Refused(format!(
            "{scheduled} is before 1970; give milliseconds since then, such as {}",
            now.unix_ms()
        )));
    }
    job.refuse(scheduled)
        .map_or(Ok(()), |reason| Err(PostError::Refused(reason)))
}

/// One count for each tenant that had something to do.
fn merged(counts: Vec<TenantCount>) -> Vec<TenantCount> {
    let mut merged: BTreeMap<TenantId, TenantCount> = BTreeMap::new();
    for count in counts {
        let sum = merged
            .entry(count.tenant)
            .or_insert(TenantCount::none(count.tenant));
        sum.expected += count.expected;
        sum.processed += count.processed;
        sum.failed += count.failed;
        sum.skipped += count.skipped;
    }
    let all = merged.into_values();
    all.filter(|count| *count != TenantCount::none(count.tenant))
        .collect()
}

fn backoff(attempt: i64) -> Duration {
    let times = u32::try_from(attempt.clamp(1, 16) - 1).unwrap_or(0);
    BACKOFF_FIRST
        .saturating_mul(4u32.saturating_pow(times))
        .min(BACKOFF_MAX)
}

fn labels<'a>(run: &'a RunRow, status: &'a str) -> [(&'static str, &'a str); 2] {
    [("job", run.job.as_str()), ("status", status)]
}

fn seconds(at: Timestamp) -> f64 {
    at.unix_ms() as f64 / 1000.0
}

#[cfg(test)]
mod tests;
