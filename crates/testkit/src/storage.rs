//! A file system in memory that fails as real ones do.
//!
//! [`FaultStorage`] implements core's [`Storage`] and remembers, for each file, what has been synced and what has only
//! been written, and for each folder, which names have been synced. A test can
//!
//! - let the machine lose power with [`FaultStorage::crash`]: what was synced is there afterwards, and of the rest an
//!   arbitrary part, in sectors of 512 bytes and in any order; names that were not synced with their folder may be
//!   missing, or old;
//! - let only the process die with [`FaultStorage::kill`], or go two ways from here with [`FaultStorage::fork`];
//! - stop everything at a step with [`FaultStorage::halt_at`], so that a crash can be tried at every step in turn;
//! - let one step fail, or all from there on, with [`FaultStorage::fail_at`] and [`FaultStorage::fail_from`];
//! - set a [`FaultStorage::set_capacity`], hold syncs back with [`FaultStorage::hold_syncs`], and damage bytes at rest
//!   with [`FaultStorage::damage`].
//!
//! A step is one call that changes something: creating a file, writing, cutting, syncing, renaming, removing. Reading
//! is no step; [`FaultStorage::fail_reads`] makes it fail. The same seed and the same calls give the same result.
//!
//! The way to try every step:
//!
//! ```
//! use actlog_core::{OpenMode, Storage};
//! use actlog_testkit::storage::FaultStorage;
//! use std::path::Path;
//!
//! let work = |storage: &FaultStorage| -> std::io::Result<()> {
//!     let file = storage.open(Path::new("d/a"), OpenMode::Create)?;
//!     file.write_all_at(b"hello", 0)?;
//!     file.sync()?;
//!     storage.sync_directory(Path::new("d"))
//! };
//! let complete = FaultStorage::new(1);
//! complete.create_directories(Path::new("d"))?;
//! let before = complete.steps();
//! work(&complete)?;
//! for step in before..complete.steps() {
//!     let storage = FaultStorage::new(1);
//!     storage.create_directories(Path::new("d"))?;
//!     storage.halt_at(step);
//!     assert!(work(&storage).is_err());
//!     let survivor = storage.crash(step);
//!     assert!(matches!(survivor.length(Path::new("d/a"))?, None | Some(0..=5)));
//! }
//! assert_eq!(complete.crash(7).read(Path::new("d/a"), 10)?, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use actlog_core::{FileEntry, OpenMode, Storage, StorageFile};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a disk writes at once: a crash leaves the old or the new content of each sector.
pub const SECTOR: usize = 512;

/// How a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error of the device. A write may have taken effect in part. A sync may have too, and what it did not reach
    /// will never become durable by syncing again, though it can be read until the crash, as on Linux.
    Eio,
    /// No space left. A write may have taken effect in part; a sync behaves as with [`Fault::Eio`].
    Enospc,
    /// A sync reports success and does nothing, now or later: a disk that lies. No program can keep its promises on
    /// it; this is here to prove that a test notices broken promises. Other steps are carried out as usual.
    SyncLies,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Eio => io::Error::other("input/output error (injected)"),
            Self::Enospc => io::Error::new(io::ErrorKind::StorageFull, "no space left on device (injected)"),
            Self::SyncLies => io::Error::other("this fault gives no error"),
        }
    }
}

/// The file system; clones are handles of the same one.
#[derive(Clone, Debug)]
pub struct FaultStorage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in another thread of the test is that test's failure; the state is whole between calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct State {
    rng: ChaCha8Rng,
    files: Vec<FileState>,
    directories: BTreeSet<PathBuf>,
    names: Names,
    durable_names: Names,
    pending_names: BTreeMap<PathBuf, Vec<NameChange>>,
    capacity: Option<u64>,
    steps: u64,
    halt_at: Option<u64>,
    faults: BTreeMap<u64, Fault>,
    fault_from: Option<(u64, Fault)>,
    reads_fail: bool,
    syncs_held: bool,
    syncs_waiting: usize,
}

/// Paths of files, and their places in [`State::files`].
type Names = BTreeMap<PathBuf, usize>;

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(path, file) => drop(names.insert(path.clone(), *file)),
            Self::Unlink(path) => drop(names.remove(path)),
            Self::Rename(from, to, file) => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLength(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                if content.len() < offset + bytes.len() {
                    content.resize(offset + bytes.len(), 0);
                }
                content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Self::SetLength(length) => content.resize(*length, 0),
        }
    }

    /// Applies an arbitrary part: whole sectors of a write, in any selection; the file's length in full or only as far
    /// as the sectors that were written.
    fn apply_partly(&self, content: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
        let Self::Write { offset, bytes } = self else {
            if rng.random_bool(0.5) {
                self.apply(content);
            }
            return;
        };
        // Nothing, all, the beginning, or any sectors.
        let way = rng.random_range(0..4);
        let end = offset + bytes.len();
        let beginning = rng.random_range(*offset..=end) / SECTOR * SECTOR;
        let mut from = *offset;
        while from < end {
            let to = end.min((from / SECTOR + 1) * SECTOR);
            let kept = match way {
                0 => false,
                1 => true,
                2 => to <= beginning,
                _ => rng.random_bool(0.5),
            };
            if kept {
                Self::Write { offset: from, bytes: bytes[from - offset..to - offset].to_vec() }.apply(content);
            }
            from = to;
        }
        if content.len() < end && rng.random_bool(0.25) {
            content.resize(end, 0);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct FileState {
    /// What a crash can't take away.
    durable: Vec<u8>,
    /// What came since the last sync.
    pending: Vec<Change>,
    /// What readers see.
    content: Vec<u8>,
    /// Which sectors take up space; those of holes don't.
    allocated: Vec<bool>,
    /// The step of the last change.
    modified: u64,
}

impl FileState {
    fn change(&mut self, change: Change, step: u64) {
        change.apply(&mut self.content);
        self.allocated.resize(self.content.len().div_ceil(SECTOR), false);
        if let Change::Write { offset, bytes } = &change
            && !bytes.is_empty()
        {
            self.allocated[offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR)].fill(true);
        }
        self.pending.push(change);
        self.modified = step;
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    fn lose_pending(&mut self, rng: &mut ChaCha8Rng) {
        for change in self.pending.drain(..) {
            change.apply_partly(&mut self.durable, rng);
        }
    }

    fn space(&self) -> u64 {
        (self.allocated.iter().filter(|sector| **sector).count() * SECTOR) as u64
    }

    /// Bytes that a write would need and the file does not have yet.
    fn growth(&self, offset: usize, length: usize) -> u64 {
        let sectors = offset / SECTOR..(offset + length).div_ceil(SECTOR);
        (sectors.filter(|sector| !self.allocated.get(*sector).copied().unwrap_or(false)).count() * SECTOR) as u64
    }
}

/// What a step is allowed to do.
enum Go {
    On,
    Fail(Fault),
    Lie,
}

impl State {
    /// Counts a step, and says what becomes of it.
    fn step(&mut self) -> io::Result<Go> {
        if self.halt_at.is_some_and(|halt| self.steps >= halt) {
            return Err(halted());
        }
        let step = self.steps;
        self.steps += 1;
        let always = self.fault_from.filter(|(from, _)| step >= *from).map(|(_, fault)| fault);
        Ok(match self.faults.remove(&step).or(always) {
            None => Go::On,
            Some(Fault::SyncLies) => Go::Lie,
            Some(fault) => Go::Fail(fault),
        })
    }

    /// A step that fails without effect.
    fn step_or_fail(&mut self) -> io::Result<()> {
        match self.step()? {
            Go::Fail(fault) => Err(fault.error()),
            Go::On | Go::Lie => Ok(()),
        }
    }

    fn reading(&self) -> io::Result<()> {
        if self.halt_at.is_some_and(|halt| self.steps >= halt) {
            return Err(halted());
        }
        if self.reads_fail { Err(Fault::Eio.error()) } else { Ok(()) }
    }

    fn name_change(&mut self, directory: &Path, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.entry(directory.to_owned()).or_default().push(change);
    }

    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].space()).sum()
    }

    fn available(&self) -> u64 {
        self.capacity.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(self.used()))
    }

    fn file(&mut self, path: &Path) -> io::Result<&mut FileState> {
        match self.names.get(path) {
            Some(file) => Ok(&mut self.files[*file]),
            None => Err(missing(path)),
        }
    }
}

impl FaultStorage {
    /// An empty file system with the folder `/` and the current one, without faults and without a limit of space.
    pub fn new(seed: u64) -> Self {
        Self::with_state(State {
            rng: ChaCha8Rng::seed_from_u64(seed),
            files: Vec::new(),
            directories: [PathBuf::from("/"), PathBuf::new()].into(),
            names: Names::new(),
            durable_names: Names::new(),
            pending_names: BTreeMap::new(),
            capacity: None,
            steps: 0,
            halt_at: None,
            faults: BTreeMap::new(),
            fault_from: None,
            reads_fail: false,
            syncs_held: false,
            syncs_waiting: 0,
        })
    }

    fn with_state(state: State) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::new(state), released: Condvar::new() }) }
    }

    /// The power fails now: what survives, as a new file system with no faults set and the same capacity. This one is
    /// halted. `seed` chooses what becomes of all that was not synced.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut state = self.shared.lock();
        state.halt_at = Some(0);
        state.syncs_held = false;
        self.shared.released.notify_all();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut names = state.durable_names.clone();
        for changes in state.pending_names.values() {
            let all = rng.random_bool(0.5);
            for change in changes {
                if all || rng.random_bool(0.5) {
                    change.apply(&mut names);
                }
            }
        }
        let mut files = state.files.clone();
        for file in &mut files {
            file.lose_pending(&mut rng);
            file.content = file.durable.clone();
            // Which of the holes were written to is forgotten: what is there takes up space.
            file.allocated = vec![true; file.content.len().div_ceil(SECTOR)];
        }
        let survivor = Self::new(seed);
        {
            let mut new = survivor.shared.lock();
            new.files = files;
            new.directories = state.directories.clone();
            new.durable_names = names.clone();
            new.names = names;
            new.capacity = state.capacity;
            new.steps = state.steps;
        }
        survivor
    }

    /// The process is killed now, the machine stays up: all that was written is there, synced or not. This file
    /// system is halted.
    #[must_use]
    pub fn kill(&self) -> Self {
        let survivor = self.fork();
        let mut state = self.shared.lock();
        state.halt_at = Some(0);
        state.syncs_held = false;
        self.shared.released.notify_all();
        survivor
    }

    /// A copy of its own, with what is synced and what is not, without faults; this one goes on.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.shared.lock();
        let copy = Self::new(state.steps);
        {
            let mut new = copy.shared.lock();
            new.files = state.files.clone();
            new.directories = state.directories.clone();
            new.names = state.names.clone();
            new.durable_names = state.durable_names.clone();
            new.pending_names = state.pending_names.clone();
            new.capacity = state.capacity;
            new.steps = state.steps;
        }
        copy
    }

    /// Steps taken so far; the number of the next one. A survivor of a crash goes on counting.
    pub fn steps(&self) -> u64 {
        self.shared.lock().steps
    }

    /// From this step on nothing works any more, as when the process is dead. To be followed by [`Self::crash`].
    pub fn halt_at(&self, step: u64) {
        self.shared.lock().halt_at = Some(step);
    }

    /// Whether a step was refused or will be, because of [`Self::halt_at`].
    pub fn is_halted(&self) -> bool {
        let state = self.shared.lock();
        state.halt_at.is_some_and(|halt| state.steps >= halt)
    }

    /// Lets one step fail.
    pub fn fail_at(&self, step: u64, fault: Fault) {
        self.shared.lock().faults.insert(step, fault);
    }

    /// Lets all steps fail from this one on, until [`Self::clear_faults`].
    pub fn fail_from(&self, step: u64, fault: Fault) {
        self.shared.lock().fault_from = Some((step, fault));
    }

    /// Lets reading fail, or no more.
    pub fn fail_reads(&self, fail: bool) {
        self.shared.lock().reads_fail = fail;
    }

    /// Takes back all faults, not [`Self::halt_at`].
    pub fn clear_faults(&self) {
        let mut state = self.shared.lock();
        state.faults.clear();
        state.fault_from = None;
        state.reads_fail = false;
    }

    /// The bytes that all files together may take up, in whole sectors; no limit: none. Holes take up nothing.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.shared.lock().capacity = capacity;
    }

    /// The bytes that all files together take up, in whole sectors.
    pub fn used(&self) -> u64 {
        self.shared.lock().used()
    }

    /// While held, a sync of a file waits; so a test can look at what happens before durability.
    pub fn hold_syncs(&self, held: bool) {
        self.shared.lock().syncs_held = held;
        self.shared.released.notify_all();
    }

    /// How many syncs are waiting because of [`Self::hold_syncs`].
    pub fn syncs_waiting(&self) -> usize {
        self.shared.lock().syncs_waiting
    }

    /// Changes one byte at rest, by exclusive or with `mask`, in what readers see and in what survives a crash.
    /// Bytes beyond the end are left alone.
    ///
    /// # Errors
    /// `NotFound` when there is no such file.
    pub fn damage(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let mut state = self.shared.lock();
        let file = state.file(path)?;
        file.sync();
        for content in [&mut file.content, &mut file.durable] {
            if let Some(byte) = usize::try_from(offset).ok().and_then(|offset| content.get_mut(offset)) {
                *byte ^= mask;
            }
        }
        Ok(())
    }

    /// Puts a file there, durably, with its name, without counting steps.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut state = self.shared.lock();
        let file = FileState {
            durable: content.to_vec(),
            content: content.to_vec(),
            allocated: vec![true; content.len().div_ceil(SECTOR)],
            pending: Vec::new(),
            modified: state.steps,
        };
        let place = state.files.len();
        state.files.push(file);
        state.names.insert(path.to_owned(), place);
        state.durable_names.insert(path.to_owned(), place);
        for directory in path.ancestors().skip(1) {
            state.directories.insert(directory.to_owned());
        }
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

fn halted() -> io::Error {
    io::Error::other("the machine is halted (injected)")
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn too_large<E>(_: E) -> io::Error {
    io::Error::from(io::ErrorKind::FileTooLarge)
}

impl Storage for FaultStorage {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.shared.lock();
        let place = match (state.names.get(path).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(place), _) => {
                state.reading()?;
                place
            }
            (None, OpenMode::Read | OpenMode::Write) => return Err(missing(path)),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                if !state.directories.contains(parent(path)) {
                    return Err(missing(parent(path)));
                }
                state.step_or_fail()?;
                let place = state.files.len();
                let modified = state.steps;
                state.files.push(FileState { modified, ..FileState::default() });
                state.name_change(parent(path), NameChange::Link(path.to_owned(), place));
                place
            }
        };
        Ok(Box::new(FaultFile { shared: Arc::clone(&self.shared), place, writable: mode != OpenMode::Read }))
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.lock();
        if !state.directories.contains(path) {
            state.step_or_fail()?;
        }
        for directory in path.ancestors() {
            state.directories.insert(directory.to_owned());
        }
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<FileEntry>> {
        let state = self.shared.lock();
        state.reading()?;
        let time = |step| SystemTime::UNIX_EPOCH + Duration::from_secs(step);
        let files = state.names.iter().map(|(path, file)| (path, Some(&state.files[*file])));
        let folders = state.directories.iter().map(|path| (path, None));
        let mut entries: Vec<_> = files
            .chain(folders)
            .filter(|(path, _)| path.parent() == Some(directory))
            .map(|(path, file)| FileEntry {
                path: path.clone(),
                is_directory: file.is_none(),
                length: file.map_or(0, |file| file.content.len() as u64),
                modified: time(file.map_or(0, |file| file.modified)),
            })
            .collect();
        entries.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(entries)
    }

    fn length(&self, path: &Path) -> io::Result<Option<u64>> {
        let state = self.shared.lock();
        state.reading()?;
        Ok(state.names.get(path).map(|file| state.files[*file].content.len() as u64))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.shared.lock();
        let Some(place) = state.names.get(from).copied() else { return Err(missing(from)) };
        if !state.directories.contains(parent(to)) {
            return Err(missing(parent(to)));
        }
        state.step_or_fail()?;
        if parent(from) == parent(to) {
            state.name_change(parent(from), NameChange::Rename(from.to_owned(), to.to_owned(), place));
        } else {
            state.name_change(parent(to), NameChange::Link(to.to_owned(), place));
            state.name_change(parent(from), NameChange::Unlink(from.to_owned()));
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.lock();
        if !state.names.contains_key(path) {
            return Err(missing(path));
        }
        state.step_or_fail()?;
        state.name_change(parent(path), NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.lock();
        if !state.directories.contains(path) {
            return Err(missing(path));
        }
        match state.step()? {
            Go::Fail(fault) => return Err(fault.error()),
            Go::Lie => return Ok(()),
            Go::On => {}
        }
        for change in state.pending_names.remove(path).unwrap_or_default() {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn available_space(&self, _: &Path) -> io::Result<u64> {
        let state = self.shared.lock();
        state.reading()?;
        Ok(state.available())
    }
}

#[derive(Debug)]
struct FaultFile {
    shared: Arc<Shared>,
    place: usize,
    writable: bool,
}

impl FaultFile {
    fn lock_for_writing(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.writable { Ok(self.shared.lock()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl StorageFile for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.shared.lock();
        state.reading()?;
        let content = &state.files[self.place].content;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let length = buffer.len().min(content.len() - from);
        buffer[..length].copy_from_slice(&content[from..from + length]);
        Ok(length)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(too_large)?;
        let mut guard = self.lock_for_writing()?;
        let state = &mut *guard;
        let mut fault = match state.step()? {
            Go::Fail(fault) => Some(fault),
            Go::On | Go::Lie => None,
        };
        if fault.is_none() && state.files[self.place].growth(offset, bytes.len()) > state.available() {
            fault = Some(Fault::Enospc);
        }
        let room = state.available();
        let file = &mut state.files[self.place];
        let mut written = bytes.len();
        if fault.is_some() {
            written = state.rng.random_range(0..=bytes.len());
            while file.growth(offset, written) > room {
                written = written.saturating_sub(SECTOR);
            }
        }
        if written > 0 {
            file.change(Change::Write { offset, bytes: bytes[..written].to_vec() }, state.steps);
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.shared.lock();
        guard.syncs_waiting += 1;
        while guard.syncs_held {
            guard = self.shared.released.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        guard.syncs_waiting -= 1;
        let state = &mut *guard;
        let go = state.step()?;
        let file = &mut state.files[self.place];
        match go {
            Go::On => file.sync(),
            Go::Lie => file.pending.clear(),
            Go::Fail(fault) => {
                file.lose_pending(&mut state.rng);
                return Err(fault.error());
            }
        }
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(too_large)?;
        let mut state = self.lock_for_writing()?;
        state.step_or_fail()?;
        let step = state.steps;
        state.files[self.place].change(Change::SetLength(length), step);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.shared.lock();
        state.reading()?;
        Ok(state.files[self.place].content.len() as u64)
    }
}
