//! Usage is a set, and closed hours stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;
use crate::db::Db;
use crate::db::testing::each_database;
use crate::jobs::testing::{HOST, SERIES, hour};

async fn tenant(db: &Db, key: &str) -> TenantDb {
    let made = db
        .system()
        .create_tenant(key, key, hour(0).start())
        .await
        .expect("made");
    db.tenant(made.id())
}

#[tokio::test]
async fn an_hour_without_usage_closes_with_a_row_of_zeros() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let now = hour(2).start();
        assert!(acme.close_hour(hour(0), now).await.expect("closed"));
        assert!(acme.close_hour(hour(1), now).await.expect("closed"));
        let zeros = |at: Hour| ClosedHour {
            hour: at.0,
            closed_at_ms: now.0,
            subjects: 0,
            quantity: 0,
        };
        assert_eq!(
            acme.closed_hours(hour(0).month()).await.expect("read"),
            [zeros(hour(0)), zeros(hour(1))]
        );
        let usage = acme
            .month_usage(hour(0).month(), hour(2))
            .await
            .expect("read");
        assert_eq!((usage.closed_hours, usage.meters.len()), (2, 0));
    })
    .await;
}

#[tokio::test]
async fn closing_again_changes_nothing_and_late_elements_are_only_on_record() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let on_time = HOST.at(hour(0), "web-1");
        acme.add_usage(std::slice::from_ref(&on_time))
            .await
            .expect("added");
        assert!(
            acme.close_hour(hour(0), hour(1).start())
                .await
                .expect("closed")
        );
        let before = acme.closed_hours(hour(0).month()).await.expect("read");

        let late = HOST.at(hour(0), "web-2");
        acme.add_usage(&[late.clone(), on_time, late])
            .await
            .expect("noted");
        assert!(
            !acme
                .close_hour(hour(0), hour(9).start())
                .await
                .expect("answered")
        );
        assert_eq!(
            acme.closed_hours(hour(0).month()).await.expect("read"),
            before
        );
        assert_eq!(acme.usage_members(hour(0)).await.expect("read"), 1);
        assert_eq!(acme.late_members().await.expect("read"), 1);
        assert_eq!(acme.uncounted_members(hour(0)).await.expect("read"), 0);
    })
    .await;
}

#[tokio::test]
async fn an_hour_is_not_closed_while_an_element_of_it_is_being_added() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let mut adding = db.begin().await.expect("a transaction");
        let element = HOST.at(hour(0), "web-1");
        unite_all(&mut adding, &[(acme.id(), element)])
            .await
            .expect("added");
        let mut closing = std::pin::pin!(acme.close_hour(hour(0), hour(1).start()));
        let early = tokio::time::timeout(Duration::from_millis(300), closing.as_mut()).await;
        assert!(early.is_err(), "it waits for the element: {early:?}");
        adding.commit().await.expect("committed");
        assert!(closing.await.expect("closed"));
        let hours = acme.closed_hours(hour(0).month()).await.expect("read");
        assert_eq!(hours[0].quantity, 1);
    })
    .await;
}

#[tokio::test]
async fn the_usage_of_one_tenant_is_not_that_of_another() {
    each_database(|db| async move {
        let (acme, other) = (tenant(&db, "acme").await, tenant(&db, "other").await);
        acme.add_usage(&[HOST.at(hour(0), "web-1")])
            .await
            .expect("added");
        for db in [&acme, &other] {
            assert!(
                db.close_hour(hour(0), hour(1).start())
                    .await
                    .expect("closed")
            );
        }
        let month = hour(0).month();
        assert_eq!(
            acme.month_usage(month, hour(1))
                .await
                .expect("read")
                .meters
                .len(),
            1
        );
        assert_eq!(
            other
                .month_usage(month, hour(1))
                .await
                .expect("read")
                .meters
                .len(),
            0
        );
        assert_eq!(
            other.next_open_hour(Timestamp(0)).await.expect("read"),
            hour(1)
        );
    })
    .await;
}

#[tokio::test]
async fn the_open_hour_counts_as_if_it_were_closed_now() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        acme.add_usage(&[
            HOST.at(hour(0), "web-1"),
            HOST.at(hour(1), "web-1"),
            HOST.at(hour(2), "web-1"),
        ])
        .await
        .expect("added");
        acme.close_hour(hour(0), hour(1).start())
            .await
            .expect("closed");
        let mut usage = acme
            .month_usage(hour(0).month(), hour(1))
            .await
            .expect("read");
        acme.count_open_hours(&mut usage, hour(1), hour(1))
            .await
            .expect("counted");
        assert_eq!(usage.closed_hours, 2);
        assert_eq!(
            usage.meters[&Meter::HostStandard]["web-1"],
            SubjectUsage {
                active_hours: 2,
                quantity_hours: 2
            }
        );
    })
    .await;
}

/// Posts of few hosts and series within three hours, so that equal ones are frequent.
fn posts() -> impl Strategy<Value = Vec<Usage>> {
    let post = (0..3i64, 0..3u8, 0..6u64).prop_map(|(at, host, series)| {
        let subject = format!("web-{host}");
        match series {
            0 => HOST.at(hour(at), &subject),
            series => SERIES.member(hour(at), &subject, series),
        }
    });
    prop::collection::vec(post, 0..60)
        .prop_flat_map(|posts| (Just(posts.clone()), Just(posts).prop_shuffle()))
        .prop_map(|(posts, again)| posts.into_iter().chain(again).collect())
}

/// What the hours must count, computed in another way.
fn distinct(posts: &[Usage]) -> BTreeMap<(i64, String), i64> {
    let set: BTreeSet<&Usage> = posts.iter().collect();
    let mut counts = BTreeMap::new();
    for usage in set {
        *counts
            .entry((usage.hour.0, usage.meter.to_string()))
            .or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn any_order_and_repetition_of_posts_closes_to_the_same_counts() {
    each_database(|db| async move {
        let mut runner = TestRunner::deterministic();
        for case in 0..24 {
            let posts = posts().new_tree(&mut runner).expect("a case").current();
            let acme = tenant(&db, &format!("acme-{case}")).await;
            for batch in posts.chunks(7) {
                acme.add_usage(batch).await.expect("added");
            }
            for at in 0..3 {
                acme.close_hour(hour(at), hour(4).start())
                    .await
                    .expect("closed");
            }
            let month = hour(0).month();
            let meters = acme.closed_meters(month).await.expect("read");
            let counts: BTreeMap<_, _> = meters
                .into_iter()
                .map(|row| ((row.hour, row.meter), row.quantity))
                .collect();
            assert_eq!(counts, distinct(&posts), "{posts:?}");
            let total: i64 = counts.values().sum();
            let hours = acme.closed_hours(month).await.expect("read");
            assert_eq!(hours.iter().map(|hour| hour.quantity).sum::<i64>(), total);
            assert_eq!(acme.uncounted_members(hour(0)).await.expect("read"), 0);
        }
    })
    .await;
}
