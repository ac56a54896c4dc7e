//! Protobuf's wire format: reading without copying, and writing.
//!
//! A [`Reader`] never looks outside its bytes and never allocates, so a claimed length costs nothing. Groups, which
//! proto3 does not have, are refused. Source: <https://protobuf.dev/programming-guides/encoding/>.

use std::fmt;

/// Wire types, the low three bits of a tag.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// The largest field number that protobuf allows.
const FIELD_MAX: u64 = (1 << 29) - 1;

/// The tag of a number in variable length.
pub(crate) const fn varint(field: u64) -> u64 {
    field << 3 | VARINT
}

/// The tag of a number of eight bytes.
pub(crate) const fn fixed64(field: u64) -> u64 {
    field << 3 | FIXED64
}

/// The tag of a message, a string, bytes, or packed numbers.
pub(crate) const fn length(field: u64) -> u64 {
    field << 3 | LENGTH
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireProblem {
    Truncated,
    VarintTooLong,
    Group,
    WireType,
    FieldNumber,
    NotUtf8,
    PackedLength,
    TooDeep,
}

impl fmt::Display for WireProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "a field is longer than what is left of its message",
            Self::VarintTooLong => "a variable-length number does not fit 64 bits",
            Self::Group => "a group, which proto3 does not have",
            Self::WireType => "a field of an unknown wire type",
            Self::FieldNumber => "a field number outside 1 to 536870911",
            Self::NotUtf8 => "a string is not UTF-8",
            Self::PackedLength => "packed 8-byte numbers whose length is no multiple of 8",
            Self::TooDeep => "an attribute value is nested too deeply",
        })
    }
}

/// A problem and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireError {
    problem: WireProblem,
    /// Address of the byte; kept as a number, so that making an error needs no message around it.
    address: usize,
}

impl WireError {
    pub(crate) fn new(problem: WireProblem, at: &[u8]) -> WireError {
        let address = at.as_ptr().addr();
        WireError { problem, address }
    }

    pub(crate) fn problem(&self) -> WireProblem {
        self.problem
    }

    /// The error's place in `body`, of which all readers are parts.
    pub(crate) fn offset(&self, body: &[u8]) -> usize {
        offset(body, self.address)
    }
}

/// Where the bytes of a reader begin in `body`, of which it is a part.
fn offset(body: &[u8], address: usize) -> usize {
    address.saturating_sub(body.as_ptr().addr()).min(body.len())
}

/// Reads the fields of one message.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read yet.
    #[inline(always)]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Where the reader stands in `body`, of which it is a part.
    #[inline(always)]
    pub(crate) fn offset(&self, body: &[u8]) -> usize {
        offset(body, self.rest.as_ptr().addr())
    }

    /// Passes over bytes that the caller knows.
    #[inline(always)]
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// The next field's tag; none at the end of the message.
    #[inline(always)]
    pub(crate) fn tag(&mut self) -> Result<Option<u64>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.varint().map(Some)
    }

    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            [low, rest @ ..] if *low < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*low))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            if at == 9 && *byte > 1 {
                return Err(self.error(WireProblem::VarintTooLong));
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(self.error(WireProblem::Truncated))
    }

    #[inline(always)]
    pub(crate) fn fixed64(&mut self) -> Result<u64, WireError> {
        match self.rest.split_first_chunk() {
            Some((number, rest)) => {
                self.rest = rest;
                Ok(u64::from_le_bytes(*number))
            }
            None => Err(self.error(WireProblem::Truncated)),
        }
    }

    #[inline(always)]
    pub(crate) fn double(&mut self) -> Result<f64, WireError> {
        self.fixed64().map(f64::from_bits)
    }

    /// A number in protobuf's zigzag form (`sint32`).
    pub(crate) fn zigzag(&mut self) -> Result<i32, WireError> {
        let number = self.varint()? as u32;
        Ok((number >> 1) as i32 ^ -((number & 1) as i32))
    }

    /// The content of a length-delimited field.
    #[inline(always)]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.varint()?;
        let split = usize::try_from(length).ok();
        match split.and_then(|length| self.rest.split_at_checked(length)) {
            Some((content, rest)) => {
                self.rest = rest;
                Ok(content)
            }
            None => Err(self.error(WireProblem::Truncated)),
        }
    }

    #[inline(always)]
    pub(crate) fn message(&mut self) -> Result<Reader<'a>, WireError> {
        self.bytes().map(Reader::new)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, WireError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|e| {
            let at = &bytes[e.valid_up_to()..];
            WireError::new(WireProblem::NotUtf8, at)
        })
    }

    /// Packed numbers of eight bytes each.
    pub(crate) fn packed64(
        &mut self,
    ) -> Result<impl ExactSizeIterator<Item = u64> + use<'a>, WireError> {
        let bytes = self.bytes()?;
        let (numbers, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(WireError::new(WireProblem::PackedLength, bytes));
        }
        Ok(numbers.iter().map(|number| u64::from_le_bytes(*number)))
    }

    /// Passes over a field that the reader of the message does not know.
    #[cold]
    pub(crate) fn skip(&mut self, tag: u64) -> Result<(), WireError> {
        if !(1..=FIELD_MAX).contains(&(tag >> 3)) {
            return Err(self.error(WireProblem::FieldNumber));
        }
        match tag & 7 {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed64().map(drop),
            LENGTH => self.bytes().map(drop),
            FIXED32 if self.rest.len() >= 4 => {
                self.advance(4);
                Ok(())
            }
            FIXED32 => Err(self.error(WireProblem::Truncated)),
            3 | 4 => Err(self.error(WireProblem::Group)),
            _ => Err(self.error(WireProblem::WireType)),
        }
    }

    #[cold]
    pub(crate) fn error(&self, problem: WireProblem) -> WireError {
        WireError::new(problem, self.rest)
    }
}

/// Writes the fields of one message.
///
/// Small on purpose: for answers and test bodies, where speed does not matter.
///
/// ```
/// use shoal_otlp_decoder::wire::Writer;
/// let mut message = Writer::default();
/// message.varint(1, 3);
/// message.message(2, |inner| inner.bytes(1, b"hi"));
/// assert_eq!(message.finish(), [0x08, 3, 0x12, 4, 0x0a, 2, b'h', b'i']);
/// ```
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Writes a number in variable length.
    pub fn varint(&mut self, field: u64, value: u64) {
        self.raw_varint(varint(field));
        self.raw_varint(value);
    }

    /// Writes a number of eight bytes.
    pub fn fixed64(&mut self, field: u64, value: u64) {
        self.raw_varint(fixed64(field));
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes a string or bytes.
    pub fn bytes(&mut self, field: u64, value: &[u8]) {
        self.raw_varint(length(field));
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Writes a message inside this one.
    pub fn message(&mut self, field: u64, fill: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// The message's bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_read_back() {
        for shift in 0..64 {
            for value in [1 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut writer = Writer::default();
                writer.varint(1, value);
                let bytes = writer.finish();
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.tag().expect("a tag"), Some(varint(1)));
                assert_eq!(reader.varint().expect("a number"), value);
                assert!(reader.rest().is_empty());
            }
        }
    }

    #[test]
    fn zigzag_numbers_alternate_in_sign() {
        for (bytes, value) in [
            (&[0][..], 0),
            (&[1], -1),
            (&[2], 1),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], i32::MIN),
            (&[0xfe, 0xff, 0xff, 0xff, 0x0f], i32::MAX),
        ] {
            assert_eq!(Reader::new(bytes).zigzag().expect("a number"), value);
        }
    }

    #[track_caller]
    fn refused(bytes: &[u8], problem: WireProblem, offset: usize) {
        let mut reader = Reader::new(bytes);
        let error = loop {
            match reader.tag().and_then(|tag| match tag {
                Some(tag) => reader.skip(tag).map(Some),
                None => Ok(None),
            }) {
                Ok(Some(())) => {}
                Ok(None) => panic!("{bytes:?} is accepted"),
                Err(error) => break error,
            }
        };
        assert_eq!((error.problem(), error.offset(bytes)), (problem, offset));
    }

    #[test]
    fn what_breaks_the_format_is_refused_with_its_place() {
        refused(&[0x08], WireProblem::Truncated, 1);
        refused(&[0x08, 0x80], WireProblem::Truncated, 1);
        refused(&[0x09, 1, 2, 3], WireProblem::Truncated, 1);
        refused(&[0x0d, 1, 2, 3], WireProblem::Truncated, 1);
        refused(&[0x0a, 2, 3], WireProblem::Truncated, 2);
        refused(&[0x08, 1, 0x0b], WireProblem::Group, 3);
        refused(&[0x0c], WireProblem::Group, 1);
        refused(&[0x0f], WireProblem::WireType, 1);
        refused(&[0x00, 1], WireProblem::FieldNumber, 1);
        let too_long = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2];
        refused(&too_long, WireProblem::VarintTooLong, 1);
    }
}
