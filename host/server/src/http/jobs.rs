//! Jobs: what there is, posting a run, looking at runs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use shoal_model::Timestamp;

use super::input::{Path, Query};
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::clock::Stopwatch;
use crate::db::jobs::{RunRow, RunTenantRow};
use crate::jobs::{Jobs, PostError};

pub(super) fn routes() -> Vec<Route> {
    const RUNS: &str = "/api/v1/jobs/{job}/runs";
    vec![
        Route::new(
            Method::GET,
            "/api/v1/jobs",
            Role::Operator,
            "Lists the jobs with their last runs",
            get(list),
        ),
        Route::new(
            Method::POST,
            RUNS,
            Role::Operator,
            "Posts a run of a job; posting it again runs it once",
            post(create),
        ),
        Route::new(
            Method::GET,
            RUNS,
            Role::Operator,
            "Lists a job's runs, latest first",
            get(runs),
        ),
        Route::new(
            Method::GET,
            "/api/v1/runs/{id}",
            Role::Operator,
            "Shows a run, with what it did by tenant",
            get(show),
        ),
    ]
}

/// Runs of one page unless the caller says otherwise.
const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 1_000;
/// How long a request may wait for the end of a run; less than proxies wait for an answer.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a waiting request looks: another process may do the run.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    scheduled_at_ms: Option<i64>,
    wait_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<i64>,
    /// Only runs for earlier times, Unix ms.
    before: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    wait_ms: Option<u64>,
}

async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let (system, mut shown) = (app.db.system(), Vec::new());
    for job in Jobs::new(app.clone()).iter() {
        let runs = system.runs(job.name(), Timestamp(i64::MAX), 1).await?;
        shown.push(json!({
            "name": job.name(),
            "summary": job.summary(),
            "period_ms": job.period().as_millis() as u64,
            "last_run": runs.first().map(shown_run),
        }));
    }
    Ok(axum::Json(json!({ "jobs": shown })))
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(job): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, axum::Json<Value>), ApiError> {
    caller.must_be(Role::Operator)?;
    let new = parsed(&body)?;
    let wait = checked_wait(new.wait_ms)?;
    let posted = Jobs::new(app.clone())
        .post(&job, new.scheduled_at_ms.map(Timestamp))
        .await?;
    let run = ended(&app, posted, wait).await?;
    let status = match run.is_ended() {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    Ok((status, axum::Json(shown_whole(&app, &run).await?)))
}

async fn runs(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(job): Path<String>,
    Query(page): Query<Page>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let jobs = Jobs::new(app.clone());
    let job = jobs.find(&job)?;
    let limit = page.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::bad_request(
            "invalid_limit",
            format!("limit is {limit}; it must be from 1 to {LIMIT_MAX}"),
        ));
    }
    let before = Timestamp(page.before.unwrap_or(i64::MAX));
    let runs = app.db.system().runs(job.name(), before, limit).await?;
    let shown: Vec<Value> = runs.iter().map(shown_run).collect();
    Ok(axum::Json(json!({ "runs": shown })))
}

async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
) -> Result<axum::Json<Value>, ApiError> {
    caller.must_be(Role::Operator)?;
    let wait = checked_wait(wait.wait_ms)?;
    let run = app.db.system().run(&id).await?.ok_or_else(|| {
        let id: String = id.chars().take(100).collect();
        ApiError::not_found(format!("there is no run {id:?}"))
    })?;
    let run = ended(&app, run, wait).await?;
    Ok(axum::Json(shown_whole(&app, &run).await?))
}

/// A body that may be left out, so that a bare `POST` from a timer works.
fn parsed(body: &[u8]) -> Result<New, ApiError> {
    if body.is_empty() {
        return Ok(New::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        let message = format!(
            "the body is not as expected: {error}; leave it out, or send {{\"scheduled_at_ms\": n}}"
        );
        ApiError::bad_request("invalid_body", message)
    })
}

fn checked_wait(wait_ms: Option<u64>) -> Result<Duration, ApiError> {
    let wait = Duration::from_millis(wait_ms.unwrap_or(0));
    if wait <= WAIT_MAX {
        return Ok(wait);
    }
    Err(ApiError::bad_request(
        "invalid_wait",
        format!(
            "wait_ms is {}; it must be at most {}; ask again for the rest",
            wait.as_millis(),
            WAIT_MAX.as_millis()
        ),
    ))
}

/// Waits for the end of a run, or for so long.
async fn ended(app: &App, mut run: RunRow, wait: Duration) -> Result<RunRow, ApiError> {
    let waited = Stopwatch::start();
    while !run.is_ended() && waited.elapsed() < wait {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(now) = app.db.system().run(&run.id).await? {
            run = now;
        }
    }
    Ok(run)
}

fn shown_run(run: &RunRow) -> Value {
    json!({
        "id": run.id,
        "job": run.job,
        "scheduled_at_ms": run.scheduled_at_ms,
        "status": run.status,
        "attempt": run.attempt,
        "started_at_ms": run.started_at_ms,
        "ended_at_ms": run.ended_at_ms,
        "expected": run.expected,
        "processed": run.processed,
        "failed": run.failed,
        "skipped": run.skipped,
        "error": run.error,
    })
}

async fn shown_whole(app: &App, run: &RunRow) -> Result<Value, ApiError> {
    let tenant = |row: &RunTenantRow| {
        json!({
            "tenant": row.tenant,
            "expected": row.expected,
            "processed": row.processed,
            "failed": row.failed,
            "skipped": row.skipped,
        })
    };
    let tenants = app.db.system().run_tenants(&run.id).await?;
    let mut shown = shown_run(run);
    shown["tenants"] = tenants.iter().map(tenant).collect();
    Ok(shown)
}

impl From<PostError> for ApiError {
    fn from(error: PostError) -> ApiError {
        match error {
            PostError::UnknownJob { .. } => ApiError::not_found(error.to_string()),
            PostError::Refused(reason) => ApiError::bad_request("invalid_time", reason),
            PostError::Db(error) => error.into(),
        }
    }
}
