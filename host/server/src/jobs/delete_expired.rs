//! The job `delete-expired`: ends what has been kept long enough.
//!
//! Every time is counted back from the run's scheduled time, so that a run deletes the same whenever it is done. Each
//! deletion takes a bounded number of rows and each run a bounded number of deletions; what is left, the next
//! run takes.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use shoal_model::{TenantId, Timestamp};
use shoal_store::TenantLimits;

use super::{Job, TenantCount, all};
use crate::app::App;
use crate::db::TenantDb;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Runs that did their work.
const RUNS_KEPT: Duration = DAY.saturating_mul(14);
/// Runs that failed for good: somebody may still have to look.
const FAILED_RUNS_KEPT: Duration = DAY.saturating_mul(90);
/// What runs of jobs with short periods did by tenant: a job every ten seconds makes 8,640 runs a day.
const FREQUENT_DETAILS_KEPT: Duration = DAY.saturating_mul(2);
/// Up to this period a job is frequent.
const FREQUENT: Duration = Duration::from_secs(600);
/// The set behind a closed hour, so that a tenant can ask what was counted.
const USAGE_KEPT: Duration = DAY.saturating_mul(40);
/// Drafts that another one has replaced.
const DRAFTS_KEPT: Duration = DAY.saturating_mul(40);
/// Alerts that are over, with what was told of them: as long as the telemetry that they are about.
const ALERTS_KEPT: Duration = DAY.saturating_mul(460);
/// Who did what: two years, so that last year's can still be asked for.
const AUDIT_KEPT: Duration = DAY.saturating_mul(730);
/// Lines of one deletion.
const AUDIT_BATCH: i64 = 1000;
/// Failures of plugins, for whoever has to find out why.
const FAILURES_KEPT: Duration = DAY.saturating_mul(30);
/// Hosts that plugins contacted.
const CONTACTS_KEPT: Duration = DAY.saturating_mul(90);
/// Alerts of one deletion; each takes its transitions and notifications along.
const ALERTS_BATCH: i64 = 500;
/// Values of plugins of one deletion.
const VALUES_BATCH: i64 = 1000;
/// Deletions of one sort in one run.
const ROUNDS_MAX: u32 = 100;

/// Deletes what is too old.
pub struct DeleteExpired;

#[async_trait]
impl Job for DeleteExpired {
    fn name(&self) -> &'static str {
        "delete-expired"
    }

    fn summary(&self) -> &'static str {
        "Deletes telemetry beyond its retention, usage sets of hours closed long ago, and old alerts, runs, drafts and audit lines"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(3600)
    }

    async fn run(&self, app: &App, scheduled: Timestamp) -> Result<Vec<TenantCount>> {
        let mut counts = vec![count(TenantId::OPERATOR, delete_runs(app, scheduled).await)];
        for tenant in app.db.system().tenants().await? {
            let (id, db) = (tenant.id(), app.db.tenant(tenant.id()));
            let telemetry = app
                .store
                .retain(id, scheduled - TenantLimits::default().retention);
            counts.push(count(id, telemetry.await.map(drop).map_err(Into::into)));
            counts.push(count(id, delete_usage(&db, scheduled).await));
            counts.push(count(id, delete_alerts(&db, scheduled).await));
            counts.push(count(id, delete_kept_values(&db, scheduled).await));
        }
        Ok(counts)
    }
}

/// One unit of work.
fn count(tenant: TenantId, done: Result<()>) -> TenantCount {
    if let Err(error) = &done {
        tracing::error!(
            tenant.id = tenant.0,
            error = format!("{error:#}"),
            "cannot delete what is expired; the next run tries again"
        );
    }
    TenantCount {
        expected: 1,
        processed: u64::from(done.is_ok()),
        failed: u64::from(done.is_err()),
        ..TenantCount::none(tenant)
    }
}

async fn delete_runs(app: &App, scheduled: Timestamp) -> Result<()> {
    let system = app.db.system();
    for (status, kept) in [("done", RUNS_KEPT), ("failed", FAILED_RUNS_KEPT)] {
        for _ in 0..ROUNDS_MAX {
            if system.delete_runs(status, scheduled - kept).await? == 0 {
                break;
            }
        }
    }
    for _ in 0..ROUNDS_MAX {
        let before = scheduled - AUDIT_KEPT;
        if system.delete_audit_before(before, AUDIT_BATCH).await? == 0 {
            break;
        }
    }
    for job in all().iter().filter(|job| job.period() <= FREQUENT) {
        for _ in 0..ROUNDS_MAX {
            let before = scheduled - FREQUENT_DETAILS_KEPT;
            if system.delete_run_tenants(job.name(), before).await? == 0 {
                break;
            }
        }
    }
    Ok(())
}

async fn delete_usage(db: &TenantDb, scheduled: Timestamp) -> Result<()> {
    for _ in 0..ROUNDS_MAX {
        let before = (scheduled - USAGE_KEPT).hour();
        if db.delete_closed_usage(before).await? == 0 {
            break;
        }
    }
    db.delete_drafts(scheduled - DRAFTS_KEPT).await?;
    let day = (scheduled - CONTACTS_KEPT).unix_ms() / DAY.as_millis() as i64;
    db.delete_plugin_usage(day, (scheduled - USAGE_KEPT).hour())
        .await?;
    for _ in 0..ROUNDS_MAX {
        if db.delete_failures(scheduled - FAILURES_KEPT).await? == 0 {
            break;
        }
    }
    Ok(())
}

async fn delete_alerts(db: &TenantDb, scheduled: Timestamp) -> Result<()> {
    for _ in 0..ROUNDS_MAX {
        let before = scheduled - ALERTS_KEPT;
        if db.delete_alerts_closed_before(before, ALERTS_BATCH).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// What plugins keep, and said how long.
async fn delete_kept_values(db: &TenantDb, scheduled: Timestamp) -> Result<()> {
    for _ in 0..ROUNDS_MAX {
        if db.delete_expired_kv(scheduled, VALUES_BATCH).await? == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::close_usage::CloseUsage;
    use crate::db::alerts::{Source, SourceKind, Which};
    use crate::jobs::testing::{HOST, hour, tenant, with_app};
    use crate::monitoring::judge::{self, Seen};
    use crate::monitoring::testing::{installation, put};
    use shoal_model::Labels;
    use shoal_model::alert::{Evidence, Rule, Severity};
    use shoal_model::time::DAY_MS;

    #[tokio::test]
    async fn a_usage_set_goes_forty_days_after_its_hour_and_only_when_that_is_closed() {
        with_app(hour(10).start(), |app| async move {
            let db = tenant(&app, "acme").await;
            db.add_usage(&[HOST.at(hour(10), "web-1")])
                .await
                .expect("added");
            let late = Timestamp(hour(11).start().0 + 41 * DAY_MS);
            app.clock.advance(late.since(app.clock.now()));
            DeleteExpired.run(&app, late).await.expect("ran");
            assert_eq!(db.usage_members(hour(10)).await.expect("read"), 1);

            CloseUsage.run(&app, late).await.expect("closed");
            DeleteExpired.run(&app, late).await.expect("ran");
            assert_eq!(db.usage_members(hour(10)).await.expect("read"), 0);
            let month = db
                .month_usage(hour(10).month(), hour(720))
                .await
                .expect("read");
            assert_eq!(month.closed_hours, 720 - 10);
        })
        .await;
    }

    #[tokio::test]
    async fn runs_go_after_two_weeks_and_failed_ones_stay() {
        with_app(hour(10).start(), |app| async move {
            let system = app.db.system();
            let now = app.clock.now();
            for (at, fails) in [(1, false), (2, true)] {
                let at = Timestamp(at);
                system
                    .post_run("close-usage", at, now, now)
                    .await
                    .expect("posted");
                let run = system
                    .claim_run("close-usage", now, now)
                    .await
                    .expect("claimed")
                    .expect("one is due");
                let ended = match fails {
                    true => system.fail_run(&run, "broken", None, now).await,
                    false => system.finish_run(&run, &[], now).await,
                };
                assert!(ended.expect("recorded"));
            }
            let later = Timestamp(now.0 + 15 * DAY_MS);
            let counts = DeleteExpired.run(&app, later).await.expect("ran");
            assert!(counts.iter().all(|count| count.failed == 0), "{counts:?}");
            let left = system.runs("close-usage", later, 10).await.expect("read");
            let left: Vec<i64> = left.iter().map(|run| run.scheduled_at_ms).collect();
            assert_eq!(left, [2]);
        })
        .await;
    }

    #[tokio::test]
    async fn an_alert_goes_as_long_after_its_end_as_its_telemetry_does() {
        with_app(hour(10).start(), |app| async move {
            let acme = tenant(&app, "acme").await;
            let closed_at = app.clock.now();
            one_closed_alert(&acme, closed_at).await;
            let kept = TenantLimits::default().retention;
            let counts = DeleteExpired.run(&app, closed_at + kept).await;
            assert!(counts.expect("ran").iter().all(|count| count.failed == 0));
            let alerts = || async { acme.alerts(Which::All, None, 9).await.expect("read").len() };
            assert_eq!(alerts().await, 1);
            let later = closed_at + kept + Duration::from_secs(1);
            DeleteExpired.run(&app, later).await.expect("ran");
            assert_eq!(alerts().await, 0);
        })
        .await;
    }

    async fn one_closed_alert(db: &TenantDb, now: Timestamp) {
        let mut check = installation(1, "check");
        check.interval_ms = Some(60_000);
        put(db, &check).await;
        let source = Source {
            id: check.id.to_string(),
            name: check.name,
            kind: SourceKind::Check,
            memo: String::new(),
            channels: None,
        };
        for (at, severity) in [(1, Severity::Critical), (2, Severity::Ok)] {
            let slot = Timestamp(at);
            let seen = Seen {
                fingerprint: 1,
                labels: Labels::default(),
                evidence: Evidence::Is(severity),
                value: None,
                message: None,
            };
            let rule = Rule {
                max_attempts: 1,
                missing_is: None,
            };
            let decide = |known| judge::decide(&source, rule, slot, vec![seen], known);
            db.judge(&source, slot, now, decide).await.expect("judged");
        }
    }
}
