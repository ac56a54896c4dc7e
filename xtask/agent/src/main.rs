//! Sends this machine's own metrics through the public OpenTelemetry exporter, as any client of Shoal would.
//!
//! Where to, as whom and how often is said by the exporter's standard variables: `OTEL_EXPORTER_OTLP_ENDPOINT`,
//! `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_METRIC_EXPORT_INTERVAL` (milliseconds). It ends when its standard input does, so
//! it never outlives the demo that started it. What it measures is in [`system`], how it reads it in [`proc`].

mod proc;
mod system;

use std::io::Read;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{MetricExporter, Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

/// Between two reports, unless the environment says otherwise.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

/// The reader's own timer is not used: this program flushes, because then it learns of errors.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

fn main() -> Result<()> {
    let interval = interval()?;
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .build()
        .context("the exporter's variables are wrong")?;
    let provider = SdkMeterProvider::builder()
        .with_resource(resource())
        .with_reader(
            PeriodicReader::builder(exporter)
                .with_interval(NEVER)
                .build(),
        )
        .build();
    system::observe(&provider);
    let end = end_of_input();
    loop {
        if let Err(error) = provider.force_flush() {
            eprintln!("demo-agent: could not export: {error}");
        }
        match end.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
    }
    provider
        .shutdown()
        .context("could not export the last report")
}

fn interval() -> Result<Duration> {
    match std::env::var("OTEL_METRIC_EXPORT_INTERVAL") {
        Ok(text) => {
            let ms = text
                .parse()
                .with_context(|| format!("OTEL_METRIC_EXPORT_INTERVAL={text} is no number"))?;
            Ok(Duration::from_millis(ms))
        }
        Err(_) => Ok(DEFAULT_INTERVAL),
    }
}

/// Who this machine is, by the semantic conventions.
fn resource() -> Resource {
    let name = proc::host_name();
    let id = proc::machine_id().unwrap_or_else(|| name.clone());
    Resource::builder()
        .with_service_name("demo-agent")
        .with_attributes([
            KeyValue::new("host.name", name),
            KeyValue::new("host.id", id),
            KeyValue::new("host.arch", std::env::consts::ARCH),
            KeyValue::new("os.type", std::env::consts::OS),
        ])
        .build()
}

/// Speaks when standard input ends.
fn end_of_input() -> mpsc::Receiver<()> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut ignored = [0; 256];
        while std::io::stdin()
            .read(&mut ignored)
            .is_ok_and(|count| count > 0)
        {}
        // Nobody listening means that the program is over already.
        let _ = tell.send(());
    });
    told
}
