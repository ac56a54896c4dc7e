//! The command line as scripts use it: exit codes, JSON on standard output, errors on standard error.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::components::{component, text};
use crate::support::{Server, each_database};

/// Runs `shoal` with the operator's key of a server.
fn shoal(server: &Server, arguments: &[&str]) -> Output {
    let address = server.address("http").expect("it listens");
    run(&address, &server.data(), arguments)
}

fn run(address: &str, data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    for variable in ["SHOAL_KEY", "SHOAL_SERVER", "SHOAL_DATA"] {
        command.env_remove(variable);
    }
    command
        .args(arguments)
        .args(["--server", address, "--data-folder"])
        .arg(data)
        .output()
        .expect("the binary starts")
}

#[track_caller]
fn expect_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

#[track_caller]
fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

#[tokio::test]
async fn what_was_done_ends_with_0_and_is_json_when_asked_for() {
    each_database(async |server| {
        let made = shoal(server, &["tenant", "create", "acme", "--json"]);
        expect_code(&made, 0);
        assert_eq!(json(&made.stdout)["key"], "acme");
        let key = shoal(server, &["key", "create", "--tenant", "acme", "--json"]);
        expect_code(&key, 0);
        assert_eq!(json(&key.stdout)["role"], "write");
        for (list, member) in [
            (&["tenant", "list", "--json"][..], "tenants"),
            (&["plugin", "list", "--json"], "versions"),
            (&["job", "list", "--json"], "jobs"),
        ] {
            let listed = shoal(server, list);
            expect_code(&listed, 0);
            assert!(json(&listed.stdout)[member].is_array(), "{listed:?}");
        }
        let asked = shoal(server, &["query", "1 + 1", "--json"]);
        expect_code(&asked, 0);
        assert_eq!(json(&asked.stdout)["data"]["result"][1], "2");
        let ran = shoal(server, &["job", "run", "delete-expired", "--json"]);
        expect_code(&ran, 0);
        assert_eq!(json(&ran.stdout)["status"], "done");
    })
    .await;
}

#[tokio::test]
async fn what_did_not_work_ends_with_1_and_says_why_on_standard_error() {
    each_database(async |server| {
        let refused = shoal(server, &["tenant", "create", "Acme!", "--json"]);
        expect_code(&refused, 1);
        assert!(refused.stdout.is_empty(), "{refused:?}");
        let message = json(&refused.stderr)["error"]["message"].to_string();
        assert!(message.contains("Acme!"), "{message}");
        let refused = shoal(server, &["plugin", "enable", "nothing", "--tenant", "acme"]);
        expect_code(&refused, 1);
        assert!(!refused.stderr.is_empty(), "{refused:?}");
    })
    .await;
}

#[test]
fn a_server_that_is_not_there_and_a_line_that_makes_no_sense_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("operator.key"), "no key").expect("written");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let absent = run(&address, folder.path(), &["tenant", "list"]);
    expect_code(&absent, 1);
    let said = String::from_utf8_lossy(&absent.stderr).into_owned();
    assert!(said.contains(&address), "{said}");
    let nonsense = run(&address, folder.path(), &["tenant", "invent"]);
    expect_code(&nonsense, 2);
}

#[tokio::test]
async fn a_secret_comes_from_a_file() {
    each_database(async |server| {
        server.tenant("acme").await;
        server.approve("webhook").await;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "hush-hush\n").expect("written");
        let token = format!("token={}", file.display());
        let enabled = shoal(
            server,
            &[
                "plugin",
                "enable",
                "webhook",
                "--tenant",
                "acme",
                "--json",
                "--set",
                "url=http://127.0.0.1:9/",
                "--set-file",
                &token,
            ],
        );
        expect_code(&enabled, 0);
        assert_eq!(json(&enabled.stdout)["settings"]["token"]["is_set"], true);
        assert!(!String::from_utf8_lossy(&enabled.stdout).contains("hush"));
    })
    .await;
}

/// From a file to an answer, and back: everything that operating.md tells an operator to type.
#[tokio::test]
async fn versions_go_their_way_from_the_command_line() {
    each_database(async |server| {
        server.tenant("acme").await;
        let folder = tempfile::tempdir().expect("a folder");
        let done = |args: &[&str]| {
            let args = [args, &["--json"]].concat();
            let output = shoal(server, &args);
            expect_code(&output, 0);
            json(&output.stdout)
        };
        let add = |package: &str| {
            let file = folder.path().join(package);
            std::fs::write(&file, component(package)).expect("written");
            done(&["plugin", "add", &file.display().to_string()])
        };
        let first = add("echo-1");
        done(&["plugin", "approve", "echo"]);
        let enabled = done(&[
            "plugin",
            "enable",
            "echo",
            "--tenant",
            "acme",
            "--set",
            "greeting=hello",
        ]);
        let installation = text(&enabled["id"]);
        let second = add("echo-2");
        let diff = done(&[
            "plugin",
            "diff",
            "echo",
            "--digest",
            &text(&second["digest"]),
        ]);
        assert_eq!(diff["needs_approval"], false);
        let digest = text(&second["digest"]);
        let inherited = [
            "plugin",
            "publish",
            "echo",
            "--digest",
            &digest,
            "--inherit",
        ];
        let tried = done(&[&inherited[..], &["--canary", "acme"]].concat());
        assert_eq!(tried["track"]["candidate"]["tenants"][0], "acme");
        assert_eq!(tried["track"]["active"]["digest"], first["digest"]);
        let promoted = done(&["plugin", "promote", "echo"]);
        assert_eq!(promoted["track"]["active"]["version"], "0.2.0");
        let back = done(&["plugin", "rollback", "echo", "--reason", "too new"]);
        assert_eq!(back["track"]["active"]["version"], "0.1.0");
        let configure = ["plugin", "configure", &installation, "--tenant", "acme"];
        let pinned = done(
            &[
                &configure[..],
                &["--pin", &digest, "--set", "greeting=\"good day\""],
            ]
            .concat(),
        );
        assert_eq!(pinned["version"], "0.2.0");
        assert_eq!(pinned["settings"]["greeting"], "good day");
        let unpinned = done(&[&configure[..], &["--unpin"]].concat());
        assert_eq!(unpinned["version"], "0.1.0");
        let versions = done(&["plugin", "versions", "echo"]);
        assert_eq!(versions["versions"].as_array().map(Vec::len), Some(2));
        let history = done(&["plugin", "history", "echo"]);
        assert_eq!(history["releases"][0]["action"], "rollback");
        assert_eq!(history["releases"][0]["reason"], "too new");
        let lines = done(&["audit", "--subject", "echo"]);
        assert_eq!(lines["events"][0]["action"], "plugin.rollback");
        done(&["plugin", "withdraw", "echo", "--digest", &digest]);
        let key = "shoal-pub:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=";
        done(&["publisher", "add", "acme", key]);
        assert_eq!(done(&["publisher", "list"])["publishers"][0]["key"], key);
        done(&["publisher", "remove", "acme"]);
    })
    .await;
}

#[tokio::test]
async fn settings_are_read_as_their_schema_says_wherever_they_are_given() {
    each_database(async |server| {
        server.tenant("acme").await;
        for package in ["slack", "http-check"] {
            server.approve(package).await;
        }
        let acme = ["--tenant", "acme", "--json"];
        let enable = |plugin, set: &[&str]| {
            shoal(
                server,
                &[&["plugin", "enable", plugin], &acme[..], set].concat(),
            )
        };
        let url = "url=http://127.0.0.1:9/";
        // A channel whose text looks like a number.
        let enabled = enable("slack", &["--set", url, "--set", "mention=5"]);
        expect_code(&enabled, 0);
        let enabled = json(&enabled.stdout);
        assert_eq!(enabled["settings"]["mention"], "5", "{enabled}");
        let id = text(&enabled["id"]);
        let configure = |set: &[&str]| {
            shoal(
                server,
                &[&["plugin", "configure", &id], &acme[..], set].concat(),
            )
        };
        let changed = configure(&["--set", "mention=true"]);
        expect_code(&changed, 0);
        assert_eq!(json(&changed.stdout)["settings"]["mention"], "true");
        let taken = configure(&["--set", "mention=null"]);
        expect_code(&taken, 0);
        assert_eq!(json(&taken.stdout)["settings"]["mention"], Value::Null);
        // What is no number is told from one before the server is asked, by the name and the type.
        let wrong = enable("http-check", &["--set", url, "--set", "timeout_ms=soon"]);
        expect_code(&wrong, 1);
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert!(
            said.contains("timeout_ms: ") && said.contains("is no integer"),
            "{said}"
        );
        let unknown = configure(&["--set", "nothing=1"]);
        expect_code(&unknown, 1);
        let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
        assert!(said.contains("nothing: is unknown: there are "), "{said}");
    })
    .await;
}
