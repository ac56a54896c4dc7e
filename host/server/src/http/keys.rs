//! API keys of a tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{delete, get, post};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::input::{Json, Path};
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::{ApiKey, Role};
use crate::db::tenants;

pub(super) fn routes() -> Vec<Route> {
    const KEYS: &str = "/api/v1/tenants/{tenant}/keys";
    const KEY: &str = "/api/v1/tenants/{tenant}/keys/{id}";
    vec![
        Route::new(
            Method::GET,
            KEYS,
            Role::Write,
            "Lists a tenant's API keys, without secrets",
            get(list),
        ),
        Route::new(
            Method::POST,
            KEYS,
            Role::Write,
            "Makes an API key and shows it once",
            post(create),
        ),
        Route::new(
            Method::DELETE,
            KEY,
            Role::Write,
            "Revokes an API key",
            delete(revoke),
        ),
    ]
}

const NAME_MAX_CHARS: usize = 100;
/// Keys of one tenant that are not revoked: one for each of many machines.
const KEYS_MAX: i64 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    #[serde(default)]
    name: String,
    role: String,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Write)?;
    let (_, db) = caller.tenant_named(&app, &tenant).await?;
    let keys: Vec<Value> = db
        .keys()
        .await?
        .iter()
        .map(|key| {
            json!({
                "id": key.id,
                "name": key.name,
                "role": key.role,
                "created_at_ms": key.created_at_ms,
                "revoked_at_ms": key.revoked_at_ms,
                "last_used_at_ms": key.last_used_at_ms,
            })
        })
        .collect();
    Ok(axum::Json(json!({ "keys": keys })))
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(tenant): Path<String>,
    Json(new): Json<NewKey>,
) -> Result<(StatusCode, axum::Json<Value>), ApiError> {
    caller.must_be(Role::Write)?;
    let role: Role = new
        .role
        .parse()
        .map_err(|error| ApiError::bad_request("invalid_role", format!("{error}")))?;
    let (tenant, db) = caller.tenant_named(&app, &tenant).await?;
    if role == Role::Operator && tenant.id() != shoal_model::TenantId::OPERATOR {
        return Err(ApiError::bad_request(
            "invalid_role",
            format!(
                "keys of tenant {:?} cannot have role operator; make them read or write",
                tenant.key
            ),
        ));
    }
    if role > caller.role {
        return Err(ApiError::forbidden(
            "a key cannot make one that allows more than itself",
        ));
    }
    let length = new.name.chars().count();
    if length > NAME_MAX_CHARS {
        return Err(ApiError::bad_request(
            "invalid_name",
            format!("a name has {NAME_MAX_CHARS} characters at most; this one has {length}"),
        ));
    }
    if db.valid_keys().await? >= KEYS_MAX {
        let message = format!("there are {KEYS_MAX} keys already; revoke one first");
        return Err(ApiError::conflict("too_many_keys", message));
    }
    let key = ApiKey::random();
    let added = tenants::NewKey {
        key: &key,
        name: &new.name,
        role,
    };
    db.add_key_by(&caller.actor, &added, app.clock.now())
        .await?;
    let shown = json!({ "id": key.id.as_str(), "role": role.as_str(), "name": new.name, "key": key.reveal() });
    Ok((StatusCode::CREATED, axum::Json(shown)))
}

async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    caller.must_be(Role::Write)?;
    let (tenant, db) = caller.tenant_named(&app, &tenant).await?;
    let keys = db.keys().await?;
    if let Some(key) = keys.iter().find(|key| key.id == id) {
        let role: Role = key.role.parse().map_err(ApiError::internal)?;
        if role > caller.role {
            return Err(ApiError::forbidden(
                "a key cannot revoke one that allows more than itself",
            ));
        }
        db.revoke_key(&caller.actor, &id, app.clock.now()).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let id: String = id.chars().take(100).collect();
    Err(ApiError::not_found(format!(
        "tenant {:?} has no key {id:?}",
        tenant.key
    )))
}
