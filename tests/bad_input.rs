//! Whatever is wrong with a request, its answer says which value is at fault and what to do, and nothing changes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::components::{component, text};
use crate::support::{Client, Database, Server, Tenant};

/// One wrong request.
struct Wrong<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    body: Value,
    /// What the answer must be.
    status: u16,
    code: &'static str,
    /// What the message must name: the value at fault, or what to do next.
    says: &'a [&'a str],
}

/// Sends it and checks the answer.
async fn refused(wrong: Wrong<'_>) {
    let shown = format!("{} {} {}", wrong.method, wrong.path, wrong.body);
    let body = (!wrong.body.is_null()).then_some(&wrong.body);
    let answer = wrong.client.send(wrong.method, &wrong.path, body).await;
    let message = answer.is_error(wrong.status, wrong.code);
    for word in wrong.says {
        assert!(
            message.contains(word),
            "{shown}: {message:?} does not say {word:?}"
        );
    }
}

/// Everything of a tenant that a request could have changed.
async fn state(server: &Server, tenant: &Tenant) -> Value {
    let operator = server.operator();
    json!({
        "tenants": operator.get("/api/v1/tenants").await.is(200),
        "plugins": operator.get("/api/v1/plugins").await.is(200),
        "installations": tenant.read.get("/api/v1/installations").await.is(200),
        "keys": tenant_keys(operator, tenant).await,
    })
}

/// Without the time of the last use, which looking changes.
async fn tenant_keys(operator: &Client, tenant: &Tenant) -> Value {
    let path = format!("/api/v1/tenants/{}/keys", tenant.key);
    let mut keys = operator.get(&path).await.is(200);
    for key in keys["keys"].as_array_mut().expect("a list of keys") {
        key["last_used_at_ms"] = Value::Null;
    }
    keys
}

#[tokio::test]
async fn what_the_api_refuses_names_the_value_and_changes_nothing() {
    let server = Server::start(Database::sqlite()).await;
    let tenant = server.tenant("acme").await;
    server.approve("http-check").await;
    let id = tenant
        .enable("http-check", json!({ "url": "http://127.0.0.1:9/" }))
        .await;
    let before = state(&server, &tenant).await;

    let (operator, write, read) = (server.operator(), &tenant.write, &tenant.read);
    let (nobody, nonsense) = (server.nobody(), write.with_key("shoal_nonsense"));
    let row = |client, method, path: &str, body, status, code, says| Wrong {
        client,
        method,
        path: path.to_owned(),
        body,
        status,
        code,
        says,
    };
    let installation = format!("/api/v1/installations/{id}");
    let rows = [
        // Keys.
        row(
            &nobody,
            Method::GET,
            "/api/v1/installations",
            Value::Null,
            401,
            "unauthenticated",
            &["Authorization: Bearer"],
        ),
        row(
            &nonsense,
            Method::GET,
            "/api/v1/installations",
            Value::Null,
            401,
            "unauthenticated",
            &["Authorization: Bearer"],
        ),
        row(
            read,
            Method::POST,
            "/api/v1/installations",
            json!({ "plugin": "http-check" }),
            403,
            "forbidden",
            &["role write", "read"],
        ),
        row(
            read,
            Method::DELETE,
            &installation,
            Value::Null,
            403,
            "forbidden",
            &["role write"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/tenants",
            json!({ "key": "other" }),
            403,
            "forbidden",
            &["role operator", "write"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/plugins/http-check/versions/x/approve",
            json!({}),
            403,
            "forbidden",
            &["role operator"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/tenants/acme/keys",
            json!({ "role": "operator" }),
            400,
            "invalid_role",
            &["acme", "read or write"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/tenants/acme/keys",
            json!({ "role": "admin" }),
            400,
            "invalid_role",
            &["\"admin\"", "read, write or operator"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/tenants/acme/keys",
            json!({}),
            400,
            "invalid_body",
            &["role"],
        ),
        row(
            write,
            Method::DELETE,
            "/api/v1/tenants/acme/keys/key_0000000000000000",
            Value::Null,
            404,
            "not_found",
            &["acme", "key_0000000000000000"],
        ),
        // Tenants.
        row(
            operator,
            Method::POST,
            "/api/v1/tenants",
            json!({ "key": "Acme!" }),
            400,
            "invalid_tenant_key",
            &["\"Acme!\"", "a-z"],
        ),
        row(
            operator,
            Method::POST,
            "/api/v1/tenants",
            json!({ "key": "" }),
            400,
            "invalid_tenant_key",
            &["1 to 63"],
        ),
        row(
            operator,
            Method::POST,
            "/api/v1/tenants",
            json!({ "key": "acme" }),
            409,
            "tenant_exists",
            &["\"acme\""],
        ),
        row(
            operator,
            Method::POST,
            "/api/v1/tenants",
            json!({ "key": "b", "colour": 1 }),
            400,
            "invalid_body",
            &["colour"],
        ),
        row(
            operator,
            Method::GET,
            "/api/v1/installations?tenant=nobody",
            Value::Null,
            404,
            "not_found",
            &["\"nobody\""],
        ),
        row(
            write,
            Method::GET,
            "/api/v1/installations?tenant=operator",
            Value::Null,
            404,
            "not_found",
            &["\"operator\""],
        ),
        row(
            operator,
            Method::GET,
            "/api/v1/tenants/nobody/keys",
            Value::Null,
            404,
            "not_found",
            &["\"nobody\""],
        ),
        // Installations.
        row(
            write,
            Method::POST,
            "/api/v1/installations",
            json!({ "plugin": "no-such" }),
            400,
            "no_approved_version",
            &["\"no-such\"", "shoal plugin approve"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/installations",
            json!({ "plugin": "http-check", "name": "b" }),
            400,
            "not_runnable",
            &["url"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/installations",
            json!({ "plugin": "http-check", "name": "b", "settings": { "url": "http://a/", "speed": 9 } }),
            400,
            "not_runnable",
            &["speed"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/installations",
            json!({ "plugin": "http-check", "name": "b", "settings": { "url": 9 } }),
            400,
            "not_runnable",
            &["url"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/installations",
            json!({ "plugin": "http-check", "name": "b", "settings": { "url": "http://a/", "timeout_ms": 1 } }),
            400,
            "not_runnable",
            &["timeout_ms", "100"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/installations",
            json!({ "plugin": "http-check", "settings": { "url": "http://a/" } }),
            409,
            "installation_exists",
            &["\"http-check\"", "another name"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/installations",
            json!({ "plugin": "http-check", "name": "b", "interval_ms": 10, "settings": { "url": "http://a/" } }),
            400,
            "invalid_interval",
            &["10", "1000"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/installations",
            json!({ "plugin": "http-check", "name": "", "settings": { "url": "http://a/" } }),
            400,
            "invalid_name",
            &["1 to 100"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/installations",
            json!({ "plugin": "http-check", "name": "b", "digest": "sha256:0", "settings": { "url": "http://a/" } }),
            400,
            "not_runnable",
            &["sha256:0", "shoal plugin approve"],
        ),
        row(
            write,
            Method::POST,
            "/api/v1/installations",
            json!({ "plugin": "http-check", "name": "b", "grants": ["fly"], "settings": { "url": "http://a/" } }),
            400,
            "invalid_grant",
            &["fly"],
        ),
        row(
            write,
            Method::PATCH,
            &installation,
            json!({ "settings": { "url": "http://a/", "method": "FETCH" } }),
            400,
            "not_runnable",
            &["method"],
        ),
        row(
            write,
            Method::PATCH,
            &installation,
            json!({ "enabeld": false }),
            400,
            "invalid_body",
            &["enabeld"],
        ),
        row(
            write,
            Method::GET,
            "/api/v1/installations/ins_0000000000000000",
            Value::Null,
            404,
            "not_found",
            &["ins_0000000000000000"],
        ),
        // Plugins.
        row(
            operator,
            Method::POST,
            "/api/v1/plugins/http-check/versions/sha256:0/approve",
            json!({}),
            404,
            "not_found",
            &["sha256:0", "shoal plugin list"],
        ),
        // Addresses.
        row(
            write,
            Method::GET,
            "/api/v1/nothing",
            Value::Null,
            404,
            "not_found",
            &["/api/v1/openapi.json"],
        ),
    ];
    for row in rows {
        refused(row).await;
    }

    assert_eq!(state(&server, &tenant).await, before);
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused_by_the_place_of_its_first_error() {
    let server = Server::start(Database::sqlite()).await;
    let tenant = server.tenant("acme").await;
    let path = "/api/v1/installations";
    for (body, says) in [
        ("{\"plugin\": \"http-check\"", "line 1 column 23"),
        ("not JSON", "line 1 column 2"),
        ("[]", "expected"),
        ("{\"plugin\": 7}", "invalid type: integer `7`"),
        ("", "EOF"),
    ] {
        let sent = tenant
            .write
            .send_bytes(Method::POST, path, "application/json", body);
        let message = sent.await.is_error(400, "invalid_body");
        assert!(message.contains(says), "{body:?}: {message}");
    }
    let huge = "x".repeat(2 << 20);
    let sent = tenant
        .write
        .send_bytes(Method::POST, path, "application/json", huge);
    let answer = sent.await;
    assert!(matches!(answer.status, 400 | 413), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_plugin_is_refused_with_what_it_is_and_what_to_do() {
    let server = Server::start(Database::sqlite()).await;
    let whole = component("http-check");
    let half = whole[..whole.len() / 2].to_vec();
    let module = wat::parse_str("(module)").expect("a module");
    let bare = wat::parse_str("(component)").expect("a component");
    // The manifest says check, the code exports a channel; the two words have the same length. Its golden tests are those
    // of a channel, which is refused before its code is looked at.
    let wrong_kind = replaced(
        &without_golden_tests(component("webhook")),
        "kind = \"channel\"",
        "kind = \"check\"  ",
    );
    for (name, bytes, says) in [
        ("nothing", Vec::new(), "not a component"),
        ("text", b"hello, world".to_vec(), "not a component"),
        ("a module", module, "not a component"),
        ("a component without a manifest", bare, "shoal plugin pack"),
        ("half a component", half, "at byte"),
        ("another world", wrong_kind, "must export"),
    ] {
        let sent = server.operator().send_bytes(
            Method::POST,
            "/api/v1/plugins",
            "application/wasm",
            bytes,
        );
        let message = sent.await.is_error(400, "plugin_refused");
        assert!(
            message.contains(says),
            "{name}: {message:?} does not say {says:?}"
        );
    }
    let list = server.operator().get("/api/v1/plugins").await.is(200);
    assert_eq!(list["versions"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn more_than_a_plugin_asks_for_cannot_be_approved() {
    let server = Server::start(Database::sqlite()).await;
    let version = server.add("webhook").await;
    let path = format!(
        "/api/v1/plugins/webhook/versions/{}/approve",
        text(&version["digest"])
    );
    let body = json!({ "grants": ["ingest"] });
    let message = server
        .operator()
        .post(&path, &body)
        .await
        .is_error(400, "grant_not_asked");
    assert!(
        message.contains("webhook") && message.contains("ingest"),
        "{message}"
    );
    let list = server.operator().get("/api/v1/plugins").await.is(200);
    assert_eq!(list["versions"][0]["state"], "added");
    server.stop().await;
}

/// A component whose manifest promises nothing: spaces stand where its golden tests were, which end the manifest.
#[track_caller]
fn without_golden_tests(mut bytes: Vec<u8>) -> Vec<u8> {
    let text = shoal_runtime::inspect(&bytes)
        .expect("a plugin")
        .manifest
        .text;
    let tests = text.find("[[tests]]").expect("golden tests");
    let is_manifest = |window: &[u8]| window == text.as_bytes();
    // Wherever it stands: the modules inside may carry it as well.
    while let Some(at) = bytes.windows(text.len()).position(is_manifest) {
        bytes[at + tests..at + text.len()].fill(b' ');
    }
    bytes
}

/// Bytes with one text replaced by another of the same length, wherever it stands.
#[track_caller]
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut changed = bytes.to_vec();
    let places = bytes.windows(from.len()).enumerate();
    let found = places.filter(|(_, window)| *window == from.as_bytes());
    for (at, _) in found {
        changed[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    assert_ne!(changed, bytes, "the manifest is in the component");
    changed
}
