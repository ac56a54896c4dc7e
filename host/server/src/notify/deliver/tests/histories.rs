//! Whatever happens to alerts and channels in whatever order, the receiver has heard last what is.

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};

use super::*;

/// What may happen to one tenant.
#[derive(Clone, Debug)]
enum Event {
    See(&'static str, Evidence),
    Deliver(Vec<Answers>),
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    let host = prop_oneof![Just("a"), Just("b")];
    let evidence = prop_oneof![
        4 => (0..4usize).prop_map(|at| Evidence::Is(Severity::ALL[at])),
        1 => Just(Evidence::Missing),
        1 => Just(Evidence::Error),
    ];
    let answer = prop_oneof![
        Just(Answers::Ok),
        Just(Answers::Retry),
        Just(Answers::Rejected),
        Just(Answers::Crash),
    ];
    prop_oneof![
        5 => (host, evidence).prop_map(|(host, evidence)| Event::See(host, evidence)),
        3 => proptest::collection::vec(answer, 0..3).prop_map(Event::Deliver),
        1 => Just(Event::Close),
    ]
}

/// Plays a history, repairs the channel and says for each alert what it is and what the receiver heard last.
async fn play(history: Vec<Event>) -> Vec<(Severity, Option<Severity>)> {
    let (_folder, db) = sqlite().await;
    let stage = Stage::new(db).await;
    let channels = FakeChannels::default();
    for event in history {
        match event {
            Event::See(host, evidence) => stage.see(host, evidence).await,
            Event::Deliver(answers) => {
                channels.answers.lock().extend(answers);
                stage.deliver_and_crash(&channels).await;
            }
            Event::Close => {
                for alert in stage.acme.alerts(Which::Open, None, 9).await.expect("read") {
                    let closed = stage.acme.close_alert(&alert.id, "x", stage.clock.now());
                    closed.await.expect("closed");
                }
            }
        }
    }
    channels.answers.lock().clear();
    put(&stage.acme, &installation(1, "channel")).await;
    for _ in 0..3 {
        stage.clock.advance(Duration::from_mins(16));
        stage.deliver(&channels).await;
    }
    let told = channels.told.lock().clone();
    let alerts = stage
        .acme
        .alerts(Which::All, None, 1000)
        .await
        .expect("read");
    let heard = |id: &str| {
        let last = told.iter().rev().find(|(_, n)| n.alert.id == id);
        last.map(|(_, n)| n.alert.severity)
    };
    alerts
        .iter()
        .map(|alert| (alert.severity, heard(&alert.id)))
        .collect()
}

#[test]
fn whatever_happens_what_was_told_last_is_what_is() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut runner = TestRunner::new(Cases {
        cases: 24,
        failure_persistence: None,
        ..Cases::default()
    });
    let histories = proptest::collection::vec(event(), 1..30);
    let result = runner.run(&histories, |history| {
        for (is, heard) in runtime.block_on(play(history)) {
            prop_assert_eq!(heard, Some(is));
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
