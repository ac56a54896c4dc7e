//! The whole road on both databases: a sample comes in and becomes a series, a monitor, an alert, a webhook that
//! arrives, and an hour of usage with its price; and the sums are right.

use serde_json::{Value, json};
use shoal_model::time::Hour;

use crate::support::components::{enable, text};
use crate::support::{Listener, Post, Server, Tenant, each_database, eventually, now_ms, otlp};

const HOUR_MS: i64 = 3_600_000;

/// A bit more than an hour: then the hour of the first part of the test is over, whenever it began.
const AN_HOUR_LATER_SECONDS: i64 = 3700;

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_becomes_a_series_an_alert_a_notification_and_a_price() {
    each_database(async |server| {
        let told = Listener::start().await;
        let tenant = furnish(server, &told).await;
        let begun_hour = now_ms() / HOUR_MS;

        sample_becomes_series(&tenant).await;
        let monitor = alert_is_told(server, &tenant, &told).await;
        alert_resolves_and_that_is_told(server, &tenant, &told, &monitor).await;
        let before = statement_of_the_open_hour(&tenant, Some("host.standard")).await;

        server.end().await;
        let ahead = AN_HOUR_LATER_SECONDS.to_string();
        server.start_again(&["--clock-ahead-seconds", &ahead]).await;
        let tenant = server.found_again(&tenant);
        hours_are_closed(server, &tenant, begun_hour).await;
        statement_over_closed_hours(&tenant, &before).await;
        nothing_was_lost(server).await;
        series_outlive_the_restart(&tenant).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_page_becomes_a_series_and_an_alert_that_is_told() {
    each_database(async |server| {
        let (page, told) = (Listener::start().await, Listener::start().await);
        let tenant = furnish(server, &told).await;
        let settings = json!({ "url": page.url("/health") });
        tenant.enable_check("http-check", "page", settings).await;

        let up = eventually("sample of the check", async || {
            tenant.value_of("http_check_up{check=\"page\"}").await
        })
        .await;
        assert_eq!(up, 1.0);

        page.answer_with(503);
        let open = told
            .wait_for("notification that the page is down", |post| {
                post.body["alert"]["isOpen"] == true
            })
            .await;
        assert_eq!(open.body["type"], "check");
        assert_eq!(open.body["alert"]["status"], "critical");
        let message = text(&open.body["message"]);
        assert!(message.contains("503"), "{message}");
        let listed = tenant.read.get("/api/v1/alerts?status=open").await.is(200);
        assert_eq!(listed["alerts"][0]["monitor"]["kind"], "check");
        assert_eq!(listed["alerts"][0]["id"], open.body["alert"]["id"]);

        page.answer_with(200);
        let closed = told
            .wait_for("notification that the page is up again", |post| {
                post.body["alert"]["isOpen"] == false
            })
            .await;
        assert_eq!(closed.body["alert"]["id"], open.body["alert"]["id"]);
        // A check without any host costs one: the line of no meter.
        statement_of_the_open_hour(&tenant, None).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_channel_stands_in_for_one_whose_plugin_is_down_and_the_operator_is_told() {
    each_database(async |server| {
        let (told, other) = (Listener::start().await, Listener::start().await);
        let tenant = furnish(server, &told).await;
        server.approve("slack").await;
        let settings = json!({ "url": other.url("/services/T000/B000/abcdefgh") });
        tenant.enable("slack", settings).await;
        let list = server.operator().get("/api/v1/plugins").await.is(200);
        let versions = list["versions"].as_array().expect("a list");
        let is_webhook = |version: &&Value| version["plugin"] == "webhook";
        let webhook = versions.iter().find(is_webhook).expect("it was approved");
        let digest = text(&webhook["digest"]);
        let path = format!("/api/v1/plugins/webhook/versions/{digest}/quarantine");
        let why = json!({ "reason": "it misbehaves" });
        server.operator().post(&path, &why).await.is(200);

        send(&tenant, 9.0).await;
        let monitor = condition(&tenant).await;
        server.evaluate_monitors().await;
        let alert = open_alert(&tenant, &monitor).await;
        let stands_in = |post: &Post| post.body.to_string().contains("in place of the channel");
        other
            .wait_for("message in place of another", stands_in)
            .await;
        let path = format!("/api/v1/alerts/{}", text(&alert["id"]));
        eventually("notifications that are all delivered", async || {
            let shown = tenant.read.get(&path).await.is(200);
            let list = shown["notifications"].as_array()?.clone();
            let is_done = |one: &Value| one["status"] == "delivered";
            (list.len() == 2 && list.iter().all(is_done)).then_some(())
        })
        .await;
        assert_eq!(told.requests(), 0, "a plugin in quarantine is not called");
        assert_eq!(
            other.posts().iter().filter(|post| stands_in(post)).count(),
            1
        );

        let seen = eventually("alert of the operator", async || {
            server.evaluate_monitors().await;
            let list = server
                .operator()
                .get("/api/v1/alerts?status=open")
                .await
                .is(200);
            let alerts = list["alerts"].as_array().expect("a list").clone();
            let is_it = |alert: &&Value| alert["monitor"]["name"] == "plugins that are down";
            alerts.iter().find(is_it).cloned()
        })
        .await;
        assert_eq!(seen["severity"], "critical", "{seen}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_is_told_later_and_once() {
    each_database(async |server| {
        let told = Listener::start().await;
        told.answer_with(503);
        let tenant = furnish(server, &told).await;
        send(&tenant, 9.0).await;
        let monitor = condition(&tenant).await;
        server.evaluate_monitors().await;
        let first = told.wait_for("attempt in vain", |_| true).await;
        assert_eq!(first.status, 503);
        let alert = open_alert(&tenant, &monitor).await;
        let path = format!("/api/v1/alerts/{}", text(&alert["id"]));
        let notification = async || {
            let shown = tenant.read.get(&path).await.is(200);
            shown["notifications"][0].clone()
        };
        let pending = notification().await;
        assert_eq!(pending["status"], "pending", "{pending}");

        told.answer_with(200);
        let delivered = told
            .wait_for("delivery after the failure", |post| post.status == 200)
            .await;
        let key = delivered.headers.get("idempotency-key");
        assert_eq!(
            key,
            first.headers.get("idempotency-key"),
            "it is the same notification"
        );
        eventually("notification that counts as delivered", async || {
            (notification().await["status"] == "delivered").then_some(())
        })
        .await;
        let accepted = told
            .posts()
            .iter()
            .filter(|post| post.status == 200)
            .count();
        assert_eq!(accepted, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_that_were_acknowledged_survive_a_kill() {
    each_database(async |server| {
        server.approve("otlp").await;
        let tenant = server.tenant("acme").await;
        tenant.enable("otlp", json!({})).await;
        let mut acknowledged = 0.0;
        for value in 1..=50 {
            let body = otlp::gauges("web-1", now_ms() - 50 + value, &[("beat", value as f64)]);
            otlp::post(&tenant.otlp, &body).await.is(200);
            acknowledged = value as f64;
        }
        server.kill();
        server.start_again(&[]).await;
        let tenant = server.found_again(&tenant);
        let last = tenant.value_of("beat").await;
        assert_eq!(last, Some(acknowledged));
        let count = tenant.value_of("count_over_time(beat[5m])").await;
        assert_eq!(count, Some(50.0));
    })
    .await;
}

/// A tenant with a receiver, a channel and a billing rule.
async fn furnish(server: &Server, told: &Listener) -> Tenant {
    for package in ["otlp", "http-check", "webhook", "mackerel-plan"] {
        server.approve(package).await;
    }
    let tenant = server.tenant("acme").await;
    tenant.enable("otlp", json!({})).await;
    tenant
        .enable("webhook", json!({ "url": told.url("/hook") }))
        .await;
    // What it costs is not for the tenant to say.
    let rule = json!({ "plugin": "mackerel-plan" });
    enable(&server.operator().acting_for(&tenant.key), &rule).await;
    tenant
}

/// Sends the load of one host, now.
async fn send(tenant: &Tenant, load: f64) {
    let body = otlp::gauge("web-1", "road.load", load);
    let answer = otlp::post(&tenant.otlp, &body).await.is(200);
    let rejected = &answer["partialSuccess"]["rejectedDataPoints"];
    assert!(rejected.is_null(), "{answer}");
}

async fn sample_becomes_series(tenant: &Tenant) {
    send(tenant, 7.5).await;
    let series = tenant
        .read
        .series_of("road_load{host_name=\"web-1\"}")
        .await;
    let [(labels, value)] = series.as_slice() else {
        panic!("not one series: {series:?}");
    };
    assert_eq!(*value, 7.5);
    assert_eq!(labels["job"], "road");
    let sum = tenant.value_of("sum(road_load) * 2").await;
    assert_eq!(sum, Some(15.0));
}

/// Makes the monitor that fires above 5; returns its id.
async fn condition(tenant: &Tenant) -> String {
    let monitor = json!({
        "name": "Load", "query": "road_load", "comparison": "above", "warning": 3, "critical": 5,
        "memo": "see the runbook",
    });
    let made = tenant
        .write
        .post("/api/v1/monitors", &monitor)
        .await
        .is(201);
    text(&made["id"])
}

/// Waits for the monitor's open alert.
async fn open_alert(tenant: &Tenant, monitor: &str) -> Value {
    eventually("open alert", async || {
        let list = tenant.read.get("/api/v1/alerts?status=open").await.is(200);
        let alerts = list["alerts"].as_array().expect("a list");
        let found = alerts
            .iter()
            .find(|alert| alert["monitor"]["id"] == monitor);
        found.cloned()
    })
    .await
}

async fn alert_is_told(server: &Server, tenant: &Tenant, told: &Listener) -> String {
    let monitor = condition(tenant).await;
    let run = server.evaluate_monitors().await;
    check_equation(&run);
    let alert = open_alert(tenant, &monitor).await;
    assert_eq!(alert["severity"], "critical");
    assert_eq!(alert["labels"]["host_name"], "web-1");
    let post = told
        .wait_for("notification that the alert opened", |post| {
            post.body["alert"]["isOpen"] == true
        })
        .await;
    assert_eq!(post.path, "/hook");
    // The shape of Mackerel's webhook, so that its receivers work unchanged.
    let body = &post.body;
    assert_eq!(body["orgName"], "Tenant acme");
    assert_eq!(body["event"], "alert");
    assert_eq!(body["type"], "query");
    assert_eq!(body["memo"], "see the runbook");
    assert_eq!(body["imageUrl"], Value::Null);
    // A query's value has no metric name of its own: the monitor's name stands for it.
    assert_eq!(body["metric"]["name"], "Load");
    assert_eq!(body["metric"]["labels"]["host_name"], "web-1");
    let shown = &body["alert"];
    assert_eq!(shown["id"], alert["id"]);
    assert_eq!(shown["status"], "critical");
    assert_eq!(shown["previousStatus"], "ok");
    assert_eq!(shown["trigger"], "monitor");
    assert_eq!(shown["monitorName"], "Load");
    assert_eq!(shown["metricValue"], 7.5);
    assert_eq!(shown["criticalThreshold"], 5.0);
    assert_eq!(shown["warningThreshold"], 3.0);
    assert_eq!(shown["monitorOperator"], ">");
    assert_eq!(shown["closedAt"], Value::Null);
    let opened = shown["openedAt"].as_i64().expect("seconds");
    assert_eq!(
        shown["createdAt"].as_i64().map(|ms| ms / 1000),
        Some(opened)
    );
    monitor
}

async fn alert_resolves_and_that_is_told(
    server: &Server,
    tenant: &Tenant,
    told: &Listener,
    monitor: &str,
) {
    let alert = open_alert(tenant, monitor).await;
    send(tenant, 1.0).await;
    server.evaluate_monitors().await;
    let closed = told
        .wait_for("notification that the alert closed", |post| {
            post.body["alert"]["isOpen"] == false
        })
        .await;
    assert_eq!(closed.body["alert"]["id"], alert["id"]);
    assert_eq!(closed.body["alert"]["status"], "ok");
    assert!(closed.body["alert"]["closedAt"].is_i64());
    let path = format!("/api/v1/alerts/{}", text(&alert["id"]));
    let shown = tenant.read.get(&path).await.is(200);
    assert_eq!(shown["status"], "closed");
    let tos: Vec<&Value> = shown["transitions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|transition| &transition["to"])
        .collect();
    assert_eq!(
        tos.first().zip(tos.last()),
        Some((&&json!("critical"), &&json!("ok")))
    );
    // What the receiver has is recorded a moment later.
    eventually("record of every delivery", async || {
        let shown = tenant.read.get(&path).await.is(200);
        let notifications = shown["notifications"].as_array().expect("a list");
        notifications
            .iter()
            .all(|notification| notification["status"] == "delivered")
            .then_some(())
    })
    .await;
}

/// The month's statement with the hour in progress: it has a line for what was just used.
async fn statement_of_the_open_hour(tenant: &Tenant, meter: Option<&str>) -> Value {
    let statement = eventually("usage in the statement", async || {
        let path = "/api/v1/statements?include_open_hour=true";
        let statement = tenant.read.get(path).await.is(200);
        let lines = statement["lines"].as_array()?;
        lines
            .iter()
            .any(|line| line["meter"] == json!(meter))
            .then(|| statement.clone())
    })
    .await;
    assert_eq!(statement["status"], "month-to-date");
    assert_eq!(statement["includes_open_hour"], true);
    assert_eq!(statement["currency"], "JPY");
    assert_eq!(statement["rule"]["plugin"], "mackerel-plan");
    check_sums(&statement);
    statement
}

/// Amounts are quantities times prices, and the total is their sum.
fn check_sums(statement: &Value) {
    let number = |value: &Value| -> i64 {
        let text = text(value);
        text.parse()
            .unwrap_or_else(|_| panic!("{text:?} is not a whole number of yen"))
    };
    let lines = statement["lines"].as_array().expect("a list");
    for line in lines {
        let product = number(&line["quantity"]) * number(&line["unit_price"]);
        assert_eq!(number(&line["amount"]), product, "{line}");
    }
    let sum: i64 = lines.iter().map(|line| number(&line["amount"])).sum();
    assert_eq!(number(&statement["total"]), sum, "{statement}");
}

/// Every hour up to the present one is closed, the one with usage with its counts, without anybody's doing.
async fn hours_are_closed(server: &Server, tenant: &Tenant, begun_hour: i64) {
    let closed = eventually("closed hour", async || {
        let month = Hour(begun_hour).month();
        let path = format!("/api/v1/usage/hours?month={month}");
        let hours = tenant.read.get(&path).await.is(200);
        let hours = hours["hours"].as_array().expect("a list");
        let wanted = begun_hour * HOUR_MS;
        hours.iter().find(|hour| hour["from_ms"] == wanted).cloned()
    })
    .await;
    // One host that posted, with its series.
    let meters = &closed["meters"];
    assert_eq!(meters["host.standard"]["subjects"], 1, "{closed}");
    let series = meters["metric.standard"]["quantity"].as_u64();
    assert!(series >= Some(1), "{closed}");
    let path = "/api/v1/jobs/close-usage/runs?limit=100";
    let runs = server.operator().get(path).await.is(200);
    for run in runs["runs"].as_array().expect("a list") {
        if run["status"] == "done" {
            check_equation(run);
        }
    }
}

async fn statement_over_closed_hours(tenant: &Tenant, before: &Value) {
    let month = text(&before["month"]);
    let statement = eventually("statement over closed hours", async || {
        let path = format!("/api/v1/statements?month={month}");
        let statement = tenant.read.get(&path).await.is(200);
        let closed = statement["closed_hours"].as_i64().unwrap_or(0);
        (closed > 0
            && statement["lines"]
                .as_array()
                .is_some_and(|lines| !lines.is_empty()))
        .then_some(statement)
    })
    .await;
    assert_eq!(statement["includes_open_hour"], false);
    check_sums(&statement);
    let total = |statement: &Value| text(&statement["total"]);
    assert_eq!(
        total(&statement),
        total(before),
        "closing the hour changed its price"
    );
    assert_eq!(statement["rule"]["digest"], before["rule"]["digest"]);
    let again = tenant
        .read
        .get(&format!("/api/v1/statements?month={month}"))
        .await
        .is(200);
    assert_eq!(
        again["output_hash"], statement["output_hash"],
        "the same input, another output"
    );
}

/// What was expected was processed, failed or skipped, in every run of every job.
async fn nothing_was_lost(server: &Server) {
    let jobs = server.operator().get("/api/v1/jobs").await.is(200);
    let mut names: Vec<String> = Vec::new();
    for job in jobs["jobs"].as_array().expect("a list") {
        let name = job.get("name").unwrap_or(&job["job"]);
        names.push(text(name));
    }
    for wanted in [
        "evaluate-monitors",
        "run-checks",
        "deliver-notifications",
        "close-usage",
    ] {
        assert!(
            names.iter().any(|name| name == wanted),
            "no job {wanted} in {names:?}"
        );
    }
    for name in names {
        let runs = server
            .operator()
            .get(&format!("/api/v1/jobs/{name}/runs?limit=100"))
            .await
            .is(200);
        for run in runs["runs"].as_array().expect("a list") {
            assert_ne!(run["status"], "failed", "{run}");
            if run["status"] == "done" {
                check_equation(run);
            }
        }
    }
    // The same equation as metrics in the operator's own tenant, for monitors of the operator.
    eventually("metrics of runs", async || {
        let series = server.operator().series_of("shoal_job_units_total").await;
        (!series.is_empty()).then_some(())
    })
    .await;
}

#[track_caller]
fn check_equation(run: &Value) {
    let count = |name: &str| {
        run[name]
            .as_i64()
            .unwrap_or_else(|| panic!("no {name} in {run}"))
    };
    assert_eq!(
        count("expected"),
        count("processed") + count("failed") + count("skipped"),
        "{run}"
    );
    assert_eq!(count("failed"), 0, "{run}");
}

async fn series_outlive_the_restart(tenant: &Tenant) {
    let highest = tenant.value_of("max_over_time(road_load[2h])").await;
    assert_eq!(highest, Some(7.5));
}
