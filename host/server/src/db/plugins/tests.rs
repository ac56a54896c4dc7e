//! Versions on both databases.

use super::*;
use crate::db::audit::AuditFilter;
use crate::db::testing::each_database;

/// A version as a test needs it.
pub(crate) fn version(digest: &str, plugin_id: &str) -> VersionRow {
    VersionRow {
        digest: digest.to_owned(),
        plugin_id: plugin_id.to_owned(),
        version: "1.0.0".to_owned(),
        kind: "check".to_owned(),
        manifest: String::new(),
        size_bytes: 3,
        added_at_ms: 1,
        signature_state: "unsigned".to_owned(),
        publisher: None,
        golden_passed: 0,
        approved_grants: None,
        approved_at_ms: None,
        approved_by: None,
        approved_hash: None,
        approval: None,
    }
}

/// A line of the audit log as a test needs it.
pub(crate) fn audit(action: &'static str) -> Audit {
    Audit {
        tenant: None,
        actor: "key_test (test)".to_owned(),
        action,
        subject: "p".to_owned(),
        detail: serde_json::json!({}),
    }
}

#[tokio::test]
async fn the_version_approved_last_comes_first() {
    each_database(|db| async move {
        let system = db.system();
        let added = audit("plugin.add");
        for digest in ["sha256:a", "sha256:b"] {
            let version = version(digest, "p");
            let is_new = system.add_version(&version, b"abc", &added).await;
            assert!(is_new.expect("added"));
        }
        let known = version("sha256:a", "p");
        let again = system.add_version(&known, b"abc", &added).await;
        assert!(!again.expect("known"));
        let component = system.component("sha256:a").await.expect("read");
        assert_eq!(component.as_deref(), Some(&b"abc"[..]));
        let before = system.plugin_revision().await.expect("read");
        let line = audit("plugin.approve");
        let grants: Grants = ["http a.example".parse().expect("a capability")]
            .into_iter()
            .collect();
        for (digest, is_there) in [("sha256:b", true), ("sha256:a", true), ("sha256:x", false)] {
            let approval = Approval {
                digest: digest.to_owned(),
                grants: grants.clone(),
                by: "me".to_owned(),
            };
            let approved = system.approve(&approval, &line, Timestamp(2)).await;
            assert_eq!(approved.expect("answered"), is_there);
        }
        let versions = system.versions().await.expect("listed");
        let digests: Vec<&str> = versions.iter().map(|v| v.digest.as_str()).collect();
        assert_eq!(digests, ["sha256:a", "sha256:b"]);
        assert_eq!(
            versions[0].approved().expect("readable"),
            Some(grants.clone())
        );
        assert_eq!(versions[0].approved_hash, Some(grants_hash(&grants)));
        assert_eq!(versions[0].approved_by.as_deref(), Some("me"));
        assert!(system.plugin_revision().await.expect("read") > before);
        let filter = AuditFilter {
            limit: 10,
            ..AuditFilter::default()
        };
        let lines = system.audit(&filter).await.expect("read");
        let actions: Vec<&str> = lines.iter().map(|line| &*line.action).collect();
        assert_eq!(
            actions,
            [
                "plugin.approve",
                "plugin.approve",
                "plugin.add",
                "plugin.add"
            ]
        );
    })
    .await;
}
