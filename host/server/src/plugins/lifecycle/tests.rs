//! Steps of a track, on both databases, with real components.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use shoal_runtime::{SigningKey, sign};

use super::*;
use crate::app::App;
use crate::db::TenantDb;
use crate::db::installations::{ChangedInstallation, NewInstallation};
use crate::db::plugins::tests::audit;
use crate::db::publishers::PublisherRow;
use crate::jobs::testing::{add_plugin, component, hour, tenant, with_app};
use crate::monitoring::testing::{installation, put};
use crate::plugins::{Ceiling, PluginServices, Policy, RegistryParts, SignaturePolicy, Wish};
use crate::secrets::SecretBox;

/// A component with some of its manifest replaced; what is shorter is filled up with spaces.
fn variant(file: &str, changes: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = component(file);
    for (old, new) in changes {
        let new = format!("{new:width$}", width = old.len());
        assert_eq!(new.len(), old.len(), "{new:?} is longer than {old:?}");
        let found: Vec<usize> = (0..bytes.len() - old.len())
            .filter(|at| bytes[*at..].starts_with(old.as_bytes()))
            .collect();
        assert!(!found.is_empty(), "the manifest has no {old:?}");
        for at in found {
            bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
        }
    }
    bytes
}

/// The second version, with another number and another longest greeting.
fn echo(version: &str, greeting_max: u8) -> Vec<u8> {
    let version = format!("version = \"{version}\"");
    let greeting = format!("maxLength = {greeting_max}");
    variant(
        "echo_2.wasm",
        &[
            ("version = \"0.2.0\"", &version),
            ("maxLength = 100", &greeting),
        ],
    )
}

/// A version that wants to keep values too.
fn wants_more(version: &str) -> Vec<u8> {
    let version = format!("version = \"{version}\"");
    variant(
        "echo_2.wasm",
        &[
            ("version = \"0.2.0\"", &version),
            (
                "description = \"Answers with what it was sent; for tests.\"",
                "description=\"x\"\n[[capabilities]]\nkind=\"kv\"\nreason=\"x\"",
            ),
        ],
    )
}

/// Adds a version; returns its digest.
async fn add(app: &App, bytes: Vec<u8>) -> String {
    let prepared = app.plugins.prepare(bytes.clone()).await;
    let version = prepared.expect("it is good").version;
    let line = audit("plugin.add");
    let added = app.db.system().add_version(&version, &bytes, &line).await;
    assert!(added.expect("added"));
    version.digest
}

fn me() -> By {
    By {
        actor: "key_me".to_owned(),
        reason: "because".to_owned(),
    }
}

fn of(digest: &str) -> Publish {
    Publish {
        plugin: "echo".to_owned(),
        digest: digest.to_owned(),
        track: "stable".to_owned(),
        trial: None,
        approve: Approve::Now(Grants::default()),
        is_forced: false,
    }
}

async fn publish(app: &App, digest: &str) -> Released {
    let published = app.plugins.publish(&of(digest), &me()).await;
    published.expect("published")
}

fn back() -> RollBack {
    RollBack {
        plugin: "echo".to_owned(),
        track: "stable".to_owned(),
        from: None,
        to: None,
    }
}

async fn enable(db: &TenantDb, greeting: &str) {
    let new = NewInstallation {
        plugin_id: "echo".to_owned(),
        settings: Map::from_iter([("greeting".to_owned(), greeting.into())]),
        ..installation(1, "receiver")
    };
    put(db, &new).await;
}

/// The version that runs for a tenant, its greeting, and the version that is tried beside it.
async fn runs(app: &App, db: &TenantDb) -> (String, Value, Option<String>) {
    app.plugins.reload().await.expect("loaded");
    let snapshot = app.plugins.snapshot();
    let running = snapshot.of_tenant(db.id()).next().expect("it is there");
    let installed = running.state.as_ref().expect("it runs");
    let settings = installed.settings();
    let greeting = settings
        .get("salutation")
        .or(settings.get("greeting"))
        .cloned();
    let shadow = running.shadow.as_ref();
    (
        running.version.as_ref().expect("one").version.clone(),
        greeting.unwrap_or_default(),
        shadow.map(|shadow| shadow.version.version.clone()),
    )
}

fn reason(error: NotRunnable) -> String {
    match error {
        NotRunnable::Reason(reason) | NotRunnable::Unknown(reason) => reason,
        NotRunnable::Db(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn publishing_and_going_back_are_live_at_once_and_can_be_done_twice() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let first = add(&app, component("echo_1.wasm")).await;
        let second = add(&app, component("echo_2.wasm")).await;
        assert!(publish(&app, &first).await.has_changed);
        enable(&acme, "hello").await;
        assert_eq!(runs(&app, &acme).await.0, "0.1.0");
        assert!(publish(&app, &second).await.has_changed);
        assert!(!publish(&app, &second).await.has_changed);
        assert_eq!(runs(&app, &acme).await.0, "0.2.0");

        let plugins = &app.plugins;
        let went_back = plugins.roll_back(&back(), &me()).await.expect("back");
        assert_eq!(went_back.track.active_digest.as_ref(), Some(&first));
        assert_eq!(went_back.held_back, []);
        assert_eq!(runs(&app, &acme).await.0, "0.1.0");
        let catalogue = plugins.catalogue().await.expect("read");
        let failing = &catalogue.found("echo", &second).expect("known").row;
        let again = plugins.roll_back_failing(failing, "stable", "late").await;
        assert!(!again.expect("nothing to do").has_changed);
        let refused = plugins.roll_back(&back(), &me()).await.expect_err("none");
        assert!(reason(refused).contains("was active on track stable before"));

        let releases = app.db.system().releases("echo", 10).await.expect("read");
        let done: Vec<_> = releases.iter().map(|one| (one.seq, &*one.action)).collect();
        assert_eq!(done, [(3, "rollback"), (2, "publish"), (1, "publish")]);
        assert!(releases.iter().all(|one| one.reason == "because"));
    })
    .await;
}

#[tokio::test]
async fn a_canary_runs_for_its_tenants_alone() {
    with_app(hour(0).start(), |app| async move {
        let (acme, globex) = (tenant(&app, "acme").await, tenant(&app, "globex").await);
        let first = add(&app, component("echo_1.wasm")).await;
        let second = add(&app, component("echo_2.wasm")).await;
        let canary = Publish {
            trial: Some(Trial::Canary(vec![acme.id()])),
            ..of(&second)
        };
        let too_early = app.plugins.publish(&canary, &me()).await;
        assert!(
            reason(too_early.expect_err("nothing is active")).contains("publish a version first")
        );
        publish(&app, &first).await;
        for db in [&acme, &globex] {
            enable(db, "hello").await;
        }
        app.plugins.publish(&canary, &me()).await.expect("tried");
        assert_eq!(runs(&app, &acme).await.0, "0.2.0");
        assert_eq!(runs(&app, &globex).await.0, "0.1.0");
        let unclear = app.plugins.roll_back(&back(), &me()).await;
        assert!(reason(unclear.expect_err("which?")).contains("shoal plugin abandon echo"));

        let abandoned = app.plugins.abandon("echo", "stable", &me()).await;
        assert!(abandoned.expect("ended").has_changed);
        let again = app.plugins.abandon("echo", "stable", &me()).await;
        assert!(!again.expect("ended already").has_changed);
        assert_eq!(runs(&app, &acme).await.0, "0.1.0");

        app.plugins.publish(&canary, &me()).await.expect("tried");
        let promoted = app.plugins.promote("echo", "stable", false, &me()).await;
        assert_eq!(promoted.expect("promoted").track.candidate_digest, None);
        assert_eq!(runs(&app, &globex).await.0, "0.2.0");
    })
    .await;
}

#[tokio::test]
async fn a_shadow_stands_beside_what_runs_until_it_is_promoted() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let first = add(&app, component("echo_1.wasm")).await;
        let second = add(&app, component("echo_2.wasm")).await;
        publish(&app, &first).await;
        enable(&acme, "hello").await;
        let shadow = Publish {
            trial: Some(Trial::Shadow { needed: 3 }),
            ..of(&second)
        };
        app.plugins.publish(&shadow, &me()).await.expect("tried");
        let (version, _, shadowed) = runs(&app, &acme).await;
        assert_eq!((&*version, shadowed.as_deref()), ("0.1.0", Some("0.2.0")));
        let snapshot = app.plugins.snapshot();
        let running = snapshot.of_tenant(acme.id()).next().expect("it is there");
        let shadow = running.shadow.clone().expect("it is there");
        assert_eq!((&*shadow.track, shadow.needed), ("stable", 3));
        for _ in 0..2 {
            let promoted = app.plugins.promote_shadow(&shadow, "3 equal answers").await;
            promoted.expect("promoted");
            let (version, _, shadowed) = runs(&app, &acme).await;
            assert_eq!((&*version, shadowed), ("0.2.0", None));
        }
        let releases = app.db.system().releases("echo", 1).await.expect("read");
        assert_eq!(releases[0].actor, SYSTEM);
        assert_eq!(releases[0].reason, "3 equal answers");
        let abandoned = app.plugins.abandon_shadow(&shadow, "late").await;
        abandoned.expect("it is active, so a failure of it goes back");
        assert_eq!(runs(&app, &acme).await.0, "0.1.0");
    })
    .await;
}

#[tokio::test]
async fn a_version_that_would_break_a_tenant_is_refused_or_leaves_it_behind() {
    with_app(hour(0).start(), |app| async move {
        let (acme, globex) = (tenant(&app, "acme").await, tenant(&app, "globex").await);
        let first = add(&app, component("echo_1.wasm")).await;
        let strict = add(&app, echo("0.3.0", 3)).await;
        publish(&app, &first).await;
        enable(&acme, "hello").await;
        enable(&globex, "hi").await;
        app.plugins.reload().await.expect("loaded");
        let refused = app.plugins.publish(&of(&strict), &me()).await;
        let why = reason(refused.expect_err("acme would break"));
        assert!(
            why.contains("acme ins_") && why.contains("greeting"),
            "{why}"
        );
        assert!(!why.contains("globex"), "{why}");
        let catalogue = app.plugins.catalogue().await.expect("read");
        let known = catalogue.found("echo", &strict).expect("known");
        assert_eq!(known.row.approval, None, "nothing has changed");

        let forced = Publish {
            is_forced: true,
            ..of(&strict)
        };
        let released = app.plugins.publish(&forced, &me()).await.expect("forced");
        let behind: Vec<_> = released.held_back.iter().map(|one| one.tenant).collect();
        assert_eq!(behind, [acme.id()]);
        assert_eq!(runs(&app, &acme).await.0, "0.1.0");
        assert_eq!(runs(&app, &globex).await.0, "0.3.0");
    })
    .await;
}

#[tokio::test]
async fn settings_are_migrated_with_the_version_and_come_back_with_it() {
    with_app(hour(0).start(), |app| async move {
        let (acme, globex) = (tenant(&app, "acme").await, tenant(&app, "globex").await);
        let first = add(&app, component("echo_1.wasm")).await;
        let third = add(&app, component("echo_3.wasm")).await;
        publish(&app, &first).await;
        enable(&acme, "hello").await;
        enable(&globex, "").await;
        app.plugins.reload().await.expect("loaded");
        let refused = app.plugins.publish(&of(&third), &me()).await;
        let why = reason(refused.expect_err("globex has none"));
        assert!(
            why.contains("globex ins_") && why.contains("give it a greeting first"),
            "{why}"
        );
        enable(&globex, "good day").await;
        app.plugins.reload().await.expect("loaded");
        publish(&app, &third).await;
        for (db, greeting) in [(&acme, "hello"), (&globex, "good day")] {
            let (version, migrated, _) = runs(&app, db).await;
            assert_eq!((&*version, migrated), ("0.3.0", json!(greeting)));
        }
        app.plugins.roll_back(&back(), &me()).await.expect("back");
        let (version, greeting, _) = runs(&app, &acme).await;
        assert_eq!((&*version, greeting), ("0.1.0", json!("hello")));
        // What is changed meanwhile is migrated anew.
        enable(&acme, "good evening").await;
        publish(&app, &third).await;
        assert_eq!(runs(&app, &acme).await.1, json!("good evening"));
    })
    .await;
}

#[tokio::test]
async fn going_back_finds_the_settings_that_were_there() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let short = add(&app, echo("0.2.1", 3)).await;
        let long = add(&app, echo("0.3.0", 50)).await;
        publish(&app, &short).await;
        enable(&acme, "hi").await;
        publish(&app, &long).await;
        assert_eq!(runs(&app, &acme).await.1, "hi");
        // Somebody makes use of what the new version allows.
        let id = acme.installations().await.expect("read")[0].id.clone();
        let wish = Wish::read(&acme, &id).await.expect("read").expect("there");
        let next = Map::from_iter([("greeting".to_owned(), json!("good morning"))]);
        let secret_names = BTreeSet::new();
        let kept = app.plugins.kept_for_former(&wish, &next, &secret_names);
        let kept = kept.await.expect("made");
        let change = ChangedInstallation {
            new: NewInstallation {
                plugin_id: "echo".to_owned(),
                settings: next,
                ..installation(1, "receiver")
            },
            made_from: wish.row.revision,
            version_settings: kept,
        };
        let line = audit("installation.change");
        let changed = acme
            .change_installation(&change, &line, hour(0).start())
            .await;
        assert!(changed.expect("changed"));
        assert_eq!(runs(&app, &acme).await.1, "good morning");
        app.plugins.roll_back(&back(), &me()).await.expect("back");
        let (version, greeting, _) = runs(&app, &acme).await;
        assert_eq!((&*version, greeting), ("0.2.1", json!("hi")));
        publish(&app, &long).await;
        assert_eq!(runs(&app, &acme).await.0, "0.3.0");
    })
    .await;
}

#[tokio::test]
async fn a_version_that_asks_for_more_waits_for_approval() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let first = add(&app, component("echo_1.wasm")).await;
        let more = add(&app, wants_more("0.3.0")).await;
        let same = add(&app, component("echo_2.wasm")).await;
        publish(&app, &first).await;
        enable(&acme, "hello").await;
        for (approve, wanted) in [
            (Approve::Before, "is not approved"),
            (
                Approve::Inherited,
                "asks for more than the active version was approved for: kv",
            ),
        ] {
            let publish = Publish {
                approve,
                ..of(&more)
            };
            let refused = app.plugins.publish(&publish, &me()).await;
            let why = reason(refused.expect_err("it asks for more"));
            assert!(why.contains(wanted), "{why}");
        }
        assert_eq!(runs(&app, &acme).await.0, "0.1.0");
        let inherited = Publish {
            approve: Approve::Inherited,
            ..of(&same)
        };
        app.plugins
            .publish(&inherited, &me())
            .await
            .expect("no more");
        assert_eq!(runs(&app, &acme).await.0, "0.2.0");
    })
    .await;
}

#[tokio::test]
async fn a_withdrawn_version_runs_nowhere() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let first = add(&app, component("echo_1.wasm")).await;
        publish(&app, &first).await;
        enable(&acme, "hello").await;
        assert_eq!(runs(&app, &acme).await.0, "0.1.0");
        let plugins = &app.plugins;
        let refused = plugins.withdraw("echo", &first, false, &me()).await;
        assert!(reason(refused.expect_err("it is active")).contains("shoal plugin rollback echo"));
        for _ in 0..2 {
            let withdrawn = plugins.withdraw("echo", &first, true, &me()).await;
            withdrawn.expect("withdrawn");
        }
        let snapshot = plugins.snapshot();
        let running = snapshot.of_tenant(acme.id()).next().expect("it is there");
        let why = running.state.as_ref().expect_err("it does not run");
        assert!(why.contains("shoal plugin approve echo"), "{why}");
    })
    .await;
}

/// The same process with another configuration.
fn with_policy(app: &App, policy: Policy) -> PluginRegistry {
    PluginRegistry::new(RegistryParts {
        runtime: app.plugins.runtime().clone(),
        db: app.db.clone(),
        secrets: SecretBox::open(&app.config.data).expect("a key"),
        clock: app.clock.clone(),
        services: PluginServices::new(app.clock.clone(), None),
        policy,
    })
}

#[tokio::test]
async fn what_is_beyond_the_ceiling_is_not_granted_by_anybody() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        add_plugin(&app, "webhook.wasm").await;
        let new = NewInstallation {
            plugin_id: "webhook".to_owned(),
            settings: Map::from_iter([("url".to_owned(), json!("https://hooks.example/"))]),
            ..installation(1, "channel")
        };
        put(&acme, &new).await;
        for (pattern, may_run) in [("http *.example.org", false), ("http *:443", true)] {
            let others = ["secret *", "kv"].map(str::to_owned);
            let patterns = [&[pattern.to_owned()][..], &others].concat();
            let policy = Policy {
                ceiling: Ceiling::new(&patterns).expect("patterns"),
                ..Policy::default()
            };
            let plugins = with_policy(&app, policy);
            plugins.reload().await.expect("loaded");
            let snapshot = plugins.snapshot();
            let running = snapshot.of_tenant(acme.id()).next().expect("it is there");
            match &running.state {
                Ok(_) => assert!(may_run, "{pattern}"),
                Err(why) => {
                    assert!(!may_run, "{pattern}: {why}");
                    assert!(
                        why.contains("beyond the ceiling of this deployment"),
                        "{why}"
                    );
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_upload_leaves_nothing_behind_and_says_why() {
    with_app(hour(0).start(), |app| async move {
        let policy = Policy {
            signatures: SignaturePolicy::Require,
            ..Policy::default()
        };
        let strict = with_policy(&app, policy);
        let (key, bytes) = (SigningKey::from_seed([7; 32]), component("echo_1.wasm"));
        let signed = sign(&bytes, &key);
        for (bytes, wanted) in [
            (b"not a component".to_vec(), "signed"),
            (bytes, "it is not signed"),
            (signed.clone(), "shoal publisher add"),
        ] {
            let refused = strict.prepare(bytes).await.err().expect("refused");
            let why = reason(refused);
            assert!(why.contains(wanted), "{why}");
        }
        let row = PublisherRow {
            name: "acme".to_owned(),
            key: key.public().to_string(),
            added_at_ms: 1,
            added_by: "me".to_owned(),
        };
        let system = app.db.system();
        let line = audit("publisher.add");
        let trusted = system.add_publisher(&row, &line).await;
        trusted.expect("it is new");
        let mut changed = signed.clone();
        changed[100] ^= 1;
        let refused = strict.prepare(changed).await.err().expect("refused");
        assert!(reason(refused).contains("the signature is wrong"));
        assert_eq!(system.versions().await.expect("read"), []);

        let prepared = strict.prepare(signed).await.expect("trusted");
        assert_eq!(prepared.version.publisher.as_deref(), Some("acme"));
        assert_eq!(prepared.version.signature_state, "valid");
        assert_eq!(prepared.warning, None);
    })
    .await;
}
