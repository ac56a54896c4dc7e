//! A check that misbehaves as its settings say: `{"do": "…"}`. For tests of the real process.
//!
//! | `do` | what happens | what a test sees |
//! |---|---|---|
//! | `ok` | answers at once | `ok`, summary `version 0.1.0` and the settings `text` and `token`, when set |
//! | `slow` | waits `ms` (100), then as `ok` | the same, later: in flight while something changes |
//! | `loop` | computes for ever | the limit of processor time |
//! | `sleep` | waits for ever | the limit of wall-clock time |
//! | `allocate` | takes memory, 1 MiB at a time, and uses it | the limit of memory |
//! | `recurse` | calls itself for ever | a trap: the stack is exhausted |
//! | `panic` | panics with `the guest panicked on purpose` | the message and a backtrace |
//! | `log-flood` | writes 4 MiB of lines through the host's log, then as `ok` | `ok`, lines dropped and counted |
//! | `print-flood` | the same to standard output | the same |
//! | `connect` | GETs `target`, or `url` (the only one granted) | `ok` with the status, or `rejected`, code `denied`, … |
//! | `connect-flood` | does that 1,000 times | the limit of requests |
//! | `big-output` | answers with a summary of 16 MiB | the limit of output |
//! | `many-measurements` | answers with 1,000 numbers | an answer that breaks the contract |
//! | `bad-name` | names a number `not a name` | the same |
//! | `reject`, `retry`, `unauthenticated` | that failure, code `on-purpose`; `retry` after 1 s | the same |
//!
//! Every `ok` carries the measurement `hostile_up` (1) and `hostile_version` (1 for 0.1.0, 2 for 0.2.0): the
//! crate `hostile-next` is the same code with the next version, for hot upgrades.

use std::time::Duration;

use shoal_sdk::check::{Check, Outcome};
use shoal_sdk::http::Request;
use shoal_sdk::{Context, Failure, log};

struct Hostile;

#[derive(serde::Deserialize)]
struct Settings {
    #[serde(rename = "do")]
    deed: Deed,
    url: Option<String>,
    target: Option<String>,
    #[serde(default = "hundred")]
    ms: u64,
    #[serde(default)]
    text: String,
    token: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deed {
    Ok,
    Slow,
    Loop,
    Sleep,
    Allocate,
    Recurse,
    Panic,
    LogFlood,
    PrintFlood,
    Connect,
    ConnectFlood,
    BigOutput,
    ManyMeasurements,
    BadName,
    Reject,
    Retry,
    Unauthenticated,
}

impl Check for Hostile {
    type Settings = Settings;

    fn run(_: &Context, settings: Settings) -> Result<Outcome, Failure> {
        match settings.deed {
            Deed::Ok => {}
            Deed::Slow => std::thread::sleep(Duration::from_millis(settings.ms)),
            Deed::Loop => compute_for_ever(),
            Deed::Sleep => std::thread::sleep(Duration::MAX),
            Deed::Allocate => allocate_for_ever(),
            Deed::Recurse => drop(recurse(std::hint::black_box(1))),
            Deed::Panic => panic!("the guest panicked on purpose"),
            Deed::LogFlood => (0..4096).for_each(|at| log::info!("line {at} {}", "x".repeat(1012))),
            Deed::PrintFlood => {
                (0..4096).for_each(|at| println!("line {at} {}", "x".repeat(1012)));
            }
            Deed::Connect => return settings.connect(),
            Deed::ConnectFlood => {
                for _ in 0..1000 {
                    settings.connect()?;
                }
            }
            Deed::BigOutput => return Ok(Outcome::ok("x".repeat(16 << 20))),
            Deed::ManyMeasurements => {
                let all = (0..1000).map(|at| (format!("hostile_{at}"), f64::from(at)));
                return Ok(all.fold(Outcome::ok("many"), |outcome, (name, value)| {
                    outcome.measure(&name, value)
                }));
            }
            Deed::BadName => return Ok(Outcome::ok("bad name").measure("not a name", 1.0)),
            Deed::Reject => return Err(Failure::rejected("on-purpose", "rejected on purpose")),
            Deed::Retry => {
                let after = Duration::from_secs(1);
                return Err(Failure::retry_after(
                    "on-purpose",
                    "later on purpose",
                    after,
                ));
            }
            Deed::Unauthenticated => {
                return Err(Failure::unauthenticated("on-purpose", "refused on purpose"));
            }
        }
        Ok(settings.well())
    }
}

shoal_sdk::export_check!(Hostile);

impl Settings {
    fn well(&self) -> Outcome {
        let mut summary = concat!("version ", env!("CARGO_PKG_VERSION")).to_owned();
        for text in [Some(&self.text), self.token.as_ref()] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                summary = format!("{summary} {text}");
            }
        }
        Outcome::ok(summary)
            .measure("hostile_up", 1.0)
            .measure("hostile_version", version())
    }

    fn connect(&self) -> Result<Outcome, Failure> {
        let target = self.target.as_ref().or(self.url.as_ref());
        let target = target
            .ok_or_else(|| Failure::rejected("bad-settings", "connect needs url or target"))?;
        let response = Request::get(target).send()?;
        let outcome = Outcome::ok(format!("{target} answered {}", response.status()));
        Ok(outcome.measure("hostile_up", 1.0))
    }
}

/// The second number of the version: 1 for 0.1.0, 2 for 0.2.0.
fn version() -> f64 {
    let minor = env!("CARGO_PKG_VERSION_MINOR").parse();
    minor.expect("Cargo sets a number")
}

fn compute_for_ever() {
    let mut number = 1u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(3));
    }
}

fn allocate_for_ever() {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

/// Uses the result of the call, so that it cannot become a loop.
#[expect(unconditional_recursion, reason = "to exhaust the stack")]
fn recurse(depth: u64) -> u64 {
    let page = std::hint::black_box([depth; 64]);
    recurse(depth + 1) + page[(depth % 64) as usize]
}

fn hundred() -> u64 {
    100
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_sdk::double::FakeHost;
    use shoal_sdk::http::Response;

    fn run(json: &str) -> Result<Outcome, Failure> {
        let context = Context {
            installation: "ins_0".into(),
            attempt: 1,
            idempotency_key: "k".into(),
            deadline_unix_ms: 0,
            traceparent: None,
        };
        Hostile::run(&context, shoal_sdk::parse_settings(json)?)
    }

    #[test]
    fn ok_tells_the_version() {
        let outcome = run(r#"{"do":"ok","text":"and so on"}"#).expect("an outcome");
        let version = concat!("version ", env!("CARGO_PKG_VERSION"), " and so on");
        assert_eq!(outcome.summary, version);
        assert_eq!(outcome.value("hostile_version"), Some(super::version()));
    }

    #[test]
    fn connect_goes_where_it_is_told() {
        let host = FakeHost::new().http(|_| Ok(Response::new(200)));
        run(r#"{"do":"connect","url":"http://a/","target":"http://b/"}"#).expect("an outcome");
        assert_eq!(host.requests()[0].url(), "http://b/");
    }

    #[test]
    fn failures_are_what_they_say() {
        for (deed, code) in [
            ("reject", "on-purpose"),
            ("retry", "on-purpose"),
            ("connect", "bad-settings"),
        ] {
            let failure = run(&format!(r#"{{"do":"{deed}"}}"#)).expect_err(deed);
            assert_eq!(failure.code(), code);
        }
    }
}
