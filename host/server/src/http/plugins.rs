//! The catalogue: operators add and approve versions, tenants look at it.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use shoal_model::grant::{Capability, Grants};
use shoal_runtime::{COMPONENT_MAX_BYTES, Manifest};

use super::input::{Json, Path};
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::db::plugins::VersionRow;

pub(super) fn routes() -> Vec<Route> {
    const PLUGINS: &str = "/api/v1/plugins";
    const APPROVE: &str = "/api/v1/plugins/{plugin}/versions/{digest}/approve";
    // One byte more than allowed, so that the runtime can say what is too large.
    let upload = post(add).layer(DefaultBodyLimit::max(COMPONENT_MAX_BYTES + 1));
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
            "Approves a version, which then runs",
            post(approve),
        ),
    ]
}

async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<axum::Json<Value>, ApiError> {
    let versions = app.db.system().versions().await?;
    let is_shown =
        |version: &&VersionRow| caller.role == Role::Operator || version.approval.is_some();
    let shown: Result<Vec<Value>, ApiError> = versions.iter().filter(is_shown).map(shown).collect();
    Ok(axum::Json(json!({ "versions": shown? })))
}

async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, axum::Json<Value>), ApiError> {
    caller.must_be(Role::Operator)?;
    let refused = |refusal: shoal_runtime::Refusal| {
        ApiError::bad_request("plugin_refused", refusal.to_string())
    };
    let plugin = app
        .plugins
        .runtime()
        .load(body.to_vec())
        .await
        .map_err(refused)?;
    let (inspection, manifest) = (plugin.inspection(), plugin.manifest());
    let version = VersionRow {
        digest: inspection.digest.to_string(),
        plugin_id: manifest.id.to_string(),
        version: manifest.version.to_string(),
        kind: inspection.kind.to_string(),
        manifest: manifest.text.clone(),
        size_bytes: inspection.size_bytes as i64,
        added_at_ms: app.clock.now().0,
        approved_grants: None,
        approved_at_ms: None,
        approval: None,
    };
    let is_new = app.db.system().add_version(&version, &body).await?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let stored = app.db.system().version(&version.digest).await?;
    Ok((status, axum::Json(shown(&stored.unwrap_or(version))?)))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Approval {
    /// What is approved; all that is asked when it is left out.
    grants: Option<Vec<String>>,
}

async fn approve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((plugin, digest)): Path<(String, String)>,
    Json(approval): Json<Approval>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let system = app.db.system();
    let version = system
        .version(&digest)
        .await?
        .filter(|version| version.plugin_id == plugin);
    let version = version.ok_or_else(|| {
        let digest: String = digest.chars().take(100).collect();
        ApiError::not_found(format!(
            "plugin {plugin:?} has no version {digest:?}; see: shoal plugin list"
        ))
    })?;
    let asked = manifest(&version)?.asked();
    let grants = match approval.grants {
        None => asked,
        Some(list) => within(&parse_grants(&list)?, &asked, &plugin)?,
    };
    system.approve(&digest, &grants, app.clock.now()).await?;
    app.plugins.reload().await?;
    let stored = system.version(&digest).await?;
    Ok(axum::Json(shown(&stored.unwrap_or(version))?))
}

/// Reads capabilities; the error names the one at fault.
pub(super) fn parse_grants(list: &[String]) -> Result<Grants, ApiError> {
    let parse = |text: &String| text.parse::<Capability>();
    list.iter()
        .map(parse)
        .collect::<Result<_, _>>()
        .map_err(|e| ApiError::bad_request("invalid_grant", e.to_string()))
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

fn manifest(version: &VersionRow) -> Result<Manifest, ApiError> {
    Manifest::parse(&version.manifest).map_err(ApiError::internal)
}

fn shown(version: &VersionRow) -> Result<Value, ApiError> {
    let manifest = manifest(version)?;
    let list = |grants: Grants| grants.0.iter().map(ToString::to_string).collect::<Vec<_>>();
    Ok(json!({
        "plugin": version.plugin_id,
        "version": version.version,
        "digest": version.digest,
        "kind": version.kind,
        "title": manifest.title,
        "description": manifest.description,
        "size_bytes": version.size_bytes,
        "state": if version.approval.is_some() { "approved" } else { "added" },
        "asked": list(manifest.asked()),
        "approved": version.approved()?.map(list),
        "settings": manifest.settings.json(),
        "example": manifest.example,
        "added_at_ms": version.added_at_ms,
        "approved_at_ms": version.approved_at_ms,
    }))
}
