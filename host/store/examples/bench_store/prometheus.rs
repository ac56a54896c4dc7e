//! The same samples in Prometheus' blocks of two hours, made by its own tool from OpenMetrics text.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::data::{Dataset, Series};
use crate::peer;

const PROGRAM: &str = "promtool";

/// Bytes of the blocks, their index included; `None` when it is not installed.
pub(crate) fn store(dataset: &Dataset) -> Result<Option<u64>> {
    let folder = tempfile::tempdir()?;
    let (input, blocks) = (folder.path().join("samples"), folder.path().join("blocks"));
    let mut text = String::new();
    for series in &dataset.series {
        write_series(series, &mut text)?;
    }
    text.push_str("# EOF\n");
    std::fs::write(&input, text)?;
    let made = Command::new(PROGRAM)
        .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
        .args([&input, &blocks])
        .output();
    let made = match made {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("    {PROGRAM} is not installed: {}", peer::INSTALL);
            return Ok(None);
        }
        made => made?,
    };
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        bail!("{PROGRAM} ended with {}: {}", made.status, said.trim());
    }
    let mut samples = 0;
    for block in std::fs::read_dir(&blocks)? {
        let meta = block?.path().join("meta.json");
        if meta.exists() {
            let meta: Value = serde_json::from_slice(&std::fs::read(meta)?)?;
            samples += meta["stats"]["numSamples"]
                .as_u64()
                .context("a block says how many samples it has")?;
        }
    }
    if samples != dataset.samples() {
        bail!(
            "{PROGRAM} stored {samples} samples of {}",
            dataset.samples()
        );
    }
    Ok(Some(peer::folder_bytes(&blocks)?))
}

fn write_series(series: &Series, text: &mut String) -> Result<()> {
    let mut name = series.labels.metric_name().unwrap_or_default().to_owned();
    name.push('{');
    for label in series
        .labels
        .iter()
        .filter(|label| &*label.name != "__name__")
    {
        let value = label.value.replace('\\', "\\\\").replace('"', "\\\"");
        write!(name, "{}=\"{}\",", label.name, value.replace('\n', "\\n"))?;
    }
    name.pop();
    name.push('}');
    for (time, value) in series.times_ms.iter().zip(&series.values) {
        // Half a millisecond more: the tool cuts seconds in floating point off to milliseconds.
        let (seconds, rest) = (time / 1000, time % 1000);
        writeln!(text, "{name} {value:?} {seconds}.{rest:03}5")?;
    }
    Ok(())
}
