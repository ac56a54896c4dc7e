//! Answers with its own version, its greeting and the request's body; also built as `echo-2`.

use shoal_sdk::receiver::{Receiver, Request, Response};
use shoal_sdk::{Context, Failure, json};

struct Echo;

#[derive(serde::Deserialize)]
struct Settings {
    #[serde(default)]
    greeting: String,
}

impl Receiver for Echo {
    type Settings = Settings;

    fn receive(_: &Context, request: Request, settings: Settings) -> Result<Response, Failure> {
        let answer = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "greeting": settings.greeting,
            "body": String::from_utf8_lossy(&request.body),
        });
        Ok(Response {
            status: 200,
            content_type: "application/json".to_owned(),
            retry_after_ms: None,
            message: String::new(),
            body: answer.to_string().into_bytes(),
        })
    }
}

shoal_sdk::export_receiver!(Echo);
