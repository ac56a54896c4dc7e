//! Billing over the API: who may do what, and what the answers look like.

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use shoal_model::TenantId;
use tower::ServiceExt as _;

use super::*;
use crate::auth::ApiKey;
use crate::db::TenantDb;
use crate::jobs::Jobs;
use crate::jobs::testing::{HOST, add_plugin, hour, tenant, with_app};
use crate::task::Tasks;

async fn key(db: &TenantDb, role: Role) -> String {
    let key = ApiKey::random();
    db.add_key(&key, "test", role, hour(0).start())
        .await
        .expect("added");
    key.reveal().to_string()
}

/// Sends a request and returns status and body.
async fn call(
    app: &Arc<App>,
    key: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {key}"))
        .body(body.map_or(Body::empty(), |body| Body::from(body.to_string())))
        .expect("a request");
    let response = crate::http::router(app.clone()).oneshot(request).await;
    let response = response.expect("the router always answers");
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("a body");
    let body = serde_json::from_slice(&bytes.to_bytes()).unwrap_or(Value::Null);
    (status, body)
}

const INSTALLATIONS: &str = "/api/v1/installations?tenant=acme";

#[tokio::test]
async fn only_the_operator_changes_a_billing_rule_and_there_is_one() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let operator = key(&app.db.tenant(TenantId::OPERATOR), Role::Operator).await;
        let customer = key(&acme, Role::Write).await;
        add_plugin(&app, "mackerel_plan.wasm").await;
        let rule = |name: &str| Some(json!({ "plugin": "mackerel-plan", "name": name }));

        let (status, _) = call(&app, &customer, Method::POST, INSTALLATIONS, rule("a")).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let (status, made) = call(&app, &operator, Method::POST, INSTALLATIONS, rule("a")).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let (status, second) = call(&app, &operator, Method::POST, INSTALLATIONS, rule("b")).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(second["error"]["code"], "billing_rule_exists");

        let id = made["id"].as_str().expect("an id");
        let path = format!("/api/v1/installations/{id}?tenant=acme");
        let off = Some(json!({ "enabled": false }));
        for (method, body) in [(Method::PATCH, off.clone()), (Method::DELETE, None)] {
            let (status, _) = call(&app, &customer, method, &path, body).await;
            assert_eq!(status, StatusCode::FORBIDDEN);
        }
        let (status, seen) = call(&app, &customer, Method::GET, &path, None).await;
        assert_eq!(
            (status, &seen["plugin"]),
            (StatusCode::OK, &json!("mackerel-plan"))
        );
        let (status, _) = call(&app, &operator, Method::PATCH, &path, off).await;
        assert_eq!(status, StatusCode::OK);
        let (status, _) = call(&app, &operator, Method::POST, INSTALLATIONS, rule("b")).await;
        assert_eq!(status, StatusCode::CREATED);
    })
    .await;
}

#[tokio::test]
async fn a_run_that_is_posted_closes_the_hour_and_the_month_can_be_looked_at() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let operator = key(&app.db.tenant(TenantId::OPERATOR), Role::Operator).await;
        let customer = key(&acme, Role::Read).await;
        acme.add_usage(&[HOST.at(hour(0), "web-1")])
            .await
            .expect("added");
        app.clock.advance(std::time::Duration::from_secs(3700));

        const RUNS: &str = "/api/v1/jobs/close-usage/runs";
        let (status, _) = call(&app, &customer, Method::POST, RUNS, None).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let (status, posted) = call(&app, &operator, Method::POST, RUNS, None).await;
        assert_eq!((status, &posted["status"]), (StatusCode::ACCEPTED, &json!("waiting")));
        assert_eq!(posted["scheduled_at_ms"], hour(1).start().unix_ms());
        let jobs = Jobs::new(app.clone());
        let job = jobs.find("close-usage").expect("there");
        let worked = jobs.work(job, &mut Tasks::new().stop()).await;
        assert!(worked.expect("worked").is_some());
        let (status, done) = call(&app, &operator, Method::POST, RUNS, None).await;
        assert_eq!((status, &done["status"]), (StatusCode::OK, &json!("done")));
        assert_eq!(done["id"], posted["id"]);
        let one = json!({ "tenant": "acme", "expected": 1, "processed": 1, "failed": 0, "skipped": 0 });
        assert_eq!(done["tenants"][0], one);

        let (_, usage) = call(&app, &customer, Method::GET, "/api/v1/usage?month=2026-11", None).await;
        assert_eq!((&usage["hours"], &usage["closed_hours"]), (&json!(720), &json!(1)));
        let host = json!({
            "meter": "host.standard", "subjects": 1, "quantity_hours": 1, "active_hours": 1, "average": "0.001388889",
        });
        assert_eq!(usage["meters"][0], host);
        let path = "/api/v1/usage/hours?month=2026-11";
        let (_, hours) = call(&app, &customer, Method::GET, path, None).await;
        assert_eq!(hours["hours"][0]["meters"]["host.standard"]["quantity"], 1);
        let path = "/api/v1/statements?month=2026-11";
        let (status, none) = call(&app, &customer, Method::GET, path, None).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(none["error"]["code"], "no_billing_rule");

        add_plugin(&app, "mackerel_plan.wasm").await;
        let rule = json!({ "plugin": "mackerel-plan" });
        let (status, _) = call(&app, &operator, Method::POST, INSTALLATIONS, Some(rule)).await;
        assert_eq!(status, StatusCode::CREATED);
        let (status, statement) = call(&app, &customer, Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{statement}");
        assert_eq!(statement["total"], "1833");
        assert_eq!(statement["status"], "month-to-date");
        assert_eq!(statement["lines"][0]["unit_price"], "1833");
        let open = format!("{path}&include_open_hour=true");
        let (_, open) = call(&app, &customer, Method::GET, &open, None).await;
        assert_eq!((&open["closed_hours"], &open["includes_open_hour"]), (&json!(2), &json!(true)));
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_named() {
    with_app(hour(0).start(), |app| async move {
        let operator = key(&app.db.tenant(TenantId::OPERATOR), Role::Operator).await;
        let far = json!({ "scheduled_at_ms": hour(99).start().unix_ms() });
        for (method, path, body, code) in [
            (Method::POST, "/api/v1/jobs/nothing/runs", None, "not_found"),
            (
                Method::POST,
                "/api/v1/jobs/close-usage/runs",
                Some(far),
                "invalid_time",
            ),
            (
                Method::POST,
                "/api/v1/jobs/close-usage/runs",
                Some(json!({ "wait_ms": 99_999_999 })),
                "invalid_wait",
            ),
            (
                Method::POST,
                "/api/v1/jobs/close-usage/runs",
                Some(json!({ "at": 1 })),
                "invalid_body",
            ),
            (
                Method::GET,
                "/api/v1/jobs/close-usage/runs?limit=0",
                None,
                "invalid_limit",
            ),
            (Method::GET, "/api/v1/runs/run_x", None, "not_found"),
            (
                Method::GET,
                "/api/v1/usage?month=nov",
                None,
                "invalid_month",
            ),
            (
                Method::GET,
                "/api/v1/statements?month=2026-12",
                None,
                "invalid_month",
            ),
            (
                Method::GET,
                "/api/v1/usage?tenant=nobody",
                None,
                "not_found",
            ),
        ] {
            let (_, answer) = call(&app, &operator, method, path, body).await;
            assert_eq!(answer["error"]["code"], code, "{path}: {answer}");
        }
        let (_, jobs) = call(&app, &operator, Method::GET, "/api/v1/jobs", None).await;
        assert!(
            jobs["jobs"].as_array().is_some_and(|jobs| jobs.len() >= 3),
            "{jobs}"
        );
    })
    .await;
}
