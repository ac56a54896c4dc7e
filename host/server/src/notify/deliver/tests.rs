//! Deliveries against both databases, with channels that answer as a test says.

use std::collections::VecDeque;

use parking_lot::Mutex;
use shoal_model::alert::{Evidence, Severity};
use shoal_model::{Labels, MonitorId};
use shoal_runtime::{CallError, Failure, FailureDetail, Receipt, Trigger};

use super::*;
use crate::db::alerts::Which;
use crate::db::monitors::Definition;
use crate::db::notifications::NotificationRow;
use crate::db::testing::{each_database, sqlite};
use crate::monitoring::judge::{self, Seen};
use crate::monitoring::testing::{add, definition, installation, put, tenant};

mod fallback;
mod histories;

/// How a channel answers one call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answers {
    Ok,
    Retry,
    Rejected,
    /// Has it, and is cut off before it can say so.
    Crash,
}

/// Answers as told, then well; keeps what it was told.
#[derive(Default)]
struct FakeChannels {
    answers: Mutex<VecDeque<Answers>>,
    told: Mutex<Vec<(CallContext, Notification)>>,
    crashed: tokio::sync::Notify,
}

impl FakeChannels {
    fn answering(answers: &[Answers]) -> FakeChannels {
        let channels = FakeChannels::default();
        channels.answers.lock().extend(answers);
        channels
    }

    fn keys(&self) -> Vec<String> {
        let told = self.told.lock();
        told.iter()
            .map(|(context, _)| context.idempotency_key.clone())
            .collect()
    }

    fn severities(&self) -> Vec<(Severity, Severity)> {
        let told = self.told.lock();
        told.iter()
            .map(|(_, n)| (n.alert.previous, n.alert.severity))
            .collect()
    }
}

#[async_trait]
impl Channels for FakeChannels {
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
        let answer = self.answers.lock().pop_front().unwrap_or(Answers::Ok);
        if matches!(answer, Answers::Ok | Answers::Crash) {
            self.told
                .lock()
                .push((context.clone(), notification.clone()));
        }
        let detail = || FailureDetail {
            code: "test".to_owned(),
            message: "as the test says".to_owned(),
        };
        let outcome = match answer {
            Answers::Ok => Ok(Receipt {
                summary: "200 OK".to_owned(),
            }),
            Answers::Retry => Err(CallError::Failed(Failure::Retry {
                detail: detail(),
                after: None,
            })),
            Answers::Rejected => Err(CallError::Failed(Failure::Rejected(detail()))),
            Answers::Crash => {
                self.crashed.notify_one();
                std::future::pending().await
            }
        };
        Ok(Met::Called {
            outcome,
            revision: row.revision,
        })
    }
}

/// One tenant with a monitor and a channel, and a clock.
struct Stage {
    db: Db,
    acme: TenantDb,
    monitor: MonitorId,
    clock: Clock,
    observe: Observe,
}

impl Stage {
    async fn new(db: Db) -> Stage {
        Stage::of_tenant(db, "acme").await
    }

    async fn of_tenant(db: Db, key: &str) -> Stage {
        let acme = tenant(&db, key).await;
        put(&acme, &installation(1, "channel")).await;
        let monitor = add(&acme, &definition("cpu")).await;
        Stage {
            db,
            acme,
            monitor,
            clock: Clock::manual(Timestamp(1_000_000)),
            observe: Observe::default(),
        }
    }

    /// Lets a minute pass and the monitor see a host like this.
    async fn see(&self, host: &str, evidence: Evidence) {
        self.clock.advance(Duration::from_secs(60));
        let monitor = self.acme.monitor(self.monitor.as_str()).await;
        let source = monitor.expect("read").expect("there").source();
        let labels = Labels::from_pairs([("host", host)]);
        let seen = match evidence {
            Evidence::Missing => Vec::new(),
            _ => vec![Seen {
                fingerprint: labels.fingerprint(),
                labels,
                evidence,
                value: Some(1.0),
                message: None,
            }],
        };
        let (slot, rule) = (self.clock.now(), definition("cpu").rule);
        let decide = |known| judge::decide(&source, rule, slot, seen, known);
        let judged = self.acme.judge(&source, slot, slot, decide).await;
        judged.expect("judged");
    }

    async fn is(&self, severity: Severity) {
        self.see("a", Evidence::Is(severity)).await;
    }

    async fn deliver(&self, channels: &FakeChannels) -> Vec<TenantCount> {
        let url = "https://shoal.example.com";
        let delivery = Delivery::new(&self.db, channels, &self.clock, &self.observe, url);
        let counts = delivery.run().await.expect("ran");
        for count in &counts {
            let done = count.processed + count.failed + count.skipped;
            assert_eq!(count.expected, done, "{count:?}");
        }
        counts
    }

    /// Delivers until the channel is cut off.
    async fn deliver_and_crash(&self, channels: &FakeChannels) {
        tokio::select! {
            _ = self.deliver(channels) => {}
            () = channels.crashed.notified() => {}
        }
    }

    async fn notification(&self) -> NotificationRow {
        let alerts = self.acme.alerts(Which::All, None, 1).await.expect("read");
        let mut rows = self.acme.notifications(&alerts[0].id).await.expect("read");
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.remove(0)
    }
}

#[tokio::test]
async fn a_change_is_told_once_with_what_the_receiver_said() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        let channels = FakeChannels::default();
        stage.is(Severity::Critical).await;
        stage.deliver(&channels).await;
        stage.deliver(&channels).await;
        assert_eq!(channels.severities(), [(Severity::Ok, Severity::Critical)]);
        let row = stage.notification().await;
        assert_eq!((&*row.status, row.attempts), ("delivered", 1));
        assert_eq!(row.summary.as_deref(), Some("200 OK"));
        stage.is(Severity::Warning).await;
        stage.deliver(&channels).await;
        stage.is(Severity::Ok).await;
        stage.deliver(&channels).await;
        assert_eq!(
            channels.severities()[1..],
            [
                (Severity::Critical, Severity::Warning),
                (Severity::Warning, Severity::Ok)
            ]
        );
        let (context, last) = channels.told.lock().pop().expect("told");
        assert_eq!(context.idempotency_key, format!("{}-3", row.id));
        assert_eq!(
            (&*last.organization, last.monitor.critical),
            ("acme", Some(90.0))
        );
        let url = format!("https://shoal.example.com/api/v1/alerts/{}", last.alert.id);
        assert_eq!(last.alert.url, url);
        let deliveries = stage.acme.deliveries(&last.alert.id).await.expect("read");
        assert_eq!(deliveries.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn an_alert_that_was_over_before_it_was_told_is_told_once_as_over() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        let channels = FakeChannels::default();
        stage.is(Severity::Critical).await;
        stage.is(Severity::Ok).await;
        stage.deliver(&channels).await;
        assert_eq!(channels.severities(), [(Severity::Critical, Severity::Ok)]);
        let told = channels.told.lock()[0].1.alert.clone();
        assert_eq!(
            told.closed.map(|closed| closed.since(told.opened)),
            Some(Duration::from_mins(1))
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_again_as_it_was_told_last_is_not_told_again() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        let channels = FakeChannels::default();
        stage.is(Severity::Warning).await;
        stage.deliver(&channels).await;
        stage.is(Severity::Critical).await;
        stage.is(Severity::Warning).await;
        let counts = stage.deliver(&channels).await;
        assert_eq!(counts[0].skipped, 1, "{counts:?}");
        assert_eq!(channels.told.lock().len(), 1);
        assert_eq!(stage.notification().await.status, "delivered");
    })
    .await;
}

#[tokio::test]
async fn what_may_have_arrived_in_between_is_set_right() {
    each_database(|db| async move {
        for between in [Answers::Retry, Answers::Crash] {
            let name = format!("{between:?}").to_lowercase();
            let stage = Stage::of_tenant(db.clone(), &name).await;
            let channels = FakeChannels::default();
            stage.is(Severity::Warning).await;
            stage.deliver(&channels).await;
            channels.answers.lock().push_back(between);
            stage.is(Severity::Critical).await;
            stage.deliver_and_crash(&channels).await;
            stage.is(Severity::Warning).await;
            stage.clock.advance(LEASE);
            stage.deliver(&channels).await;
            let last = channels.severities().pop();
            assert_eq!(
                last,
                Some((Severity::Warning, Severity::Warning)),
                "{between:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_plugin_says_is_kept_even_with_characters_that_a_database_refuses() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        let monitor = stage.acme.monitor(stage.monitor.as_str()).await;
        let source = monitor.expect("read").expect("there").source();
        let slot = stage.clock.now();
        let noted = stage.acme.note_error(&source, slot, "a\0b", slot).await;
        noted.expect("noted");
        stage.is(Severity::Critical).await;
        let now = stage.clock.now();
        let claimed = stage
            .acme
            .claim_notifications(now, now + LEASE, 1)
            .await
            .expect("claimed");
        let told = Told::Delivered("a\0b".to_owned());
        let recorded = stage
            .acme
            .record_delivery(&claimed[0], 1, Severity::Critical, &told, now);
        assert!(recorded.await.expect("recorded"));
        let summary = stage.notification().await.summary;
        assert_eq!(summary.as_deref(), Some("a\u{fffd}b"));
    })
    .await;
}

#[tokio::test]
async fn a_delivery_whose_process_died_is_made_again_under_the_same_key() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        let channels = FakeChannels::answering(&[Answers::Crash]);
        stage.is(Severity::Critical).await;
        stage.deliver_and_crash(&channels).await;
        // The lease holds: nobody else tells it now.
        assert_eq!(stage.deliver(&channels).await, []);
        stage.clock.advance(LEASE);
        stage.deliver(&channels).await;
        let keys = channels.keys();
        assert!(
            matches!(&keys[..], [one, other] if one == other),
            "{keys:?}"
        );
        let row = stage.notification().await;
        assert_eq!((&*row.status, row.attempts), ("delivered", 2));
    })
    .await;
}

#[tokio::test]
async fn an_outlived_claim_records_nothing() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        stage.is(Severity::Critical).await;
        let now = stage.clock.now();
        let old = stage
            .acme
            .claim_notifications(now, now + LEASE, 9)
            .await
            .expect("claimed");
        let later = now + LEASE;
        let new = stage
            .acme
            .claim_notifications(later, later + LEASE, 9)
            .await
            .expect("claimed");
        assert_eq!((old.len(), new.len()), (1, 1));
        let told = Told::Delivered("200".to_owned());
        let record = |claimed: Claimed| {
            let (acme, told) = (stage.acme.clone(), told.clone());
            async move {
                let recorded = acme.record_delivery(&claimed, 1, Severity::Critical, &told, later);
                recorded.await.expect("answered")
            }
        };
        assert!(!record(old[0].clone()).await);
        assert_eq!(stage.notification().await.status, "pending");
        assert!(record(new[0].clone()).await);
        assert!(!record(new[0].clone()).await);
        assert_eq!(stage.notification().await.status, "delivered");
    })
    .await;
}

#[tokio::test]
async fn of_two_that_deliver_at_a_time_each_notification_is_told_by_one() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        for n in 2..12 {
            put(&stage.acme, &installation(n, "channel")).await;
        }
        stage.is(Severity::Critical).await;
        let channels = FakeChannels::default();
        tokio::join!(stage.deliver(&channels), stage.deliver(&channels));
        let mut keys = channels.keys();
        keys.sort();
        let told = keys.len();
        keys.dedup();
        assert_eq!((told, keys.len()), (11, 11));
    })
    .await;
}

#[tokio::test]
async fn what_may_pass_is_tried_again_later_and_what_may_not_is_given_up_with_its_reason() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        let channels = FakeChannels::answering(&[Answers::Retry, Answers::Rejected]);
        stage.is(Severity::Critical).await;
        stage.deliver(&channels).await;
        let row = stage.notification().await;
        assert_eq!((&*row.status, row.attempts), ("pending", 1));
        let wait = Timestamp(row.next_attempt_at_ms).since(stage.clock.now());
        assert!((2_500..=5_000).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(stage.deliver(&channels).await, []);
        stage.clock.advance(Duration::from_secs(5));
        stage.deliver(&channels).await;
        let row = stage.notification().await;
        assert_eq!(row.status, "failed");
        let error = row.last_error.expect("a reason");
        assert_eq!(error, "rejected (test): as the test says");

        // Nothing happens until the channel is changed; then the present state is told.
        stage.clock.advance(Duration::from_hours(1));
        assert_eq!(stage.deliver(&channels).await, []);
        put(&stage.acme, &installation(1, "channel")).await;
        stage.deliver(&channels).await;
        assert_eq!(channels.severities(), [(Severity::Ok, Severity::Critical)]);
        assert_eq!(stage.notification().await.status, "delivered");
    })
    .await;
}

#[tokio::test]
async fn a_channel_that_is_new_hears_nothing_of_older_alerts() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        let channels = FakeChannels::default();
        stage.is(Severity::Critical).await;
        put(&stage.acme, &installation(2, "channel")).await;
        stage.deliver(&channels).await;
        stage.is(Severity::Ok).await;
        stage.deliver(&channels).await;
        stage.notification().await;
        assert_eq!(channels.told.lock().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_disabled_channel_waits_and_a_deleted_one_fails() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        let channels = FakeChannels::default();
        stage.is(Severity::Critical).await;
        let mut channel = installation(1, "channel");
        channel.is_enabled = false;
        put(&stage.acme, &channel).await;
        stage.deliver(&channels).await;
        let row = stage.notification().await;
        assert_eq!((&*row.status, row.attempts), ("pending", 0));
        assert!(row.last_error.expect("said").contains("disabled"));
        channel.is_enabled = true;
        put(&stage.acme, &channel).await;
        stage.clock.advance(Duration::from_mins(1));
        stage.deliver(&channels).await;
        assert_eq!(stage.notification().await.status, "delivered");
        let deleted = stage.acme.remove_installation(channel.id.as_str()).await;
        assert!(deleted.expect("answered"));
        stage.is(Severity::Ok).await;
        stage.deliver(&channels).await;
        let row = stage.notification().await;
        assert_eq!(row.status, "failed");
        assert_eq!(row.last_error.as_deref(), Some("the channel was deleted"));
    })
    .await;
}

#[tokio::test]
async fn a_channel_that_a_monitor_names_in_vain_is_shown_as_failed() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        put(&stage.acme, &installation(2, "channel")).await;
        let named = Definition {
            channels: Some(vec![
                installation(2, "channel").id.to_string(),
                installation(3, "channel").id.to_string(),
            ]),
            ..definition("cpu")
        };
        let replaced = stage
            .acme
            .replace_monitor(stage.monitor.as_str(), &named)
            .await;
        assert!(replaced.expect("answered"));
        stage.is(Severity::Critical).await;
        let alerts = stage.acme.alerts(Which::Open, None, 1).await.expect("read");
        let rows = stage.acme.notifications(&alerts[0].id).await.expect("read");
        let found: Vec<_> = rows
            .iter()
            .map(|row| (&*row.channel, &*row.status))
            .collect();
        let missing = installation(3, "channel").id.to_string();
        assert_eq!(found, [("channel 2", "pending"), (&*missing, "failed")]);
    })
    .await;
}

#[tokio::test]
async fn an_alert_closed_by_hand_is_told_as_such() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        let channels = FakeChannels::default();
        stage.is(Severity::Critical).await;
        stage.deliver(&channels).await;
        let alerts = stage.acme.alerts(Which::Open, None, 1).await.expect("read");
        let now = stage.clock.now();
        let closed = stage.acme.close_alert(&alerts[0].id, "known", now).await;
        assert_eq!(closed.expect("answered"), Some(true));
        stage.deliver(&channels).await;
        let (_, told) = channels.told.lock().pop().expect("told");
        assert_eq!(told.alert.trigger, Trigger::ManualClose);
        assert_eq!(told.alert.severity, Severity::Ok);
        assert_eq!(told.alert.message, "closed by hand: known");
    })
    .await;
}

#[tokio::test]
async fn only_the_latest_attempts_are_kept_and_pauses_grow() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        let channels = FakeChannels::answering(&[Answers::Retry; 30]);
        stage.is(Severity::Critical).await;
        let mut next = 0;
        for attempt in 1..=30 {
            stage.deliver(&channels).await;
            let row = stage.notification().await;
            assert_eq!(row.attempts, attempt);
            assert!(row.next_attempt_at_ms > next, "{row:?}");
            next = row.next_attempt_at_ms;
            stage
                .clock
                .advance(Timestamp(next).since(stage.clock.now()));
        }
        stage.deliver(&channels).await;
        let attempts: Vec<u32> = channels
            .told
            .lock()
            .iter()
            .map(|(c, _)| c.attempt)
            .collect();
        assert_eq!(attempts, [31]);
        let alerts = stage.acme.alerts(Which::All, None, 1).await.expect("read");
        let kept = stage.acme.deliveries(&alerts[0].id).await.expect("read");
        assert_eq!(kept.len(), 20);
        assert_eq!(kept[19].result, "delivered");
    })
    .await;
}

#[tokio::test]
async fn an_alert_that_flaps_does_not_press_a_receiver_that_is_waited_for() {
    each_database(|db| async move {
        let stage = Stage::new(db).await;
        let channels = FakeChannels::answering(&[Answers::Retry; 8]);
        stage.is(Severity::Critical).await;
        for _ in 0..8 {
            stage.deliver(&channels).await;
            let row = stage.notification().await;
            stage
                .clock
                .advance(Timestamp(row.next_attempt_at_ms).since(stage.clock.now()));
        }
        channels.answers.lock().push_back(Answers::Retry);
        stage.deliver(&channels).await;
        let before = stage.notification().await.next_attempt_at_ms;
        stage.is(Severity::Warning).await;
        let row = stage.notification().await;
        assert_eq!((row.next_attempt_at_ms, row.attempts), (before, 0));
        assert_eq!(stage.deliver(&channels).await, []);
    })
    .await;
}
