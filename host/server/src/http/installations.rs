//! Installations: a tenant enables plugins, with settings and grants.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{delete, get, patch, post};
use http::{Method, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use shoal_model::InstallationId;
use shoal_model::grant::{Capability, Destination, Kind};
use shoal_runtime::Manifest;

use super::input::{Json, Path, Query};
use super::plugins::parse_grants;
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::db::installations::{InstallationRow, NewInstallation};
use crate::db::{DbError, TenantDb};
use crate::plugins::{NotRunnable, Running, secret_place};
use crate::random::RandomId as _;

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
/// How often it is looked which checks are due; oftener would cost more than it tells. Every interval is a multiple.
const INTERVAL_MIN_MS: i64 = 10_000;
/// A day.
const INTERVAL_MAX_MS: i64 = 86_400_000;
const NAME_MAX_CHARS: usize = 100;
/// Installations of one tenant: each is held in memory ready to run, and looked at in every run of the checks.
const INSTALLATIONS_MAX: usize = 1000;

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
    digest: Option<String>,
    interval_ms: Option<i64>,
    enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    name: Option<String>,
    /// Replaces all settings; secrets that are left out stay.
    settings: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "present")]
    grants: Option<Option<Vec<String>>>,
    /// `null` follows the version approved last.
    #[serde(default, deserialize_with = "present")]
    digest: Option<Option<String>>,
    interval_ms: Option<i64>,
    enabled: Option<bool>,
}

impl Change {
    fn only_disables(&self) -> bool {
        self.enabled == Some(false)
            && self.name.is_none()
            && self.settings.is_none()
            && self.grants.is_none()
            && self.digest.is_none()
            && self.interval_ms.is_none()
    }
}

/// Tells `null` from a field that is left out.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let db = caller.acting_for(&app, of.tenant).await?;
    let mut shown = Vec::new();
    for row in db.installations().await? {
        shown.push(show_row(&app, &db, &row).await?);
    }
    Ok(axum::Json(json!({ "installations": shown })))
}

async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let db = caller.acting_for(&app, of.tenant).await?;
    let row = found(&db, &id).await?;
    Ok(axum::Json(show_row(&app, &db, &row).await?))
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(of): Query<Of>,
    Json(new): Json<New>,
) -> Result<(StatusCode, axum::Json<Value>), ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    let manifest = newest_manifest(&app, &new.plugin).await?;
    may_change(&caller, manifest.kind.as_str())?;
    let is_check = manifest.kind == Kind::Check;
    let wanted = Wanted {
        id: InstallationId::random(),
        name: new.name.unwrap_or_else(|| new.plugin.clone()),
        plugin: new.plugin,
        kind: manifest.kind.to_string(),
        settings: new.settings,
        grants: new.grants,
        digest: new.digest,
        interval_ms: is_check.then(|| new.interval_ms.unwrap_or(INTERVAL_DEFAULT_MS)),
        is_enabled: new.enabled.unwrap_or(true),
    };
    let row = save(&app, &db, wanted, &manifest).await?;
    Ok((
        StatusCode::CREATED,
        axum::Json(show_row(&app, &db, &row).await?),
    ))
}

async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
    Json(change): Json<Change>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    let row = found(&db, &id).await?;
    may_change(&caller, &row.kind)?;
    if change.only_disables() {
        // Nothing is checked: what cannot run any more least of all has to stay enabled.
        db.disable_installation(&row.id).await?;
        app.plugins.apply().await?;
        let row = found(&db, &id).await?;
        return Ok(axum::Json(show_row(&app, &db, &row).await?));
    }
    let manifest = newest_manifest(&app, &row.plugin_id).await?;
    let present = app
        .plugins
        .opened_settings(&row)
        .await
        .map_err(|error| match error {
            NotRunnable::Reason(reason) => ApiError::internal(reason),
            NotRunnable::Db(error) => error.into(),
        })?;
    let settings = match change.settings {
        Some(settings) => with_secrets_kept(settings, present, &row, &manifest)?,
        None => present,
    };
    let present_grants = row
        .grants()?
        .map(|grants| grants.0.iter().map(ToString::to_string).collect());
    let wanted = Wanted {
        id: row.id()?,
        name: change.name.unwrap_or(row.name),
        plugin: row.plugin_id,
        kind: row.kind,
        settings,
        grants: change.grants.unwrap_or(present_grants),
        digest: change.digest.unwrap_or(row.pinned_digest),
        interval_ms: change.interval_ms.or(row.interval_ms),
        is_enabled: change.enabled.unwrap_or(row.is_enabled == 1),
    };
    let row = save(&app, &db, wanted, &manifest).await?;
    Ok(axum::Json(show_row(&app, &db, &row).await?))
}

async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
) -> Result<StatusCode, ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    let row = found(&db, &id).await?;
    may_change(&caller, &row.kind)?;
    db.delete_installation(&row.id).await?;
    app.plugins.apply().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An installation as it is to be, secrets among its settings.
struct Wanted {
    id: InstallationId,
    name: String,
    plugin: String,
    kind: String,
    settings: Map<String, Value>,
    grants: Option<Vec<String>>,
    digest: Option<String>,
    interval_ms: Option<i64>,
    is_enabled: bool,
}

/// Checks an installation, stores it and waits until it is live. Nothing changes when it could not run.
async fn save(
    app: &App,
    db: &TenantDb,
    wanted: Wanted,
    manifest: &Manifest,
) -> Result<InstallationRow, ApiError> {
    check_name(&wanted.name)?;
    check_interval(wanted.interval_ms)?;
    check_beside_others(db, &wanted).await?;
    let grants = wanted.grants.as_deref().map(parse_grants).transpose()?;
    let (settings, secrets) = manifest.settings.split(wanted.settings.clone());
    let seal = |(name, value): (String, Value)| {
        let place = secret_place(db.id(), wanted.id.as_str(), &name);
        let sealed = app.plugins.secrets().seal(&value.to_string(), &place);
        (name, sealed)
    };
    let new = NewInstallation {
        id: wanted.id.clone(),
        name: wanted.name,
        plugin_id: wanted.plugin,
        kind: wanted.kind,
        pinned_digest: wanted.digest,
        settings,
        secrets: secrets.into_iter().map(seal).collect(),
        grants,
        is_enabled: wanted.is_enabled,
        interval_ms: wanted.interval_ms,
    };
    // Held until the change is live.
    let _plugin = app
        .plugins
        .check(&new.as_row(db.id()), wanted.settings)
        .await
        .map_err(|error| match error {
            NotRunnable::Reason(reason) => ApiError::bad_request("not_runnable", reason),
            NotRunnable::Db(error) => error.into(),
        })?;
    match db.put_installation(&new, app.clock.now()).await {
        Ok(()) => {}
        Err(DbError::Exists(_)) => {
            let message = format!(
                "there is an installation {:?} already; give another name",
                new.name
            );
            return Err(ApiError::conflict("installation_exists", message));
        }
        Err(error) => return Err(error.into()),
    }
    app.plugins.apply().await?;
    found(db, new.id.as_str()).await
}

/// Why an installation cannot run, or not as it should.
fn error_of(running: &Arc<Running>) -> Option<String> {
    if let Err(reason) = &running.state {
        return Some(reason.clone());
    }
    let (wanted, reason) = running.held_back.as_ref()?;
    let version = running.version.as_ref()?;
    Some(format!(
        "version {} ({}) was approved last and cannot run here: {reason}; version {} goes on",
        wanted.version, wanted.digest, version.version
    ))
}

/// New settings, with the present secrets that they leave out.
///
/// A secret stays only with the server that it was given for: who may change settings but does not know a secret must
/// not be able to have it sent elsewhere, or without TLS.
fn with_secrets_kept(
    mut settings: Map<String, Value>,
    mut present: Map<String, Value>,
    row: &InstallationRow,
    manifest: &Manifest,
) -> Result<Map<String, Value>, ApiError> {
    let shown = row.settings()?;
    present.retain(|name, _| !shown.contains_key(name) && !settings.contains_key(name));
    let kept: Vec<String> = present.keys().cloned().collect();
    settings.extend(present);
    let Some(secret) = kept.first() else {
        return Ok(settings);
    };
    for name in destinations(manifest) {
        if server(shown.get(&name)) != server(settings.get(&name)) && !kept.contains(&name) {
            return Err(ApiError::bad_request(
                "secret_needed",
                format!("setting {name} names another server, so give the secret {secret} again"),
            ));
        }
    }
    Ok(settings)
}

/// The settings whose URLs say where an installation may connect to.
fn destinations(manifest: &Manifest) -> Vec<String> {
    let asked = manifest.asked();
    let setting = |capability: &Capability| match capability {
        Capability::Http { to, .. }
        | Capability::Net { to, .. }
        | Capability::Secret { to: Some(to), .. } => match to {
            Destination::Setting(name) => Some(name.clone()),
            Destination::Host { .. } => None,
        },
        _ => None,
    };
    asked.0.iter().filter_map(setting).collect()
}

/// Scheme, host and port of a URL.
fn server(url: Option<&Value>) -> Option<(String, String)> {
    let uri: http::Uri = url?.as_str()?.parse().ok()?;
    let authority = uri.authority()?.as_str().to_ascii_lowercase();
    Some((uri.scheme_str()?.to_owned(), authority))
}

/// What a tenant pays is not the tenant's to change.
fn may_change(caller: &Caller, kind: &str) -> Result<(), ApiError> {
    match kind == Kind::BillingRule.as_str() {
        true => caller.must_be(Role::Operator),
        false => Ok(()),
    }
}

async fn check_beside_others(db: &TenantDb, wanted: &Wanted) -> Result<(), ApiError> {
    let installations = db.installations().await?;
    let is_new = installations.iter().all(|row| row.id != wanted.id.as_str());
    if is_new {
        room_for_another(installations.len())?;
    }
    check_only_rule(&installations, wanted)
}

fn room_for_another(present: usize) -> Result<(), ApiError> {
    if present < INSTALLATIONS_MAX {
        return Ok(());
    }
    let message = format!(
        "there are {present} installations, and at most {INSTALLATIONS_MAX} are allowed; delete one first"
    );
    Err(ApiError::conflict("too_many_installations", message))
}

/// A month is priced by one rule; the database refuses a second one too.
fn check_only_rule(installations: &[InstallationRow], wanted: &Wanted) -> Result<(), ApiError> {
    let rule = Kind::BillingRule.as_str();
    if wanted.kind != rule || !wanted.is_enabled {
        return Ok(());
    }
    let other = installations
        .iter()
        .find(|row| row.kind == rule && row.is_enabled == 1 && row.id != wanted.id.as_str());
    let Some(other) = other else {
        return Ok(());
    };
    let message = format!(
        "the billing rule {} ({}) is enabled already; disable it first, or change its settings",
        other.id, other.name
    );
    Err(ApiError::conflict("billing_rule_exists", message))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if (1..=NAME_MAX_CHARS).contains(&name.chars().count()) {
        return Ok(());
    }
    let message = format!(
        "a name has 1 to {NAME_MAX_CHARS} characters; this one has {}",
        name.chars().count()
    );
    Err(ApiError::bad_request("invalid_name", message))
}

fn check_interval(interval_ms: Option<i64>) -> Result<(), ApiError> {
    match interval_ms {
        Some(ms)
            if !(INTERVAL_MIN_MS..=INTERVAL_MAX_MS).contains(&ms) || ms % INTERVAL_MIN_MS != 0 =>
        {
            Err(ApiError::bad_request(
                "invalid_interval",
                format!(
                    "interval_ms is {ms}; it must be a multiple of {INTERVAL_MIN_MS} from {INTERVAL_MIN_MS} to {INTERVAL_MAX_MS}"
                ),
            ))
        }
        _ => Ok(()),
    }
}

async fn found(db: &TenantDb, id: &str) -> Result<InstallationRow, ApiError> {
    let row = db.installation(id).await?;
    row.ok_or_else(|| {
        let id: String = id.chars().take(100).collect();
        ApiError::not_found(format!("there is no installation {id:?}"))
    })
}

/// The manifest by which settings are parted into what may be shown and what may not.
async fn newest_manifest(app: &App, plugin: &str) -> Result<Manifest, ApiError> {
    let versions = app.db.system().versions().await?;
    let approved = versions
        .iter()
        .find(|version| version.plugin_id == plugin && version.approval.is_some());
    let version = approved.ok_or_else(|| {
        let plugin: String = plugin.chars().take(100).collect();
        ApiError::bad_request(
            "no_approved_version",
            format!("no version of plugin {plugin:?} is approved; an operator does it with: shoal plugin approve {plugin}"),
        )
    })?;
    Manifest::parse(&version.manifest).map_err(ApiError::internal)
}

async fn show_row(app: &App, db: &TenantDb, row: &InstallationRow) -> Result<Value, ApiError> {
    let mut settings = row.settings()?;
    for secret in db.installation_secrets(&row.id).await? {
        settings.insert(secret.name, json!({ "is_set": true }));
    }
    let snapshot = app.plugins.snapshot();
    let running = snapshot.installation(row.tenant(), &row.id()?);
    let version = running.and_then(|running| running.version.as_ref());
    Ok(json!({
        "id": row.id,
        "name": row.name,
        "plugin": row.plugin_id,
        "kind": row.kind,
        "enabled": row.is_enabled == 1,
        "settings": settings,
        "pinned_digest": row.pinned_digest,
        "interval_ms": row.interval_ms,
        "digest": version.map(|version| &version.digest),
        "version": version.map(|version| &version.version),
        "grants": running.and_then(|r| r.state.as_ref().ok()).map(|installed| {
            installed.grants().0.iter().map(ToString::to_string).collect::<Vec<_>>()
        }),
        "error": running.and_then(error_of),
        "created_at_ms": row.created_at_ms,
    }))
}

#[cfg(test)]
mod tests;
