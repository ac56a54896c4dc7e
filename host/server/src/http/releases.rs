//! Tracks: operators publish, try, promote, abandon, roll back and withdraw versions.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use shoal_model::TenantId;

use super::input::{Json, Path};
use super::plugins::not_done;
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::db::tracks::{ReleaseRow, TrackRow, Trial};
use crate::plugins::{Approve, By, Catalogue, Publish, Released, RollBack};

pub(super) fn routes() -> Vec<Route> {
    const TRACKS: &str = "/api/v1/plugins/{plugin}/tracks";
    const HISTORY: &str = "/api/v1/plugins/{plugin}/history";
    const PUBLISH: &str = "/api/v1/plugins/{plugin}/tracks/{track}/publish";
    const PROMOTE: &str = "/api/v1/plugins/{plugin}/tracks/{track}/promote";
    const ABANDON: &str = "/api/v1/plugins/{plugin}/tracks/{track}/abandon";
    const ROLLBACK: &str = "/api/v1/plugins/{plugin}/tracks/{track}/rollback";
    let route =
        |method, path, summary, handler| Route::new(method, path, Role::Operator, summary, handler);
    vec![
        route(
            Method::GET,
            TRACKS,
            "Lists a plugin's tracks: what is active, what was, what is tried",
            get(tracks),
        ),
        route(
            Method::GET,
            HISTORY,
            "Lists what was done to a plugin's tracks, the latest first",
            get(history),
        ),
        route(
            Method::POST,
            PUBLISH,
            "Publishes a version on a track, or tries it for some tenants or as a shadow",
            post(publish),
        ),
        route(
            Method::POST,
            PROMOTE,
            "Makes the version that is tried the active one",
            post(promote),
        ),
        route(
            Method::POST,
            ABANDON,
            "Ends the trial of a version",
            post(abandon),
        ),
        route(
            Method::POST,
            ROLLBACK,
            "Goes back to a version that was active before",
            post(roll_back),
        ),
    ]
}

/// Releases that are shown.
const HISTORY_MAX: i64 = 200;
const TRACK_MAX_CHARS: usize = 40;
const REASON_MAX_CHARS: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRelease {
    digest: String,
    /// Keys of the tenants that it is tried for.
    canary: Option<Vec<String>>,
    /// Equal answers after which a shadow becomes active.
    shadow: Option<u32>,
    #[serde(default)]
    inherit: bool,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Promotion {
    #[serde(default)]
    force: bool,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ending {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoingBack {
    to: Option<String>,
    #[serde(default)]
    reason: String,
}

/// Keys of tenants by number.
type Keys = HashMap<TenantId, String>;

async fn tracks(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(plugin): Path<String>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let catalogue = app.plugins.catalogue().await?;
    let keys = keys(&app).await?;
    let tracks = catalogue.tracks_of(&plugin);
    let tracks: Result<Vec<Value>, ApiError> = tracks
        .into_iter()
        .map(|track| shown(track, &catalogue, &keys))
        .collect();
    Ok(axum::Json(json!({ "tracks": tracks? })))
}

async fn history(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(plugin): Path<String>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let catalogue = app.plugins.catalogue().await?;
    let releases = app.db.system().releases(&plugin, HISTORY_MAX).await?;
    let shown = |release: &ReleaseRow| {
        json!({
            "track": release.track,
            "seq": release.seq,
            "action": release.action,
            "digest": release.digest,
            "version": catalogue.version(&release.digest).map(|known| &known.row.version),
            "actor": release.actor,
            "reason": release.reason,
            "at_ms": release.at_ms,
        })
    };
    let releases: Vec<Value> = releases.iter().map(shown).collect();
    Ok(axum::Json(json!({ "releases": releases })))
}

async fn publish(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((plugin, track)): Path<(String, String)>,
    Json(new): Json<NewRelease>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let by = by(&caller, new.reason)?;
    let trial = trial(&app, new.canary, new.shadow).await?;
    let publish = Publish {
        plugin,
        digest: new.digest,
        track: track_name(track)?,
        trial,
        approve: match new.inherit {
            true => Approve::Inherited,
            false => Approve::Before,
        },
        is_forced: new.force,
    };
    let released = app.plugins.publish(&publish, &by).await;
    answer(&app, released.map_err(not_done)?).await
}

async fn promote(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((plugin, track)): Path<(String, String)>,
    Json(promotion): Json<Promotion>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let by = by(&caller, promotion.reason)?;
    let plugins = &app.plugins;
    let released = plugins.promote(&plugin, &track, promotion.force, &by).await;
    answer(&app, released.map_err(not_done)?).await
}

async fn abandon(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((plugin, track)): Path<(String, String)>,
    Json(ending): Json<Ending>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let by = by(&caller, ending.reason)?;
    let released = app.plugins.abandon(&plugin, &track, &by).await;
    answer(&app, released.map_err(not_done)?).await
}

async fn roll_back(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((plugin, track)): Path<(String, String)>,
    Json(back): Json<GoingBack>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let by = by(&caller, back.reason)?;
    let back = RollBack {
        plugin,
        track,
        from: None,
        to: back.to,
    };
    let released = app.plugins.roll_back(&back, &by).await;
    answer(&app, released.map_err(not_done)?).await
}

/// Who does it, and the reason that they give.
pub(super) fn by(caller: &Caller, reason: String) -> Result<By, ApiError> {
    let length = reason.chars().count();
    if length > REASON_MAX_CHARS {
        let message =
            format!("a reason has {REASON_MAX_CHARS} characters at most; this one has {length}");
        return Err(ApiError::bad_request("invalid_reason", message));
    }
    Ok(By {
        actor: caller.actor.clone(),
        reason,
    })
}

/// Reads the name of a track.
pub(super) fn track_name(name: String) -> Result<String, ApiError> {
    let is_name = (1..=TRACK_MAX_CHARS).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_name {
        return Ok(name);
    }
    let name: String = name.chars().take(100).collect();
    Err(ApiError::bad_request(
        "invalid_track",
        format!(
            "{name:?} is not a track: 1 to {TRACK_MAX_CHARS} of a-z, 0-9 and '-', such as stable or beta"
        ),
    ))
}

async fn trial(
    app: &App,
    canary: Option<Vec<String>>,
    shadow: Option<u32>,
) -> Result<Option<Trial>, ApiError> {
    let keys = match (canary, shadow) {
        (None, None) => return Ok(None),
        (None, Some(needed)) => return Ok(Some(Trial::Shadow { needed })),
        (Some(_), Some(_)) => {
            let message = "a version is tried as canary or as shadow; give one of them";
            return Err(ApiError::bad_request("invalid_trial", message));
        }
        (Some(keys), None) => keys,
    };
    let mut tenants = Vec::new();
    for key in keys {
        let found = app.db.system().tenant_by_key(&key).await?;
        let missing =
            || ApiError::bad_request("invalid_trial", format!("there is no tenant {key:?}"));
        tenants.push(found.ok_or_else(missing)?.id());
    }
    tenants.sort_unstable();
    tenants.dedup();
    Ok(Some(Trial::Canary(tenants)))
}

async fn keys(app: &App) -> Result<Keys, ApiError> {
    let tenants = app.db.system().tenants().await?;
    Ok(tenants.into_iter().map(|one| (one.id(), one.key)).collect())
}

async fn answer(app: &App, released: Released) -> Result<axum::Json<Value>, ApiError> {
    let catalogue = app.plugins.catalogue().await?;
    let keys = keys(app).await?;
    let held_back: Vec<Value> = released
        .held_back
        .iter()
        .map(|one| {
            json!({
                "tenant": keys.get(&one.tenant),
                "installation": one.installation,
                "reason": one.reason,
            })
        })
        .collect();
    Ok(axum::Json(json!({
        "track": shown(&released.track, &catalogue, &keys)?,
        "changed": released.has_changed,
        "held_back": held_back,
    })))
}

fn shown(track: &TrackRow, catalogue: &Catalogue, keys: &Keys) -> Result<Value, ApiError> {
    let version = |digest: &str| {
        json!({
            "digest": digest,
            "version": catalogue.version(digest).map(|known| &known.row.version),
        })
    };
    let candidate = track.candidate()?.map(|(digest, trial)| {
        let mut shown = version(digest);
        match trial {
            Trial::Canary(tenants) => {
                shown["mode"] = "canary".into();
                shown["tenants"] = json!(tenants.iter().map(|id| keys.get(id)).collect::<Vec<_>>());
                shown["needed"] = Value::Null;
            }
            Trial::Shadow { needed } => {
                shown["mode"] = "shadow".into();
                shown["tenants"] = Value::Null;
                shown["needed"] = needed.into();
            }
        }
        shown
    });
    let former: Vec<Value> = track.former()?.iter().map(|one| version(one)).collect();
    Ok(json!({
        "plugin": track.plugin_id,
        "track": track.track,
        "active": track.active_digest.as_deref().map(version),
        "former": former,
        "candidate": candidate,
        "revision": track.revision,
    }))
}
