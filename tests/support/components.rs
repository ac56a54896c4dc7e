//! The built plugins and guests, and their way into a server.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, Server, Tenant};

/// Where builds leave components, relative to the repository.
const FOLDERS: [&str; 2] = [
    "plugins/target/wasm32-wasip2/release",
    "tests/guests/target/wasm32-wasip2/release",
];

/// The bytes of a component, by its package's name, such as `http-check`.
///
/// # Panics
/// When it is not built.
pub(crate) fn component(package: &str) -> Vec<u8> {
    let file = format!("{}.wasm", package.replace('-', "_"));
    let root = repository();
    let found = FOLDERS
        .iter()
        .map(|folder| root.join(folder).join(&file))
        .find(|path| path.is_file());
    let path = found.unwrap_or_else(|| {
        panic!("{file} is in none of {FOLDERS:?}; build it with: cargo xtask plugins")
    });
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The top folder of the repository; this package lies two folders below.
pub(crate) fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().nth(2);
    root.expect("the package lies in host/server").to_owned()
}

impl Server {
    /// Adds a component without approving it; returns the version as the API shows it.
    pub(crate) async fn add(&self, package: &str) -> Value {
        self.add_bytes(component(package)).await
    }

    async fn add_bytes(&self, component: Vec<u8>) -> Value {
        let path = "/api/v1/plugins";
        let answer = self
            .operator()
            .send_bytes(Method::POST, path, "application/wasm", component)
            .await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        answer.json()
    }

    /// Adds a component and approves all that it asks for; returns the version as the API shows it.
    pub(crate) async fn approve(&self, package: &str) -> Value {
        self.approve_bytes(component(package)).await
    }

    /// The same with a component's bytes.
    pub(crate) async fn approve_bytes(&self, component: Vec<u8>) -> Value {
        let version = self.add_bytes(component).await;
        let path = format!(
            "/api/v1/plugins/{}/versions/{}/approve",
            text(&version["plugin"]),
            text(&version["digest"])
        );
        self.operator().post(&path, &json!({})).await.is(200)
    }
}

impl Tenant {
    /// Enables an approved plugin; returns the installation's id. The name is the plugin's id.
    pub(crate) async fn enable(&self, plugin: &str, settings: Value) -> String {
        let body = json!({ "plugin": plugin, "settings": settings });
        enable(&self.write, &body).await
    }

    /// Enables a check that runs as often as checks may, every ten seconds; returns the installation's id.
    pub(crate) async fn enable_check(&self, plugin: &str, name: &str, settings: Value) -> String {
        let body =
            json!({ "plugin": plugin, "name": name, "settings": settings, "interval_ms": 10_000 });
        enable(&self.write, &body).await
    }
}

/// Makes an installation from a whole body, and checks that it can run.
pub(crate) async fn enable(client: &Client, body: &Value) -> String {
    let made = client.post("/api/v1/installations", body).await.is(201);
    assert_eq!(made["error"], Value::Null, "{made}");
    text(&made["id"])
}

/// A JSON string's text.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is not a text"))
        .to_owned()
}
