//! Attributes from JSON.

use std::borrow::Cow;

use crate::VALUE_DEPTH_MAX;
use crate::text::{self, Place};

use super::Decode;
use super::reader::{JsonError, JsonReader};

impl Decode<'_> {
    /// Adds an array of attributes to the open set.
    pub(super) fn attributes(&mut self, reader: &mut JsonReader<'_>) -> Result<(), JsonError> {
        reader.array(|reader| {
            let text = &mut self.scratch.text;
            text.clear();
            let mut name = Cow::default();
            reader.object(|reader, member| match member {
                "key" => {
                    name = reader.string()?;
                    Ok(())
                }
                "value" => {
                    text.clear();
                    push_value(reader, text, Place::Whole, 0)
                }
                _ => reader.skip(),
            })?;
            let (name, value) = (self.batch.symbol(&name), self.batch.symbol(text));
            self.batch.attribute(name, value);
            Ok(())
        })
    }
}

/// Appends the text of an `AnyValue`.
fn push_value(
    reader: &mut JsonReader<'_>,
    out: &mut String,
    place: Place,
    depth: u32,
) -> Result<(), JsonError> {
    if depth > VALUE_DEPTH_MAX {
        return Err(reader.wrong("an attribute value is nested too deeply"));
    }
    let start = out.len();
    let mut is_empty = true;
    reader.object(|reader, member| {
        let earlier = out.len();
        match member {
            "stringValue" => text::push_string(out, place, &reader.string()?),
            "boolValue" => text::push_bool(out, reader.bool()?),
            "intValue" => text::push_int(out, reader.i64()?),
            "doubleValue" => text::push_double(out, place, reader.f64()?),
            "arrayValue" => push_array(reader, out, depth)?,
            "kvlistValue" => push_list(reader, out, depth)?,
            "bytesValue" => {
                let base64 = reader.string()?;
                let bytes = text::read_base64(&base64)
                    .ok_or_else(|| reader.wrong("the text is not base64"))?;
                text::push_bytes(out, place, &bytes);
            }
            _ => return reader.skip(),
        }
        // Of several values the last one counts.
        out.drain(start..earlier);
        is_empty = false;
        Ok(())
    })?;
    if is_empty {
        text::push_nothing(out, place);
    }
    Ok(())
}

fn push_array(reader: &mut JsonReader<'_>, out: &mut String, depth: u32) -> Result<(), JsonError> {
    out.push('[');
    each_value(reader, |reader, is_first| {
        out.push_str(if is_first { "" } else { "," });
        push_value(reader, out, Place::Inside, depth + 1)
    })?;
    out.push(']');
    Ok(())
}

fn push_list(reader: &mut JsonReader<'_>, out: &mut String, depth: u32) -> Result<(), JsonError> {
    out.push('{');
    each_value(reader, |reader, is_first| {
        out.push_str(if is_first { "" } else { "," });
        push_key_value(reader, out, depth + 1)
    })?;
    out.push('}');
    Ok(())
}

/// Reads the `values` of an `ArrayValue` or a `KeyValueList`.
fn each_value(
    reader: &mut JsonReader<'_>,
    mut push: impl FnMut(&mut JsonReader<'_>, bool) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    let mut is_first = true;
    reader.object(|reader, member| match member {
        "values" => reader.array(|reader| {
            push(reader, is_first)?;
            is_first = false;
            Ok(())
        }),
        _ => reader.skip(),
    })
}

fn push_key_value(
    reader: &mut JsonReader<'_>,
    out: &mut String,
    depth: u32,
) -> Result<(), JsonError> {
    let start = out.len();
    let mut name = Cow::default();
    reader.object(|reader, member| match member {
        "key" => {
            name = reader.string()?;
            Ok(())
        }
        "value" => {
            out.truncate(start);
            push_value(reader, out, Place::Inside, depth)
        }
        _ => reader.skip(),
    })?;
    if out.len() == start {
        text::push_nothing(out, Place::Inside);
    }
    // The name is known only now: a member may stand anywhere.
    let mut quoted = String::with_capacity(name.len() + 3);
    text::push_quoted(&mut quoted, &name);
    quoted.push(':');
    out.insert_str(start, &quoted);
    Ok(())
}
