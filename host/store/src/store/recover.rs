//! Opens a store: checks the folder against the catalog and rebuilds the head from the log.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use shoal_model::{TenantId, Timestamp};

use super::flush::segment_folder_of;
use super::shared::Shared;
use super::{OpenError, Recovered};
use crate::catalog::{CatalogState, SegmentRecord};
use crate::codec::{Malformed, Reader};
use crate::head::SLOTS_MAX;
use crate::head::replay::HeadReplay;
use crate::log::Log;
use crate::log::folder::{LogFolder, names};
use crate::log::record::LoggedRecord;
use crate::options::StoreOptions;
use crate::read::{Damage, ReadError};

/// A store's parts before its thread and task are started.
pub(crate) struct Opened {
    pub(crate) shared: Shared,
    pub(crate) log: Log,
    pub(crate) next_segment: u64,
    pub(crate) lock: File,
    pub(crate) recovered: Recovered,
}

/// Takes the folder for this process.
pub(crate) fn lock_folder(folder: &Path) -> Result<File, OpenError> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let path = folder.join("lock");
    let file = File::create(&path).map_err(io_error(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            folder: folder.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(OpenError::Io { path, error }),
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    |error| OpenError::Io { path, error }
}

/// Refuses options that cannot work.
pub(crate) fn check(options: &StoreOptions) -> Result<(), OpenError> {
    let checks = [
        (
            "log_file_bytes",
            options.log_file_bytes,
            (64 << 10..=1 << 30).contains(&options.log_file_bytes)
                && options.log_file_bytes.is_multiple_of(4096),
            "a multiple of 4096 from 64 KiB to 1 GiB",
        ),
        (
            "log_files_max",
            u64::from(options.log_files_max),
            (2..=10_000).contains(&options.log_files_max),
            "from 2 to 10000",
        ),
        (
            "series_max",
            u64::from(options.series_max),
            (1..SLOTS_MAX).contains(&options.series_max),
            "from 1 to 67108863",
        ),
        (
            "in_flight_max_bytes",
            u64::from(options.in_flight_max_bytes),
            options.in_flight_max_bytes > 0,
            "at least 1",
        ),
        (
            "head_samples_max",
            options.head_samples_max,
            (1..=1 << 30).contains(&options.head_samples_max),
            "from 1 to 1073741824",
        ),
    ];
    for (option, value, is_good, wanted) in checks {
        if !is_good {
            return Err(OpenError::BadOption {
                option,
                value,
                wanted,
            });
        }
    }
    Ok(())
}

/// Reads everything there is. Blocks on the disk.
pub(crate) fn open(
    options: StoreOptions,
    state: CatalogState,
    now: Timestamp,
    log_folder: Arc<dyn LogFolder>,
    lock: File,
) -> Result<Opened, OpenError> {
    let folder = segment_folder_of(&options.folder);
    fs::create_dir_all(&folder).map_err(io_error(&folder))?;
    let damaged_segments = check_segments(&folder, &state)?;
    let shared = Shared::new(options, folder, now);
    let mut recovered = Recovered {
        segments: state.segments.len() as u64,
        damaged_segments,
        ..Recovered::default()
    };
    let options = &shared.options;
    let mut replay = Replay {
        shared: &shared,
        recovered: &mut recovered,
        heads: HashMap::new(),
    };
    let (log, commits) = Log::open(
        log_folder,
        options.log_file_bytes,
        options.log_files_max as usize,
        state.log_position,
        |_, payload| replay.take(payload),
    )?;
    replay.finish();
    recovered.commits = commits;
    if log.is_new() && state.log_position > 0 {
        tracing::warn!(
            log.position = state.log_position,
            "the log's files are gone: what was in them and not yet in a segment is lost"
        );
    }
    shared.series.store(recovered.series, Relaxed);
    // Only now: a catalog that does not belong to this folder has been noticed by its log. And not when files are
    // missing: what is left may be what somebody is restoring.
    if damaged_segments == 0 {
        recovered.orphans = remove_orphans(&shared.segment_folder, &state)?;
    }
    let next_segment = state.next_segment;
    let mut segments: Vec<_> = state.segments.into_iter().map(Arc::new).collect();
    segments.sort_by_key(|segment| (segment.end_sequence, segment.id));
    *shared.segments.write() = segments;
    Ok(Opened {
        shared,
        log,
        next_segment,
        lock,
        recovered,
    })
}

/// What a replay of the log has come to.
struct Replay<'a> {
    shared: &'a Shared,
    recovered: &'a mut Recovered,
    heads: HashMap<TenantId, HeadReplay>,
}

impl Replay<'_> {
    fn take(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        // All of the log is one epoch until the next flush.
        let epoch = self.shared.gate.read().epoch;
        let mut reader = Reader::new(payload);
        while !reader.is_empty() {
            let record = LoggedRecord::decode(&mut reader)?;
            let head = self.heads.entry(record.tenant).or_default();
            head.replay(&record, epoch, &self.shared.serials)?;
            let samples = record.slots.len() as u64;
            self.shared.note_samples(samples, record.received);
            self.recovered.samples += samples;
            self.recovered.usage += record.usage.len() as u64;
            self.shared.add_usage(record.tenant, record.usage);
        }
        Ok(())
    }

    /// Gives the heads to their tenants.
    fn finish(self) {
        for (id, head) in self.heads {
            let head = head.finish();
            self.recovered.series += head.series_count() as u64;
            *self.shared.tenant(id).head.write() = head;
        }
    }
}

/// Counts the segments of the catalog that are missing or cut short; reads leave them out. When all are missing it is
/// the folder that is: a disk that is not mounted, or another server's catalog.
fn check_segments(folder: &Path, state: &CatalogState) -> Result<u64, OpenError> {
    let mut damaged = 0;
    let mut missing = 0;
    for segment in &state.segments {
        let Err(error) = check_segment_file(folder, segment) else {
            continue;
        };
        tracing::error!(%error, "a segment is damaged: its samples are missing from queries");
        damaged += 1;
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        missing += u64::from(matches!(&error, ReadError::Io { error, .. } if is_missing(error)));
        if missing == state.segments.len() as u64 {
            return Err(OpenError::Segment(error));
        }
    }
    Ok(damaged)
}

/// Whether a segment of the catalog is there, as long as it was.
pub(crate) fn check_segment_file(folder: &Path, segment: &SegmentRecord) -> Result<(), ReadError> {
    let path = folder.join(&segment.file_name);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() == segment.bytes => Ok(()),
        Ok(metadata) => Err(ReadError::Damaged(Damage {
            file: path,
            section: "file",
            offset: metadata.len().min(segment.bytes),
            checksums: None,
            reason: format!(
                "it has {} bytes, the catalog says {}",
                metadata.len(),
                segment.bytes
            ),
        })),
        Err(error) => Err(ReadError::Io { file: path, error }),
    }
}

fn remove_orphans(folder: &Path, state: &CatalogState) -> Result<u64, OpenError> {
    let known: HashSet<&str> = state
        .segments
        .iter()
        .map(|segment| &*segment.file_name)
        .collect();
    let mut removed = 0;
    for name in names(folder).map_err(io_error(folder))? {
        if !known.contains(&*name) {
            let path: PathBuf = folder.join(name);
            fs::remove_file(&path).map_err(io_error(&path))?;
            removed += 1;
        }
    }
    Ok(removed)
}
