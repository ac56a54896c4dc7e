//! Monitors against both databases, with queries that a test answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shoal_model::alert::Severity;
use shoal_model::{Labels, MonitorId};

use super::*;
use crate::db::alerts::{Alert, Trigger, Which};
use crate::db::testing::each_database;
use crate::monitoring::testing::{FakeQuery, add, definition, installation, put, tenant};
use crate::telemetry::QueryError;

const MINUTE_MS: i64 = 60_000;

/// Evaluates all monitors at a minute.
async fn evaluate(db: &Db, query: &FakeQuery, minute: i64) -> Vec<TenantCount> {
    let slot = Timestamp(minute * MINUTE_MS);
    let (clock, to_tell) = (Clock::manual(slot), Notify::new());
    let evaluation = Evaluation::new(db, query, &clock, &to_tell, slot);
    evaluation.run().await.expect("the database answers")
}

async fn open(db: &TenantDb) -> Vec<Alert> {
    db.alerts(Which::Open, None, 100).await.expect("read")
}

async fn last_error(db: &TenantDb, id: &MonitorId) -> Option<String> {
    let monitor = db.monitor(id.as_str()).await.expect("read").expect("there");
    monitor.last_error.map(|(text, _)| text)
}

fn counted(counts: &[TenantCount]) -> (u64, u64, u64, u64) {
    let [count] = counts else {
        panic!("{counts:?}");
    };
    (count.expected, count.processed, count.failed, count.skipped)
}

#[tokio::test]
async fn a_transition_is_one_alert_and_one_notification_a_channel_and_its_slot_is_judged_once() {
    each_database(|db| async move {
        let (acme, other) = (tenant(&db, "acme").await, tenant(&db, "other").await);
        put(&acme, &installation(1, "channel")).await;
        put(&acme, &installation(2, "channel")).await;
        put(&acme, &installation(3, "check")).await;
        let mut disabled = installation(4, "channel");
        disabled.is_enabled = false;
        put(&acme, &disabled).await;
        add(&acme, &definition("cpu")).await;
        let query = FakeQuery::default();
        query.set("cpu", &[("a", 97.25), ("b", 10.0)]);
        assert_eq!(counted(&evaluate(&db, &query, 1).await), (1, 1, 0, 0));

        let alerts = open(&acme).await;
        let [alert] = &alerts[..] else {
            panic!("{alerts:?}");
        };
        assert_eq!(alert.message, "cpu is critical: 97.25 > 90");
        assert_eq!(alert.labels, Labels::from_pairs([("host", "a")]));
        assert_eq!(alert.value, Some(97.25));
        let notifications = acme.notifications(&alert.id).await.expect("read");
        let told: Vec<_> = notifications.iter().map(|n| &*n.channel).collect();
        assert_eq!(told, ["channel 1", "channel 2"]);

        query.set("cpu", &[("a", 1.0)]);
        assert_eq!(counted(&evaluate(&db, &query, 1).await), (1, 0, 0, 1));
        assert_eq!(open(&acme).await, alerts);
        assert_eq!(
            acme.notifications(&alert.id).await.expect("read"),
            notifications
        );

        assert_eq!(open(&other).await, []);
        assert_eq!(other.alert(&alert.id).await.expect("read"), None);
        assert_eq!(other.transitions(&alert.id).await.expect("read"), []);
        assert_eq!(other.notifications(&alert.id).await.expect("read"), []);
        let closed = other.close_alert(&alert.id, "mine", Timestamp(1)).await;
        assert_eq!(closed.expect("answered"), None);
    })
    .await;
}

#[tokio::test]
async fn an_alert_changes_with_its_target_and_closes_when_it_is_well() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        put(&acme, &installation(1, "channel")).await;
        add(&acme, &definition("cpu")).await;
        let query = FakeQuery::default();
        for (minute, value) in [(1, 99.0), (2, 85.0), (3, 84.0), (4, 12.5)] {
            query.set("cpu", &[("a", value)]);
            evaluate(&db, &query, minute).await;
        }
        assert_eq!(open(&acme).await, []);
        let alerts = acme.alerts(Which::Closed, None, 10).await.expect("read");
        let [alert] = &alerts[..] else {
            panic!("{alerts:?}");
        };
        assert_eq!(alert.closed_at, Some(Timestamp(4 * MINUTE_MS)));
        assert_eq!(alert.revision, 3);
        let transitions = acme.transitions(&alert.id).await.expect("read");
        let messages: Vec<_> = transitions.iter().map(|t| &*t.message).collect();
        assert_eq!(
            messages,
            [
                "cpu is critical: 99 > 90",
                "cpu is warning: 85 > 80",
                "cpu is ok: 12.5 <= 80"
            ]
        );
        assert_eq!(acme.notifications(&alert.id).await.expect("read").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_query_that_fails_resolves_nothing_and_is_shown() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let id = add(&acme, &definition("cpu")).await;
        let query = FakeQuery::default();
        query.set("cpu", &[("a", 99.0)]);
        evaluate(&db, &query, 1).await;
        let before = open(&acme).await;
        query.fail("cpu", "it is too expensive");
        assert_eq!(counted(&evaluate(&db, &query, 2).await), (1, 0, 1, 0));
        assert_eq!(open(&acme).await, before);
        let error = last_error(&acme, &id).await;
        assert_eq!(error.as_deref(), Some("it is too expensive"));

        // The slot was not judged, so another attempt may.
        query.set("cpu", &[("a", 1.0)]);
        assert_eq!(counted(&evaluate(&db, &query, 2).await), (1, 1, 0, 0));
        assert_eq!(open(&acme).await, []);
        assert_eq!(last_error(&acme, &id).await, None);
    })
    .await;
}

#[tokio::test]
async fn missing_data_means_what_the_monitor_says() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let query = FakeQuery::default();
        for (at, (missing_is, wanted)) in [
            (None, Some(Severity::Critical)),
            (Some(Severity::Ok), None),
            (Some(Severity::Unknown), Some(Severity::Unknown)),
            (Some(Severity::Warning), Some(Severity::Warning)),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("query {at}");
            let mut definition = definition(&name);
            definition.rule.missing_is = missing_is;
            let id = add(&acme, &definition).await;
            query.set(&name, &[("a", 99.0)]);
            evaluate(&db, &query, 2 * at as i64 + 1).await;
            query.set(&name, &[]);
            evaluate(&db, &query, 2 * at as i64 + 2).await;
            let found = open(&acme).await;
            let alert = found.iter().find(|alert| alert.monitor.id == id.as_str());
            assert_eq!(alert.map(|alert| alert.severity), wanted, "{missing_is:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn of_processes_that_judge_the_same_slot_one_does() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        put(&acme, &installation(1, "channel")).await;
        add(&acme, &definition("cpu")).await;
        let query = FakeQuery::default();
        query.set("cpu", &[("a", 99.0), ("b", 99.0)]);
        let both = tokio::join!(evaluate(&db, &query, 1), evaluate(&db, &query, 1));
        let (one, other) = (counted(&both.0), counted(&both.1));
        assert_eq!(one.1 + other.1, 1, "{one:?} {other:?}");
        assert_eq!(one.3 + other.3, 1, "{one:?} {other:?}");
        let alerts = open(&acme).await;
        assert_eq!(alerts.len(), 2);
        for alert in alerts {
            assert_eq!(acme.transitions(&alert.id).await.expect("read").len(), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn an_alert_closed_by_hand_opens_anew_where_the_condition_persists() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        add(&acme, &definition("cpu")).await;
        let query = FakeQuery::default();
        query.set("cpu", &[("a", 99.0)]);
        evaluate(&db, &query, 1).await;
        let first = open(&acme).await.remove(0);
        let now = Timestamp(MINUTE_MS + 1);
        let close = |id: String| {
            let acme = acme.clone();
            async move { acme.close_alert(&id, "known", now).await.expect("answered") }
        };
        assert_eq!(close(first.id.clone()).await, Some(true));
        assert_eq!(close(first.id.clone()).await, Some(false));
        assert_eq!(close("alt_0000000000000000".to_owned()).await, None);
        // The same slot does not open it again, a later one does.
        evaluate(&db, &query, 1).await;
        assert_eq!(open(&acme).await, []);
        let closed = acme.alert(&first.id).await.expect("read").expect("there");
        assert_eq!(closed.reason.as_deref(), Some("known"));
        let last = acme.transitions(&first.id).await.expect("read").pop();
        assert_eq!(last.map(|t| t.trigger), Some(Trigger::ManualClose));
        evaluate(&db, &query, 2).await;
        let again = open(&acme).await;
        assert!(
            matches!(&again[..], [alert] if alert.id != first.id),
            "{again:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn deleting_a_monitor_closes_its_alerts_and_wants_that_told() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        put(&acme, &installation(1, "channel")).await;
        let id = add(&acme, &definition("cpu")).await;
        let query = FakeQuery::default();
        query.set("cpu", &[("a", 99.0), ("b", 99.0)]);
        evaluate(&db, &query, 1).await;
        let now = Timestamp(2 * MINUTE_MS);
        let deleted = acme.delete_monitor(id.as_str(), now).await;
        assert_eq!(deleted.expect("answered"), Some(2));
        let deleted = acme.delete_monitor(id.as_str(), now).await;
        assert_eq!(deleted.expect("answered"), None);
        for alert in acme.alerts(Which::Closed, None, 10).await.expect("read") {
            let last = acme.transitions(&alert.id).await.expect("read").pop();
            assert_eq!(last.map(|t| t.trigger), Some(Trigger::MonitorDeleted));
            let told = acme.notifications(&alert.id).await.expect("read");
            assert!(
                matches!(&told[..], [n] if n.status == "pending"),
                "{told:?}"
            );
        }
        assert_eq!(open(&acme).await, []);
    })
    .await;
}

#[tokio::test]
async fn what_was_evaluated_before_a_change_of_the_monitor_is_not_applied_after_it() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let id = add(&acme, &definition("cpu")).await;
        let before = acme
            .monitor(id.as_str())
            .await
            .expect("read")
            .expect("there");
        let mut changed = definition("cpu");
        changed.thresholds.critical = Some(99.5);
        assert!(
            acme.replace_monitor(id.as_str(), &changed)
                .await
                .expect("replaced")
        );
        let slot = Timestamp(MINUTE_MS);
        let judged = acme
            .judge(&before.source(), slot, slot, |_| {
                panic!("nothing to decide")
            })
            .await;
        assert_eq!(judged.expect("answered"), Judged::Outdated);
    })
    .await;
}

#[tokio::test]
async fn a_list_of_alerts_goes_on_where_a_page_ended() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        add(&acme, &definition("cpu")).await;
        let query = FakeQuery::default();
        for (minute, hosts) in [
            (1, &["a"][..]),
            (2, &["a", "b", "c"]),
            (3, &["a", "b", "c", "d"]),
        ] {
            let rows: Vec<_> = hosts.iter().map(|host| (*host, 99.0)).collect();
            query.set("cpu", &rows);
            evaluate(&db, &query, minute).await;
        }
        let all = acme.alerts(Which::All, None, 100).await.expect("read");
        assert_eq!(all.len(), 4);
        assert!(all.is_sorted_by_key(|alert| std::cmp::Reverse(alert.opened_at)));
        let mut paged: Vec<Alert> = Vec::new();
        loop {
            let before = paged.last().map(|alert| alert.id.clone());
            let page = acme
                .alerts(Which::All, before.as_deref(), 1)
                .await
                .expect("read");
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all);
        assert_eq!(acme.alerts(Which::Closed, None, 9).await.expect("read"), []);
    })
    .await;
}

#[tokio::test]
async fn alerts_closed_long_ago_are_deleted_with_all_that_belongs_to_them() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        put(&acme, &installation(1, "channel")).await;
        add(&acme, &definition("cpu")).await;
        let query = FakeQuery::default();
        for (minute, rows) in [
            (1, [("a", 99.0), ("b", 99.0), ("c", 99.0)]),
            (2, [("a", 1.0), ("b", 1.0), ("c", 99.0)]),
        ] {
            query.set("cpu", &rows);
            evaluate(&db, &query, minute).await;
        }
        let closed = acme.alerts(Which::Closed, None, 9).await.expect("read");
        assert_eq!(closed.len(), 2);
        let other = tenant(&db, "other").await;
        let before = Timestamp(2 * MINUTE_MS + 1);
        let deleted = other.delete_alerts_closed_before(before, 10).await;
        assert_eq!(deleted.expect("answered"), 0, "they are another tenant's");
        let delete = |before: i64, limit| {
            let acme = acme.clone();
            async move {
                let deleted = acme.delete_alerts_closed_before(Timestamp(before), limit);
                deleted.await.expect("deleted")
            }
        };
        assert_eq!(delete(2 * MINUTE_MS, 10).await, 0);
        assert_eq!(delete(2 * MINUTE_MS + 1, 1).await, 1);
        assert_eq!(delete(2 * MINUTE_MS + 1, 10).await, 1);
        for alert in closed {
            assert_eq!(acme.transitions(&alert.id).await.expect("read"), []);
            assert_eq!(acme.notifications(&alert.id).await.expect("read"), []);
        }
        assert_eq!(open(&acme).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_tenant_has_only_so_many_monitors() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let add = |id| {
            let acme = acme.clone();
            async move {
                let (id, cpu) = (MonitorId::from_random([id; 10]), definition("cpu"));
                let added = acme.add_monitor(&id, &cpu, 2, Timestamp(1));
                added.await.expect("answered")
            }
        };
        assert!(add(1).await && add(2).await);
        assert!(!add(3).await);
        assert_eq!(acme.monitors(10).await.expect("read").len(), 2);
    })
    .await;
}

/// Answers nobody but the second tenant until that one was answered.
struct Selfish {
    stuck: TenantId,
    is_free: AtomicBool,
    free: Notify,
}

#[async_trait]
impl Query for Selfish {
    async fn instant(
        &self,
        tenant: TenantId,
        _: &str,
        _: Timestamp,
    ) -> Result<Vec<(Labels, f64)>, QueryError> {
        if tenant == self.stuck {
            let freed = self.free.notified();
            if !self.is_free.load(Ordering::SeqCst) {
                freed.await;
            }
        } else {
            self.is_free.store(true, Ordering::SeqCst);
            self.free.notify_waiters();
        }
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_tenant_whose_queries_hang_does_not_keep_another_waiting() {
    let (_folder, db) = crate::db::testing::sqlite().await;
    let (slow, quick) = (tenant(&db, "slow").await, tenant(&db, "quick").await);
    for _ in 0..3 * QUERIES_AT_ONCE {
        add(&slow, &definition("cpu")).await;
    }
    add(&quick, &definition("cpu")).await;
    let query = Arc::new(Selfish {
        stuck: slow.id(),
        is_free: AtomicBool::new(false),
        free: Notify::new(),
    });
    let (slot, to_tell) = (Timestamp(MINUTE_MS), Notify::new());
    let clock = Clock::manual(slot);
    let evaluation = Evaluation::new(&db, &*query, &clock, &to_tell, slot);
    let counts = evaluation.run().await.expect("run");
    // None ran into its limit: the quick tenant was answered while the slow one's first queries hung.
    assert!(counts.iter().all(|count| count.failed == 0), "{counts:?}");
}
