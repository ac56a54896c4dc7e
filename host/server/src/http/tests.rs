//! What the API refuses, on both databases: NUL characters, and what goes beyond a key's power or a tenant's bounds.

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use shoal_model::TenantId;
use tower::ServiceExt as _;

use super::*;
use crate::auth::ApiKey;
use crate::db::TenantDb;
use crate::jobs::testing::{hour, with_app};

async fn key(db: &TenantDb, role: Role) -> ApiKey {
    let key = ApiKey::random();
    db.add_key(&key, "test", role, hour(0).start())
        .await
        .expect("added");
    key
}

/// Sends a request and returns status and body.
async fn call(
    app: &Arc<App>,
    key: &ApiKey,
    method: &Method,
    path: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("x-api-key", key.reveal())
        .body(body.map_or(Body::empty(), |body| Body::from(body.to_string())))
        .expect("a request");
    let response = router(app.clone()).oneshot(request).await;
    let response = response.expect("the router always answers");
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("a body");
    let body = serde_json::from_slice(&bytes.to_bytes()).unwrap_or(Value::Null);
    (status, body)
}

/// PostgreSQL refuses them where SQLite finds nothing; neither is our fault.
#[tokio::test]
async fn a_nul_character_is_the_clients_fault_on_every_route() {
    with_app(hour(0).start(), |app| async move {
        let operator = key(&app.db.tenant(TenantId::OPERATOR), Role::Operator).await;
        for route in routes() {
            let mut parts = route.path.split(['{', '}']);
            let mut path = parts.next().unwrap_or_default().to_owned();
            while let (Some(_), Some(rest)) = (parts.next(), parts.next()) {
                path += &format!("%00{rest}");
            }
            for path in [path.clone(), path + "?tenant=%00&before=%00"] {
                let name = json!({ "key": "a", "role": "read", "plugin": "p", "name": "a\0b" });
                let (status, body) = call(&app, &operator, &route.method, &path, Some(name)).await;
                assert!(!status.is_server_error(), "{} {path}: {body}", route.method);
            }
        }
        let keys = "/api/v1/tenants/operator/keys";
        let named = Some(json!({ "role": "read", "name": "a\0b" }));
        let (status, body) = call(&app, &operator, &Method::POST, keys, named).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(body["error"]["code"], "nul_character");
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_the_apis_own_shape() {
    with_app(hour(0).start(), |app| async move {
        let operator = key(&app.db.tenant(TenantId::OPERATOR), Role::Operator).await;
        for (path, code) in [
            ("/api/v1/alerts?limit=x", "invalid_query"),
            ("/api/v1/alerts?colour=red", "invalid_query"),
            ("/api/v1/alerts/%ff", "invalid_path"),
        ] {
            let (status, body) = call(&app, &operator, &Method::GET, path, None).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(body["error"]["code"], code, "{path}");
        }
    })
    .await;
}
