//! Which series have which label, on disk: an `fst` from label to number, and by number a set of series.
//!
//! A key of the `fst` is name, [`KEY_SEPARATOR`], value; its number is its place among all keys, so that the `fst` is
//! the table of symbols too. Sets lie one after the other in blocks, each as what is smallest: a range, a list, or a
//! `roaring` bitmap.

use std::cell::RefCell;
use std::io;

use fst::{IntoStreamer, Streamer};
use roaring::RoaringBitmap;

use super::page::{PagePointer, SegmentFile};
use super::stream::Put;
use crate::codec::{Malformed, Reader, put_varint};
use crate::read::ReadError;

/// Between name and value: in no UTF-8 text.
pub(crate) const KEY_SEPARATOR: u8 = 0xff;

/// A block ends after so many bytes; a look-up reads one.
const BLOCK_BYTES: usize = 4 << 10;

const RANGE: u8 = 0;
const LIST: u8 = 1;
const ROARING: u8 = 2;

/// The `fst`'s key of a label.
pub(crate) fn key(name: &str, value: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 1 + value.len());
    key.extend_from_slice(name.as_bytes());
    key.push(KEY_SEPARATOR);
    key.extend_from_slice(value.as_bytes());
    key
}

/// Name and value of a key.
pub(crate) fn split_key(key: &[u8]) -> Result<(&str, &str), Malformed> {
    let malformed = Malformed("a label is not text");
    let at = key.iter().position(|byte| *byte == KEY_SEPARATOR);
    let (name, value) = key.split_at(at.ok_or(malformed)?);
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| malformed);
    Ok((text(name)?, text(&value[1..])?))
}

/// Writes the sets in order; returns the table of blocks.
pub(crate) fn write_sets(sets: &[Vec<u32>], put: Put<'_>) -> io::Result<Vec<u8>> {
    let mut table = Vec::new();
    let mut block = Vec::new();
    let mut first = 0;
    for (number, set) in sets.iter().enumerate() {
        encode_set(set, &mut block)?;
        if block.len() >= BLOCK_BYTES || number + 1 == sets.len() {
            put_varint(&mut table, (number + 1 - first) as u64);
            put(&block)?.encode(&mut table);
            block.clear();
            first = number + 1;
        }
    }
    Ok(table)
}

/// `set` ascends and is not empty.
fn encode_set(set: &[u32], out: &mut Vec<u8>) -> io::Result<()> {
    let (first, last) = (set[0], set[set.len() - 1]);
    if (last - first) as usize == set.len() - 1 {
        out.push(RANGE);
        put_varint(out, u64::from(first));
        put_varint(out, set.len() as u64);
        return Ok(());
    }
    let mut list = Vec::new();
    let mut before = 0;
    for number in set {
        put_varint(&mut list, u64::from(number - before));
        before = *number;
    }
    let mut bitmap: RoaringBitmap = set.iter().copied().collect();
    bitmap.optimize();
    let is_list = list.len() <= bitmap.serialized_size();
    out.push(if is_list { LIST } else { ROARING });
    if !is_list {
        list.clear();
        bitmap.serialize_into(&mut list)?;
    }
    put_varint(out, list.len() as u64);
    out.extend_from_slice(&list);
    Ok(())
}

/// A set as it lies in a block.
enum EncodedSet<'a> {
    Range { first: u32, len: u32 },
    List(&'a [u8]),
    Roaring(&'a [u8]),
}

impl EncodedSet<'_> {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<EncodedSet<'a>, Malformed> {
        let coding = reader.u8()?;
        if coding == RANGE {
            return Ok(EncodedSet::Range {
                first: reader.varint_u32()?,
                len: reader.varint_u32()?,
            });
        }
        let len = reader.len(1)?;
        let bytes = reader.bytes(len)?;
        match coding {
            LIST => Ok(EncodedSet::List(bytes)),
            ROARING => Ok(EncodedSet::Roaring(bytes)),
            _ => Err(Malformed("how a set of series is stored is unknown")),
        }
    }

    fn decode(&self, series: u32) -> Result<RoaringBitmap, Malformed> {
        let out_of_range = Malformed("a series is out of range");
        let set = match self {
            EncodedSet::Range { first, len } => {
                let end = first.checked_add(*len).filter(|end| *end <= series);
                let mut set = RoaringBitmap::new();
                set.insert_range(*first..end.ok_or(out_of_range)?);
                set
            }
            EncodedSet::List(bytes) => {
                let mut reader = Reader::new(bytes);
                let mut set = RoaringBitmap::new();
                let mut number = 0u32;
                while !reader.is_empty() {
                    number = number
                        .checked_add(reader.varint_u32()?)
                        .ok_or(out_of_range)?;
                    set.insert(number);
                }
                set
            }
            EncodedSet::Roaring(bytes) => RoaringBitmap::deserialize_from(*bytes)
                .map_err(|_| Malformed("a set of series cannot be read"))?,
        };
        match set.max().is_none_or(|max| max < series) {
            true => Ok(set),
            false => Err(out_of_range),
        }
    }
}

/// What is kept in memory of the postings.
#[derive(Debug)]
pub(crate) struct PostingsIndex {
    pub(crate) labels: fst::Map<Vec<u8>>,
    /// Number of the first set, and place, of each block.
    blocks: Vec<(u32, PagePointer)>,
}

impl PostingsIndex {
    pub(crate) fn load(
        file: &SegmentFile,
        labels: PagePointer,
        table: PagePointer,
    ) -> Result<PostingsIndex, ReadError> {
        let keys = file.decode_section("labels", labels, |reader| {
            let rest = reader.rest();
            Ok(reader.bytes(rest.len())?.to_vec())
        })?;
        let map = fst::Map::new(keys);
        // Its own checksum too: walking it trusts every byte.
        let map = map.and_then(|map| map.as_fst().verify().map(|()| map));
        let map = map.map_err(|error| file.damaged("labels", labels.offset, error))?;
        let mut first = 0u32;
        let blocks = file.decode_section("postings table", table, |reader| {
            let mut blocks = Vec::new();
            while !reader.is_empty() {
                let sets = reader.varint_u32()?;
                blocks.push((first, PagePointer::decode(reader)?));
                first = first
                    .checked_add(sets)
                    .ok_or(Malformed("a block is out of range"))?;
            }
            Ok(blocks)
        })?;
        if map.len() != first as usize {
            return Err(file.damaged("postings table", table.offset, "it does not fit the labels"));
        }
        Ok(PostingsIndex {
            labels: map,
            blocks,
        })
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.labels.as_fst().as_bytes().len()
            + self.blocks.len() * size_of::<(u32, PagePointer)>()) as u64
    }

    /// The label with a number.
    pub(crate) fn label(&self, number: u32, key: &mut Vec<u8>) -> bool {
        key.clear();
        self.labels.as_fst().get_key_into(u64::from(number), key)
    }

    /// Hands on every value of a label, sorted, with its number.
    pub(crate) fn each_value(
        &self,
        name: &str,
        mut each: impl FnMut(&[u8], u64) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let from = key(name, "");
        let mut until = from.clone();
        until.push(KEY_SEPARATOR);
        let mut labels = self.labels.range().ge(&from).lt(&until).into_stream();
        while let Some((key, number)) = labels.next() {
            each(&key[from.len()..], number)?;
        }
        Ok(())
    }
}

/// Reads sets, each block once as long as they are asked for in order.
pub(crate) struct SetReader<'a> {
    file: &'a SegmentFile,
    index: &'a PostingsIndex,
    /// Series of the tenant.
    series: u32,
    block: RefCell<Option<(usize, Vec<u8>)>>,
}

impl<'a> SetReader<'a> {
    pub(crate) fn new(
        file: &'a SegmentFile,
        index: &'a PostingsIndex,
        series: u32,
    ) -> SetReader<'a> {
        SetReader {
            file,
            index,
            series,
            block: RefCell::default(),
        }
    }

    /// The series that have the label with a number.
    pub(crate) fn set(&self, number: u64) -> Result<RoaringBitmap, ReadError> {
        let blocks = &self.index.blocks;
        let at = blocks.partition_point(|(first, _)| u64::from(*first) <= number);
        let Some((first, pointer)) = at.checked_sub(1).and_then(|at| blocks.get(at)) else {
            return Err(self
                .file
                .damaged("postings table", 0, "a label is not in it"));
        };
        let mut open = self.block.borrow_mut();
        if open.as_ref().is_none_or(|(open, _)| *open != at) {
            *open = Some((at, self.file.page("postings", *pointer)?));
        }
        let (_, bytes) = open.as_ref().expect("it was just read");
        self.find(bytes, number - u64::from(*first))
            .map_err(|error| self.file.damaged("postings", pointer.offset, error))
    }

    /// Reads every set.
    pub(crate) fn check(&self) -> Result<(), ReadError> {
        for number in 0..self.index.labels.len() as u64 {
            self.set(number)?;
        }
        Ok(())
    }

    fn find(&self, block: &[u8], number: u64) -> Result<RoaringBitmap, Malformed> {
        let mut reader = Reader::new(block);
        for _ in 0..number {
            EncodedSet::read(&mut reader)?;
        }
        EncodedSet::read(&mut reader)?.decode(self.series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_back_in_the_smallest_coding() {
        let sets: [Vec<u32>; 5] = [
            vec![7],
            (5..5000).collect(),
            vec![1, 9, 70_000],
            (0..30_000).map(|n| n * 2).collect(),
            (0..300).chain(600..9000).collect(),
        ];
        let mut codings = Vec::new();
        for set in sets {
            let mut bytes = Vec::new();
            encode_set(&set, &mut bytes).expect("memory takes it");
            codings.push(bytes[0]);
            let mut reader = Reader::new(&bytes);
            let read = EncodedSet::read(&mut reader).expect("whole");
            assert!(reader.is_empty());
            let all = read.decode(70_001).expect("in range");
            assert_eq!(all.iter().collect::<Vec<_>>(), set);
            assert!(read.decode(*set.last().expect("not empty")).is_err());
        }
        assert_eq!(codings, [RANGE, RANGE, LIST, ROARING, ROARING]);
    }
}
