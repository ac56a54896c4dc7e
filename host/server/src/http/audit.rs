//! Who did what.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::input::Query;
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::db::audit::{AuditFilter, AuditRow};

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new(
        Method::GET,
        "/api/v1/audit",
        Role::Read,
        "Lists who did what, the latest first: the tenant's own, or for the operator everything",
        get(list),
    )]
}

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    tenant: Option<String>,
    before: Option<i64>,
    subject: Option<String>,
    limit: Option<i64>,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<axum::Json<Value>, ApiError> {
    let limit = asked.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let message = format!("limit is {limit}; it must be from 1 to {LIMIT_MAX}");
        return Err(ApiError::bad_request("invalid_limit", message));
    }
    let filter = AuditFilter {
        before: asked.before,
        subject: asked.subject,
        limit,
    };
    let rows = match asked.tenant {
        None if caller.role == Role::Operator => app.db.system().audit(&filter).await?,
        tenant => {
            let db = caller.acting_for(&app, tenant).await?;
            db.audit(&filter).await?
        }
    };
    let events: Result<Vec<Value>, ApiError> = rows.iter().map(shown).collect();
    Ok(axum::Json(json!({ "events": events? })))
}

fn shown(row: &AuditRow) -> Result<Value, ApiError> {
    Ok(json!({
        "id": row.id,
        "tenant": row.tenant,
        "at_ms": row.at_ms,
        "actor": row.actor,
        "action": row.action,
        "subject": row.subject,
        "detail": row.detail()?,
    }))
}
