//! A set of samples in Shoal's own store, through its public parts only.

use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shoal_model::{TenantId, Timestamp};
use shoal_store::{
    CatalogChange, Matcher, MemoryCatalog, Samples, SegmentId, SegmentRecord, SeriesMeta,
    SeriesRef, Store, StoreOptions, Written, compact_segments,
};

use crate::cpu;
use crate::data::{BEGUN_MS, BLOCK_MS, Dataset};

const TENANT: TenantId = TenantId(2);
/// Samples of one append.
const BATCH: usize = 10_000;

/// What a set takes.
pub(crate) struct Stored {
    /// Bytes of the segments as they were flushed, everything included.
    pub(crate) flushed: u64,
    /// Bytes of the one segment made of them, everything included.
    pub(crate) compacted: u64,
    /// What those are for.
    pub(crate) bytes_by_section: BTreeMap<&'static str, u64>,
    pub(crate) spent: Spent,
}

/// CPU of the whole process while it did nothing else.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) samples: u64,
    pub(crate) flush: Duration,
    pub(crate) compact: Duration,
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Spent) {
        self.samples += other.samples;
        self.flush += other.flush;
        self.compact += other.compact;
    }
}

/// Appends, flushes every two hours of data, compacts, and reads everything back twice.
pub(crate) async fn store(dataset: &Dataset) -> Result<Stored> {
    let folder = tempfile::tempdir()?;
    let mut spent = Spent {
        samples: dataset.samples(),
        ..Spent::default()
    };
    let catalog = Arc::new(MemoryCatalog::new());
    let store = open(folder.path(), &catalog).await?;
    let sources = fill(&store, dataset, &mut spent).await?;
    check(&store, dataset).context("after the flush")?;
    store.shutdown().await?;
    drop(store);
    let written = compact(folder.path(), &catalog, &sources, &mut spent)?;
    check(&open(folder.path(), &catalog).await?, dataset).context("after compaction")?;
    Ok(Stored {
        flushed: sources.iter().map(|source| source.bytes).sum(),
        compacted: written.record.bytes,
        bytes_by_section: written.bytes_by_section,
        spent,
    })
}

async fn open(folder: &Path, catalog: &Arc<MemoryCatalog>) -> Result<Store> {
    let mut options = StoreOptions::new(folder);
    // Flushed by us alone: what is measured must not depend on when a task of the store wakes up.
    options.head_samples_max = 1 << 30;
    options.head_age_max = Duration::from_secs(365 * 24 * 3600);
    options.series_idle = options.head_age_max;
    let (store, _) = Store::open(options, catalog.clone(), Timestamp(BEGUN_MS)).await?;
    Ok(store)
}

/// Appends in the order in which samples come, each two hours into one segment.
async fn fill(store: &Store, dataset: &Dataset, spent: &mut Spent) -> Result<Vec<SegmentRecord>> {
    let series = dataset.series.iter().map(|series| {
        let meta = SeriesMeta {
            kind: series.kind,
            unit: Arc::from(""),
            owner: None,
        };
        (series.labels.clone(), meta)
    });
    let series = store.resolve_all(TENANT, series);
    let series = series.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut samples: Vec<(i64, SeriesRef, f64)> = Vec::new();
    for (series, from) in series.iter().zip(&dataset.series) {
        let points = from.times_ms.iter().zip(&from.values);
        samples.extend(points.map(|(time, value)| (*time, *series, *value)));
    }
    samples.sort_by_key(|(time, ..)| *time);
    let mut segments = Vec::new();
    for block in samples.chunk_by(|a, b| a.0 / BLOCK_MS == b.0 / BLOCK_MS) {
        append(store, block).await?;
        let begun = cpu();
        let flushed = store.flush().await?;
        spent.flush += cpu().saturating_sub(begun);
        segments.push(flushed.segment.context("a flush wrote nothing")?);
    }
    Ok(segments)
}

async fn append(store: &Store, samples: &[(i64, SeriesRef, f64)]) -> Result<()> {
    for batch in samples.chunks(BATCH) {
        let series: Vec<SeriesRef> = batch.iter().map(|(_, series, _)| *series).collect();
        let times: Vec<i64> = batch.iter().map(|(time, ..)| *time).collect();
        let values: Vec<f64> = batch.iter().map(|(.., value)| *value).collect();
        let columns = Samples {
            series: &series,
            time_unix_ms: &times,
            values: &values,
        };
        let received = Timestamp(*times.last().context("chunks are not empty")?);
        let committed = store.append(TENANT, &columns, received).await?;
        if committed.accepted != batch.len() as u64 {
            bail!("{committed:?} of {} samples", batch.len());
        }
    }
    Ok(())
}

/// Makes one segment of all and puts it in their place.
fn compact(
    folder: &Path,
    catalog: &MemoryCatalog,
    sources: &[SegmentRecord],
    spent: &mut Spent,
) -> Result<Written> {
    let segments = folder.join("segments");
    let paths: Vec<_> = sources
        .iter()
        .map(|source| segments.join(&source.file_name))
        .collect();
    let sequences = (
        sources.iter().map(|source| source.first_sequence).min(),
        sources.iter().map(|source| source.end_sequence).max(),
    );
    let (Some(first), Some(end)) = sequences else {
        bail!("there is nothing to compact");
    };
    let id = SegmentId(catalog.state().next_segment);
    let begun = cpu();
    let written = compact_segments(&segments, id, &paths, (first, end))?;
    spent.compact += cpu().saturating_sub(begun);
    catalog.apply(CatalogChange {
        add: vec![written.record.clone()],
        remove: sources.iter().map(|source| source.id).collect(),
        ..CatalogChange::default()
    });
    Ok(written)
}

/// Reads everything back: every series, every time, every bit, and nothing else.
fn check(store: &Store, dataset: &Dataset) -> Result<()> {
    let all = [Matcher::not_equal("__name__", "")];
    let selection = store.select(TENANT, &all, i64::MIN, i64::MAX)?;
    if let Some(damage) = selection.damages.first() {
        bail!("{damage:?}");
    }
    if selection.series.len() != dataset.series.len() {
        bail!(
            "{} series of {} came back",
            selection.series.len(),
            dataset.series.len()
        );
    }
    let read: HashMap<_, _> = selection
        .series
        .iter()
        .map(|series| (&series.labels, series))
        .collect();
    for series in &dataset.series {
        let labels = &series.labels;
        let found = read
            .get(labels)
            .with_context(|| format!("{labels:?} did not come back"))?;
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        if *found.times_ms != *series.times_ms || bits(&found.values) != bits(&series.values) {
            bail!("{labels:?} came back with other samples");
        }
    }
    Ok(())
}
