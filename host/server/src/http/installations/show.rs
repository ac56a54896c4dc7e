//! How an installation looks: never with a secret.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::ApiError;
use crate::app::App;
use crate::db::plugins::grants_hash;
use crate::plugins::{Catalogue, Running, Wish};

/// An installation as the API shows it.
pub(super) fn wish(app: &App, catalogue: &Catalogue, wish: &Wish) -> Result<Value, ApiError> {
    let row = &wish.row;
    let snapshot = app.plugins.snapshot();
    let running = snapshot.installation(row.tenant(), &row.id()?);
    let version = running.and_then(|running| running.version.as_ref());
    let chosen = catalogue.chosen(row)?;
    let digest = version.or(chosen.map(|known| &known.row));
    let settings = settings(catalogue, wish, digest.map(|version| &*version.digest))?;
    let installed = running.and_then(|running| running.state.as_ref().ok());
    let shadow = running.and_then(|running| running.shadow.as_ref());
    let missing = running.map_or(&[][..], |running| &running.missing);
    let granted = row.grants()?;
    let list = |grants: &shoal_model::grant::Grants| {
        grants.0.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    Ok(json!({
        "id": row.id,
        "name": row.name,
        "plugin": row.plugin_id,
        "kind": row.kind,
        "enabled": row.is_enabled == 1,
        "settings": settings,
        "track": row.track,
        "pinned_digest": row.pinned_digest,
        "interval_ms": row.interval_ms,
        "digest": version.map(|version| &version.digest),
        "version": version.map(|version| &version.version),
        "shadow_digest": shadow.map(|shadow| &shadow.version.digest),
        "granted": granted.as_ref().map(list),
        "grants": installed.map(|installed| list(installed.grants())),
        "effective_hash": installed.map(|installed| grants_hash(installed.grants())),
        "missing": missing.iter().map(|one| json!({
            "capability": one.capability.to_string(),
            "by": one.by.as_str(),
        })).collect::<Vec<_>>(),
        "error": running.and_then(error_of),
        "created_at_ms": row.created_at_ms,
        "revision": row.revision,
    }))
}

/// The settings for a version; of what is or ever was a secret, only whether it is set.
fn settings(
    catalogue: &Catalogue,
    wish: &Wish,
    digest: Option<&str>,
) -> Result<Map<String, Value>, ApiError> {
    let (mut shown, sealed) = wish.shown(digest)?;
    let is_set = json!({ "is_set": true });
    for name in catalogue.secret_names(&wish.row.plugin_id) {
        if let Some(value) = shown.get_mut(&name) {
            *value = is_set.clone();
        }
    }
    shown.extend(sealed.into_iter().map(|name| (name, is_set.clone())));
    Ok(shown)
}

/// Why an installation cannot run, or not as it should.
fn error_of(running: &Arc<Running>) -> Option<String> {
    if let Err(reason) = &running.state {
        return Some(reason.clone());
    }
    let (wanted, reason) = running.held_back.as_ref()?;
    let version = running.version.as_ref()?;
    Some(format!(
        "version {} ({}) was published last and cannot run here: {reason}; version {} goes on",
        wanted.version, wanted.digest, version.version
    ))
}
