//! The catalogue: operators add, approve and withdraw versions, tenants look at it.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use shoal_model::grant::{Capability, Grants};
use shoal_runtime::LARGE_COMPONENT_MAX_BYTES;

use super::input::{Json, Path, Query};
use super::releases::{by, track_name};
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::audit::Audit;
use crate::auth::Role;
use crate::db::plugins::{Approval, VersionRow};
use crate::db::tracks::STABLE;
use crate::plugins::{Approve, Catalogue, Known, NotRunnable, Publish};

pub(super) fn routes() -> Vec<Route> {
    const PLUGINS: &str = "/api/v1/plugins";
    const APPROVE: &str = "/api/v1/plugins/{plugin}/versions/{digest}/approve";
    const DIFF: &str = "/api/v1/plugins/{plugin}/versions/{digest}/diff";
    const WITHDRAW: &str = "/api/v1/plugins/{plugin}/versions/{digest}/withdraw";
    // One byte more than allowed, so that the runtime can say what is too large.
    let upload = post(add).layer(DefaultBodyLimit::max(LARGE_COMPONENT_MAX_BYTES + 1));
    vec![
        Route::new(
            Method::GET,
            PLUGINS,
            Role::Read,
            "Lists plugins and their versions",
            get(list),
        ),
        Route::new(
            Method::POST,
            PLUGINS,
            Role::Operator,
            "Adds a version: the body is the component",
            upload,
        ),
        Route::new(
            Method::POST,
            APPROVE,
            Role::Operator,
            "Approves a version and, unless told otherwise, publishes it",
            post(approve),
        ),
        Route::new(
            Method::GET,
            DIFF,
            Role::Operator,
            "Compares what a version asks for with what the active one was approved for",
            get(diff),
        ),
        Route::new(
            Method::POST,
            WITHDRAW,
            Role::Operator,
            "Withdraws a version's approval, so that it runs nowhere",
            post(withdraw),
        ),
    ]
}

async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<axum::Json<Value>, ApiError> {
    let catalogue = app.plugins.catalogue().await?;
    let is_shown =
        |known: &&Arc<Known>| caller.role == Role::Operator || known.row.approval.is_some();
    let shown: Result<Vec<Value>, ApiError> = catalogue
        .versions()
        .into_iter()
        .filter(is_shown)
        .map(|known| shown(&catalogue, known, &caller))
        .collect();
    Ok(axum::Json(json!({ "versions": shown? })))
}

async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, axum::Json<Value>), ApiError> {
    caller.must_be(Role::Operator)?;
    let prepared = app.plugins.prepare(body.to_vec()).await;
    let prepared = prepared.map_err(|error| refused("plugin_refused", error))?;
    let version = prepared.version;
    let audit = Audit {
        tenant: None,
        actor: caller.actor.clone(),
        action: "plugin.add",
        subject: version.plugin_id.clone(),
        detail: json!({
            "version": version.version,
            "digest": version.digest,
            "publisher": version.publisher,
        }),
    };
    let is_new = app.db.system().add_version(&version, &body, &audit).await?;
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    let catalogue = app.plugins.catalogue().await?;
    let known = found(&catalogue, &version.plugin_id, &version.digest)?;
    let mut shown = shown(&catalogue, known, &caller)?;
    shown["warning"] = prepared.warning.into();
    Ok((status, axum::Json(shown)))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct NewApproval {
    /// What is approved; all that is asked when it is left out.
    grants: Option<Vec<String>>,
    /// Whether it is published too; yes when it is left out.
    publish: Option<bool>,
    /// On which track; stable when it is left out.
    track: Option<String>,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    reason: String,
}

async fn approve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((plugin, digest)): Path<(String, String)>,
    Json(approval): Json<NewApproval>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let by = by(&caller, approval.reason)?;
    let catalogue = app.plugins.catalogue().await?;
    let known = found(&catalogue, &plugin, &digest)?;
    let asked = known.manifest.asked();
    let grants = match approval.grants {
        None => asked,
        Some(list) => within(&parse_grants(&list)?, &asked, &plugin)?,
    };
    if approval.publish.unwrap_or(true) {
        let publish = Publish {
            plugin: plugin.clone(),
            digest: digest.clone(),
            track: track_name(approval.track.unwrap_or_else(|| STABLE.to_owned()))?,
            trial: None,
            approve: Approve::Now(grants),
            is_forced: approval.force,
        };
        app.plugins.publish(&publish, &by).await.map_err(not_done)?;
    } else {
        let approval = Approval {
            digest: digest.clone(),
            grants,
            by: by.actor.clone(),
        };
        app.plugins
            .approve(known, approval, &by)
            .await
            .map_err(not_done)?;
    }
    let catalogue = app.plugins.catalogue().await?;
    let known = found(&catalogue, &plugin, &digest)?;
    Ok(axum::Json(shown(&catalogue, known, &caller)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Against {
    track: Option<String>,
}

async fn diff(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((plugin, digest)): Path<(String, String)>,
    Query(against): Query<Against>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let catalogue = app.plugins.catalogue().await?;
    let known = found(&catalogue, &plugin, &digest)?;
    let track = against.track.unwrap_or_else(|| STABLE.to_owned());
    let active = catalogue.track(&plugin, &track);
    let active = active.and_then(|track| track.active_digest.as_deref());
    let active = active.and_then(|digest| catalogue.version(digest));
    let before = match active {
        Some(active) => active.row.approved()?.unwrap_or_default(),
        None => Grants::default(),
    };
    let asked = known.manifest.asked();
    let texts =
        |grants: Vec<&Capability>| grants.iter().map(ToString::to_string).collect::<Vec<_>>();
    let added = texts(asked.missing_in(&before).collect());
    let reasons: Vec<Value> = known
        .manifest
        .capabilities
        .iter()
        .flat_map(|asked| {
            asked
                .capabilities
                .iter()
                .map(move |one| (one, &asked.reason))
        })
        .map(|(one, reason)| json!({ "capability": one.to_string(), "reason": reason }))
        .collect();
    Ok(axum::Json(json!({
        "plugin": plugin,
        "track": track,
        "version": known.row.version,
        "digest": digest,
        "against": active.map(|active| json!({
            "version": active.row.version,
            "digest": active.row.digest,
        })),
        "needs_approval": !added.is_empty(),
        "added": added,
        "removed": texts(before.missing_in(&asked).collect()),
        "unchanged": texts(asked.intersection(&before).0.iter().collect()),
        "reasons": reasons,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Withdrawal {
    #[serde(default)]
    force: bool,
    #[serde(default)]
    reason: String,
}

async fn withdraw(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((plugin, digest)): Path<(String, String)>,
    Json(withdrawal): Json<Withdrawal>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let by = by(&caller, withdrawal.reason)?;
    let plugins = &app.plugins;
    plugins
        .withdraw(&plugin, &digest, withdrawal.force, &by)
        .await
        .map_err(not_done)?;
    let catalogue = plugins.catalogue().await?;
    let known = found(&catalogue, &plugin, &digest)?;
    Ok(axum::Json(shown(&catalogue, known, &caller)?))
}

/// Reads capabilities; the error names the one at fault.
pub(super) fn parse_grants(list: &[String]) -> Result<Grants, ApiError> {
    let parse = |text: &String| text.parse::<Capability>();
    list.iter()
        .map(parse)
        .collect::<Result<_, _>>()
        .map_err(|e| ApiError::bad_request("invalid_grant", e.to_string()))
}

/// What could not be done to a track or a version.
pub(super) fn not_done(error: NotRunnable) -> ApiError {
    match error {
        NotRunnable::Unknown(message) => ApiError::not_found(message),
        error => refused("not_released", error),
    }
}

/// Whose fault it is that something cannot run.
pub(super) fn refused(code: &'static str, error: NotRunnable) -> ApiError {
    match error {
        NotRunnable::Reason(reason) | NotRunnable::Unknown(reason) => {
            ApiError::bad_request(code, reason)
        }
        NotRunnable::Db(error) => error.into(),
    }
}

fn found<'a>(
    catalogue: &'a Catalogue,
    plugin: &str,
    digest: &str,
) -> Result<&'a Arc<Known>, ApiError> {
    catalogue.found(plugin, digest).map_err(not_done)
}

fn within(grants: &Grants, asked: &Grants, plugin: &str) -> Result<Grants, ApiError> {
    match grants.missing_in(asked).next() {
        None => Ok(grants.clone()),
        Some(beyond) => Err(ApiError::bad_request(
            "grant_not_asked",
            format!("{plugin} does not ask for {beyond}; approve only what it asks for"),
        )),
    }
}

fn shown(catalogue: &Catalogue, known: &Known, caller: &Caller) -> Result<Value, ApiError> {
    let (row, manifest): (&VersionRow, _) = (&known.row, &known.manifest);
    let list = |grants: Grants| grants.0.iter().map(ToString::to_string).collect::<Vec<_>>();
    let tracks = catalogue.tracks_of(&row.plugin_id);
    let on = |digest: fn(&crate::db::tracks::TrackRow) -> &Option<String>| {
        let is_it = |track: &&&_| digest(track).as_ref() == Some(&row.digest);
        let names = tracks.iter().filter(is_it).map(|track| &track.track);
        names.collect::<Vec<_>>()
    };
    let mut shown = json!({
        "plugin": row.plugin_id,
        "version": row.version,
        "digest": row.digest,
        "kind": row.kind,
        "title": manifest.title,
        "description": manifest.description,
        "size_bytes": row.size_bytes,
        "state": if row.approval.is_some() { "approved" } else { "added" },
        "signature": row.signature_state,
        "publisher": row.publisher,
        "golden_tests_passed": row.golden_passed,
        "active_on": on(|track| &track.active_digest),
        "tried_on": on(|track| &track.candidate_digest),
        "asked": list(manifest.asked()),
        "approved": row.approved()?.map(list),
        "approved_hash": row.approved_hash,
        "settings": manifest.settings.json(),
        "example": manifest.example,
        "added_at_ms": row.added_at_ms,
        "approved_at_ms": row.approved_at_ms,
    });
    // Who the operator's people are is not for tenants.
    if caller.role == Role::Operator {
        shown["approved_by"] = json!(row.approved_by);
    }
    Ok(shown)
}
