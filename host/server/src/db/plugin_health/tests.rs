//! What is shared of the health of plugins, on both databases.

use super::*;
use crate::db::plugins::tests::{audit, version};
use crate::db::testing::each_database;
use crate::monitoring::testing::{installation, put, tenant};

fn breaker(db: &TenantDb, n: u8) -> BreakerRow {
    BreakerRow {
        tenant_id: db.id().0,
        installation_id: installation(n, "channel").id.to_string(),
        digest: "sha256:a".to_owned(),
        revision: 1,
        openings: 1,
        opened_at_ms: 10,
        until_ms: 40,
        reason: "the plugin panicked: NUL \0".to_owned(),
    }
}

#[tokio::test]
async fn an_open_breaker_is_stored_until_it_closes_or_its_installation_is_gone() {
    each_database(|db| async move {
        let (acme, system) = (tenant(&db, "acme").await, db.system());
        let (first, second) = (breaker(&acme, 1), breaker(&acme, 2));
        system
            .put_breaker(&first)
            .await
            .expect("nothing to refer to");
        assert_eq!(system.open_breakers().await.expect("read"), []);
        for n in [1, 2] {
            put(&acme, &installation(n, "channel")).await;
        }
        let again = BreakerRow {
            openings: 2,
            ..first.clone()
        };
        for row in [&first, &second, &again] {
            system.put_breaker(row).await.expect("stored");
        }
        let rows = acme.open_breakers().await.expect("read");
        let openings: Vec<i64> = rows.iter().map(|row| row.openings).collect();
        assert_eq!(openings, [2, 1]);
        let deleted = system.delete_breaker(acme.id(), &first.installation_id, &first.digest);
        deleted.await.expect("closed");
        let rows = acme.open_breakers().await.expect("read");
        assert_eq!(rows, system.open_breakers().await.expect("read"));
        assert_eq!(rows.len(), 1);
        let line = audit("installation.delete");
        let deleted = acme.delete_installation(&second.installation_id, None, &line, Timestamp(1));
        assert!(deleted.await.expect("deleted"));
        assert_eq!(system.open_breakers().await.expect("read"), []);
    })
    .await;
}

#[tokio::test]
async fn quarantine_lasts_until_it_is_released() {
    each_database(|db| async move {
        let (acme, system) = (tenant(&db, "acme").await, db.system());
        put(&acme, &installation(1, "channel")).await;
        let row = QuarantineRow {
            digest: "sha256:a".to_owned(),
            plugin_id: "p".to_owned(),
            version: "1.0.0".to_owned(),
            reason: "it failed everywhere".to_owned(),
            actor: "breakers".to_owned(),
            at_ms: 1,
        };
        assert!(system.quarantine(&row).await.expect("stored"));
        assert!(!system.quarantine(&row).await.expect("known"));
        system
            .put_breaker(&breaker(&acme, 1))
            .await
            .expect("stored");
        assert_eq!(system.quarantined().await.expect("read"), [row]);
        let version = version("sha256:a", "p");
        for is_there in [true, false] {
            let released = system.release_quarantined(&version, "key_1", Timestamp(2));
            assert_eq!(released.await.expect("released"), is_there);
        }
        assert_eq!(system.open_breakers().await.expect("read"), []);
    })
    .await;
}

#[tokio::test]
async fn what_is_known_of_a_shadow_adds_up_and_keeps_the_latest_difference() {
    each_database(|db| async move {
        let system = db.system();
        let equal = ShadowRow {
            digest: "sha256:b".to_owned(),
            plugin_id: "p".to_owned(),
            version: "2.0.0".to_owned(),
            equal: 3,
            ..ShadowRow::default()
        };
        let differing = ShadowRow {
            equal: 1,
            differing: 1,
            live_excerpt: Some("200".to_owned()),
            shadow_excerpt: Some("500".to_owned()),
            ..equal.clone()
        };
        for more in [&equal, &differing, &equal] {
            system.add_shadow(more).await.expect("added");
        }
        let known = system.shadow("sha256:b").await.expect("read");
        let wanted = ShadowRow {
            equal: 7,
            ..differing
        };
        assert_eq!(known, Some(wanted));
        let ended = system.end_shadow("sha256:b", "abandoned", 1_000).await;
        ended.expect("noted");
        let later = |updated_at_ms| ShadowRow {
            updated_at_ms,
            ..equal.clone()
        };
        for (at_ms, wanted) in [(2_000, 7), (1_000 + STRAGGLERS_MS + 1, 3)] {
            system.add_shadow(&later(at_ms)).await.expect("added");
            let known = system.shadow("sha256:b").await.expect("read");
            assert_eq!(known.map(|row| row.equal), Some(wanted));
        }
    })
    .await;
}

#[tokio::test]
async fn the_fallback_that_was_set_stands_in_first() {
    each_database(|db| async move {
        let acme = tenant(&db, "acme").await;
        for n in 1..5 {
            let mut new = installation(n, "channel");
            new.is_enabled = n != 4;
            put(&acme, &new).await;
        }
        put(&acme, &installation(9, "check")).await;
        let id = |n: u8| installation(n, "channel").id.to_string();
        let stand_ins = acme.stand_ins(&id(1), "alt_0").await.expect("read");
        assert_eq!(stand_ins, [id(2), id(3)]);
        let set = async |to: Option<String>| {
            let now = Timestamp(1);
            acme.set_fallback(&id(1), to.as_deref(), "key_1", now).await
        };
        set(Some(id(3))).await.expect("set");
        assert_eq!(acme.fallback(&id(1)).await.expect("read"), Some(id(3)));
        let stand_ins = acme.stand_ins(&id(1), "alt_0").await.expect("read");
        assert_eq!(stand_ins, [id(3), id(2)]);
        let nobody = set(Some("ins_0".to_owned())).await;
        assert!(matches!(nobody, Err(DbError::Reference(_))), "{nobody:?}");
        set(None).await.expect("removed");
        assert_eq!(acme.fallback(&id(1)).await.expect("read"), None);
    })
    .await;
}
