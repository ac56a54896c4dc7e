//! Telling: brings every channel to know the present state of the alerts that it was to be told of.
//!
//! Rules, kept by the tests below:
//! - What is compared is the alert as it is now with what the channel was told last, not one change after another. An alert
//!   that opened and closed before anybody was told is told once, as over, with both times. One that went back to
//!   what was told last is not told again, unless an attempt in between may have arrived.
//! - At least once: a receiver that has it but could not say so is told again under the same idempotency key, which is
//!   made of the notification and the alert's revision.
//! - What may pass is tried again, later and later, for [`AGE_MAX`] and [`ATTEMPTS_MAX`] attempts at most; what will
//!   not is given up at once. Both are shown with the reason, and tried again when the channel was changed.
//! - A channel whose plugin is down does not keep anybody from being told: another one stands in and says for which. What
//!   it was told counts as told.
//! - A disabled channel waits. Nothing that a plugin does happens inside a transaction.

pub mod content;
pub mod deliver;
mod settle;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shoal_model::Timestamp;

use crate::app::App;
use crate::jobs::{Job, TenantCount};
use crate::task::Stop;

pub use deliver::{Answer, test};
pub use settle::{AGE_MAX, ATTEMPTS_MAX};

/// How often what is due is looked for, whoever rings.
const PERIOD: Duration = Duration::from_secs(60);
/// How often it is looked whether something that waited has fallen due: attempts that are due in seconds need not wait
/// for the next run.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The job `deliver-notifications`.
pub struct DeliverNotifications;

#[async_trait]
impl Job for DeliverNotifications {
    fn name(&self) -> &'static str {
        "deliver-notifications"
    }

    fn summary(&self) -> &'static str {
        "Tells channels of alerts that changed, and tries again what could not be told"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    async fn run(&self, app: &App, _: Timestamp) -> anyhow::Result<Vec<TenantCount>> {
        Ok(deliver::all(app).await?)
    }
}

/// Rings [`App::to_tell`] when a notification has fallen due, until it is told to stop.
pub async fn ring_when_due(app: Arc<App>, mut stop: Stop) {
    while stop.sleep(LOOK_EVERY).await {
        match app.db.system().tenants_to_tell(app.clock.now()).await {
            Ok(due) if due.is_empty() => {}
            Ok(_) => app.to_tell.notify_one(),
            Err(error) => tracing::warn!(%error, "cannot look for notifications that are due"),
        }
    }
}
