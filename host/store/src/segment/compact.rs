//! Makes one segment of several: later ones win where they have the same series and time.
//!
//! Works through a tenant's series in the order of their labels, a batch at a time. In memory are one batch, the tables
//! of labels, and of each series that was written what the index needs; never the samples of a whole tenant.

mod merge;
mod symbols;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use shoal_model::TenantId;

use super::Section;
use super::page::SegmentFile;
use super::pages::StreamReader;
use super::read::{TenantIndex, TenantReader, Vector, tenants};
use super::stream::Density;
use super::write::{SegmentWriter, Written};
use crate::catalog::SegmentId;
use crate::read::ReadError;
use merge::{BatchMax, Merge};
use symbols::Symbols;

/// Compaction failed. Its sources are as they were.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A source cannot be read as a whole.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new segment cannot be begun or ended.
    #[error("cannot write {}: {error}", .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The new segment cannot be written.
    #[error("cannot write the new segment: {0}")]
    Write(#[source] io::Error),
    /// The labels of the sources do not fit together.
    #[error("cannot unite the labels of the segments: {0}; check them with `shoal store verify`")]
    Symbols(#[source] io::Error),
}

/// Writes the samples of `sources`, of all their tenants, into one new segment in `folder`. Of equal times of a series
/// the last source wins; so of its kind and unit.
///
/// Holds about a million samples in memory at a time, and the index of one tenant.
///
/// # Errors
/// See [`CompactError`]. A damaged page is an error: compaction must not make a loss permanent.
pub fn compact_segments(
    folder: &Path,
    id: SegmentId,
    sources: &[PathBuf],
    sequences: (u64, u64),
) -> Result<Written, CompactError> {
    let files = sources.iter().map(|path| SegmentFile::open(path));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let mut of_tenants: BTreeMap<TenantId, Vec<&SegmentFile>> = BTreeMap::new();
    for file in &files {
        for (tenant, _) in tenants(file)? {
            of_tenants.entry(tenant).or_default().push(file);
        }
    }
    let failed = |error| CompactError::Io {
        path: folder.to_owned(),
        error,
    };
    let mut writer = SegmentWriter::create(folder, id, Density::COMPACTED).map_err(failed)?;
    for (tenant, files) in of_tenants {
        let all = (i64::MIN, i64::MAX);
        merge_tenant(&mut writer, tenant, &files, all, BatchMax::DEFAULT)?;
    }
    writer.finish(sequences).map_err(failed)
}

/// One tenant's part of a segment that is read.
struct Source<'a> {
    reader: TenantReader<'a>,
    /// By time vector, how many of its samples may be in the range; 0 when none is.
    samples: Vec<u32>,
}

/// Writes a tenant's samples in a range, both ends included, into a segment. Writes nothing when there are none.
fn merge_tenant(
    writer: &mut SegmentWriter,
    tenant: TenantId,
    files: &[&SegmentFile],
    range: (i64, i64),
    max: BatchMax,
) -> Result<(), CompactError> {
    let indexes = files.iter().map(|file| TenantIndex::load(file, tenant));
    let indexes = indexes.collect::<Result<Vec<_>, _>>()?;
    let mut sources = Vec::with_capacity(files.len());
    for (file, index) in files.iter().zip(&indexes) {
        let reader = TenantReader::new(file, index);
        let samples = samples_in(&reader, range)?;
        sources.push(Source { reader, samples });
    }
    let used = sources.iter().map(used_labels);
    let used = used.collect::<Result<Vec<_>, _>>()?;
    let symbols = Symbols::unite(&sources, &used)?;
    if sources
        .iter()
        .all(|source| source.samples.iter().all(|samples| *samples == 0))
    {
        return Ok(());
    }
    let mut tenant = writer.tenant(tenant, symbols.numbers.len());
    Merge::new(&sources, &symbols, max)?.write(range, &mut tenant)?;
    tenant
        .finish(&symbols.index, &symbols.encoded_metas)
        .map_err(CompactError::Write)
}

/// By time vector, how many of its samples may be in the range: whole pages, but 0 only when there are none.
fn samples_in(reader: &TenantReader<'_>, range: (i64, i64)) -> Result<Vec<u32>, ReadError> {
    let index = reader.index;
    let named = (Section::Times.pages_name(), index.page_samples);
    let mut times = StreamReader::<i64>::new(reader.file, &index.times, named);
    let vectors = index.vectors.iter();
    vectors
        .map(|vector| samples_of(vector, range, &mut times))
        .collect()
}

fn samples_of(
    vector: &Vector,
    (from_ms, to_ms): (i64, i64),
    times: &mut StreamReader<'_, i64>,
) -> Result<u32, ReadError> {
    let page_samples = times.page_samples();
    let first = vector.firsts.partition_point(|first| *first < from_ms);
    let last = vector.firsts.partition_point(|first| *first <= to_ms);
    let end = (last * page_samples).min(vector.len as usize) as u32;
    let begin = (first * page_samples).min(vector.len as usize) as u32;
    // The page before may reach into the range.
    let Some(before) = first.checked_sub(1) else {
        return Ok(end.saturating_sub(begin));
    };
    let begin_before = (before * page_samples) as u32;
    let end_before = times.page_end(begin_before, vector.len);
    let mut within = 0;
    times.read(vector.start, (begin_before, end_before), |page| {
        let is_within = |time: &&i64| (from_ms..=to_ms).contains(*time);
        within = page.iter().filter(is_within).count() as u32;
    })?;
    Ok(end.saturating_sub(begin) + within)
}

/// By label, whether a series has it that has samples in the range.
fn used_labels(source: &Source<'_>) -> Result<Vec<bool>, ReadError> {
    let reader = &source.reader;
    let mut used = vec![false; reader.index.postings.labels.len()];
    let damaged = |reason| reader.file.damaged(Section::Series.name(), 0, reason);
    for page in 0..reader.index.table.len() {
        for entry in reader.entries(page)? {
            let samples = source.samples.get(entry.vector as usize);
            let samples = samples.ok_or_else(|| damaged("a time vector is out of range"))?;
            if reader.index.metas.get(entry.meta as usize).is_none() {
                return Err(damaged("its kind and unit are out of range"));
            }
            for label in &entry.labels {
                let used = used.get_mut(*label as usize);
                let used = used.ok_or_else(|| damaged("a label is out of range"))?;
                *used |= *samples > 0;
            }
        }
    }
    Ok(used)
}
