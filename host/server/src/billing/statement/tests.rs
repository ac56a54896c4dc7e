//! Statements from known usage, by the real rule, against amounts computed by hand.

use serde_json::json;
use shoal_model::InstallationId;

use super::*;
use crate::billing::close_usage::CloseUsage;
use crate::billing::rate_statements::RateStatements;
use crate::db::installations::NewInstallation;
use crate::jobs::testing::{HOST, MICRO, add_plugin, hour, november, tenant, with_app};
use crate::jobs::{Job, TenantCount};

async fn enable(app: &App, db: &TenantDb, settings: Value) {
    let Value::Object(settings) = settings else {
        panic!("settings are an object");
    };
    let rule = NewInstallation {
        id: InstallationId::from_random([9; 10]),
        name: "plan".to_owned(),
        plugin_id: "mackerel-plan".to_owned(),
        kind: "billing-rule".to_owned(),
        track: "stable".to_owned(),
        pinned_digest: None,
        settings,
        secrets: Vec::new(),
        grants: None,
        is_enabled: true,
        interval_ms: None,
    };
    db.put_installation(&rule, app.clock.now())
        .await
        .expect("put");
    app.plugins.reload().await.expect("reloaded");
}

async fn rated(app: &App, key: &str, month: Month, hours: Hours) -> Result<Rated, StatementError> {
    let tenant = app.db.system().tenant_by_key(key).await.expect("read");
    let tenant = tenant.expect("there");
    rate(app, &app.db.tenant(tenant.id()), &tenant, month, hours).await
}

async fn close_until(app: &App, end: shoal_model::time::Hour) {
    let now = end.start() + CloseUsage.delay();
    app.clock.advance(now.since(app.clock.now()));
    let counts = CloseUsage.run(app, end.start()).await.expect("ran");
    assert!(counts.iter().all(|count| count.failed == 0), "{counts:?}");
}

/// Six standard hosts all month and a micro host for half of it.
async fn use_november(db: &TenantDb) {
    let mut usage = Vec::new();
    for at in 0..720 {
        usage.extend((1..=6).map(|host| HOST.at(hour(at), &format!("web-{host}"))));
        if at < 360 {
            usage.push(MICRO.at(hour(at), "task-1"));
        }
    }
    db.add_usage(&usage).await.expect("added");
}

#[tokio::test]
async fn a_whole_month_of_six_hosts_costs_what_it_does_by_hand() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let other = tenant(&app, "other").await;
        let version = add_plugin(&app, "mackerel_plan.wasm").await;
        enable(&app, &acme, json!({})).await;
        enable(&app, &other, json!({})).await;
        use_november(&acme).await;
        close_until(&app, hour(720)).await;

        let statement = rated(&app, "acme", november(), Hours::Closed).await;
        let statement = statement.expect("a statement");
        assert!(statement.is_complete);
        assert_eq!(statement.usage.closed_hours, 720);
        assert_eq!(statement.as_of, hour(720).start());
        assert_eq!(statement.rule.digest, version.digest);
        let amounts: Vec<(String, String)> = statement
            .statement
            .lines
            .iter()
            .filter(|line| line.amount != shoal_model::money::Decimal::ZERO)
            .map(|line| (line.quantity.to_string(), line.amount.to_string()))
            .collect();
        // 6 · 1,833, and half a micro host rounded up: 660.
        let by_hand = [("6", "10998"), ("1", "660")];
        assert_eq!(amounts, by_hand.map(|(q, a)| (q.to_owned(), a.to_owned())));
        assert_eq!(statement.statement.total.to_string(), "11658");

        let nothing = rated(&app, "other", november(), Hours::Closed).await;
        assert_eq!(
            nothing.expect("a statement").statement.total.to_string(),
            "0"
        );
    })
    .await;
}

#[tokio::test]
async fn the_average_divides_by_the_hours_of_the_month_not_by_those_that_are_over() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        add_plugin(&app, "mackerel_plan.wasm").await;
        enable(&app, &acme, json!({})).await;
        let hosts: Vec<_> = (0..720)
            .map(|host| HOST.at(hour(0), &format!("web-{host}")))
            .chain([HOST.at(hour(1), "web-0")])
            .collect();
        acme.add_usage(&hosts).await.expect("added");
        close_until(&app, hour(1)).await;

        // 720 hosts for one hour of 720 are one host.
        let total = async |hours| {
            let rated = rated(&app, "acme", november(), hours).await;
            let rated = rated.expect("a statement");
            assert!(!rated.is_complete);
            (rated.usage.closed_hours, rated.statement.total.to_string())
        };
        assert_eq!(total(Hours::Closed).await, (1, "1833".to_owned()));
        // One further host-hour begins another host.
        assert_eq!(total(Hours::AndOpen).await, (2, "3666".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_statement_is_recorded_once_for_every_input() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        tenant(&app, "without-rule").await;
        add_plugin(&app, "mackerel_plan.wasm").await;
        enable(&app, &acme, json!({})).await;
        acme.add_usage(&[HOST.at(hour(0), "web-1")])
            .await
            .expect("added");
        close_until(&app, hour(30)).await;
        let run = async || {
            let counts = RateStatements.run(&app, hour(30).start()).await;
            counts.expect("ran")
        };
        let one = TenantCount {
            expected: 1,
            ..TenantCount::none(acme.id())
        };
        let (processed, skipped) = (1, 1);
        assert_eq!(run().await, [TenantCount { processed, ..one }]);
        assert_eq!(run().await, [TenantCount { skipped, ..one }]);
        close_until(&app, hour(31)).await;
        assert_eq!(run().await, [TenantCount { processed, ..one }]);
        app.clock.advance(std::time::Duration::from_millis(1));
        enable(&app, &acme, json!({ "standard_host_price": "2000.5" })).await;
        assert_eq!(run().await, [TenantCount { processed, ..one }]);

        let recorded = acme.statements(november(), 10).await.expect("read");
        let totals: Vec<_> = recorded
            .iter()
            .map(|row| (row.closed_hours, row.total.as_str(), row.is_complete))
            .collect();
        // 2000.5 yen are 2001: the currency has no digits after the point.
        assert_eq!(totals[..2], [(30, "1833", 0), (31, "1833", 0)]);
        assert_eq!(totals[2].1, "2001");
        let inputs: std::collections::BTreeSet<_> =
            recorded.iter().map(|row| &row.input_hash).collect();
        assert_eq!(inputs.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn another_answer_to_the_same_input_is_an_error_and_the_first_stays() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        add_plugin(&app, "mackerel_plan.wasm").await;
        enable(&app, &acme, json!({})).await;
        let first = rated(&app, "acme", november(), Hours::Closed).await;
        let mut first = first.expect("a statement");
        let recorded = record(&app, &acme, &first).await;
        assert_eq!(recorded.expect("recorded"), Recorded::New);
        let before = acme.statements(november(), 10).await.expect("read");
        first.output_hash = "sha256:other".to_owned();
        let recorded = record(&app, &acme, &first).await;
        assert_eq!(recorded.expect("recorded"), Recorded::Differs);
        assert_eq!(acme.statements(november(), 10).await.expect("read"), before);
    })
    .await;
}

#[tokio::test]
async fn without_a_rule_or_with_a_failing_one_the_error_says_what_to_do() {
    with_app(hour(0).start(), |app| async move {
        let acme = tenant(&app, "acme").await;
        let none = rated(&app, "acme", november(), Hours::Closed).await;
        assert_eq!(
            none.expect_err("nothing prices").to_string(),
            "no billing rule is enabled for tenant \"acme\"; the operator enables one with: shoal plugin enable mackerel-plan --tenant acme"
        );

        add_plugin(&app, "mackerel_plan.wasm").await;
        enable(&app, &acme, json!({ "plan": "free", "free_hosts": 0 })).await;
        acme.add_usage(&[HOST.at(hour(0), "web-1")])
            .await
            .expect("added");
        close_until(&app, hour(1)).await;
        let failed = rated(&app, "acme", november(), Hours::Closed).await;
        let text = failed.expect_err("over the plan").to_string();
        assert!(
            text.contains("1 hosts are more than the 0 of the free plan"),
            "{text}"
        );
        let counts = RateStatements.run(&app, hour(25).start()).await;
        let counts = counts.expect("ran");
        assert_eq!((counts[0].expected, counts[0].failed), (1, 1));
    })
    .await;
}

#[test]
fn a_hash_does_not_depend_on_the_order_of_keys() {
    let one = json!({ "a": 1, "b": { "c": [1, 2], "d": 2 } });
    let other = json!({ "b": { "d": 2, "c": [1, 2] }, "a": 1 });
    assert_eq!(hash(&one), hash(&other));
    assert_ne!(hash(&one), hash(&json!({ "a": 1 })));
}
