//! A receiver: takes lines such as `load 0.5`, each a gauge of now.

use std::time::{SystemTime, UNIX_EPOCH};

use shoal_sdk::ingest::{self, Batch, Stream};
use shoal_sdk::receiver::{Receiver, Request, Response};
use shoal_sdk::{Context, Failure};

struct Plugin;

/// As plugin.toml describes them; the host has checked them and filled in the defaults.
#[derive(serde::Deserialize)]
struct Settings {
    #[serde(default)]
    prefix: String,
}

impl Receiver for Plugin {
    type Settings = Settings;

    /// The host has authenticated and decompressed the request.
    fn receive(_: &Context, request: Request, settings: Settings) -> Result<Response, Failure> {
        let text = String::from_utf8_lossy(&request.body);
        let mut batch = Batch::new();
        for (at, line) in text.lines().enumerate() {
            let (name, value) = point(line).ok_or_else(|| {
                let message = format!("line {}: {line:?} is not a name and a number", at + 1);
                Failure::rejected("bad-line", message)
            })?;
            let name = format!("{}{name}", settings.prefix);
            batch.point(&name, Stream::Gauge, &[], now_unix_nano(), value);
        }
        // Returns when everything is durable.
        ingest::write_metrics(&batch.finish())?;
        Ok(Response {
            status: 204,
            content_type: String::new(),
            retry_after_ms: None,
            message: String::new(),
            body: Vec::new(),
        })
    }
}

shoal_sdk::export_receiver!(Plugin);

fn point(line: &str) -> Option<(&str, f64)> {
    let (name, value) = line.trim().split_once(' ')?;
    Some((name, value.parse().ok()?))
}

fn now_unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_sdk::double::FakeHost;
    use shoal_sdk::ingest::Committed;
    use shoal_sdk::receiver::Transport;

    fn receive(body: &str) -> (Result<Response, Failure>, Vec<f64>) {
        let host = FakeHost::new().ingest(|batch| {
            Ok(Committed {
                accepted: batch.numbers.values.len() as u64,
                rejected: 0,
                rejections: Vec::new(),
            })
        });
        let ctx = Context {
            installation: "ins_0".into(),
            attempt: 1,
            idempotency_key: "1".into(),
            deadline_unix_ms: 0,
            traceparent: None,
        };
        let request = Request {
            transport: Transport::Http,
            endpoint: "/v1/plugin-name".into(),
            method: "POST".into(),
            content_type: "text/plain".into(),
            body: body.into(),
        };
        let settings = shoal_sdk::parse_settings("{}").expect("good settings");
        let response = Plugin::receive(&ctx, request, settings);
        let values = host.batches().into_iter().flat_map(|b| b.numbers.values);
        (response, values.collect())
    }

    #[test]
    fn each_line_is_a_point() {
        let (response, values) = receive("load 0.5\ntemperature 21");
        assert_eq!(response.expect("taken").status, 204);
        assert_eq!(values, [0.5, 21.0]);
    }

    #[test]
    fn one_bad_line_and_nothing_is_taken() {
        let (response, values) = receive("load 0.5\nnonsense");
        assert!(response.expect_err("refused").message().contains("line 2"));
        assert!(values.is_empty());
    }
}
