//! Monitors and alerts through the router, with queries that a test answers.

use axum::body::Body;
use futures_util::FutureExt as _;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use shoal_model::Timestamp;
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::*;
use crate::auth::ApiKey;
use crate::clock::Clock;
use crate::db::testing::sqlite;
use crate::jobs::Job as _;
use crate::monitoring::evaluate::EvaluateMonitors;
use crate::monitoring::testing::{self, FakeQuery, installation, put, tenant};

/// A process with two tenants, each with a key that may write.
struct Stage {
    _folders: (TempDir, TempDir),
    app: Arc<App>,
    query: Arc<FakeQuery>,
    acme: TenantDb,
    acme_key: String,
    other_key: String,
}

impl Stage {
    async fn new() -> Stage {
        let (folder, db) = sqlite().await;
        let (acme, other) = (tenant(&db, "acme").await, tenant(&db, "other").await);
        let query = Arc::new(FakeQuery::default());
        let data = tempfile::tempdir().expect("a folder");
        let clock = Clock::manual(Timestamp(600_000));
        let app = testing::app(db, data.path(), query.clone(), clock).await;
        Stage {
            acme_key: key(&acme, Role::Write).await,
            other_key: key(&other, Role::Write).await,
            _folders: (folder, data),
            app,
            query,
            acme,
        }
    }

    async fn ask(&self, key: &str, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-api-key", key)
            .body(body)
            .expect("a request");
        let response = crate::http::router(self.app.clone()).oneshot(request);
        let response = response.await.expect("an answer");
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a body");
        let json = serde_json::from_slice(&bytes.to_bytes()).unwrap_or(Value::Null);
        (status, json)
    }

    async fn acme(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(&self.acme_key, method, path, body).await
    }

    /// Evaluates at the present minute and moves to the next.
    async fn evaluate(&self) {
        let ran = EvaluateMonitors.run(&self.app, self.app.clock.now()).await;
        ran.expect("evaluated");
        self.app.clock.advance(std::time::Duration::from_secs(60));
    }
}

async fn key(db: &TenantDb, role: Role) -> String {
    let key = ApiKey::random();
    let added = db.add_key(&key, "test", role, Timestamp(1)).await;
    added.expect("a key");
    key.reveal()
}

fn cpu() -> Value {
    json!({ "name": "cpu", "query": "cpu", "comparison": "above", "critical": 90 })
}

#[tokio::test]
async fn a_monitor_is_made_shown_replaced_and_deleted() {
    let stage = Stage::new().await;
    let (status, made) = stage.acme(Method::POST, "/api/v1/monitors", cpu()).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(made["missing"], "keep");
    assert_eq!(made["max_attempts"], 1);
    assert_eq!(made["channels"], Value::Null);
    let path = format!("/api/v1/monitors/{}", made["id"].as_str().expect("an id"));
    assert_eq!(stage.acme(Method::GET, &path, Value::Null).await.1, made);
    let (_, listed) = stage
        .acme(Method::GET, "/api/v1/monitors", Value::Null)
        .await;
    assert_eq!(listed["monitors"], json!([made]));

    let mut better = cpu();
    better["memo"] = "see the runbook".into();
    better["missing"] = "unknown".into();
    let (status, replaced) = stage.acme(Method::PUT, &path, better).await;
    assert_eq!(
        (status, &replaced["memo"]),
        (StatusCode::OK, &"see the runbook".into())
    );

    for (method, body) in [
        (Method::GET, Value::Null),
        (Method::PUT, cpu()),
        (Method::DELETE, Value::Null),
    ] {
        let (status, _) = stage.ask(&stage.other_key, method, &path, body).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
    let (status, _) = stage.acme(Method::DELETE, &path, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = stage.acme(Method::GET, &path, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_monitor_that_cannot_work_is_refused_with_what_is_wrong() {
    let stage = Stage::new().await;
    put(&stage.acme, &installation(1, "check")).await;
    stage.query.fail("sum(", "unexpected end at 1:5");
    let check = installation(1, "check").id.to_string();
    let with = |name: &str, value: Value| {
        let mut json = cpu();
        json[name] = value;
        json
    };
    for (body, words) in [
        (with("query", " ".into()), "query is empty"),
        (with("query", "sum(".into()), "unexpected end at 1:5"),
        (with("critical", Value::Null), "there is no threshold"),
        (with("channels", json!([check])), "not a channel"),
        (with("channels", json!(["ins_0"])), "no such installation"),
    ] {
        let (status, answer) = stage.acme(Method::POST, "/api/v1/monitors", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{words}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(words), "{message}");
    }
    let read = key(&stage.acme, Role::Read).await;
    let (status, _) = stage
        .ask(&read, Method::POST, "/api/v1/monitors", cpu())
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_alert_is_listed_shown_and_closed() {
    let stage = Stage::new().await;
    put(&stage.acme, &installation(1, "channel")).await;
    stage.acme(Method::POST, "/api/v1/monitors", cpu()).await;
    stage.query.set("cpu", &[("a", 97.2)]);
    stage.evaluate().await;
    let ring = stage.app.to_tell.notified().now_or_never();
    assert!(ring.is_some(), "whoever tells is told");
    let (_, listed) = stage
        .acme(Method::GET, "/api/v1/alerts?status=open", Value::Null)
        .await;
    let alert = listed["alerts"][0].clone();
    assert_eq!(listed["next_before"], Value::Null);
    assert_eq!(alert["message"], "cpu is critical: 97.2 > 90");
    assert_eq!(alert["labels"], json!({ "host": "a" }));
    assert_eq!(alert["monitor"]["kind"], "query");
    let path = format!("/api/v1/alerts/{}", alert["id"].as_str().expect("an id"));
    let (_, whole) = stage.acme(Method::GET, &path, Value::Null).await;
    assert_eq!(whole["transitions"][0]["trigger"], "monitor");
    assert_eq!(whole["notifications"][0]["status"], "pending");
    assert_eq!(whole["notifications"][0]["severity"], "critical");
    assert_eq!(whole["notifications"][0]["channel"], "channel 1");

    let closing = format!("{path}/close");
    let reason = json!({ "reason": "known" });
    let (status, _) = stage
        .ask(&stage.other_key, Method::POST, &closing, reason.clone())
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _) = stage
        .acme(Method::POST, &closing, json!({ "reason": " " }))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, closed) = stage.acme(Method::POST, &closing, reason.clone()).await;
    assert_eq!(
        (status, &closed["status"]),
        (StatusCode::OK, &"closed".into())
    );
    assert_eq!(closed["reason"], "known");
    let (status, _) = stage.acme(Method::POST, &closing, reason).await;
    assert_eq!(status, StatusCode::CONFLICT);

    // It is as bad as before: a new alert.
    stage.evaluate().await;
    let (_, page) = stage
        .acme(Method::GET, "/api/v1/alerts?limit=1", Value::Null)
        .await;
    let next = page["next_before"].as_str().expect("there is more");
    assert_ne!(next, alert["id"]);
    let rest = format!("/api/v1/alerts?before={next}");
    let (_, page) = stage.acme(Method::GET, &rest, Value::Null).await;
    assert_eq!(page["alerts"][0]["id"], alert["id"]);
    let (status, _) = stage
        .acme(Method::GET, "/api/v1/alerts?limit=0", Value::Null)
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_query_that_fails_is_shown_at_its_monitor() {
    let stage = Stage::new().await;
    let (_, made) = stage.acme(Method::POST, "/api/v1/monitors", cpu()).await;
    stage.query.fail("cpu", "over the limit of samples");
    stage.evaluate().await;
    let path = format!("/api/v1/monitors/{}", made["id"].as_str().expect("an id"));
    let (_, shown) = stage.acme(Method::GET, &path, Value::Null).await;
    assert_eq!(shown["last_error"], "over the limit of samples");
    assert_eq!(shown["last_error_at_ms"], 600_000);
    assert_eq!(shown["evaluated_at_ms"], Value::Null);
}

#[tokio::test]
async fn a_test_notification_needs_a_channel_that_is_enabled() {
    let stage = Stage::new().await;
    put(&stage.acme, &installation(1, "check")).await;
    let mut channel = installation(2, "channel");
    put(&stage.acme, &channel).await;
    let path = |n| {
        let id = installation(n, "channel").id;
        format!("/api/v1/installations/{id}/test-notification")
    };
    let ask = async |n| stage.acme(Method::POST, &path(n), Value::Null).await;
    assert_eq!(ask(1).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(ask(3).await.0, StatusCode::NOT_FOUND);
    let (status, answer) = ask(2).await;
    assert_eq!(
        (status, &answer["status"]),
        (StatusCode::OK, &"failed".into())
    );
    assert_eq!(answer["error"]["code"], "not-runnable");
    channel.is_enabled = false;
    put(&stage.acme, &channel).await;
    assert_eq!(ask(2).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn checks_are_listed_before_and_after_they_ran() {
    let stage = Stage::new().await;
    put(&stage.acme, &installation(1, "check")).await;
    put(&stage.acme, &installation(2, "channel")).await;
    let (_, listed) = stage.acme(Method::GET, "/api/v1/checks", Value::Null).await;
    let checks = listed["checks"].as_array().expect("a list");
    assert_eq!(checks.len(), 1);
    assert_eq!(checks[0]["name"], "check 1");
    assert_eq!(checks[0]["severity"], Value::Null);
}
