//! The commit log: a few files of fixed size, overwritten in turn.
//!
//! Invariants:
//! 1. [`Log::write`] returns a sequence number only after the frame is synced. After any failed write or sync the
//!    log stays failed: what the disk holds is unknown until it is read anew.
//! 2. A frame is written only after the one before it is synced. So at most the last frame can be torn, and a frame
//!    that is missing or damaged *before* a whole one is damage, reported by [`Log::open`] and never skipped.
//! 3. A file is used anew only when all its frames are in segments and the catalog knows it.
//!
//! One thread owns the log (`store::committer`). How frames lie in files is in [`frame`]; what is in them in
//! [`record`].

pub(crate) mod folder;
pub(crate) mod frame;
pub(crate) mod record;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::store::OpenError;
use folder::{LogFile, LogFolder};
use frame::{ALIGNMENT, FileHeader, FramePlace};

/// The log's files and where the next frame goes.
pub(crate) struct Log {
    folder: Arc<dyn LogFolder>,
    id: u64,
    files: Vec<OpenFile>,
    /// Index of the file that is being written, if there is one.
    active: Option<usize>,
    next_sequence: u64,
    /// Frames before it are in segments.
    position: u64,
    file_bytes: u64,
    files_max: usize,
    failed: Option<String>,
}

struct OpenFile {
    name: String,
    file: Box<dyn LogFile>,
    bytes: u64,
    /// Where the next frame of this file goes, when it is active; else where its last one ends.
    end: u64,
    /// The sequence number of its last frame.
    last: Option<u64>,
}

/// A frame was not written, or it is unknown whether it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// All files hold frames that are not yet in segments.
    Full,
    /// The log has failed; the reason names the file.
    Failed(String),
}

impl Log {
    /// Opens the files of a folder and hands every payload from `position` on to `replay`, in order. Returns the log
    /// and the number of frames.
    pub(crate) fn open(
        folder: Arc<dyn LogFolder>,
        file_bytes: u64,
        files_max: usize,
        position: u64,
        mut replay: impl FnMut(u64, &[u8]) -> Result<(), crate::codec::Malformed>,
    ) -> Result<(Log, u64), OpenError> {
        let (id, files, live) = read_live(&*folder, position, &mut replay)?;
        let mut log = Log {
            folder,
            id,
            files,
            active: live.last().map(|(at, _)| *at),
            next_sequence: position + live.len() as u64,
            position,
            file_bytes,
            files_max,
            failed: None,
        };
        if let Some((at, place)) = live.last() {
            log.settle(*at, *place)?;
        }
        Ok((log, live.len() as u64))
    }

    /// Writes the last frame once more and syncs it: it may be whole in the page cache and yet not on the disk, when
    /// the process was killed before its sync or the sync failed.
    fn settle(&mut self, at: usize, place: FramePlace) -> Result<(), OpenError> {
        let file = &mut self.files[at];
        file.end = place.end();
        let mut frame = vec![0; (place.end() - place.offset) as usize];
        let io = file
            .file
            .read_at(&mut frame, place.offset)
            .and_then(|()| file.file.write_at(&frame, place.offset))
            .and_then(|()| file.file.sync());
        io.map_err(|error| OpenError::Io {
            path: self.folder.path(&file.name),
            error,
        })
    }

    /// The sequence number of the next frame.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Whether there are no files yet.
    pub(crate) fn is_new(&self) -> bool {
        self.files.is_empty()
    }

    /// The largest payload of one frame.
    pub(crate) fn payload_max_bytes(&self) -> usize {
        payload_max_bytes(self.file_bytes)
    }

    /// Seals a frame (begun with [`frame::begin`], payload appended), writes it and returns its sequence number once
    /// it is durable.
    pub(crate) fn write(&mut self, buffer: &mut Vec<u8>) -> Result<u64, WriteError> {
        if let Some(reason) = &self.failed {
            return Err(WriteError::Failed(reason.clone()));
        }
        let sequence = self.next_sequence;
        frame::seal(buffer, self.id, sequence);
        let at = self.file_with_room(buffer.len() as u64)?;
        let file = &mut self.files[at];
        let written = file
            .file
            .write_at(buffer, file.end)
            .and_then(|()| file.file.sync());
        if let Err(error) = written {
            let reason = format!("{}: {error}", self.folder.path(&file.name).display());
            self.failed = Some(reason.clone());
            return Err(WriteError::Failed(reason));
        }
        file.end += buffer.len() as u64;
        file.last = Some(sequence);
        self.next_sequence += 1;
        Ok(sequence)
    }

    fn file_with_room(&mut self, bytes: u64) -> Result<usize, WriteError> {
        let fits = |file: &OpenFile, from: u64| from + bytes <= file.bytes;
        if let Some(at) = self.active
            && fits(&self.files[at], self.files[at].end)
        {
            return Ok(at);
        }
        let position = self.position;
        let free = self
            .files
            .iter()
            .position(|file| file.last.is_none_or(|last| last < position) && fits(file, ALIGNMENT));
        let at = match free {
            Some(at) => at,
            None if self.files.len() < self.files_max => self.add_file()?,
            None => return Err(WriteError::Full),
        };
        self.files[at].end = ALIGNMENT;
        self.active = Some(at);
        Ok(at)
    }

    fn add_file(&mut self) -> Result<usize, WriteError> {
        let name = (0..)
            .map(|number: u32| format!("log-{number:04}"))
            .find(|name| self.files.iter().all(|file| file.name != *name))
            .expect("there are more numbers than files");
        let header = FileHeader {
            log_id: self.id,
            file_bytes: self.file_bytes,
        };
        match self.folder.create(&name, &header.encode(), self.file_bytes) {
            Ok(file) => {
                self.files.push(OpenFile {
                    name,
                    file,
                    bytes: self.file_bytes,
                    end: ALIGNMENT,
                    last: None,
                });
                Ok(self.files.len() - 1)
            }
            // No frame was touched: the log goes on when a flush has given space back.
            Err(error) => {
                tracing::error!(%error, file = %self.folder.path(&name).display(), "cannot make a log file");
                Err(WriteError::Full)
            }
        }
    }

    /// Gives away the space of frames before `position`, which is durable in the catalog.
    pub(crate) fn release(&mut self, position: u64) {
        self.position = self.position.max(position);
    }

    /// Bytes in files that hold frames not yet in segments.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_files().map(|file| file.end).sum()
    }

    /// Whether more than half of the files hold frames not yet in segments.
    pub(crate) fn wants_flush(&self) -> bool {
        self.live_files().count() * 2 > self.files_max
    }

    fn live_files(&self) -> impl Iterator<Item = &OpenFile> {
        self.files
            .iter()
            .filter(|file| file.last.is_some_and(|last| last >= self.position))
    }
}

/// The largest payload of a frame in files of a size: at most 8 MiB, so that a group commit stays short.
pub(crate) fn payload_max_bytes(file_bytes: u64) -> usize {
    let fits = file_bytes.saturating_sub(2 * ALIGNMENT);
    fits.min(8 << 20) as usize
}

type LiveFrames = Vec<(usize, FramePlace)>;

/// Takes the payload of a commit.
type Replay<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), crate::codec::Malformed>;

/// Reads every file and hands the payloads from `position` on to `replay`, in order.
fn read_live(
    folder: &dyn LogFolder,
    position: u64,
    replay: Replay<'_>,
) -> Result<(u64, Vec<OpenFile>, LiveFrames), OpenError> {
    let (id, files, mut live) = read_files(folder, position)?;
    live.sort_by_key(|(_, frame)| frame.sequence);
    check_contiguous(folder, &files, &live, position)?;
    for (at, place) in &live {
        let file = &files[*at];
        let path = || folder.path(&file.name);
        let mut payload = vec![0; place.payload_bytes as usize];
        let begin = place.offset + frame::FRAME_HEADER_BYTES as u64;
        let read = file.file.read_at(&mut payload, begin);
        read.map_err(|error| OpenError::Io {
            path: path(),
            error,
        })?;
        replay(place.sequence, &payload).map_err(|malformed| OpenError::DamagedLog {
            file: path(),
            offset: place.offset,
            reason: malformed.to_string(),
        })?;
    }
    Ok((id, files, live))
}

/// What [`check`] read.
pub(crate) struct CheckedLog {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Reads the log as [`Log::open`] does, and changes nothing.
pub(crate) fn check(
    folder: &dyn LogFolder,
    position: u64,
    mut replay: impl FnMut(u64, &[u8]) -> Result<(), crate::codec::Malformed>,
) -> Result<CheckedLog, OpenError> {
    let (_, files, _) = read_live(folder, position, &mut replay)?;
    Ok(CheckedLog {
        files: files.len() as u64,
        bytes: files.iter().map(|file| file.bytes).sum(),
    })
}

/// Opens every file and finds the frames from `position` on.
fn read_files(
    folder: &dyn LogFolder,
    position: u64,
) -> Result<(u64, Vec<OpenFile>, LiveFrames), OpenError> {
    let io_error = |name: &str| {
        let path = folder.path(name);
        move |error: io::Error| OpenError::Io { path, error }
    };
    let mut names = folder.list().map_err(io_error(""))?;
    names.retain(|name| name.starts_with("log-"));
    names.sort();
    let mut id = None;
    let mut files = Vec::new();
    let mut live = Vec::new();
    for name in names {
        let file = folder.open(&name).map_err(io_error(&name))?;
        let bytes = file.len().map_err(io_error(&name))?;
        let mut content = vec![0; bytes as usize];
        file.read_at(&mut content, 0).map_err(io_error(&name))?;
        let damaged = |reason: &str| OpenError::DamagedLog {
            file: folder.path(&name),
            offset: 0,
            reason: reason.to_owned(),
        };
        let header = FileHeader::decode(&content).map_err(|error| damaged(error.0))?;
        if header.file_bytes != bytes {
            return Err(damaged("it is not as long as its header says"));
        }
        if *id.get_or_insert(header.log_id) != header.log_id {
            return Err(damaged("it belongs to another log"));
        }
        let frames = frame::scan(&content, header.log_id);
        let at = files.len();
        live.extend(
            frames
                .iter()
                .filter(|frame| frame.sequence >= position)
                .map(|frame| (at, *frame)),
        );
        files.push(OpenFile {
            name,
            file,
            bytes,
            end: frames.last().map_or(ALIGNMENT, FramePlace::end),
            last: frames.iter().map(|frame| frame.sequence).max(),
        });
    }
    Ok((id.unwrap_or_else(random_id), files, live))
}

/// An id that senders cannot guess.
fn random_id() -> u64 {
    // std seeds its hashers from the operating system's random numbers.
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// Frames from `position` on have to follow each other without a gap.
fn check_contiguous(
    folder: &dyn LogFolder,
    files: &[OpenFile],
    live: &[(usize, FramePlace)],
    position: u64,
) -> Result<(), OpenError> {
    // Where the missing frame should begin, as well as that can be known.
    let mut place: Option<(PathBuf, u64)> = None;
    for (wanted, (at, frame)) in (position..).zip(live) {
        let file = folder.path(&files[*at].name);
        if frame.sequence != wanted {
            let (file, offset) = place.unwrap_or((file, frame.offset));
            return Err(OpenError::DamagedLog {
                file,
                offset,
                reason: format!(
                    "commit {wanted} is damaged, missing or there twice, though commit {} is whole",
                    frame.sequence
                ),
            });
        }
        place = Some((file, frame.end()));
    }
    Ok(())
}
