//! Tenants: the operator makes and lists them.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::input::Json;
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::db::DbError;
use crate::db::tenants::Tenant;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/api/v1/tenants",
            Role::Operator,
            "Lists the tenants",
            get(list),
        ),
        Route::new(
            Method::POST,
            "/api/v1/tenants",
            Role::Operator,
            "Makes a tenant",
            post(create),
        ),
    ]
}

const NAME_MAX_CHARS: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    key: String,
    name: Option<String>,
}

async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let tenants = app.db.system().tenants().await?;
    Ok(axum::Json(
        json!({ "tenants": tenants.iter().map(shown).collect::<Vec<_>>() }),
    ))
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(new): Json<NewTenant>,
) -> Result<(StatusCode, axum::Json<Value>), ApiError> {
    caller.must_be(Role::Operator)?;
    let key = tenant_key(&new.key)?;
    let name = new.name.unwrap_or_else(|| key.to_owned());
    let length = name.chars().count();
    if !(1..=NAME_MAX_CHARS).contains(&length) {
        return Err(ApiError::bad_request(
            "invalid_name",
            format!("a name has 1 to {NAME_MAX_CHARS} characters; this one has {length}"),
        ));
    }
    match app
        .db
        .system()
        .create_tenant_by(&caller.actor, key, &name, app.clock.now())
        .await
    {
        Ok(tenant) => Ok((StatusCode::CREATED, axum::Json(shown(&tenant)))),
        Err(DbError::Exists(_)) => Err(ApiError::conflict(
            "tenant_exists",
            format!("there is a tenant {key:?} already"),
        )),
        Err(error) => Err(error.into()),
    }
}

fn shown(tenant: &Tenant) -> Value {
    json!({ "key": tenant.key, "name": tenant.name, "created_at_ms": tenant.created_at_ms })
}

fn tenant_key(key: &str) -> Result<&str, ApiError> {
    let is_key = (1..=63).contains(&key.len())
        && !key.starts_with('-')
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_key {
        return Ok(key);
    }
    let shown: String = key.chars().take(100).collect();
    Err(ApiError::bad_request(
        "invalid_tenant_key",
        format!(
            "{shown:?} is not a tenant key: 1 to 63 of a-z, 0-9 and '-', not beginning with '-'"
        ),
    ))
}
