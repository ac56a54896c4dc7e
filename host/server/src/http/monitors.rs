//! Monitors: conditions on queries.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{delete, get, post, put};
use http::{Method, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use shoal_model::MonitorId;
use shoal_model::alert::{Comparison, Rule, Severity, Thresholds};

use super::input::{Json, Path, Query};
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::db::TenantDb;
use crate::db::monitors::{self, Definition, Monitor};
use crate::db::notifications::CHANNELS_MAX;
use crate::monitoring::evaluate::MONITORS_MAX;
use crate::random::RandomId as _;
use crate::telemetry::QueryError;

const NAME_MAX_CHARS: usize = 200;
/// As in Mackerel.
const MEMO_MAX_CHARS: usize = 2048;
/// Long enough for a page of PromQL.
const QUERY_MAX_BYTES: usize = 10_000;
/// As in Mackerel.
const ATTEMPTS_MAX: u32 = 10;

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/api/v1/monitors";
    const ONE: &str = "/api/v1/monitors/{id}";
    vec![
        Route::new(
            Method::GET,
            ALL,
            Role::Read,
            "Lists the monitors",
            get(list),
        ),
        Route::new(
            Method::POST,
            ALL,
            Role::Write,
            "Makes a monitor",
            post(create),
        ),
        Route::new(Method::GET, ONE, Role::Read, "Shows a monitor", get(show)),
        Route::new(
            Method::PUT,
            ONE,
            Role::Write,
            "Replaces a monitor",
            put(replace),
        ),
        Route::new(
            Method::DELETE,
            ONE,
            Role::Write,
            "Deletes a monitor and closes its alerts",
            delete(remove),
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
struct Wanted {
    name: String,
    query: String,
    comparison: String,
    warning: Option<f64>,
    critical: Option<f64>,
    max_attempts: Option<u32>,
    missing: Option<String>,
    memo: Option<String>,
    enabled: Option<bool>,
    #[serde(default, deserialize_with = "ids")]
    channels: Option<Vec<String>>,
}

/// Installations, each once, in the order in which they were given.
fn ids<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let given: Option<Vec<String>> = Option::deserialize(from)?;
    Ok(given.map(|given| {
        let mut once = Vec::new();
        for id in given {
            if !once.contains(&id) {
                once.push(id);
            }
        }
        once
    }))
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let db = caller.acting_for(&app, of.tenant).await?;
    let monitors = db.monitors(MONITORS_MAX).await?;
    Ok(axum::Json(
        json!({ "monitors": monitors.iter().map(shown).collect::<Vec<_>>() }),
    ))
}

async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let db = caller.acting_for(&app, of.tenant).await?;
    Ok(axum::Json(shown(&found(&db, &id).await?)))
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(of): Query<Of>,
    Json(wanted): Json<Wanted>,
) -> Result<(StatusCode, axum::Json<Value>), ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    let definition = checked(&app, &db, wanted).await?;
    let id = MonitorId::random();
    let is_added = db
        .add_monitor(&id, &definition, MONITORS_MAX, app.clock.now())
        .await?;
    if !is_added {
        let message = format!("there are {MONITORS_MAX} monitors already; delete one first");
        return Err(ApiError::conflict("too_many_monitors", message));
    }
    audit(&caller, &db, id.as_str(), "created");
    let monitor = found(&db, id.as_str()).await?;
    Ok((StatusCode::CREATED, axum::Json(shown(&monitor))))
}

async fn replace(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
    Json(wanted): Json<Wanted>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    found(&db, &id).await?;
    let definition = checked(&app, &db, wanted).await?;
    if !db.replace_monitor(&id, &definition).await? {
        return Err(not_found(&id));
    }
    audit(&caller, &db, &id, "replaced");
    Ok(axum::Json(shown(&found(&db, &id).await?)))
}

async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(of): Query<Of>,
) -> Result<StatusCode, ApiError> {
    caller.must_be(Role::Write)?;
    let db = caller.acting_for(&app, of.tenant).await?;
    let closed = db.delete_monitor(&id, app.clock.now()).await?;
    let closed = closed.ok_or_else(|| not_found(&id))?;
    if closed > 0 {
        app.to_tell.notify_one();
    }
    audit(&caller, &db, &id, "deleted");
    Ok(StatusCode::NO_CONTENT)
}

fn audit(caller: &Caller, db: &TenantDb, id: &str, what: &str) {
    tracing::info!(
        audit = true,
        tenant.id = db.id().0,
        by.tenant = caller.tenant.key,
        by.role = caller.role.as_str(),
        monitor.id = id,
        "monitor {what}"
    );
}

async fn found(db: &TenantDb, id: &str) -> Result<Monitor, ApiError> {
    db.monitor(id).await?.ok_or_else(|| not_found(id))
}

fn not_found(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    ApiError::not_found(format!("there is no monitor {id:?}"))
}

fn shown(monitor: &Monitor) -> Value {
    let definition = &monitor.definition;
    let (thresholds, rule) = (&definition.thresholds, &definition.rule);
    let error = monitor.last_error.as_ref();
    json!({
        "id": monitor.id.as_str(),
        "name": definition.name,
        "query": definition.query,
        "comparison": monitors::comparison_text(thresholds.comparison),
        "warning": thresholds.warning,
        "critical": thresholds.critical,
        "max_attempts": rule.max_attempts,
        "missing": monitors::missing_text(rule.missing_is),
        "memo": definition.memo,
        "enabled": definition.is_enabled,
        "channels": definition.channels,
        "created_at_ms": monitor.created_at.0,
        "evaluated_at_ms": monitor.last_slot.map(|slot| slot.0),
        "last_error": error.map(|(text, _)| text),
        "last_error_at_ms": error.map(|(_, at)| at.0),
    })
}

/// What is wanted, if it makes sense.
async fn checked(app: &App, db: &TenantDb, wanted: Wanted) -> Result<Definition, ApiError> {
    let definition = parsed(wanted)?;
    check_query(app, db, &definition.query).await?;
    if let Some(channels) = &definition.channels {
        check_channels(db, channels).await?;
    }
    Ok(definition)
}

fn parsed(wanted: Wanted) -> Result<Definition, ApiError> {
    let memo = wanted.memo.unwrap_or_default();
    check_length("name", &wanted.name, 1, NAME_MAX_CHARS)?;
    check_length("memo", &memo, 0, MEMO_MAX_CHARS)?;
    let comparison = monitors::comparison(&wanted.comparison).ok_or_else(|| {
        let given: String = wanted.comparison.chars().take(100).collect();
        invalid(format!(
            "comparison is {given:?}; it must be \"above\" or \"below\""
        ))
    })?;
    let missing = wanted.missing.as_deref().unwrap_or("keep");
    let missing_is = monitors::missing(missing).ok_or_else(|| {
        let given: String = missing.chars().take(100).collect();
        invalid(format!(
            "missing is {given:?}; it must be \"keep\", \"ok\", \"unknown\", \"warning\" or \"critical\""
        ))
    })?;
    let max_attempts = wanted.max_attempts.unwrap_or(1);
    if !(1..=ATTEMPTS_MAX).contains(&max_attempts) {
        return Err(invalid(format!(
            "max_attempts is {max_attempts}; it must be from 1 to {ATTEMPTS_MAX}"
        )));
    }
    let thresholds = Thresholds {
        comparison,
        warning: wanted.warning,
        critical: wanted.critical,
    };
    check_thresholds(&thresholds)?;
    Ok(Definition {
        name: wanted.name,
        query: wanted.query,
        thresholds,
        rule: Rule {
            max_attempts,
            missing_is,
        },
        memo,
        is_enabled: wanted.enabled.unwrap_or(true),
        channels: wanted.channels,
    })
}

fn check_length(what: &str, text: &str, min: usize, max: usize) -> Result<(), ApiError> {
    let length = text.chars().count();
    if (min..=max).contains(&length) {
        return Ok(());
    }
    Err(invalid(format!(
        "{what} has {length} characters; it must have {min} to {max}"
    )))
}

/// At least one threshold, and the critical one not before the warning one.
fn check_thresholds(thresholds: &Thresholds) -> Result<(), ApiError> {
    let (warning, critical) = match (thresholds.warning, thresholds.critical) {
        (None, None) => {
            return Err(invalid(
                "there is no threshold; give warning, critical or both".to_owned(),
            ));
        }
        (Some(warning), Some(critical)) => (warning, critical),
        _ => return Ok(()),
    };
    // Judged as a value it must be at least as bad as the warning it is beyond.
    let is_in_order = match thresholds.comparison {
        Comparison::Above => warning <= critical,
        Comparison::Below => warning >= critical,
    };
    if is_in_order {
        return Ok(());
    }
    let comparison = monitors::comparison_text(thresholds.comparison);
    Err(invalid(format!(
        "with comparison {comparison:?} the {} threshold {critical} would hide the {} threshold {warning}; exchange them",
        Severity::Critical.as_str(),
        Severity::Warning.as_str(),
    )))
}

/// Whether a query can be evaluated: it is, at this moment, which tells its faults in the evaluator's own words.
async fn check_query(app: &App, db: &TenantDb, query: &str) -> Result<(), ApiError> {
    if query.trim().is_empty() {
        return Err(invalid(
            "query is empty; give a PromQL expression".to_owned(),
        ));
    }
    if query.len() > QUERY_MAX_BYTES {
        return Err(invalid(format!(
            "query has {} bytes; it must have {QUERY_MAX_BYTES} at most",
            query.len()
        )));
    }
    let asked = app.telemetry.query.instant(db.id(), query, app.clock.now());
    match tokio::time::timeout(QUERY_CHECK_MAX, asked).await {
        Ok(Err(QueryError::Refused(reason))) => Err(invalid(format!("query: {reason}"))),
        // That it is slow, or that the store is away, says nothing against it.
        Ok(Err(QueryError::Unavailable(_)) | Ok(_)) | Err(_) => Ok(()),
    }
}

/// How long a new query may take to show a fault.
const QUERY_CHECK_MAX: std::time::Duration = std::time::Duration::from_secs(5);

async fn check_channels(db: &TenantDb, channels: &[String]) -> Result<(), ApiError> {
    if channels.len() as i64 > CHANNELS_MAX {
        return Err(invalid(format!(
            "channels names {} installations; {CHANNELS_MAX} are the most",
            channels.len()
        )));
    }
    let present = db.installations().await?;
    for id in channels {
        let found = present.iter().find(|row| row.id == *id);
        let problem = match found {
            None => "there is no such installation",
            Some(row) if row.kind != "channel" => "that installation is not a channel",
            Some(_) => continue,
        };
        let id: String = id.chars().take(100).collect();
        return Err(invalid(format!(
            "channels names {id:?}, but {problem}; GET /api/v1/installations lists them"
        )));
    }
    Ok(())
}

fn invalid(message: String) -> ApiError {
    ApiError::bad_request("invalid_monitor", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: Value) -> Result<Definition, String> {
        let wanted = serde_json::from_value(json).map_err(|error| error.to_string())?;
        parsed(wanted).map_err(|error| format!("{error:?}"))
    }

    #[track_caller]
    fn refused(json: Value, words: &str) {
        let error = wanted(json).expect_err(words);
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn what_is_left_out_is_as_documented() {
        let definition = wanted(json!({
            "name": "cpu", "query": "cpu", "comparison": "above", "critical": 90,
        }))
        .expect("a good monitor");
        assert_eq!(definition.rule.max_attempts, 1);
        assert_eq!(definition.rule.missing_is, None);
        assert_eq!(
            (definition.memo.as_str(), definition.is_enabled),
            ("", true)
        );
        assert_eq!(definition.channels, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_named() {
        let with = |name: &str, value: Value| {
            let mut json = json!({
                "name": "cpu", "query": "cpu", "comparison": "above", "warning": 80, "critical": 90,
            });
            json[name] = value;
            json
        };
        refused(with("name", "".into()), "name has 0 characters");
        refused(
            with("memo", "m".repeat(2049).into()),
            "memo has 2049 characters",
        );
        refused(with("comparison", ">".into()), "comparison is");
        refused(with("missing", "gone".into()), "missing is");
        refused(with("max_attempts", 0.into()), "max_attempts is 0");
        refused(with("max_attempts", 11.into()), "max_attempts is 11");
        refused(with("comparison", "below".into()), "would hide");
        refused(with("colour", "red".into()), "colour");
        let mut none = with("warning", Value::Null);
        none["critical"] = Value::Null;
        refused(none, "there is no threshold");
    }
}
