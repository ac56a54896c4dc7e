//! Writes one tenant's part of a segment, in batches of series: in memory are one batch, and of all others what the
//! index needs.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io;

use shoal_model::TenantId;

use super::SegmentWriter;
use crate::catalog::SegmentTenant;
use crate::codec::{put_signed, put_varint};
use crate::segment::Section;
use crate::segment::chunk::StreamValue;
use crate::segment::integers::{Order, best_order};
use crate::segment::page::PagePointer;
use crate::segment::postings::write_sets;
use crate::segment::section::compress;
use crate::segment::series::{Column, PAGE_SERIES, Place, SeriesEntry};
use crate::segment::stream::{Start, StreamDirectory, StreamWriter};
use crate::segment::values::{Body, Classified, classify};

/// A series to be written, its texts as numbers in the tenant's tables: sorted times without repetition, as many values.
#[derive(Debug)]
pub(crate) struct NumberedSeries<'a> {
    /// In the order of [`shoal_model::labels::Labels`].
    pub(crate) labels: Vec<u32>,
    /// The label that is its metric's name.
    pub(crate) metric: Option<u32>,
    pub(crate) meta: u32,
    pub(crate) times_ms: &'a [i64],
    pub(crate) values: Vec<f64>,
}

/// One tenant's part of a segment that is being written. Series come in the order of their labels.
pub(crate) struct TenantWriter<'a> {
    segment: &'a mut SegmentWriter,
    part: SegmentTenant,
    times: StreamWriter<i64>,
    integers: StreamWriter<i64>,
    floats: StreamWriter<f64>,
    vectors: Vectors,
    table: SeriesTable,
    /// By label, the series that have it.
    sets: Vec<Vec<u32>>,
    /// Kind and unit by metric name, which is the number of its label plus 1; 0 is none.
    metrics: BTreeMap<u32, u32>,
    sections: Vec<(Section, PagePointer)>,
}

/// The table of time vectors.
struct Vectors {
    /// Two hashes of each that was written: with keys that no tenant knows, so that none can make two alike.
    known: HashMap<(u64, u64), u32>,
    seeds: (u64, u64),
    encoded: Vec<u8>,
    /// The last time in `encoded`.
    before: i64,
}

/// The table of series.
struct SeriesTable {
    encoded: Vec<u8>,
    page: Vec<u8>,
    before: SeriesEntry,
    count: u32,
}

impl<'a> TenantWriter<'a> {
    pub(super) fn new(
        segment: &'a mut SegmentWriter,
        tenant: TenantId,
        labels: usize,
    ) -> TenantWriter<'a> {
        let density = segment.density;
        TenantWriter {
            part: SegmentTenant {
                tenant,
                min_time_ms: i64::MAX,
                max_time_ms: i64::MIN,
                samples: 0,
                series: 0,
            },
            times: StreamWriter::new(density),
            integers: StreamWriter::new(density),
            floats: StreamWriter::new(density),
            vectors: Vectors {
                known: HashMap::new(),
                seeds: (
                    RandomState::new().hash_one(1),
                    RandomState::new().hash_one(2),
                ),
                encoded: Vec::new(),
                before: 0,
            },
            table: SeriesTable {
                encoded: Vec::new(),
                page: Vec::new(),
                before: SeriesEntry::default(),
                count: 0,
            },
            sets: vec![Vec::new(); labels],
            metrics: BTreeMap::new(),
            sections: Vec::new(),
            segment,
        }
    }

    /// Writes the next series, each with at least one sample. Those of one call that are alike lie side by side: many
    /// at a time make the segment smaller.
    pub(crate) fn add(&mut self, mut batch: Vec<NumberedSeries<'_>>) -> io::Result<()> {
        let vectors = self.add_times(&batch)?;
        let columns = batch
            .iter_mut()
            .map(|series| classify(std::mem::take(&mut series.values)))
            .collect();
        let columns = self.add_columns(columns)?;
        for ((series, values), vector) in batch.into_iter().zip(columns).zip(vectors) {
            self.note(&series);
            let entry = SeriesEntry {
                labels: series.labels,
                meta: series.meta,
                vector,
                values,
            };
            self.add_entry(entry)?;
        }
        Ok(())
    }

    /// Counts a series and puts it into the sets of its labels.
    fn note(&mut self, series: &NumberedSeries<'_>) {
        let part = &mut self.part;
        part.samples += series.times_ms.len() as u64;
        part.series += 1;
        // Sorted: the first and the last are the extremes.
        if let (Some(first), Some(last)) = (series.times_ms.first(), series.times_ms.last()) {
            part.min_time_ms = part.min_time_ms.min(*first);
            part.max_time_ms = part.max_time_ms.max(*last);
        }
        for label in &series.labels {
            self.sets[*label as usize].push(self.table.count);
        }
        let metric = series.metric.map_or(0, |label| label + 1);
        self.metrics.insert(metric, series.meta);
    }

    /// Writes each time vector that is not yet there; returns each series' vector.
    fn add_times(&mut self, batch: &[NumberedSeries<'_>]) -> io::Result<Vec<u32>> {
        let (first_seed, second_seed) = self.vectors.seeds;
        let (distinct, vector_of) = distinct_times(batch, first_seed);
        let mut number_of = Vec::with_capacity(distinct.len());
        let mut new = Vec::new();
        for times in distinct {
            let key = (mixed(first_seed, times), mixed(second_seed, times));
            let next = self.vectors.known.len() as u32;
            let number = *self.vectors.known.entry(key).or_insert(next);
            if number == next {
                new.push(times);
            }
            number_of.push(number);
        }
        let members = new.iter().enumerate().map(|(at, times)| {
            let (order, bits) = best_order(times);
            ((order, bits), at, *times)
        });
        let pages = &mut self.segment.pages;
        let mut put = |bytes: &[u8]| pages.put(Section::Times.pages_name(), bytes);
        let starts = add_to(&mut self.times, members.collect(), new.len(), &mut put)?;
        for (times, start) in new.into_iter().zip(starts) {
            self.vectors
                .encode(times, start, self.segment.density.page_samples);
        }
        Ok(vector_of
            .into_iter()
            .map(|at| number_of[at as usize])
            .collect())
    }

    /// Writes columns, those that are alike side by side; returns where each is.
    fn add_columns(&mut self, columns: Vec<Classified>) -> io::Result<Vec<Column>> {
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
        let pages = &mut self.segment.pages;
        let mut put = |bytes: &[u8]| pages.put(Section::Integers.pages_name(), bytes);
        let integers = add_to(&mut self.integers, integers, columns.len(), &mut put)?;
        let mut put = |bytes: &[u8]| pages.put(Section::Floats.pages_name(), bytes);
        let floats = add_to(&mut self.floats, floats, columns.len(), &mut put)?;
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

    fn add_entry(&mut self, entry: SeriesEntry) -> io::Result<()> {
        let table = &mut self.table;
        entry.encode(&table.before, &mut table.page);
        table.before = entry;
        table.count += 1;
        if (table.count as usize).is_multiple_of(PAGE_SERIES) {
            self.end_page()?;
        }
        Ok(())
    }

    fn end_page(&mut self) -> io::Result<()> {
        let table = &mut self.table;
        if table.page.is_empty() {
            return Ok(());
        }
        let page = compress(&table.page);
        let pointer = self
            .segment
            .pages
            .put(Section::Series.pages_name(), &page)?;
        pointer.encode(&mut table.encoded);
        table.page.clear();
        table.before = SeriesEntry::default();
        Ok(())
    }

    /// Ends the tenant. `labels` is the `fst` from labels to their numbers, each of which has to be some series', and
    /// `metas` the table of kinds and units.
    pub(crate) fn finish(mut self, labels: &[u8], metas: &[u8]) -> io::Result<()> {
        self.finish_streams()?;
        self.end_page()?;
        let table = std::mem::take(&mut self.table.encoded);
        self.section(Section::Series, &table)?;
        self.section(Section::Labels, labels)?;
        let pages = &mut self.segment.pages;
        let mut put = |bytes: &[u8]| pages.put(Section::Postings.pages_name(), bytes);
        let table = write_sets(&self.sets, &mut put)?;
        self.section(Section::Postings, &table)?;
        self.section(Section::Metas, metas)?;
        let metrics = self.encode_metrics();
        self.section(Section::Metrics, &metrics)?;
        let header = self.encode_header();
        let header = self.segment.pages.put("tenant header", &header)?;
        let directory = &mut self.segment.directory;
        directory.extend_from_slice(&self.part.tenant.0.to_le_bytes());
        directory.extend_from_slice(&header.offset.to_le_bytes());
        directory.extend_from_slice(&header.len.to_le_bytes());
        directory.extend_from_slice(&header.crc.to_le_bytes());
        if self.part.series == 0 {
            (self.part.min_time_ms, self.part.max_time_ms) = (0, 0);
        }
        self.segment.tenants.push(self.part);
        Ok(())
    }

    fn finish_streams(&mut self) -> io::Result<()> {
        let density = self.segment.density;
        let pages = &mut self.segment.pages;
        let times = std::mem::replace(&mut self.times, StreamWriter::new(density));
        let directory = times.finish(&mut |bytes| pages.put(Section::Times.pages_name(), bytes))?;
        self.directory(Section::Times, &directory)?;
        let mut vectors = Vec::new();
        put_varint(&mut vectors, self.vectors.known.len() as u64);
        vectors.append(&mut self.vectors.encoded);
        self.section(Section::Vectors, &vectors)?;
        let pages = &mut self.segment.pages;
        let integers = std::mem::replace(&mut self.integers, StreamWriter::new(density));
        let directory =
            integers.finish(&mut |bytes| pages.put(Section::Integers.pages_name(), bytes))?;
        self.directory(Section::Integers, &directory)?;
        let pages = &mut self.segment.pages;
        let floats = std::mem::replace(&mut self.floats, StreamWriter::new(density));
        let directory =
            floats.finish(&mut |bytes| pages.put(Section::Floats.pages_name(), bytes))?;
        self.directory(Section::Floats, &directory)
    }

    fn section(&mut self, section: Section, bytes: &[u8]) -> io::Result<()> {
        let pointer = self.segment.pages.put(section.name(), &compress(bytes))?;
        self.sections.push((section, pointer));
        Ok(())
    }

    fn directory(&mut self, section: Section, directory: &StreamDirectory) -> io::Result<()> {
        let mut bytes = Vec::new();
        directory.encode(&mut bytes);
        self.section(section, &bytes)
    }

    fn encode_metrics(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.metrics.len() as u64);
        for (name, meta) in &self.metrics {
            put_varint(&mut out, u64::from(*name));
            put_varint(&mut out, u64::from(*meta));
        }
        out
    }

    fn encode_header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        put_signed(&mut header, self.part.tenant.0);
        put_varint(&mut header, self.part.series);
        put_varint(&mut header, self.part.samples);
        put_varint(&mut header, self.segment.density.page_samples as u64);
        put_varint(&mut header, self.sections.len() as u64);
        for (section, pointer) in &self.sections {
            header.push(*section as u8);
            pointer.encode(&mut header);
        }
        header
    }
}

impl Vectors {
    fn encode(&mut self, times: &[i64], start: Start, page_samples: usize) {
        put_varint(&mut self.encoded, times.len() as u64);
        put_varint(&mut self.encoded, u64::from(start.page));
        put_varint(&mut self.encoded, u64::from(start.run));
        for first in times.iter().step_by(page_samples) {
            put_signed(&mut self.encoded, first.wrapping_sub(self.before));
            self.before = *first;
        }
    }
}

/// Adds columns to a stream, which come with their sort and number; returns where each begins.
fn add_to<T: StreamValue>(
    stream: &mut StreamWriter<T>,
    mut members: Vec<((Order, u32), usize, &[T])>,
    columns: usize,
    put: &mut dyn FnMut(&[u8]) -> io::Result<PagePointer>,
) -> io::Result<Vec<Start>> {
    members.sort_by_key(|(sort, at, _)| (*sort, *at));
    let mut starts = vec![Start::default(); columns];
    for ((order, bits), at, column) in members {
        let sort = (order as u32) << 16 | bits;
        starts[at] = stream.add((order, sort), column, put)?;
    }
    Ok(starts)
}

/// Each distinct time vector once, and each series' one.
fn distinct_times<'a>(batch: &[NumberedSeries<'a>], seed: u64) -> (Vec<&'a [i64]>, Vec<u32>) {
    let mut known: HashMap<u64, Vec<u32>> = HashMap::new();
    let mut distinct: Vec<&[i64]> = Vec::new();
    let mut vector_of = Vec::with_capacity(batch.len());
    for series in batch {
        let times = series.times_ms;
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
