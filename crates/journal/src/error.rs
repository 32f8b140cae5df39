//! What can go wrong.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why data is refused at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// The segments have reached the disk budget: a sink must catch up, or the budget must grow.
    Budget,
    /// The disk is full; the reserve has been given up for cursors and statements.
    DiskFull,
    /// The last group could not be written, for another reason than space. Batches are still taken and tried.
    Failing,
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Budget => "the journal has reached its disk budget",
            Self::DiskFull => "the disk is full",
            Self::Failing => "the journal could not be written",
        })
    }
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Data is refused for the time being.
    #[error("{pressure}; try again in {} s", retry_after.as_secs())]
    Full {
        /// Why.
        pressure: Pressure,
        /// When to try again.
        retry_after: Duration,
    },
    /// The queue is full; only from [`try_submit`](crate::Journal::try_submit).
    #[error("the journal's queue is full")]
    Busy,
    /// The batch can't be written whenever it is tried.
    #[error("{0}")]
    TooLarge(String),
    /// The journal was shut down.
    #[error("the journal is closed")]
    Closed,
}

/// Why a batch that was taken did not become durable. It may nevertheless turn up after a crash; the records' ids tell
/// that it is the same.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Writing or syncing failed. The next group is tried in a new segment.
    #[error("writing the journal failed: {0}")]
    Storage(Arc<io::Error>),
    /// The disk or the budget was full when the batch's turn came.
    #[error("{0}")]
    Full(Pressure),
    /// The states, together with those that there are, would have too many keys or too many bytes.
    #[error("{0}")]
    TooLarge(String),
    /// An earlier batch that set the same state failed: see [`Batch::mend`](crate::Batch::mend).
    #[error("an earlier batch of the same source could not be written")]
    Broken,
    /// The journal was shut down before the batch's turn came.
    #[error("the journal is closed")]
    Closed,
}

/// Why the journal can't be opened, inspected or repaired.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The storage gave an error.
    #[error("{action} {}: {source}", path.display())]
    Storage {
        /// What was tried, such as `reading`.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The storage's error.
        #[source]
        source: io::Error,
    },
    /// A segment was written by a version of actlog that this one does not know.
    #[error("{} has format version {version}, this actlog reads {known} only: use a newer one", path.display(), known = crate::format::VERSION)]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The first group could not be written.
    #[error("the journal in {} can't be written: {source}", directory.display())]
    Begin {
        /// The journal's folder.
        directory: PathBuf,
        /// Why.
        #[source]
        source: CommitError,
    },
}

impl JournalError {
    /// Adds what was tried and where.
    pub(crate) fn storage(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Storage { action, path, source }
    }
}

/// Why entries can't be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {}: {source}", path.display())]
pub struct ReadError {
    /// The segment.
    pub path: PathBuf,
    /// The storage's error.
    #[source]
    pub source: io::Error,
}
