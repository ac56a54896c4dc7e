//! What a read returns.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;

/// The series that matched, sorted by labels, each at most once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Series with at least one sample in the range.
    pub series: Vec<SelectedSeries>,
    /// What could not be read; samples of it are missing. At most [`DAMAGES_MAX`].
    pub damages: Vec<Damage>,
}

/// One series with its samples in the range.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedSeries {
    /// Its labels.
    pub labels: Labels,
    /// What it measures.
    pub kind: MetricKind,
    /// Its unit as the sender wrote it; empty when unknown.
    pub unit: Arc<str>,
    /// Times in milliseconds since the epoch, strictly increasing. Shared by series that were measured together.
    pub times_ms: Arc<[i64]>,
    /// As many values; stale markers are among them (see [`crate::is_stale`]).
    pub values: Vec<f64>,
}

/// What was found, and what of it may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found<T> {
    /// What was found.
    pub found: T,
    /// What could not be read. At most [`DAMAGES_MAX`].
    pub damages: Vec<Damage>,
}

/// What is known of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricMetadata {
    /// What it measures.
    pub kind: MetricKind,
    /// Its unit as the sender wrote it; empty when unknown.
    pub unit: Arc<str>,
}

/// A read names this many damaged places; a person needs one to act.
pub const DAMAGES_MAX: usize = 16;

/// A place of a file that does not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file.
    pub file: PathBuf,
    /// Which part of it, such as `integer values`.
    pub section: &'static str,
    /// Where the damaged page begins.
    pub offset: u64,
    /// When it is the checksum that tells.
    pub checksums: Option<Checksums>,
    /// What is wrong.
    pub reason: String,
}

/// CRC-32C of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// When it was written.
    pub expected: u32,
    /// Now.
    pub found: u32,
}

impl Damage {
    /// For those who may see the data but not where the server keeps it: the file's name without its folder.
    pub fn without_folder(&self) -> String {
        let name = self.file.file_name().unwrap_or(self.file.as_os_str());
        let mut short = self.clone();
        short.file = PathBuf::from(name);
        short.to_string()
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, section, offset) = (self.file.display(), self.section, self.offset);
        write!(
            f,
            "{file} is damaged in its {section} at byte {offset}: {}",
            self.reason
        )?;
        if let Some(Checksums { expected, found }) = self.checksums {
            write!(f, " ({found:08x} instead of {expected:08x})")?;
        }
        Ok(())
    }
}

/// A read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// More samples match than one read may return.
    #[error("the query reads more than {max} samples: shorten its range or select fewer series")]
    TooManySamples {
        /// [`crate::TenantLimits::select_samples_max`].
        max: u64,
    },
    /// More series match than one read may return.
    #[error("the query selects more than {max} series: add matchers")]
    TooManySeries {
        /// [`crate::TenantLimits::select_series_max`].
        max: u64,
    },
    /// A segment is damaged; other segments can be read.
    #[error("{0}; restore the file or remove it from the catalog")]
    Damaged(Damage),
    /// A segment could not be read.
    #[error("cannot read {}: {error}", .file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

impl ReadError {
    /// As something to be reported while the rest is read.
    ///
    /// # Errors
    /// When it is a limit, which ends the read.
    pub(crate) fn into_damage(self) -> Result<Damage, ReadError> {
        match self {
            ReadError::Damaged(damage) => Ok(damage),
            ReadError::Io { file, error } => Ok(Damage {
                file,
                section: "file",
                offset: 0,
                checksums: None,
                reason: format!("it cannot be read: {error}"),
            }),
            limit => Err(limit),
        }
    }
}

/// Samples that a read may still return.
#[derive(Debug)]
pub(crate) struct SampleBudget {
    pub(crate) left: u64,
    pub(crate) max: u64,
}

impl SampleBudget {
    pub(crate) fn take(&mut self, samples: usize) -> Result<(), ReadError> {
        match self.left.checked_sub(samples as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(ReadError::TooManySamples { max: self.max }),
        }
    }
}

/// Damage that a read came across: each place once.
#[derive(Debug, Default)]
pub(crate) struct Damages {
    found: Vec<Damage>,
}

impl Damages {
    /// Notes damage.
    ///
    /// # Errors
    /// When the error is a limit.
    pub(crate) fn note(&mut self, error: ReadError) -> Result<(), ReadError> {
        let damage = error.into_damage()?;
        if self.found.len() < DAMAGES_MAX && !self.found.contains(&damage) {
            tracing::error!(%damage, "telemetry cannot be read");
            self.found.push(damage);
        }
        Ok(())
    }

    /// For work that meets no limits.
    pub(crate) fn note_damage(&mut self, error: ReadError) {
        // A limit cannot come from where only pages are read.
        let _ = self.note(error);
    }

    pub(crate) fn into_list(self) -> Vec<Damage> {
        self.found
    }
}
