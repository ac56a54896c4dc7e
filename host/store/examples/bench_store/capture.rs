//! Really scraped telemetry: node-exporter's, of this machine at work.
//!
//! The scrapes are taken a quarter of a second apart and laid 15 s apart, on a clock without jitter: two hours of
//! samples in two minutes. Counters therefore grow more slowly between two samples than they do in 15 s. One capture,
//! kept compressed, serves many runs.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;

use crate::data::{BEGUN_MS, Dataset, Series};
use crate::peer;

/// Two hours of 15 s.
const SCRAPES: usize = 480;
const SCRAPE_EVERY: Duration = Duration::from_millis(250);
const INTERVAL_MS: i64 = 15_000;
/// Ends a scrape in the capture; no line of the format is like it.
const SCRAPE_END: &str = "# SCRAPE END";

/// The capture in `folder`, made when there is none or `anew`.
pub(crate) fn scraped(folder: &Path, anew: bool) -> Result<Dataset> {
    let path = folder.join("node-exporter.txt.gz");
    if anew || !path.exists() {
        capture(&path)?;
    }
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut scrapes = Parsed::default();
    for line in BufReader::new(GzDecoder::new(file)).lines() {
        scrapes.line(&line?)?;
    }
    if scrapes.scrape != SCRAPES as i64 {
        bail!(
            "{} holds {} scrapes instead of {SCRAPES}: remove it or use --capture",
            path.display(),
            scrapes.scrape
        );
    }
    let left_out = scrapes.left_out;
    Ok(Dataset {
        about: format!(
            "node-exporter, scraped every {} ms and laid {} s apart without jitter ({left_out} samples that are not \
             finite left out)",
            SCRAPE_EVERY.as_millis(),
            INTERVAL_MS / 1000
        ),
        suffix: "",
        series: scrapes.series,
    })
}

/// Scrapes while threads make load, and puts the file in its place when it is whole.
fn capture(path: &Path) -> Result<()> {
    let program = "prometheus-node-exporter";
    let port = peer::free_port()?;
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let Some(exporter) = peer::Peer::start(program, &[&listen], port, "/metrics")? else {
        bail!("{program} is not installed: {}", peer::INSTALL);
    };
    println!("==> scraping {program} {SCRAPES} times");
    let part = path.with_extension("part");
    let mut file = GzEncoder::new(File::create(&part)?, Compression::default());
    let work = tempfile::tempdir()?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| make_load(work.path(), &done));
        let scraped = scrape(port, &mut file);
        done.store(true, Relaxed);
        scraped
    })?;
    exporter.stop()?;
    file.finish()?.sync_all()?;
    std::fs::rename(&part, path)?;
    Ok(())
}

fn scrape(port: u16, into: &mut impl std::io::Write) -> Result<()> {
    let begun = Instant::now();
    for number in 0..SCRAPES {
        let due = SCRAPE_EVERY * number as u32;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        into.write_all(&peer::get(port, "/metrics")?)?;
        writeln!(into, "{SCRAPE_END}")?;
    }
    Ok(())
}

/// Uneven work on processor, memory, disk and loopback.
fn make_load(folder: &Path, done: &AtomicBool) {
    let path = folder.join("load");
    let mut round = 0usize;
    while !done.load(Relaxed) {
        round += 1;
        let bytes = vec![round as u8; (round % 13) << 16];
        if let Err(error) = std::fs::write(&path, &bytes).and_then(|()| std::fs::read(&path)) {
            println!("    no load on the disk: {error}");
            return;
        }
        std::hint::black_box(crc32c::crc32c(&bytes));
        std::thread::sleep(Duration::from_millis((round % 7) as u64 * 5));
    }
}

/// Scrapes as series.
#[derive(Default)]
struct Parsed {
    series: Vec<Series>,
    by_name: HashMap<String, usize>,
    kinds: HashMap<String, MetricKind>,
    /// The one that is being read, from 0.
    scrape: i64,
    left_out: u64,
}

impl Parsed {
    fn line(&mut self, line: &str) -> Result<()> {
        if line == SCRAPE_END {
            self.scrape += 1;
        } else if let Some(metric) = line.strip_prefix("# TYPE ") {
            let (name, kind) = metric.split_once(' ').context("a type without a name")?;
            self.kinds.insert(name.to_owned(), kind_of(kind));
        } else if !line.is_empty() && !line.starts_with('#') {
            self.sample(line)
                .with_context(|| format!("cannot read {line:?}"))?;
        }
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<()> {
        let (name, value) = line.rsplit_once(' ').context("no value")?;
        let value: f64 = value.parse()?;
        if !value.is_finite() {
            self.left_out += 1;
            return Ok(());
        }
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => self.add(name)?,
        };
        let series = &mut self.series[at];
        series.times_ms.push(BEGUN_MS + self.scrape * INTERVAL_MS);
        series.values.push(value);
        Ok(())
    }

    fn add(&mut self, name: &str) -> Result<usize> {
        let mut pairs = labels(name)?;
        let metric = pairs[0].1.clone();
        pairs.push(("job".to_owned(), "node".to_owned()));
        pairs.push(("instance".to_owned(), "localhost:9100".to_owned()));
        self.series.push(Series {
            labels: Labels::from_pairs(pairs),
            kind: *self.kinds.get(&metric).unwrap_or(&MetricKind::Gauge),
            times_ms: Vec::with_capacity(SCRAPES),
            values: Vec::with_capacity(SCRAPES),
        });
        let at = self.series.len() - 1;
        self.by_name.insert(name.to_owned(), at);
        Ok(at)
    }
}

fn kind_of(kind: &str) -> MetricKind {
    match kind {
        "counter" => MetricKind::Counter,
        _ => MetricKind::Gauge,
    }
}

/// `name{label="value",…}` as pairs, the metric's name first.
fn labels(text: &str) -> Result<Vec<(String, String)>> {
    let (name, rest) = text.split_once('{').unwrap_or((text, "}"));
    let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
    let mut rest = rest.strip_suffix('}').context("labels without an end")?;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").context("a label without a value")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        rest = loop {
            match characters.next().context("a value without an end")? {
                (at, '"') => break &after[at + 1..],
                (_, '\\') => match characters.next().context("an escape without an end")?.1 {
                    'n' => value.push('\n'),
                    escaped => value.push(escaped),
                },
                (_, character) => value.push(character),
            }
        };
        pairs.push((label.to_owned(), value));
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Ok(pairs)
}
