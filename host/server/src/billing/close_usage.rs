//! The job `close-usage`: counts every hour of every tenant once, zero included, and then never again.
//!
//! An hour is closed when it has been over for [`GRACE`] by the server's clock and all that was acknowledged in it is
//! in the database. Usage counts in the hour of its post, by the same clock, so nothing comes later, with one exception:
//! a clock that was set back. Such elements are on record and counted by a metric, but never billed, because an
//! hour that a tenant has seen must not change (`docs/decisions/late-usage.md`).
//!
//! Whether everything was counted is two metrics by tenant that are 0 or somebody has to look:
//! `shoal_usage_open_hours` (hours that should be closed and are not) and `shoal_usage_uncounted_members` (the set of
//! closed hours counted anew, less their closed quantities). What plugins used is counted by sums instead of a set; calls
//! that a process wrote too late are `shoal_usage_late_plugin_calls`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use shoal_model::Timestamp;
use shoal_model::time::Hour;

use crate::app::App;
use crate::db::tenants::Tenant;
use crate::db::{DbError, TenantDb};
use crate::jobs::{Job, TenantCount};

/// How long an hour stays open after its end: longer than a post may wait for the disk.
pub const GRACE: Duration = Duration::from_secs(60);
/// Hours of one tenant that one run closes: more than a month, so that one run makes up for a month of downtime.
const HOURS_MAX: u64 = 1_000;
/// Hours that are counted anew after each run, besides those that it closed.
const RECOUNT_HOURS: i64 = 3;
/// Beyond so many hours back nothing is counted anew: the set behind old hours is deleted in time.
const RECOUNT_HOURS_MAX: i64 = 30 * 24;

/// Closes hours.
pub struct CloseUsage;

#[async_trait]
impl Job for CloseUsage {
    fn name(&self) -> &'static str {
        "close-usage"
    }

    fn summary(&self) -> &'static str {
        "Counts each tenant's usage of every hour that has ended, once, and closes the hour"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn delay(&self) -> Duration {
        GRACE
    }

    async fn run(&self, app: &App, scheduled: Timestamp) -> Result<Vec<TenantCount>> {
        app.store
            .flush_usage()
            .await
            .context("cannot hand the usage of the log to the database")?;
        app.calls
            .flush_usage()
            .await
            .context("cannot write what plugins used")?;
        let end = end_of_closing(scheduled, app.clock.now());
        let mut counts = Vec::new();
        for tenant in app.db.system().tenants().await? {
            counts.push(close_tenant(app, &tenant, end).await);
        }
        Ok(counts)
    }
}

/// The first hour that stays open.
fn end_of_closing(scheduled: Timestamp, now: Timestamp) -> Hour {
    scheduled.min(now - GRACE).hour()
}

/// Closes a tenant's hours; a failure leaves the rest to the next run.
async fn close_tenant(app: &App, tenant: &Tenant, end: Hour) -> TenantCount {
    let db = app.db.tenant(tenant.id());
    let mut count = TenantCount::none(tenant.id());
    let done = close_hours(app, &db, tenant, end, &mut count).await;
    if let Err(error) = done {
        // Nothing is known of what there was to do when not even that could be asked.
        count.expected = count.expected.max(1);
        count.failed = count.expected - count.processed - count.skipped;
        tracing::error!(tenant.id = tenant.id, %error, "cannot close hours; the next run goes on");
    }
    let open = count.expected - count.processed;
    let id = tenant.id().to_string();
    app.observe
        .set("shoal_usage_open_hours", &[("tenant", &id)], open as f64);
    count
}

async fn close_hours(
    app: &App,
    db: &TenantDb,
    tenant: &Tenant,
    end: Hour,
    count: &mut TenantCount,
) -> Result<(), DbError> {
    let first = db.next_open_hour(Timestamp(tenant.created_at_ms)).await?;
    count.expected = u64::try_from(end.0 - first.0).unwrap_or(0);
    // What is beyond the bound is left to the next run.
    count.skipped = count.expected.saturating_sub(HOURS_MAX);
    for hour in (first.0..end.0).take(HOURS_MAX as usize).map(Hour) {
        // `false`: another process closed it a moment ago.
        db.close_hour(hour, app.clock.now()).await?;
        count.processed += 1;
    }
    let from = (first.0 - RECOUNT_HOURS).max(end.0 - RECOUNT_HOURS_MAX);
    recount(app, db, Hour(from)).await
}

/// Posts what the equation "counted = in the set" leaves, and how much was late.
async fn recount(app: &App, db: &TenantDb, from: Hour) -> Result<(), DbError> {
    let tenant = db.id().to_string();
    let labels = [("tenant", tenant.as_str())];
    let uncounted = db.uncounted_members(from).await?;
    if uncounted != 0 {
        tracing::error!(
            tenant.id = db.id().0,
            usage.uncounted = uncounted,
            "closed hours do not count what is in the usage set"
        );
    }
    let late = db.late_members().await?;
    app.observe
        .set("shoal_usage_uncounted_members", &labels, uncounted as f64);
    app.observe
        .set("shoal_usage_late_members", &labels, late as f64);
    let late = db.late_plugin_calls(from).await?;
    app.observe
        .set("shoal_usage_late_plugin_calls", &labels, late as f64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::testing::{HOST, hour, metric, tenant, with_app};
    use shoal_model::TenantId;

    #[test]
    fn an_hour_stays_open_until_its_grace_has_passed() {
        let scheduled = hour(5).start();
        let just = scheduled + GRACE;
        assert_eq!(
            end_of_closing(scheduled, just - Duration::from_millis(1)),
            hour(4)
        );
        assert_eq!(end_of_closing(scheduled, just), hour(5));
        // A run that is done late closes what it was scheduled for, not more.
        assert_eq!(end_of_closing(scheduled, hour(9).start()), hour(5));
    }

    #[tokio::test]
    async fn every_hour_closes_once_with_zeros_and_a_late_start_catches_up() {
        with_app(hour(0).start(), |app| async move {
            let acme = tenant(&app, "acme").await;
            let other = tenant(&app, "other").await;
            acme.add_usage(&[HOST.at(hour(0), "web-1"), HOST.at(hour(2), "web-1")])
                .await
                .expect("added");
            app.clock.advance(Duration::from_secs(5 * 3600 + 60));

            let counts = CloseUsage.run(&app, hour(5).start()).await.expect("ran");
            assert_eq!(counts.len(), 3, "the operator's tenant as well");
            assert!(counts.iter().all(|count| count.processed == 5));
            let quantities = |db: TenantDb| async move {
                let hours = db.closed_hours(hour(0).month()).await.expect("read");
                hours.iter().map(|hour| hour.quantity).collect::<Vec<_>>()
            };
            assert_eq!(quantities(acme.clone()).await, [1, 0, 1, 0, 0]);
            assert_eq!(quantities(other).await, [0; 5]);

            let again = CloseUsage.run(&app, hour(5).start()).await.expect("ran");
            let nothing: Vec<_> = [1, 2, 3]
                .map(|id| TenantCount::none(TenantId(id)))
                .into_iter()
                .collect();
            let mut again = again;
            again.sort_by_key(|count| count.tenant);
            assert_eq!(again, nothing);
            assert_eq!(quantities(acme).await, [1, 0, 1, 0, 0]);
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_late_shows_in_a_metric_and_nowhere_else() {
        with_app(hour(0).start(), |app| async move {
            let acme = tenant(&app, "acme").await;
            app.clock.advance(Duration::from_secs(2 * 3600));
            CloseUsage.run(&app, hour(1).start()).await.expect("ran");
            acme.add_usage(&[HOST.at(hour(0), "web-1")])
                .await
                .expect("noted");
            CloseUsage.run(&app, hour(1).start()).await.expect("ran");
            let of_acme = |name: &str| {
                metric(
                    &app,
                    &format!("{name}{{job=\"shoal\", tenant=\"{}\"}}", acme.id()),
                )
            };
            assert_eq!(of_acme("shoal_usage_late_members"), Some(1.0));
            assert_eq!(of_acme("shoal_usage_uncounted_members"), Some(0.0));
            assert_eq!(of_acme("shoal_usage_open_hours"), Some(0.0));
            let usage = acme
                .month_usage(hour(0).month(), hour(1))
                .await
                .expect("read");
            assert_eq!((usage.closed_hours, usage.meters.len()), (1, 0));
        })
        .await;
    }
}
