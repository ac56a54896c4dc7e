//! What a tenant's plugins may use: everybody sees their own, the operator sets it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, put};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use shoal_model::grant::Kind;

use super::input::{Json, Path};
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::db::TenantDb;
use crate::limits::{self, LimitsByKind, SetLimits};

/// Most that one tenant counts for beside another.
const WEIGHT_MAX: u32 = 100;

pub(super) fn routes() -> Vec<Route> {
    const LIMITS: &str = "/api/v1/tenants/{tenant}/plugin-limits";
    vec![
        Route::new(
            Method::GET,
            LIMITS,
            Role::Read,
            "Shows what a tenant's plugins may use",
            get(show),
        ),
        Route::new(
            Method::PUT,
            LIMITS,
            Role::Operator,
            "Sets what a tenant's plugins may use, below what the deployment allows",
            put(set),
        ),
    ]
}

async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<axum::Json<Value>, ApiError> {
    let (_, db) = caller.tenant_named(&app, &tenant).await?;
    shown(&app, &db).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    weight: Option<u32>,
    #[serde(default)]
    limits: LimitsByKind,
}

async fn set(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(tenant): Path<String>,
    Json(new): Json<New>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let (_, db) = caller.tenant_named(&app, &tenant).await?;
    let weight = new.weight.unwrap_or(1);
    if !(1..=WEIGHT_MAX).contains(&weight) {
        return Err(ApiError::bad_request(
            "invalid_weight",
            format!("weight is {weight}, not 1 to {WEIGHT_MAX}"),
        ));
    }
    limits::checked(&new.limits).map_err(|why| ApiError::bad_request("invalid_limit", why))?;
    let text = serde_json::to_string(&new.limits).map_err(ApiError::internal)?;
    db.set_plugin_limits(weight, &text, &caller.actor, app.clock.now())
        .await?;
    app.plugins.apply().await?;
    shown(&app, &db).await
}

/// What was set, and what comes of it.
async fn shown(app: &App, db: &TenantDb) -> Result<axum::Json<Value>, ApiError> {
    let row = db.plugin_limits().await?;
    let (weight, set) = match &row {
        Some(row) => (row.weight, row.by_kind()?),
        None => (1, LimitsByKind::new()),
    };
    let overrides = limits::checked(&set).map_err(ApiError::internal)?;
    let runtime = app.plugins.runtime();
    let effective = Kind::ALL.into_iter().map(|kind| {
        let own = overrides.get(&kind).copied().unwrap_or_default();
        let limits = runtime.limits(kind).lowered(&own);
        (kind.to_string(), SetLimits::of(&limits))
    });
    let effective: BTreeMap<String, SetLimits> = effective.collect();
    Ok(axum::Json(
        json!({ "weight": weight, "limits": set, "effective": effective }),
    ))
}
