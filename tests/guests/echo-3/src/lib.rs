//! The third version of `echo`: it calls the greeting otherwise, and turns settings of earlier versions into its own.

use shoal_sdk::receiver::{Receiver, Request, Response};
use shoal_sdk::rules::{Problem, SettingsRules};
use shoal_sdk::{Context, Failure, Map, Value, json};

struct Echo;

#[derive(serde::Deserialize)]
struct Settings {
    salutation: String,
}

impl Receiver for Echo {
    type Settings = Settings;

    fn receive(_: &Context, request: Request, settings: Settings) -> Result<Response, Failure> {
        let answer = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "greeting": settings.salutation,
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

impl SettingsRules for Echo {
    type Settings = Settings;

    fn validate(settings: Settings) -> Vec<Problem> {
        match settings.salutation.as_str() {
            "boo" => vec![Problem::new("salutation", "frightens people")],
            _ => Vec::new(),
        }
    }

    fn migrate(
        _from_version: &str,
        mut settings: Map<String, Value>,
    ) -> Result<Map<String, Value>, Failure> {
        match settings.remove("greeting") {
            Some(greeting) if greeting != "" => {
                settings.insert("salutation".to_owned(), greeting);
                Ok(settings)
            }
            _ => Err(Failure::rejected("no-greeting", "give it a greeting first")),
        }
    }
}

shoal_sdk::export_receiver!(Echo);
shoal_sdk::export_settings!(Echo);
