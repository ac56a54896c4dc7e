//! Connects over TCP, makes a TLS handshake, asks for DNS records or sends a ping, and judges what comes back.
//!
//! Measures `net_check_up`, `net_check_duration_seconds` and, for DNS, `net_check_records`, for TLS
//! `net_check_certificate_expiry_seconds`. The scheme of the target says what is done.

use std::time::{Duration, Instant};

use shoal_sdk::check::{Check, Outcome, Status};
use shoal_sdk::net::{self, DnsAnswer, NetError, RecordType, TlsSession};
use shoal_sdk::rules::{Problem, SettingsRules};
use shoal_sdk::{Context, Failure, clock};

/// What is looked at of an answer over TCP.
const ANSWER_MAX_BYTES: usize = 64 * 1024;
const DAY_MS: i64 = 86_400_000;

struct NetCheck;

#[derive(serde::Deserialize)]
struct Settings {
    target: String,
    #[serde(default)]
    send: String,
    #[serde(default)]
    expect: String,
    #[serde(default = "a")]
    record_type: String,
    #[serde(default = "five_seconds")]
    timeout_ms: u64,
    warning_ms: Option<u64>,
    critical_ms: Option<u64>,
    #[serde(default = "two_weeks")]
    certificate_warning_days: i64,
    #[serde(default = "three_days")]
    certificate_critical_days: i64,
}

/// What is done with the target.
#[derive(Debug, PartialEq, Eq)]
enum Probe<'a> {
    Tcp(&'a str, u16),
    Tls(&'a str, u16),
    Dns(&'a str),
    Icmp(&'a str),
}

/// What was found, before the time is judged.
struct Finding {
    status: Status,
    sentence: String,
    measured: Option<(&'static str, f64)>,
}

impl Check for NetCheck {
    type Settings = Settings;

    fn run(_: &Context, settings: Settings) -> Result<Outcome, Failure> {
        let probe = settings.probe().ok_or_else(|| {
            let message = format!("{:?} names no target", settings.target);
            Failure::rejected("bad-settings", message)
        })?;
        let start = Instant::now();
        let finding = match probe {
            Probe::Tcp(host, port) => settings.talk(host, port),
            Probe::Tls(host, port) => settings.shake(host, port),
            Probe::Dns(name) => settings.ask(name),
            Probe::Icmp(host) => settings.ping(host),
        };
        let took = start.elapsed();
        let finding = match finding {
            // Nobody was asked, so nothing is known of the target.
            Err(error @ (NetError::Denied(_) | NetError::LimitReached(_))) => {
                return Err(error.into());
            }
            Err(error) => critical(error.message().to_owned()),
            Ok(finding) => settings.judge_time(finding, took),
        };
        let is_up = finding.status != Status::Critical;
        let outcome = Outcome::new(finding.status, finding.sentence)
            .measure("net_check_up", f64::from(is_up))
            .measure("net_check_duration_seconds", took.as_secs_f64());
        Ok(match finding.measured {
            Some((name, value)) => outcome.measure(name, value),
            None => outcome,
        })
    }
}

shoal_sdk::export_check!(NetCheck);
shoal_sdk::export_settings!(NetCheck);

impl SettingsRules for NetCheck {
    type Settings = Settings;

    fn validate(settings: Settings) -> Vec<Problem> {
        let mut problems = Vec::new();
        if settings.probe().is_none() {
            let message = "must be tcp://HOST:PORT, tls://HOST:PORT, dns:NAME or icmp://HOST";
            problems.push(Problem::new("target", message));
        }
        if let (Some(warning), Some(critical)) = (settings.warning_ms, settings.critical_ms)
            && warning >= critical
        {
            let message = format!("{warning} is not below critical_ms, which is {critical}");
            problems.push(Problem::new("warning_ms", message));
        }
        problems
    }
}

impl Settings {
    fn probe(&self) -> Option<Probe<'_>> {
        let (scheme, rest) = self.target.split_once(':')?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let rest = rest.trim_end_matches('/');
        let with_port = || {
            let (host, port) = rest.rsplit_once(':')?;
            Some((host, port.parse().ok()?))
        };
        match scheme {
            "tcp" => with_port().map(|(host, port)| Probe::Tcp(host, port)),
            "tls" => with_port().map(|(host, port)| Probe::Tls(host, port)),
            "dns" => Some(Probe::Dns(rest)),
            "icmp" => Some(Probe::Icmp(rest)),
            _ => None,
        }
        .filter(|_| !rest.is_empty())
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Connects, says something, and reads until what is expected has come.
    fn talk(&self, host: &str, port: u16) -> Result<Finding, NetError> {
        let connection = net::tcp_connect(host, port, self.timeout())?;
        if !self.send.is_empty() {
            let bytes = self.send.replace("\\r\\n", "\r\n");
            connection.write(bytes.as_bytes(), self.timeout())?;
        }
        let mut answer = Vec::new();
        while !self.expect.is_empty() && !String::from_utf8_lossy(&answer).contains(&self.expect) {
            let room = ANSWER_MAX_BYTES - answer.len();
            let more = match room {
                0 => Vec::new(),
                room => connection.read(room as u32, self.timeout())?,
            };
            if more.is_empty() {
                return Ok(critical(format!(
                    "{} did not say {:?}",
                    self.target, self.expect
                )));
            }
            answer.extend(more);
        }
        Ok(ok(format!("{} accepts connections", self.target)))
    }

    fn shake(&self, host: &str, port: u16) -> Result<Finding, NetError> {
        let session = net::tls_handshake(host, port, self.timeout())?;
        Ok(self.judge_session(&session))
    }

    fn judge_session(&self, session: &TlsSession) -> Finding {
        let target = &self.target;
        let left_ms = session
            .chain
            .first()
            .map(|certificate| certificate.not_after_unix_ms - clock::now_unix_ms());
        let days = left_ms.map_or(0, |left| left.div_euclid(DAY_MS));
        let mut finding = if !session.trusted {
            critical(format!("{target} is not trusted: {}", session.reason))
        } else if days < self.certificate_critical_days {
            critical(format!("the certificate of {target} has {days} days left"))
        } else if days < self.certificate_warning_days {
            Finding {
                status: Status::Warning,
                ..ok(format!("the certificate of {target} has {days} days left"))
            }
        } else {
            let protocol = &session.protocol;
            ok(format!(
                "{target} speaks {protocol}, its certificate has {days} days left"
            ))
        };
        let expiry = left_ms.map(|left| left as f64 / 1000.0);
        finding.measured = expiry.map(|s| ("net_check_certificate_expiry_seconds", s));
        finding
    }

    fn ask(&self, name: &str) -> Result<Finding, NetError> {
        let record_type = record_type(&self.record_type);
        let answer = net::dns_query(name, record_type, self.timeout())?;
        Ok(self.judge_answer(name, &answer))
    }

    fn judge_answer(&self, name: &str, answer: &DnsAnswer) -> Finding {
        let (what, code) = (&self.record_type, &answer.code);
        let of_type = answer.records.iter();
        let of_type = of_type.filter(|record| record.record_type == *what);
        let count = of_type.clone().count();
        let is_there = of_type
            .map(|record| record.data.as_str())
            .any(|data| data.contains(&self.expect));
        let mut finding = match (count, is_there) {
            (0, _) => critical(format!("{name} has no {what} record ({code})")),
            (_, false) => critical(format!("no {what} record of {name} has {:?}", self.expect)),
            (count, true) => ok(format!("{name} has {count} {what} records")),
        };
        finding.measured = Some(("net_check_records", count as f64));
        finding
    }

    fn ping(&self, host: &str) -> Result<Finding, NetError> {
        let reply = net::icmp_echo(host, self.timeout())?;
        let ms = reply.round_trip_us as f64 / 1000.0;
        Ok(ok(format!("{} answered in {ms:.1} ms", reply.address)))
    }

    fn judge_time(&self, finding: Finding, took: Duration) -> Finding {
        let took_ms = took.as_millis() as u64;
        let bounds = [
            (self.critical_ms, Status::Critical),
            (self.warning_ms, Status::Warning),
        ];
        let exceeded = bounds
            .into_iter()
            .find_map(|(bound, status)| Some((bound.filter(|bound| took_ms > *bound)?, status)));
        match exceeded {
            Some((bound, status)) if finding.status == Status::Ok => Finding {
                status,
                sentence: format!("{} took {took_ms} ms, more than {bound}", self.target),
                ..finding
            },
            _ => finding,
        }
    }
}

fn ok(sentence: String) -> Finding {
    Finding {
        status: Status::Ok,
        sentence,
        measured: None,
    }
}

fn critical(sentence: String) -> Finding {
    Finding {
        status: Status::Critical,
        ..ok(sentence)
    }
}

/// The type of a name; the schema knows no other names.
fn record_type(name: &str) -> RecordType {
    match name {
        "AAAA" => RecordType::Aaaa,
        "CAA" => RecordType::Caa,
        "CNAME" => RecordType::Cname,
        "MX" => RecordType::Mx,
        "NS" => RecordType::Ns,
        "PTR" => RecordType::Ptr,
        "SOA" => RecordType::Soa,
        "SRV" => RecordType::Srv,
        "TXT" => RecordType::Txt,
        _ => RecordType::A,
    }
}

fn a() -> String {
    "A".to_owned()
}

fn five_seconds() -> u64 {
    5000
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
    use shoal_sdk::double::{FakeHost, FakePeer};
    use shoal_sdk::net::{Certificate, DnsRecord, EchoReply};

    fn run(json: &str) -> Result<Outcome, Failure> {
        let context = Context {
            installation: "ins_0000000000000000".into(),
            attempt: 1,
            idempotency_key: "k".into(),
            deadline_unix_ms: 0,
            traceparent: None,
        };
        NetCheck::run(&context, settings(json))
    }

    fn settings(json: &str) -> Settings {
        shoal_sdk::parse_settings(json).expect("good settings")
    }

    #[track_caller]
    fn found(json: &str, status: Status, summary: &str) -> Outcome {
        let outcome = run(json).expect("an outcome");
        assert_eq!(
            (outcome.status, outcome.summary.as_str()),
            (status, summary)
        );
        outcome
    }

    #[test]
    fn a_target_says_what_is_done() {
        let probe = |target: &str| {
            let settings = settings(&format!("{{\"target\":{target:?}}}"));
            settings.probe().map(|probe| format!("{probe:?}"))
        };
        for (target, wanted) in [
            ("tcp://h:25", "Tcp(\"h\", 25)"),
            ("tls://[::1]:443/", "Tls(\"[::1]\", 443)"),
            ("dns:example.com", "Dns(\"example.com\")"),
            ("icmp://h", "Icmp(\"h\")"),
        ] {
            assert_eq!(probe(target).as_deref(), Some(wanted));
        }
        for target in ["tcp://h", "tcp://h:x", "udp://h:53", "dns:", "h"] {
            assert_eq!(probe(target), None, "{target}");
        }
    }

    #[test]
    fn a_greeting_is_waited_for() {
        let _host = FakeHost::new().tcp(|host, port| {
            assert_eq!((host, port), ("mail", 25));
            let peer = FakePeer::new(|written| match written {
                b"HELO me\r\n" => b"250 hello".to_vec(),
                _ => Vec::new(),
            });
            Ok(peer.greeting("220 ready\r\n"))
        });
        let up = "tcp://mail:25 accepts connections";
        let outcome = found(r#"{"target":"tcp://mail:25"}"#, Status::Ok, up);
        assert_eq!(outcome.value("net_check_up"), Some(1.0));
        assert!(outcome.value("net_check_duration_seconds").is_some());
        found(
            r#"{"target":"tcp://mail:25","expect":"220 "}"#,
            Status::Ok,
            up,
        );
        let helo = r#"{"target":"tcp://mail:25","expect":"250 ","send":"HELO me\\r\\n"}"#;
        found(helo, Status::Ok, up);
        let outcome = found(
            r#"{"target":"tcp://mail:25","expect":"250 "}"#,
            Status::Critical,
            "tcp://mail:25 did not say \"250 \"",
        );
        assert_eq!(outcome.value("net_check_up"), Some(0.0));
    }

    #[test]
    fn a_certificate_is_judged_by_trust_and_by_days() {
        for (trusted, days, status, sentence) in [
            (
                false,
                100,
                Status::Critical,
                "tls://h:443 is not trusted: unknown issuer",
            ),
            (
                true,
                2,
                Status::Critical,
                "the certificate of tls://h:443 has 2 days left",
            ),
            (
                true,
                5,
                Status::Warning,
                "the certificate of tls://h:443 has 5 days left",
            ),
            (
                true,
                100,
                Status::Ok,
                "tls://h:443 speaks TLS 1.3, its certificate has 100 days left",
            ),
        ] {
            let _host = FakeHost::new().at_unix_ms(0).tls(move |_, _| {
                Ok(TlsSession {
                    protocol: "TLS 1.3".into(),
                    cipher_suite: "TLS13_AES_128_GCM_SHA256".into(),
                    address: "192.0.2.1:443".into(),
                    trusted,
                    reason: "unknown issuer".into(),
                    chain: vec![Certificate {
                        subject: "CN=h".into(),
                        issuer: "CN=ca".into(),
                        serial: "01".into(),
                        names: vec!["h".into()],
                        not_before_unix_ms: 0,
                        not_after_unix_ms: days * DAY_MS,
                        der: Vec::new(),
                    }],
                })
            });
            let outcome = found(r#"{"target":"tls://h:443"}"#, status, sentence);
            let left = outcome.value("net_check_certificate_expiry_seconds");
            assert_eq!(left, Some(days as f64 * 86_400.0));
        }
    }

    #[test]
    fn records_are_counted_and_looked_through() {
        let _host = FakeHost::new().dns(|name, record_type| {
            let record = |data: &str| DnsRecord {
                name: name.to_owned(),
                record_type: "MX".into(),
                ttl_seconds: 60,
                data: data.to_owned(),
            };
            Ok(match record_type {
                RecordType::Mx => DnsAnswer {
                    code: "NOERROR".into(),
                    records: vec![record("10 a.example."), record("20 b.example.")],
                },
                _ => DnsAnswer {
                    code: "NXDOMAIN".into(),
                    records: Vec::new(),
                },
            })
        });
        let outcome = found(
            r#"{"target":"dns:example.com","record_type":"MX","expect":"b.example"}"#,
            Status::Ok,
            "example.com has 2 MX records",
        );
        assert_eq!(outcome.value("net_check_records"), Some(2.0));
        found(
            r#"{"target":"dns:example.com","record_type":"MX","expect":"c.example"}"#,
            Status::Critical,
            "no MX record of example.com has \"c.example\"",
        );
        found(
            r#"{"target":"dns:example.com"}"#,
            Status::Critical,
            "example.com has no A record (NXDOMAIN)",
        );
    }

    #[test]
    fn a_ping_is_told_and_a_target_that_is_down_is_an_outcome() {
        let host = FakeHost::new().icmp(|_| {
            Ok(EchoReply {
                address: "192.0.2.1".into(),
                round_trip_us: 1234,
            })
        });
        let up = "192.0.2.1 answered in 1.2 ms";
        found(r#"{"target":"icmp://h"}"#, Status::Ok, up);
        drop(host);
        let silent = |_: &str| Err(NetError::TimedOut("h did not answer within 5000 ms".into()));
        let host = FakeHost::new().icmp(silent);
        let down = "h did not answer within 5000 ms";
        found(r#"{"target":"icmp://h"}"#, Status::Critical, down);
        drop(host);
        let failure = run(r#"{"target":"icmp://h"}"#).expect_err("nothing is granted");
        assert_eq!(failure.code(), "denied");
    }

    #[test]
    fn slowness_has_two_bounds() {
        let settings = settings(r#"{"target":"icmp://h","warning_ms":10,"critical_ms":20}"#);
        let judged = |ms| {
            let finding = settings.judge_time(ok("up".into()), Duration::from_millis(ms));
            finding.status
        };
        assert_eq!(
            [judged(10), judged(11), judged(21)],
            [Status::Ok, Status::Warning, Status::Critical]
        );
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let problems = NetCheck::validate(settings(
            r#"{"target":"tcp://h","warning_ms":20,"critical_ms":10}"#,
        ));
        let named: Vec<_> = problems.iter().map(|p| p.setting.as_str()).collect();
        assert_eq!(named, ["target", "warning_ms"]);
    }
}
