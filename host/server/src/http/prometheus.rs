//! The Prometheus HTTP API, as Grafana's data source asks it: the tenant of the key is the whole world.
//!
//! Answers and errors have Prometheus' shapes, not those of the rest of the API. An operator names the tenant with the
//! parameter `tenant`.

mod answer;
mod params;

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts as _, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::Method;
use serde_json::json;

use super::input::Path;
use super::{Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::db::TenantDb;
use answer::PrometheusError;
use params::Params;

pub(super) fn routes() -> Vec<Route> {
    const QUERY: &str = "/prometheus/api/v1/query";
    const RANGE: &str = "/prometheus/api/v1/query_range";
    const SERIES: &str = "/prometheus/api/v1/series";
    const LABELS: &str = "/prometheus/api/v1/labels";
    let read =
        |method, path, summary, handler| Route::new(method, path, Role::Read, summary, handler);
    let mut routes = Vec::new();
    for (path, summary) in [
        (QUERY, "Evaluates a query at one time"),
        (RANGE, "Evaluates a query over a range of times"),
        (SERIES, "Finds series by label matchers"),
        (LABELS, "Lists label names"),
    ] {
        let (by_get, by_post) = match path {
            QUERY => (get(instant), post(instant)),
            RANGE => (get(range), post(range)),
            SERIES => (get(series), post(series)),
            _ => (get(labels), post(labels)),
        };
        routes.push(read(Method::GET, path, summary, by_get));
        routes.push(read(Method::POST, path, summary, by_post));
    }
    routes.extend([
        read(
            Method::GET,
            "/prometheus/api/v1/label/{name}/values",
            "Lists the values of a label",
            get(label_values),
        ),
        read(
            Method::GET,
            "/prometheus/api/v1/metadata",
            "Lists kinds and units of metrics",
            get(metadata),
        ),
        read(
            Method::GET,
            "/prometheus/api/v1/status/buildinfo",
            "Says which version answers",
            get(build_info),
        ),
    ]);
    routes
}

/// Whose data is asked for, and what is asked.
struct Asked {
    db: TenantDb,
    params: Params,
}

impl FromRequest<Arc<App>> for Asked {
    type Rejection = PrometheusError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Asked, PrometheusError> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, app).await?;
        let params = Params::from_request(Request::from_parts(parts, body), app).await?;
        let tenant = params.get("tenant").map(str::to_owned);
        let db = caller.acting_for(app, tenant).await?;
        Ok(Asked { db, params })
    }
}

async fn instant(
    State(app): State<Arc<App>>,
    Asked { db, params }: Asked,
) -> Result<Response, PrometheusError> {
    let at = params.time("time")?.unwrap_or_else(|| app.clock.now());
    let timeout = params.duration("timeout")?;
    let query = params.required("query")?;
    let found = app.queries.instant(db.id(), query, at, timeout).await?;
    Ok(answer::evaluated(&found))
}

async fn range(
    State(app): State<Arc<App>>,
    Asked { db, params }: Asked,
) -> Result<Response, PrometheusError> {
    let grid = params.grid()?;
    let timeout = params.duration("timeout")?;
    let query = params.required("query")?;
    let found = app.queries.range(db.id(), query, grid, timeout).await?;
    Ok(answer::evaluated(&found))
}

async fn series(
    State(app): State<Arc<App>>,
    Asked { db, params }: Asked,
) -> Result<Response, PrometheusError> {
    let selection = params.selection(app.clock.now())?;
    if selection.selectors.is_empty() {
        return Err(PrometheusError::bad_data(
            "match[] is missing: name at least one series selector, such as match[]=up",
        ));
    }
    let found = app.queries.series(db.id(), selection).await?;
    Ok(answer::series(&found))
}

async fn labels(
    State(app): State<Arc<App>>,
    Asked { db, params }: Asked,
) -> Result<Response, PrometheusError> {
    let selection = params.selection(app.clock.now())?;
    let names = app.queries.label_names(db.id(), selection).await?;
    Ok(answer::listed(&names))
}

async fn label_values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Asked { db, params }: Asked,
) -> Result<Response, PrometheusError> {
    let selection = params.selection(app.clock.now())?;
    let values = app.queries.label_values(db.id(), &name, selection).await?;
    Ok(answer::listed(&values))
}

async fn metadata(
    State(app): State<Arc<App>>,
    Asked { db, params }: Asked,
) -> Result<Response, PrometheusError> {
    let limit = params.limit()?;
    let only = params.get("metric").map(str::to_owned);
    let found = app.queries.metadata(db.id(), only, limit).await?;
    Ok(answer::metadata(&found))
}

async fn build_info(_caller: Caller) -> Response {
    answer::success(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}
