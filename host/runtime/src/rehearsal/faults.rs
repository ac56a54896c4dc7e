//! What goes wrong in a rehearsal, on purpose.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hyper::StatusCode;

/// Longest delay and shift of the clock, each: a century is more than anything holds out for.
const TIME_MAX_MS: u64 = 100 * 366 * 86_400_000;

/// What goes wrong. Its text is `http=503,delay=2s,dns=fail,clock=+1h`, each part at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every HTTP request is answered with this status.
    pub http_status: Option<StatusCode>,
    /// Every peer takes so long to answer.
    pub delay: Option<Duration>,
    /// No name has an address.
    pub dns: bool,
    /// The guest's clock is wrong by so many milliseconds.
    pub clock_shift_ms: i64,
}

/// A text is no list of faults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{fault:?} is not a fault: http=STATUS, delay=TIME, dns=fail or clock=+TIME (such as 500ms, 2s, 1h), with commas between"
)]
pub struct InvalidFault {
    fault: String,
}

impl Faults {
    /// Whether nothing goes wrong.
    pub fn is_none(&self) -> bool {
        *self == Faults::default()
    }
}

impl FromStr for Faults {
    type Err = InvalidFault;
    fn from_str(text: &str) -> Result<Faults, InvalidFault> {
        let mut faults = Faults::default();
        for part in text.split(',') {
            let wrong = || InvalidFault {
                fault: part.to_owned(),
            };
            let (name, value) = part.trim().split_once('=').ok_or_else(wrong)?;
            match name {
                "http" => {
                    let status = value.parse::<StatusCode>().ok();
                    let status = status.filter(|status| status.as_u16() >= 200);
                    faults.http_status = Some(status.ok_or_else(wrong)?);
                }
                "delay" => faults.delay = Some(time(value).ok_or_else(wrong)?),
                "dns" if value == "fail" => faults.dns = true,
                "clock" => faults.clock_shift_ms = shift(value).ok_or_else(wrong)?,
                _ => return Err(wrong()),
            }
        }
        Ok(faults)
    }
}

/// As [`FromStr`] reads it.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(status) = self.http_status {
            parts.push(format!("http={}", status.as_u16()));
        }
        if let Some(delay) = self.delay {
            parts.push(format!("delay={}ms", delay.as_millis()));
        }
        if self.dns {
            parts.push("dns=fail".to_owned());
        }
        if self.clock_shift_ms != 0 {
            parts.push(format!("clock={:+}ms", self.clock_shift_ms));
        }
        f.write_str(&parts.join(","))
    }
}

fn time(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    (ms <= TIME_MAX_MS).then(|| Duration::from_millis(ms))
}

fn shift(text: &str) -> Option<i64> {
    let (sign, time_text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    Some(sign * i64::try_from(time(time_text)?.as_millis()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_survive_a_trip_through_text() {
        let faults: Faults = "http=503,delay=2s,dns=fail,clock=-1h"
            .parse()
            .expect("faults");
        assert_eq!(faults.http_status, Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(faults.delay, Some(Duration::from_secs(2)));
        assert!(faults.dns);
        assert_eq!(faults.clock_shift_ms, -3_600_000);
        assert_eq!(faults.to_string().parse::<Faults>().expect("again"), faults);
    }

    #[test]
    fn what_is_no_fault_is_named() {
        for wrong in [
            "",
            "http",
            "http=99",
            "http=abc",
            "delay=2",
            "delay=2y",
            "dns=ok",
            "disk=full",
            "delay=99999999999999d",
            "http=503,,dns=fail",
        ] {
            let error = wrong.parse::<Faults>().expect_err(wrong);
            assert!(error.to_string().contains("is not a fault"), "{error}");
        }
    }
}
