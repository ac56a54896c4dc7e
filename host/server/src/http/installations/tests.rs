//! Installations over the API.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::save::{INSTALLATIONS_MAX, room_for_another};
use super::*;
use crate::auth::ApiKey;
use crate::db::installations::NewInstallation;
use crate::jobs::testing::{add_plugin, hour, tenant, with_app};
use crate::monitoring::testing::{installation, put};

#[tokio::test]
async fn what_cannot_run_any_more_can_be_disabled_and_not_enabled_again() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let key = ApiKey::random();
        acme.add_key(&key, "test", Role::Write, hour(0).start())
            .await
            .expect("added");
        let version = add_plugin(&app, "webhook.wasm").await;
        let broken = NewInstallation {
            plugin_id: version.plugin_id,
            settings: Map::from_iter([("nonsense".to_owned(), json!(1))]),
            ..installation(1, "channel")
        };
        put(&acme, &broken).await;
        let patch = |is_enabled: bool| {
            let request = Request::builder()
                .method(Method::PATCH)
                .uri(format!("/api/v1/installations/{}", broken.id))
                .header("authorization", format!("Bearer {}", key.reveal()))
                .body(Body::from(json!({ "enabled": is_enabled }).to_string()))
                .expect("a request");
            let answering = crate::http::router(app.clone()).oneshot(request);
            async move {
                let answer = answering.await.expect("the router always answers");
                let status = answer.status();
                let body = answer.into_body().collect().await.expect("a body");
                let body: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
                (status, body)
            }
        };
        let (status, answer) = patch(false).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["enabled"], false);
        let (status, answer) = patch(true).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(answer["error"]["code"], "not_runnable");
    })
    .await;
}

#[test]
fn a_tenant_has_only_so_many_installations() {
    room_for_another(INSTALLATIONS_MAX - 1).expect("there is room");
    let refused = room_for_another(INSTALLATIONS_MAX).expect_err("there is none");
    assert_eq!(refused.status(), StatusCode::CONFLICT);
}
