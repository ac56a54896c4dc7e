//! A receiver that does nothing: what a call of it takes is what calls take.

use shoal_sdk::receiver::{Receiver, Request, Response};
use shoal_sdk::{Context, Failure};

struct Small;

#[derive(serde::Deserialize)]
struct Settings {}

impl Receiver for Small {
    type Settings = Settings;

    fn receive(_: &Context, _: Request, _: Settings) -> Result<Response, Failure> {
        Ok(Response {
            status: 200,
            content_type: String::new(),
            retry_after_ms: None,
            message: String::new(),
            body: Vec::new(),
        })
    }
}

shoal_sdk::export_receiver!(Small);
