//! Runs are posted once, done once, and recorded by whoever holds them.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use super::*;
use crate::jobs::testing::{hour, metric, with_app};

/// What a run of the job under test does, by the number of the attempt.
type Script = Arc<dyn Fn(u32) -> Act + Send + Sync>;

enum Act {
    Count(TenantCount),
    Fail,
    Panic,
    Hang,
    /// Another process takes the run over, does it and records it.
    LoseTheLease,
}

struct Scripted {
    script: Script,
    deadline: Duration,
    attempts: Arc<AtomicU32>,
}

#[async_trait]
impl Job for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn summary(&self) -> &'static str {
        "Does as the test says"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }

    fn refuse(&self, scheduled: Timestamp) -> Option<String> {
        (scheduled == Timestamp(13)).then(|| "13 brings bad luck".to_owned())
    }

    async fn run(&self, app: &App, _scheduled: Timestamp) -> anyhow::Result<Vec<TenantCount>> {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        match (self.script)(attempt) {
            Act::Count(count) => Ok(vec![count]),
            Act::Fail => anyhow::bail!("the world is not ready"),
            Act::Panic => panic!("a bug"),
            Act::Hang => std::future::pending().await,
            Act::LoseTheLease => {
                app.clock.advance(LEASE + Duration::from_millis(1));
                let (system, now) = (app.db.system(), app.clock.now());
                let taken = system.claim_run("scripted", now, now + LEASE).await?;
                let taken = taken.expect("its lease has expired");
                assert!(system.finish_run(&taken, &[counted(7)], now).await?);
                Ok(vec![counted(1)])
            }
        }
    }
}

fn counted(units: u64) -> TenantCount {
    TenantCount {
        expected: units,
        processed: units,
        ..TenantCount::none(TenantId::OPERATOR)
    }
}

struct Bench {
    app: Arc<App>,
    jobs: Jobs,
    attempts: Arc<AtomicU32>,
    tasks: Tasks,
}

impl Bench {
    fn new(app: &Arc<App>, script: impl Fn(u32) -> Act + Send + Sync + 'static) -> Bench {
        Bench::within(Duration::from_secs(60), app, script)
    }

    fn within(
        deadline: Duration,
        app: &Arc<App>,
        script: impl Fn(u32) -> Act + Send + Sync + 'static,
    ) -> Bench {
        let attempts = Arc::new(AtomicU32::new(0));
        let job = Scripted {
            script: Arc::new(script),
            deadline,
            attempts: attempts.clone(),
        };
        Bench {
            app: app.clone(),
            jobs: Jobs::with(app.clone(), vec![Box::new(job)]),
            attempts,
            tasks: Tasks::new(),
        }
    }

    async fn post(&self) -> RunRow {
        self.jobs.post("scripted", None).await.expect("posted")
    }

    /// Whether there was something to do.
    async fn work(&self) -> bool {
        let job = self.jobs.find("scripted").expect("there");
        let worked = self.jobs.work(job, &mut self.tasks.stop()).await;
        worked.expect("the database answers").is_some()
    }

    async fn run(&self, id: &str) -> RunRow {
        let run = self.app.db.system().run(id).await;
        run.expect("read").expect("there")
    }

    fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn posting_twice_runs_once() {
    with_app(hour(0).start(), |app| async move {
        let bench = Bench::new(&app, |_| Act::Count(counted(3)));
        let first = bench.post().await;
        assert_eq!(bench.post().await.id, first.id);
        assert!(bench.work().await);
        assert!(!bench.work().await);
        assert_eq!(bench.post().await.status, "done");
        assert!(!bench.work().await);
        assert_eq!(bench.attempts(), 1);
        let run = bench.run(&first.id).await;
        assert_eq!((run.expected, run.processed, run.attempt), (3, 3, 1));
        let tenants = app.db.system().run_tenants(&run.id).await.expect("read");
        assert_eq!(tenants.len(), 1);
        assert_eq!(
            (tenants[0].tenant.as_str(), tenants[0].processed),
            ("operator", 3)
        );
        assert_eq!(
            metric(&app, "shoal_job_runs_total{job=\"shoal\", status=\"done\"}"),
            None,
            "the label job is the job's"
        );
    })
    .await;
}

#[tokio::test]
async fn whoever_lost_its_lease_records_nothing() {
    with_app(hour(0).start(), |app| async move {
        let bench = Bench::new(&app, |_| Act::LoseTheLease);
        let run = bench.post().await;
        assert!(bench.work().await);
        let run = bench.run(&run.id).await;
        assert_eq!(
            (run.status.as_str(), run.fence, run.processed),
            ("done", 2, 7)
        );
    })
    .await;
}

#[tokio::test]
async fn a_run_is_taken_over_only_when_its_lease_has_expired() {
    with_app(hour(0).start(), |app| async move {
        let bench = Bench::new(&app, |_| Act::Count(counted(1)));
        let posted = bench.post().await;
        let (system, now) = (app.db.system(), app.clock.now());
        let dead = system
            .claim_run("scripted", now, now + LEASE)
            .await
            .expect("claimed");
        assert!(!bench.work().await, "somebody holds it");
        // A further run waits until the first has ended.
        let other = bench.jobs.post("scripted", Some(Timestamp(0))).await;
        assert!(!bench.work().await, "the job never runs twice at once");

        app.clock.advance(LEASE + Duration::from_millis(1));
        assert!(bench.work().await);
        let run = bench.run(&posted.id).await;
        assert_eq!((run.status.as_str(), run.attempt), ("done", 2));
        let dead = dead.expect("one was due");
        let now = app.clock.now();
        assert!(
            !system
                .renew_run(&dead, now + LEASE)
                .await
                .expect("answered")
        );
        assert!(!system.finish_run(&dead, &[], now).await.expect("answered"));
        assert!(!system.release_run(&dead, now).await.expect("answered"));
        assert!(
            !system
                .fail_run(&dead, "x", None, now)
                .await
                .expect("answered")
        );
        assert!(bench.work().await);
        assert_eq!(bench.run(&other.expect("posted").id).await.status, "done");
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_is_tried_again_later() {
    with_app(hour(0).start(), |app| async move {
        let deadline = Duration::from_millis(50);
        let bench = Bench::within(deadline, &app, |attempt| match attempt {
            1 => Act::Panic,
            2 => Act::Hang,
            _ => Act::Count(counted(1)),
        });
        let posted = bench.post().await;
        assert!(bench.work().await);
        let run = bench.run(&posted.id).await;
        assert_eq!(run.status, "waiting");
        assert_eq!(run.error.as_deref(), Some("it panicked: a bug"));
        assert!(!bench.work().await, "not before the pause is over");

        app.clock.advance(BACKOFF_FIRST);
        assert!(bench.work().await);
        let run = bench.run(&posted.id).await;
        assert_eq!(run.error.as_deref(), Some("it took longer than 50ms"));
        app.clock.advance(BACKOFF_FIRST * 4);
        assert!(bench.work().await);
        let run = bench.run(&posted.id).await;
        assert_eq!(
            (run.status.as_str(), run.attempt, run.error),
            ("done", 3, None)
        );
    })
    .await;
}

#[tokio::test]
async fn what_fails_at_every_attempt_stays_failed_until_it_is_posted_by_hand() {
    with_app(hour(0).start(), |app| async move {
        let bench = Bench::new(&app, |attempt| {
            if attempt <= ATTEMPTS_MAX as u32 {
                Act::Fail
            } else {
                Act::Count(counted(1))
            }
        });
        let posted = bench.post().await;
        for _ in 0..ATTEMPTS_MAX {
            assert!(bench.work().await);
            app.clock.advance(BACKOFF_MAX);
        }
        let run = bench.run(&posted.id).await;
        assert_eq!(run.status, "failed");
        assert_eq!(run.error.as_deref(), Some("the world is not ready"));
        assert!(run.ended_at_ms.is_some());
        assert!(!bench.work().await);

        let again = bench.jobs.post("scripted", Some(run.scheduled())).await;
        let again = again.expect("posted");
        assert_eq!(
            (again.id, again.status.as_str()),
            (run.id.clone(), "waiting")
        );
        assert!(bench.work().await);
        assert_eq!(bench.run(&run.id).await.status, "done");
    })
    .await;
}

#[tokio::test]
async fn a_run_whose_process_dies_at_every_attempt_is_given_up() {
    with_app(hour(0).start(), |app| async move {
        let bench = Bench::new(&app, |_| Act::Count(counted(1)));
        let posted = bench.post().await;
        for _ in 0..ATTEMPTS_MAX {
            let now = app.clock.now();
            let claimed = app
                .db
                .system()
                .claim_run("scripted", now, now + LEASE)
                .await;
            assert!(claimed.expect("claimed").is_some());
            app.clock.advance(LEASE + Duration::from_millis(1));
        }
        assert!(!bench.work().await);
        let run = bench.run(&posted.id).await;
        assert_eq!(run.status, "failed");
        assert_eq!(
            run.error.as_deref(),
            Some("its process ended at every attempt")
        );
        assert_eq!(bench.attempts(), 0);
    })
    .await;
}

#[tokio::test]
async fn after_downtime_only_the_latest_slot_is_posted() {
    with_app(hour(0).start(), |app| async move {
        let bench = Bench::new(&app, |_| Act::Count(counted(1)));
        let slots = async || {
            bench.jobs.post_slots().await.expect("posted");
            let system = app.db.system();
            let runs = system.runs("scripted", Timestamp(i64::MAX), 100).await;
            let runs = runs.expect("read");
            runs.iter()
                .map(|run| (run.scheduled_at_ms - hour(0).start().0) / 1000)
                .collect::<Vec<_>>()
        };
        assert_eq!(slots().await, [0]);
        // Nothing works: the queue does not grow.
        app.clock.advance(Duration::from_secs(60));
        assert_eq!(slots().await, [0]);
        assert!(bench.work().await);
        app.clock.advance(Duration::from_secs(24 * 3600 + 59));
        assert_eq!(slots().await, [24 * 3600 + 60, 0]);
        // Other processes post the same.
        let other = Bench::new(&app, |_| Act::Count(counted(1)));
        other.jobs.post_slots().await.expect("posted");
        assert_eq!(slots().await, [24 * 3600 + 60, 0]);
    })
    .await;
}

#[tokio::test]
async fn times_that_make_no_sense_are_refused_with_the_reason() {
    with_app(hour(0).start(), |app| async move {
        let bench = Bench::new(&app, |_| Act::Fail);
        let refused = async |name: &str, at: Timestamp| {
            let posted = bench.jobs.post(name, Some(at)).await;
            posted.expect_err("it makes no sense").to_string()
        };
        assert_eq!(
            refused("script", hour(0).start()).await,
            "there is no job \"script\"; the jobs are scripted"
        );
        let ahead = refused("scripted", hour(1).start()).await;
        assert!(
            ahead.starts_with("2026-11-01T01:00:00.000Z is more than one period (60s) ahead"),
            "{ahead}"
        );
        assert_eq!(
            refused("scripted", Timestamp(13)).await,
            "13 brings bad luck"
        );
        assert!(
            refused("scripted", Timestamp(-1))
                .await
                .contains("before 1970")
        );
    })
    .await;
}

#[tokio::test]
async fn units_that_are_not_accounted_for_are_counted() {
    with_app(hour(0).start(), |app| async move {
        let bench = Bench::new(&app, |_| {
            Act::Count(TenantCount {
                expected: 3,
                skipped: 1,
                ..counted(1)
            })
        });
        bench.post().await;
        assert!(bench.work().await);
        let unaccounted = app
            .observe
            .samples(Timestamp(0))
            .into_iter()
            .find(|s| s.labels.metric_name() == Some("shoal_job_unaccounted_total"));
        assert_eq!(unaccounted.map(|sample| sample.value), Some(1.0));
    })
    .await;
}

#[tokio::test]
async fn a_run_that_is_interrupted_by_the_end_goes_back_without_losing_an_attempt() {
    with_app(hour(0).start(), |app| async move {
        let bench = Bench::new(&app, |_| Act::Hang);
        let posted = bench.post().await;
        let claimed = app
            .db
            .system()
            .claim_run("scripted", app.clock.now(), app.clock.now() + LEASE)
            .await;
        let claimed = claimed.expect("claimed").expect("one is due");
        bench
            .jobs
            .record(&claimed, Outcome::Interrupted, Duration::ZERO)
            .await
            .expect("recorded");
        let run = bench.run(&posted.id).await;
        assert_eq!((run.status.as_str(), run.attempt), ("waiting", 0));
    })
    .await;
}

#[tokio::test]
async fn the_engine_runs_what_was_posted_and_ends_when_told() {
    with_app(hour(0).start(), |app| async move {
        let bench = Bench::new(&app, |_| Act::Count(counted(1)));
        let (jobs, tasks, attempts) = (Arc::new(bench.jobs), bench.tasks, bench.attempts);
        jobs.start(&tasks);
        let system = app.db.system();
        let done = async {
            while system
                .last_done_run("scripted")
                .await
                .expect("read")
                .is_none()
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), done)
            .await
            .expect("the slot was posted and done");
        tasks.shutdown(Duration::from_secs(20)).await;
        assert_eq!(attempts.load(Ordering::SeqCst), 1);
    })
    .await;
}
