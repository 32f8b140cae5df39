//! Files, as everything that must survive a crash uses them.
//!
//! All file access of the journal and of sinks goes through [`Storage`], so that tests can lose writes that were not
//! synced, tear sectors, return errors, and stop at every step. The implementation over the operating system is in the
//! journal crate; the fault-injecting one is the testkit's. Calls block: asynchronous code puts them on a blocking thread.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file for reading and writing, created when absent, readable by its owner only.
    Create,
    /// A new file for reading and writing, readable by its owner only; an error when it exists.
    CreateNew,
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// The full path.
    pub path: PathBuf,
    /// Whether it is a folder.
    pub is_directory: bool,
    /// Bytes, for files.
    pub length: u64,
    /// When it was last written to.
    pub modified: SystemTime,
}

/// A file system. Paths are used as they are.
pub trait Storage: Debug + Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// As the operating system gives them; `NotFound` and `AlreadyExists` as `mode` asks.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>>;

    /// Creates a folder and what is missing above it, accessible by their owner only. Durable when it returns.
    ///
    /// # Errors
    /// As the operating system gives them.
    fn create_directories(&self, path: &Path) -> io::Result<()>;

    /// What is in a folder, sorted by path; nothing when it does not exist.
    ///
    /// # Errors
    /// As the operating system gives them.
    fn list(&self, directory: &Path) -> io::Result<Vec<FileEntry>>;

    /// Length of the file; none when there is no such file.
    ///
    /// # Errors
    /// As the operating system gives them.
    fn length(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Gives a file another name, replacing what had it. Durable after [`Storage::sync_directory`].
    ///
    /// # Errors
    /// As the operating system gives them.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Storage::sync_directory`].
    ///
    /// # Errors
    /// As the operating system gives them; `NotFound` when there is none.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in the folder durable.
    ///
    /// # Errors
    /// As the operating system gives them.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Bytes that are free for us where the path lies.
    ///
    /// # Errors
    /// As the operating system gives them.
    fn available_space(&self, path: &Path) -> io::Result<u64>;

    /// Reads a whole file.
    ///
    /// # Errors
    /// As the operating system gives them; `FileTooLarge` above `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let length = file.length()?;
        if length > limit {
            let message = format!("{} has {length} bytes, more than the {limit} that are read", path.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        // The limit keeps the length within memory, and so within usize.
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Replaces a file's content so that after a crash either the old or the new one is there, whole.
    ///
    /// # Errors
    /// As the operating system gives them; the old content then stands, or (when only the last step, syncing the
    /// folder, failed) either.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let file = self.open(&temporary, OpenMode::Create)?;
        file.set_length(0)?;
        file.write_all_at(content, 0)?;
        file.sync()?;
        drop(file);
        self.rename(&temporary, path)?;
        match path.parent() {
            Some(parent) => self.sync_directory(parent),
            None => Ok(()),
        }
    }
}

/// An open file. Reads and writes name their place; there is no cursor.
pub trait StorageFile: Debug + Send + Sync {
    /// Reads up to `buffer.len()` bytes from `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// As the operating system gives them.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at `offset`, growing the file as needed. After an error any part may have been written.
    ///
    /// # Errors
    /// As the operating system gives them.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file's content and length durable (fdatasync). After an error nothing is known of what was written
    /// since the last success: never sync the same file again and take success for an answer.
    ///
    /// # Errors
    /// As the operating system gives them.
    fn sync(&self) -> io::Result<()>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// As the operating system gives them.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Bytes in the file.
    ///
    /// # Errors
    /// As the operating system gives them.
    fn length(&self) -> io::Result<u64>;
}
