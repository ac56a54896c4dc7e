//! What the API refuses, on both databases: NUL characters, and what goes beyond a key's power or a tenant's bounds.

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};
use shoal_model::{InstallationId, TenantId};
use tower::ServiceExt as _;

use super::*;
use crate::auth::ApiKey;
use crate::db::TenantDb;
use crate::db::installations::NewInstallation;
use crate::jobs::testing::{add_plugin, hour, tenant, with_app};

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

#[tokio::test]
async fn a_key_cannot_revoke_one_that_allows_more() {
    with_app(hour(0).start(), |app| async move {
        let db = app.db.tenant(TenantId::OPERATOR);
        let operator = key(&db, Role::Operator).await;
        let writer = key(&db, Role::Write).await;
        let path = |key: &ApiKey| format!("/api/v1/tenants/operator/keys/{}", key.id);
        let (status, _) = call(&app, &writer, &Method::DELETE, &path(&operator), None).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let (status, _) = call(&app, &operator, &Method::DELETE, &path(&writer), None).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    })
    .await;
}

#[tokio::test]
async fn a_tenant_has_so_many_keys_and_no_more() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let mut last = key(&acme, Role::Write).await;
        while acme.valid_keys().await.expect("counted") < 1000 {
            last = key(&acme, Role::Write).await;
        }
        let keys = "/api/v1/tenants/acme/keys";
        let new = || Some(json!({ "role": "read" }));
        let long = Some(json!({ "role": "read", "name": "n".repeat(101) }));
        let (status, body) = call(&app, &last, &Method::POST, keys, long).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(body["error"]["code"], "invalid_name");
        let (status, body) = call(&app, &last, &Method::POST, keys, new()).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(body["error"]["code"], "too_many_keys");
        let first = acme.keys().await.expect("listed").swap_remove(0).id;
        let revoked = acme.revoke_key("me", &first, hour(0).start()).await;
        assert!(revoked.expect("answered"));
        let (status, _) = call(&app, &last, &Method::POST, keys, new()).await;
        assert_eq!(status, StatusCode::CREATED);
    })
    .await;
}

#[tokio::test]
async fn a_tenant_has_so_many_installations_and_no_more() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let writer = key(&acme, Role::Write).await;
        add_plugin(&app, "webhook.wasm").await;
        for at in 0..1000_u16 {
            let mut id = [0; 10];
            id[..2].copy_from_slice(&at.to_be_bytes());
            let new = NewInstallation {
                id: InstallationId::from_random(id),
                name: format!("n{at}"),
                plugin_id: "webhook".to_owned(),
                kind: "channel".to_owned(),
                track: "stable".to_owned(),
                pinned_digest: None,
                settings: Map::new(),
                secrets: Vec::new(),
                grants: None,
                is_enabled: false,
                interval_ms: None,
            };
            let put = acme.put_installation(&new, hour(0).start()).await;
            put.expect("put");
        }
        let new = json!({ "plugin": "webhook", "settings": { "url": "https://example.com/" } });
        let path = "/api/v1/installations";
        let (status, body) = call(&app, &writer, &Method::POST, path, Some(new)).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(body["error"]["code"], "too_many_installations");
    })
    .await;
}

#[tokio::test]
async fn a_secret_does_not_follow_to_another_server() {
    with_app(hour(0).start(), |app| async move {
        let writer = key(&tenant(&app, "acme").await, Role::Write).await;
        add_plugin(&app, "http_check.wasm").await;
        let settings = json!({ "url": "https://example.com/a", "token": "first-token" });
        let new = json!({ "plugin": "http-check", "settings": settings });
        let path = "/api/v1/installations";
        let (status, made) = call(&app, &writer, &Method::POST, path, Some(new)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let path = format!("{path}/{}", made["id"].as_str().expect("an id"));
        for (settings, wanted) in [
            (json!({ "url": "https://evil.example/a" }), 400),
            (json!({ "url": "http://example.com/a" }), 400),
            (json!({ "url": "https://example.com:8443/a" }), 400),
            (json!({ "url": "https://EXAMPLE.com/b" }), 200),
            (
                json!({ "url": "https://other.example/", "token": "other-token" }),
                200,
            ),
        ] {
            let change = json!({ "settings": settings });
            let (status, body) = call(&app, &writer, &Method::PATCH, &path, Some(change)).await;
            assert_eq!(status.as_u16(), wanted, "{settings}: {body}");
            if wanted == 400 {
                assert_eq!(body["error"]["code"], "secret_needed");
            }
        }
        let (_, shown) = call(&app, &writer, &Method::GET, &path, None).await;
        assert_eq!(shown["settings"]["token"], json!({ "is_set": true }));
    })
    .await;
}
