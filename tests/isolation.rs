//! Every route of the API, as everybody who must not: without a key, with a wrong one, with one that allows too
//! little, and as another tenant who knows the ids.
//!
//! The table has a row for each route, and the test fails when a route has none: whoever adds a route says here what
//! a stranger would send to it.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use shoal_server::auth::Role;
use shoal_server::http::{Route, routes};

use crate::support::components::text;
use crate::support::{Answer, Client, Server, Tenant, each_database, otlp};

/// In everything that belongs to the tenant whose data strangers ask for, and in nothing that they send.
const MARKER: &str = "zanzibar";

/// What a stranger sends to one route.
pub(crate) struct Row {
    method: Method,
    /// As the route has it, parameters without their names.
    template: &'static str,
    /// For the parameters: ids of the tenant whose data it is.
    ids: Vec<String>,
    /// What follows `?`.
    query: &'static str,
    /// JSON, or the text of a form; null for none.
    body: Value,
}

impl Row {
    fn new(method: Method, template: &'static str, ids: &[&str]) -> Row {
        Row {
            method,
            template,
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            query: "",
            body: Value::Null,
        }
    }

    fn body(self, body: Value) -> Row {
        Row { body, ..self }
    }

    fn query(self, query: &'static str) -> Row {
        Row { query, ..self }
    }

    fn path(&self) -> String {
        let mut ids = self.ids.iter();
        let mut path = String::new();
        for (at, part) in self.template.split("{}").enumerate() {
            if at > 0 {
                path.push_str(ids.next().expect("the row has an id for each parameter"));
            }
            path.push_str(part);
        }
        if !self.query.is_empty() {
            path = format!("{path}?{}", self.query);
        }
        path
    }

    pub(crate) async fn send(&self, client: &Client) -> Answer {
        let (method, path) = (self.method.clone(), self.path());
        match &self.body {
            Value::Null => client.send(method, &path, None).await,
            Value::String(form) => {
                let kind = "application/x-www-form-urlencoded";
                client.send_bytes(method, &path, kind, form.clone()).await
            }
            json => client.send(method, &path, Some(json)).await,
        }
    }
}

/// Ids of what the first tenant has. Where there is no such thing, an id that no one has.
pub(crate) struct Ids {
    key: String,
    installation: String,
    monitor: String,
    alert: String,
    digest: String,
    run: String,
}

#[rustfmt::skip]
fn table(ids: &Ids) -> Vec<Row> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    let (installation, monitor, alert) = (&*ids.installation, &*ids.monitor, &*ids.alert);
    let condition = json!({ "name": "m", "query": "up", "comparison": "above", "critical": 0 });
    vec![
        Row::new(GET, "/api/v1/tenants", &[]),
        Row::new(POST, "/api/v1/tenants", &[]).body(json!({ "key": "invented" })),
        Row::new(GET, "/api/v1/tenants/{}/keys", &["acme"]),
        Row::new(POST, "/api/v1/tenants/{}/keys", &["acme"]).body(json!({ "role": "read" })),
        Row::new(Method::DELETE, "/api/v1/tenants/{}/keys/{}", &["acme", &ids.key]),

        Row::new(GET, "/api/v1/tenants/{}/plugin-limits", &["acme"]),
        Row::new(Method::PUT, "/api/v1/tenants/{}/plugin-limits", &["acme"]).body(json!({ "weight": 9 })),

        Row::new(GET, "/api/v1/plugins", &[]),
        Row::new(POST, "/api/v1/plugins", &[]).body(json!("no component")),
        Row::new(POST, "/api/v1/plugins/{}/versions/{}/approve", &["http-check", &ids.digest]).body(json!({})),
        Row::new(GET, "/api/v1/plugins/{}/versions/{}/diff", &["http-check", &ids.digest]),
        Row::new(POST, "/api/v1/plugins/{}/versions/{}/withdraw", &["http-check", &ids.digest]).body(json!({ "force": true })),
        Row::new(GET, "/api/v1/plugins/{}/tracks", &["http-check"]),
        Row::new(GET, "/api/v1/plugins/{}/history", &["http-check"]),
        Row::new(POST, "/api/v1/plugins/{}/tracks/{}/publish", &["http-check", "stable"]).body(json!({ "digest": ids.digest })),
        Row::new(POST, "/api/v1/plugins/{}/tracks/{}/promote", &["http-check", "stable"]).body(json!({})),
        Row::new(POST, "/api/v1/plugins/{}/tracks/{}/abandon", &["http-check", "stable"]).body(json!({})),
        Row::new(POST, "/api/v1/plugins/{}/tracks/{}/rollback", &["http-check", "stable"]).body(json!({})),
        Row::new(GET, "/api/v1/publishers", &[]),
        Row::new(POST, "/api/v1/publishers", &[]).body(json!({ "name": "stranger", "key": "shoal-pub:?" })),
        Row::new(Method::DELETE, "/api/v1/publishers/{}", &["acme"]),
        Row::new(GET, "/api/v1/audit", &[]),

        Row::new(GET, "/api/v1/plugins/{}/health", &["http-check"]),
        Row::new(GET, "/api/v1/plugins/{}/contacts", &["http-check"]),
        Row::new(POST, "/api/v1/plugins/{}/versions/{}/quarantine", &["http-check", &ids.digest]).body(json!({ "reason": "none of your business" })),
        Row::new(POST, "/api/v1/plugins/{}/versions/{}/release", &["http-check", &ids.digest]).body(json!({})),
        Row::new(GET, "/api/v1/installations/{}/failures", &[installation]),
        Row::new(GET, "/api/v1/installations/{}/fallback", &[installation]),
        Row::new(Method::PUT, "/api/v1/installations/{}/fallback", &[installation]).body(json!({ "to": null })),
        Row::new(GET, "/api/v1/installations", &[]),
        Row::new(POST, "/api/v1/installations", &[]).body(json!({ "plugin": "http-check", "settings": { "url": "http://a/" } })),
        Row::new(GET, "/api/v1/installations/{}", &[installation]),
        Row::new(Method::PATCH, "/api/v1/installations/{}", &[installation]).body(json!({ "enabled": false })),
        Row::new(Method::DELETE, "/api/v1/installations/{}", &[installation]),

        Row::new(GET, "/api/v1/monitors", &[]),
        Row::new(POST, "/api/v1/monitors", &[]).body(condition.clone()),
        Row::new(GET, "/api/v1/monitors/{}", &[monitor]),
        Row::new(Method::PUT, "/api/v1/monitors/{}", &[monitor]).body(condition),
        Row::new(Method::DELETE, "/api/v1/monitors/{}", &[monitor]),
        Row::new(GET, "/api/v1/alerts", &[]),
        Row::new(GET, "/api/v1/alerts/{}", &[alert]),
        Row::new(POST, "/api/v1/alerts/{}/close", &[alert]).body(json!({ "reason": "none of your business" })),

        Row::new(GET, "/api/v1/checks", &[]),
        Row::new(POST, "/api/v1/installations/{}/test-notification", &[installation]).body(json!({})),

        Row::new(GET, "/api/v1/usage", &[]),
        Row::new(GET, "/api/v1/usage/hours", &[]),
        Row::new(GET, "/api/v1/statements", &[]).query("include_open_hour=true"),

        Row::new(GET, "/api/v1/jobs", &[]),
        Row::new(GET, "/api/v1/jobs/{}/runs", &["close-usage"]),
        Row::new(POST, "/api/v1/jobs/{}/runs", &["close-usage"]).body(json!({})),
        Row::new(GET, "/api/v1/runs/{}", &[&ids.run]),

        Row::new(GET, "/prometheus/api/v1/query", &[]).query("query=%7B__name__%3D~%22.%2B%22%7D"),
        Row::new(POST, "/prometheus/api/v1/query", &[]).body(json!("query=%7B__name__%3D~%22.%2B%22%7D")),
        Row::new(GET, "/prometheus/api/v1/query_range", &[]).query("query=road&start=0&end=60&step=60"),
        Row::new(POST, "/prometheus/api/v1/query_range", &[]).body(json!("query=road&start=0&end=60&step=60")),
        Row::new(GET, "/prometheus/api/v1/series", &[]).query("match%5B%5D=%7B__name__%3D~%22.%2B%22%7D"),
        Row::new(POST, "/prometheus/api/v1/series", &[]).body(json!("match%5B%5D=%7B__name__%3D~%22.%2B%22%7D")),
        Row::new(GET, "/prometheus/api/v1/labels", &[]),
        Row::new(POST, "/prometheus/api/v1/labels", &[]).body(json!("")),
        Row::new(GET, "/prometheus/api/v1/label/{}/values", &["host_name"]),
        Row::new(GET, "/prometheus/api/v1/metadata", &[]),
        Row::new(GET, "/prometheus/api/v1/status/buildinfo", &[]),

        Row::new(GET, "/api/v1/openapi.json", &[]),
    ]
}

/// A route's path without the names of its parameters.
fn template(route: &Route) -> String {
    let mut shown = String::new();
    let mut is_name = false;
    for letter in route.path.chars() {
        match letter {
            '{' => is_name = true,
            '}' => {
                is_name = false;
                shown.push_str("{}");
            }
            letter if !is_name => shown.push(letter),
            _ => {}
        }
    }
    shown
}

/// Every route with its row.
pub(crate) fn rows(ids: &Ids) -> Vec<(Route, Row)> {
    let mut table = table(ids);
    let find = |route: Route| {
        let template = template(&route);
        let at = table
            .iter()
            .position(|row| row.method == route.method && row.template == template);
        let at = at.unwrap_or_else(|| {
            panic!(
                "{} {} has no row in the table of tests/isolation.rs: add what a stranger would send",
                route.method, route.path
            )
        });
        (route, table.swap_remove(at))
    };
    routes().into_iter().map(find).collect()
}

#[test]
fn every_route_has_a_row_and_no_two_are_the_same() {
    let nothing = || "none".to_owned();
    let rows = rows(&Ids {
        key: nothing(),
        installation: nothing(),
        monitor: nothing(),
        alert: nothing(),
        digest: nothing(),
        run: nothing(),
    });
    let names: BTreeSet<String> = rows
        .iter()
        .map(|(route, _)| format!("{} {}", route.method, template(route)))
        .collect();
    assert_eq!(names.len(), rows.len(), "a route is there twice");
}

#[tokio::test]
async fn no_route_shows_or_changes_what_is_another_tenants() {
    each_database(async |server| {
        let owner = server.tenant("acme").await;
        let ids = furnish(server, &owner).await;
        let stranger = server.tenant("stranger").await;
        let before = belongings(server, &owner).await;
        for (route, row) in rows(&ids) {
            let shown = format!("{} {}", row.method, row.path());
            if let Some(role) = route.role {
                without_a_key(server, &owner, &row, &shown).await;
                with_too_little(&owner, role, &row, &shown).await;
                as_another_tenant(&stranger, role, &row, &shown).await;
            }
        }
        assert_eq!(
            belongings(server, &owner).await,
            before,
            "something changed"
        );
    })
    .await;
}

/// Nobody, somebody with a key that was altered, and one whose key was revoked.
async fn without_a_key(server: &Server, owner: &Tenant, row: &Row, shown: &str) {
    let revoked = server.key(&owner.key, "write").await;
    let id = revoked.key().split('_').nth(1).expect("keys name their id");
    let path = format!("/api/v1/tenants/{}/keys/key_{id}", owner.key);
    server.operator().delete(&path).await.is(204);
    let altered = owner.write.with_key(&altered(owner.write.key()));
    for (who, client) in [
        ("nobody", server.nobody()),
        ("an altered key", altered),
        ("a revoked key", revoked),
    ] {
        let answer = row.send(&client).await;
        assert_eq!(answer.status, 401, "{shown} as {who}: {answer:?}");
        expect_no_marker(&answer, shown);
    }
}

/// The owner's reading key where more is needed, and the writing key where the operator's is.
async fn with_too_little(owner: &Tenant, role: Role, row: &Row, shown: &str) {
    for (has, client) in [(Role::Read, &owner.read), (Role::Write, &owner.write)] {
        if has < role {
            let answer = row.send(client).await;
            assert_eq!(
                answer.status,
                403,
                "{shown} as {}: {answer:?}",
                has.as_str()
            );
        }
    }
}

/// Another tenant, with the owner's ids: by the path, and by asking to act for the owner.
async fn as_another_tenant(stranger: &Tenant, role: Role, row: &Row, shown: &str) {
    let names_the_owner = !row.ids.is_empty() && !row.template.starts_with("/prometheus/");
    for client in [&stranger.read, &stranger.write] {
        let answer = row.send(client).await;
        expect_no_marker(&answer, shown);
        if role == Role::Operator {
            assert_eq!(answer.status, 403, "{shown} as a stranger: {answer:?}");
        } else if names_the_owner {
            assert!(
                matches!(answer.status, 403 | 404),
                "{shown} as a stranger: {answer:?}"
            );
        }
        let answer = row.send(&client.acting_for("acme")).await;
        expect_no_marker(&answer, shown);
        // Routes without this parameter may pass it over; then the answer is the stranger's own.
        if !names_the_owner && role != Role::Operator && answer.status < 300 {
            let own = row.send(client).await;
            assert_eq!(
                own.text.len(),
                answer.text.len(),
                "{shown} acting for the owner: {answer:?} is not {own:?}"
            );
        }
    }
}

#[track_caller]
fn expect_no_marker(answer: &Answer, shown: &str) {
    assert!(!answer.text.contains(MARKER), "{shown}: {answer:?}");
}

/// The key with one letter of its secret changed.
fn altered(key: &str) -> String {
    let middle = key.len() - 20;
    let other = if key.as_bytes()[middle] == b'x' {
        "y"
    } else {
        "x"
    };
    format!("{}{other}{}", &key[..middle], &key[middle + 1..])
}

fn has_route(method: &Method, path: &str) -> bool {
    routes()
        .iter()
        .any(|route| route.method == *method && template(route) == path)
}

/// Gives the owner one of everything, each with the marker in it.
pub(crate) async fn furnish(server: &Server, owner: &Tenant) -> Ids {
    let version = server.approve("http-check").await;
    let body = json!({
        "plugin": "http-check",
        "name": MARKER,
        "settings": { "url": format!("http://127.0.0.1:9/{MARKER}"), "token": MARKER },
        "interval_ms": 86_400_000,
    });
    let installation = owner
        .write
        .post("/api/v1/installations", &body)
        .await
        .is(201);
    let key = owner
        .write
        .post(
            "/api/v1/tenants/acme/keys",
            &json!({ "role": "read", "name": MARKER }),
        )
        .await
        .is(201);
    let mut ids = Ids {
        key: text(&key["id"]),
        installation: text(&installation["id"]),
        monitor: "mon_0000000000000000".to_owned(),
        alert: "alt_0000000000000000".to_owned(),
        digest: text(&version["digest"]),
        run: "run_0000000000000000".to_owned(),
    };
    if server.address("otlp_http").is_some() {
        server.approve("otlp").await;
        owner.enable("otlp", json!({})).await;
        let body = otlp::gauge(MARKER, MARKER, 7.0);
        otlp::post(&owner.otlp, &body).await.is(200);
    }
    if has_route(&Method::POST, "/api/v1/monitors") {
        let body = json!({ "name": MARKER, "memo": MARKER, "query": MARKER, "comparison": "above", "critical": 0 });
        let monitor = owner.write.post("/api/v1/monitors", &body).await.is(201);
        ids.monitor = text(&monitor["id"]);
    }
    if has_route(&Method::POST, "/api/v1/jobs/{}/runs") {
        let run = server.evaluate_monitors().await;
        ids.run = text(&run["id"]);
        let alerts = owner.read.get("/api/v1/alerts").await.is(200);
        ids.alert = text(&alerts["alerts"][0]["id"]);
    }
    ids
}

/// What the owner has, as the owner sees it.
async fn belongings(server: &Server, owner: &Tenant) -> Value {
    let mut keys = server
        .operator()
        .get("/api/v1/tenants/acme/keys")
        .await
        .is(200);
    // Keys that the test itself makes and revokes, and the time of their last use, do change.
    let list = keys["keys"].as_array_mut().expect("a list of keys");
    list.retain(|key| key["revoked_at_ms"].is_null());
    for key in list {
        key["last_used_at_ms"] = Value::Null;
    }
    let mut all = json!({
        "keys": keys,
        "installations": owner.read.get("/api/v1/installations").await.is(200),
    });
    for (name, path) in [
        ("monitors", "/api/v1/monitors"),
        ("alerts", "/api/v1/alerts"),
    ] {
        if has_route(&Method::GET, path) {
            all[name] = owner.read.get(path).await.is(200)[name].clone();
        }
    }
    // A monitor goes on evaluating meanwhile.
    for monitor in all["monitors"].as_array_mut().into_iter().flatten() {
        monitor["evaluated_at_ms"] = Value::Null;
    }
    for alert in all["alerts"].as_array_mut().into_iter().flatten() {
        *alert =
            json!({ "id": alert["id"], "status": alert["status"], "severity": alert["severity"] });
    }
    all
}
