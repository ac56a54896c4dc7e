//! What stored telemetry costs: bytes, CPU and memory, beside VictoriaMetrics and Prometheus with the same samples.
//! Run by `cargo xtask bench store`.
//!
//! | part | does |
//! |---|---|
//! | [`data`] | the samples: scraped once ([`capture`]), or made from a seed ([`generate`]) |
//! | [`shoal`] | append, flush, compaction, and everything read back bit by bit |
//! | [`victoria`], [`prometheus`] | the same samples in the others; skipped when they are not installed |
//! | [`resident`] | memory by active series, and being ready after `kill -9` |
//! | [`peer`] | programs on free ports, plain HTTP, sizes of folders |
#![expect(clippy::print_stdout, reason = "figures are what it is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "it measures real time, makes load, and waits for other programs"
)]

mod capture;
mod data;
#[path = "../../../server/examples/support/figure.rs"]
mod figure;
mod generate;
mod peer;
mod prometheus;
mod resident;
mod shoal;
mod victoria;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::time::{ClockId, clock_gettime};

use data::Dataset;

/// Figures are kept until the end: they are the last lines.
#[derive(Default)]
struct Figures(Vec<(String, f64, &'static str, u64)>);

impl Figures {
    fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str, samples: u64) {
        self.0.push((name.into(), value, unit, samples));
    }

    fn tell(&self) {
        for (name, value, unit, samples) in &self.0 {
            figure::tell(name, *value, unit, *samples);
        }
    }
}

/// What is asked for on the command line.
struct Options {
    /// Active series of the measurement of memory.
    series: u64,
    /// Scrape anew although there is a capture.
    capture: bool,
    /// Where captures are kept.
    folder: PathBuf,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options> {
        let mut options = Options {
            series: 1_000_000,
            capture: false,
            folder: PathBuf::from("target/bench-store"),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--capture" => options.capture = true,
                "--series" => {
                    let value = rest.next().context("--series needs a number")?;
                    options.series = value
                        .parse()
                        .with_context(|| format!("--series {value:?} is no number"))?;
                }
                other => bail!("{other:?} was not expected; there are --series N and --capture"),
            }
        }
        Ok(options)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((resident::HOLD, rest)) = arguments.split_first().map(|(a, b)| (a.as_str(), b)) {
        return resident::hold(rest).await;
    }
    let options = Options::parse(&arguments)?;
    std::fs::create_dir_all(&options.folder)?;
    let mut figures = Figures::default();
    let mut spent = shoal::Spent::default();
    for dataset in [
        capture::scraped(&options.folder, options.capture)?,
        generate::counters(),
        generate::mixed(),
    ] {
        spent += measure(&dataset, &mut figures).await?;
    }
    let unit = "samples/cpu_second";
    let per_second = |cpu: Duration| spent.samples as f64 / cpu.as_secs_f64();
    figures.add(
        "store.encode_samples_per_cpu_second",
        per_second(spent.flush),
        unit,
        spent.samples,
    );
    figures.add(
        "store.compact_samples_per_cpu_second",
        per_second(spent.compact),
        unit,
        spent.samples,
    );
    resident::measure(options.series, &mut figures)?;
    figures.tell();
    Ok(())
}

/// One set of samples in every store there is.
async fn measure(dataset: &Dataset, figures: &mut Figures) -> Result<shoal::Spent> {
    let (samples, suffix) = (dataset.samples(), dataset.suffix);
    println!(
        "==> {}: {} series, {samples} samples",
        dataset.about,
        dataset.series.len()
    );
    let mut add = |name: &str, value: f64, unit| {
        figures.add(format!("store.{name}{suffix}"), value, unit, samples);
    };
    let stored = shoal::store(dataset).await?;
    let by_sample = |bytes: u64| bytes as f64 / samples as f64;
    for (section, bytes) in &stored.bytes_by_section {
        println!("    {section}: {:.4} bytes/sample", by_sample(*bytes));
    }
    add("bytes_per_sample", by_sample(stored.compacted), "bytes");
    add(
        "bytes_per_sample_flushed",
        by_sample(stored.flushed),
        "bytes",
    );
    let ratio = |bytes: u64| stored.compacted as f64 / bytes as f64;
    if let Some(victoria) = victoria::store(dataset)? {
        let all = victoria.data + victoria.index;
        add(
            "victoriametrics_bytes_per_sample",
            by_sample(victoria.data),
            "bytes",
        );
        add(
            "victoriametrics_bytes_per_sample_with_index",
            by_sample(all),
            "bytes",
        );
        add(
            "victoriametrics_changed_samples",
            victoria.changed as f64,
            "samples",
        );
        add(
            "bytes_per_sample_vs_victoriametrics",
            ratio(victoria.data),
            "ratio",
        );
        add(
            "bytes_per_sample_vs_victoriametrics_with_index",
            ratio(all),
            "ratio",
        );
    }
    if let Some(bytes) = prometheus::store(dataset)? {
        add("prometheus_bytes_per_sample", by_sample(bytes), "bytes");
        add("bytes_per_sample_vs_prometheus", ratio(bytes), "ratio");
    }
    Ok(stored.spent)
}

/// CPU that all threads of this process have used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
