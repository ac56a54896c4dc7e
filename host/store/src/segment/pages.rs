//! Reads streams: one page at a time, each decoded once for all the columns that are asked for in order.

use super::chunk::{Decoder, StreamValue};
use super::integers::{Order, RunHead};
use super::page::{PagePointer, SegmentFile};
use super::stream::{PAGE_SAMPLES_MAX, PageAddress, Start, StreamDirectory};
use crate::codec::{Malformed, Reader};
use crate::read::ReadError;

/// Pages that are this close together are read from the disk at once: a read costs about as much as so many bytes.
const GAP_MAX_BYTES: u64 = 16 << 10;
/// What one read from the disk takes into memory.
const WINDOW_MAX_BYTES: u64 = 512 << 10;

/// Reads a stream.
pub(crate) struct StreamReader<'a, T: StreamValue> {
    file: &'a SegmentFile,
    directory: &'a StreamDirectory,
    section: &'static str,
    page_samples: usize,
    /// Pages that will be asked for, ascending.
    expected: Vec<u32>,
    window: Window,
    decoder: Option<(usize, Decoder<T>)>,
    /// Which page `order`, `runs` and `residuals` are of.
    page: Option<u32>,
    order: Order,
    runs: Vec<Run>,
    residuals: Vec<T>,
    values: Vec<T>,
}

/// Bytes of the file.
#[derive(Default)]
struct Window {
    offset: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Run {
    len: u32,
    first_residual: u32,
    head: RunHead,
}

impl<'a, T: StreamValue> StreamReader<'a, T> {
    pub(crate) fn new(
        file: &'a SegmentFile,
        directory: &'a StreamDirectory,
        (section, page_samples): (&'static str, usize),
    ) -> StreamReader<'a, T> {
        StreamReader {
            file,
            directory,
            section,
            page_samples,
            expected: Vec::new(),
            window: Window::default(),
            decoder: None,
            page: None,
            order: Order::Values,
            runs: Vec::new(),
            residuals: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Announces the columns' samples that will be read, so that neighbours are read from the disk together.
    pub(crate) fn expect(&mut self, columns: impl Iterator<Item = (Start, u32, u32)>) {
        let page_samples = self.page_samples as u32;
        let pages = columns.flat_map(|(start, begin, end)| {
            let first = begin / page_samples;
            let last = end.saturating_sub(1).max(begin) / page_samples;
            start.page.saturating_add(first)..=start.page.saturating_add(last)
        });
        let known = self.directory.pages();
        self.expected = pages.take_while(|page| *page < known).collect();
        self.expected.sort_unstable();
        self.expected.dedup();
    }

    /// Samples of a page at most.
    pub(crate) fn page_samples(&self) -> usize {
        self.page_samples
    }

    /// Where the page ends that holds a column's sample `begin`, or `end`.
    pub(crate) fn page_end(&self, begin: u32, end: u32) -> u32 {
        let page_samples = self.page_samples as u32;
        end.min((begin / page_samples + 1).saturating_mul(page_samples))
    }

    /// Hands the samples `begin..end` of a column, all on one page ([`StreamReader::page_end`]), to `take`.
    pub(crate) fn read(
        &mut self,
        start: Start,
        (begin, end): (u32, u32),
        take: impl FnOnce(&[T]),
    ) -> Result<(), ReadError> {
        let on_page = begin / self.page_samples as u32;
        let first = on_page * self.page_samples as u32;
        let page = start.page.saturating_add(on_page);
        let run = if on_page == 0 { start.run } else { 0 };
        self.load(page)?;
        let (from, to) = ((begin - first) as usize, (end - first) as usize);
        let Some(run) = self.runs.get(run as usize).copied() else {
            return Err(self.damaged(page, "a series is not on it"));
        };
        let len = run.len as usize;
        if to > len {
            return Err(self.damaged(page, "a series has fewer samples on it than it should"));
        }
        let residuals = &self.residuals[run.first_residual as usize..];
        let residuals = &residuals[..T::residuals(self.order, len)];
        self.values.resize(len, T::from_bits64(0));
        T::join(self.order, run.head, residuals, &mut self.values[..len]);
        take(&self.values[from..to]);
        Ok(())
    }

    fn damaged(&self, page: u32, reason: &'static str) -> ReadError {
        let address = self.directory.address(page);
        let offset = address.map_or(0, |address| address.page.offset);
        self.file.damaged(self.section, offset, reason)
    }

    /// Decodes a page unless it is the one decoded last.
    pub(crate) fn load(&mut self, page: u32) -> Result<(), ReadError> {
        if self.page == Some(page) {
            return Ok(());
        }
        self.page = None;
        let Some(address) = self.directory.address(page) else {
            return Err(self.damaged(page, "a series is beyond its last page"));
        };
        self.open_chunk(&address)?;
        self.fill_window(page, address.page)?;
        let bytes = self.window.page(address.page);
        self.file.check(self.section, address.page, bytes)?;
        let damaged = |reason: &dyn ToString| {
            self.file
                .damaged(self.section, address.page.offset, reason.to_string())
        };
        let mut reader = Reader::new(bytes);
        let (order, residuals) = read_runs::<T>(&mut reader, self.page_samples, &mut self.runs)
            .map_err(|error| damaged(&error))?;
        self.order = order;
        let (_, decoder) = self.decoder.as_mut().expect("its chunk was opened");
        decoder
            .decode(reader.rest(), residuals, &mut self.residuals)
            .map_err(|error| damaged(&error))?;
        self.page = Some(page);
        Ok(())
    }

    fn open_chunk(&mut self, address: &PageAddress) -> Result<(), ReadError> {
        let is_open = |(chunk, _): &(usize, Decoder<T>)| *chunk == address.chunk;
        if self.decoder.as_ref().is_some_and(is_open) {
            return Ok(());
        }
        self.decoder = None;
        let tables = match address.tables {
            Some(pointer) => Some((pointer, self.file.page(self.section, pointer)?)),
            None => None,
        };
        let decoder = Decoder::open(tables.as_ref().map(|(_, bytes)| &bytes[..]));
        let decoder = decoder.map_err(|reason| {
            let offset = tables.map_or(0, |(pointer, _)| pointer.offset);
            self.file.damaged(self.section, offset, reason)
        })?;
        self.decoder = Some((address.chunk, decoder));
        Ok(())
    }

    /// Reads a page from the disk, and those expected next when they are near.
    fn fill_window(&mut self, page: u32, pointer: PagePointer) -> Result<(), ReadError> {
        if self.window.contains(pointer) {
            return Ok(());
        }
        let begin = pointer.offset;
        let mut end = begin.saturating_add(u64::from(pointer.len));
        let from = self.expected.partition_point(|expected| *expected <= page);
        for next in &self.expected[from..] {
            let Some(address) = self.directory.address(*next) else {
                break;
            };
            let next_end = address
                .page
                .offset
                .saturating_add(u64::from(address.page.len));
            let is_near = address.page.offset >= end && address.page.offset - end <= GAP_MAX_BYTES;
            if !is_near || next_end - begin > WINDOW_MAX_BYTES || next_end > self.file.len() {
                break;
            }
            end = next_end;
        }
        self.window = Window {
            offset: begin,
            bytes: self
                .file
                .bytes(self.section, begin, (end - begin) as usize)?,
        };
        Ok(())
    }
}

impl Window {
    fn contains(&self, pointer: PagePointer) -> bool {
        let end = self.offset + self.bytes.len() as u64;
        pointer.offset >= self.offset
            && pointer.offset <= end
            && u64::from(pointer.len) <= end - pointer.offset
    }

    /// The bytes of a page that it contains.
    fn page(&self, pointer: PagePointer) -> &[u8] {
        let begin = (pointer.offset - self.offset) as usize;
        &self.bytes[begin..begin + pointer.len as usize]
    }
}

/// Reads how a page is cut; returns its order and how many residuals follow.
fn read_runs<T: StreamValue>(
    reader: &mut Reader<'_>,
    page_samples: usize,
    runs: &mut Vec<Run>,
) -> Result<(Order, usize), Malformed> {
    let too_many = Malformed("it has more samples than a page may have");
    let order = Order::from_number(reader.u8()?).ok_or(Malformed("its order is unknown"))?;
    let count = reader.varint_u32()? as usize;
    if count > page_samples.min(PAGE_SAMPLES_MAX) {
        return Err(too_many);
    }
    let common = reader.varint_u32()?;
    runs.clear();
    let (mut samples, mut residuals) = (0, 0);
    for _ in 0..count {
        let len = match common {
            0 => reader.varint_u32()?,
            common => common,
        };
        samples += len as usize;
        if samples > page_samples || len == 0 {
            return Err(too_many);
        }
        runs.push(Run {
            len,
            first_residual: residuals as u32,
            head: RunHead::default(),
        });
        residuals += T::residuals(order, len as usize);
    }
    for run in runs {
        run.head = T::decode_head(order, reader)?;
    }
    Ok((order, residuals))
}
