//! What a failed call was asked, as it may be shown to its tenant: heads and first bytes, never settings.

use serde_json::{Value, json};
use shoal_model::usage::MonthUsage;
use shoal_runtime::{
    CallContext, CallError, CallReport, Installed, Notification, ReceiverRequest, Terms, Transport,
};

use super::Running;
use crate::db::plugins::VersionRow;

/// First bytes of a body that are kept.
const BODY_SHOWN_BYTES: usize = 512;
/// Longest text of a sender that is kept.
const TEXT_MAX_CHARS: usize = 300;

/// A call that failed.
pub(super) struct Failed<'a> {
    pub(super) running: &'a Running,
    pub(super) version: &'a VersionRow,
    pub(super) installed: &'a Installed,
    pub(super) error: &'a CallError,
    pub(super) report: &'a CallReport,
}

/// What is kept of a request while it is served.
pub(super) struct RequestHead {
    transport: Transport,
    endpoint: String,
    method: String,
    content_type: String,
    body_bytes: usize,
    first_bytes: Vec<u8>,
}

impl RequestHead {
    pub(super) fn of(request: &ReceiverRequest) -> RequestHead {
        let shown = request.body.len().min(BODY_SHOWN_BYTES);
        RequestHead {
            transport: request.transport,
            endpoint: cut(&request.endpoint),
            method: cut(&request.method),
            content_type: cut(&request.content_type),
            body_bytes: request.body.len(),
            first_bytes: request.body[..shown].to_vec(),
        }
    }
}

pub(super) fn of_receiver(context: &CallContext, head: &RequestHead) -> Value {
    let mut input = of_check(context);
    input["transport"] = match head.transport {
        Transport::Http => "http",
        Transport::Grpc => "grpc",
    }
    .into();
    input["endpoint"] = head.endpoint.as_str().into();
    input["method"] = head.method.as_str().into();
    input["content_type"] = head.content_type.as_str().into();
    input["body_bytes"] = head.body_bytes.into();
    // Escaped where it is no text, so that it can be read back byte by byte.
    input["body_start"] = head.first_bytes.escape_ascii().to_string().into();
    input
}

pub(super) fn of_check(context: &CallContext) -> Value {
    json!({
        "now_ms": context.now.unix_ms(),
        "deadline_ms": context.deadline.map(|at| at.unix_ms()),
        "attempt": context.attempt,
        "idempotency_key": context.idempotency_key,
    })
}

pub(super) fn of_channel(context: &CallContext, notification: &Notification) -> Value {
    let (alert, monitor) = (&notification.alert, &notification.monitor);
    let mut input = of_check(context);
    input["alert"] = json!({
        "id": alert.id,
        "severity": alert.severity.as_str(),
        "previous": alert.previous.as_str(),
        "message": cut(&alert.message),
        "labels": alert.labels.len(),
        "opened_ms": alert.opened.unix_ms(),
        "closed_ms": alert.closed.map(|at| at.unix_ms()),
    });
    input["monitor"] =
        json!({ "id": monitor.id, "name": cut(&monitor.name), "kind": monitor.kind });
    input
}

pub(super) fn of_billing_rule(usage: &MonthUsage, terms: &Terms) -> Value {
    let meters: serde_json::Map<String, Value> = usage
        .meters
        .iter()
        .map(|(meter, subjects)| (meter.to_string(), subjects.len().into()))
        .collect();
    json!({
        "month": usage.month.to_string(),
        "closed_hours": usage.closed_hours,
        "currency": terms.currency,
        "subjects_by_meter": meters,
    })
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX_CHARS).collect()
}
