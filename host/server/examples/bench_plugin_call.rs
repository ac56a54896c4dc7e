//! What a call of a plugin takes, for each kind: a fresh instance, its work and its end. Run by
//! `cargo xtask bench plugin-call`.
//!
//! The check and the channel talk to a web server of this process, over real sockets of the loopback address.
#![expect(clippy::print_stdout, reason = "figures are what it is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "the web server ends with the process"
)]

#[path = "support/figure.rs"]
mod figure;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use shoal_model::alert::Severity;
use shoal_model::telemetry::ValidMetrics;
use shoal_model::usage::{Meter, MonthUsage};
use shoal_model::{InstallationId, Timestamp};
use shoal_runtime::{
    CallContext, Committed, Ingest, IngestError, InstallOptions, Installed, Notification,
    NotifiedAlert, NotifiedMonitor, Plugin, ReceiverRequest, Runtime, RuntimeOptions, Terms,
    Transport, Trigger,
};
use shoal_server::clock::Stopwatch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const NOW: Timestamp = Timestamp(1_795_478_400_000);
const WARM_UPS: usize = 50;
const CALLS: usize = 1000;

#[tokio::main]
async fn main() -> Result<()> {
    let url = page().await?;
    let runtime = Runtime::new(RuntimeOptions {
        allow_private: vec!["127.0.0.0/8".parse()?],
        ..RuntimeOptions::default()
    })?;
    let context = CallContext::new(NOW, "bench");

    let receiver = Subject::load(&runtime, "otlp", json!({})).await?;
    let request = ReceiverRequest {
        transport: Transport::Http,
        endpoint: "/v1/metrics".to_owned(),
        method: "POST".to_owned(),
        content_type: "application/json".to_owned(),
        body: br#"{"resourceMetrics": []}"#.to_vec(),
    };
    receiver
        .measure("receiver", async |installed| {
            let call = installed.receive(&context, request.clone(), Arc::new(Nowhere));
            call.await.outcome.map(drop).map_err(Into::into)
        })
        .await?;

    let check = Subject::load(&runtime, "http_check", json!({ "url": url })).await?;
    check
        .measure("check", async |installed| {
            let call = installed.run_check(&context).await;
            call.outcome.map(drop).map_err(Into::into)
        })
        .await?;

    let channel = Subject::load(&runtime, "webhook", json!({ "url": url })).await?;
    let notification = notification();
    channel
        .measure("channel", async |installed| {
            let call = installed.notify(&context, &notification).await;
            call.outcome.map(drop).map_err(Into::into)
        })
        .await?;

    let rule = Subject::load(&runtime, "mackerel_plan", json!({ "plan": "standard" })).await?;
    let (usage, terms) = (usage()?, terms());
    rule.measure("billing-rule", async |installed| {
        let call = installed.rate(&usage, &terms).await;
        call.outcome.map(drop).map_err(Into::into)
    })
    .await
}

/// A plugin with settings.
struct Subject {
    plugin: Arc<Plugin>,
    settings: Map<String, Value>,
}

impl Subject {
    async fn load(runtime: &Runtime, file: &str, settings: Value) -> Result<Subject> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../plugins/target/wasm32-wasip2/release")
            .join(format!("{file}.wasm"));
        let bytes = std::fs::read(&path)
            .with_context(|| format!("{} is not built: cargo xtask plugins", path.display()))?;
        let settings = settings.as_object().cloned().unwrap_or_default();
        Ok(Subject {
            plugin: runtime.load(bytes).await?,
            settings,
        })
    }

    /// Installed anew: a receiver's idle instance is not used again.
    fn install(&self) -> Result<Arc<Installed>> {
        let asked = self.plugin.manifest().asked();
        let id = InstallationId::from_random([7; 10]);
        let settings = self.settings.clone();
        Ok(self
            .plugin
            .install(InstallOptions::new(id, asked, settings))?)
    }

    /// Calls again and again and tells the median and the 99th percentile.
    async fn measure(
        &self,
        world: &str,
        call: impl AsyncFn(&Installed) -> Result<()>,
    ) -> Result<()> {
        let mut times = Vec::with_capacity(CALLS);
        for at in 0..WARM_UPS + CALLS {
            let installed = self.install()?;
            let watch = Stopwatch::start();
            call(&installed)
                .await
                .with_context(|| format!("a call of a {world}"))?;
            if at >= WARM_UPS {
                times.push(watch.elapsed());
            }
        }
        times.sort_unstable();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        for (name, at) in [("p50", CALLS / 2), ("p99", CALLS * 99 / 100)] {
            let name = format!("plugin_call.{world}.fresh_us.{name}");
            figure::tell(&name, micros(times[at]), "us", CALLS as u64);
        }
        Ok(())
    }
}

/// Takes batches and keeps nothing.
struct Nowhere;

#[async_trait]
impl Ingest for Nowhere {
    async fn write_metrics(&self, batch: ValidMetrics) -> Result<Committed, IngestError> {
        Ok(Committed {
            accepted: batch.points() as u64,
            ..Committed::default()
        })
    }
}

fn notification() -> Notification {
    Notification {
        organization: "Bench".to_owned(),
        alert: NotifiedAlert {
            id: "alr_bench".to_owned(),
            severity: Severity::Critical,
            previous: Severity::Ok,
            trigger: Trigger::Monitor,
            message: "load is above 5".to_owned(),
            value: Some(7.5),
            labels: vec![("host".to_owned(), "web-1".to_owned())],
            opened: NOW,
            changed: NOW,
            closed: None,
            url: String::new(),
        },
        monitor: NotifiedMonitor {
            id: "mon_bench".to_owned(),
            name: "Load".to_owned(),
            kind: "query".to_owned(),
            memo: String::new(),
            warning: None,
            critical: Some(5.0),
            comparison: None,
        },
    }
}

/// A month of a hundred hosts.
fn usage() -> Result<MonthUsage> {
    let mut usage = MonthUsage::new("2026-11".parse()?);
    usage.closed_hours = 720;
    for host in 0..100 {
        let host = format!("web-{host}");
        for _ in 0..720 {
            usage.count(Meter::HostStandard, &host, 1);
            usage.count(Meter::MetricStandard, &host, 250);
        }
    }
    Ok(usage)
}

fn terms() -> Terms {
    Terms {
        currency: "JPY".to_owned(),
        currency_digits: 0,
    }
}

/// A web server that says 200 to everything.
async fn page() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    Ok(url)
}

/// Reads one request, body included, and answers it.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|length| length.trim().parse::<usize>().ok());
        let is_whole = match length {
            Some(length) => body.len() >= length,
            None => !head.contains("transfer-encoding: chunked") || body.ends_with("0\r\n\r\n"),
        };
        if is_whole {
            break;
        }
    }
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    stream.write_all(answer.as_bytes()).await
}
