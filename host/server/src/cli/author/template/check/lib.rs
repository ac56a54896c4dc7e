//! A check: asks an address and says what came back.

use shoal_sdk::check::{Check, Outcome, Status};
use shoal_sdk::http::{HttpError, Request};
use shoal_sdk::{Context, Failure};

struct Plugin;

/// As plugin.toml describes them; the host has checked them and filled in the defaults.
#[derive(serde::Deserialize)]
struct Settings {
    url: String,
    #[serde(default)]
    contains: String,
}

impl Check for Plugin {
    type Settings = Settings;

    /// A target that is down is an outcome. A failure says that the check itself could not run.
    fn run(_: &Context, settings: Settings) -> Result<Outcome, Failure> {
        let url = &settings.url;
        let response = match Request::get(url).send() {
            Ok(response) => response,
            // Nobody was asked, so nothing is known of the target.
            Err(error @ (HttpError::Denied(_) | HttpError::Invalid(_))) => {
                return Err(error.into());
            }
            Err(error) => {
                let summary = format!("{url} cannot be asked: {error}");
                return Ok(Outcome::new(Status::Critical, summary).measure("example_up", 0.0));
            }
        };
        let outcome = if response.text().contains(&settings.contains) {
            Outcome::ok(format!("{url} answered {}", response.status()))
        } else {
            let summary = format!("{url} does not say {:?}", settings.contains);
            Outcome::new(Status::Critical, summary)
        };
        Ok(outcome.measure("example_up", 1.0))
    }
}

shoal_sdk::export_check!(Plugin);

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_sdk::double::FakeHost;
    use shoal_sdk::http::Response;

    fn run(answer: Result<Response, HttpError>) -> Result<Outcome, Failure> {
        let _host = FakeHost::new().http(move |_| answer.clone());
        let ctx = Context {
            installation: "ins_0".into(),
            attempt: 1,
            idempotency_key: "1".into(),
            deadline_unix_ms: 0,
            traceparent: None,
        };
        let settings = r#"{ "url": "https://example.com/", "contains": "hello" }"#;
        Plugin::run(&ctx, shoal_sdk::parse_settings(settings)?)
    }

    #[test]
    fn the_text_decides() {
        let good = run(Ok(Response::new(200).with_body("hello world"))).expect("an outcome");
        assert_eq!(good.status, Status::Ok);
        let bad = run(Ok(Response::new(200).with_body("good-bye"))).expect("an outcome");
        assert_eq!(bad.status, Status::Critical);
    }

    #[test]
    fn what_was_not_granted_is_a_failure() {
        run(Err(HttpError::Denied("no".into()))).expect_err("a failure");
    }
}
