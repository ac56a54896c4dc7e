//! Pages: runs of bytes with a checksum, and the file that they are read from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::codec::{Malformed, Reader, put_varint};
use crate::read::ReadError;

/// Where a page lies and what its bytes add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PagePointer {
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

impl PagePointer {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        put_varint(out, self.offset);
        put_varint(out, u64::from(self.len));
        out.extend_from_slice(&self.crc.to_le_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<PagePointer, Malformed> {
        Ok(PagePointer {
            offset: reader.varint()?,
            len: reader.varint_u32()?,
            crc: reader.u32()?,
        })
    }
}

/// A segment's file, open for reading at positions.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl SegmentFile {
    pub(crate) fn open(path: &Path) -> Result<SegmentFile, ReadError> {
        let open = || -> io::Result<(File, u64)> {
            let file = File::open(path)?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        };
        let (file, bytes) = open().map_err(|error| ReadError::Io {
            file: path.to_owned(),
            error,
        })?;
        Ok(SegmentFile {
            path: path.to_owned(),
            file,
            bytes,
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    /// Bytes without a checksum of their own.
    pub(crate) fn bytes(
        &self,
        section: &'static str,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let is_inside = offset
            .checked_add(len as u64)
            .is_some_and(|end| end <= self.bytes);
        if !is_inside {
            return Err(self.damaged(section, offset, "it reaches beyond the end of the file"));
        }
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| ReadError::Io {
                file: self.path.clone(),
                error,
            })?;
        Ok(bytes)
    }

    /// A page, checked.
    pub(crate) fn page(
        &self,
        section: &'static str,
        pointer: PagePointer,
    ) -> Result<Vec<u8>, ReadError> {
        let bytes = self.bytes(section, pointer.offset, pointer.len as usize)?;
        if crc32c::crc32c(&bytes) != pointer.crc {
            return Err(self.damaged(section, pointer.offset, "its checksum is wrong"));
        }
        Ok(bytes)
    }

    pub(crate) fn damaged(
        &self,
        section: &'static str,
        offset: u64,
        reason: impl ToString,
    ) -> ReadError {
        ReadError::Damaged {
            file: self.path.clone(),
            section,
            offset,
            reason: reason.to_string(),
        }
    }
}
