//! A check that does nothing: what a call of it takes is what calls take.

use shoal_sdk::check::{Check, Outcome, Status};
use shoal_sdk::{Context, Failure};

struct Small;

#[derive(serde::Deserialize)]
struct Settings {}

impl Check for Small {
    type Settings = Settings;

    fn run(_: &Context, _: Settings) -> Result<Outcome, Failure> {
        Ok(Outcome {
            status: Status::Ok,
            summary: String::new(),
            measurements: Vec::new(),
        })
    }
}

shoal_sdk::export_check!(Small);
