//! The data folder: its format, and the lock that keeps a second process out of it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The format of the data folder that this version reads and writes.
const FORMAT: &str = "actlog data 1\n";

/// Why the data folder can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process runs on it.
    #[error("{} is in use by another actlog process; stop it first, or use its control socket", .folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// It was written by another version.
    #[error("{}: the format {found:?} is not the one that this version of actlog uses ({:?})", .file.display(), FORMAT.trim())]
    Format {
        /// The file that carries the format.
        file: PathBuf,
        /// What it says.
        found: String,
    },
    /// It can't be read or written.
    #[error("{}: {error}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
}

/// The lock on a data folder, held until it is dropped (or the process ends, however it ends).
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Makes the folder if need be, locks it, and checks its format.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |error| LockError::File { path, error }
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file_error(folder))?;
        let path = folder.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(file_error(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::InUse { folder: folder.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(LockError::File { path, error }),
        }
        let path = folder.join("format");
        match std::fs::read_to_string(&path) {
            Ok(found) if found == FORMAT => {}
            Ok(found) => return Err(LockError::Format { file: path, found: found.trim().to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_durably(&path, FORMAT).map_err(file_error(&path))?
            }
            Err(error) => return Err(LockError::File { path, error }),
        }
        Ok(Self { _file: lock })
    }
}

/// Under another name first: a crash must not leave half a format behind.
fn write_durably(path: &Path, content: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_kept_out_until_the_first_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataLock::acquire(folder.path()).unwrap();
        assert!(matches!(DataLock::acquire(folder.path()), Err(LockError::InUse { .. })));
        drop(first);
        DataLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_of_another_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("format"), "actlog data 2\n").unwrap();
        let error = DataLock::acquire(folder.path()).unwrap_err().to_string();
        assert!(error.contains("actlog data 2") && error.contains("actlog data 1"), "{error}");
    }
}
