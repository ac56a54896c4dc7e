//! A channel that does nothing: what a call of it takes is what calls take.

use shoal_sdk::channel::{Channel, Notification, Receipt};
use shoal_sdk::{Context, Failure};

struct Small;

#[derive(serde::Deserialize)]
struct Settings {}

impl Channel for Small {
    type Settings = Settings;

    fn notify(_: &Context, _: Notification, _: Settings) -> Result<Receipt, Failure> {
        Ok(Receipt {
            summary: String::new(),
        })
    }
}

shoal_sdk::export_channel!(Small);
