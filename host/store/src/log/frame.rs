//! How a group commit lies in a log file.
//!
//! A file begins with a header page: `SHOALLOG`, version, CRC, the log's id, the file's length. It is written once,
//! when the file is made. Frames follow, each at a multiple of [`ALIGNMENT`]:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `SLF1` |
//! | 4 | CRC-32C of the log's id and of everything after this field, payload included |
//! | 8 | sequence number |
//! | 4 | length of the payload |
//! | … | payload |
//!
//! Frames never share a page of the disk, so that writing one cannot tear another that is acknowledged already.
//! The id is random and never leaves the file, so that a sender cannot put a frame inside a label.

use crate::codec::{Malformed, Reader};

/// Frames and the header begin at multiples of this: a page of the disk and of the page cache.
pub(crate) const ALIGNMENT: u64 = 4096;

const HEADER_MAGIC: &[u8; 8] = b"SHOALLOG";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;

const FRAME_MAGIC: [u8; 4] = *b"SLF1";
/// Bytes before a frame's payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 20;

/// A log file's header: which log it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) log_id: u64,
    pub(crate) file_bytes: u64,
}

impl FileHeader {
    /// The header page.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut rest = Vec::new();
        rest.extend_from_slice(&VERSION.to_le_bytes());
        rest.extend_from_slice(&self.log_id.to_le_bytes());
        rest.extend_from_slice(&self.file_bytes.to_le_bytes());
        let mut page = HEADER_MAGIC.to_vec();
        page.extend_from_slice(&crc32c::crc32c(&rest).to_le_bytes());
        page.extend_from_slice(&rest);
        page.resize(ALIGNMENT as usize, 0);
        page
    }

    pub(crate) fn decode(page: &[u8]) -> Result<FileHeader, Malformed> {
        let mut reader = Reader::new(page);
        if reader.bytes(8)? != HEADER_MAGIC {
            return Err(Malformed("it does not begin like a log file"));
        }
        let crc = reader.u32()?;
        if page.get(12..HEADER_BYTES).map(crc32c::crc32c) != Some(crc) {
            return Err(Malformed("the checksum of its header is wrong"));
        }
        if reader.u32()? != VERSION {
            return Err(Malformed("its version is not known to this release"));
        }
        Ok(FileHeader {
            log_id: reader.u64()?,
            file_bytes: reader.u64()?,
        })
    }
}

/// Where a whole frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FramePlace {
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
    pub(crate) payload_bytes: u32,
}

impl FramePlace {
    /// Where the next frame begins.
    pub(crate) fn end(&self) -> u64 {
        self.offset + frame_bytes(self.payload_bytes as usize)
    }
}

/// What a payload takes in the file.
pub(crate) fn frame_bytes(payload_bytes: usize) -> u64 {
    ((FRAME_HEADER_BYTES + payload_bytes) as u64).next_multiple_of(ALIGNMENT)
}

/// Starts a frame in an empty buffer; the payload is to be appended and then [`seal`] called.
pub(crate) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(FRAME_HEADER_BYTES, 0);
}

/// Fills in the header and pads to whole pages, so that nothing of an earlier frame stays behind.
pub(crate) fn seal(buffer: &mut Vec<u8>, log_id: u64, sequence: u64) {
    let payload_bytes = (buffer.len() - FRAME_HEADER_BYTES) as u32;
    buffer[0..4].copy_from_slice(&FRAME_MAGIC);
    buffer[8..16].copy_from_slice(&sequence.to_le_bytes());
    buffer[16..20].copy_from_slice(&payload_bytes.to_le_bytes());
    let crc = checksum(log_id, &buffer[8..]);
    buffer[4..8].copy_from_slice(&crc.to_le_bytes());
    buffer.resize(frame_bytes(payload_bytes as usize) as usize, 0);
}

fn checksum(log_id: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&log_id.to_le_bytes()), bytes)
}

/// The frame that begins at `offset`, if a whole one does.
pub(crate) fn frame_at(file: &[u8], log_id: u64, offset: u64) -> Option<FramePlace> {
    let bytes = file.get(usize::try_from(offset).ok()?..)?;
    let mut reader = Reader::new(bytes);
    if reader.bytes(4).ok()? != FRAME_MAGIC {
        return None;
    }
    let crc = reader.u32().ok()?;
    let sequence = reader.u64().ok()?;
    let payload_bytes = reader.u32().ok()?;
    let whole = bytes.get(8..FRAME_HEADER_BYTES.checked_add(payload_bytes as usize)?)?;
    (checksum(log_id, whole) == crc).then_some(FramePlace {
        sequence,
        offset,
        payload_bytes,
    })
}

/// All whole frames of a file, in its order. After a page that begins none, looks on at the next one.
pub(crate) fn scan(file: &[u8], log_id: u64) -> Vec<FramePlace> {
    let mut frames = Vec::new();
    let mut offset = ALIGNMENT;
    while offset < file.len() as u64 {
        match frame_at(file, log_id, offset) {
            Some(frame) => {
                offset = frame.end();
                frames.push(frame);
            }
            None => offset += ALIGNMENT,
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_any_bit_flipped_is_refused() {
        let header = FileHeader {
            log_id: 7,
            file_bytes: 65_536,
        };
        let page = header.encode();
        assert_eq!(FileHeader::decode(&page), Ok(header));
        for at in 0..HEADER_BYTES {
            let mut damaged = page.clone();
            damaged[at] ^= 1;
            assert!(FileHeader::decode(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_frame_with_any_bit_flipped_is_not_found() {
        let mut frame = Vec::new();
        begin(&mut frame);
        frame.extend_from_slice(b"payload");
        seal(&mut frame, 7, 42);
        let mut file = vec![0; ALIGNMENT as usize];
        file.extend_from_slice(&frame);
        let found = scan(&file, 7);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].sequence, found[0].payload_bytes), (42, 7));
        assert!(scan(&file, 8).is_empty(), "a frame of another log");
        for at in 0..FRAME_HEADER_BYTES + 7 {
            let mut damaged = file.clone();
            damaged[ALIGNMENT as usize + at] ^= 1;
            assert!(scan(&damaged, 7).is_empty(), "byte {at}");
        }
    }
}
