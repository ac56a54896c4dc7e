//! Checks: when they are due, and what is recorded of what they found.

use shoal_model::InstallationId;
use shoal_runtime::Measurement;

use super::*;
use crate::db::alerts::{Trigger, Which};
use crate::db::testing::{each_database, sqlite};
use crate::monitoring::testing::{FakeSamples, app, installation, put, tenant};

fn row(n: u8, interval_ms: i64) -> InstallationRow {
    let mut new = installation(n, "check");
    new.interval_ms = Some(interval_ms);
    new.as_row(TenantId(1))
}

fn slots(row: &InstallationRow, count: i64) -> Vec<i64> {
    (0..count)
        .map(|slot| slot * 10_000)
        .filter(|slot| {
            let slot = Timestamp(*slot);
            due_slot(row, slot, Tried::default()) == Some(slot)
        })
        .collect()
}

#[test]
fn a_check_is_due_once_an_interval() {
    for n in 0..50 {
        let due = slots(&row(n, 60_000), 600);
        assert_eq!(due.len(), 100);
        assert!(due.windows(2).all(|two| two[1] - two[0] == 60_000));
    }
    assert_eq!(slots(&row(1, 10_000), 6).len(), 6);
    // Stored before intervals had to be multiples.
    assert_eq!(slots(&row(1, 1_500), 6).len(), 6);
    let mut channel = row(1, 10_000);
    channel.kind = "channel".to_owned();
    assert_eq!(slots(&channel, 6), [0; 0]);
}

#[test]
fn checks_of_the_same_interval_are_spread_over_it() {
    let mut places = [0; 6];
    for n in 0..=255 {
        let first = slots(&row(n, 60_000), 6)[0];
        places[(first / 10_000) as usize] += 1;
    }
    assert!(places.iter().all(|count| *count > 20), "{places:?}");
}

#[test]
fn a_slot_that_no_run_came_to_is_taken_by_a_later_one_and_one_that_was_tried_is_not() {
    let row = row(1, 300_000);
    let slot = Timestamp(300_000) + offset(&row);
    let at = |seconds| slot + Duration::from_secs(seconds);
    let due = |scheduled, tried| due_slot(&row, scheduled, tried);
    assert_eq!(due(at(50), Tried::default()), Some(slot));
    assert_eq!(due(at(60), Tried::default()), None);
    let before = Tried {
        judged: Some(slot - interval(&row)),
        failed_at: Some(slot - Duration::from_secs(1)),
    };
    assert_eq!(due(at(20), before), Some(slot));
    let judged = Tried {
        judged: Some(slot),
        failed_at: None,
    };
    assert_eq!(due(at(20), judged), None);
    let failed = Tried {
        judged: None,
        failed_at: Some(at(3)),
    };
    assert_eq!(due(at(20), failed), None);
    // Another attempt of the slot's own run counts it, and tries again what failed.
    assert_eq!(due(slot, judged), Some(slot));
    assert_eq!(due(slot, failed), Some(slot));
}

#[test]
fn a_time_at_which_no_check_is_ever_due_is_refused() {
    assert_eq!(RunChecks.refuse(Timestamp(20_000)), None);
    let refused = RunChecks.refuse(Timestamp(20_001)).expect("refused");
    assert!(refused.contains("20001"), "{refused}");
}

/// What a check that found `status` leaves at a minute.
async fn record(
    db: &TenantDb,
    row: &InstallationRow,
    minute: i64,
    found: Result<Severity, &str>,
) -> (Ran, Vec<OwnSample>) {
    let slot = Timestamp(minute * 60_000);
    let (samples, to_tell) = (FakeSamples::default(), Notify::new());
    let clock = Clock::manual(slot);
    let record = Record {
        db,
        samples: &samples,
        clock: &clock,
        to_tell: &to_tell,
        row,
        slot,
        began: slot,
    };
    let found = found.map(|status| Found {
        outcome: CheckOutcome {
            status,
            summary: format!("the page is {}", status.as_str()),
            measurements: vec![Measurement {
                name: "http_check_up".to_owned(),
                value: 1.0,
                labels: vec![
                    ("step".to_owned(), "tls".to_owned()),
                    ("check".to_owned(), "forged".to_owned()),
                ],
            }],
        },
        duration: Duration::from_millis(250),
    });
    let ran = record
        .all(found.map_err(str::to_owned))
        .await
        .expect("recorded");
    let written = samples.0.lock().clone();
    (ran, written)
}

#[tokio::test]
async fn what_a_check_found_becomes_samples_and_the_state_of_its_alert() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let new = installation(1, "check");
        put(&acme, &new).await;
        put(&acme, &installation(2, "channel")).await;
        let row = acme
            .installation(new.id.as_str())
            .await
            .expect("read")
            .expect("there");
        let (ran, samples) = record(&acme, &row, 1, Ok(Severity::Critical)).await;
        assert_eq!(ran, Ran::Processed);
        let id = new.id.as_str();
        let shown: Vec<_> = samples
            .iter()
            .map(|s| (s.labels.to_string(), s.value))
            .collect();
        assert_eq!(
            shown,
            [
                (
                    format!("shoal_check_status{{check=\"check 1\", check_id=\"{id}\"}}"),
                    2.0
                ),
                (
                    format!("shoal_check_duration_seconds{{check=\"check 1\", check_id=\"{id}\"}}"),
                    0.25
                ),
                (
                    format!("http_check_up{{check=\"check 1\", check_id=\"{id}\", step=\"tls\"}}"),
                    1.0
                ),
            ]
        );
        assert!(samples.iter().all(|sample| sample.owner.is_none()));
        let alerts = acme.alerts(Which::Open, None, 10).await.expect("read");
        let [alert] = &alerts[..] else {
            panic!("{alerts:?}");
        };
        assert_eq!(alert.message, "the page is critical");
        assert_eq!((&*alert.monitor.kind, &*alert.monitor.id), ("check", id));
        assert_eq!(acme.notifications(&alert.id).await.expect("read").len(), 1);

        // Under another name it is the same target.
        let mut renamed = new.clone();
        renamed.name = "home page".to_owned();
        put(&acme, &renamed).await;
        let row = acme.installation(id).await.expect("read").expect("there");
        assert_eq!(
            record(&acme, &row, 1, Ok(Severity::Ok)).await.0,
            Ran::Skipped
        );
        assert_eq!(
            record(&acme, &row, 2, Ok(Severity::Ok)).await.0,
            Ran::Processed
        );
        assert_eq!(acme.alerts(Which::Open, None, 10).await.expect("read"), []);
    })
    .await;
}

#[tokio::test]
async fn a_check_that_could_not_run_resolves_nothing_and_its_reason_is_shown() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let new = installation(1, "check");
        put(&acme, &new).await;
        let row = acme
            .installation(new.id.as_str())
            .await
            .expect("read")
            .expect("there");
        record(&acme, &row, 1, Ok(Severity::Critical)).await;
        let (ran, samples) = record(&acme, &row, 2, Err("the plugin panicked: x")).await;
        assert_eq!((ran, samples), (Ran::Failed, vec![]));
        assert_eq!(
            acme.alerts(Which::Open, None, 10)
                .await
                .expect("read")
                .len(),
            1
        );
        let states = acme.check_states().await.expect("read");
        let [state] = &states[..] else {
            panic!("{states:?}");
        };
        assert_eq!(state.severity, Severity::Critical);
        let error = state.last_error.as_ref().map(|(text, _)| &**text);
        assert_eq!(error, Some("the plugin panicked: x"));
        record(&acme, &row, 3, Ok(Severity::Critical)).await;
        assert_eq!(acme.check_states().await.expect("read")[0].last_error, None);
    })
    .await;
}

#[tokio::test]
async fn the_alert_of_a_check_that_is_deleted_is_closed() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let new = installation(1, "check");
        put(&acme, &new).await;
        let row = acme
            .installation(new.id.as_str())
            .await
            .expect("read")
            .expect("there");
        record(&acme, &row, 1, Ok(Severity::Critical)).await;
        let (to_tell, now) = (Notify::new(), Timestamp(120_000));
        close_what_is_gone(&db, &to_tell, now).await.expect("done");
        assert_eq!(
            acme.alerts(Which::Open, None, 10)
                .await
                .expect("read")
                .len(),
            1
        );
        let deleted = acme.remove_installation(&row.id).await;
        assert!(deleted.expect("deleted"));
        // A run that began before does not bring it back.
        let (ran, _) = record(&acme, &row, 2, Ok(Severity::Critical)).await;
        assert_eq!(ran, Ran::Skipped);
        close_what_is_gone(&db, &to_tell, now).await.expect("done");
        let closed = acme.alerts(Which::Closed, None, 10).await.expect("read");
        let last = acme.transitions(&closed[0].id).await.expect("read").pop();
        assert_eq!(last.map(|t| t.trigger), Some(Trigger::MonitorDeleted));
        assert_eq!(acme.check_states().await.expect("read"), []);
    })
    .await;
}

#[test]
fn an_offset_follows_from_the_id_alone() {
    let mut row = row(7, 300_000);
    let before = offset(&row);
    assert_eq!(before.as_millis() % PERIOD.as_millis(), 0);
    assert!(before < Duration::from_mins(5));
    (row.name, row.revision, row.created_at_ms) = ("another".to_owned(), 9, 9);
    assert_eq!(offset(&row), before);
    row.id = InstallationId::from_random([8; 10]).to_string();
    assert_ne!(offset(&row), before);
}

#[tokio::test]
async fn a_check_that_cannot_run_counts_as_failed_and_says_why() {
    let (_folder, db) = sqlite().await;
    let acme = tenant(&db, "acme").await;
    let mut new = installation(1, "check");
    new.interval_ms = Some(10_000);
    put(&acme, &new).await;
    let data = tempfile::tempdir().expect("a folder");
    let clock = Clock::manual(Timestamp(100_000));
    let app = app(db, data.path(), Arc::default(), clock).await;
    app.plugins.reload().await.expect("loaded");
    let counts = RunChecks.run(&app, Timestamp(100_000)).await.expect("ran");
    let failed = TenantCount {
        tenant: acme.id(),
        expected: 1,
        processed: 0,
        failed: 1,
        skipped: 0,
    };
    assert_eq!(counts, [failed]);
    let states = acme.check_states().await.expect("read");
    let error = states[0].last_error.as_ref().map(|(text, _)| &**text);
    let wanted = "no version of p is approved; an operator does it with: shoal plugin approve p";
    assert_eq!(error, Some(wanted));

    // A slot that is over by more than the interval is not made up.
    let counts = RunChecks.run(&app, Timestamp(90_000)).await.expect("ran");
    assert_eq!((counts[0].failed, counts[0].skipped), (0, 1));
    RunChecks
        .run(&app, Timestamp(110_000))
        .await
        .expect_err("it is not yet");
}
