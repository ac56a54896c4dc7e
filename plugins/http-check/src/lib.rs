//! Asks a web address and judges what comes back: status, time, a piece of the body, and the days that the
//! certificate has left.
//!
//! Measures `http_check_up`, `http_check_duration_seconds`, `http_check_status_code` and, over TLS,
//! `http_check_certificate_expiry_seconds`. Redirects are not followed: a 301 is an answer like any other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shoal_sdk::check::{Check, Outcome, Status};
use shoal_sdk::http::{HttpError, Request, Response, Scheme, Url};
use shoal_sdk::net::{self, Certificate, NetError, TlsSession};
use shoal_sdk::rules::{Problem, SettingsRules};
use shoal_sdk::{Context, Failure, clock};

struct HttpCheck;

#[derive(serde::Deserialize)]
struct Settings {
    url: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default)]
    request_body: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    token: Option<String>,
    expected_status: Option<u16>,
    #[serde(default)]
    contains: String,
    #[serde(default = "ten_seconds")]
    timeout_ms: u64,
    warning_ms: Option<u64>,
    critical_ms: Option<u64>,
    #[serde(default = "two_weeks")]
    certificate_warning_days: i64,
    #[serde(default = "three_days")]
    certificate_critical_days: i64,
}

impl Check for HttpCheck {
    type Settings = Settings;

    fn run(_: &Context, settings: Settings) -> Result<Outcome, Failure> {
        let start = Instant::now();
        let answer = settings.request().send();
        let took = start.elapsed();
        if let Err(error @ (HttpError::Denied(_) | HttpError::Invalid(_))) = answer {
            // Nobody was asked, so nothing is known of the target.
            return Err(error.into());
        }
        let mut findings = match &answer {
            Ok(response) => settings.judge(response, took),
            Err(error) => vec![(
                Status::Critical,
                format!("{} cannot be asked: {error}", settings.url),
            )],
        };
        let certificate = match &answer {
            // Where nobody answered, another connection would only wait once more.
            Ok(_) | Err(HttpError::Tls(_)) => settings.certificate(),
            Err(_) => None,
        };
        findings.extend(
            certificate
                .as_ref()
                .and_then(|seen| settings.judge_certificate(seen, clock::now_unix_ms())),
        );
        let (status, summary) = worst(findings);
        let mut outcome = Outcome::new(status, summary)
            .measure("http_check_up", f64::from(answer.is_ok()))
            .measure("http_check_duration_seconds", took.as_secs_f64());
        if let Ok(response) = &answer {
            outcome = outcome.measure("http_check_status_code", f64::from(response.status()));
        }
        if let Some(certificate) = certificate.as_ref().and_then(leaf) {
            let left_ms = certificate.not_after_unix_ms - clock::now_unix_ms();
            outcome = outcome.measure(
                "http_check_certificate_expiry_seconds",
                left_ms as f64 / 1000.0,
            );
        }
        Ok(outcome)
    }
}

shoal_sdk::export_check!(HttpCheck);
shoal_sdk::export_settings!(HttpCheck);

/// Bounds in the wrong order would never be told: the nearer one hides the other.
impl SettingsRules for HttpCheck {
    type Settings = Settings;

    fn validate(settings: Settings) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let (Some(warning), Some(critical)) = (settings.warning_ms, settings.critical_ms)
            && warning >= critical
        {
            let message = format!("{warning} is not below critical_ms, which is {critical}");
            problems.push(Problem::new("warning_ms", message));
        }
        let (warning, critical) = (
            settings.certificate_warning_days,
            settings.certificate_critical_days,
        );
        if warning < critical {
            let message =
                format!("{warning} is below certificate_critical_days, which is {critical}");
            problems.push(Problem::new("certificate_warning_days", message));
        }
        problems
    }
}

impl Settings {
    fn request(&self) -> Request {
        let mut request = Request::new(&self.method, &self.url)
            .header("user-agent", "Shoal-HTTP-Check")
            .timeout(Duration::from_millis(self.timeout_ms))
            .body(self.request_body.as_str());
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        })
    }

    /// What is to be said of an answer, at least one thing.
    fn judge(&self, response: &Response, took: Duration) -> Vec<(Status, String)> {
        let status = response.status();
        let took_ms = took.as_millis() as u64;
        let mut findings = vec![(
            Status::Ok,
            format!("{} answered {status} in {took_ms} ms", self.url),
        )];
        match self.expected_status {
            Some(expected) if status != expected => {
                findings.push((
                    Status::Critical,
                    format!("{} answered {status} instead of {expected}", self.url),
                ));
            }
            None if !(200..400).contains(&status) => {
                findings.push((Status::Critical, format!("{} answered {status}", self.url)));
            }
            _ => {}
        }
        if !self.contains.is_empty() && !response.text().contains(&self.contains) {
            findings.push((
                Status::Critical,
                format!("{} does not contain {:?}", self.url, self.contains),
            ));
        }
        for (bound, status) in [
            (self.critical_ms, Status::Critical),
            (self.warning_ms, Status::Warning),
        ] {
            if let Some(bound) = bound.filter(|bound| took_ms > *bound) {
                findings.push((
                    status,
                    format!("{} took {took_ms} ms, more than {bound}", self.url),
                ));
                break;
            }
        }
        findings
    }

    /// The certificate of the address; `None` when it has none because it is not TLS.
    fn certificate(&self) -> Option<Result<TlsSession, NetError>> {
        let url = Url::parse(&self.url).ok()?;
        let timeout = Duration::from_millis(self.timeout_ms);
        (url.scheme == Scheme::Https).then(|| net::tls_handshake(&url.host, url.port, timeout))
    }

    fn judge_certificate(
        &self,
        seen: &Result<TlsSession, NetError>,
        now_ms: i64,
    ) -> Option<(Status, String)> {
        // Whatever keeps a handshake from succeeding has kept the request from it too, and is told there.
        if let Err(error) = seen {
            shoal_sdk::log::warn!("no certificate: {error:?}");
        }
        let certificate = leaf(seen)?;
        let days = (certificate.not_after_unix_ms - now_ms).div_euclid(86_400_000);
        let status = if days < self.certificate_critical_days {
            Status::Critical
        } else if days < self.certificate_warning_days {
            Status::Warning
        } else {
            return None;
        };
        let subject = &certificate.subject;
        let sentence = match days {
            ..0 => format!("the certificate of {subject} expired {} days ago", -days),
            _ => format!("the certificate of {subject} has {days} days left"),
        };
        Some((status, sentence))
    }
}

/// The worst status and what was said of it; several sentences of that status are joined.
fn worst(findings: Vec<(Status, String)>) -> (Status, String) {
    let rank = |status: Status| match status {
        Status::Ok => 0,
        Status::Unknown => 1,
        Status::Warning => 2,
        Status::Critical => 3,
    };
    let status = findings
        .iter()
        .map(|(status, _)| *status)
        .max_by_key(|status| rank(*status))
        .unwrap_or(Status::Unknown);
    let sentences = findings
        .into_iter()
        .filter(|(of, _)| *of == status)
        .map(|(_, sentence)| sentence);
    (status, sentences.collect::<Vec<_>>().join("; "))
}

/// The server's own certificate.
fn leaf(seen: &Result<TlsSession, NetError>) -> Option<&Certificate> {
    seen.as_ref().ok()?.chain.first()
}

fn get() -> String {
    "GET".to_owned()
}

fn ten_seconds() -> u64 {
    10_000
}

fn two_weeks() -> i64 {
    14
}

fn three_days() -> i64 {
    3
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_sdk::double::FakeHost;

    fn settings(json: &str) -> Settings {
        shoal_sdk::parse_settings(json).expect("good settings")
    }

    const DAY_MS: i64 = 86_400_000;

    /// A session with `h`, whose certificate ends then.
    fn session(not_after_unix_ms: i64) -> TlsSession {
        TlsSession {
            protocol: "TLS 1.3".into(),
            cipher_suite: "TLS13_AES_128_GCM_SHA256".into(),
            address: "192.0.2.1:443".into(),
            trusted: false,
            reason: "expired".into(),
            chain: vec![Certificate {
                subject: "CN=h".into(),
                issuer: "CN=ca".into(),
                serial: "01".into(),
                names: vec!["h".into()],
                not_before_unix_ms: 0,
                not_after_unix_ms,
                der: Vec::new(),
            }],
        }
    }

    fn context() -> Context {
        Context {
            installation: "ins_0000000000000000".into(),
            attempt: 1,
            idempotency_key: "k".into(),
            deadline_unix_ms: 0,
            traceparent: None,
        }
    }

    fn run(json: &str) -> Outcome {
        HttpCheck::run(&context(), settings(json)).expect("an outcome")
    }

    #[test]
    fn a_page_as_expected_is_ok_and_measured() {
        let host = FakeHost::new().http(|_| Ok(Response::new(200).with_body("all is well")));
        let outcome = run(r#"{"url":"http://h/","contains":"is well","headers":{"x-a":"b"}}"#);
        assert_eq!(
            (outcome.status, outcome.value("http_check_up")),
            (Status::Ok, Some(1.0))
        );
        assert_eq!(outcome.value("http_check_status_code"), Some(200.0));
        assert!(outcome.value("http_check_duration_seconds").is_some());
        assert_eq!(host.requests()[0].header_value("x-a"), Some("b"));
    }

    #[test]
    fn each_fault_is_named() {
        for (json, wanted) in [
            (r#"{"url":"http://h/"}"#, "http://h/ answered 503"),
            (
                r#"{"url":"http://h/","expected_status":204}"#,
                "http://h/ answered 503 instead of 204",
            ),
            (
                r#"{"url":"http://h/","expected_status":503,"contains":"x"}"#,
                "http://h/ does not contain \"x\"",
            ),
        ] {
            let _host = FakeHost::new().http(|_| Ok(Response::new(503).with_body("down")));
            let outcome = run(json);
            assert_eq!(
                (outcome.status, outcome.summary.as_str()),
                (Status::Critical, wanted)
            );
        }
        let _host = FakeHost::new().http(|_| Err(HttpError::TimedOut));
        let outcome = run(r#"{"url":"http://h/"}"#);
        assert_eq!(outcome.summary, "http://h/ cannot be asked: timed out");
        assert_eq!(outcome.value("http_check_up"), Some(0.0));
    }

    #[test]
    fn what_could_not_be_asked_is_no_outcome() {
        let _host = FakeHost::new().http(|_| Err(HttpError::Denied("not granted".into())));
        let failure = HttpCheck::run(&context(), settings(r#"{"url":"http://h/"}"#));
        assert_eq!(failure.expect_err("a failure").code(), "denied");
    }

    #[test]
    fn a_failed_handshake_is_told_with_the_certificate_behind_it() {
        let _host = FakeHost::new()
            .http(|_| Err(HttpError::Tls("the certificate is not trusted".into())))
            .tls(|_, _| Ok(session(10 * DAY_MS - 60_000)))
            .at_unix_ms(10 * DAY_MS);
        let outcome = run(r#"{"url":"https://[::1]:8443/"}"#);
        assert_eq!(
            outcome.summary,
            "https://[::1]:8443/ cannot be asked: TLS failed: the certificate is not trusted; \
             the certificate of CN=h expired 1 days ago"
        );
        assert_eq!(
            outcome.value("http_check_certificate_expiry_seconds"),
            Some(-60.0)
        );
    }

    #[test]
    fn slowness_has_two_bounds() {
        let settings = settings(r#"{"url":"http://h/","warning_ms":10,"critical_ms":20}"#);
        let judged = |ms| worst(settings.judge(&Response::new(200), Duration::from_millis(ms))).0;
        assert_eq!(
            [judged(10), judged(11), judged(21)],
            [Status::Ok, Status::Warning, Status::Critical]
        );
    }

    #[test]
    fn a_certificate_about_to_expire_is_told_in_days() {
        let settings = settings(r#"{"url":"https://h:8443/x"}"#);
        let _host = FakeHost::new().tls(|host, port| {
            assert_eq!((host, port), ("h", 8443));
            Ok(session(10 * DAY_MS))
        });
        let seen = settings.certificate().expect("TLS");
        let judged = |now_days: i64| {
            settings
                .judge_certificate(&seen, now_days * DAY_MS)
                .map(|(s, _)| s)
        };
        assert_eq!(
            [judged(-10), judged(1), judged(8)],
            [None, Some(Status::Warning), Some(Status::Critical)]
        );
    }

    #[test]
    fn bounds_in_the_wrong_order_are_a_problem() {
        let problems = |json: &str| {
            let problems = HttpCheck::validate(settings(json));
            let texts: Vec<_> = problems.into_iter().map(|p| p.setting).collect();
            texts.join(",")
        };
        assert_eq!(
            problems(r#"{"url":"http://h/","warning_ms":10,"critical_ms":20}"#),
            ""
        );
        assert_eq!(
            problems(
                r#"{"url":"http://h/","warning_ms":20,"critical_ms":20,"certificate_warning_days":1}"#
            ),
            "warning_ms,certificate_warning_days"
        );
    }
}
