//! Streams: the columns of one sort, in pages of at most a fixed number of samples, in chunks.
//!
//! A column is cut into runs that fill a page each; what is short shares a page with others. A page tells how its runs
//! are cut and what they are relative to, so that it decodes with nothing but its chunk's tables:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | order of the residuals |
//! | varint | runs |
//! | varint | samples of each run; 0 when they differ, then one varint for each follows |
//! | … | heads of the runs |
//! | … | the page of `pco` |

use std::io;

use super::chunk::{Encoded, StreamValue, encode};
use super::integers::Order;
use super::page::PagePointer;
use crate::codec::{Malformed, Reader, put_varint};

/// Samples of a page in any segment: a page that claims more is damaged.
pub(crate) const PAGE_SAMPLES_MAX: usize = 1024;

/// A chunk ends early where columns of another sort begin, but not before this many values.
const CHUNK_MIN_VALUES: usize = 8 * 1024;

/// How finely a segment is cut and how hard it is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Density {
    /// Samples of a page at most: a read decodes so many for each series.
    pub(crate) page_samples: usize,
    /// Of `pco`, 0 to 12.
    pub(crate) level: usize,
}

impl Density {
    /// What a flush writes: read soon and often, and written again by compaction. Level 4 costs half of level 8 and 3 %
    /// of size (measured: `store-bench`).
    pub(crate) const YOUNG: Density = Density {
        page_samples: 360,
        level: 4,
    };

    /// What compaction writes.
    pub(crate) const COMPACTED: Density = Density {
        page_samples: PAGE_SAMPLES_MAX,
        level: 8,
    };
}

/// Where a column begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Start {
    pub(crate) page: u32,
    /// Which run of that page. What follows on later pages is their first run.
    pub(crate) run: u32,
}

/// Where a stream's pages are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamDirectory {
    chunks: Vec<Chunk>,
    /// Of all chunks.
    pages: Vec<Page>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunk {
    first_page: u32,
    offset: u64,
    /// 0 when its pages are plain bytes.
    tables_len: u32,
    tables_crc: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    /// Where it ends, from the chunk's beginning on.
    end: u32,
    crc: u32,
}

/// A page, and the chunk whose tables it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageAddress {
    pub(crate) chunk: usize,
    pub(crate) tables: Option<PagePointer>,
    pub(crate) page: PagePointer,
}

impl StreamDirectory {
    pub(crate) fn pages(&self) -> u32 {
        self.pages.len() as u32
    }

    pub(crate) fn address(&self, page: u32) -> Option<PageAddress> {
        let at = page as usize;
        let entry = self.pages.get(at)?;
        let number = self
            .chunks
            .partition_point(|chunk| chunk.first_page <= page)
            .checked_sub(1)?;
        let chunk = self.chunks[number];
        let begin = match page == chunk.first_page {
            true => chunk.tables_len,
            false => self.pages[at - 1].end,
        };
        Some(PageAddress {
            chunk: number,
            tables: (chunk.tables_len > 0).then_some(PagePointer {
                offset: chunk.offset,
                len: chunk.tables_len,
                crc: chunk.tables_crc,
            }),
            page: PagePointer {
                offset: chunk.offset.checked_add(u64::from(begin))?,
                len: entry.end - begin,
                crc: entry.crc,
            },
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.chunks.len() as u64);
        let mut end = 0;
        let firsts = self.chunks.iter().map(|chunk| chunk.first_page as usize);
        let nexts = firsts.clone().skip(1).chain([self.pages.len()]);
        let ranges: Vec<_> = firsts.zip(nexts).collect();
        for (chunk, (first, next)) in self.chunks.iter().zip(&ranges) {
            put_varint(out, chunk.offset - end);
            put_varint(out, u64::from(chunk.tables_len));
            put_varint(out, (next - first) as u64);
            let mut before = chunk.tables_len;
            for page in &self.pages[*first..*next] {
                put_varint(out, u64::from(page.end - before));
                before = page.end;
            }
            end = chunk.offset + u64::from(before);
        }
        // Last and together: they cannot be compressed.
        for (chunk, (first, next)) in self.chunks.iter().zip(&ranges) {
            out.extend_from_slice(&chunk.tables_crc.to_le_bytes());
            for page in &self.pages[*first..*next] {
                out.extend_from_slice(&page.crc.to_le_bytes());
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<StreamDirectory, Malformed> {
        let out_of_range = Malformed("a chunk is out of range");
        let mut directory = StreamDirectory::default();
        let mut offset = 0u64;
        for _ in 0..reader.len(7)? {
            offset = offset.checked_add(reader.varint()?).ok_or(out_of_range)?;
            let tables_len = reader.varint_u32()?;
            directory.chunks.push(Chunk {
                first_page: directory.pages(),
                offset,
                tables_len,
                tables_crc: 0,
            });
            let mut end = tables_len;
            for _ in 0..reader.len(5)? {
                end = end.checked_add(reader.varint_u32()?).ok_or(out_of_range)?;
                directory.pages.push(Page { end, crc: 0 });
            }
            offset = offset.checked_add(u64::from(end)).ok_or(out_of_range)?;
        }
        let mut pages = directory.pages.iter_mut().zip(0u32..).peekable();
        for at in 0..directory.chunks.len() {
            directory.chunks[at].tables_crc = reader.u32()?;
            let next = directory.chunks.get(at + 1).map(|chunk| chunk.first_page);
            while let Some((page, _)) =
                pages.next_if(|(_, number)| next.is_none_or(|next| *number < next))
            {
                page.crc = reader.u32()?;
            }
        }
        Ok(directory)
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.chunks.len() * size_of::<Chunk>() + self.pages.len() * size_of::<Page>()) as u64
    }
}

/// Takes a stream's pages and tables into the file.
pub(crate) type Put<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<PagePointer>;

/// Writes a stream, column by column; those that are alike have to follow each other.
pub(crate) struct StreamWriter<T: StreamValue> {
    density: Density,
    directory: StreamDirectory,
    /// Sort of the columns in the open chunk.
    sort: u32,
    pages: Vec<OpenPage>,
    residuals: Vec<T>,
}

#[derive(Debug)]
struct OpenPage {
    order: Order,
    runs: Vec<u32>,
    heads: Vec<u8>,
    samples: usize,
    residuals: usize,
}

impl<T: StreamValue> StreamWriter<T> {
    pub(crate) fn new(density: Density) -> StreamWriter<T> {
        StreamWriter {
            density,
            directory: StreamDirectory::default(),
            sort: 0,
            pages: Vec::new(),
            residuals: Vec::new(),
        }
    }

    /// Adds a column, which is not empty.
    pub(crate) fn add(
        &mut self,
        (order, sort): (Order, u32),
        column: &[T],
        put: Put<'_>,
    ) -> io::Result<Start> {
        let is_full = self.residuals.len() >= T::CHUNK_MAX;
        let is_other = sort != self.sort && self.residuals.len() >= CHUNK_MIN_VALUES;
        if is_full || is_other {
            self.end_chunk(put)?;
        }
        self.sort = sort;
        let mut start = None;
        for run in column.chunks(self.density.page_samples) {
            if start.is_some() || !self.has_room(order, column.len()) {
                if self.residuals.len() + run.len() > T::CHUNK_MAX {
                    self.end_chunk(put)?;
                }
                self.pages.push(OpenPage {
                    order,
                    runs: Vec::new(),
                    heads: Vec::new(),
                    samples: 0,
                    residuals: 0,
                });
            }
            let number = self.directory.pages() + self.pages.len() as u32 - 1;
            let page = self
                .pages
                .last_mut()
                .expect("one was just added or has room");
            start.get_or_insert(Start {
                page: number,
                run: page.runs.len() as u32,
            });
            let before = self.residuals.len();
            T::split(order, run, &mut self.residuals, &mut page.heads);
            page.runs.push(run.len() as u32);
            page.samples += run.len();
            page.residuals += self.residuals.len() - before;
        }
        start.ok_or_else(|| io::Error::other("a column of a segment is empty"))
    }

    /// Whether the last page takes a whole column.
    fn has_room(&self, order: Order, samples: usize) -> bool {
        self.pages.last().is_some_and(|page| {
            page.order == order && page.samples + samples <= self.density.page_samples
        })
    }

    fn end_chunk(&mut self, put: Put<'_>) -> io::Result<()> {
        if self.pages.is_empty() {
            return Ok(());
        }
        let lens: Vec<usize> = self.pages.iter().map(|page| page.residuals).collect();
        let Encoded { tables, pages } = encode(&self.residuals, &lens, self.density.level);
        let tables = put(&tables.unwrap_or_default())?;
        self.directory.chunks.push(Chunk {
            first_page: self.directory.pages(),
            offset: tables.offset,
            tables_len: tables.len,
            tables_crc: tables.crc,
        });
        let mut bytes = Vec::new();
        let mut end = tables.len;
        for (page, encoded) in self.pages.drain(..).zip(pages) {
            bytes.clear();
            page.encode(&mut bytes);
            bytes.extend_from_slice(&encoded);
            let pointer = put(&bytes)?;
            end += pointer.len;
            let crc = pointer.crc;
            self.directory.pages.push(Page { end, crc });
        }
        self.residuals.clear();
        Ok(())
    }

    pub(crate) fn finish(mut self, put: Put<'_>) -> io::Result<StreamDirectory> {
        self.end_chunk(put)?;
        Ok(self.directory)
    }
}

impl OpenPage {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.order as u8);
        put_varint(out, self.runs.len() as u64);
        let first = self.runs[0];
        if self.runs.iter().all(|run| *run == first) {
            put_varint(out, u64::from(first));
        } else {
            out.push(0);
            for run in &self.runs {
                put_varint(out, u64::from(*run));
            }
        }
        out.extend_from_slice(&self.heads);
    }
}
