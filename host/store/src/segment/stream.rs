//! Streams: long columns of numbers in chunks, each chunk with one set of `pco` tables, in pages that decode alone.
//!
//! Every chunk is decoded again right after it is encoded. When a bit differs, or `pco` fails, its pages are stored
//! as plain bytes: a flush gives the log's copy away, so that what it wrote has to be right.

use std::io;

use pco::data_types::Number;
use pco::wrapped::{ChunkDecompressor, FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, PagingSpec};

use super::page::{PagePointer, SegmentFile};
use super::values::Stream;
use crate::codec::{Malformed, Reader, put_varint};
use crate::read::ReadError;

/// Values of one page: reading one series decodes at least so many (about 4 µs).
pub(crate) const PAGE_VALUES: usize = 1024;
/// Values of one chunk at most: more make its tables cheaper and less fitting (measured: `store-bench`).
const CHUNK_MAX_VALUES: usize = 64 * 1024;
/// A chunk ends early where series of another sort begin, but not before this many values.
const CHUNK_MIN_VALUES: usize = 8 * 1024;
/// Level 4 of 12 costs half of level 8 and 3 % of size; compaction may spend more.
const LEVEL: usize = 4;

/// What a stream holds.
pub(crate) trait StreamValue: Number + PartialEq {
    fn to_bits64(self) -> u64;
    fn from_bits64(bits: u64) -> Self;
}

impl StreamValue for i64 {
    fn to_bits64(self) -> u64 {
        self as u64
    }
    fn from_bits64(bits: u64) -> i64 {
        bits as i64
    }
}

impl StreamValue for f64 {
    fn to_bits64(self) -> u64 {
        self.to_bits()
    }
    fn from_bits64(bits: u64) -> f64 {
        f64::from_bits(bits)
    }
}

/// Where a stream's pages are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamDirectory {
    chunks: Vec<Chunk>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    /// Place of its first value in the stream.
    start: u64,
    values: u32,
    /// Its tables; `None` when its pages are plain bytes.
    tables: Option<PagePointer>,
    pages: Vec<PagePointer>,
}

impl StreamDirectory {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.chunks.len() as u64);
        for chunk in &self.chunks {
            put_varint(out, u64::from(chunk.values));
            out.push(u8::from(chunk.tables.is_some()));
            for page in chunk.tables.iter().chain(&chunk.pages) {
                page.encode(out);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<StreamDirectory, Malformed> {
        let mut start = 0u64;
        let mut chunks = Vec::new();
        for _ in 0..reader.len(8)? {
            let values = reader.varint_u32()?;
            if values as usize > CHUNK_MAX_VALUES {
                return Err(Malformed("a chunk is too large"));
            }
            let tables = match reader.u8()? {
                0 => None,
                1 => Some(PagePointer::decode(reader)?),
                _ => return Err(Malformed("a chunk's coding is unknown")),
            };
            let pages = (0..(values as usize).div_ceil(PAGE_VALUES))
                .map(|_| PagePointer::decode(reader))
                .collect::<Result<_, _>>()?;
            chunks.push(Chunk {
                start,
                values,
                tables,
                pages,
            });
            start += u64::from(values);
        }
        Ok(StreamDirectory { chunks })
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let pages: usize = self.chunks.iter().map(|chunk| 4 + chunk.pages.len()).sum();
        16 * pages as u64
    }
}

/// Writes a stream. `cuts` are the places where series of another sort begin, ascending; `put` writes a page.
pub(crate) fn write_stream<T: StreamValue>(
    stream: Stream,
    values: &[T],
    cuts: &[usize],
    put: &mut dyn FnMut(&[u8]) -> io::Result<PagePointer>,
) -> io::Result<StreamDirectory> {
    let mut directory = StreamDirectory::default();
    let mut start = 0;
    while start < values.len() {
        let end = chunk_end(start, values.len(), cuts);
        let chunk = &values[start..end];
        let encoded = encode(stream, chunk).unwrap_or_else(|| plain(chunk));
        directory.chunks.push(Chunk {
            start: start as u64,
            values: chunk.len() as u32,
            tables: encoded.tables.map(|tables| put(&tables)).transpose()?,
            pages: encoded
                .pages
                .iter()
                .map(|page| put(page))
                .collect::<io::Result<_>>()?,
        });
        start = end;
    }
    Ok(directory)
}

fn chunk_end(start: usize, len: usize, cuts: &[usize]) -> usize {
    let latest = len.min(start + CHUNK_MAX_VALUES);
    let cut = cuts.partition_point(|cut| *cut < start + CHUNK_MIN_VALUES);
    cuts.get(cut).map_or(latest, |cut| latest.min(*cut))
}

struct Encoded {
    tables: Option<Vec<u8>>,
    pages: Vec<Vec<u8>>,
}

fn plain<T: StreamValue>(values: &[T]) -> Encoded {
    let bytes = |page: &[T]| {
        page.iter()
            .flat_map(|value| value.to_bits64().to_le_bytes())
            .collect()
    };
    Encoded {
        tables: None,
        pages: values.chunks(PAGE_VALUES).map(bytes).collect(),
    }
}

/// `None` when the chunk does not come back as it went in.
fn encode<T: StreamValue>(stream: Stream, values: &[T]) -> Option<Encoded> {
    let lens = values.chunks(PAGE_VALUES).map(<[T]>::len).collect();
    let mut config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_paging_spec(PagingSpec::Exact(lens));
    if let Some(order) = stream.delta_order() {
        config = config.with_delta_spec(match order {
            0 => DeltaSpec::NoOp,
            order => DeltaSpec::TryConsecutive(order),
        });
    }
    let file = FileCompressor::default();
    let mut compressor = file.chunk_compressor(values, &config).ok()?;
    let tables = file.write_header(Vec::new()).ok()?;
    let tables = compressor.write_meta(tables).ok()?;
    let pages = (0..values.len().div_ceil(PAGE_VALUES))
        .map(|page| compressor.write_page(page, Vec::new()).ok())
        .collect::<Option<Vec<_>>>()?;
    let mut decoder = decoder::<T>(&tables).ok()?;
    let mut decoded = Vec::new();
    for (page, wanted) in pages.iter().zip(values.chunks(PAGE_VALUES)) {
        decode_page(&mut decoder, page, wanted.len(), &mut decoded).ok()?;
        let is_same = |(a, b): (&T, &T)| a.to_bits64() == b.to_bits64();
        if !decoded.iter().zip(wanted).all(is_same) {
            return None;
        }
    }
    Some(Encoded {
        tables: Some(tables),
        pages,
    })
}

fn decoder<T: StreamValue>(tables: &[u8]) -> Result<ChunkDecompressor<T>, String> {
    let (file, rest) = FileDecompressor::new(tables).map_err(|error| error.to_string())?;
    let (decoder, _) = file
        .chunk_decompressor::<T, _>(rest)
        .map_err(|error| error.to_string())?;
    Ok(decoder)
}

fn decode_page<T: StreamValue>(
    decoder: &mut ChunkDecompressor<T>,
    page: &[u8],
    values: usize,
    out: &mut Vec<T>,
) -> Result<(), String> {
    out.clear();
    out.resize(values, T::from_bits64(0));
    let progress = decoder
        .page_decompressor(page, values)
        .and_then(|mut page| page.read(out))
        .map_err(|error| error.to_string())?;
    if progress.n_processed != values {
        return Err(format!(
            "it has {} values instead of {values}",
            progress.n_processed
        ));
    }
    Ok(())
}

/// Reads a stream at rising places, decoding each page once.
pub(crate) struct StreamReader<'a, T: StreamValue> {
    file: &'a SegmentFile,
    directory: &'a StreamDirectory,
    section: &'static str,
    decoder: Option<(usize, ChunkDecompressor<T>)>,
    /// Chunk and page that `values` holds.
    page: Option<(usize, usize)>,
    values: Vec<T>,
}

impl<'a, T: StreamValue> StreamReader<'a, T> {
    pub(crate) fn new(
        file: &'a SegmentFile,
        directory: &'a StreamDirectory,
        section: &'static str,
    ) -> StreamReader<'a, T> {
        StreamReader {
            file,
            directory,
            section,
            decoder: None,
            page: None,
            values: Vec::new(),
        }
    }

    /// Appends the values at the places `start..end`.
    pub(crate) fn read(&mut self, start: u64, end: u64, out: &mut Vec<T>) -> Result<(), ReadError> {
        let mut at = start;
        while at < end {
            let chunks = &self.directory.chunks;
            let chunk_at = chunks
                .partition_point(|chunk| chunk.start <= at)
                .wrapping_sub(1);
            let Some(chunk) = chunks.get(chunk_at) else {
                return Err(self.file.damaged(self.section, 0, "a series has no values"));
            };
            let in_chunk = (at - chunk.start) as usize;
            if in_chunk >= chunk.values as usize {
                return Err(self.file.damaged(
                    self.section,
                    0,
                    "a series reaches beyond its stream",
                ));
            }
            let page = in_chunk / PAGE_VALUES;
            self.load(chunk_at, page)?;
            let from = in_chunk % PAGE_VALUES;
            let until = (from as u64 + (end - at)).min(self.values.len() as u64) as usize;
            out.extend_from_slice(&self.values[from..until]);
            at += (until - from) as u64;
        }
        Ok(())
    }

    fn load(&mut self, chunk_at: usize, page_at: usize) -> Result<(), ReadError> {
        if self.page == Some((chunk_at, page_at)) {
            return Ok(());
        }
        self.page = None;
        let chunk = &self.directory.chunks[chunk_at];
        let pointer = chunk.pages[page_at];
        let count = PAGE_VALUES.min(chunk.values as usize - page_at * PAGE_VALUES);
        let bytes = self.file.page(self.section, pointer)?;
        let damaged = |reason: String| self.file.damaged(self.section, pointer.offset, reason);
        match chunk.tables {
            None => {
                if bytes.len() != count * 8 {
                    return Err(damaged(format!("{count} values in {} bytes", bytes.len())));
                }
                let (words, _) = bytes.as_chunks::<8>();
                self.values.clear();
                self.values.extend(
                    words
                        .iter()
                        .map(|word| T::from_bits64(u64::from_le_bytes(*word))),
                );
            }
            Some(tables) => {
                if self.decoder.as_ref().is_none_or(|(at, _)| *at != chunk_at) {
                    let bytes = self.file.page(self.section, tables)?;
                    let decoder = decoder(&bytes)
                        .map_err(|reason| self.file.damaged(self.section, tables.offset, reason))?;
                    self.decoder = Some((chunk_at, decoder));
                }
                let (_, decoder) = self.decoder.as_mut().expect("it was just made");
                decode_page(decoder, &bytes, count, &mut self.values).map_err(damaged)?;
            }
        }
        self.page = Some((chunk_at, page_at));
        Ok(())
    }
}
