//! What taking telemetry costs: OTLP's bytes through the sandboxed receiver to the disk, and the same with the same
//! decoder compiled into the host. Run by `cargo xtask bench ingest`.
//!
//! CPU is that of the whole process: guest, host, log, and the flush of every round into a segment. Both ways take
//! turns, so that a busy machine disturbs both alike.
#![expect(clippy::print_stdout, reason = "figures are what it is for")]

#[path = "support/figure.rs"]
mod figure;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Map;
use shoal_model::telemetry::{HistogramColumns, Metrics, NumberColumns, SeriesColumns};
use shoal_model::{InstallationId, TenantId, Timestamp};
use shoal_otlp_decoder::generate::{Workload, body};
use shoal_otlp_decoder::{Columns, Decoder, decode_protobuf};
use shoal_runtime::{
    CallContext, Ingest as _, InstallOptions, Installed, ReceiverRequest, Runtime, RuntimeOptions,
    Transport,
};
use shoal_server::clock::Clock;
use shoal_server::ingest::write::Writer;
use shoal_store::{MemoryCatalog, Store, StoreOptions};
use tempfile::TempDir;

const BEGUN: Timestamp = Timestamp(1_795_478_400_000);
const TENANT: TenantId = TenantId(2);
/// Turns of each way.
const ROUNDS: u64 = 6;
/// Bodies of one turn.
const BODIES: u64 = 20;
/// Between two bodies, as senders export.
const INTERVAL: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    let workload = Workload::default();
    let (sandboxed, native) = (Side::open().await?, Side::open().await?);
    let receiver = receiver().await?;
    let mut decoder = Decoder::default();
    let (mut sandboxed_cpu, mut native_cpu) = (Duration::ZERO, Duration::ZERO);
    for round in 0..=ROUNDS {
        let bodies = bodies(&workload, round);
        let begun = cpu();
        for body in &bodies {
            sandboxed.clock.advance(INTERVAL);
            receive(&receiver, &sandboxed, body.clone()).await?;
        }
        sandboxed.store.flush().await?;
        let between = cpu();
        for body in &bodies {
            native.clock.advance(INTERVAL);
            write(&mut decoder, &native, body).await?;
        }
        native.store.flush().await?;
        // The first turn makes the series and warms everything up.
        if round > 0 {
            sandboxed_cpu += between.saturating_sub(begun);
            native_cpu += cpu().saturating_sub(between);
        }
    }
    let samples = workload.series() * BODIES * ROUNDS;
    let per_second = |cpu: Duration| samples as f64 / cpu.as_secs_f64();
    let unit = "samples/cpu_second";
    let name = "ingest.sandboxed.samples_per_cpu_second";
    figure::tell(name, per_second(sandboxed_cpu), unit, samples);
    let name = "ingest.native.samples_per_cpu_second";
    figure::tell(name, per_second(native_cpu), unit, samples);
    let tax = sandboxed_cpu.as_secs_f64() / native_cpu.as_secs_f64();
    figure::tell("ingest.sandbox_tax.ratio", tax, "ratio", samples);
    let stats = sandboxed.store.stats();
    let bytes = stats.bytes_per_sample.context("every turn was flushed")?;
    figure::tell(
        "store.bytes_per_sample",
        bytes,
        "bytes",
        stats.segment_samples,
    );
    Ok(())
}

/// CPU that all threads of the process have used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn bodies(workload: &Workload, round: u64) -> Vec<Vec<u8>> {
    let start = BEGUN.0 as u64 * 1_000_000;
    let interval = INTERVAL.as_nanos() as u64;
    (0..BODIES)
        .map(|at| {
            body(
                workload,
                start,
                start + (round * BODIES + at + 1) * interval,
            )
        })
        .collect()
}

/// A store of its own, and the way into it.
struct Side {
    store: Store,
    writer: Arc<Writer>,
    clock: Clock,
    _folder: TempDir,
}

impl Side {
    async fn open() -> Result<Side> {
        let folder = tempfile::tempdir()?;
        let options = StoreOptions::new(folder.path());
        let (store, _) = Store::open(options, Arc::new(MemoryCatalog::new()), BEGUN).await?;
        let clock = Clock::manual(BEGUN);
        Ok(Side {
            writer: Writer::new(store.clone(), clock.clone(), Arc::default()),
            store,
            clock,
            _folder: folder,
        })
    }
}

async fn receiver() -> Result<Arc<Installed>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../plugins/target/wasm32-wasip2/release/otlp.wasm");
    let bytes = std::fs::read(&path)
        .with_context(|| format!("{} is not built: cargo xtask plugins", path.display()))?;
    let plugin = Runtime::new(RuntimeOptions::default())?.load(bytes).await?;
    let asked = plugin.manifest().asked();
    let id = InstallationId::from_random([7; 10]);
    Ok(plugin.install(InstallOptions::new(id, asked, Map::new()))?)
}

async fn receive(receiver: &Installed, side: &Side, body: Vec<u8>) -> Result<()> {
    let request = ReceiverRequest {
        transport: Transport::Http,
        endpoint: "/v1/metrics".to_owned(),
        method: "POST".to_owned(),
        content_type: "application/x-protobuf".to_owned(),
        body,
    };
    let context = CallContext::new(side.clock.now(), "bench");
    let ingest = side.writer.of_tenant(TENANT);
    let response = receiver.receive(&context, request, ingest).await.outcome?;
    if response.status != 200 || !response.body.is_empty() {
        bail!("{}: {:?}", response.status, response.body);
    }
    Ok(())
}

async fn write(decoder: &mut Decoder, side: &Side, body: &[u8]) -> Result<()> {
    let decoded = decode_protobuf(body, decoder)?;
    let metrics = metrics(decoder.take_columns()).validate()?;
    let committed = side.writer.of_tenant(TENANT).write_metrics(metrics).await?;
    if committed.accepted != decoded.points {
        bail!("{committed:?} of {} points", decoded.points);
    }
    Ok(())
}

/// The decoder's columns as the host's; nothing is copied.
fn metrics(columns: Columns) -> Metrics {
    let (series, numbers, h) = (columns.series, columns.numbers, columns.histograms);
    Metrics {
        symbol_bytes: columns.symbol_bytes,
        symbol_ends: columns.symbol_ends,
        set_pairs: columns.set_pairs,
        set_ends: columns.set_ends,
        series: SeriesColumns {
            names: series.names,
            units: series.units,
            kinds: series.kinds,
            resources: series.resources,
            scopes: series.scopes,
            attributes: series.attributes,
        },
        numbers: NumberColumns {
            series: numbers.series,
            parts: numbers.parts,
            quantiles: numbers.quantiles,
            start_unix_nano: numbers.start_unix_nano,
            time_unix_nano: numbers.time_unix_nano,
            values: numbers.values,
            stale: numbers.stale,
        },
        histograms: HistogramColumns {
            series: h.series,
            start_unix_nano: h.start_unix_nano,
            time_unix_nano: h.time_unix_nano,
            counts: h.counts,
            sums: h.sums,
            mins: h.mins,
            maxs: h.maxs,
            scales: h.scales,
            zero_counts: h.zero_counts,
            zero_thresholds: h.zero_thresholds,
            positive_offsets: h.positive_offsets,
            positive_ends: h.positive_ends,
            negative_offsets: h.negative_offsets,
            negative_ends: h.negative_ends,
            bound_ends: h.bound_ends,
            stale: h.stale,
            bucket_counts: h.bucket_counts,
            bounds: h.bounds,
        },
    }
}
