//! Log files in memory that lose what was not synced, hold syncs back, and fail when told to. For tests.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::folder::{LogFile, LogFolder};

/// A disk writes these as a whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A folder whose files have a page cache and a disk beneath it.
#[derive(Clone, Default)]
pub(crate) struct SimulatedFolder {
    disk: Arc<Disk>,
}

#[derive(Default)]
struct Disk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Content>,
    is_holding: bool,
    waiting: usize,
    syncs: usize,
    fail_sync: Option<usize>,
}

#[derive(Clone, Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
}

impl SimulatedFolder {
    /// From now on syncs wait.
    pub(crate) fn hold_syncs(&self) {
        self.disk.state.lock().is_holding = true;
    }

    /// Lets waiting and later syncs go on.
    pub(crate) fn let_syncs_go(&self) {
        self.disk.state.lock().is_holding = false;
        self.disk.changed.notify_all();
    }

    /// Returns when a sync waits.
    pub(crate) fn wait_for_sync(&self) {
        let mut state = self.disk.state.lock();
        while state.waiting == 0 {
            self.disk.changed.wait(&mut state);
        }
    }

    /// The sync of this number (from now on, 0 is the next) and all after it fail; what they should have synced may
    /// be on the disk or not.
    pub(crate) fn fail_sync(&self, number: usize) {
        let mut state = self.disk.state.lock();
        state.fail_sync = Some(state.syncs + number);
    }

    /// What is left after a power cut now: everything synced, and of the rest the sectors that `is_written` says.
    pub(crate) fn after_power_cut(&self, mut is_written: impl FnMut() -> bool) -> SimulatedFolder {
        let state = self.disk.state.lock();
        let mut files = state.files.clone();
        for content in files.values_mut() {
            let sectors = content.cached.chunks(SECTOR_BYTES);
            for (durable, cached) in content.durable.chunks_mut(SECTOR_BYTES).zip(sectors) {
                if durable != cached && is_written() {
                    durable.copy_from_slice(cached);
                }
            }
            content.cached = content.durable.clone();
        }
        SimulatedFolder::with(files)
    }

    /// A copy with one bit of one byte flipped.
    pub(crate) fn with_flip(&self, name: &str, at: usize) -> SimulatedFolder {
        let mut files = self.disk.state.lock().files.clone();
        let content = files.get_mut(name).expect("the file is there");
        content.cached[at] ^= 0x40;
        content.durable = content.cached.clone();
        SimulatedFolder::with(files)
    }

    /// Names and content of the files, as a process sees them.
    pub(crate) fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let state = self.disk.state.lock();
        let files = state.files.iter();
        files
            .map(|(name, content)| (name.clone(), content.cached.clone()))
            .collect()
    }

    fn with(files: BTreeMap<String, Content>) -> SimulatedFolder {
        let state = State {
            files,
            ..State::default()
        };
        SimulatedFolder {
            disk: Arc::new(Disk {
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
        }
    }
}

impl LogFolder for SimulatedFolder {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("simulated").join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk.state.lock().files.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(SimulatedFile {
            disk: self.disk.clone(),
            name: name.to_owned(),
        }))
    }

    fn create(&self, name: &str, begin: &[u8], len: u64) -> io::Result<Box<dyn LogFile>> {
        let mut bytes = begin.to_vec();
        bytes.resize(len as usize, 0);
        let content = Content {
            cached: bytes.clone(),
            durable: bytes,
        };
        self.disk
            .state
            .lock()
            .files
            .insert(name.to_owned(), content);
        self.open(name)
    }
}

struct SimulatedFile {
    disk: Arc<Disk>,
    name: String,
}

impl SimulatedFile {
    fn with<T>(&self, f: impl FnOnce(&mut Content) -> Option<T>) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        let content = state.files.get_mut(&self.name);
        content
            .and_then(f)
            .ok_or_else(|| io::Error::other("outside of the file"))
    }
}

impl LogFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|content| Some(content.cached.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let at = offset as usize;
        self.with(|content| {
            buffer.copy_from_slice(content.cached.get(at..at + buffer.len())?);
            Some(())
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = offset as usize;
        self.with(|content| {
            let place = content.cached.get_mut(at..at + bytes.len())?;
            place.copy_from_slice(bytes);
            Some(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.waiting += 1;
        self.disk.changed.notify_all();
        while state.is_holding {
            self.disk.changed.wait(&mut state);
        }
        state.waiting -= 1;
        state.syncs += 1;
        if state.fail_sync.is_some_and(|number| state.syncs > number) {
            return Err(io::Error::other("the disk is broken"));
        }
        if let Some(content) = state.files.get_mut(&self.name) {
            content.durable = content.cached.clone();
        }
        Ok(())
    }
}
