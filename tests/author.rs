//! What authors of plugins do on their own machine, each command as a process.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::components::component;

const FIRST_PARTY: [&str; 7] = [
    "http-check",
    "net-check",
    "mail",
    "webhook",
    "slack",
    "mackerel-plan",
    "otlp",
];

/// Runs `shoal plugin` without a server.
fn plugin(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    for variable in ["SHOAL_KEY", "SHOAL_SERVER", "SHOAL_DATA"] {
        command.env_remove(variable);
    }
    command
        .arg("plugin")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

#[track_caller]
fn done(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Standard output and standard error of a command that did not work.
#[track_caller]
fn failed(output: &Output) -> (Value, String) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let shown = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (shown, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A folder with the component of a first-party plugin in it, and the component's name there.
fn with_component(package: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let name = format!("{package}.wasm");
    std::fs::write(folder.path().join(&name), component(package)).expect("written");
    (folder, name)
}

/// The manifest of a first-party plugin.
fn manifest(package: &str) -> String {
    let bytes = component(package);
    let inspection = shoal_runtime::inspect(&bytes).expect("a plugin");
    inspection.manifest.text
}

#[test]
fn every_first_party_plugin_keeps_its_promises() {
    for package in FIRST_PARTY {
        let (folder, file) = with_component(package);
        let tested = done(&plugin(folder.path(), &["test", &file, "--json"]));
        let tests = tested["tests"].as_array().expect("tests");
        assert!(!tests.is_empty(), "{package}");
        assert!(tests[0]["report"]["memory_peak_bytes"].as_u64() > Some(0));
        let checked = done(&plugin(folder.path(), &["check", &file, "--json"]));
        assert_eq!(checked["plugin"], package);
        let text = plugin(folder.path(), &["test", &file]);
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains("MEMORY") && text.contains("MiB"), "{text}");
    }
}

#[test]
fn a_broken_promise_names_what_was_expected_and_found() {
    let (folder, file) = with_component("webhook");
    let changed = manifest("webhook").replace("after_ms = 7000", "after_ms = 8000");
    std::fs::write(folder.path().join("plugin.toml"), changed).expect("written");
    let pack = ["pack", &file, "--manifest", "plugin.toml", "-o", "out.wasm"];
    done(&plugin(folder.path(), &pack));
    let (shown, error) = failed(&plugin(folder.path(), &["test", "out.wasm", "--json"]));
    assert_eq!(shown["failed"], 1);
    let problem = shown["tests"][1]["problem"].as_str().expect("a problem");
    assert!(
        problem.starts_with("expect.after_ms: expected 8000, found 7000"),
        "{problem}"
    );
    assert!(error.contains("1 of 3 golden tests failed"), "{error}");
    let (shown, _) = failed(&plugin(folder.path(), &["check", "out.wasm", "--json"]));
    let checks = shown["checks"].as_array().expect("checks");
    assert!(checks.iter().any(|check| check["passed"] == false));
}

#[test]
fn under_a_fault_a_plugin_still_gives_an_answer() {
    for package in FIRST_PARTY {
        let (folder, file) = with_component(package);
        for fault in ["http=503,delay=5ms", "dns=fail", "clock=+1h"] {
            let arguments = ["test", &file, "--fault", fault, "--json"];
            done(&plugin(folder.path(), &arguments));
        }
    }
    let (folder, file) = with_component("webhook");
    let arguments = ["test", &file, "--fault", "http=503", "--json"];
    let tested = done(&plugin(folder.path(), &arguments));
    assert_eq!(tested["tests"][0]["found"]["outcome"], "retry");
    let unknown = plugin(folder.path(), &["test", &file, "--fault", "disk=full"]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
}

#[test]
fn what_was_signed_verifies_until_a_byte_changes() {
    let (folder, file) = with_component("slack");
    let made = done(&plugin(
        folder.path(),
        &["keygen", "--output", "a.key", "--json"],
    ));
    let key = made["public_key"].as_str().expect("a key").to_owned();
    failed(&plugin(folder.path(), &["keygen", "--output", "a.key"]));
    let (_, error) = failed(&plugin(folder.path(), &["verify", &file, "--key", &key]));
    assert!(error.contains("not signed"), "{error}");
    let sign = [
        "sign",
        &file,
        "--key",
        "a.key",
        "-o",
        "signed.wasm",
        "--json",
    ];
    let signed = done(&plugin(folder.path(), &sign));
    assert_eq!(signed["key_id"], made["key_id"]);
    done(&plugin(
        folder.path(),
        &["verify", "signed.wasm", "--key", &key],
    ));
    done(&plugin(
        folder.path(),
        &["check", "signed.wasm", "--signed-by", &key],
    ));
    let mut bytes = std::fs::read(folder.path().join("signed.wasm")).expect("signed");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.path().join("changed.wasm"), bytes).expect("written");
    let (_, error) = failed(&plugin(
        folder.path(),
        &["verify", "changed.wasm", "--key", &key],
    ));
    assert!(
        error.contains("changed after it had been signed"),
        "{error}"
    );
}

#[test]
fn a_manifest_can_be_put_into_a_component_and_read_again() {
    let (folder, file) = with_component("http-check");
    let renamed = manifest("http-check").replacen("id = \"http-check\"", "id = \"my-check\"", 1);
    std::fs::write(folder.path().join("plugin.toml"), &renamed).expect("written");
    done(&plugin(folder.path(), &["keygen", "--output", "a.key"]));
    done(&plugin(folder.path(), &["sign", &file, "--key", "a.key"]));
    let pack = ["pack", &file, "--manifest", "plugin.toml", "-o", "out.wasm"];
    done(&plugin(folder.path(), &pack));
    let shown = done(&plugin(folder.path(), &["inspect", "out.wasm", "--json"]));
    assert_eq!(shown["plugin"], "my-check");
    assert_eq!(shown["signature"], "not signed", "it was for other bytes");
    assert!(shown["custom_sections"][0]["name"].is_string());
    let text = plugin(folder.path(), &["inspect", "out.wasm"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in ["asks for", "golden tests", "imports", "wasi:http"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    std::fs::write(folder.path().join("plugin.toml"), "id = 1").expect("written");
    let (_, error) = failed(&plugin(folder.path(), &pack));
    assert!(error.contains("plugin.toml"), "{error}");
}

#[test]
fn a_change_that_breaks_settings_needs_a_major_step() {
    let (folder, file) = with_component("slack");
    let next = manifest("slack")
        .replacen("version = \"0.1.0\"", "version = \"0.1.1\"", 1)
        .replacen("default = \"\"", "maxLength = 3", 1);
    std::fs::write(folder.path().join("plugin.toml"), &next).expect("written");
    let pack = [
        "pack",
        &file,
        "--manifest",
        "plugin.toml",
        "-o",
        "next.wasm",
    ];
    done(&plugin(folder.path(), &pack));
    let check = ["check", "next.wasm", "--against", &file, "--json"];
    let (shown, _) = failed(&plugin(folder.path(), &check));
    let differences = shown["differences"].to_string();
    assert!(
        differences.contains("settings.mention: maxLength is 3"),
        "{differences}"
    );
    let checks = shown["checks"].as_array().expect("checks");
    let version = checks.last().expect("a verdict");
    assert_eq!(
        version["detail"],
        "0.1.0 to 0.1.1 is a minor step, and what changed needs a major step"
    );
}

#[test]
fn one_call_is_json_in_and_json_out() {
    let (folder, file) = with_component("mackerel-plan");
    let input = json!({ "month": "2026-01", "meters": { "host.standard": { "web-1": 744 } } });
    std::fs::write(folder.path().join("in.json"), input.to_string()).expect("written");
    let ran = done(&plugin(
        folder.path(),
        &["run", &file, "--input", "in.json"],
    ));
    assert_eq!(ran["total"], "1833");
    let json = done(&plugin(
        folder.path(),
        &["run", &file, "--input", "in.json", "--json"],
    ));
    assert!(json["report"]["fuel"].as_u64() > Some(0), "{json}");

    let (folder, file) = with_component("http-check");
    let (shown, error) = failed(&plugin(
        folder.path(),
        &[
            "run",
            &file,
            "--set",
            "url=http://127.0.0.1:1/",
            "--set",
            "timeout_ms=0",
        ],
    ));
    assert_eq!(shown, Value::Null);
    assert!(error.contains("timeout_ms"), "{error}");
    let set = ["--set", "url=http://127.0.0.1:1/"];
    let unreached = plugin(folder.path(), &[&["run", &file][..], &set].concat());
    let error = String::from_utf8_lossy(&unreached.stderr).into_owned();
    assert!(error.contains("granted: http setting:url"), "{error}");
    assert!(error.contains("give --allow-network"), "{error}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("url=http://{}/", listener.local_addr().expect("an address"));
    let served = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().expect("asked");
        let mut head = [0; 4096];
        let read = stream.read(&mut head).expect("a request");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nup";
        stream.write_all(answer).expect("answered");
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let open = ["--allow-network", "--allow-private", "127.0.0.0/8"];
    let set = ["run", &file, "--set", &url];
    let ran = done(&plugin(folder.path(), &[&set[..], &open].concat()));
    assert_eq!(ran["status"], "ok", "{ran}");
    assert!(served.join().expect("served").starts_with("GET / HTTP/1.1"));
    let faulty = [&set[..], &open, &["--fault", "http=503"]].concat();
    let ran = done(&plugin(folder.path(), &faulty));
    assert_eq!(ran["status"], "critical", "{ran}");
}

/// Where the builds of new plugins go: one folder, so that the SDK is built once.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-plugins")
}

fn cargo(folder: &Path, arguments: &[&str]) -> Output {
    Command::new("cargo")
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target())
        .env_remove("RUSTFLAGS")
        .stdin(Stdio::null())
        .output()
        .expect("cargo starts")
}

#[test]
fn a_new_plugin_of_each_kind_builds_and_keeps_its_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    for kind in ["receiver", "check", "channel", "billing-rule"] {
        let name = format!("my-{kind}");
        done(&plugin(folder.path(), &["new", "--kind", kind, &name]));
        let source = folder.path().join(&name);
        let native = cargo(&source, &["test", "--quiet"]);
        assert!(native.status.success(), "{kind}: {native:?}");
        let built = cargo(
            &source,
            &["build", "--target", "wasm32-wasip2", "--release", "--quiet"],
        );
        assert!(built.status.success(), "{kind}: {built:?}");
        let file = format!("{}.wasm", name.replace('-', "_"));
        let file = target().join("wasm32-wasip2/release").join(file);
        let file = file.to_str().expect("a path in UTF-8");
        done(&plugin(&source, &["test", file]));
        let checked = done(&plugin(&source, &["check", file, "--json"]));
        assert_eq!(checked["plugin"], *name);
    }
    let (_, error) = failed(&plugin(
        folder.path(),
        &["new", "--kind", "check", "my-check"],
    ));
    assert!(error.contains("exists already"), "{error}");
    let (_, error) = failed(&plugin(folder.path(), &["new", "--kind", "probe", "other"]));
    assert!(error.contains("\"probe\" is not a kind"), "{error}");
}
