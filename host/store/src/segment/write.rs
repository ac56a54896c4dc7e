//! Writes segments: under another name first, so that a file with a segment's name is whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roaring::RoaringBitmap;
use shoal_model::TenantId;
use shoal_model::telemetry::MetricKind;

use super::page::PagePointer;
use super::series::{PAGE_SERIES, Place, SeriesEntry};
use super::stream::{StreamDirectory, write_stream};
use super::values::{Body, Patches, Stream, classify};
use super::{BEGIN_BYTES, KEY_SEPARATOR, MAGIC, SeriesInput, TRAILER_BYTES, VERSION};
use crate::catalog::{SegmentId, SegmentRecord, SegmentTenant};
use crate::codec::{put_signed, put_text, put_varint};
use crate::log::folder::sync_folder;

/// What ends the name of a segment that is being written.
pub(crate) const UNFINISHED: &str = ".new";

/// The name of a segment's file.
pub(crate) fn file_name(id: SegmentId) -> String {
    format!("{:016x}.seg", id.0)
}

/// A segment that is being written.
pub(crate) struct SegmentWriter {
    id: SegmentId,
    folder: PathBuf,
    pages: PageWriter,
    directory: Vec<u8>,
    tenants: Vec<SegmentTenant>,
}

struct PageWriter {
    file: BufWriter<File>,
    offset: u64,
}

impl PageWriter {
    fn put(&mut self, bytes: &[u8]) -> io::Result<PagePointer> {
        let len = u32::try_from(bytes.len())
            .map_err(|_| io::Error::other("a page of a segment is over 4 GiB"))?;
        let pointer = PagePointer {
            offset: self.offset,
            len,
            crc: crc32c::crc32c(bytes),
        };
        self.file.write_all(bytes)?;
        self.offset += u64::from(len);
        Ok(pointer)
    }
}

impl SegmentWriter {
    /// Begins a segment in a folder.
    pub(crate) fn create(folder: &Path, id: SegmentId) -> io::Result<SegmentWriter> {
        let file = File::create(folder.join(file_name(id) + UNFINISHED))?;
        let mut pages = PageWriter {
            file: BufWriter::with_capacity(1 << 20, file),
            offset: 0,
        };
        let mut begin = MAGIC.to_vec();
        begin.extend_from_slice(&VERSION.to_le_bytes());
        debug_assert_eq!(begin.len(), BEGIN_BYTES);
        pages.put(&begin)?;
        Ok(SegmentWriter {
            id,
            folder: folder.to_owned(),
            pages,
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
            streams: Default::default(),
        }
        .write(&part, series)?;
        let header = self.pages.put(&header)?;
        self.directory.extend_from_slice(&tenant.0.to_le_bytes());
        self.directory
            .extend_from_slice(&header.offset.to_le_bytes());
        self.directory.extend_from_slice(&header.len.to_le_bytes());
        self.directory.extend_from_slice(&header.crc.to_le_bytes());
        self.tenants.push(part);
        Ok(())
    }

    /// Makes the segment durable under its name.
    pub(crate) fn finish(mut self, sequences: (u64, u64)) -> io::Result<SegmentRecord> {
        let directory = self.pages.put(&self.directory)?;
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend_from_slice(&directory.offset.to_le_bytes());
        trailer.extend_from_slice(&directory.len.to_le_bytes());
        trailer.extend_from_slice(&directory.crc.to_le_bytes());
        trailer.extend_from_slice(&VERSION.to_le_bytes());
        trailer.extend_from_slice(&crc32c::crc32c(&trailer).to_le_bytes());
        trailer.extend_from_slice(MAGIC);
        debug_assert_eq!(trailer.len(), TRAILER_BYTES);
        self.pages.put(&trailer)?;
        let bytes = self.pages.offset;
        let file = self
            .pages
            .file
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
        Ok(SegmentRecord {
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
        })
    }
}

struct TenantWriter<'a> {
    pages: &'a mut PageWriter,
    streams: [StreamDirectory; 5],
}

/// A series between classifying and writing.
struct Prepared {
    vector: u32,
    body: Body,
    patches: Patches,
}

impl TenantWriter<'_> {
    /// Writes everything and returns the tenant's header.
    fn write(mut self, part: &SegmentTenant, mut series: Vec<SeriesInput>) -> io::Result<Vec<u8>> {
        let (vectors, vector_of) = self.write_times(&series)?;
        let prepared = series
            .iter_mut()
            .zip(vector_of)
            .map(|(series, vector)| {
                let classified = classify(std::mem::take(&mut series.values));
                Prepared {
                    vector,
                    body: classified.body,
                    patches: classified.patches,
                }
            })
            .collect::<Vec<_>>();
        let places = self.write_values(&prepared)?;
        let mut directory = Vec::new();
        for stream in &self.streams {
            stream.encode(&mut directory);
        }
        let streams = self.pages.put(&directory)?;
        let vectors = self.pages.put(&vectors)?;
        let symbols = Symbols::of(&series);
        let table = self.write_series(&series, prepared, &places, &symbols)?;
        let (index, postings) = self.write_postings(&series)?;
        let metrics = self.pages.put(&metrics(&series))?;
        let symbols = self.pages.put(&symbols.encode())?;

        let mut header = Vec::new();
        put_signed(&mut header, part.tenant.0);
        put_varint(&mut header, part.series);
        put_varint(&mut header, part.samples);
        put_varint(&mut header, postings);
        for page in [streams, vectors, table, index, metrics, symbols] {
            page.encode(&mut header);
        }
        Ok(header)
    }

    /// Writes each distinct time vector once; returns the table of vectors and each series' vector.
    fn write_times(&mut self, series: &[SeriesInput]) -> io::Result<(Vec<u8>, Vec<u32>)> {
        let mut known: HashMap<&[i64], u32> = HashMap::new();
        let mut values: Vec<i64> = Vec::new();
        let mut vectors = Vec::new();
        let mut vector_of = Vec::with_capacity(series.len());
        for series in series {
            let times = &series.times_ms[..];
            let next = known.len() as u32;
            let vector = *known.entry(times).or_insert(next);
            if vector == next {
                put_varint(&mut vectors, times.len() as u64);
                values.extend_from_slice(times);
            }
            vector_of.push(vector);
        }
        let mut table = Vec::new();
        put_varint(&mut table, known.len() as u64);
        table.append(&mut vectors);
        let pages = &mut *self.pages;
        self.streams[Stream::Times as usize] =
            write_stream(Stream::Times, &values, &[], &mut |page| pages.put(page))?;
        Ok((table, vector_of))
    }

    /// Writes the streams of values; returns where each series' begin.
    fn write_values(&mut self, series: &[Prepared]) -> io::Result<Vec<u64>> {
        let mut starts = vec![0; series.len()];
        for stream in [Stream::Integers0, Stream::Integers1, Stream::Integers2] {
            let mut members: Vec<(u32, usize, &[i64])> = Vec::new();
            for (at, prepared) in series.iter().enumerate() {
                if let Body::Decimals {
                    stream: of,
                    residual_bits,
                    integers,
                    ..
                } = &prepared.body
                    && *of == stream
                {
                    members.push((*residual_bits, at, integers));
                }
            }
            members.sort_by_key(|(bits, at, _)| (*bits, *at));
            self.write_members(stream, &members, &mut starts)?;
        }
        let mut members: Vec<(u32, usize, &[f64])> = Vec::new();
        for (at, prepared) in series.iter().enumerate() {
            if let Body::Floats(values) = &prepared.body {
                members.push((0, at, values));
            }
        }
        self.write_members(Stream::Floats, &members, &mut starts)?;
        Ok(starts)
    }

    fn write_members<T: super::stream::StreamValue>(
        &mut self,
        stream: Stream,
        members: &[(u32, usize, &[T])],
        starts: &mut [u64],
    ) -> io::Result<()> {
        let mut values = Vec::with_capacity(members.iter().map(|(_, _, part)| part.len()).sum());
        let mut cuts = Vec::new();
        let mut before = members.first().map_or(0, |(key, _, _)| *key);
        for (key, at, part) in members {
            if *key != before {
                cuts.push(values.len());
                before = *key;
            }
            starts[*at] = values.len() as u64;
            values.extend_from_slice(part);
        }
        let pages = &mut *self.pages;
        self.streams[stream as usize] =
            write_stream(stream, &values, &cuts, &mut |page| pages.put(page))?;
        Ok(())
    }

    fn write_series(
        &mut self,
        series: &[SeriesInput],
        prepared: Vec<Prepared>,
        starts: &[u64],
        symbols: &Symbols<'_>,
    ) -> io::Result<PagePointer> {
        let mut entries = Vec::with_capacity(series.len());
        for ((series, prepared), start) in series.iter().zip(prepared).zip(starts) {
            let start = *start;
            entries.push(SeriesEntry {
                labels: series
                    .labels
                    .iter()
                    .map(|label| (symbols.number(&label.name), symbols.number(&label.value)))
                    .collect(),
                kind: series.kind,
                unit: symbols.number(&series.unit),
                vector: prepared.vector,
                place: match prepared.body {
                    Body::Constant(bits) => Place::Constant(bits),
                    Body::Decimals {
                        exponent, stream, ..
                    } => Place::Decimals {
                        exponent,
                        stream,
                        start,
                    },
                    Body::Floats(_) => Place::Floats { start },
                },
                patches: prepared.patches,
            });
        }
        let mut table = Vec::new();
        let mut page = Vec::new();
        for entries in entries.chunks(PAGE_SERIES) {
            page.clear();
            for entry in entries {
                entry.encode(&mut page);
            }
            self.pages.put(&page)?.encode(&mut table);
        }
        self.pages.put(&table)
    }

    /// Writes a bitmap per label and their index; returns the index and where the bitmaps begin.
    fn write_postings(&mut self, series: &[SeriesInput]) -> io::Result<(PagePointer, u64)> {
        let mut postings: BTreeMap<Vec<u8>, RoaringBitmap> = BTreeMap::new();
        for (number, series) in (0u32..).zip(series) {
            for label in &series.labels {
                let mut key = label.name.as_bytes().to_vec();
                key.push(KEY_SEPARATOR);
                key.extend_from_slice(label.value.as_bytes());
                postings.entry(key).or_default().insert(number);
            }
        }
        let begin = self.pages.offset;
        let mut index = fst::MapBuilder::memory();
        let mut page = Vec::new();
        for (key, mut bitmap) in postings {
            bitmap.optimize();
            page.clear();
            page.extend_from_slice(&[0; 8]);
            bitmap.serialize_into(&mut page)?;
            let len = (page.len() - 8) as u32;
            page[0..4].copy_from_slice(&len.to_le_bytes());
            let crc = crc32c::crc32c(&page[8..]);
            page[4..8].copy_from_slice(&crc.to_le_bytes());
            index
                .insert(&key, self.pages.offset - begin)
                .map_err(io::Error::other)?;
            self.pages.put(&page)?;
        }
        let index = index.into_inner().map_err(io::Error::other)?;
        Ok((self.pages.put(&index)?, begin))
    }
}

/// Kind and unit of each metric name.
fn metrics(series: &[SeriesInput]) -> Vec<u8> {
    let mut metrics: BTreeMap<&str, (MetricKind, Arc<str>)> = BTreeMap::new();
    for series in series {
        let name = series.labels.metric_name().unwrap_or_default();
        metrics.insert(name, (series.kind, series.unit.clone()));
    }
    let mut out = Vec::new();
    put_varint(&mut out, metrics.len() as u64);
    for (name, (kind, unit)) in metrics {
        put_text(&mut out, name);
        out.push(kind as u8);
        put_text(&mut out, &unit);
    }
    out
}

/// Every text of the series, once.
struct Symbols<'a> {
    numbers: HashMap<&'a str, u32>,
    sorted: Vec<&'a str>,
}

impl<'a> Symbols<'a> {
    fn of(series: &'a [SeriesInput]) -> Symbols<'a> {
        let mut texts: BTreeSet<&str> = BTreeSet::new();
        for series in series {
            texts.insert(&series.unit);
            for label in &series.labels {
                texts.insert(&label.name);
                texts.insert(&label.value);
            }
        }
        let sorted: Vec<&str> = texts.into_iter().collect();
        Symbols {
            numbers: sorted.iter().copied().zip(0..).collect(),
            sorted,
        }
    }

    fn number(&self, text: &str) -> u32 {
        self.numbers[text]
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.sorted.len() as u64);
        for text in &self.sorted {
            put_text(&mut out, text);
        }
        out
    }
}
