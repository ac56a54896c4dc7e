//! What a plugin answered, as JSON.
//!
//! `outcome` is `ok` or the code of [`CallError::code`]; the other keys are the answer's, or say what went wrong.

use serde_json::{Map, Value, json};

use crate::billing::Statement;
use crate::call::{CallError, Failure};
use crate::channel::Receipt;
use crate::check::CheckOutcome;
use crate::receiver::ReceiverResponse;

/// An answer that JSON can show.
pub(crate) trait Answer {
    fn to_json(&self) -> Value;
}

/// The whole outcome of a call.
pub(crate) fn outcome<T: Answer>(outcome: &Result<T, CallError>) -> Value {
    let (word, rest) = match outcome {
        Ok(answer) => ("ok", answer.to_json()),
        Err(error) => (error.code(), problem(error)),
    };
    let mut all = Map::new();
    all.insert("outcome".to_owned(), word.into());
    if let Value::Object(rest) = rest {
        all.extend(rest);
    }
    Value::Object(all)
}

fn problem(error: &CallError) -> Value {
    let CallError::Failed(failure) = error else {
        let (CallError::Panicked { backtrace, .. } | CallError::Trapped { backtrace, .. }) = error
        else {
            return json!({ "message": error.to_string() });
        };
        return json!({ "message": error.to_string(), "backtrace": backtrace });
    };
    let detail = failure.detail();
    let mut json = json!({ "code": detail.code, "message": detail.message });
    if let Failure::Retry {
        after: Some(after), ..
    } = failure
    {
        json["after_ms"] = json!(after.as_millis() as u64);
    }
    json
}

impl Answer for CheckOutcome {
    fn to_json(&self) -> Value {
        let measurements: Vec<Value> = self
            .measurements
            .iter()
            .map(|m| json!({ "name": m.name, "value": m.value, "labels": pairs(&m.labels) }))
            .collect();
        json!({
            "status": self.status.as_str(),
            "summary": self.summary,
            "measurements": measurements,
        })
    }
}

impl Answer for Receipt {
    fn to_json(&self) -> Value {
        json!({ "summary": self.summary })
    }
}

impl Answer for ReceiverResponse {
    fn to_json(&self) -> Value {
        let mut json = json!({
            "status": self.status,
            "content_type": self.content_type,
            "message": self.message,
        });
        if let Some(after) = self.retry_after {
            json["retry_after_ms"] = json!(after.as_millis() as u64);
        }
        put_body(&mut json, &self.body);
        json
    }
}

impl Answer for Statement {
    fn to_json(&self) -> Value {
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                json!({
                    "description": line.description,
                    "meter": line.meter.map(|meter| meter.as_str()),
                    "quantity": line.quantity.to_string(),
                    "unit_price": line.unit_price.to_string(),
                    "amount": line.amount.to_string(),
                })
            })
            .collect();
        json!({ "lines": lines, "total": self.total.to_string() })
    }
}

/// `body` and, where it is JSON, `json`; `body_base64` where it is not text.
fn put_body(json: &mut Value, body: &[u8]) {
    use base64::Engine as _;
    match std::str::from_utf8(body) {
        Ok(text) => {
            json["body"] = text.into();
            if let Ok(read) = serde_json::from_str::<Value>(text) {
                json["json"] = read;
            }
        }
        Err(_) => {
            let base64 = base64::engine::general_purpose::STANDARD.encode(body);
            json["body_base64"] = base64.into();
        }
    }
}

/// Names and values as an object.
pub(crate) fn pairs(pairs: &[(String, String)]) -> Value {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect::<Map<_, _>>()
        .into()
}
