//! Usage: what was counted in a month's closed hours.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shoal_model::Timestamp;
use shoal_model::id::InvalidId;
use shoal_model::time::{Hour, Month};
use shoal_model::usage::{Meter, MonthUsage};

use super::input::Query;
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::db::TenantDb;
use crate::db::tenants::Tenant;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/api/v1/usage",
            Role::Read,
            "Shows what was used in a month's closed hours, by meter",
            get(month),
        ),
        Route::new(
            Method::GET,
            "/api/v1/usage/hours",
            Role::Read,
            "Lists a month's closed hours with what was counted in each, zeros included",
            get(hours),
        ),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    tenant: Option<String>,
    month: Option<String>,
}

async fn month(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let (tenant, db) = tenant_of(&app, &caller, of.tenant).await?;
    let month = parsed_month(&app, of.month.as_deref())?;
    let open = db.next_open_hour(Timestamp(tenant.created_at_ms)).await?;
    let usage = db.month_usage(month, open).await?;
    let meters: Vec<Value> = Meter::ALL
        .into_iter()
        .map(|meter| shown(&usage, meter))
        .collect();
    Ok(axum::Json(json!({
        "month": month.to_string(),
        "hours": month.hours(),
        "closed_hours": usage.closed_hours,
        "meters": meters,
    })))
}

fn shown(usage: &MonthUsage, meter: Meter) -> Value {
    let total = usage.total(meter);
    json!({
        "meter": meter.as_str(),
        "subjects": usage.meters.get(&meter).map_or(0, BTreeMap::len),
        "quantity_hours": total.quantity_hours,
        "active_hours": total.active_hours,
        "average": usage.average(total.quantity_hours).to_string(),
    })
}

async fn hours(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let (_, db) = tenant_of(&app, &caller, of.tenant).await?;
    let month = parsed_month(&app, of.month.as_deref())?;
    // The hours first: what was counted in a closed hour never changes, so that each of them comes with its meters.
    let hours = db.closed_hours(month).await?;
    let mut meters: BTreeMap<i64, Map<String, Value>> = BTreeMap::new();
    for row in db.closed_meters(month).await? {
        let counted = json!({ "subjects": row.subjects, "quantity": row.quantity });
        meters
            .entry(row.hour)
            .or_default()
            .insert(row.meter, counted);
    }
    let shown = hours.iter().map(|hour| {
        json!({
            "from_ms": Hour(hour.hour).start().unix_ms(),
            "closed_at_ms": hour.closed_at_ms,
            "subjects": hour.subjects,
            "quantity": hour.quantity,
            "meters": meters.remove(&hour.hour).unwrap_or_default(),
        })
    });
    let shown: Vec<Value> = shown.collect();
    Ok(axum::Json(
        json!({ "month": month.to_string(), "hours": shown }),
    ))
}

/// The tenant that is meant, with its data: the caller's own, or for an operator any.
pub(super) async fn tenant_of(
    app: &App,
    caller: &Caller,
    tenant: Option<String>,
) -> Result<(Tenant, TenantDb), ApiError> {
    let key = tenant.unwrap_or_else(|| caller.tenant.key.clone());
    caller.tenant_named(app, &key).await
}

/// A month that has begun; without one, the present.
pub(super) fn parsed_month(app: &App, text: Option<&str>) -> Result<Month, ApiError> {
    let wrong = |message: String| ApiError::bad_request("invalid_month", message);
    let present = Month::of(app.clock.now());
    let Some(text) = text else {
        return Ok(present);
    };
    let month: Month = text
        .parse()
        .map_err(|error: InvalidId| wrong(error.to_string()))?;
    if month > present {
        return Err(wrong(format!(
            "{month} has not begun; the present month is {present}"
        )));
    }
    Ok(month)
}
