//! Installations over the API.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::save::{INSTALLATIONS_MAX, room_for_another};
use super::*;
use crate::auth::ApiKey;
use crate::db::installations::NewInstallation;
use crate::db::plugins::VersionRow;
use crate::jobs::testing::{add_plugin, add_version, hour, tenant, with_app};
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

/// Changes an installation as somebody who saw `seen`, in the header or in the body.
async fn patch(
    app: &Arc<App>,
    key: &ApiKey,
    path: &str,
    seen: Option<&str>,
    body: Value,
) -> (StatusCode, Value) {
    let mut request = Request::builder()
        .method(Method::PATCH)
        .uri(path)
        .header("x-api-key", key.reveal());
    if let Some(seen) = seen {
        request = request.header(IF_MATCH, seen);
    }
    let request = request
        .body(Body::from(body.to_string()))
        .expect("a request");
    let answer = crate::http::router(app.clone()).oneshot(request).await;
    let answer = answer.expect("the router always answers");
    let etag = answer.headers().get(ETAG).cloned();
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a body");
    let body: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
    if status == StatusCode::OK {
        let wanted = format!("\"{}\"", body["revision"]);
        assert_eq!(etag.expect("it has one"), *wanted);
    }
    (status, body)
}

#[tokio::test]
async fn a_change_of_what_was_changed_meanwhile_is_refused_and_every_change_has_a_line() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let key = ApiKey::random();
        let added = acme.add_key(&key, "test", Role::Write, hour(0).start());
        added.await.expect("added");
        let version = add_plugin(&app, "webhook.wasm").await;
        let new = NewInstallation {
            plugin_id: version.plugin_id,
            settings: Map::from_iter([("url".to_owned(), json!("https://example.com/"))]),
            ..installation(1, "channel")
        };
        put(&acme, &new).await;
        app.plugins.reload().await.expect("loaded");
        let path = format!("/api/v1/installations/{}", new.id);
        let rename = |name: &str| json!({ "name": name });
        let (status, changed) = patch(&app, &key, &path, None, rename("a")).await;
        assert_eq!(status, StatusCode::OK, "{changed}");
        let seen = format!("\"{}\"", changed["revision"]);
        let (status, _) = patch(&app, &key, &path, Some(&seen), rename("b")).await;
        assert_eq!(status, StatusCode::OK);
        let (status, refused) = patch(&app, &key, &path, Some(&seen), rename("c")).await;
        assert_eq!(status, StatusCode::PRECONDITION_FAILED);
        assert_eq!(refused["error"]["code"], "changed_meanwhile");
        let old = json!({ "name": "c", "revision": changed["revision"] });
        let (status, refused) = patch(&app, &key, &path, None, old).await;
        assert_eq!(status, StatusCode::CONFLICT, "{refused}");
        let (status, _) = patch(&app, &key, &path, Some("nonsense"), rename("c")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);

        let filter = crate::db::audit::AuditFilter {
            subject: Some(new.id.to_string()),
            limit: 10,
            ..Default::default()
        };
        let lines = acme.audit(&filter).await.expect("read");
        let changes: Vec<_> = lines
            .iter()
            .map(|line| (&*line.action, line.actor.contains("(test)")))
            .collect();
        assert_eq!(changes, [("installation.change", true); 2]);
        let others = tenant(&app, "other").await.audit(&filter).await;
        assert_eq!(others.expect("read"), []);
    })
    .await;
}

/// A version that does not call it a secret any more shows no more of it than one that does.
#[tokio::test]
async fn what_any_approved_version_calls_a_secret_is_never_shown() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let secret = add_plugin(&app, "http_check.wasm").await;
        let blocks = secret.manifest.split("\n\n");
        let blocks = blocks.filter(|block| !block.contains("kind = \"secrets\""));
        let manifest = blocks.collect::<Vec<_>>().join("\n\n");
        let open = VersionRow {
            digest: "sha256:open".to_owned(),
            manifest: manifest.replace("writeOnly = true\n", ""),
            ..secret.clone()
        };
        add_version(&app, &open, b"").await;
        let new = NewInstallation {
            plugin_id: open.plugin_id.clone(),
            settings: Map::from_iter([("token".to_owned(), json!("hunter22"))]),
            pinned_digest: Some(open.digest.clone()),
            ..installation(1, "check")
        };
        put(&acme, &new).await;
        let wish = Wish::read(&acme, new.id.as_str()).await.expect("read");
        let catalogue = app.plugins.catalogue().await.expect("read");
        let shown = show::wish(&app, &catalogue, &wish.expect("there")).expect("shown");
        assert_eq!(shown["settings"]["token"], json!({ "is_set": true }));
    })
    .await;
}
