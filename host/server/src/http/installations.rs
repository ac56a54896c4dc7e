//! Installations: a tenant enables plugins, with settings and grants.
//!
//! A change is made from the installation as it was read, and is refused when it is not any more like that: whoever names the
//! revision that they saw (`If-Match`, or `revision` in the body) is told so, and two who change at once never undo each other.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::{delete, get, patch, post};
use http::header::{ETAG, IF_MATCH};
use http::{Method, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use shoal_model::InstallationId;
use shoal_model::grant::Kind;

use super::input::{Json, Path, Query};
use super::plugins::refused;
use super::releases::track_name;
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::audit::Audit;
use crate::auth::Role;
use crate::db::TenantDb;
use crate::db::tracks::STABLE;
use crate::plugins::{NotRunnable, Wish};
use crate::random::RandomId as _;
use save::{Saving, Wanted, draft};

mod save;
mod secrets;
mod show;

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/api/v1/installations";
    const ONE: &str = "/api/v1/installations/{id}";
    vec![
        Route::new(
            Method::GET,
            ALL,
            Role::Read,
            "Lists the tenant's installations",
            get(list),
        ),
        Route::new(
            Method::POST,
            ALL,
            Role::Write,
            "Enables a plugin",
            post(create),
        ),
        Route::new(
            Method::GET,
            ONE,
            Role::Read,
            "Shows an installation",
            get(show),
        ),
        Route::new(
            Method::PATCH,
            ONE,
            Role::Write,
            "Changes an installation",
            patch(change),
        ),
        Route::new(
            Method::DELETE,
            ONE,
            Role::Write,
            "Deletes an installation",
            delete(remove),
        ),
    ]
}

/// A check runs once a minute unless its tenant says otherwise.
const INTERVAL_DEFAULT_MS: i64 = 60_000;

/// For which tenant an operator acts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    tenant: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    plugin: String,
    name: Option<String>,
    #[serde(default)]
    settings: Map<String, Value>,
    grants: Option<Vec<String>>,
    track: Option<String>,
    digest: Option<String>,
    interval_ms: Option<i64>,
    enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// The revision that was seen.
    revision: Option<i64>,
    name: Option<String>,
    /// Replaces all settings; secrets that are left out stay.
    settings: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "present")]
    grants: Option<Option<Vec<String>>>,
    track: Option<String>,
    /// `null` follows the track.
    #[serde(default, deserialize_with = "present")]
    digest: Option<Option<String>>,
    interval_ms: Option<i64>,
    enabled: Option<bool>,
}

impl Change {
    fn only_disables(&self) -> bool {
        self.enabled == Some(false) && self.fields() == ["enabled"]
    }

    /// The fields that it has, for the audit log.
    fn fields(&self) -> Vec<&'static str> {
        let fields = [
            ("name", self.name.is_some()),
            ("settings", self.settings.is_some()),
            ("grants", self.grants.is_some()),
            ("track", self.track.is_some()),
            ("digest", self.digest.is_some()),
            ("interval_ms", self.interval_ms.is_some()),
            ("enabled", self.enabled.is_some()),
        ];
        let given = fields.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(name, _)| name).collect()
    }
}

/// Tells `null` from a field that is left out.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// An installation with its revision as `ETag`.
type Shown = ([(http::HeaderName, String); 1], axum::Json<Value>);

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let db = caller.acting_for(&app, of.tenant).await?;
    let catalogue = app.plugins.catalogue().await?;
    let wishes = Wish::all(&db).await?;
    let shown: Result<Vec<Value>, ApiError> = wishes
        .iter()
        .map(|wish| show::wish(&app, &catalogue, wish))
        .collect();
    Ok(axum::Json(json!({ "installations": shown? })))
}

async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
) -> Result<Shown, ApiError> {
    let db = caller.acting_for(&app, of.tenant).await?;
    shown(&app, &db, &id).await
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(of): Query<Of>,
    Json(new): Json<New>,
) -> Result<(StatusCode, Shown), ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    let id = InstallationId::random();
    let track = track_name(new.track.unwrap_or_else(|| STABLE.to_owned()))?;
    let draft = draft(&db, &id, &new.plugin, &track, new.digest.as_deref());
    let known = app.plugins.chosen(&draft).await;
    let known = known.map_err(|error| match new.digest.is_none() && track == STABLE {
        true => no_approved_version(&new.plugin, error),
        false => refused("not_runnable", error),
    })?;
    may_change(&caller, &known.row.kind)?;
    let is_check = known.row.kind == Kind::Check.as_str();
    let wanted = Wanted {
        id,
        name: new.name.unwrap_or_else(|| new.plugin.clone()),
        plugin: new.plugin,
        kind: known.row.kind.clone(),
        settings: new.settings,
        grants: new.grants,
        track,
        digest: new.digest,
        interval_ms: is_check.then(|| new.interval_ms.unwrap_or(INTERVAL_DEFAULT_MS)),
        is_enabled: new.enabled.unwrap_or(true),
    };
    let detail = json!({ "plugin": wanted.plugin, "name": wanted.name });
    let audit = audit(
        &caller,
        &db,
        "installation.create",
        wanted.id.as_str(),
        detail,
    );
    let id = wanted.id.to_string();
    let saving = Saving {
        app: &app,
        db: &db,
        audit: &audit,
    };
    saving.create(wanted, &known).await?;
    Ok((StatusCode::CREATED, shown(&app, &db, &id).await?))
}

async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
    headers: HeaderMap,
    Json(change): Json<Change>,
) -> Result<Shown, ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    let wish = found(&db, &id).await?;
    let row = &wish.row;
    may_change(&caller, &row.kind)?;
    check_seen(&headers, change.revision, row.revision)?;
    let detail = json!({ "plugin": row.plugin_id, "name": row.name, "changed": change.fields() });
    let audit = audit(&caller, &db, "installation.change", &row.id, detail);
    if change.only_disables() {
        // Nothing is checked: what cannot run any more least of all has to stay enabled.
        let seen = seen(&headers, change.revision)?.map(|_| row.revision);
        let now = app.clock.now();
        if !db.disable_installation(&row.id, seen, &audit, now).await? {
            return Err(changed_meanwhile(&id));
        }
        app.plugins.apply().await?;
        return shown(&app, &db, &id).await;
    }
    let present_grants = row
        .grants()?
        .map(|grants| grants.0.iter().map(ToString::to_string).collect());
    let wanted = Wanted {
        id: row.id()?,
        name: change.name.unwrap_or_else(|| row.name.clone()),
        plugin: row.plugin_id.clone(),
        kind: row.kind.clone(),
        settings: Map::new(),
        grants: change.grants.unwrap_or(present_grants),
        track: match change.track {
            Some(track) => track_name(track)?,
            None => row.track.clone(),
        },
        digest: change.digest.unwrap_or_else(|| row.pinned_digest.clone()),
        interval_ms: change.interval_ms.or(row.interval_ms),
        is_enabled: change.enabled.unwrap_or(row.is_enabled == 1),
    };
    let saving = Saving {
        app: &app,
        db: &db,
        audit: &audit,
    };
    saving.change(&wish, wanted, change.settings).await?;
    shown(&app, &db, &id).await
}

async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    let row = found(&db, &id).await?.row;
    may_change(&caller, &row.kind)?;
    check_seen(&headers, None, row.revision)?;
    let seen = seen(&headers, None)?.map(|_| row.revision);
    let detail = json!({ "plugin": row.plugin_id, "name": row.name });
    let audit = audit(&caller, &db, "installation.delete", &row.id, detail);
    let now = app.clock.now();
    if !db.delete_installation(&row.id, seen, &audit, now).await? {
        return Err(changed_meanwhile(&id));
    }
    app.plugins.apply().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn shown(app: &App, db: &TenantDb, id: &str) -> Result<Shown, ApiError> {
    let wish = found(db, id).await?;
    let catalogue = app.plugins.catalogue().await?;
    let etag = format!("\"{}\"", wish.row.revision);
    Ok((
        [(ETAG, etag)],
        axum::Json(show::wish(app, &catalogue, &wish)?),
    ))
}

async fn found(db: &TenantDb, id: &str) -> Result<Wish, ApiError> {
    Wish::read(db, id).await?.ok_or_else(|| {
        let id: String = id.chars().take(100).collect();
        ApiError::not_found(format!("there is no installation {id:?}"))
    })
}

fn no_approved_version(plugin: &str, error: NotRunnable) -> ApiError {
    match error {
        NotRunnable::Db(error) => error.into(),
        NotRunnable::Reason(_) | NotRunnable::Unknown(_) => {
            let plugin: String = plugin.chars().take(100).collect();
            ApiError::bad_request(
                "no_approved_version",
                format!(
                    "no version of plugin {plugin:?} is approved; an operator does it with: shoal plugin approve {plugin}"
                ),
            )
        }
    }
}

/// What a tenant pays is not the tenant's to change.
fn may_change(caller: &Caller, kind: &str) -> Result<(), ApiError> {
    match kind == Kind::BillingRule.as_str() {
        true => caller.must_be(Role::Operator),
        false => Ok(()),
    }
}

/// The revision that the client saw, from the header or the body.
fn seen(headers: &HeaderMap, in_body: Option<i64>) -> Result<Option<i64>, ApiError> {
    let Some(header) = headers.get(IF_MATCH) else {
        return Ok(in_body);
    };
    let text = header.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(in_body);
    }
    let bare = text.trim_start_matches("W/").trim_matches('"');
    let wrong = || {
        let message = format!("If-Match: {text:?} is not the ETag of an installation");
        ApiError::bad_request("invalid_if_match", message)
    };
    bare.parse().map(Some).map_err(|_| wrong())
}

fn check_seen(headers: &HeaderMap, in_body: Option<i64>, present: i64) -> Result<(), ApiError> {
    match seen(headers, in_body)? {
        Some(seen) if seen != present => {
            let message = format!(
                "it is at revision {present} and not at {seen} any more; look at it again and repeat the change"
            );
            match headers.contains_key(IF_MATCH) {
                true => Err(ApiError::precondition_failed(message)),
                false => Err(ApiError::conflict("changed_meanwhile", message)),
            }
        }
        _ => Ok(()),
    }
}

/// Somebody else was quicker.
fn changed_meanwhile(id: &str) -> ApiError {
    ApiError::conflict(
        "changed_meanwhile",
        format!("{id} was changed or deleted meanwhile; look at it again and repeat the change"),
    )
}

fn audit(caller: &Caller, db: &TenantDb, action: &'static str, id: &str, detail: Value) -> Audit {
    Audit {
        tenant: Some(db.id()),
        actor: caller.actor.clone(),
        action,
        subject: id.to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests;
