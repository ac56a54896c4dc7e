//! Writes segments: under another name first, so that a file with a segment's name is whole.

mod tables;
mod tenant;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_model::TenantId;
use shoal_model::labels::{Labels, METRIC_NAME};
use shoal_model::telemetry::MetricKind;

use super::page::PagePointer;
use super::stream::Density;
use super::{BEGIN_BYTES, MAGIC, SeriesInput, TRAILER_BYTES, VERSION};
pub(crate) use tables::encode_metas;
use tables::{LabelTable, MetaTable};
pub(crate) use tenant::{NumberedSeries, TenantWriter};

use crate::catalog::{SegmentId, SegmentRecord, SegmentTenant};
use crate::log::folder::sync_folder;

/// What ends the name of a segment that is being written.
pub(crate) const UNFINISHED: &str = ".new";

/// The name of a segment's file.
pub(crate) fn file_name(id: SegmentId) -> String {
    format!("{:016x}.seg", id.0)
}

/// A segment that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What the catalog keeps of it.
    pub record: SegmentRecord,
    /// What its bytes are for: pages and tables by name. Together they are the file.
    pub bytes_by_section: BTreeMap<&'static str, u64>,
}

/// A segment that is being written.
pub(crate) struct SegmentWriter {
    id: SegmentId,
    folder: PathBuf,
    pages: PageWriter<BufWriter<File>>,
    density: Density,
    directory: Vec<u8>,
    tenants: Vec<SegmentTenant>,
}

/// Puts pages one after the other and counts their bytes.
struct PageWriter<W> {
    out: W,
    offset: u64,
    by_section: BTreeMap<&'static str, u64>,
}

impl<W: Write> PageWriter<W> {
    fn put(&mut self, section: &'static str, bytes: &[u8]) -> io::Result<PagePointer> {
        let len = u32::try_from(bytes.len())
            .map_err(|_| io::Error::other("a page of a segment is over 4 GiB"))?;
        let pointer = PagePointer {
            offset: self.offset,
            len,
            crc: crc32c::crc32c(bytes),
        };
        self.out.write_all(bytes)?;
        self.offset += u64::from(len);
        *self.by_section.entry(section).or_default() += u64::from(len);
        Ok(pointer)
    }
}

impl SegmentWriter {
    /// Begins a segment in a folder.
    pub(crate) fn create(
        folder: &Path,
        id: SegmentId,
        density: Density,
    ) -> io::Result<SegmentWriter> {
        let file = File::create(folder.join(file_name(id) + UNFINISHED))?;
        let mut pages = PageWriter {
            out: BufWriter::with_capacity(1 << 20, file),
            offset: 0,
            by_section: BTreeMap::new(),
        };
        let mut begin = MAGIC.to_vec();
        begin.extend_from_slice(&VERSION.to_le_bytes());
        debug_assert_eq!(begin.len(), BEGIN_BYTES);
        pages.put("beginning", &begin)?;
        Ok(SegmentWriter {
            id,
            folder: folder.to_owned(),
            pages,
            density,
            directory: Vec::new(),
            tenants: Vec::new(),
        })
    }

    /// Writes a tenant's series, in any order, each with at least one sample. Tenants come by ascending id.
    pub(crate) fn add_tenant(
        &mut self,
        tenant: TenantId,
        mut series: Vec<SeriesInput>,
    ) -> io::Result<()> {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        let values: Vec<_> = series
            .iter_mut()
            .map(|series| std::mem::take(&mut series.values))
            .collect();
        let labels = LabelTable::of(&series);
        let metas = MetaTable::of(&series);
        let numbered = series.iter().zip(values).map(|(series, values)| {
            let name = series.labels.metric_name();
            NumberedSeries {
                labels: labels.numbers(series),
                metric: name.map(|name| labels.number((METRIC_NAME, name))),
                meta: metas.number(series),
                times_ms: &series.times_ms,
                values,
            }
        });
        let mut writer = self.tenant(tenant, labels.len());
        writer.add(numbered.collect())?;
        writer.finish(&labels.encode()?, &metas.encode())
    }

    /// Begins a tenant whose series have so many distinct labels. Tenants come by ascending id.
    pub(crate) fn tenant(&mut self, tenant: TenantId, labels: usize) -> TenantWriter<'_> {
        TenantWriter::new(self, tenant, labels)
    }

    /// Makes the segment durable under its name.
    pub(crate) fn finish(mut self, sequences: (u64, u64)) -> io::Result<Written> {
        let directory = self.pages.put("directory", &self.directory)?;
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend_from_slice(&directory.offset.to_le_bytes());
        trailer.extend_from_slice(&directory.len.to_le_bytes());
        trailer.extend_from_slice(&directory.crc.to_le_bytes());
        trailer.extend_from_slice(&VERSION.to_le_bytes());
        trailer.extend_from_slice(&crc32c::crc32c(&trailer).to_le_bytes());
        trailer.extend_from_slice(MAGIC);
        debug_assert_eq!(trailer.len(), TRAILER_BYTES);
        self.pages.put("trailer", &trailer)?;
        let bytes = self.pages.offset;
        let file = self
            .pages
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let name = file_name(self.id);
        fs::rename(
            self.folder.join(format!("{name}{UNFINISHED}")),
            self.folder.join(&name),
        )?;
        sync_folder(&self.folder)?;
        let parts = || self.tenants.iter();
        let record = SegmentRecord {
            id: self.id,
            file_name: name,
            min_time_ms: parts().map(|part| part.min_time_ms).min().unwrap_or(0),
            max_time_ms: parts().map(|part| part.max_time_ms).max().unwrap_or(0),
            samples: parts().map(|part| part.samples).sum(),
            series: parts().map(|part| part.series).sum(),
            bytes,
            first_sequence: sequences.0,
            end_sequence: sequences.1,
            tenants: self.tenants,
        };
        Ok(Written {
            record,
            bytes_by_section: self.pages.by_section,
        })
    }
}

/// Writes one tenant's series, each with sorted times without repetition and as many values, into a segment in a
/// folder, as a flush does.
///
/// # Errors
/// When the disk does not take it.
pub fn write_segment(
    folder: &Path,
    id: SegmentId,
    tenant: TenantId,
    series: impl IntoIterator<Item = (Labels, Vec<i64>, Vec<f64>)>,
) -> io::Result<Written> {
    let series = series.into_iter().filter(|(_, times, _)| !times.is_empty());
    let series = series.map(|(labels, times_ms, values)| SeriesInput {
        labels,
        kind: MetricKind::Gauge,
        unit: Arc::default(),
        times_ms,
        values,
    });
    let mut writer = SegmentWriter::create(folder, id, Density::YOUNG)?;
    writer.add_tenant(tenant, series.collect())?;
    writer.finish((0, 1))
}
