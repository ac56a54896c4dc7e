//! `shoal plugin dev` against the real server: what it changed is as it was when it ends by a signal.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::components::text;
use crate::support::{Server, Tenant, each_database, eventually};

/// Where builds go: one folder, so that the SDK is built once.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-plugins")
}

/// `shoal plugin dev` in a folder. Killed when dropped.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Dev {
    fn start(server: &Server, folder: &Path) -> Dev {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
        for variable in ["SHOAL_KEY", "SHOAL_SERVER", "SHOAL_DATA", "RUSTFLAGS"] {
            command.env_remove(variable);
        }
        let started = command
            .args(["plugin", "dev", ".", "--tenant", "acme", "--server"])
            .arg(server.address("http").expect("it listens"))
            .arg("--data-folder")
            .arg(server.data())
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", target())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Dev(started.expect("the binary starts"))
    }

    /// Sends a signal and waits for the end.
    async fn end_with(mut self, signal: &str) {
        let id = self.0.id();
        let told = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {id}")])
            .status();
        assert!(told.expect("a shell").success(), "cannot signal {id}");
        let status = eventually("end after the signal", async || {
            self.0.try_wait().expect("the process is ours")
        })
        .await;
        assert!(status.success(), "it ended with {status} after SIG{signal}");
    }
}

/// The tenant's installations.
async fn installations(tenant: &Tenant) -> Vec<Value> {
    let list = tenant.read.get("/api/v1/installations").await.is(200);
    list["installations"].as_array().expect("a list").clone()
}

/// Waits until the tenant's only installation runs what it is pinned to.
async fn pinned(tenant: &Tenant) -> Value {
    eventually("pinned installation that runs", async || {
        let one = installations(tenant).await.into_iter().next()?;
        let is_there = one["pinned_digest"].is_string() && one["digest"] == one["pinned_digest"];
        is_there.then_some(one)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dev_changed_is_as_it_was_after_a_signal() {
    let made = tempfile::tempdir().expect("a folder");
    let new = Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(["plugin", "new", "--kind", "channel", "dev-channel"])
        .current_dir(made.path())
        .stdout(Stdio::null())
        .status();
    assert!(new.expect("the binary starts").success());
    let folder = made.path().join("dev-channel");
    // Before anybody waits for a build.
    let built = Command::new("cargo")
        .args(["build", "--release", "--target", "wasm32-wasip2", "--quiet"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", target())
        .env_remove("RUSTFLAGS")
        .status();
    assert!(built.expect("cargo starts").success());
    let file = target().join("wasm32-wasip2/release/dev_channel.wasm");
    let first = std::fs::read(file).expect("a component");
    let settings = shoal_runtime::inspect(&first)
        .expect("a plugin")
        .manifest
        .example;
    let settings = Value::Object(settings.expect("a template has an example"));

    each_database(async |server| {
        let acme = server.tenant("acme").await;
        // What was not there is gone again.
        for signal in ["INT", "TERM"] {
            let dev = Dev::start(server, &folder);
            pinned(&acme).await;
            dev.end_with(signal).await;
            assert_eq!(installations(&acme).await, [] as [Value; 0]);
        }
        // What was there follows its track again, with its settings.
        let version = server.approve_bytes(first.clone()).await;
        let id = acme.enable("dev-channel", settings.clone()).await;
        let path = format!("/api/v1/installations/{id}");
        let dev = Dev::start(server, &folder);
        pinned(&acme).await;
        dev.end_with("INT").await;
        let after = acme.read.get(&path).await.is(200);
        assert_eq!(after["pinned_digest"], Value::Null, "{after}");
        assert_eq!(after["digest"], version["digest"], "{after}");
        // And what was pinned is pinned to the same version.
        let digest = text(&version["digest"]);
        acme.write
            .patch(&path, &json!({ "digest": digest }))
            .await
            .is(200);
        let before = acme.read.get(&path).await.is(200);
        let dev = Dev::start(server, &folder);
        eventually("change by dev", async || {
            let now = acme.read.get(&path).await.is(200);
            (now["revision"] != before["revision"]).then_some(())
        })
        .await;
        dev.end_with("INT").await;
        let after = acme.read.get(&path).await.is(200);
        assert_eq!(after["pinned_digest"], *digest, "{after}");
        assert_eq!(after["settings"], before["settings"]);
        assert_eq!(installations(&acme).await.len(), 1);
    })
    .await;
}
