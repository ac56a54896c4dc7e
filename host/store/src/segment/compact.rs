//! Makes one segment of several: later ones win where they have the same series and time.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use shoal_model::TenantId;
use shoal_model::labels::Labels;

use super::SeriesInput;
use super::page::SegmentFile;
use super::read::{SegmentSeries, TenantIndex, TenantReader, tenants};
use super::select::Run;
use super::stream::Density;
use super::write::{SegmentWriter, Written};
use crate::catalog::SegmentId;
use crate::head::columns::sort_last_wins;
use crate::postings::LabelIndex as _;
use crate::read::{ReadError, SampleBudget};

/// Compaction failed. Its sources are as they were.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A source cannot be read as a whole.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new segment cannot be written.
    #[error("cannot write {}: {error}", .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Writes the samples of `sources`, of all their tenants, into one new segment in `folder`. Of equal times of a series
/// the last source wins.
///
/// Holds one tenant's samples in memory at a time.
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
    let mut of_tenants: HashMap<TenantId, Vec<&SegmentFile>> = HashMap::new();
    for file in &files {
        for (tenant, _) in tenants(file)? {
            of_tenants.entry(tenant).or_default().push(file);
        }
    }
    let mut of_tenants: Vec<_> = of_tenants.into_iter().collect();
    of_tenants.sort_by_key(|(tenant, _)| *tenant);
    let failed = |error| CompactError::Io {
        path: folder.to_owned(),
        error,
    };
    let mut writer = SegmentWriter::create(folder, id, Density::COMPACTED).map_err(failed)?;
    for (tenant, files) in of_tenants {
        let series = merged(tenant, &files)?;
        writer.add_tenant(tenant, series).map_err(failed)?;
    }
    writer.finish(sequences).map_err(failed)
}

/// A tenant's series in several segments.
fn merged(tenant: TenantId, files: &[&SegmentFile]) -> Result<Vec<SeriesInput>, ReadError> {
    let mut merged: HashMap<Labels, SeriesInput> = HashMap::new();
    for file in files {
        let index = TenantIndex::load(file, tenant)?;
        for (series, run) in read_whole(&TenantReader::new(file, &index))? {
            match merged.entry(series.labels.clone()) {
                std::collections::hash_map::Entry::Occupied(mut entry) => {
                    let into = entry.get_mut();
                    (into.kind, into.unit) = (series.kind, series.unit);
                    into.times_ms.extend_from_slice(&run.times_ms);
                    into.values.extend_from_slice(&run.values);
                }
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(SeriesInput {
                        labels: series.labels,
                        kind: series.kind,
                        unit: series.unit,
                        times_ms: run.times_ms.to_vec(),
                        values: run.values,
                    });
                }
            }
        }
    }
    let series = merged.into_values().map(|mut series| {
        sort_last_wins(&mut series.times_ms, &mut series.values);
        series
    });
    Ok(series.collect())
}

/// Every series with all its samples; whatever is damaged is an error.
fn read_whole(reader: &TenantReader<'_>) -> Result<Vec<(SegmentSeries, Run)>, ReadError> {
    let mut first = None;
    let mut damaged = |error| {
        first.get_or_insert(error);
    };
    let series = reader.series(&reader.all()?, &mut damaged);
    let mut budget = SampleBudget {
        left: u64::MAX,
        max: u64::MAX,
    };
    let runs = reader.samples(&series, (i64::MIN, i64::MAX), &mut budget, &mut damaged)?;
    match first {
        Some(error) => Err(error),
        None => Ok(series.into_iter().zip(runs).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{input, write};
    use super::*;

    #[test]
    fn the_later_of_two_segments_wins_and_every_tenant_stays_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sources = Vec::new();
        for (at, value) in [(0, 1.0), (5, 2.0)] {
            let series = |tenant: f64| {
                let times = (at..at + 10).map(|time| (time, value * tenant));
                vec![input("a", 0, times)]
            };
            let tenants = [(TenantId(1), series(1.0)), (TenantId(2), series(10.0))];
            let record = write(folder.path(), &tenants);
            let path = folder.path().join(format!("source-{at}"));
            std::fs::rename(folder.path().join(record.file_name), &path).expect("it is there");
            sources.push(path);
        }
        let written =
            compact_segments(folder.path(), SegmentId(9), &sources, (3, 8)).expect("whole");
        assert_eq!((written.record.samples, written.record.series), (30, 2));
        let path = folder.path().join(&written.record.file_name);
        let file = SegmentFile::open(&path).expect("it is there");
        let index = TenantIndex::load(&file, TenantId(2)).expect("whole");
        let read = read_whole(&TenantReader::new(&file, &index)).expect("whole");
        let values: Vec<f64> = [vec![10.0; 5], vec![20.0; 10]].concat();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].1.values, values);
        assert_eq!(*read[0].1.times_ms, (0..15).collect::<Vec<i64>>());
    }
}
