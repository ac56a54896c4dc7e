//! The same samples in VictoriaMetrics: imported, flushed, merged into one part, exported again.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use crate::data::Dataset;
use crate::peer;

const PROGRAM: &str = "victoria-metrics";

/// Longer than it answers with the same metrics.
const METRICS_KEPT: Duration = Duration::from_millis(1_500);

/// Bytes on its disk after it was stopped.
pub(crate) struct Sizes {
    /// Times and values.
    pub(crate) data: u64,
    /// Labels and what finds them.
    pub(crate) index: u64,
    /// Samples that came back with other bits: it keeps about 12 to 15 digits.
    pub(crate) changed: u64,
}

/// `None` when it is not installed.
pub(crate) fn store(dataset: &Dataset) -> Result<Option<Sizes>> {
    let folder = tempfile::tempdir()?;
    let port = peer::free_port()?;
    let arguments = [
        format!("-storageDataPath={}", folder.path().display()),
        format!("-httpListenAddr=127.0.0.1:{port}"),
        "-retentionPeriod=100y".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(victoria) = peer::Peer::start(PROGRAM, &arguments, port, "/health")? else {
        println!("    {PROGRAM} is not installed: {}", peer::INSTALL);
        return Ok(None);
    };
    peer::post(port, "/api/v1/import", &lines(dataset))?;
    peer::until("VictoriaMetrics to merge", || {
        merged(port, dataset.samples())
    })?;
    let exported = peer::get(
        port,
        "/api/v1/export?match%5B%5D=%7B__name__!%3D%22%22%7D&start=1",
    )?;
    let changed = changed(dataset, &exported)?;
    victoria.stop()?;
    Ok(Some(Sizes {
        data: peer::folder_bytes(&folder.path().join("data"))?,
        index: peer::folder_bytes(&folder.path().join("indexdb"))?,
        changed,
    }))
}

/// Whether all samples are in one part; asks for it when they are not. It merges after it has answered, leaves out
/// what another merge has in hand, and its metrics may be a second old: hence again and again, and all rows counted.
fn merged(port: u16, samples: u64) -> Result<bool> {
    let metrics = String::from_utf8(peer::get(port, "/metrics")?)?;
    let merging = sum(&metrics, "vm_active_force_merges") + sum(&metrics, "vm_active_merges{");
    if merging > 0.0 {
        return Ok(false);
    }
    let rows = sum(&metrics, "vm_rows{type=\"storage/") as u64;
    if rows == samples && sum(&metrics, "vm_parts{type=\"storage/") as u64 == 1 {
        return Ok(true);
    }
    peer::get(port, "/internal/force_flush")?;
    peer::get(port, "/internal/force_merge")?;
    std::thread::sleep(METRICS_KEPT);
    Ok(false)
}

/// The sum of the metrics that begin so.
fn sum(metrics: &str, prefix: &str) -> f64 {
    let values = metrics
        .lines()
        .filter(|line| line.starts_with(prefix))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.sum()
}

/// A line of JSON for every series.
fn lines(dataset: &Dataset) -> Vec<u8> {
    let mut lines = Vec::new();
    for series in &dataset.series {
        let metric: Map<String, Value> = series
            .labels
            .iter()
            .map(|label| (label.name.to_string(), json!(*label.value)))
            .collect();
        let line =
            json!({ "metric": metric, "values": series.values, "timestamps": series.times_ms });
        lines.extend(line.to_string().into_bytes());
        lines.push(b'\n');
    }
    lines
}

/// Fails when a sample is missing; returns how many have another value.
fn changed(dataset: &Dataset, exported: &[u8]) -> Result<u64> {
    let mut read = HashMap::new();
    for line in exported.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            continue;
        }
        let series: Value = serde_json::from_slice(line)?;
        let metric = series["metric"]
            .as_object()
            .context("a series has labels")?;
        let pairs = metric
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
        // A series comes in several lines when it is long.
        let points: &mut Vec<(i64, f64)> = read
            .entry(shoal_model::labels::Labels::from_pairs(pairs))
            .or_default();
        let times = series["timestamps"].as_array().context("times")?;
        for (time, value) in times.iter().zip(values(line)?) {
            points.push((time.as_i64().context("a time is a number")?, value?));
        }
    }
    let mut changed = 0;
    for series in &dataset.series {
        let mut found = read.remove(&series.labels).unwrap_or_default();
        found.sort_by_key(|(time, _)| *time);
        if !found.iter().map(|(time, _)| time).eq(&series.times_ms) {
            bail!(
                "{PROGRAM} has {} samples of {:?} instead of {}, or at other times",
                found.len(),
                series.labels,
                series.times_ms.len()
            );
        }
        let pairs = found.iter().zip(&series.values);
        changed += pairs
            .filter(|((_, found), value)| found.to_bits() != value.to_bits())
            .count() as u64;
    }
    Ok(changed)
}

/// The values of an exported line, read exactly: the JSON reader may be a bit off in a number's last place.
fn values(line: &[u8]) -> Result<impl Iterator<Item = Result<f64>>> {
    let line = std::str::from_utf8(line)?;
    let (_, rest) = line.rsplit_once("\"values\":[").context("values")?;
    let (values, _) = rest.split_once(']').context("values have an end")?;
    Ok(values.split(',').map(|value| Ok(value.parse()?)))
}
