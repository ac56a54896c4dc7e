//! `cargo xtask demo`: the whole of Shoal on this machine, watching this machine, in a folder below `target`.
//!
//! Everything is real and what a user would do: the binary is started with a data folder, plugins are added and enabled
//! with its command line, this machine's metrics come through the public OTLP exporter, and the alert arrives at a
//! web address. With `--check` it ends after the last step and says of each whether it worked.

mod http;
mod process;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::command::{cargo, root, run_long};
use crate::report::{self, Summary};
use crate::{interrupt, plugins, toolchain};
use http::{Api, Listener};
use process::{Folder, Running, Shoal, wait_for};

/// For what happens within seconds.
const SOON: Duration = Duration::from_secs(60);

/// For what happens once a minute.
const MINUTES: Duration = Duration::from_secs(180);

/// How often the agent reports.
const REPORT_EVERY_MS: &str = "5000";

/// What the monitor looks at: it is above zero on every machine.
const MEMORY_USED: &str = "system_memory_usage_bytes{system_memory_state=\"used\"}";

/// What the plugins are: package and id are the same for those that ship.
const PLUGINS: [&str; 4] = ["otlp", "http-check", "webhook", "mackerel-plan"];

/// The tenant of the demo.
const TENANT: &str = "demo";

/// What is asked for on the command line.
#[derive(Debug, Default, PartialEq)]
struct Options {
    check: bool,
    release: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options> {
        let mut options = Options::default();
        for argument in arguments {
            match argument.as_str() {
                "--check" => options.check = true,
                "--release" => options.release = true,
                other => bail!(
                    "`cargo xtask demo` has no option `{other}`; there are --check and --release"
                ),
            }
        }
        Ok(options)
    }
}

/// Runs the demo; returns when it has been checked, or when somebody presses Ctrl-C.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let mut summary = Summary::default();
    let demo = steps(&options, &mut summary);
    match demo {
        Some(demo) if !options.check => {
            demo.tell_what_next();
            demo.run_until_interrupted()
        }
        _ => summary.finish(),
    }
}

/// Every step in its order; `None` when one failed, because the next ones need it.
fn steps(options: &Options, summary: &mut Summary) -> Option<Demo> {
    summary.step("Rust target of plugins", toolchain::ensure_target)?;
    summary.step(
        "plugins (the first build takes some minutes)",
        plugins::build_first_party,
    )?;
    summary.step("server (the first build takes some ten minutes)", || {
        build_server(options)
    })?;
    summary.step("agent", build_agent)?;
    let mut demo = summary.step("server is up", || Demo::start(options))?;
    summary.step("a tenant and its plugins", || demo.furnish())?;
    summary.step("this machine's metrics become series", || {
        demo.watch_this_machine()
    })?;
    summary.step("a page is checked", || demo.check_a_page())?;
    summary.step("a monitor opens an alert", || demo.open_an_alert())?;
    summary.step("the alert is told", || demo.receive_the_notification())?;
    summary.step("the month so far is priced", || demo.price_the_month())?;
    Some(demo)
}

fn build_server(options: &Options) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--workspace", "--bin=shoal"]);
    if options.release {
        build.arg("--release");
    } else {
        // Cargo builds libraries with other features when tests are among what is asked for. With one of them, the demo
        // and the tests share what takes minutes.
        build.arg("--test=road");
    }
    run_long(&mut build)
}

fn build_agent() -> Result<()> {
    run_long(cargo().current_dir(root().join("xtask/agent")).arg("build"))
}

/// Everything that runs. Fields end in this order: what sends before what receives.
struct Demo {
    agent: Option<Running>,
    server: Running,
    shoal: Shoal,
    api: Api,
    otlp_http: String,
    page: Listener,
    told: Listener,
    folder: Folder,
}

impl Demo {
    /// Starts the server on free ports and an empty data folder.
    fn start(options: &Options) -> Result<Demo> {
        let folder = Folder::make()?;
        let profile = if options.release { "release" } else { "debug" };
        let binary = root().join("target").join(profile).join("shoal");
        let mut serve = Command::new(&binary);
        serve.arg("serve").arg("--data").arg(&folder.data);
        for listener in ["--http", "--otlp-http", "--otlp-grpc"] {
            serve.args([listener, "127.0.0.1:0"]);
        }
        // The page and the webhook's address are on this machine.
        serve.args(["--allow-private", "127.0.0.0/8"]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SHOAL_") {
                serve.env_remove(name);
            }
        }
        let mut server = Running::start("the server", &mut serve, &folder.log)?;
        let file = folder.data.join("addresses.json");
        let addresses: Value = wait_for("addresses.json", SOON, || {
            server.expect_alive()?;
            match std::fs::read_to_string(&file) {
                Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
                Err(_) => Ok(None),
            }
        })?;
        let address = |name: &str| {
            let text = addresses[name].as_str();
            text.map(str::to_owned)
                .with_context(|| format!("addresses.json has no {name}: {addresses}"))
        };
        let http = address("http")?;
        report::line(format_args!(
            "    http://{http}, data in {}",
            folder.data.display()
        ));
        Ok(Demo {
            agent: None,
            server,
            shoal: Shoal {
                binary,
                data: folder.data.clone(),
                server: format!("http://{http}"),
            },
            api: Api {
                address: http,
                key: String::new(),
            },
            otlp_http: address("otlp_http")?,
            page: Listener::start()?,
            told: Listener::start()?,
            folder,
        })
    }

    /// Makes the tenant, a key, and enables each plugin.
    fn furnish(&mut self) -> Result<()> {
        let shoal = &self.shoal;
        shoal.run(&["tenant", "create", TENANT, "--name", "Demo"])?;
        let key = shoal.run(&[
            "key", "create", "--tenant", TENANT, "--role", "write", "--name", "demo",
        ])?;
        self.api.key = text(&key["key"])?;
        std::fs::write(self.key_file(), &self.api.key).context("cannot keep the tenant's key")?;
        for plugin in PLUGINS {
            let component = plugins::first_party_component(plugin);
            shoal.run(&["plugin", "add", &component.display().to_string()])?;
            shoal.run(&["plugin", "approve", plugin])?;
        }
        let enable = ["plugin", "enable", "--tenant", TENANT];
        let (page, hook) = (self.page.url("/"), self.told.url("/hook"));
        let page = ["--set", &format!("url={page}"), "--interval-ms", "10000"];
        let hook = ["--set", &format!("url={hook}")];
        shoal.run(&[&enable[..], &["otlp"]].concat())?;
        shoal.run(&[&enable[..], &["http-check"], &page].concat())?;
        shoal.run(&[&enable[..], &["webhook"], &hook].concat())?;
        shoal.run(&[&enable[..], &["mackerel-plan"]].concat())?;
        Ok(())
    }

    /// Starts the agent and waits for what it sends.
    fn watch_this_machine(&mut self) -> Result<()> {
        let mut agent = Command::new(root().join("xtask/agent/target/debug/demo-agent"));
        agent.env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", self.otlp_http),
        );
        agent.env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            format!("x-api-key={}", self.api.key),
        );
        agent.env("OTEL_METRIC_EXPORT_INTERVAL", REPORT_EVERY_MS);
        let log = &self.folder.agent_log;
        let agent = self
            .agent
            .insert(Running::start("the agent", &mut agent, log)?);
        let (api, server) = (&self.api, &mut self.server);
        let used = wait_for("metrics of this machine", SOON, || {
            agent.expect_alive()?;
            server.expect_alive()?;
            api.value_of(MEMORY_USED)
        })?;
        let load = api.value_of("system_cpu_load_average_1m")?.unwrap_or(0.0);
        let cpus = api.value_of("count(system_cpu_time_seconds_total{cpu_mode=\"idle\"})")?;
        report::line(format_args!(
            "    memory in use {:.1} GiB, load {load}, {} CPUs",
            used / f64::from(1 << 30),
            cpus.unwrap_or(0.0)
        ));
        Ok(())
    }

    fn check_a_page(&mut self) -> Result<()> {
        let (api, server) = (&self.api, &mut self.server);
        let up = wait_for("result of the check", SOON, || {
            server.expect_alive()?;
            api.value_of("http_check_up")
        })?;
        anyhow::ensure!(up == 1.0, "the page of the demo does not answer the check");
        let took = api.value_of("http_check_duration_seconds")?.unwrap_or(0.0);
        report::line(format_args!(
            "    {} answered in {:.1} ms",
            self.page.url("/"),
            took * 1000.0
        ));
        Ok(())
    }

    /// Makes a monitor that is bound to fire. Monitors are evaluated every minute, at the full minute.
    fn open_an_alert(&mut self) -> Result<()> {
        let monitor = json!({
            "name": "Memory in use",
            "query": MEMORY_USED,
            "comparison": "above",
            "critical": 0,
            "memo": "made to fire, so that you see an alert",
        });
        self.api.post("/api/v1/monitors", &monitor)?;
        let (api, server) = (&self.api, &mut self.server);
        let alert = wait_for("full minute, when monitors are evaluated", MINUTES, || {
            server.expect_alive()?;
            let alerts = api.get("/api/v1/alerts?status=open")?;
            Ok(Some(alerts["alerts"][0].clone()).filter(|alert| !alert.is_null()))
        })?;
        report::line(format_args!(
            "    {}: {}",
            text(&alert["severity"])?,
            text(&alert["message"])?
        ));
        Ok(())
    }

    fn receive_the_notification(&mut self) -> Result<()> {
        let (told, server) = (&self.told, &mut self.server);
        let post = wait_for("notification", SOON, || {
            server.expect_alive()?;
            Ok(told.next_post())
        })?;
        anyhow::ensure!(post["event"] == "alert", "this is no alert: {post}");
        report::line(format_args!("    POST {}", self.told.url("/hook")));
        for line in format!("{post:#}").lines() {
            report::line(format_args!("    {line}"));
        }
        Ok(())
    }

    /// Usage is counted with each report; what is in the hour that is not over yet counts on request.
    fn price_the_month(&mut self) -> Result<()> {
        let (api, server) = (&self.api, &mut self.server);
        let statement = wait_for("statement with a host in it", SOON, || {
            server.expect_alive()?;
            let statement = api.get("/api/v1/statements?include_open_hour=true")?;
            let has_line = !statement["lines"][0].is_null();
            Ok(has_line.then_some(statement))
        })?;
        report::line(format_args!(
            "    {}, {}, as if the hour in progress were over:",
            text(&statement["month"])?,
            text(&statement["status"])?
        ));
        for line in statement["lines"].as_array().into_iter().flatten() {
            report::line(format_args!(
                "    {:>6} x {:<50} {:>8} {:>8}",
                text(&line["quantity"])?,
                text(&line["description"])?,
                text(&line["unit_price"])?,
                text(&line["amount"])?
            ));
        }
        let (currency, total) = (text(&statement["currency"])?, text(&statement["total"])?);
        report::line(format_args!("    total {currency} {total}"));
        Ok(())
    }

    fn key_file(&self) -> std::path::PathBuf {
        self.folder.data.join("demo.key")
    }

    fn tell_what_next(&self) {
        let server = &self.shoal.server;
        let data = self.folder.data.display();
        let shoal = self.shoal.binary.display();
        let key = self.key_file().display().to_string();
        report::line(format_args!(
            "
It goes on until Ctrl-C. To try next, in another terminal:

  export SHOAL_SERVER={server} SHOAL_DATA={data}
  {shoal} plugin list --tenant {TENANT}
  {shoal} --help

  curl -s -H \"X-Api-Key: $(cat {key})\" '{server}/prometheus/api/v1/query?query=system_cpu_load_average_1m'
  curl -s -H \"X-Api-Key: $(cat {key})\" '{server}/api/v1/alerts?status=open'
  curl -s -H \"X-Api-Key: $(cat {key})\" '{server}/api/v1/statements?include_open_hour=true'
  curl -s -H \"X-Api-Key: $(cat {data}/operator.key)\" '{server}/api/v1/jobs'

  Any OTLP client: OTEL_EXPORTER_OTLP_ENDPOINT=http://{} OTEL_EXPORTER_OTLP_HEADERS=\"x-api-key=$(cat {key})\"
  The server's log: {}
",
            self.otlp_http,
            self.folder.log.display()
        ));
    }

    /// Shows further notifications until Ctrl-C; then everything ends.
    fn run_until_interrupted(mut self) -> Result<()> {
        while !interrupt::interrupted() {
            self.server.expect_alive()?;
            if let Some(post) = self.told.next_post() {
                report::line(format_args!("told: {}", post["message"]));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        report::line("ending");
        Ok(())
    }
}

fn text(value: &Value) -> Result<String> {
    let text = value.as_str().map(str::to_owned);
    text.with_context(|| format!("{value} is not a text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_option_is_refused_by_name() {
        let error = Options::parse(&["--fast".to_owned()]).expect_err("there is no such option");
        assert!(error.to_string().contains("--fast"), "{error}");
        let both = Options::parse(&["--check".to_owned(), "--release".to_owned()]);
        let wanted = Options {
            check: true,
            release: true,
        };
        assert_eq!(both.expect("the line is right"), wanted);
    }
}
