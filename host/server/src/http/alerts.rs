//! Alerts: looking at them, closing them by hand, and trying the channels that tell of them.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::input::{Json, Path, Query};
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::db::TenantDb;
use crate::db::alerts::{Alert, CheckState, TransitionRow, Which, labels_json};
use crate::db::installations::InstallationRow;
use crate::db::notifications::{DeliveryRow, NotificationRow};
use crate::notify::{self, Answer};

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 1000;
/// As long as a summary of a check.
const REASON_MAX_CHARS: usize = 1000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/api/v1/alerts",
            Role::Read,
            "Lists alerts, those opened last first",
            get(list),
        ),
        Route::new(
            Method::GET,
            "/api/v1/alerts/{id}",
            Role::Read,
            "Shows an alert with its transitions and what was told of it",
            get(show),
        ),
        Route::new(
            Method::POST,
            "/api/v1/alerts/{id}/close",
            Role::Write,
            "Closes an alert by hand",
            post(close),
        ),
        Route::new(
            Method::GET,
            "/api/v1/checks",
            Role::Read,
            "Lists what the checks found last, and why one could not run",
            get(checks),
        ),
        Route::new(
            Method::POST,
            "/api/v1/installations/{id}/test-notification",
            Role::Write,
            "Tells a channel a test notification",
            post(test_notification),
        ),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    tenant: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    tenant: Option<String>,
    status: Option<String>,
    limit: Option<i64>,
    /// An alert: those opened before it.
    before: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    reason: String,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(listed): Query<Listed>,
) -> Result<axum::Json<Value>, ApiError> {
    let db = caller.acting_for(&app, listed.tenant).await?;
    let which = which(listed.status.as_deref())?;
    let limit = limit(listed.limit)?;
    if let Some(before) = &listed.before {
        found(&db, before).await?;
    }
    let mut alerts = db
        .alerts(which, listed.before.as_deref(), limit + 1)
        .await?;
    let has_more = alerts.len() as i64 > limit;
    alerts.truncate(limit as usize);
    let next = alerts.last().filter(|_| has_more).map(|alert| &alert.id);
    Ok(axum::Json(json!({
        "alerts": alerts.iter().map(shown).collect::<Vec<_>>(),
        "next_before": next,
    })))
}

async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let db = caller.acting_for(&app, of.tenant).await?;
    Ok(axum::Json(show_whole(&db, &id).await?))
}

async fn close(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
    Json(closing): Json<Closing>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    let reason = reason(&closing.reason)?;
    match db.close_alert(&id, reason, app.clock.now()).await? {
        None => return Err(not_found(&id)),
        Some(false) => {
            let message = format!("alert {id} is closed already");
            return Err(ApiError::conflict("alert_closed", message));
        }
        Some(true) => app.to_tell.notify_one(),
    }
    tracing::info!(
        audit = true,
        tenant.id = db.id().0,
        by.tenant = caller.tenant.key,
        by.role = caller.role.as_str(),
        alert.id = id,
        "alert closed by hand"
    );
    Ok(axum::Json(show_whole(&db, &id).await?))
}

async fn checks(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let db = caller.acting_for(&app, of.tenant).await?;
    let states = db.check_states().await?;
    let installations = db.installations().await?;
    let checks: Vec<Value> = installations
        .iter()
        .filter(|row| row.kind == "check")
        .map(|row| {
            shown_check(
                row,
                states.iter().find(|state| state.installation == row.id),
            )
        })
        .collect();
    Ok(axum::Json(json!({ "checks": checks })))
}

async fn test_notification(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    let row = channel(&db, &id).await?;
    Ok(axum::Json(match notify::test(&app, &row).await? {
        Answer::Delivered(summary) => json!({ "status": "delivered", "summary": summary }),
        Answer::Failed { code, message } => {
            json!({ "status": "failed", "error": { "code": code, "message": message } })
        }
        Answer::Disabled => {
            let message = format!("the channel {id} is disabled; enable it first");
            return Err(ApiError::conflict("channel_disabled", message));
        }
    }))
}

async fn channel(db: &TenantDb, id: &str) -> Result<InstallationRow, ApiError> {
    let shown: String = id.chars().take(100).collect();
    let row = db
        .installation(id)
        .await?
        .ok_or_else(|| ApiError::not_found(format!("there is no installation {shown:?}")))?;
    if row.kind == "channel" {
        return Ok(row);
    }
    Err(ApiError::bad_request(
        "not_a_channel",
        format!(
            "{id} is a {}; only a channel can be told something",
            row.kind
        ),
    ))
}

fn which(status: Option<&str>) -> Result<Which, ApiError> {
    match status {
        None => Ok(Which::All),
        Some("open") => Ok(Which::Open),
        Some("closed") => Ok(Which::Closed),
        Some(other) => {
            let other: String = other.chars().take(100).collect();
            Err(ApiError::bad_request(
                "invalid_status",
                format!("status is {other:?}; it must be open or closed, or left out"),
            ))
        }
    }
}

fn limit(limit: Option<i64>) -> Result<i64, ApiError> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::bad_request(
        "invalid_limit",
        format!("limit is {limit}; it must be from 1 to {LIMIT_MAX}"),
    ))
}

fn reason(reason: &str) -> Result<&str, ApiError> {
    let length = reason.trim().chars().count();
    if (1..=REASON_MAX_CHARS).contains(&length) {
        return Ok(reason.trim());
    }
    Err(ApiError::bad_request(
        "invalid_reason",
        format!("reason has {length} characters; it must have 1 to {REASON_MAX_CHARS}"),
    ))
}

async fn found(db: &TenantDb, id: &str) -> Result<Alert, ApiError> {
    db.alert(id).await?.ok_or_else(|| not_found(id))
}

fn not_found(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    ApiError::not_found(format!("there is no alert {id:?}"))
}

fn shown(alert: &Alert) -> Value {
    let is_open = alert.closed_at.is_none();
    json!({
        "id": alert.id,
        "status": if is_open { "open" } else { "closed" },
        "severity": alert.severity.as_str(),
        "monitor": {
            "id": alert.monitor.id,
            "name": alert.monitor.name,
            "kind": alert.monitor.kind,
        },
        "labels": labels_json(&alert.labels),
        "value": alert.value,
        "message": alert.message,
        "opened_at_ms": alert.opened_at.0,
        "changed_at_ms": alert.changed_at.0,
        "closed_at_ms": alert.closed_at.map(|at| at.0),
        "reason": alert.reason,
    })
}

async fn show_whole(db: &TenantDb, id: &str) -> Result<Value, ApiError> {
    let alert = found(db, id).await?;
    let transitions = db.transitions(id).await?;
    let notifications = db.notifications(id).await?;
    let deliveries = db.deliveries(id).await?;
    let mut whole = shown(&alert);
    whole["transitions"] = transitions.iter().map(shown_transition).collect();
    whole["notifications"] = notifications
        .iter()
        .map(|row| shown_notification(row, &alert, &deliveries))
        .collect();
    Ok(whole)
}

fn shown_transition(transition: &TransitionRow) -> Value {
    json!({
        "from": transition.from.as_str(),
        "to": transition.to.as_str(),
        "at_ms": transition.at.0,
        "trigger": transition.trigger.as_str(),
        "value": transition.value,
        "message": transition.message,
    })
}

/// `severity`: what was told last, or while it is not delivered what is to be told.
fn shown_notification(row: &NotificationRow, alert: &Alert, deliveries: &[DeliveryRow]) -> Value {
    let is_pending = row.status == "pending";
    let told = row
        .told_severity
        .as_deref()
        .filter(|_| row.status == "delivered");
    let own = deliveries
        .iter()
        .filter(|delivery| delivery.notification_id == row.id);
    json!({
        "id": row.id,
        "installation": row.installation_id,
        "channel": row.channel,
        "status": row.status,
        "severity": told.unwrap_or(alert.severity.as_str()),
        "attempts": row.attempts,
        "next_attempt_at_ms": is_pending.then_some(row.next_attempt_at_ms),
        "last_error": row.last_error,
        "summary": row.summary,
        "delivered_at_ms": row.delivered_at_ms,
        "deliveries": own.map(shown_delivery).collect::<Vec<_>>(),
    })
}

fn shown_delivery(delivery: &DeliveryRow) -> Value {
    json!({
        "at_ms": delivery.at_ms,
        "severity": delivery.severity,
        "result": delivery.result,
        "detail": delivery.detail,
    })
}

fn shown_check(row: &InstallationRow, state: Option<&CheckState>) -> Value {
    let error = state.and_then(|state| state.last_error.as_ref());
    let last_slot = state.and_then(|state| state.last_slot);
    json!({
        "installation": row.id,
        "name": row.name,
        "enabled": row.is_enabled == 1,
        // Before its first run, and when no run found anything out, nothing is known.
        "severity": last_slot.and_then(|_| Some(state?.severity.as_str())),
        "ran_at_ms": last_slot.map(|slot| slot.0),
        "last_error": error.map(|(text, _)| text),
        "last_error_at_ms": error.map(|(_, at)| at.0),
    })
}

#[cfg(test)]
mod tests;
