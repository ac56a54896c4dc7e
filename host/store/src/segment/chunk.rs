//! Chunks: numbers of many pages that share one set of `pco` tables.
//!
//! Every chunk is decoded again right after it is encoded. When a bit differs, or `pco` fails, its pages are stored
//! as plain bytes: a flush gives the log's copy away, so that what it wrote has to be right.

use pco::data_types::Number;
use pco::wrapped::{ChunkDecompressor, FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec, PagingSpec};

use super::integers::{Order, RunHead};
use crate::codec::{Malformed, Reader};

/// What a chunk holds.
pub(crate) trait StreamValue: Number + PartialEq {
    /// Values of one chunk at most: more make its tables cheaper and less fitting (measured: `store-bench`).
    const CHUNK_MAX: usize;

    fn to_bits64(self) -> u64;
    fn from_bits64(bits: u64) -> Self;
    /// What `pco` is to try.
    fn specification() -> (ModeSpec, DeltaSpec);
    /// Turns a run into what is compressed, and its head into bytes.
    fn split(order: Order, run: &[Self], residuals: &mut Vec<Self>, heads: &mut Vec<u8>);
    fn decode_head(order: Order, reader: &mut Reader<'_>) -> Result<RunHead, Malformed>;
    /// What `split` makes of a run of so many values.
    fn residuals(order: Order, values: usize) -> usize;
    /// The inverse of `split`.
    fn join(order: Order, head: RunHead, residuals: &[Self], values: &mut [Self]);
}

impl StreamValue for i64 {
    const CHUNK_MAX: usize = 64 * 1024;

    fn to_bits64(self) -> u64 {
        self as u64
    }

    fn from_bits64(bits: u64) -> i64 {
        bits as i64
    }

    /// They are differences already, and nothing is common to all of them.
    fn specification() -> (ModeSpec, DeltaSpec) {
        (ModeSpec::Classic, DeltaSpec::NoOp)
    }

    fn split(order: Order, run: &[i64], residuals: &mut Vec<i64>, heads: &mut Vec<u8>) {
        let head = order.split(run, residuals);
        order.encode_head(head, heads);
    }

    fn decode_head(order: Order, reader: &mut Reader<'_>) -> Result<RunHead, Malformed> {
        order.decode_head(reader)
    }

    fn residuals(order: Order, values: usize) -> usize {
        order.residuals(values)
    }

    fn join(order: Order, head: RunHead, residuals: &[i64], values: &mut [i64]) {
        order.join(head, residuals, values);
    }
}

/// Floats are compressed as they are.
impl StreamValue for f64 {
    const CHUNK_MAX: usize = 256 * 1024;

    fn to_bits64(self) -> u64 {
        self.to_bits()
    }

    fn from_bits64(bits: u64) -> f64 {
        f64::from_bits(bits)
    }

    fn specification() -> (ModeSpec, DeltaSpec) {
        (ModeSpec::Auto, DeltaSpec::Auto)
    }

    fn split(_: Order, run: &[f64], residuals: &mut Vec<f64>, _: &mut Vec<u8>) {
        residuals.extend_from_slice(run);
    }

    fn decode_head(_: Order, _: &mut Reader<'_>) -> Result<RunHead, Malformed> {
        Ok(RunHead::default())
    }

    fn residuals(_: Order, values: usize) -> usize {
        values
    }

    fn join(_: Order, _: RunHead, residuals: &[f64], values: &mut [f64]) {
        values.copy_from_slice(residuals);
    }
}

/// A chunk's bytes.
pub(crate) struct Encoded {
    /// Its tables; `None` when its pages are plain bytes.
    pub(crate) tables: Option<Vec<u8>>,
    /// One for each length; nothing for those of length 0.
    pub(crate) pages: Vec<Vec<u8>>,
}

/// Compresses values that lie in pages of these lengths.
pub(crate) fn encode<T: StreamValue>(values: &[T], lens: &[usize], level: usize) -> Encoded {
    compressed(values, lens, level).unwrap_or_else(|| plain(values, lens))
}

fn plain<T: StreamValue>(mut values: &[T], lens: &[usize]) -> Encoded {
    let bytes = |page: &[T]| {
        page.iter()
            .flat_map(|value| value.to_bits64().to_le_bytes())
            .collect()
    };
    let pages = lens.iter().map(|len| {
        let (page, rest) = values.split_at(*len);
        values = rest;
        bytes(page)
    });
    Encoded {
        pages: pages.collect(),
        tables: None,
    }
}

/// `None` when the chunk does not come back as it went in.
fn compressed<T: StreamValue>(values: &[T], lens: &[usize], level: usize) -> Option<Encoded> {
    let paging = lens.iter().copied().filter(|len| *len > 0).collect();
    let (mode, delta) = T::specification();
    let config = ChunkConfig::default()
        .with_compression_level(level)
        .with_mode_spec(mode)
        .with_delta_spec(delta)
        .with_paging_spec(PagingSpec::Exact(paging));
    let file = FileCompressor::default();
    let mut compressor = file.chunk_compressor(values, &config).ok()?;
    let tables = file.write_header(Vec::new()).ok()?;
    let tables = compressor.write_meta(tables).ok()?;
    let mut pages = Vec::with_capacity(lens.len());
    let mut number = 0;
    for len in lens {
        let mut page = Vec::new();
        if *len > 0 {
            page = compressor.write_page(number, page).ok()?;
            number += 1;
        }
        pages.push(page);
    }
    let mut decoder = Decoder::open(Some(&tables)).ok()?;
    let mut decoded = Vec::new();
    let mut wanted = values;
    for (page, len) in pages.iter().zip(lens) {
        decoder.decode(page, *len, &mut decoded).ok()?;
        let (these, rest) = wanted.split_at(*len);
        let is_same = |(a, b): (&T, &T)| a.to_bits64() == b.to_bits64();
        if !decoded.iter().zip(these).all(is_same) {
            return None;
        }
        wanted = rest;
    }
    Some(Encoded {
        tables: Some(tables),
        pages,
    })
}

/// Decodes the pages of one chunk.
pub(crate) struct Decoder<T: StreamValue>(Option<ChunkDecompressor<T>>);

impl<T: StreamValue> Decoder<T> {
    pub(crate) fn open(tables: Option<&[u8]>) -> Result<Decoder<T>, String> {
        let Some(tables) = tables else {
            return Ok(Decoder(None));
        };
        let (file, rest) = FileDecompressor::new(tables).map_err(|error| error.to_string())?;
        let (decoder, _) = file
            .chunk_decompressor::<T, _>(rest)
            .map_err(|error| error.to_string())?;
        Ok(Decoder(Some(decoder)))
    }

    /// Replaces `out` by a page's values, of which there are `count`.
    pub(crate) fn decode(
        &mut self,
        page: &[u8],
        count: usize,
        out: &mut Vec<T>,
    ) -> Result<(), String> {
        let Some(decoder) = &mut self.0 else {
            let (words, rest) = page.as_chunks::<8>();
            if words.len() != count || !rest.is_empty() {
                return Err(format!("{count} values in {} bytes", page.len()));
            }
            out.clear();
            let value = |word: &[u8; 8]| T::from_bits64(u64::from_le_bytes(*word));
            out.extend(words.iter().map(value));
            return Ok(());
        };
        out.clear();
        out.resize(count, T::from_bits64(0));
        if count == 0 {
            return match page.is_empty() {
                true => Ok(()),
                false => Err("it is longer than its content".to_owned()),
            };
        }
        let progress = decoder
            .page_decompressor(page, count)
            .and_then(|mut page| page.read(out))
            .map_err(|error| error.to_string())?;
        match progress.n_processed == count {
            true => Ok(()),
            false => Err(format!(
                "it has {} values instead of {count}",
                progress.n_processed
            )),
        }
    }
}
