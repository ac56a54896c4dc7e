//! Keys by which versions may be signed.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{delete, get, post};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use shoal_runtime::PublicKey;

use super::input::{Json, Path};
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::audit::Audit;
use crate::auth::Role;
use crate::db::DbError;
use crate::db::publishers::PublisherRow;

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/api/v1/publishers";
    vec![
        Route::new(
            Method::GET,
            ALL,
            Role::Operator,
            "Lists the keys by which versions may be signed",
            get(list),
        ),
        Route::new(
            Method::POST,
            ALL,
            Role::Operator,
            "Trusts a publisher's key",
            post(add),
        ),
        Route::new(
            Method::DELETE,
            "/api/v1/publishers/{name}",
            Role::Operator,
            "Trusts a publisher's key no longer",
            delete(remove),
        ),
    ]
}

const NAME_MAX_CHARS: usize = 100;
/// All of them are tried against each upload.
const PUBLISHERS_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    key: String,
}

async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let publishers = app.db.system().publishers().await?;
    let publishers: Vec<Value> = publishers.iter().map(shown).collect();
    Ok(axum::Json(json!({ "publishers": publishers })))
}

async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(new): Json<New>,
) -> Result<(StatusCode, axum::Json<Value>), ApiError> {
    caller.must_be(Role::Operator)?;
    let length = new.name.chars().count();
    if !(1..=NAME_MAX_CHARS).contains(&length) {
        let message = format!("a name has 1 to {NAME_MAX_CHARS} characters; this one has {length}");
        return Err(ApiError::bad_request("invalid_name", message));
    }
    let key: PublicKey = new
        .key
        .parse()
        .map_err(|error| ApiError::bad_request("invalid_key", format!("{error}")))?;
    if app.db.system().publishers().await?.len() >= PUBLISHERS_MAX {
        let message = format!("there are {PUBLISHERS_MAX} publishers already; remove one first");
        return Err(ApiError::conflict("too_many_publishers", message));
    }
    let row = PublisherRow {
        name: new.name,
        key: key.to_string(),
        added_at_ms: app.clock.now().0,
        added_by: caller.actor.clone(),
    };
    let detail = json!({ "key": row.key, "key_id": key.id().to_string() });
    let audit = audit(&caller, "publisher.add", &row.name, detail);
    match app.db.system().add_publisher(&row, &audit).await {
        Ok(()) => Ok((StatusCode::CREATED, axum::Json(shown(&row)))),
        Err(DbError::Exists(_)) => Err(ApiError::conflict(
            "publisher_exists",
            format!(
                "there is a publisher {:?} or one with this key already; see: shoal publisher list",
                row.name
            ),
        )),
        Err(error) => Err(error.into()),
    }
}

async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.must_be(Role::Operator)?;
    let audit = audit(&caller, "publisher.remove", &name, json!({}));
    let system = app.db.system();
    match system
        .remove_publisher(&name, &audit, app.clock.now())
        .await?
    {
        true => Ok(StatusCode::NO_CONTENT),
        false => {
            let name: String = name.chars().take(100).collect();
            Err(ApiError::not_found(format!(
                "there is no publisher {name:?}"
            )))
        }
    }
}

fn audit(caller: &Caller, action: &'static str, name: &str, detail: Value) -> Audit {
    Audit {
        tenant: None,
        actor: caller.actor.clone(),
        action,
        subject: name.to_owned(),
        detail,
    }
}

fn shown(row: &PublisherRow) -> Value {
    json!({
        "name": row.name,
        "key": row.key,
        "added_at_ms": row.added_at_ms,
        "added_by": row.added_by,
    })
}
