//! Writes segments: under another name first, so that a file with a segment's name is whole.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_model::TenantId;
use shoal_model::labels::{Labels, METRIC_NAME};
use shoal_model::telemetry::MetricKind;

use super::chunk::StreamValue;
use super::integers::{Order, best_order};
use super::page::PagePointer;
use super::postings::{key, write_sets};
use super::section::compress;
use super::series::{Column, PAGE_SERIES, Place, SeriesEntry};
use super::stream::{Density, Start, StreamDirectory, StreamWriter};
use super::values::{Body, Classified, classify};
use super::{BEGIN_BYTES, MAGIC, Section, SeriesInput, TRAILER_BYTES, VERSION};
use crate::catalog::{SegmentId, SegmentRecord, SegmentTenant};
use crate::codec::{put_signed, put_text, put_varint};
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
        let times = || {
            series.iter().flat_map(|series| {
                // Sorted: the first and the last are the extremes.
                [series.times_ms.first(), series.times_ms.last()]
            })
        };
        let part = SegmentTenant {
            tenant,
            min_time_ms: times().flatten().min().copied().unwrap_or_default(),
            max_time_ms: times().flatten().max().copied().unwrap_or_default(),
            samples: series
                .iter()
                .map(|series| series.times_ms.len() as u64)
                .sum(),
            series: series.len() as u64,
        };
        let header = TenantWriter {
            pages: &mut self.pages,
            density: self.density,
            sections: Vec::new(),
        }
        .write(&part, series)?;
        let header = self.pages.put("tenant header", &header)?;
        self.directory.extend_from_slice(&tenant.0.to_le_bytes());
        self.directory
            .extend_from_slice(&header.offset.to_le_bytes());
        self.directory.extend_from_slice(&header.len.to_le_bytes());
        self.directory.extend_from_slice(&header.crc.to_le_bytes());
        self.tenants.push(part);
        Ok(())
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

struct TenantWriter<'a, W> {
    pages: &'a mut PageWriter<W>,
    density: Density,
    sections: Vec<(Section, PagePointer)>,
}

impl<W: Write> TenantWriter<'_, W> {
    /// Writes everything and returns the tenant's header.
    fn write(mut self, part: &SegmentTenant, mut series: Vec<SeriesInput>) -> io::Result<Vec<u8>> {
        let vectors = self.write_times(&series)?;
        let columns = series
            .iter_mut()
            .map(|series| classify(std::mem::take(&mut series.values)))
            .collect();
        let columns = self.write_columns(columns)?;
        let labels = LabelTable::of(&series);
        let metas = MetaTable::of(&series);
        let entries = columns.into_iter().zip(vectors).zip(&series);
        let entries = entries.map(|((values, vector), series)| SeriesEntry {
            labels: labels.numbers(series),
            meta: metas.number(series),
            vector,
            values,
        });
        self.write_series(entries)?;
        self.write_labels(&labels, &series)?;
        self.section(Section::Metas, &metas.encode())?;
        let metrics = metrics(&series, &labels, &metas);
        self.section(Section::Metrics, &metrics)?;

        let mut header = Vec::new();
        put_signed(&mut header, part.tenant.0);
        put_varint(&mut header, part.series);
        put_varint(&mut header, part.samples);
        put_varint(&mut header, self.density.page_samples as u64);
        put_varint(&mut header, self.sections.len() as u64);
        for (section, pointer) in &self.sections {
            header.push(*section as u8);
            pointer.encode(&mut header);
        }
        Ok(header)
    }

    fn section(&mut self, section: Section, bytes: &[u8]) -> io::Result<()> {
        let pointer = self.pages.put(section.name(), &compress(bytes))?;
        self.sections.push((section, pointer));
        Ok(())
    }

    fn directory(&mut self, section: Section, directory: &StreamDirectory) -> io::Result<()> {
        let mut bytes = Vec::new();
        directory.encode(&mut bytes);
        self.section(section, &bytes)
    }

    /// Writes each distinct time vector once; returns each series' vector.
    fn write_times(&mut self, series: &[SeriesInput]) -> io::Result<Vec<u32>> {
        let (distinct, vector_of) = distinct_times(series);
        let members = distinct.iter().enumerate().map(|(at, times)| {
            let (order, bits) = best_order(times);
            ((order, bits), at, *times)
        });
        let starts = self.write_stream(Section::Times, members.collect(), distinct.len())?;
        let mut table = Vec::new();
        put_varint(&mut table, distinct.len() as u64);
        let mut before = 0i64;
        for (times, start) in distinct.iter().zip(starts) {
            put_varint(&mut table, times.len() as u64);
            put_varint(&mut table, u64::from(start.page));
            put_varint(&mut table, u64::from(start.run));
            for first in times.iter().step_by(self.density.page_samples) {
                put_signed(&mut table, first.wrapping_sub(before));
                before = *first;
            }
        }
        self.section(Section::Vectors, &table)?;
        Ok(vector_of)
    }

    /// Writes columns, those that are alike side by side; returns where each is.
    fn write_columns(&mut self, columns: Vec<Classified>) -> io::Result<Vec<Column>> {
        let mut integers = Vec::new();
        let mut floats = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            match &column.body {
                Body::Constant(_) => {}
                Body::Integers(column) => {
                    integers.push(((column.order, column.residual_bits), at, &column.steps[..]));
                }
                Body::Floats(values) => floats.push(((Order::Values, 0), at, &values[..])),
            }
        }
        let integers = self.write_stream(Section::Integers, integers, columns.len())?;
        let floats = self.write_stream(Section::Floats, floats, columns.len())?;
        let columns = columns.into_iter().zip(integers.into_iter().zip(floats));
        let columns = columns.map(|(column, (integers, floats))| Column {
            place: match column.body {
                Body::Constant(bits) => Place::Constant(bits),
                Body::Integers(column) => Place::Integers {
                    scale: column.scale,
                    start: integers,
                },
                Body::Floats(_) => Place::Floats { start: floats },
            },
            patches: column.patches,
        });
        Ok(columns.collect())
    }

    /// Writes a stream of columns, which come with their sort and number, and its directory; returns where each begins.
    fn write_stream<T: StreamValue>(
        &mut self,
        section: Section,
        mut members: Vec<((Order, u32), usize, &[T])>,
        columns: usize,
    ) -> io::Result<Vec<Start>> {
        members.sort_by_key(|(sort, at, _)| (*sort, *at));
        let mut starts = vec![Start::default(); columns];
        let mut stream = StreamWriter::new(self.density);
        let pages = &mut *self.pages;
        let mut put = |bytes: &[u8]| pages.put(section.pages_name(), bytes);
        for ((order, bits), at, column) in members {
            let sort = (order as u32) << 16 | bits;
            starts[at] = stream.add((order, sort), column, &mut put)?;
        }
        let directory = stream.finish(&mut put)?;
        self.directory(section, &directory)?;
        Ok(starts)
    }

    fn write_series(&mut self, entries: impl Iterator<Item = SeriesEntry>) -> io::Result<()> {
        let mut table = Vec::new();
        let mut page = Vec::new();
        let mut before = SeriesEntry::default();
        let mut entries = entries.enumerate().peekable();
        while let Some((at, entry)) = entries.next() {
            entry.encode(&before, &mut page);
            before = entry;
            if (at + 1) % PAGE_SERIES == 0 || entries.peek().is_none() {
                let section = Section::Series.pages_name();
                self.pages
                    .put(section, &compress(&page))?
                    .encode(&mut table);
                page.clear();
                before = SeriesEntry::default();
            }
        }
        self.section(Section::Series, &table)
    }

    fn write_labels(&mut self, labels: &LabelTable<'_>, series: &[SeriesInput]) -> io::Result<()> {
        let mut index = fst::MapBuilder::memory();
        for (number, (name, value)) in labels.sorted.iter().enumerate() {
            index
                .insert(key(name, value), number as u64)
                .map_err(io::Error::other)?;
        }
        let index = index.into_inner().map_err(io::Error::other)?;
        self.section(Section::Labels, &index)?;
        let mut sets = vec![Vec::new(); labels.sorted.len()];
        for (number, series) in (0u32..).zip(series) {
            for label in labels.numbers(series) {
                sets[label as usize].push(number);
            }
        }
        let pages = &mut *self.pages;
        let mut put = |bytes: &[u8]| pages.put(Section::Postings.pages_name(), bytes);
        let table = write_sets(&sets, &mut put)?;
        self.section(Section::Postings, &table)
    }
}

/// Each distinct time vector once, and each series' one.
fn distinct_times(series: &[SeriesInput]) -> (Vec<&[i64]>, Vec<u32>) {
    let mut known: HashMap<u64, Vec<u32>> = HashMap::new();
    let seed = known.hasher().hash_one(series.len());
    let mut distinct: Vec<&[i64]> = Vec::new();
    let mut vector_of = Vec::with_capacity(series.len());
    for series in series {
        let times = &series.times_ms[..];
        let alike = known.entry(mixed(seed, times)).or_default();
        let same = alike.iter().find(|at| distinct[**at as usize] == times);
        vector_of.push(same.copied().unwrap_or_else(|| {
            let next = distinct.len() as u32;
            alike.push(next);
            distinct.push(times);
            next
        }));
    }
    (distinct, vector_of)
}

/// Tells time vectors apart, nearly always, with a seed that no tenant knows; a hash of the standard library would take
/// as long as compressing them.
fn mixed(seed: u64, times: &[i64]) -> u64 {
    let mix = |mixed: u64, time: &i64| {
        let product = u128::from(mixed ^ *time as u64) * u128::from(seed | 1);
        (product as u64) ^ ((product >> 64) as u64)
    };
    times
        .iter()
        .fold(seed.rotate_left(32) ^ times.len() as u64, mix)
}

/// Kind and unit of each metric name, which is the number of its label plus 1; 0 is none.
fn metrics(series: &[SeriesInput], labels: &LabelTable<'_>, metas: &MetaTable<'_>) -> Vec<u8> {
    let mut metrics: BTreeMap<u32, u32> = BTreeMap::new();
    for series in series {
        let name = series.labels.metric_name();
        let number = name.map_or(0, |name| labels.number((METRIC_NAME, name)) + 1);
        metrics.insert(number, metas.number(series));
    }
    let mut out = Vec::new();
    put_varint(&mut out, metrics.len() as u64);
    for (name, meta) in metrics {
        put_varint(&mut out, u64::from(name));
        put_varint(&mut out, u64::from(meta));
    }
    out
}

/// Every label of the series, once, in the order of their keys.
struct LabelTable<'a> {
    numbers: HashMap<(&'a str, &'a str), u32>,
    sorted: Vec<(&'a str, &'a str)>,
}

impl<'a> LabelTable<'a> {
    fn of(series: &'a [SeriesInput]) -> LabelTable<'a> {
        let mut numbers: HashMap<(&str, &str), u32> = HashMap::new();
        for series in series {
            for label in &series.labels {
                numbers.insert((&label.name, &label.value), 0);
            }
        }
        let mut sorted: Vec<_> = numbers.keys().copied().collect();
        // By bytes of the whole key, which is not the same: one name may begin another.
        sorted.sort_by_cached_key(|(name, value)| key(name, value));
        for (label, number) in sorted.iter().zip(0..) {
            numbers.insert(*label, number);
        }
        LabelTable { numbers, sorted }
    }

    fn number(&self, label: (&str, &str)) -> u32 {
        self.numbers[&label]
    }

    fn numbers(&self, series: &SeriesInput) -> Vec<u32> {
        let labels = series.labels.iter();
        labels
            .map(|label| self.number((&label.name, &label.value)))
            .collect()
    }
}

/// Every kind with its unit, once.
struct MetaTable<'a> {
    numbers: BTreeMap<(u8, &'a str), u32>,
}

impl<'a> MetaTable<'a> {
    fn of(series: &'a [SeriesInput]) -> MetaTable<'a> {
        let key = |series: &'a SeriesInput| (series.kind as u8, &*series.unit);
        let mut numbers: BTreeMap<_, u32> = series.iter().map(|series| (key(series), 0)).collect();
        for (number, meta) in numbers.values_mut().zip(0..) {
            *number = meta;
        }
        MetaTable { numbers }
    }

    fn number(&self, series: &SeriesInput) -> u32 {
        self.numbers[&(series.kind as u8, &*series.unit)]
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.numbers.len() as u64);
        for (kind, unit) in self.numbers.keys() {
            out.push(*kind);
            put_text(&mut out, unit);
        }
        out
    }
}
