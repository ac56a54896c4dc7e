//! What runs, and what goes on meanwhile.

use shoal_runtime::Manifest;

use super::*;
use crate::db::installations::NewInstallation;
use crate::db::plugins::VersionRow;
use crate::jobs::testing::{add_plugin, add_version, hour, tenant, with_app};
use crate::monitoring::testing::{installation, put};

fn of(version: &VersionRow, n: u8) -> NewInstallation {
    NewInstallation {
        plugin_id: version.plugin_id.clone(),
        ..installation(n, &version.kind)
    }
}

#[tokio::test]
async fn where_the_version_approved_last_cannot_run_the_one_before_goes_on() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let version = add_plugin(&app, "webhook.wasm").await;
        let manifest = Manifest::parse(&version.manifest).expect("ours");
        let new = NewInstallation {
            settings: manifest.example.expect("it has one"),
            ..of(&version, 1)
        };
        put(&acme, &new).await;
        app.plugins.reload().await.expect("loaded");
        let worse = VersionRow {
            digest: "sha256:worse".to_owned(),
            ..version.clone()
        };
        add_version(&app, &worse, b"").await;
        // At once, and when the process is started again.
        let secrets = SecretBox::open(&app.config.data).expect("a key");
        let restarted = PluginRegistry::new(RegistryParts {
            runtime: app.plugins.runtime().clone(),
            db: app.db.clone(),
            secrets,
            clock: app.clock.clone(),
            policy: Policy::default(),
            services: PluginServices::new(app.clock.clone(), None),
        });
        for plugins in [&*app.plugins, &restarted] {
            let component = plugins.compiled.entry(&worse.digest);
            component.set(Err("too bad".to_owned())).expect("it is new");
            plugins.reload().await.expect("loaded");
            let snapshot = plugins.snapshot();
            let running = snapshot.of_tenant(acme.id()).next().expect("it is there");
            let digest = running.version.as_ref().map(|version| &*version.digest);
            assert!(running.state.is_ok());
            assert_eq!(digest, Some(&*version.digest));
            let held_back = running.held_back.as_ref().expect("it says so");
            assert_eq!(
                (&*held_back.0.digest, &*held_back.1),
                ("sha256:worse", "too bad")
            );
        }
    })
    .await;
}

#[tokio::test]
async fn while_a_component_is_compiled_what_others_change_is_live_at_once() {
    with_app(hour(0).start(), |app| async move {
        let (slow, quick) = (tenant(&app, "slow").await, tenant(&app, "quick").await);
        let version = add_plugin(&app, "webhook.wasm").await;
        let compiling = VersionRow {
            digest: "sha256:slow".to_owned(),
            plugin_id: "slow".to_owned(),
            ..version.clone()
        };
        add_version(&app, &compiling, b"").await;
        put(&slow, &of(&compiling, 1)).await;
        let component = app.plugins.compiled.entry(&compiling.digest);
        let mut compile =
            std::pin::pin!(component.get_or_try_init(std::future::pending::<Result<_, DbError>>));
        assert!(compile.as_mut().now_or_never().is_none());

        let manifest = Manifest::parse(&version.manifest).expect("ours");
        let new = NewInstallation {
            settings: manifest.example.expect("it has one"),
            ..of(&version, 2)
        };
        let row = new.as_row(quick.id());
        let known = app.plugins.chosen(&row).await.expect("it is published");
        let checked = app.plugins.check(&row, &known, new.settings.clone()).await;
        let _plugin = checked.expect("it can run");
        put(&quick, &new).await;
        app.plugins.apply().await.expect("applied");
        let snapshot = app.plugins.snapshot();
        let state = |db: &crate::db::TenantDb| {
            let mut all = snapshot.of_tenant(db.id());
            let state = &all.next().expect("it is there").state;
            state.as_ref().map(|_| ()).map_err(Clone::clone)
        };
        assert_eq!(state(&quick), Ok(()));
        let reason = state(&slow).expect_err("it is not compiled");
        assert!(reason.contains("is being compiled"), "{reason}");
    })
    .await;
}
