//! Pages: runs of bytes with a checksum, and the file that they are read from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::codec::{Malformed, Reader, put_varint};
use crate::read::{Checksums, Damage, ReadError};

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
    content: Content,
    bytes: u64,
    checksums: ChecksumUse,
}

/// Whether what is read is compared with its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumUse {
    /// It is.
    Check,
    /// It is not: for tests that look for bytes that are taken wrongly.
    Ignore,
}

#[derive(Debug)]
enum Content {
    Disk(File),
    /// What a test or a tool made.
    Memory(Vec<u8>),
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
            content: Content::Disk(file),
            bytes,
            checksums: ChecksumUse::Check,
        })
    }

    /// A segment in memory; `name` stands for its path in errors.
    pub(crate) fn in_memory(name: &str, content: Vec<u8>, checksums: ChecksumUse) -> SegmentFile {
        SegmentFile {
            path: PathBuf::from(name),
            bytes: content.len() as u64,
            content: Content::Memory(content),
            checksums,
        }
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
        match &self.content {
            Content::Disk(file) => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset)
                    .map_err(|error| ReadError::Io {
                        file: self.path.clone(),
                        error,
                    })?;
                Ok(bytes)
            }
            Content::Memory(content) => {
                let begin = offset as usize;
                Ok(content[begin..begin + len].to_vec())
            }
        }
    }

    /// A page, checked.
    pub(crate) fn page(
        &self,
        section: &'static str,
        pointer: PagePointer,
    ) -> Result<Vec<u8>, ReadError> {
        let bytes = self.bytes(section, pointer.offset, pointer.len as usize)?;
        self.check(section, pointer, &bytes)?;
        Ok(bytes)
    }

    /// Compares a page's bytes with its checksum.
    pub(crate) fn check(
        &self,
        section: &'static str,
        pointer: PagePointer,
        bytes: &[u8],
    ) -> Result<(), ReadError> {
        let found = crc32c::crc32c(bytes);
        if found == pointer.crc || self.checksums == ChecksumUse::Ignore {
            return Ok(());
        }
        Err(ReadError::Damaged(Damage {
            file: self.path.clone(),
            section,
            offset: pointer.offset,
            checksums: Some(Checksums {
                expected: pointer.crc,
                found,
            }),
            reason: "its checksum is wrong".to_owned(),
        }))
    }

    pub(crate) fn damaged(
        &self,
        section: &'static str,
        offset: u64,
        reason: impl ToString,
    ) -> ReadError {
        ReadError::Damaged(Damage {
            file: self.path.clone(),
            section,
            offset,
            checksums: None,
            reason: reason.to_string(),
        })
    }

    /// Reads a page and decodes all of it.
    pub(crate) fn decode<T>(
        &self,
        section: &'static str,
        pointer: PagePointer,
        decode: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
    ) -> Result<T, ReadError> {
        let bytes = self.page(section, pointer)?;
        self.decode_bytes(section, pointer, &bytes, decode)
    }

    /// As [`SegmentFile::decode`], of a compressed page.
    pub(crate) fn decode_section<T>(
        &self,
        section: &'static str,
        pointer: PagePointer,
        decode: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
    ) -> Result<T, ReadError> {
        let bytes = self.page(section, pointer)?;
        let bytes = super::section::decompress(&bytes)
            .map_err(|error| self.damaged(section, pointer.offset, error))?;
        self.decode_bytes(section, pointer, &bytes, decode)
    }

    fn decode_bytes<T>(
        &self,
        section: &'static str,
        pointer: PagePointer,
        bytes: &[u8],
        decode: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
    ) -> Result<T, ReadError> {
        let damaged = |error: Malformed| self.damaged(section, pointer.offset, error);
        let mut reader = Reader::new(bytes);
        let decoded = decode(&mut reader).map_err(damaged)?;
        match reader.is_empty() {
            true => Ok(decoded),
            false => Err(damaged(Malformed("it is longer than its content"))),
        }
    }
}
