//! Attributes from protobuf, and the memory of those already seen.
//!
//! Most of a body is attributes that were there before: the next metric of a host has the same sets in the same order. So
//! there are three ways, from quick to slow:
//! 1. The bytes of all attributes of a point equal those of the set that followed the last one when it
//!    was seen before: one comparison, no decoding.
//! 2. The bytes of one attribute were seen before in this body: one hash and one comparison.
//! 3. The attribute is decoded.

use crate::VALUE_DEPTH_MAX;
use crate::batch::{Batch, EMPTY_SET};
use crate::table::{Table, hash_bytes, same_bytes};
use crate::text::{self, Place};
use crate::wire::{Reader, WireError, WireProblem};

use super::Decode;
use super::tags::{any_value, key_value, values};

/// What was seen before in the body that is being read.
#[derive(Default)]
pub(crate) struct Memo {
    attributes: Vec<KnownAttribute>,
    table: Table,
    /// By number of the attribute set.
    runs: Vec<Run>,
    /// The set of the last point that had one.
    last_set: u32,
}

/// An attribute whose bytes were decoded.
struct KnownAttribute {
    bytes: Span,
    name: u32,
    value: u32,
}

/// The consecutive attributes of a point, tags included.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Empty for a set that was not made from a run.
    bytes: Span,
    /// The set that came after this one the last time.
    next_set: u32,
}

/// A part of the body.
#[derive(Clone, Copy, Default)]
struct Span {
    offset: u32,
    length: u32,
}

impl Span {
    #[inline(always)]
    fn of(self, body: &[u8]) -> &[u8] {
        &body[self.offset as usize..][..self.length as usize]
    }
}

impl Memo {
    pub(super) fn clear(&mut self) {
        self.attributes.clear();
        self.table.clear();
        self.runs.clear();
        self.last_set = EMPTY_SET;
    }

    /// The set expected next and its length in bytes, if `rest` begins with exactly its attributes.
    #[inline(always)]
    fn expected(&self, body: &[u8], rest: &[u8]) -> Option<(u32, usize)> {
        let set = self.runs.get(self.last_set as usize)?.next_set;
        let run = self.runs.get(set as usize)?.bytes.of(body);
        let (start, after) = rest.split_at_checked(run.len())?;
        // Every tag of an attribute has one byte, so the same byte again would be one attribute more.
        let is_whole = !run.is_empty() && after.first() != rest.first();
        (is_whole && same_bytes(start, run)).then_some((set, run.len()))
    }

    /// Remembers the attributes of a set, as the ones that follow the last set.
    fn remember(&mut self, set: u32, bytes: Span) {
        let needed = set.max(self.last_set) as usize + 1;
        if self.runs.len() < needed {
            self.runs.resize(needed, Run::default());
        }
        self.runs[set as usize].bytes = bytes;
        self.runs[self.last_set as usize].next_set = set;
    }
}

/// The attribute set of a point while its fields are read.
#[derive(Clone, Copy, Default)]
pub(super) struct PointSet {
    set: u32,
    /// Attributes stand in several places of the point.
    is_scattered: bool,
}

impl<'a> Decode<'a, '_> {
    /// Reads attributes at `point`, whose first tag, `tag`, was read from `before`.
    #[inline(always)]
    pub(super) fn point_attributes(
        &mut self,
        found: &mut PointSet,
        tag: u64,
        before: Reader<'a>,
        point: &mut Reader<'a>,
    ) -> Result<(), WireError> {
        if found.set != EMPTY_SET {
            found.is_scattered = true;
            return point.bytes().map(drop);
        }
        if let Some((set, length)) = self.memo.expected(self.body, before.rest()) {
            *point = before;
            point.advance(length);
            self.memo.last_set = set;
            found.set = set;
            return Ok(());
        }
        found.set = self.new_run(tag, before, point)?;
        Ok(())
    }

    /// The set of a point whose fields have all been read.
    #[inline(always)]
    pub(super) fn point_set(
        &mut self,
        found: PointSet,
        tag: u64,
        point: Reader<'a>,
    ) -> Result<u32, WireError> {
        match found.is_scattered {
            false => Ok(found.set),
            true => self.attributes_of(point, tag),
        }
    }

    /// Reads consecutive attributes one by one.
    fn new_run(
        &mut self,
        tag: u64,
        before: Reader<'a>,
        point: &mut Reader<'a>,
    ) -> Result<u32, WireError> {
        self.attribute(point.bytes()?)?;
        let mut end = *point;
        while point.tag()? == Some(tag) {
            self.attribute(point.bytes()?)?;
            end = *point;
        }
        *point = end;
        let set = self.batch.close_set();
        if set != EMPTY_SET {
            let bytes = Span {
                offset: before.offset(self.body) as u32,
                length: (before.rest().len() - end.rest().len()) as u32,
            };
            self.memo.remember(set, bytes);
            self.memo.last_set = set;
        }
        Ok(set)
    }

    /// The set of all attributes of a message, wherever they stand in it.
    pub(super) fn attributes_of(
        &mut self,
        mut message: Reader<'a>,
        tag: u64,
    ) -> Result<u32, WireError> {
        while let Some(found) = message.tag()? {
            match found {
                _ if found == tag => self.attribute(message.bytes()?)?,
                other => message.skip(other)?,
            }
        }
        Ok(self.batch.close_set())
    }

    /// Adds a `KeyValue` to the open set.
    #[inline(always)]
    fn attribute(&mut self, bytes: &'a [u8]) -> Result<(), WireError> {
        let (memo, body) = (&mut *self.memo, self.body);
        let known = memo.table.find(hash_bytes(bytes), |row| {
            same_bytes(memo.attributes[row as usize].bytes.of(body), bytes)
        });
        let (name, value) = match known {
            Ok(row) => {
                let attribute = &memo.attributes[row as usize];
                (attribute.name, attribute.value)
            }
            Err(vacancy) => {
                let text = &mut self.scratch.text;
                let (name, value) = new_attribute(Reader::new(bytes), self.batch, text)?;
                memo.table.insert(vacancy, memo.attributes.len() as u32);
                let bytes = Span {
                    offset: Reader::new(bytes).offset(body) as u32,
                    length: bytes.len() as u32,
                };
                memo.attributes.push(KnownAttribute { bytes, name, value });
                (name, value)
            }
        };
        self.batch.attribute(name, value);
        Ok(())
    }
}

/// Decodes an attribute: the symbols of its name and its value.
#[cold]
fn new_attribute(
    mut message: Reader<'_>,
    batch: &mut Batch,
    scratch: &mut String,
) -> Result<(u32, u32), WireError> {
    scratch.clear();
    let mut name = "";
    while let Some(tag) = message.tag()? {
        match tag {
            key_value::KEY => name = message.text()?,
            key_value::VALUE => {
                scratch.clear();
                push_value(message.message()?, scratch, Place::Whole, 0)?;
            }
            other => message.skip(other)?,
        }
    }
    Ok((batch.symbol(name), batch.symbol(scratch)))
}

/// Appends the text of an `AnyValue`.
fn push_value(
    mut message: Reader<'_>,
    out: &mut String,
    place: Place,
    depth: u32,
) -> Result<(), WireError> {
    if depth > VALUE_DEPTH_MAX {
        return Err(message.error(WireProblem::TooDeep));
    }
    let start = out.len();
    let mut is_empty = true;
    while let Some(tag) = message.tag()? {
        let earlier = out.len();
        match tag {
            any_value::STRING => text::push_string(out, place, message.text()?),
            any_value::BOOL => text::push_bool(out, message.varint()? != 0),
            any_value::INT => text::push_int(out, message.varint()? as i64),
            any_value::DOUBLE => text::push_double(out, place, message.double()?),
            any_value::ARRAY => push_array(message.message()?, out, depth)?,
            any_value::LIST => push_list(message.message()?, out, depth)?,
            any_value::BYTES => text::push_bytes(out, place, message.bytes()?),
            other => {
                message.skip(other)?;
                continue;
            }
        }
        // Of several values the last one counts.
        out.drain(start..earlier);
        is_empty = false;
    }
    if is_empty {
        text::push_nothing(out, place);
    }
    Ok(())
}

fn push_array(mut message: Reader<'_>, out: &mut String, depth: u32) -> Result<(), WireError> {
    out.push('[');
    let mut separator = "";
    while let Some(tag) = message.tag()? {
        match tag {
            values::VALUES => {
                out.push_str(separator);
                separator = ",";
                push_value(message.message()?, out, Place::Inside, depth + 1)?;
            }
            other => message.skip(other)?,
        }
    }
    out.push(']');
    Ok(())
}

fn push_list(mut message: Reader<'_>, out: &mut String, depth: u32) -> Result<(), WireError> {
    out.push('{');
    let mut separator = "";
    while let Some(tag) = message.tag()? {
        match tag {
            values::VALUES => {
                out.push_str(separator);
                separator = ",";
                push_key_value(message.message()?, out, depth + 1)?;
            }
            other => message.skip(other)?,
        }
    }
    out.push('}');
    Ok(())
}

fn push_key_value(mut message: Reader<'_>, out: &mut String, depth: u32) -> Result<(), WireError> {
    let mut name = "";
    let mut value = Reader::new(&[]);
    while let Some(tag) = message.tag()? {
        match tag {
            key_value::KEY => name = message.text()?,
            key_value::VALUE => value = message.message()?,
            other => message.skip(other)?,
        }
    }
    text::push_quoted(out, name);
    out.push(':');
    push_value(value, out, Place::Inside, depth)
}
