//! Reads segments: a tenant's index, its labels, and the samples of chosen series.

use std::collections::HashMap;
use std::sync::Arc;

use fst::{IntoStreamer, Streamer};
use roaring::RoaringBitmap;
use shoal_model::TenantId;
use shoal_model::labels::{Label, Labels};
use shoal_model::telemetry::MetricKind;

use super::page::{PagePointer, SegmentFile};
use super::series::{PAGE_SERIES, Place, SeriesEntry};
use super::stream::{StreamDirectory, StreamReader};
use super::values::{Stream, decimal_value};
use super::{BEGIN_BYTES, DIRECTORY_ENTRY_BYTES, KEY_SEPARATOR, MAGIC, TRAILER_BYTES, VERSION};
use crate::codec::{Malformed, Reader};
use crate::postings::LabelIndex;
use crate::read::{MetricMetadata, ReadError};

/// What is kept in memory of one tenant's part of a segment.
#[derive(Debug)]
pub(crate) struct TenantIndex {
    series: u32,
    /// Where the bitmaps of the postings begin.
    postings: u64,
    /// From label to bitmap.
    labels: fst::Map<Vec<u8>>,
    table: Vec<PagePointer>,
    table_at: u64,
    symbols: Vec<Arc<str>>,
    /// Place and length of each time vector.
    vectors: Vec<(u64, u32)>,
    streams: [StreamDirectory; 5],
    metrics: PagePointer,
    memory_bytes: u64,
}

/// A part of the header that fills one page.
struct Section<'a> {
    file: &'a SegmentFile,
    name: &'static str,
    offset: u64,
}

impl Section<'_> {
    /// Decodes the page as a whole.
    fn decode<T>(
        &self,
        bytes: &[u8],
        decode: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
    ) -> Result<T, ReadError> {
        let mut reader = Reader::new(bytes);
        let decoded = decode(&mut reader)
            .map_err(|error| self.file.damaged(self.name, self.offset, error))?;
        if !reader.is_empty() {
            return Err(self
                .file
                .damaged(self.name, self.offset, "it is longer than its content"));
        }
        Ok(decoded)
    }
}

fn decode_page<T>(
    file: &SegmentFile,
    name: &'static str,
    pointer: PagePointer,
    decode: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<T, ReadError> {
    let bytes = file.page(name, pointer)?;
    let section = Section {
        file,
        name,
        offset: pointer.offset,
    };
    section.decode(&bytes, decode)
}

/// Finds a tenant's header.
fn find_tenant(file: &SegmentFile, tenant: TenantId) -> Result<PagePointer, ReadError> {
    let begin = file.bytes("beginning", 0, BEGIN_BYTES)?;
    if begin[..8] != *MAGIC {
        return Err(file.damaged("beginning", 0, "it does not begin like a segment"));
    }
    if begin[8..] != VERSION.to_le_bytes() {
        return Err(file.damaged("beginning", 0, "its version is not known to this release"));
    }
    let trailer_at = file.len().saturating_sub(TRAILER_BYTES as u64);
    let trailer = file.bytes("trailer", trailer_at, TRAILER_BYTES)?;
    let damaged = |reason: &str| file.damaged("trailer", trailer_at, reason);
    if trailer[24..] != *MAGIC {
        return Err(damaged("it does not end like a segment"));
    }
    if crc32c::crc32c(&trailer[..20]).to_le_bytes() != trailer[20..24] {
        return Err(damaged("its checksum is wrong"));
    }
    let mut reader = Reader::new(&trailer);
    let mut parse = || -> Result<(PagePointer, u32), Malformed> {
        let directory = PagePointer {
            offset: reader.u64()?,
            len: reader.u32()?,
            crc: reader.u32()?,
        };
        Ok((directory, reader.u32()?))
    };
    let (pointer, version) = parse().map_err(|error| damaged(error.0))?;
    if version != VERSION {
        return Err(damaged("its version is not known to this release"));
    }
    let directory = file.page("directory", pointer)?;
    let (entries, _) = directory.as_chunks::<DIRECTORY_ENTRY_BYTES>();
    let wanted = tenant.0.to_le_bytes();
    let found = entries.iter().find(|entry| entry[..8] == wanted);
    let Some(entry) = found else {
        return Err(file.damaged("directory", pointer.offset, "the tenant is not in it"));
    };
    let mut reader = Reader::new(&entry[8..]);
    let mut parse = || -> Result<PagePointer, Malformed> {
        Ok(PagePointer {
            offset: reader.u64()?,
            len: reader.u32()?,
            crc: reader.u32()?,
        })
    };
    parse().map_err(|error| file.damaged("directory", pointer.offset, error))
}

impl TenantIndex {
    /// Reads and checks a tenant's index.
    pub(crate) fn load(file: &SegmentFile, tenant: TenantId) -> Result<TenantIndex, ReadError> {
        let header = find_tenant(file, tenant)?;
        let (series, postings, pages) = decode_page(file, "tenant header", header, |reader| {
            if reader.signed()? != tenant.0 {
                return Err(Malformed("it is another tenant's"));
            }
            let series = reader.varint_u32()?;
            let _samples = reader.varint()?;
            let postings = reader.varint()?;
            let mut pages = Vec::new();
            for _ in 0..6 {
                pages.push(PagePointer::decode(reader)?);
            }
            Ok((series, postings, pages))
        })?;
        let [streams, vectors, table, labels, metrics, symbols] = pages[..] else {
            return Err(file.damaged("tenant header", header.offset, "pages are missing"));
        };
        let streams_page = streams;
        let streams = decode_page(file, "stream directory", streams, |reader| {
            let mut streams: [StreamDirectory; 5] = Default::default();
            for stream in &mut streams {
                *stream = StreamDirectory::decode(reader)?;
            }
            Ok(streams)
        })?;
        let vectors = decode_page(file, "time vectors", vectors, |reader| {
            let mut start = 0u64;
            let mut vectors = Vec::new();
            for _ in 0..reader.len(1)? {
                let len = reader.varint_u32()?;
                vectors.push((start, len));
                start += u64::from(len);
            }
            Ok(vectors)
        })?;
        let table_at = table.offset;
        let table = decode_page(file, "series table", table, |reader| {
            (0..(series as usize).div_ceil(PAGE_SERIES))
                .map(|_| PagePointer::decode(reader))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let symbols_page = symbols;
        let symbols = decode_page(file, "symbols", symbols, |reader| {
            (0..reader.len(1)?)
                .map(|_| reader.shared_text())
                .collect::<Result<Vec<_>, _>>()
        })?;
        let labels_bytes = file.page("postings index", labels)?;
        let memory_bytes = u64::from(labels.len)
            + 16 * (table.len() + vectors.len()) as u64
            + u64::from(symbols_page.len)
            + 32 * symbols.len() as u64
            + streams
                .iter()
                .map(StreamDirectory::memory_bytes)
                .sum::<u64>()
            + u64::from(streams_page.len);
        Ok(TenantIndex {
            series,
            postings,
            labels: fst::Map::new(labels_bytes)
                .map_err(|error| file.damaged("postings index", labels.offset, error))?,
            table,
            table_at,
            symbols,
            vectors,
            streams,
            metrics,
            memory_bytes,
        })
    }

    /// About how much memory it takes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

/// One tenant's part of an open segment.
pub(crate) struct TenantReader<'a> {
    pub(crate) file: &'a SegmentFile,
    pub(crate) index: &'a TenantIndex,
}

/// A series of a segment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentSeries {
    pub(crate) labels: Labels,
    pub(crate) kind: MetricKind,
    pub(crate) unit: Arc<str>,
    entry: SeriesEntry,
}

/// A series' samples: times shared with other series of the same vector would save little, as they are merged next.
pub(crate) type Run = (Vec<i64>, Vec<f64>);

impl<'a> TenantReader<'a> {
    /// The series with these numbers, in their order, which is that of their labels.
    pub(crate) fn series(&self, numbers: &RoaringBitmap) -> Result<Vec<SegmentSeries>, ReadError> {
        let mut found = Vec::with_capacity(numbers.len() as usize);
        let mut numbers = numbers.iter().peekable();
        while let Some(first) = numbers.peek().copied() {
            let page_at = first as usize / PAGE_SERIES;
            let Some(pointer) = self.index.table.get(page_at) else {
                let reason = "a series is not in it";
                return Err(self
                    .file
                    .damaged("series table", self.index.table_at, reason));
            };
            let page = self.file.page("series", *pointer)?;
            let damaged = |error: Malformed| self.file.damaged("series", pointer.offset, error);
            let mut reader = Reader::new(&page);
            let begin = (page_at * PAGE_SERIES) as u32;
            for number in begin..begin + PAGE_SERIES as u32 {
                if numbers
                    .peek()
                    .is_none_or(|next| *next as usize / PAGE_SERIES != page_at)
                {
                    break;
                }
                let entry = SeriesEntry::decode(&mut reader).map_err(damaged)?;
                if numbers.next_if_eq(&number).is_some() {
                    found.push(self.resolve(entry).map_err(damaged)?);
                }
            }
        }
        Ok(found)
    }

    fn resolve(&self, entry: SeriesEntry) -> Result<SegmentSeries, Malformed> {
        let symbol = |number: u32| {
            let symbol = self.index.symbols.get(number as usize);
            symbol.cloned().ok_or(Malformed("a symbol is out of range"))
        };
        let labels = entry
            .labels
            .iter()
            .map(|(name, value)| {
                Ok(Label {
                    name: symbol(*name)?,
                    value: symbol(*value)?,
                })
            })
            .collect::<Result<_, Malformed>>()?;
        Ok(SegmentSeries {
            labels: Labels::from_labels(labels),
            kind: entry.kind,
            unit: symbol(entry.unit)?,
            entry,
        })
    }

    /// The samples of series in a range, one run per series. Fails with `TooManySamples { max: samples_max }` when
    /// they are more than `samples_left`.
    pub(crate) fn samples(
        &self,
        series: &[SegmentSeries],
        (from_ms, to_ms): (i64, i64),
        budget: &mut SampleBudget,
    ) -> Result<Vec<Run>, ReadError> {
        let mut times = self.times(series)?;
        let mut runs: Vec<Run> = Vec::with_capacity(series.len());
        let mut wanted = Vec::with_capacity(series.len());
        for (at, series) in series.iter().enumerate() {
            let vector = &times
                .get_mut(&series.entry.vector)
                .expect("the vectors of all series were read");
            let begin = vector.partition_point(|time| *time < from_ms);
            let end = vector.partition_point(|time| *time <= to_ms);
            budget.take(end.saturating_sub(begin))?;
            runs.push((vector[begin..end.max(begin)].to_vec(), Vec::new()));
            if begin < end {
                wanted.push((at, begin as u64, end as u64));
            }
        }
        let key = |at: usize| match series[at].entry.place {
            Place::Constant(_) => (Stream::Times, 0),
            Place::Decimals { stream, start, .. } => (stream, start),
            Place::Floats { start } => (Stream::Floats, start),
        };
        wanted.sort_by_key(|(at, _, _)| key(*at));
        let mut values = ValueReader::new(self);
        for (at, begin, end) in wanted {
            values.read(&series[at].entry, begin, end, &mut runs[at].1)?;
        }
        Ok(runs)
    }

    /// The time vectors of series, each decoded once.
    fn times(&self, series: &[SegmentSeries]) -> Result<HashMap<u32, Vec<i64>>, ReadError> {
        let mut wanted: Vec<u32> = series.iter().map(|series| series.entry.vector).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let directory = &self.index.streams[Stream::Times as usize];
        let mut reader = StreamReader::new(self.file, directory, "times");
        let mut found = HashMap::with_capacity(wanted.len());
        for vector in wanted {
            let Some((start, len)) = self.index.vectors.get(vector as usize) else {
                let reason = "a time vector is out of range";
                return Err(self
                    .file
                    .damaged("series table", self.index.table_at, reason));
            };
            let mut times = Vec::new();
            reader.read(*start, start + u64::from(*len), &mut times)?;
            found.insert(vector, times);
        }
        Ok(found)
    }

    /// Kind and unit of each metric name.
    pub(crate) fn metrics(&self) -> Result<Vec<(String, MetricMetadata)>, ReadError> {
        decode_page(self.file, "metrics", self.index.metrics, |reader| {
            (0..reader.len(3)?)
                .map(|_| {
                    let name = reader.text()?.to_owned();
                    let kind = MetricKind::from_number(reader.u8()?)
                        .ok_or(Malformed("the kind of a metric is unknown"))?;
                    let unit = reader.shared_text()?;
                    Ok((name, MetricMetadata { kind, unit }))
                })
                .collect()
        })
    }

    /// The names of all labels, sorted.
    pub(crate) fn label_names(&self) -> Result<Vec<String>, ReadError> {
        let mut names = Vec::new();
        let mut from = Vec::new();
        loop {
            let mut labels = self.index.labels.range().ge(&from).into_stream();
            let Some((key, _)) = labels.next() else {
                return Ok(names);
            };
            let len = key.iter().position(|byte| *byte == KEY_SEPARATOR);
            let name = &key[..len.unwrap_or(key.len())];
            // Beyond all values of this name.
            from = name.to_vec();
            from.extend_from_slice(&[KEY_SEPARATOR; 2]);
            names.push(self.key_text(name)?.to_owned());
        }
    }

    fn key_text<'k>(&self, key: &'k [u8]) -> Result<&'k str, ReadError> {
        std::str::from_utf8(key).map_err(|error| self.file.damaged("postings index", 0, error))
    }

    /// Hands on every value of a label, sorted, with the place of its bitmap.
    pub(crate) fn each_value(
        &self,
        name: &str,
        each: &mut dyn FnMut(&str, u64) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut from = name.as_bytes().to_vec();
        from.push(KEY_SEPARATOR);
        let begin = from.len();
        let mut until = from.clone();
        until.push(KEY_SEPARATOR);
        let mut labels = self.index.labels.range().ge(&from).lt(&until).into_stream();
        while let Some((key, at)) = labels.next() {
            each(self.key_text(&key[begin..])?, at)?;
        }
        Ok(())
    }

    fn bitmap(&self, at: u64) -> Result<RoaringBitmap, ReadError> {
        let offset = self.index.postings.saturating_add(at);
        let begin = self.file.bytes("postings", offset, 8)?;
        let mut reader = Reader::new(&begin);
        let damaged = |reason: &dyn ToString| {
            let reason = reason.to_string();
            self.file.damaged("postings", offset, reason)
        };
        let mut parse = || -> Result<(u32, u32), Malformed> { Ok((reader.u32()?, reader.u32()?)) };
        let (len, crc) = parse().map_err(|error| damaged(&error))?;
        if u64::from(len) > self.file.len() - offset - 8 {
            return Err(damaged(&"it reaches beyond the end of the file"));
        }
        let bytes = self.file.bytes("postings", offset + 8, len as usize)?;
        if crc32c::crc32c(&bytes) != crc {
            return Err(damaged(&"its checksum is wrong"));
        }
        RoaringBitmap::deserialize_from(&bytes[..]).map_err(|error| damaged(&error))
    }
}

/// Samples that a read may still return.
#[derive(Debug)]
pub(crate) struct SampleBudget {
    pub(crate) left: u64,
    pub(crate) max: u64,
}

impl SampleBudget {
    pub(crate) fn take(&mut self, samples: usize) -> Result<(), ReadError> {
        match self.left.checked_sub(samples as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(ReadError::TooManySamples { max: self.max }),
        }
    }
}

struct ValueReader<'a> {
    file: &'a SegmentFile,
    integers: [StreamReader<'a, i64>; 3],
    floats: StreamReader<'a, f64>,
    scratch: Vec<i64>,
}

impl<'a> ValueReader<'a> {
    fn new(tenant: &TenantReader<'a>) -> ValueReader<'a> {
        let (file, streams) = (tenant.file, &tenant.index.streams);
        let integers =
            |stream: Stream| StreamReader::new(file, &streams[stream as usize], "integer values");
        ValueReader {
            file,
            integers: [
                integers(Stream::Integers0),
                integers(Stream::Integers1),
                integers(Stream::Integers2),
            ],
            floats: StreamReader::new(file, &streams[Stream::Floats as usize], "float values"),
            scratch: Vec::new(),
        }
    }

    /// The values at the places `begin..end` of a series.
    fn read(
        &mut self,
        entry: &SeriesEntry,
        begin: u64,
        end: u64,
        out: &mut Vec<f64>,
    ) -> Result<(), ReadError> {
        match entry.place {
            Place::Constant(bits) => out.resize((end - begin) as usize, f64::from_bits(bits)),
            Place::Floats { start } => {
                self.floats
                    .read(start.saturating_add(begin), start.saturating_add(end), out)?
            }
            Place::Decimals {
                exponent,
                stream,
                start,
            } => {
                self.scratch.clear();
                let reader = &mut self.integers[stream as usize - Stream::Integers0 as usize];
                let (from, until) = (start.saturating_add(begin), start.saturating_add(end));
                reader.read(from, until, &mut self.scratch)?;
                for integer in &self.scratch {
                    let value = decimal_value(*integer, exponent).ok_or_else(|| {
                        self.file
                            .damaged("series", 0, "an exponent is out of range")
                    })?;
                    out.push(value);
                }
            }
        }
        for (at, bits) in &entry.patches {
            if (begin..end).contains(&u64::from(*at)) {
                out[(u64::from(*at) - begin) as usize] = f64::from_bits(*bits);
            }
        }
        Ok(())
    }
}

impl LabelIndex for TenantReader<'_> {
    type Error = ReadError;

    fn all(&self) -> Result<RoaringBitmap, ReadError> {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.index.series);
        Ok(all)
    }

    fn with_value(&self, name: &str, value: &str) -> Result<RoaringBitmap, ReadError> {
        let mut key = name.as_bytes().to_vec();
        key.push(KEY_SEPARATOR);
        key.extend_from_slice(value.as_bytes());
        match self.index.labels.get(&key) {
            Some(at) => self.bitmap(at),
            None => Ok(RoaringBitmap::new()),
        }
    }

    fn with_values(
        &self,
        name: &str,
        is_wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RoaringBitmap, ReadError> {
        let mut found = RoaringBitmap::new();
        self.each_value(name, &mut |value, at| {
            if is_wanted(value) {
                found |= self.bitmap(at)?;
            }
            Ok(())
        })?;
        Ok(found)
    }
}
