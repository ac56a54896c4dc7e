//! How plugins are: breakers, quarantine, shadow runs, the latest failures, whom they contacted, who stands in.
//!
//! A tenant sees what happened to its own installations; what concerns a version as a whole is the operator's.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post, put};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use shoal_model::breaker;
use shoal_model::grant::{Capability, Destination};
use shoal_runtime::Installed;

use super::input::{Json, Path, Query};
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::db::installations::InstallationRow;
use crate::db::plugin_failures::FailureRow;
use crate::db::plugin_health::{QuarantineRow, ShadowRow};
use crate::db::plugins::VersionRow;
use crate::db::{DbError, TenantDb};
use crate::plugins::Running;

const REASON_MAX_CHARS: usize = 1000;
/// How far back contacts are shown.
const CONTACT_DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;
/// Installations of one answer; of more, those that are worst off come first.
const INSTALLATIONS_MAX: usize = 1000;

pub(super) fn routes() -> Vec<Route> {
    const FALLBACK: &str = "/api/v1/installations/{id}/fallback";
    vec![
        Route::new(
            Method::GET,
            "/api/v1/plugins/{plugin}/health",
            Role::Read,
            "Shows how a plugin's installations and versions are",
            get(health),
        ),
        Route::new(
            Method::GET,
            "/api/v1/plugins/{plugin}/contacts",
            Role::Read,
            "Lists the hosts that a plugin contacted beside those that it may",
            get(contacts),
        ),
        Route::new(
            Method::POST,
            "/api/v1/plugins/{plugin}/versions/{digest}/quarantine",
            Role::Operator,
            "Shuts a version out: it runs for nobody until it is released",
            post(quarantine),
        ),
        Route::new(
            Method::POST,
            "/api/v1/plugins/{plugin}/versions/{digest}/release",
            Role::Operator,
            "Ends a version's quarantine and closes its breakers",
            post(release),
        ),
        Route::new(
            Method::GET,
            "/api/v1/installations/{id}/failures",
            Role::Read,
            "Lists an installation's latest failures, the latest first",
            get(failures),
        ),
        Route::new(
            Method::GET,
            FALLBACK,
            Role::Read,
            "Shows which channel stands in when this one's plugin is down",
            get(fallback),
        ),
        Route::new(
            Method::PUT,
            FALLBACK,
            Role::Write,
            "Sets which channel stands in when this one's plugin is down",
            put(set_fallback),
        ),
    ]
}

/// For which tenant an operator acts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    tenant: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StandIn {
    /// The installation that stands in; `null` leaves it to Shoal.
    to: Option<String>,
}

async fn health(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(plugin): Path<String>,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let is_operator = caller.role == Role::Operator && of.tenant.is_none();
    let db = caller.acting_for(&app, of.tenant).await?;
    let system = app.db.system();
    let mut versions = system.versions().await?;
    versions.retain(|version| version.plugin_id == plugin && version.approval.is_some());
    let snapshot = app.plugins.snapshot();
    let mut running: Vec<&Arc<Running>> = match is_operator {
        true => snapshot.iter().collect(),
        false => snapshot.of_tenant(db.id()).collect(),
    };
    running.retain(|one| one.row.plugin_id == plugin);
    if running.is_empty() && (versions.is_empty() || !is_operator) {
        return Err(no_plugin(&plugin));
    }
    let quarantined = system.quarantined().await?;
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| shown_version(&app, version, &running, &quarantined, is_operator))
        .collect();
    let mut installations: Vec<Value> =
        running.iter().map(|one| shown_running(&app, one)).collect();
    installations.sort_by_key(|shown| (shown["breaker"] == "closed", shown["id"].to_string()));
    installations.truncate(INSTALLATIONS_MAX);
    let shadows = match is_operator {
        true => system.shadows(&plugin).await?,
        false => Vec::new(),
    };
    let shadows: Vec<Value> = shadows.iter().map(shown_shadow).collect();
    Ok(axum::Json(json!({
        "plugin": plugin,
        "versions": versions,
        "installations": installations,
        "shadows": shadows,
    })))
}

fn shown_version(
    app: &App,
    version: &VersionRow,
    running: &[&Arc<Running>],
    quarantined: &[QuarantineRow],
    is_operator: bool,
) -> Value {
    let uses = |one: &&&Arc<Running>| {
        let present = one.version.as_ref();
        present.is_some_and(|present| present.digest == version.digest)
    };
    let quarantine = quarantined.iter().find(|row| row.digest == version.digest);
    // Outcomes are counted over all tenants.
    let calls = is_operator.then(|| app.calls.outcomes(&version.digest));
    json!({
        "version": version.version,
        "digest": version.digest,
        "installations": running.iter().filter(uses).count(),
        "quarantine": quarantine.map(|row| json!({
            "reason": row.reason,
            "actor": row.actor,
            "at_ms": row.at_ms,
        })),
        "calls": calls.unwrap_or_default(),
    })
}

fn shown_running(app: &App, running: &Running) -> Value {
    let breaker = app.calls.breaker(running);
    let state = breaker.as_ref().map(|breaker| breaker.state);
    let until = match state {
        Some(breaker::State::Open { until }) => Some(until.unix_ms()),
        _ => None,
    };
    let (calls, faults) = breaker.as_ref().map_or((0, 0), |breaker| breaker.counts);
    let error = running.state.as_ref().err();
    json!({
        "id": running.row.id,
        "name": running.row.name,
        "version": running.version.as_ref().map(|version| &version.version),
        "error": error,
        "breaker": state.unwrap_or(breaker::State::Closed).as_str(),
        "until_ms": until,
        "openings": breaker.as_ref().map_or(0, |breaker| breaker.openings),
        "reason": breaker.map(|breaker| breaker.reason).filter(|reason| !reason.is_empty()),
        "recent_calls": calls,
        "recent_faults": faults,
    })
}

fn shown_shadow(row: &ShadowRow) -> Value {
    json!({
        "version": row.version,
        "digest": row.digest,
        "state": row.ended.as_deref().unwrap_or("running"),
        "equal": row.equal,
        "differing": row.differing,
        "failed": row.failed,
        "skipped": row.skipped,
        "live": row.live_excerpt,
        "shadow": row.shadow_excerpt,
        "updated_at_ms": row.updated_at_ms,
    })
}

async fn contacts(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(plugin): Path<String>,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let is_operator = caller.role == Role::Operator && of.tenant.is_none();
    let db = caller.acting_for(&app, of.tenant).await?;
    let since = app.clock.now().unix_ms().div_euclid(DAY_MS) - CONTACT_DAYS;
    let rows = match is_operator {
        true => app.db.system().contacts(&plugin, since).await?,
        false => db.contacts(&plugin, since).await?,
    };
    let snapshot = app.plugins.snapshot();
    let is_asked = |one: &&Arc<Running>| {
        one.row.plugin_id == plugin && (is_operator || one.row.tenant() == db.id())
    };
    let running: Vec<&Arc<Running>> = snapshot.iter().filter(is_asked).collect();
    if running.is_empty() && rows.is_empty() {
        return Err(no_plugin(&plugin));
    }
    let installed = running.iter().filter_map(|one| one.state.as_ref().ok());
    let allowed: BTreeSet<_> = installed.flat_map(|one| allowed_by(one)).collect();
    let used = |host: &str| {
        let mut contacted = rows.iter().filter(|row| row.contacts > 0);
        contacted.any(|row| is_at(&row.host, host))
    };
    let allowed: Vec<Value> = allowed
        .iter()
        .map(|(capability, host)| json!({ "capability": capability, "used": used(host) }))
        .collect();
    let contacts: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "version": row.version,
                "host": row.host,
                "contacts": row.contacts,
                "refused": row.refused,
                "last_day_ms": row.last_day * DAY_MS,
            })
        })
        .collect();
    Ok(axum::Json(
        json!({ "plugin": plugin, "contacts": contacts, "allowed": allowed }),
    ))
}

/// What an installation may reach: the capability, and the host that it comes to.
fn allowed_by(installed: &Installed) -> Vec<(String, String)> {
    let host = |to: &Destination| match to {
        Destination::Host { host, port: None } => host.clone(),
        Destination::Host {
            host,
            port: Some(port),
        } => format!("{host}:{port}"),
        Destination::Setting(name) => {
            let setting = installed.settings().get(name).and_then(Value::as_str);
            let url = setting.and_then(|text| text.parse::<http::Uri>().ok());
            let host = url.as_ref().and_then(http::Uri::host).unwrap_or_default();
            host.to_ascii_lowercase()
        }
    };
    let pair = |capability: &Capability| match capability {
        Capability::Http { to, .. } | Capability::Net { to, .. } => {
            Some((capability.to_string(), host(to)))
        }
        _ => None,
    };
    installed.grants().0.iter().filter_map(pair).collect()
}

/// Whether a contact, `host:port`, is one of an allowed host, which may begin with `*.` and end with a port.
fn is_at(contact: &str, allowed: &str) -> bool {
    let host = contact.rsplit_once(':').map_or(contact, |(host, _)| host);
    match allowed.strip_prefix("*.") {
        Some(domain) => host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.ends_with('.')),
        None => contact == allowed || host == allowed,
    }
}

async fn quarantine(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((plugin, digest)): Path<(String, String)>,
    Json(why): Json<Why>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    if why.reason.trim().is_empty() || why.reason.chars().count() > REASON_MAX_CHARS {
        return Err(ApiError::bad_request(
            "invalid_reason",
            format!("say why in 1 to {REASON_MAX_CHARS} characters; the tenants read it"),
        ));
    }
    let version = version(&app, &plugin, &digest).await?;
    app.calls
        .quarantine(&version, &why.reason, &caller.actor)
        .await?;
    shown_quarantine(&app, &version).await
}

async fn release(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((plugin, digest)): Path<(String, String)>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let version = version(&app, &plugin, &digest).await?;
    app.calls.release(&version, &caller.actor).await?;
    shown_quarantine(&app, &version).await
}

async fn shown_quarantine(app: &App, version: &VersionRow) -> Result<axum::Json<Value>, ApiError> {
    let rows = app.db.system().quarantined().await?;
    Ok(axum::Json(shown_version(app, version, &[], &rows, true)))
}

async fn version(app: &App, plugin: &str, digest: &str) -> Result<VersionRow, ApiError> {
    let found = app.db.system().version(digest).await?;
    found
        .filter(|version| version.plugin_id == plugin)
        .ok_or_else(|| {
            let digest: String = digest.chars().take(100).collect();
            ApiError::not_found(format!(
                "plugin {plugin:?} has no version {digest:?}; see: shoal plugin list"
            ))
        })
}

async fn failures(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let db = caller.acting_for(&app, of.tenant).await?;
    let row = installation(&db, &id).await?;
    let rows = db.failures(&row.id).await?;
    let shown: Result<Vec<Value>, ApiError> = rows.iter().map(shown_failure).collect();
    Ok(axum::Json(json!({ "failures": shown? })))
}

fn shown_failure(row: &FailureRow) -> Result<Value, ApiError> {
    let read = |text: &String| -> Result<Value, ApiError> {
        serde_json::from_str(text).map_err(ApiError::internal)
    };
    Ok(json!({
        "at_ms": row.at_ms,
        "plugin": row.plugin_id,
        "version": row.version,
        "digest": row.digest,
        "kind": row.kind,
        "code": row.code,
        "message": row.message,
        "backtrace": read(&row.backtrace)?,
        "log": read(&row.log)?,
        "input": read(&row.input)?,
        "report": read(&row.report)?,
    }))
}

async fn fallback(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let db = caller.acting_for(&app, of.tenant).await?;
    let row = installation(&db, &id).await?;
    Ok(axum::Json(json!({ "to": db.fallback(&row.id).await? })))
}

async fn set_fallback(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
    Json(stand_in): Json<StandIn>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    let row = channel(&db, &id).await?;
    if let Some(to) = &stand_in.to {
        let other = channel(&db, to).await?;
        if other.id == row.id {
            return Err(ApiError::bad_request(
                "invalid_fallback",
                "a channel cannot stand in for itself; name another one",
            ));
        }
    }
    let (to, now) = (stand_in.to.as_deref(), app.clock.now());
    match db.set_fallback(&row.id, to, &caller.actor, now).await {
        Err(DbError::Reference(_)) => Err(no_installation(&id)),
        done => Ok(done?),
    }?;
    Ok(axum::Json(json!({ "to": stand_in.to })))
}

async fn channel(db: &TenantDb, id: &str) -> Result<InstallationRow, ApiError> {
    let row = installation(db, id).await?;
    if row.kind == "channel" {
        return Ok(row);
    }
    Err(ApiError::bad_request(
        "not_a_channel",
        format!(
            "the installation {} is a {}; only channels stand in for channels",
            row.id, row.kind
        ),
    ))
}

async fn installation(db: &TenantDb, id: &str) -> Result<InstallationRow, ApiError> {
    let found = db.installation(id).await?;
    found.ok_or_else(|| no_installation(id))
}

fn no_installation(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    ApiError::not_found(format!("there is no installation {id:?}"))
}

fn no_plugin(plugin: &str) -> ApiError {
    let plugin: String = plugin.chars().take(100).collect();
    ApiError::not_found(format!(
        "no plugin {plugin:?} is enabled here; see: shoal plugin list"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_matched_with_what_is_allowed() {
        for (contact, allowed, wanted) in [
            ("hooks.slack.com:443", "hooks.slack.com", true),
            ("hooks.slack.com:443", "hooks.slack.com:443", true),
            ("hooks.slack.com:443", "hooks.slack.com:80", false),
            ("a.example.com:443", "*.example.com", true),
            ("badexample.com:443", "*.example.com", false),
            ("example.com:443", "*.example.com", false),
        ] {
            assert_eq!(is_at(contact, allowed), wanted, "{contact} {allowed}");
        }
    }
}
