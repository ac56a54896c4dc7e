//! What the deployment does for plugins, over the real process: secrets arrive where they belong and come back nowhere, and
//! mail leaves through the operator's relay.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::support::{Database, Listener, Server, Tenant, each_database};

async fn tell(tenant: &Tenant, installation: &str) -> Value {
    let path = format!("/api/v1/installations/{installation}/test-notification");
    tenant.write.post(&path, &json!({})).await.is(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_secrets_arrive_and_are_shown_nowhere() {
    each_database(async |server| {
        let told = Listener::start().await;
        for package in ["webhook", "slack"] {
            server.approve(package).await;
        }
        let tenant = server.tenant("acme").await;
        let key = BASE64.encode("a key of twenty-four byte");
        let settings = json!({
            "url": told.url("/hook"), "token": "hunter2-hunter2", "signing_secret": format!("whsec_{key}"),
        });
        let webhook = tenant.enable("webhook", settings).await;
        assert_eq!(tell(&tenant, &webhook).await["status"], "delivered");
        let post = told.wait_for("webhook", |post| post.path == "/hook").await;
        assert_eq!(post.headers["authorization"], "Bearer hunter2-hunter2");
        let header = |name: &str| post.headers[name].to_str().expect("text").to_owned();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"a key of twenty-four byte").expect("a key");
        let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
        mac.update(format!("{id}.{time}.{}", post.body).as_bytes());
        let signature = BASE64.encode(mac.finalize().into_bytes());
        assert_eq!(header("webhook-signature"), format!("v1,{signature}"));

        let path = "/services/T000/B000/abcdefghijklmnopqrstuvwx";
        let slack = tenant.enable("slack", json!({ "url": told.url(path) })).await;
        assert_eq!(tell(&tenant, &slack).await["status"], "delivered");
        told.wait_for("message", |post| post.path == path).await;

        told.answer_with(404);
        let refused = tell(&tenant, &slack).await;
        assert_eq!(refused["status"], "failed", "{refused}");
        let shown = tenant.read.get("/api/v1/installations").await.is(200);
        let log = std::fs::read_to_string(server.log_file()).expect("a log");
        for text in [refused.to_string(), shown.to_string(), log] {
            for secret in ["abcdefghijklmnopqrstuvwx", "hunter2-hunter2", key.as_str()] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    })
    .await;
}

/// A mail relay of the test, which takes everything; returns its address and what it hears.
async fn relay() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let _ = stream.get_mut().write_all(b"220 relay.test\r\n").await;
            let (mut line, mut is_data) = (String::new(), false);
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                let said = std::mem::take(&mut line).trim_end().to_owned();
                hears.lock().push(said.clone());
                is_data = said == "DATA" || (is_data && said != ".");
                let answer: &[u8] = match said.as_str() {
                    "DATA" => b"354 go on\r\n",
                    "QUIT" => b"221 bye\r\n",
                    _ if is_data => continue,
                    _ => b"250 2.0.0 queued as 7\r\n",
                };
                let _ = stream.get_mut().write_all(answer).await;
            }
        }
    });
    (address, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_leaves_through_the_operators_relay() {
    let (address, heard) = relay().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shoal.toml");
    let text = format!(
        "[mail]\nrelay = \"smtp://{address}\"\nfrom = \"Shoal <shoal@example.com>\"\ntls = \"none\"\n"
    );
    std::fs::write(&file, text).expect("written");
    let arguments = ["--config", file.to_str().expect("a path of text")];
    let mut server = Server::start_with(Database::sqlite(), &arguments).await;
    server.approve("mail").await;
    let tenant = server.tenant("acme").await;
    let settings = json!({ "to": ["ops@example.com", "dev@example.com"] });
    let mail = tenant.enable("mail", settings).await;
    let told = tell(&tenant, &mail).await;
    assert_eq!(told["status"], "delivered", "{told}");
    assert_eq!(told["summary"], "250 2.0.0 queued as 7");
    let heard = heard.lock().clone();
    for line in [
        "MAIL FROM:<shoal@example.com>",
        "RCPT TO:<ops@example.com>",
        "RCPT TO:<dev@example.com>",
        "Subject: [Tenant acme] test notification",
    ] {
        assert!(
            heard.iter().any(|heard| heard == line),
            "{line}: {heard:#?}"
        );
    }

    server.end().await;
    server.start_again(&[]).await;
    let tenant = server.found_again(&tenant);
    let body =
        json!({ "plugin": "mail", "name": "again", "settings": { "to": ["ops@example.com"] } });
    let refused = tenant.write.post("/api/v1/installations", &body).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(
        refused.text.contains("under [mail] in the configuration"),
        "{}",
        refused.text
    );
    server.stop().await;
}
