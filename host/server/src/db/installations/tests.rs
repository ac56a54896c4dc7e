//! Installations on both databases.

use super::*;
use crate::db::audit::AuditFilter;
use crate::db::plugins::tests::{audit, version};
use crate::db::testing::each_database;

impl TenantDb {
    /// Stores an installation, new or changed, whoever else changes it.
    pub(crate) async fn put_installation(
        &self,
        new: &NewInstallation,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let Some(row) = self.installation(new.id.as_str()).await? else {
            let audit = audit("installation.create");
            return self.create_installation(new, &audit, now).await;
        };
        let change = ChangedInstallation {
            new: new.clone(),
            made_from: row.revision,
            version_settings: Vec::new(),
        };
        let audit = audit("installation.change");
        self.change_installation(&change, &audit, now)
            .await
            .map(drop)
    }

    /// Deletes an installation, whoever changes it. `false` when there is none.
    pub(crate) async fn remove_installation(&self, id: &str) -> Result<bool, DbError> {
        let audit = audit("installation.delete");
        self.delete_installation(id, None, &audit, Timestamp(1))
            .await
    }
}

fn installation(name: &str) -> NewInstallation {
    NewInstallation {
        id: InstallationId::from_random([7; 10]),
        name: name.to_owned(),
        plugin_id: "p".to_owned(),
        kind: "check".to_owned(),
        track: "stable".to_owned(),
        pinned_digest: None,
        settings: Map::new(),
        secrets: vec![("token".to_owned(), vec![1, 2])],
        grants: None,
        is_enabled: true,
        interval_ms: Some(60_000),
    }
}

async fn tenant(db: &crate::db::Db, key: &str) -> TenantDb {
    let made = db.system().create_tenant(key, key, Timestamp(1)).await;
    db.tenant(made.expect("made").id())
}

#[tokio::test]
async fn an_installation_belongs_to_its_tenant_alone() {
    each_database(|db| async move {
        let system = db.system();
        let (version, line) = (version("sha256:a", "p"), audit("plugin.add"));
        let added = system.add_version(&version, b"abc", &line).await;
        assert!(added.expect("added"));
        let (acme, other) = (tenant(&db, "acme").await, tenant(&db, "other").await);
        let mut new = installation("page");
        let put = acme.put_installation(&new, Timestamp(2)).await;
        put.expect("put");
        let id = new.id.as_str().to_owned();
        let read = async || {
            let row = acme.installation(&id).await.expect("read");
            row.expect("it is there")
        };
        let first = read().await;
        let secrets = acme.installation_secrets(&id).await.expect("read");
        assert_eq!(secrets.len(), 1);
        assert_eq!(
            system.installations_since(0).await.expect("read"),
            std::slice::from_ref(&first)
        );
        assert_eq!(system.secrets_since(0).await.expect("read"), secrets);

        assert_eq!(other.installation(&id).await.expect("read"), None);
        assert_eq!(other.installation_secrets(&id).await.expect("read"), []);
        assert!(!other.remove_installation(&id).await.expect("answered"));

        new.is_enabled = false;
        new.secrets.clear();
        new.pinned_digest = Some("sha256:a".to_owned());
        let put = acme.put_installation(&new, Timestamp(3)).await;
        put.expect("put again");
        let second = read().await;
        assert!(second.revision > first.revision);
        assert_eq!((second.created_at_ms, second.is_enabled), (2, 0));
        assert_eq!(acme.installation_secrets(&id).await.expect("read"), []);
        let since = system.installations_since(second.revision + 1).await;
        assert_eq!(since.expect("read"), []);
        assert_eq!(system.installation_count().await.expect("counted"), 1);
        assert!(acme.remove_installation(&id).await.expect("answered"));
        assert_eq!(system.installation_count().await.expect("counted"), 0);
    })
    .await;
}

#[tokio::test]
async fn two_installations_of_a_tenant_cannot_share_a_name() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let first = installation("page");
        let put = acme.put_installation(&first, Timestamp(2)).await;
        put.expect("put");
        let mut same_name = installation("page");
        same_name.id = InstallationId::from_random([8; 10]);
        let refused = acme.put_installation(&same_name, Timestamp(2)).await;
        assert!(matches!(refused, Err(DbError::Exists(_))), "{refused:?}");
    })
    .await;
}

/// A change and a deletion that were made from one revision: one of them happens, and one line says so.
#[tokio::test]
async fn of_two_who_change_the_same_revision_one_wins() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        let new = installation("page");
        let put = acme.put_installation(&new, Timestamp(2)).await;
        put.expect("put");
        let row = acme.installation(new.id.as_str()).await.expect("read");
        let made_from = row.expect("it is there").revision;
        let change = ChangedInstallation {
            new: NewInstallation {
                name: "other".to_owned(),
                ..new.clone()
            },
            made_from,
            version_settings: Vec::new(),
        };
        let (changed, deleted) = (audit("installation.change"), audit("installation.delete"));
        let (changed, deleted) = tokio::join!(
            acme.change_installation(&change, &changed, Timestamp(3)),
            acme.delete_installation(new.id.as_str(), Some(made_from), &deleted, Timestamp(3)),
        );
        let (changed, deleted) = (changed.expect("answered"), deleted.expect("answered"));
        assert!(changed != deleted, "both or neither happened: {changed}");
        let row = acme.installation(new.id.as_str()).await.expect("read");
        assert_eq!(row.map(|row| row.name), changed.then(|| "other".to_owned()));
        let filter = AuditFilter {
            subject: Some("p".to_owned()),
            limit: 10,
            ..AuditFilter::default()
        };
        assert_eq!(db.system().audit(&filter).await.expect("read").len(), 2);
    })
    .await;
}
