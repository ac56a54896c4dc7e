//! How plugins are, seen from outside: a breaker that outlives its process, failures that only their tenant sees, and
//! quarantine by hand.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::components::text;
use crate::support::{Answer, Client, Tenant, each_database, eventually};

/// Posts a word to the hostile receiver, which does as it says.
async fn behave(client: &Client, word: &str) -> Answer {
    client
        .send_bytes(Method::POST, "/hostile", "text/plain", word.to_owned())
        .await
}

/// The breaker of a tenant's only installation of a plugin.
async fn breaker(tenant: &Tenant, plugin: &str) -> Value {
    let path = format!("/api/v1/plugins/{plugin}/health");
    let health = tenant.read.get(&path).await.is(200);
    health["installations"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_fails_rests_over_a_restart_and_only_its_tenant_sees_why() {
    each_database(async |server| {
        let version = server.approve("hostile-receiver").await;
        let (acme, other) = (server.tenant("acme").await, server.tenant("other").await);
        let installation = acme.enable("hostile-receiver", json!({})).await;
        other.enable("hostile-receiver", json!({})).await;
        for _ in 0..5 {
            assert_eq!(behave(&acme.otlp, "panic").await.status, 500);
        }
        let refused = behave(&acme.otlp, "well").await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.text.contains("failed too often"), "{refused:?}");
        assert_eq!(behave(&other.otlp, "well").await.text, "behaved");
        assert_eq!(breaker(&acme, "hostile-receiver").await["breaker"], "open");
        assert_eq!(
            breaker(&other, "hostile-receiver").await["breaker"],
            "closed"
        );

        let path = format!("/api/v1/installations/{installation}/failures");
        let failure = eventually("failure on record", async || {
            let list = acme.read.get(&path).await.is(200);
            list["failures"].get(0).cloned()
        })
        .await;
        assert_eq!(failure["code"], "panicked");
        assert_eq!(failure["input"]["body_start"], "panic");
        assert!(failure["backtrace"][0].is_string(), "{failure}");
        assert_eq!(other.read.get(&path).await.status, 404);
        let acting = server.operator().acting_for("acme");
        let seen = acting.get(&path).await.is(200);
        assert!(seen["failures"][0].is_object());
        let down = r#"shoal_plugin_down{plugin="hostile-receiver"}"#;
        eventually("alert of the operator", async || {
            let series = server.operator().series_of(down).await;
            series.iter().any(|(_, value)| *value == 1.0).then_some(())
        })
        .await;

        server.end().await;
        server.start_again(&[]).await;
        let (acme, other) = (server.found_again(&acme), server.found_again(&other));
        assert_eq!(behave(&acme.otlp, "well").await.status, 503);
        let digest = text(&version["digest"]);
        let path = format!("/api/v1/plugins/hostile-receiver/versions/{digest}");
        let (shut, release) = (format!("{path}/quarantine"), format!("{path}/release"));
        let why = json!({ "reason": "it misbehaves" });
        server.operator().post(&shut, &why).await.is(200);
        let refused = behave(&other.otlp, "well").await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.text.contains("it misbehaves"), "{refused:?}");
        server.operator().post(&release, &json!({})).await.is(200);
        for tenant in [&acme, &other] {
            assert_eq!(behave(&tenant.otlp, "well").await.text, "behaved");
        }
    })
    .await;
}
