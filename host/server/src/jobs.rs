//! Scheduled work as idempotent events: a job, a time, and what the run of it expected and did.
//!
//! A run is named by its job and the time that it is scheduled for. Posting it twice runs it once, so the built-in
//! scheduler, an external cron and a person can all post. A run is claimed by a lease, worked on, and recorded per
//! tenant with what was expected, processed, failed and skipped: "was everything processed?" is itself a metric.
//!
//! | part | does |
//! |---|---|
//! | [`engine`] | posts, claims, runs, records, retries |
//! | [`delete_expired`] | the job that ends what is kept long enough |

pub mod delete_expired;
pub mod engine;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shoal_model::{TenantId, Timestamp};

use crate::app::App;
use crate::billing::close_usage::CloseUsage;
use crate::billing::rate_statements::RateStatements;
use crate::monitoring::checks::RunChecks;
use crate::monitoring::evaluate::EvaluateMonitors;
use crate::notify::DeliverNotifications;
use crate::task::Tasks;
use delete_expired::DeleteExpired;

pub use engine::{Jobs, PostError};

/// The shortest time that a run gets, and the longest unless its job says otherwise.
const DEADLINES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(900));

/// One sort of scheduled work.
#[async_trait]
pub trait Job: Send + Sync {
    /// Its name in addresses, logs and metrics, such as `close-usage`.
    fn name(&self) -> &'static str;

    /// What it does, one sentence for the list of jobs.
    fn summary(&self) -> &'static str;

    /// How often the built-in scheduler posts it; times are whole multiples since the epoch.
    fn period(&self) -> Duration;

    /// How long after its time a run begins at the earliest.
    fn delay(&self) -> Duration {
        Duration::ZERO
    }

    /// How long one attempt may take; it is dropped then, at its next `.await`, and has failed.
    fn deadline(&self) -> Duration {
        self.period().clamp(DEADLINES.0, DEADLINES.1)
    }

    /// Why a run at this time makes no sense; `None` when it does.
    fn refuse(&self, _scheduled: Timestamp) -> Option<String> {
        None
    }

    /// Does the work that is scheduled for one time. Doing it again changes nothing but what was left undone: a run whose
    /// process died is done again.
    ///
    /// # Errors
    /// What kept it from doing anything at all; what failed for single tenants is in the counts.
    async fn run(&self, app: &App, scheduled: Timestamp) -> anyhow::Result<Vec<TenantCount>>;
}

/// What one run did for one tenant. `expected` = `processed` + `failed` + `skipped`, or something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantCount {
    /// For whom.
    pub tenant: TenantId,
    /// How many units of work there were to do, counted before doing them.
    pub expected: u64,
    /// Done.
    pub processed: u64,
    /// Tried in vain; tried again by a later run where that makes sense.
    pub failed: u64,
    /// Left out on purpose, such as work that was done already.
    pub skipped: u64,
}

impl TenantCount {
    /// Nothing yet.
    pub fn none(tenant: TenantId) -> TenantCount {
        TenantCount {
            tenant,
            expected: 0,
            processed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    /// Whether every expected unit was processed, failed or was skipped.
    pub fn is_accounted(&self) -> bool {
        self.expected == self.processed + self.failed + self.skipped
    }
}

/// Every job.
pub fn all() -> Vec<Box<dyn Job>> {
    vec![
        Box::new(EvaluateMonitors),
        Box::new(RunChecks),
        Box::new(DeliverNotifications),
        Box::new(CloseUsage),
        Box::new(RateStatements),
        Box::new(DeleteExpired),
    ]
}

/// Starts the scheduler and one worker for each job.
pub fn start(app: &Arc<App>, tasks: &Tasks) {
    Arc::new(Jobs::new(app.clone())).start(tasks);
}
