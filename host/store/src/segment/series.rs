//! A tenant's series within a segment: their labels and where their samples are.

use super::stream::Start;
use super::values::{
    Patches, Scale, decimal_value, decode_patches, encode_patches, shortest_decimal,
};
use crate::codec::{Malformed, Reader, put_signed, put_varint};

/// Series of one page of the series table: finding one decodes so many.
pub(crate) const PAGE_SERIES: usize = 128;

/// A series as it is in the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SeriesEntry {
    /// Numbers of its labels, which are pairs of name and value, ascending.
    pub(crate) labels: Vec<u32>,
    /// Which kind and unit.
    pub(crate) meta: u32,
    /// Which time vector.
    pub(crate) vector: u32,
    pub(crate) values: Column,
}

/// Where one column is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Column {
    pub(crate) place: Place,
    pub(crate) patches: Patches,
}

/// Where the values are but for the patches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// Here: the bits of all.
    Constant(u64),
    /// Steps of a scale, in the stream of integers.
    Integers { scale: Scale, start: Start },
    /// In the stream of floats.
    Floats { start: Start },
}

impl Default for Place {
    fn default() -> Place {
        Place::Constant(0)
    }
}

const CONSTANT_BITS: u8 = 0;
const CONSTANT_DECIMAL: u8 = 1;
const INTEGERS: u8 = 2;
const FLOATS: u8 = 3;
/// Of the byte that says where a column is; an exponent lies above.
const PLACE_BITS: u8 = 3;

impl SeriesEntry {
    /// Appends what differs from the entry before, so that entries of one metric are nearly alike.
    pub(crate) fn encode(&self, before: &SeriesEntry, out: &mut Vec<u8>) {
        put_varint(out, self.labels.len() as u64);
        for (at, label) in self.labels.iter().enumerate() {
            let other = before.labels.get(at).copied().unwrap_or(0);
            put_signed(out, i64::from(*label) - i64::from(other));
        }
        put_varint(out, u64::from(self.meta));
        put_signed(out, i64::from(self.vector) - i64::from(before.vector));
        self.values.encode(before.values.place.page(), out);
    }

    pub(crate) fn decode(
        before: &SeriesEntry,
        reader: &mut Reader<'_>,
    ) -> Result<SeriesEntry, Malformed> {
        let mut labels = Vec::with_capacity(before.labels.len());
        for at in 0..reader.len(1)? {
            let other = before.labels.get(at).copied().unwrap_or(0);
            labels.push(relative(other, reader)?);
        }
        Ok(SeriesEntry {
            labels,
            meta: reader.varint_u32()?,
            vector: relative(before.vector, reader)?,
            values: Column::decode(before.values.place.page(), reader)?,
        })
    }
}

fn relative(before: u32, reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    let number = i64::from(before).checked_add(reader.signed()?);
    number
        .and_then(|number| u32::try_from(number).ok())
        .ok_or(Malformed("a number is out of range"))
}

impl Place {
    /// The page that it begins on, to compare others with.
    fn page(self) -> u32 {
        match self {
            Place::Constant(_) => 0,
            Place::Integers { start, .. } | Place::Floats { start } => start.page,
        }
    }
}

impl Column {
    fn encode(&self, page_before: u32, out: &mut Vec<u8>) {
        let put_start = |start: Start, out: &mut Vec<u8>| {
            put_signed(out, i64::from(start.page) - i64::from(page_before));
            put_varint(out, u64::from(start.run));
        };
        match self.place {
            Place::Constant(bits) => match shortest_decimal(f64::from_bits(bits)) {
                Some((exponent, integer)) => {
                    out.push(exponent << PLACE_BITS | CONSTANT_DECIMAL);
                    put_signed(out, integer);
                }
                None => {
                    out.push(CONSTANT_BITS);
                    out.extend_from_slice(&bits.to_le_bytes());
                }
            },
            Place::Integers { scale, start } => {
                out.push(scale.exponent << PLACE_BITS | INTEGERS);
                put_varint(out, scale.factor as u64);
                put_signed(out, scale.first);
                put_start(start, out);
            }
            Place::Floats { start } => {
                out.push(FLOATS);
                put_start(start, out);
            }
        }
        encode_patches(&self.patches, out);
    }

    fn decode(page_before: u32, reader: &mut Reader<'_>) -> Result<Column, Malformed> {
        let unknown = Malformed("how a series is stored is unknown");
        let byte = reader.u8()?;
        let exponent = byte >> PLACE_BITS;
        let start = |reader: &mut Reader<'_>| {
            Ok(Start {
                page: relative(page_before, reader)?,
                run: reader.varint_u32()?,
            })
        };
        let place = match byte & ((1 << PLACE_BITS) - 1) {
            CONSTANT_BITS => Place::Constant(reader.u64()?),
            CONSTANT_DECIMAL => {
                let value = decimal_value(exponent, reader.signed()?).ok_or(unknown)?;
                Place::Constant(value.to_bits())
            }
            INTEGERS => {
                let scale = Scale {
                    exponent,
                    factor: i64::try_from(reader.varint()?).map_err(|_| unknown)?,
                    first: reader.signed()?,
                };
                if !scale.is_known() {
                    return Err(unknown);
                }
                let start = start(reader)?;
                Place::Integers { scale, start }
            }
            FLOATS => Place::Floats {
                start: start(reader)?,
            },
            _ => return Err(unknown),
        };
        Ok(Column {
            place,
            patches: decode_patches(reader)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_a_trip_through_bytes() {
        let start = Start {
            page: 70_000,
            run: 3,
        };
        let scale = Scale {
            exponent: 12,
            factor: i64::MAX,
            first: i64::MIN,
        };
        let places = [
            Place::Constant(0.25f64.to_bits()),
            Place::Constant((-0.0f64).to_bits()),
            Place::Constant(u64::MAX),
            Place::Integers { scale, start },
            Place::Floats { start },
        ];
        let mut before = SeriesEntry::default();
        for (at, place) in (0..).zip(places) {
            let entry = SeriesEntry {
                labels: vec![at, 7, u32::MAX],
                meta: 2,
                vector: u32::MAX - at,
                values: Column {
                    place,
                    patches: vec![(at, u64::MAX)],
                },
            };
            let mut bytes = Vec::new();
            entry.encode(&before, &mut bytes);
            let read = SeriesEntry::decode(&before, &mut Reader::new(&bytes));
            assert_eq!(read.as_ref(), Ok(&entry));
            before = entry;
        }
    }
}
