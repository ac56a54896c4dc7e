//! A channel whose plugin is down: another one stands in, once.

use std::collections::HashMap;

use super::*;
use crate::notify::settle::ATTEMPTS_ALONE;

/// How a channel is down.
#[derive(Clone, Copy)]
enum Down {
    /// It is not called.
    Resting,
    /// Its code fails.
    Failing,
}

/// Channels of which some are down; keeps who was told what.
#[derive(Default)]
struct SomeDown {
    down: Mutex<HashMap<String, Down>>,
    told: Mutex<Vec<(String, String)>>,
}

#[async_trait]
impl Channels for SomeDown {
    async fn tell(
        &self,
        _: &TenantDb,
        installation: &str,
        _: &CallContext,
        notification: &Notification,
    ) -> Result<Met, DbError> {
        let down = self.down.lock().get(installation).copied();
        let outcome = match down {
            Some(Down::Resting) => {
                return Ok(Met::Resting {
                    reason: "it failed too often".to_owned(),
                    after: Duration::from_secs(30),
                    revision: 1,
                });
            }
            Some(Down::Failing) => Err(CallError::Trapped {
                message: "as the test says".to_owned(),
                backtrace: Vec::new(),
            }),
            None => {
                let told = (installation.to_owned(), notification.alert.message.clone());
                self.told.lock().push(told);
                Ok(Receipt {
                    summary: "200 OK".to_owned(),
                })
            }
        };
        Ok(Met::Called {
            outcome,
            revision: 1,
        })
    }
}

fn id(n: u8) -> String {
    installation(n, "channel").id.to_string()
}

impl SomeDown {
    fn set(&self, n: u8, down: Option<Down>) {
        match down {
            Some(down) => self.down.lock().insert(id(n), down),
            None => self.down.lock().remove(&id(n)),
        };
    }

    fn told(&self) -> Vec<String> {
        self.told
            .lock()
            .iter()
            .map(|(channel, _)| channel.clone())
            .collect()
    }
}

impl Stage {
    /// An alert is open, of which only the first channel is told, and there is a second one.
    async fn alerted(db: Db) -> Stage {
        let stage = Stage::new(db).await;
        stage.is(Severity::Critical).await;
        put(&stage.acme, &installation(2, "channel")).await;
        stage
    }

    async fn deliver_to(&self, channels: &SomeDown) {
        let url = "https://shoal.example.com";
        let delivery = Delivery::new(&self.db, channels, &self.clock, &self.observe, url);
        delivery.run().await.expect("ran");
    }
}

#[tokio::test]
async fn another_channel_stands_in_at_once_for_one_that_is_not_called() {
    each_database(|db| async move {
        let (stage, channels) = (Stage::alerted(db).await, SomeDown::default());
        channels.set(1, Some(Down::Resting));
        for _ in 0..3 {
            stage.deliver_to(&channels).await;
            stage.clock.advance(Duration::from_mins(20));
        }
        assert_eq!(channels.told(), [id(2)], "once");
        let message = channels.told.lock()[0].1.clone();
        assert!(
            message.contains("in place of the channel \"channel 1\""),
            "{message}"
        );
        let row = stage.notification().await;
        assert_eq!(row.status, "delivered");
        let summary = row.summary.unwrap_or_default();
        assert!(
            summary.starts_with("told through \"channel 2\""),
            "{summary}"
        );
        // When it works again, it is told what changed since.
        channels.set(1, None);
        stage.is(Severity::Ok).await;
        stage.deliver_to(&channels).await;
        assert_eq!(channels.told(), [id(2), id(1)]);
    })
    .await;
}

#[tokio::test]
async fn a_channel_whose_code_fails_has_some_attempts_first() {
    each_database(|db| async move {
        let (stage, channels) = (Stage::alerted(db).await, SomeDown::default());
        channels.set(1, Some(Down::Failing));
        for attempt in 1..6 {
            stage.deliver_to(&channels).await;
            stage.clock.advance(Duration::from_mins(1));
            let wanted = usize::from(attempt >= ATTEMPTS_ALONE);
            assert_eq!(channels.told().len(), wanted, "after attempt {attempt}");
        }
        assert_eq!(channels.told(), [id(2)]);
    })
    .await;
}

#[tokio::test]
async fn while_nobody_can_stand_in_the_channel_is_tried_again() {
    each_database(|db| async move {
        let (stage, channels) = (Stage::alerted(db).await, SomeDown::default());
        for n in [1, 2] {
            channels.set(n, Some(Down::Resting));
        }
        stage.deliver_to(&channels).await;
        let row = stage.notification().await;
        assert_eq!((&*row.status, row.attempts), ("pending", 1));
        channels.set(1, None);
        stage.clock.advance(Duration::from_mins(1));
        for _ in 0..2 {
            stage.deliver_to(&channels).await;
        }
        assert_eq!(channels.told(), [id(1)]);
    })
    .await;
}
