//! A tenant's series within a segment: their labels and where their samples are.

use shoal_model::telemetry::MetricKind;

use super::values::{Patches, Stream};
use crate::codec::{Malformed, Reader, put_varint};

/// Series of one page of the series table.
pub(crate) const PAGE_SERIES: usize = 1024;

/// A series as it is in the table: texts are numbers of symbols.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SeriesEntry {
    /// Names and values, sorted by name.
    pub(crate) labels: Vec<(u32, u32)>,
    pub(crate) kind: MetricKind,
    pub(crate) unit: u32,
    /// Which time vector.
    pub(crate) vector: u32,
    pub(crate) place: Place,
    pub(crate) patches: Patches,
}

/// Where the values are but for the patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here: the bits of all.
    Constant(u64),
    /// From this place of a stream on, times 10^exponent.
    Decimals {
        exponent: u8,
        stream: Stream,
        start: u64,
    },
    /// From this place of the stream of floats on.
    Floats { start: u64 },
}

impl SeriesEntry {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.labels.len() as u64);
        for (name, value) in &self.labels {
            put_varint(out, u64::from(*name));
            put_varint(out, u64::from(*value));
        }
        out.push(self.kind as u8);
        put_varint(out, u64::from(self.unit));
        put_varint(out, u64::from(self.vector));
        match self.place {
            Place::Constant(bits) => {
                out.push(0);
                out.extend_from_slice(&bits.to_le_bytes());
            }
            Place::Decimals {
                exponent,
                stream,
                start,
            } => {
                out.push(stream as u8);
                out.push(exponent);
                put_varint(out, start);
            }
            Place::Floats { start } => {
                out.push(Stream::Floats as u8);
                put_varint(out, start);
            }
        }
        put_varint(out, self.patches.len() as u64);
        let mut before = 0;
        for (at, bits) in &self.patches {
            put_varint(out, u64::from(at - before));
            out.extend_from_slice(&bits.to_le_bytes());
            before = *at;
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<SeriesEntry, Malformed> {
        let labels = (0..reader.len(2)?)
            .map(|_| Ok((reader.varint_u32()?, reader.varint_u32()?)))
            .collect::<Result<_, Malformed>>()?;
        let kind = MetricKind::from_number(reader.u8()?)
            .ok_or(Malformed("the kind of a metric is unknown"))?;
        let unit = reader.varint_u32()?;
        let vector = reader.varint_u32()?;
        let place = match reader.u8()? {
            0 => Place::Constant(reader.u64()?),
            4 => Place::Floats {
                start: reader.varint()?,
            },
            number @ 1..=3 => Place::Decimals {
                stream: Stream::ALL[usize::from(number)],
                exponent: reader.u8()?,
                start: reader.varint()?,
            },
            _ => return Err(Malformed("how a series is stored is unknown")),
        };
        let mut at = 0u32;
        let mut patches = Vec::new();
        for _ in 0..reader.len(9)? {
            at = at
                .checked_add(reader.varint_u32()?)
                .ok_or(Malformed("a patch is out of range"))?;
            patches.push((at, reader.u64()?));
        }
        Ok(SeriesEntry {
            labels,
            kind,
            unit,
            vector,
            place,
            patches,
        })
    }
}
