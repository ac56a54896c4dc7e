//! Memory by active series, and how long a store takes to be ready after `kill -9`.
//!
//! The store lives in a process of its own, this program again, with `hold` as its first argument. Nothing is flushed
//! before the kill: all series and samples come from the log, the worst case.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;
use shoal_model::{TenantId, Timestamp};
use shoal_store::{
    Matcher, MemoryCatalog, Samples, SeriesMeta, SeriesRef, Store, StoreOptions, TenantLimits,
};

use crate::Figures;
use crate::data::BEGUN_MS;

/// The first argument of a process that holds a store: `hold FOLDER SERIES make|read`.
pub(crate) const HOLD: &str = "hold";
const TENANT: TenantId = TenantId(2);
const BATCH: u64 = 10_000;
/// Samples of every series.
const ROUNDS: i64 = 2;
const INTERVAL_MS: i64 = 15_000;

pub(crate) fn measure(series: u64, figures: &mut Figures) -> Result<()> {
    println!("==> {series} active series, {ROUNDS} samples each, all in the log");
    let (empty, full) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let base = Holder::start(empty.path(), 0, "make")?;
    let holder = Holder::start(full.path(), series, "make")?;
    let bytes = holder.resident()?.saturating_sub(base.resident()?);
    base.kill()?;
    holder.kill()?;
    figures.add(
        "store.resident_bytes_per_series",
        bytes as f64 / series as f64,
        "bytes",
        series,
    );
    let begun = Instant::now();
    let again = Holder::start(full.path(), series, "read")?;
    let ready = begun.elapsed();
    let cpu = again.cpu()?;
    let bytes = again.resident()?;
    again.kill()?;
    figures.add("store.ready_after_kill_s", ready.as_secs_f64(), "s", series);
    figures.add(
        "store.ready_after_kill_cpu_s",
        cpu.as_secs_f64(),
        "s",
        series,
    );
    let by_series = bytes as f64 / series as f64;
    println!("    {by_series:.0} bytes resident by series after the restart, the process included");
    Ok(())
}

/// A process that holds a store, killed when dropped.
struct Holder(Child);

impl Holder {
    /// Returns when the store in it answers.
    fn start(folder: &Path, series: u64, how: &str) -> Result<Holder> {
        let child = Command::new(std::env::current_exe()?)
            .arg(HOLD)
            .arg(folder)
            .args([&series.to_string(), how])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut holder = Holder(child);
        let output = holder.0.stdout.take().context("its output is a pipe")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("the process with the store ended before it was ready");
        }
        Ok(holder)
    }

    fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.context("/proc tells no VmRSS")?;
        Ok(kilobytes.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Of all its threads, those that have ended included.
    fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, fields) = stat.rsplit_once(") ").context("/proc tells no stat")?;
        let mut ticks = 0;
        // The 14th and 15th field, user and system; the first two are the id and the name.
        for field in fields.split(' ').skip(11).take(2) {
            ticks += field.parse::<u64>()?;
        }
        // 100 a second on every Linux that Rust runs on.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// `kill -9`.
    fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have been killed already; then there is nothing to do.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Holds a store until standard input ends.
pub(crate) async fn hold(arguments: &[String]) -> Result<()> {
    let [folder, series, how] = arguments else {
        bail!("{HOLD} needs a folder, a number of series and what to do");
    };
    let series: u64 = series.parse()?;
    let mut options = StoreOptions::new(folder);
    // A flush would take the series out of the log, and this catalog forgets.
    options.head_samples_max = 1 << 30;
    options.head_age_max = Duration::from_secs(365 * 24 * 3600);
    options.log_files_max = 256;
    let now = Timestamp(BEGUN_MS + ROUNDS * INTERVAL_MS);
    let (store, recovered) = Store::open(options, Arc::new(MemoryCatalog::new()), now).await?;
    if how == "make" {
        make(&store, series).await?;
    } else if (recovered.series, recovered.samples) != (series, series * ROUNDS as u64) {
        bail!("{recovered:?} of {series} series");
    }
    answer(&store, series)?;
    println!("ready");
    std::io::stdin().lines().for_each(drop);
    Ok(())
}

async fn make(store: &Store, series: u64) -> Result<()> {
    let limits = TenantLimits {
        active_series_max: u32::try_from(series)?.saturating_add(1),
        ..TenantLimits::default()
    };
    store.set_limits(TENANT, limits);
    let meta = SeriesMeta {
        kind: MetricKind::Counter,
        unit: Arc::from("By"),
        owner: None,
    };
    for from in (0..series).step_by(BATCH as usize) {
        let numbers = from..(from + BATCH).min(series);
        let new = numbers.clone().map(|number| (labels(number), meta.clone()));
        let resolved = store.resolve_all(TENANT, new);
        let resolved = resolved.into_iter().collect::<Result<Vec<_>, _>>()?;
        for round in 0..ROUNDS {
            append(store, &resolved, numbers.clone(), round).await?;
        }
    }
    Ok(())
}

async fn append(
    store: &Store,
    series: &[SeriesRef],
    numbers: std::ops::Range<u64>,
    round: i64,
) -> Result<()> {
    let time = BEGUN_MS + round * INTERVAL_MS;
    let values: Vec<f64> = numbers.map(|number| number as f64 + round as f64).collect();
    let samples = Samples {
        series,
        time_unix_ms: &vec![time; series.len()],
        values: &values,
    };
    let committed = store.append(TENANT, &samples, Timestamp(time)).await?;
    if committed.accepted != series.len() as u64 {
        bail!("{committed:?} of {} samples", series.len());
    }
    Ok(())
}

/// The store is ready when it finds the last series with all its samples.
fn answer(store: &Store, series: u64) -> Result<()> {
    let Some(last) = series.checked_sub(1) else {
        return Ok(());
    };
    let matchers: Vec<Matcher> = labels(last)
        .iter()
        .map(|label| Matcher::equal(&*label.name, &*label.value))
        .collect();
    let found = store.select(TENANT, &matchers, i64::MIN, i64::MAX)?;
    match found.series.first() {
        Some(found) if found.values == [last as f64, last as f64 + 1.0] => Ok(()),
        other => bail!("the last series came back as {other:?}"),
    }
}

/// As a cluster's: ten labels, few of them different from those of the series before.
fn labels(number: u64) -> Labels {
    let (pod, metric) = (number / 100, number % 100);
    Labels::from_pairs([
        ("__name__", format!("container_metric_{metric}_total")),
        ("cluster", "production-eu-1".to_owned()),
        ("namespace", format!("team-{}", pod % 50)),
        (
            "pod",
            format!(
                "checkout-{:08x}-{pod}",
                pod.wrapping_mul(2_654_435_761) as u32
            ),
        ),
        ("container", "checkout".to_owned()),
        ("node", format!("node-{}", pod % 200)),
        ("job", "kubelet".to_owned()),
        ("instance", format!("10.0.{}.{}:10250", pod % 200, pod % 7)),
        ("image", "registry.example/checkout:1.42.0".to_owned()),
        ("service", format!("checkout-{}", pod % 50)),
    ])
}
