//! Checks segments byte by byte and names what is damaged.

use std::path::Path;

use shoal_model::TenantId;

use super::page::SegmentFile;
use super::pages::StreamReader;
use super::read::{TenantIndex, TenantReader, tenants};
use super::{Section, chunk::StreamValue, stream::StreamDirectory};
use crate::postings::LabelIndex as _;
use crate::read::{Damage, ReadError, SampleBudget};

/// Series whose samples are in memory at a time.
const BATCH_SERIES: usize = 1024;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Files that were read.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Samples that can be read.
    pub samples: u64,
    /// The log was left out, because a process writes it.
    pub is_log_in_use: bool,
    /// What is damaged.
    pub damages: Vec<Damage>,
}

impl Checked {
    pub(crate) fn damaged(&mut self, error: ReadError) {
        // There is no limit here that could end the check.
        if let Ok(damage) = error.into_damage()
            && !self.damages.contains(&damage)
        {
            self.damages.push(damage);
        }
    }
}

/// Reads all of a segment and adds what it finds.
pub(crate) fn check_segment(path: &Path, checked: &mut Checked) {
    checked.files += 1;
    match SegmentFile::open(path) {
        Ok(file) => check_file(&file, checked),
        Err(error) => checked.damaged(error),
    }
}

/// As [`check_segment`], of an open file.
pub(crate) fn check_file(file: &SegmentFile, checked: &mut Checked) {
    checked.bytes += file.len();
    match tenants(file) {
        Ok(tenants) => {
            for (tenant, _) in tenants {
                if let Err(error) = check_tenant(file, tenant, checked) {
                    checked.damaged(error);
                }
            }
        }
        Err(error) => checked.damaged(error),
    }
}

fn check_tenant(
    file: &SegmentFile,
    tenant: TenantId,
    checked: &mut Checked,
) -> Result<(), ReadError> {
    let index = TenantIndex::load(file, tenant)?;
    let reader = TenantReader::new(file, &index);
    for (directory, section) in [
        (&index.times, Section::Times),
        (&index.integers, Section::Integers),
    ] {
        check_stream::<i64>(file, &index, (directory, section), checked);
    }
    let floats = (&index.floats, Section::Floats);
    check_stream::<f64>(file, &index, floats, checked);
    if let Err(error) = reader.check_sets() {
        checked.damaged(error);
    }
    if let Err(error) = reader.metrics() {
        checked.damaged(error);
    }
    let series = reader.series(&reader.all()?, &mut |error| checked.damaged(error));
    for batch in series.chunks(BATCH_SERIES) {
        let mut budget = SampleBudget {
            left: u64::MAX,
            max: u64::MAX,
        };
        let range = (i64::MIN, i64::MAX);
        let runs = reader.samples(batch, range, &mut budget, &mut |error| {
            checked.damaged(error);
        })?;
        checked.samples += runs.iter().map(|run| run.values.len() as u64).sum::<u64>();
    }
    Ok(())
}

fn check_stream<T: StreamValue>(
    file: &SegmentFile,
    index: &TenantIndex,
    (directory, section): (&StreamDirectory, Section),
    checked: &mut Checked,
) {
    let named = (section.pages_name(), index.page_samples);
    let mut reader = StreamReader::<T>::new(file, directory, named);
    for page in 0..directory.pages() {
        if let Err(error) = reader.load(page) {
            checked.damaged(error);
        }
    }
}
