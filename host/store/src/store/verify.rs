//! Checks everything that a store keeps on disk, without opening the store.

use std::path::Path;

use super::OpenError;
use super::flush::segment_folder_of;
use super::recover::{check_segment_file, lock_folder};
use crate::catalog::CatalogState;
use crate::codec::Reader;
use crate::log;
use crate::log::folder::DiskFolder;
use crate::log::frame::{self, FileHeader};
use crate::log::record::LoggedRecord;
use crate::read::{Damage, ReadError};
use crate::segment::page::{ChecksumUse, SegmentFile};
use crate::segment::verify::{Checked, check_file, check_segment};

/// Reads every byte of the segments of a catalog in a store's folder, and of the log unless a process writes it
/// ([`Checked::is_log_in_use`]), and names what is damaged or missing. Blocks on the disk.
///
/// # Errors
/// [`OpenError::Io`] when a folder cannot be read.
pub fn verify(folder: &Path, state: &CatalogState) -> Result<Checked, OpenError> {
    let mut checked = Checked::default();
    let segments = segment_folder_of(folder);
    for segment in &state.segments {
        match check_segment_file(&segments, segment) {
            Ok(()) => check_segment(&segments.join(&segment.file_name), &mut checked),
            Err(error) => checked.damaged(error),
        }
    }
    match lock_folder(folder) {
        Ok(_lock) => check_log(&folder.join("log"), state.log_position, &mut checked)?,
        Err(OpenError::InUse { .. }) => checked.is_log_in_use = true,
        Err(error) => return Err(error),
    }
    Ok(checked)
}

/// Checks the bytes of a segment that is in memory; `name` stands for its path.
pub fn verify_segment_bytes(name: &str, bytes: Vec<u8>, checksums: ChecksumUse) -> Checked {
    let mut checked = Checked {
        files: 1,
        ..Checked::default()
    };
    check_file(
        &SegmentFile::in_memory(name, bytes, checksums),
        &mut checked,
    );
    checked
}

/// Reads bytes as a record of the log and as a log file; returns the samples and frames in them.
pub fn verify_log_bytes(bytes: &[u8]) -> (u64, u64) {
    let record = LoggedRecord::decode(&mut Reader::new(bytes));
    let samples = record.map_or(0, |record| record.slots.len() as u64);
    let header = FileHeader::decode(bytes);
    let frames = header.map_or(0, |header| frame::scan(bytes, header.log_id).len() as u64);
    (samples, frames)
}

fn check_log(path: &Path, position: u64, checked: &mut Checked) -> Result<(), OpenError> {
    let io_error = |error| OpenError::Io {
        path: path.to_owned(),
        error,
    };
    let folder = DiskFolder::open(path.to_owned()).map_err(io_error)?;
    let samples = &mut checked.samples;
    let read = log::check(&folder, position, |_, payload| {
        let mut reader = Reader::new(payload);
        while !reader.is_empty() {
            *samples += LoggedRecord::decode(&mut reader)?.slots.len() as u64;
        }
        Ok(())
    });
    match read {
        Ok(read) => {
            checked.files += read.files;
            checked.bytes += read.bytes;
            Ok(())
        }
        Err(OpenError::DamagedLog {
            file,
            offset,
            reason,
        }) => {
            checked.damaged(ReadError::Damaged(Damage {
                file,
                section: "log",
                offset,
                checksums: None,
                reason,
            }));
            Ok(())
        }
        Err(error) => Err(error),
    }
}
