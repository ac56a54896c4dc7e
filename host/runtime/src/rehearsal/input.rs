//! What a plugin is given, written as JSON (or TOML) by its author: everything that does not matter may be left out.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::Value;
use shoal_model::Timestamp;
use shoal_model::alert::{Comparison, Severity};
use shoal_model::grant::Kind;
use shoal_model::usage::{Meter, MonthUsage, SubjectUsage};

use crate::billing::Terms;
use crate::channel::{Notification, NotifiedAlert, NotifiedMonitor, Trigger};
use crate::manifest::Endpoint;
use crate::receiver::{ReceiverRequest, Transport};

/// What one call is given beside its settings.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Receiver(ReceiverRequest),
    Check,
    Channel(Box<Notification>),
    BillingRule(MonthUsage, Terms),
}

impl Input {
    /// Reads what a plugin of a kind is given at `now`.
    pub(crate) fn parse(
        kind: Kind,
        endpoints: &[Endpoint],
        now: Timestamp,
        json: Value,
    ) -> Result<Input, String> {
        match kind {
            Kind::Receiver => read::<RequestText>(json)?
                .request(endpoints)
                .map(Input::Receiver),
            Kind::Check => read::<Nothing>(json).map(|_| Input::Check),
            Kind::Channel => {
                let text: NotificationText = read(json)?;
                let notification = text.notification(now)?;
                Ok(Input::Channel(Box::new(notification)))
            }
            Kind::BillingRule => {
                let (usage, terms) = read::<UsageText>(json)?.usage()?;
                Ok(Input::BillingRule(usage, terms))
            }
        }
    }
}

fn read<T: for<'de> Deserialize<'de>>(json: Value) -> Result<T, String> {
    let json = if json.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        json
    };
    serde_json::from_value(json).map_err(|e| e.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestText {
    endpoint: Option<String>,
    method: Option<String>,
    content_type: Option<String>,
    body: Option<String>,
    json: Option<Value>,
    body_base64: Option<String>,
}

impl RequestText {
    fn request(self, endpoints: &[Endpoint]) -> Result<ReceiverRequest, String> {
        let path = |endpoint: &Endpoint| match endpoint {
            Endpoint::Http(path) => (Transport::Http, path.clone()),
            Endpoint::Grpc(method) => (Transport::Grpc, method.clone()),
        };
        let mut all = endpoints.iter().map(path);
        let (transport, endpoint) = match self.endpoint {
            None => all.next().ok_or("endpoint: the manifest names none")?,
            Some(wanted) => all
                .find(|(_, path)| *path == wanted)
                .ok_or_else(|| format!("endpoint: {wanted:?} is not in the manifest"))?,
        };
        let usual = match (transport, &self.json) {
            (Transport::Grpc, _) => "application/grpc",
            (Transport::Http, Some(_)) => "application/json",
            (Transport::Http, None) => "text/plain",
        };
        let body = match (self.body, self.json, self.body_base64) {
            (None, None, None) => Vec::new(),
            (Some(text), None, None) => text.into_bytes(),
            (None, Some(json), None) => json.to_string().into_bytes(),
            (None, None, Some(base64)) => BASE64
                .decode(base64)
                .map_err(|e| format!("body_base64: {e}"))?,
            _ => return Err("give one of body, json and body_base64".to_owned()),
        };
        Ok(ReceiverRequest {
            transport,
            endpoint,
            method: self.method.unwrap_or_else(|| "POST".to_owned()),
            content_type: self.content_type.unwrap_or_else(|| usual.to_owned()),
            body,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NotificationText {
    organization: Option<String>,
    #[serde(default)]
    alert: AlertText,
    #[serde(default)]
    monitor: MonitorText,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertText {
    id: Option<String>,
    severity: Option<String>,
    previous: Option<String>,
    trigger: Option<String>,
    message: Option<String>,
    value: Option<f64>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    opened: Option<String>,
    changed: Option<String>,
    closed: Option<String>,
    url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MonitorText {
    id: Option<String>,
    name: Option<String>,
    kind: Option<String>,
    memo: Option<String>,
    warning: Option<f64>,
    critical: Option<f64>,
    comparison: Option<String>,
}

impl NotificationText {
    fn notification(self, now: Timestamp) -> Result<Notification, String> {
        let or = |text: Option<String>, usual: &str| text.unwrap_or_else(|| usual.to_owned());
        let severity = |text: Option<String>, usual| match text {
            None => Ok(usual),
            Some(text) => text.parse::<Severity>().map_err(|e| format!("alert: {e}")),
        };
        let at = |text: Option<String>| text.map(|text| time(&text)).transpose();
        let (alert, monitor) = (self.alert, self.monitor);
        let is = severity(alert.severity, Severity::Critical)?;
        let is_over = is == Severity::Ok;
        let before = if is_over {
            Severity::Critical
        } else {
            Severity::Ok
        };
        Ok(Notification {
            organization: or(self.organization, "Example Inc."),
            alert: NotifiedAlert {
                id: or(alert.id, "alt_0123456789abcdef"),
                severity: is,
                previous: severity(alert.previous, before)?,
                trigger: trigger(alert.trigger.as_deref())?,
                message: or(alert.message, "load is 5, above 4"),
                value: alert.value,
                labels: alert.labels.into_iter().collect(),
                opened: at(alert.opened)?.unwrap_or(now),
                changed: at(alert.changed)?.unwrap_or(now),
                closed: at(alert.closed)?.or(is_over.then_some(now)),
                url: or(alert.url, ""),
            },
            monitor: NotifiedMonitor {
                id: or(monitor.id, "mon_0123456789abcdef"),
                name: or(monitor.name, "load"),
                kind: or(monitor.kind, "query"),
                memo: or(monitor.memo, ""),
                warning: monitor.warning,
                critical: monitor.critical,
                comparison: match monitor.comparison.as_deref() {
                    None => None,
                    Some("above") => Some(Comparison::Above),
                    Some("below") => Some(Comparison::Below),
                    Some(other) => {
                        return Err(format!(
                            "monitor.comparison: {other:?} is not above or below"
                        ));
                    }
                },
            },
        })
    }
}

fn trigger(text: Option<&str>) -> Result<Trigger, String> {
    Ok(match text {
        None | Some("monitor") => Trigger::Monitor,
        Some("manual-close") => Trigger::ManualClose,
        Some("monitor-deleted") => Trigger::MonitorDeleted,
        Some("test") => Trigger::Test,
        Some(other) => {
            return Err(format!(
                "alert.trigger: {other:?} is not monitor, manual-close, monitor-deleted or test"
            ));
        }
    })
}

/// `2026-01-01T00:00:00Z`.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|time| Timestamp(time.timestamp_millis()))
        .map_err(|_| format!("{text:?} is not a time such as 2026-01-01T00:00:00Z"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageText {
    month: Option<String>,
    closed_hours: Option<u32>,
    #[serde(default)]
    meters: BTreeMap<String, BTreeMap<String, SubjectText>>,
    currency: Option<String>,
    currency_digits: Option<u8>,
}

/// What a subject used: hours of one unit each, or both numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum SubjectText {
    Hours(u32),
    Both {
        active_hours: u32,
        quantity_hours: u64,
    },
}

impl UsageText {
    fn usage(self) -> Result<(MonthUsage, Terms), String> {
        let month = self.month.as_deref().unwrap_or("2026-01");
        let month = month.parse().map_err(|e| format!("month: {e}"))?;
        let mut usage = MonthUsage::new(month);
        usage.closed_hours = self.closed_hours.unwrap_or(month.hours());
        for (meter, subjects) in self.meters {
            let meter: Meter = meter.parse().map_err(|e| format!("meters: {e}"))?;
            for (subject, used) in subjects {
                let used = match used {
                    SubjectText::Hours(hours) => SubjectUsage {
                        active_hours: hours,
                        quantity_hours: u64::from(hours),
                    },
                    SubjectText::Both {
                        active_hours,
                        quantity_hours,
                    } => SubjectUsage {
                        active_hours,
                        quantity_hours,
                    },
                };
                usage.add(meter, &subject, used);
            }
        }
        let terms = Terms {
            currency: self.currency.unwrap_or_else(|| "JPY".to_owned()),
            currency_digits: self.currency_digits.unwrap_or(0),
        };
        if terms.currency_digits > 9 {
            return Err("currency_digits: 9 are the most".to_owned());
        }
        Ok((usage, terms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(kind: Kind, json: Value) -> Result<Input, String> {
        let endpoints = [
            Endpoint::Http("/in".to_owned()),
            Endpoint::Grpc("/a.B/C".to_owned()),
        ];
        Input::parse(kind, &endpoints, Timestamp(1000), json)
    }

    #[test]
    fn what_does_not_matter_may_be_left_out() {
        for kind in Kind::ALL {
            parse(kind, json!({})).expect("defaults for all");
            parse(kind, Value::Null).expect("nothing is the same as an empty table");
        }
        let Ok(Input::Receiver(request)) = parse(Kind::Receiver, json!({ "json": [1] })) else {
            panic!("a request");
        };
        assert_eq!((&*request.endpoint, &*request.body), ("/in", &b"[1]"[..]));
        assert_eq!(request.content_type, "application/json");
        let grpc = json!({ "endpoint": "/a.B/C", "body_base64": "AAE=" });
        let Ok(Input::Receiver(request)) = parse(Kind::Receiver, grpc) else {
            panic!("a request");
        };
        assert_eq!(request.transport, Transport::Grpc);
        assert_eq!(request.body, [0, 1]);
        let over = json!({ "alert": { "severity": "ok" } });
        let Ok(Input::Channel(told)) = parse(Kind::Channel, over) else {
            panic!("a notification");
        };
        assert_eq!(told.alert.closed, Some(Timestamp(1000)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (kind, json, wanted) in [
            (Kind::Check, json!({ "url": 1 }), "unknown field `url`"),
            (
                Kind::Receiver,
                json!({ "endpoint": "/x" }),
                "\"/x\" is not in the manifest",
            ),
            (
                Kind::Receiver,
                json!({ "body": "a", "json": 1 }),
                "give one of",
            ),
            (
                Kind::Channel,
                json!({ "alert": { "severity": "bad" } }),
                "\"bad\"",
            ),
            (
                Kind::Channel,
                json!({ "alert": { "opened": "now" } }),
                "\"now\" is not a time",
            ),
            (Kind::BillingRule, json!({ "meters": { "x": {} } }), "\"x\""),
            (Kind::BillingRule, json!({ "month": "1" }), "month"),
        ] {
            let error = parse(kind, json).expect_err(wanted);
            assert!(error.contains(wanted), "{error} says {wanted}");
        }
    }
}
