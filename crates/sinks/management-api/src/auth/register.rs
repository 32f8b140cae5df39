//! The clients file while the sink runs: looked at with each use, read again when it has changed.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::clients::{Clients, MAXIMUM_FILE};

/// The registered clients, as the file says at present.
///
/// Invariant: a file that can't be used leaves the clients in force that were there before; it is reported once, and read
/// again when it changes.
#[derive(Debug)]
pub(crate) struct Register {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    clients: Arc<Clients>,
    stamp: Option<Stamp>,
    problem: Option<String>,
}

/// What tells one version of the file from the next. `actlog clients` replaces the file, which changes the inode; an
/// editor that writes into it changes the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Register {
    /// Reads the file. A file that can't be used registers nobody, and is a [`Register::problem`].
    pub(crate) fn open(path: PathBuf) -> Self {
        let register = Self { path, state: Mutex::default() };
        let mut state = State::default();
        register.load(&mut state, register.stamp().ok());
        *register.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        register
    }

    /// The clients that are registered at this moment. One look at the file's metadata; its content is read when that
    /// has changed.
    pub(crate) fn clients(&self) -> Arc<Clients> {
        self.refreshed(|state| Arc::clone(&state.clients))
    }

    /// What is wrong with the file.
    pub(crate) fn problem(&self) -> Option<String> {
        self.refreshed(|state| state.problem.clone())
    }

    fn refreshed<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        // Taken before the content is read: a change between the two is then seen at the next look.
        let stamp = self.stamp().ok();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp != state.stamp {
            self.load(&mut state, stamp);
        }
        look(&state)
    }

    fn stamp(&self) -> std::io::Result<Stamp> {
        fs::metadata(&self.path).map(|metadata| Stamp::of(&metadata))
    }

    fn load(&self, state: &mut State, stamp: Option<Stamp>) {
        let path = self.path.display();
        state.stamp = stamp;
        match read(&self.path) {
            Ok(clients) => {
                tracing::info!(%path, clients = clients.iter().count(), "the clients file was read");
                (state.clients, state.problem) = (Arc::new(clients), None);
            }
            Err(problem) => {
                let kept = state.clients.iter().count();
                tracing::error!(%path, problem, kept, "the clients file can't be used; those of before stay registered");
                state.problem = Some(format!("{path}: {problem}"));
            }
        }
    }
}

/// Reads and parses the file.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn read(path: &Path) -> Result<Clients, String> {
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file; `actlog clients add` makes it".to_owned(),
        _ => error.to_string(),
    })?;
    if !metadata.is_file() || metadata.len() > MAXIMUM_FILE {
        return Err(format!("is no file of at most {MAXIMUM_FILE} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    Clients::parse(&text)
}
