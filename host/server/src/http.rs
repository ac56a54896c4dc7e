//! The API: who may call what, and how errors look.
//!
//! Every route stands in [`routes`], with who may call it; the router, the OpenAPI document and the test
//! that walks every route as the wrong tenant are made from that one list.

mod alerts;
mod audit;
mod caller;
pub(crate) mod connections;
mod error;
mod input;
mod installations;
mod jobs;
mod keys;
mod limits;
mod monitors;
mod openapi;
mod plugin_health;
mod plugins;
mod prometheus;
mod publishers;
pub mod receivers;
mod releases;
mod statements;
mod tenants;
mod usage;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::MethodRouter;
use http::Method;

use crate::app::App;
use crate::auth::Role;

pub use caller::Caller;
pub use connections::serve;
pub use error::ApiError;

/// A request's body, in bytes; uploads of plugins have their own.
const BODY_MAX_BYTES: usize = 1 << 20;

/// One method of one path.
pub struct Route {
    /// The HTTP method.
    pub method: Method,
    /// The path, with parameters in braces.
    pub path: &'static str,
    /// What a key must allow; `None` when no key is needed.
    pub role: Option<Role>,
    /// What it does, for the OpenAPI document.
    pub summary: &'static str,
    handler: MethodRouter<Arc<App>>,
}

impl Route {
    fn new(
        method: Method,
        path: &'static str,
        role: impl Into<Option<Role>>,
        summary: &'static str,
        handler: MethodRouter<Arc<App>>,
    ) -> Route {
        Route {
            method,
            path,
            role: role.into(),
            summary,
            handler,
        }
    }
}

/// Every route of the API.
pub fn routes() -> Vec<Route> {
    [
        tenants::routes(),
        keys::routes(),
        limits::routes(),
        plugins::routes(),
        releases::routes(),
        publishers::routes(),
        plugin_health::routes(),
        installations::routes(),
        monitors::routes(),
        alerts::routes(),
        usage::routes(),
        statements::routes(),
        jobs::routes(),
        prometheus::routes(),
        audit::routes(),
        openapi::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The service of the API's port.
pub fn router(app: Arc<App>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, route| {
            router.route(route.path, route.handler)
        })
        .fallback(|| async {
            ApiError::not_found("there is nothing at this address; see /api/v1/openapi.json")
        })
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(app)
}

#[cfg(test)]
mod tests;
