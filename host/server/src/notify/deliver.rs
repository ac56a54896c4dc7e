//! Delivers what is due: claims, calls the channel, records; never two of these in one transaction.
//!
//! Each worker takes its turn first and claims then, so that a lease is not used up by waiting. A tenant has
//! [`WORKERS_PER_TENANT`] of [`CALLS_AT_ONCE`] turns in all, given in the order in which they were asked for.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use shoal_model::id::AlertId;
use shoal_model::{InstallationId, TenantId, Timestamp};
use shoal_runtime::{CallContext, Notification};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::content;
use super::settle::{AGE_MAX, Met, settle};
use crate::app::App;
use crate::clock::{Clock, Stopwatch};
use crate::db::alerts::Alert;
use crate::db::installations::InstallationRow;
use crate::db::notifications::{Claimed, Told};
use crate::db::{Db, DbError, TenantDb};
use crate::jobs::TenantCount;
use crate::observe::Observe;
use crate::plugins::NoAnswer;
use crate::random::{RandomId as _, chance};

/// Calls of channels at a time.
const CALLS_AT_ONCE: usize = 16;
/// Of one tenant at a time.
const WORKERS_PER_TENANT: u64 = 4;
/// How long a channel may take.
const CALL_MAX: Duration = Duration::from_secs(15);
/// When a call is given up that did not end by itself.
const CALL_STUCK: Duration = Duration::from_secs(20);
/// How long a claim holds: a call, one of a channel that stands in, and what is written around them, with room to spare.
const LEASE: Duration = Duration::from_secs(60);
/// Other channels that are asked to stand in for one whose plugin is down.
const STAND_INS_MAX: usize = 2;
/// When a run claims no more.
const RUN_MAX: Duration = Duration::from_secs(45);

/// Where notifications go. The plugins of the tenants, or a test's.
#[async_trait]
trait Channels: Send + Sync {
    /// Tells one notification through an installation.
    async fn tell(
        &self,
        db: &TenantDb,
        installation: &str,
        context: &CallContext,
        notification: &Notification,
    ) -> Result<Met, DbError>;
}

/// One run.
struct Delivery<'a> {
    db: &'a Db,
    channels: &'a dyn Channels,
    clock: &'a Clock,
    observe: &'a Observe,
    public_url: &'a str,
    turns: Semaphore,
    began: Stopwatch,
}

/// Tells everything that is due, and what falls due while it does.
///
/// # Errors
/// The database does not answer at all; what fails for single tenants is in the counts.
pub(super) async fn all(app: &App) -> Result<Vec<TenantCount>, DbError> {
    let channels = Plugins { app };
    let public_url = &app.config.public_url;
    let delivery = Delivery::new(&app.db, &channels, &app.clock, &app.observe, public_url);
    delivery.run().await
}

impl<'a> Delivery<'a> {
    fn new(
        db: &'a Db,
        channels: &'a dyn Channels,
        clock: &'a Clock,
        observe: &'a Observe,
        public_url: &'a str,
    ) -> Delivery<'a> {
        Delivery {
            db,
            channels,
            clock,
            observe,
            public_url,
            turns: Semaphore::new(CALLS_AT_ONCE),
            began: Stopwatch::start(),
        }
    }

    async fn run(&self) -> Result<Vec<TenantCount>, DbError> {
        let (system, now) = (self.db.system(), self.clock.now());
        system.retry_after_change(now - AGE_MAX, now).await?;
        let tenants = system.tenants_to_tell(now).await?;
        let at_once = tenants.len().max(1);
        let counts = stream::iter(tenants)
            .map(|(tenant, due)| self.tenant(tenant, due))
            .buffer_unordered(at_once);
        Ok(counts.collect().await)
    }

    async fn tenant(&self, tenant: TenantId, due: u64) -> TenantCount {
        let db = self.db.tenant(tenant);
        let workers = (0..due.min(WORKERS_PER_TENANT)).map(|_| self.worker(&db));
        let done = join_all(workers).await;
        let sum = |count: fn(&Done) -> u64| done.iter().map(count).sum::<u64>();
        let (processed, failed) = (sum(|d| d.processed), sum(|d| d.failed));
        let skipped = sum(|done| done.skipped);
        let expected = due.max(processed + failed + skipped);
        TenantCount {
            tenant,
            expected,
            processed,
            failed,
            // What another process took, or what this run had no time for.
            skipped: expected - processed - failed,
        }
    }

    /// Takes what is due one by one until nothing is.
    async fn worker(&self, db: &TenantDb) -> Done {
        let mut done = Done::default();
        while self.began.elapsed() < RUN_MAX {
            let _turn = self.turns.acquire().await;
            let told = match self.next(db).await {
                Ok(Some(told)) => told,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, tenant.id = db.id().0, "a notification is not recorded; it is told again");
                    done.failed += 1;
                    break;
                }
            };
            match told {
                Told::Delivered(_) => done.processed += 1,
                Told::NothingToTell(_) | Told::Waiting { .. } => done.skipped += 1,
                Told::Retry { .. } | Told::Failed { .. } => done.failed += 1,
            }
        }
        done
    }

    /// Claims one notification and tells it; `None` when nothing is due.
    async fn next(&self, db: &TenantDb) -> Result<Option<Told>, DbError> {
        let now = self.clock.now();
        let claimed = db.claim_notifications(now, now + LEASE, 1).await?;
        let Some(claimed) = claimed.first() else {
            return Ok(None);
        };
        let Some(alert) = db.alert(&claimed.alert_id).await? else {
            // Deleted since, and the notification with it.
            return Ok(Some(Told::NothingToTell("the alert is gone".to_owned())));
        };
        let told = match nothing_to_tell(claimed, &alert) {
            Some(told) => told,
            None => {
                let met = self.tell(db, claimed, &alert).await?;
                let is_over = alert.closed_at.is_some();
                settle(claimed, met, is_over, self.clock.now(), chance())
            }
        };
        let (revision, severity) = (alert.revision, alert.severity);
        let is_recorded = db
            .record_delivery(claimed, revision, severity, &told, self.clock.now())
            .await?;
        if !is_recorded {
            tracing::warn!(
                tenant.id = db.id().0,
                notification.id = claimed.id,
                "a delivery took longer than its lease; it may be told twice"
            );
        }
        self.note(db.id(), claimed, &told);
        Ok(Some(told))
    }

    async fn tell(&self, db: &TenantDb, claimed: &Claimed, alert: &Alert) -> Result<Met, DbError> {
        let latest = db.transitions(&alert.id).await?.pop();
        let organization = db.name().await?;
        let notification = content::of_alert(
            &organization,
            self.public_url,
            alert,
            latest.as_ref(),
            claimed.told(),
        );
        let context = context(
            self.clock.now(),
            claimed.attempts,
            format!("{}-{}", claimed.id, alert.revision),
        );
        let call = self
            .channels
            .tell(db, &claimed.installation_id, &context, &notification);
        let met = match timeout(CALL_STUCK, call).await {
            Ok(met) => met?,
            Err(_) => Met::Unable {
                reason: format!("the call did not end within {} s", CALL_STUCK.as_secs()),
                revision: 0,
            },
        };
        if met.down(claimed.attempts).is_none() {
            return Ok(met);
        }
        let elsewhere = self.tell_elsewhere(db, claimed, &context, &notification);
        match timeout(CALL_STUCK, elsewhere).await {
            Ok(stood_in) => Ok(stood_in?.unwrap_or(met)),
            Err(_) => Ok(met),
        }
    }

    /// Tells a notification through another channel, when its own is down. `None` when no other has it.
    async fn tell_elsewhere(
        &self,
        db: &TenantDb,
        claimed: &Claimed,
        context: &CallContext,
        notification: &Notification,
    ) -> Result<Option<Met>, DbError> {
        let own = db.installation(&claimed.installation_id).await?;
        let own = own.map_or_else(|| claimed.installation_id.clone(), |row| row.name);
        let notification = content::in_place_of(&own, notification);
        let stand_ins = db
            .stand_ins(&claimed.installation_id, &claimed.alert_id)
            .await?;
        for stand_in in stand_ins.iter().take(STAND_INS_MAX) {
            let met = self
                .channels
                .tell(db, stand_in, context, &notification)
                .await?;
            if let Met::Called {
                outcome: Ok(receipt),
                ..
            } = met
            {
                let row = db.installation(stand_in).await?;
                let channel = row.map_or_else(|| stand_in.clone(), |row| row.name);
                let tenant = db.id().to_string();
                self.observe.add(
                    "shoal_notifications_stood_in_total",
                    &[("tenant", &tenant), ("channel", &claimed.installation_id)],
                    1.0,
                );
                return Ok(Some(Met::StoodIn { channel, receipt }));
            }
        }
        Ok(None)
    }

    fn note(&self, tenant: TenantId, claimed: &Claimed, told: &Told) {
        let tenant_text = tenant.to_string();
        let labels = [
            ("tenant", &*tenant_text),
            ("channel", &*claimed.installation_id),
            ("result", told.as_str()),
        ];
        self.observe.add("shoal_notifications_total", &labels, 1.0);
        if let Told::Failed { error, .. } = told {
            tracing::info!(
                tenant.id = tenant.0,
                notification.id = claimed.id,
                installation.id = claimed.installation_id,
                error,
                "a notification failed for good"
            );
        }
    }
}

/// What a worker did.
#[derive(Default)]
struct Done {
    processed: u64,
    failed: u64,
    skipped: u64,
}

/// Whether the channel knows already what there is to know.
fn nothing_to_tell(claimed: &Claimed, alert: &Alert) -> Option<Told> {
    let told = claimed.told().filter(|_| claimed.told_revision > 0)?;
    // An attempt that nobody confirmed may have arrived; the channel then believes something else.
    (told == alert.severity && claimed.unconfirmed == 1).then(|| {
        let severity = told.as_str();
        Told::NothingToTell(format!("it is {severity} again, as was told last"))
    })
}

fn context(now: Timestamp, attempt: i64, idempotency_key: String) -> CallContext {
    CallContext {
        deadline: Some(now + CALL_MAX),
        attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
        ..CallContext::new(now, idempotency_key)
    }
}

/// The tenants' channel plugins.
struct Plugins<'a> {
    app: &'a App,
}

#[async_trait]
impl Channels for Plugins<'_> {
    async fn tell(
        &self,
        db: &TenantDb,
        installation: &str,
        context: &CallContext,
        notification: &Notification,
    ) -> Result<Met, DbError> {
        let Some(row) = db.installation(installation).await? else {
            return Ok(Met::Gone);
        };
        if row.is_enabled == 0 {
            return Ok(Met::Disabled);
        }
        call(self.app, &row, context, notification).await
    }
}

/// Calls an enabled channel.
async fn call(
    app: &App,
    row: &InstallationRow,
    context: &CallContext,
    notification: &Notification,
) -> Result<Met, DbError> {
    let id: InstallationId = row.id()?;
    let snapshot = app.plugins.snapshot();
    let running = snapshot.installation(row.tenant(), &id);
    let revision = row.revision;
    let Some(running) = running else {
        return Ok(Met::Unable {
            reason: "the channel was enabled a moment ago".to_owned(),
            revision,
        });
    };
    let call = app.calls.notify(running, context, notification).await;
    Ok(match call.outcome {
        Ok(receipt) => Met::Called {
            outcome: Ok(receipt),
            revision,
        },
        Err(NoAnswer::Failed(error)) => Met::Called {
            outcome: Err(error),
            revision,
        },
        Err(NoAnswer::CannotRun(reason)) => Met::Unable { reason, revision },
        Err(NoAnswer::Refused(refused)) => Met::Resting {
            reason: refused.to_string(),
            after: refused.retry_after(app.clock.now()),
            revision,
        },
    })
}

/// What came of a test notification.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The receiver has it, and said this.
    Delivered(String),
    /// It has not.
    Failed {
        /// A short stable word, such as `unauthenticated`.
        code: &'static str,
        /// Why not.
        message: String,
    },
    /// The installation is disabled.
    Disabled,
}

/// Tells a channel a test notification at once, tried once.
///
/// # Errors
/// The database does not answer.
pub async fn test(app: &App, row: &InstallationRow) -> Result<Answer, DbError> {
    if row.is_enabled == 0 {
        return Ok(Answer::Disabled);
    }
    let organization = app.db.tenant(row.tenant()).name().await?;
    let (now, id) = (app.clock.now(), AlertId::random());
    let notification = content::of_test(&organization, id.as_str(), now);
    let context = context(now, 1, format!("{id}-test"));
    let met = match timeout(CALL_STUCK, call(app, row, &context, &notification)).await {
        Ok(met) => met?,
        Err(_) => {
            return Ok(Answer::Failed {
                code: "limit-wall",
                message: format!("the call did not end within {} s", CALL_STUCK.as_secs()),
            });
        }
    };
    Ok(match met {
        Met::Called { outcome, .. } => match outcome {
            Ok(receipt) => Answer::Delivered(receipt.summary),
            Err(error) => Answer::Failed {
                code: error.code(),
                message: error.to_string(),
            },
        },
        Met::Unable { reason, .. } => Answer::Failed {
            code: "not-runnable",
            message: reason,
        },
        Met::Resting { reason, .. } => Answer::Failed {
            code: "resting",
            message: reason,
        },
        // A test is told through the channel itself or not at all.
        Met::StoodIn { receipt, .. } => Answer::Delivered(receipt.summary),
        Met::Disabled => Answer::Disabled,
        Met::Gone => Answer::Failed {
            code: "gone",
            message: "the channel was deleted".to_owned(),
        },
    })
}

#[cfg(test)]
mod tests;
