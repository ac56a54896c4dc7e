//! A plugin can do what it was granted, and nothing else.

use serde_json::{Map, json};
use shoal_model::grant::Grants;
use shoal_runtime::{InstallError, InstallOptions, Runtime, RuntimeOptions};

use crate::support::*;

/// A check that asks for the certificate of `127.0.0.1:PORT` and answers with the case of the error.
fn looks_at(port: u16) -> String {
    format!(
        r#"
        (import "shoal:plugin/net@0.1.0" "tls-handshake" (func $look (param i32 i32 i32 i32 i32)))
        (data (i32.const 600) "127.0.0.1")
        (data (i32.const 640) "denied   not-foundtimed-outfailed   limit    session  ")
        (func (export "shoal:plugin/check@0.1.0#run")
          (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32)
          (call $look (i32.const 600) (i32.const 9) (i32.const {port}) (i32.const 500) (i32.const 2048))
          (i32.store (i32.const 1036) (i32.add (i32.const 640) (i32.mul (i32.const 9)
            (if (result i32) (i32.load8_u (i32.const 2048))
              (then (i32.load8_u (i32.const 2052))) (else (i32.const 5))))))
          (i32.store (i32.const 1040) (i32.const 9))
          (i32.const 1024))
        "#
    )
}

const ASKS: &str = r#"
    [[capabilities]]
    kind = "net"
    operations = ["tls"]
    setting = "url"
    reason = "to look"
    [settings]
    type = "object"
    required = ["url"]
    [settings.properties.url]
    type = "string"
    format = "uri"
"#;

fn settings(url: &str) -> Map<String, serde_json::Value> {
    Map::from_iter([("url".to_owned(), json!(url))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_grant_it_is_not_even_linked() {
    let code = looks_at(1);
    let guest = Guest {
        manifest: ASKS,
        ..Guest::check(&code)
    };
    let plugin = load(&runtime(), &guest).await.unwrap();
    let error = plugin
        .install(InstallOptions::new(
            id(),
            Grants::default(),
            settings("https://127.0.0.1/"),
        ))
        .unwrap_err();
    assert!(matches!(error, InstallError::MissingGrant { .. }));
    assert_eq!(
        error.to_string(),
        "guest cannot run without net tls setting:url, which is not granted: a tenant grants it with `shoal plugin enable guest --grant 'net tls setting:url'`, once the operator has approved it with `shoal plugin approve guest`"
    );
    let not_asked: Grants = ["net tls other.example:443".parse().unwrap()]
        .into_iter()
        .collect();
    assert!(
        plugin
            .install(InstallOptions::new(
                id(),
                not_asked,
                settings("https://127.0.0.1/"),
            ))
            .is_err(),
        "what was not asked for is not granted either"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_checked_when_it_is_installed() {
    let code = looks_at(1);
    let guest = Guest {
        manifest: ASKS,
        ..Guest::check(&code)
    };
    let plugin = load(&runtime(), &guest).await.unwrap();
    let grants = plugin.manifest().asked();
    let error = plugin
        .install(InstallOptions::new(id(), grants.clone(), Map::new()))
        .unwrap_err();
    assert_eq!(error.to_string(), "settings of guest: url: is missing");
    let error = plugin
        .install(InstallOptions::new(
            id(),
            grants.clone(),
            settings("mailto:someone@example.com"),
        ))
        .unwrap_err();
    assert!(error.to_string().starts_with("setting url "), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_is_refused_by_name_and_by_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let code = looks_at(port);
    let guest = Guest {
        manifest: ASKS,
        ..Guest::check(&code)
    };
    let plugin = load(&runtime(), &guest).await.unwrap();
    let grants = plugin.manifest().asked();
    let ours = format!("https://127.0.0.1:{port}/");
    for (url, remark) in [
        (
            "https://elsewhere.example/",
            "may not use net tls 127.0.0.1:",
        ),
        (
            ours.as_str(),
            "(loopback), which plugins are not connected to",
        ),
    ] {
        let check = plugin
            .install(InstallOptions::new(id(), grants.clone(), settings(url)))
            .unwrap();
        let call = check.run_check(&context()).await;
        assert_eq!(call.outcome.unwrap().summary, "denied   ");
        assert!(
            call.report.log[0].message.contains(remark),
            "{:?}",
            call.report.log
        );
        assert_eq!(call.report.contacted, [] as [&str; 0]);
        let [refused] = call.report.refused.as_slice() else {
            panic!("{:?}", call.report.refused);
        };
        assert!(
            refused.wanted.ends_with(&format!("127.0.0.1:{port}")),
            "{refused:?}"
        );
        assert_eq!(refused.reason, call.report.log[0].message);
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody connected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_operator_opens_is_open() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let code = looks_at(listener.local_addr().unwrap().port());
    let guest = Guest {
        manifest: ASKS,
        ..Guest::check(&code)
    };
    let runtime = shoal_runtime::Runtime::new(RuntimeOptions {
        allow_private: vec!["127.0.0.0/8".parse().unwrap()],
        ..options()
    })
    .unwrap();
    let plugin = load(&runtime, &guest).await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let check = plugin
        .install(InstallOptions::new(
            id(),
            plugin.manifest().asked(),
            settings(&url),
        ))
        .unwrap();
    let hangs_up = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    let call = check.run_check(&context()).await;
    assert_eq!(call.outcome.unwrap().summary, "failed   ");
    hangs_up.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interpreter_has_sockets_each_use_of_which_is_refused() {
    // Makes a socket, and crashes unless that is denied.
    let code = r#"
        (import "wasi:sockets/tcp-create-socket@0.2.6" "create-tcp-socket" (func $socket (param i32 i32)))
        (func (export "shoal:plugin/check@0.1.0#run")
          (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32)
          (call $socket (i32.const 0) (i32.const 2048))
          (if (i32.ne (i32.load8_u (i32.const 2048)) (i32.const 1)) (then unreachable))
          (if (i32.ne (i32.load8_u (i32.const 2052)) (i32.const 1)) (then unreachable))
          (i32.store (i32.const 1036) (i32.const 512))
          (i32.store (i32.const 1040) (i32.const 11))
          (i32.const 1024))
    "#;
    let refusal = load(&runtime(), &Guest::check(code)).await.unwrap_err();
    assert!(refusal.to_string().contains("wasi:sockets"), "{refusal}");
    let runtime = Runtime::new(RuntimeOptions {
        allow_large: true,
        ..options()
    });
    let guest = Guest {
        manifest: "[limits]\nclass = \"large\"",
        ..Guest::check(code)
    };
    let check = installed(&runtime.unwrap(), &guest).await;
    let outcome = check.run_check(&context()).await.outcome;
    assert_eq!(outcome.unwrap().summary, "all is well");
}
