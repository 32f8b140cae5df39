//! Which records and contents were seen lately: exactly, in little memory, and in step with the position.
//!
//! A key is 16 bytes of a SHA-256, so keys are spread evenly and nobody chooses them. What came in lately is in memory
//! and in a log that is only appended to. From time to time the log is folded: its keys go into one sorted file for each
//! day on which their content was made available. A look-up asks the memory, and then each day's file with one read of
//! 4 KiB. Days that are too old are dropped whole.
//!
//! Nothing is ever changed in place. The [`Manifest`], which is committed with the source's position, names the files
//! and vouches for their lengths and checksums; what lies behind a length, and every file that is not named, is void. A
//! run never appends to the log of an earlier one. So a crash at any moment leaves exactly what the position says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actlog_core::{OpenMode, Storage, StorageFile, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What stands for a record's Id or a content id.
pub(crate) type Key = [u8; KEY];
const KEY: usize = 16;
/// A key and its day.
const LOG_ENTRY: usize = KEY + 4;
/// Keys that are read at once when one is looked for.
const BLOCK: usize = 256;
/// Bytes that are read or written at once when a whole file is.
const CHUNK: usize = 1 << 20;
/// Keys in memory, at most, before they have to be folded: some 11 MiB.
pub(crate) const RECENT: usize = 400_000;

/// The key of a record.
pub(crate) fn record_key(id: Uuid) -> Key {
    key(&[b"record", id.as_bytes()])
}

/// The key of a tenant's content.
pub(crate) fn content_key(tenant: Uuid, content_id: &str) -> Key {
    key(&[b"content", tenant.as_bytes(), content_id.as_bytes()])
}

fn key(parts: &[&[u8]]) -> Key {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    let mut key = [0; KEY];
    key.copy_from_slice(&digest[..KEY]);
    key
}

/// A file, as far as a position vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Its name.
    file: Uuid,
    /// Bytes of it that count.
    bytes: u64,
    /// CRC-32C of these.
    checksum: u32,
}

impl Part {
    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.ids", self.file))
    }
}

/// Everything that the index consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The sorted keys of each day (days since 1970).
    days: BTreeMap<u32, Part>,
    /// What came in since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<Part>,
}

/// The index.
#[derive(Debug)]
pub(crate) struct Seen {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    days: BTreeMap<u32, Run>,
    /// What is in the log, with the newest day of each.
    recent: HashMap<Key, u32>,
    log: Option<Log>,
    /// What the log is still to get.
    unwritten: Vec<u8>,
}

#[derive(Debug)]
struct Log {
    file: Box<dyn StorageFile>,
    part: Part,
}

impl Seen {
    /// Opens what a manifest names, and folds it, so that this run gets a log of its own. Besides the index, it gives
    /// what of it is lost: missing or damaged files, for a person to read.
    ///
    /// # Errors
    /// As the operating system gives them, with the path.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        folder: PathBuf,
        manifest: &Manifest,
        oldest: u32,
    ) -> io::Result<(Self, Vec<String>)> {
        storage.create_directories(&folder).map_err(|error| at(&folder, error))?;
        let mut lost = Vec::new();
        let mut days = BTreeMap::new();
        for (day, part) in &manifest.days {
            match Run::open(&*storage, &folder, *part)? {
                Ok(run) => drop(days.insert(*day, run)),
                Err(what) => lost.push(what),
            }
        }
        let mut recent = HashMap::new();
        if let Some(part) = &manifest.log {
            match read_log(&*storage, &folder, *part)? {
                Ok(entries) => recent = entries,
                Err(what) => lost.push(what),
            }
        }
        let mut seen = Self { storage, folder, days, recent, log: None, unwritten: Vec::new() };
        seen.fold(oldest)?;
        Ok((seen, lost))
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// As the operating system gives them, with the path.
    pub(crate) fn contains(&self, key: &Key) -> io::Result<bool> {
        Ok(self.day_of(key)?.is_some())
    }

    /// Adds a key that belongs to a day; false when it is there already. It then stays for as long as the newer of its
    /// days.
    ///
    /// # Errors
    /// As the operating system gives them, with the path.
    pub(crate) fn insert(&mut self, key: Key, day: u32) -> io::Result<bool> {
        let known = self.day_of(&key)?;
        if known.is_none_or(|known| known < day) {
            self.recent.insert(key, day);
            self.unwritten.extend_from_slice(&key);
            self.unwritten.extend_from_slice(&day.to_le_bytes());
        }
        Ok(known.is_none())
    }

    fn day_of(&self, key: &Key) -> io::Result<Option<u32>> {
        if let Some(day) = self.recent.get(key) {
            return Ok(Some(*day));
        }
        for (day, run) in self.days.iter().rev() {
            if run.contains(key).map_err(|error| at(&run.part.path(&self.folder), error))? {
                return Ok(Some(*day));
            }
        }
        Ok(None)
    }

    /// Makes durable what was added, and says what a position has to name.
    ///
    /// # Errors
    /// As the operating system gives them, with the path. The index is then to be opened anew.
    pub(crate) fn sync(&mut self) -> io::Result<Manifest> {
        if !self.unwritten.is_empty() {
            let mut log = match self.log.take() {
                Some(log) => log,
                None => self.begin_log()?,
            };
            let written = log.file.write_all_at(&self.unwritten, log.part.bytes).and_then(|()| log.file.sync());
            written.map_err(|error| at(&log.part.path(&self.folder), error))?;
            log.part.bytes += self.unwritten.len() as u64;
            log.part.checksum = crc32c::crc32c_append(log.part.checksum, &self.unwritten);
            self.unwritten.clear();
            self.log = Some(log);
        }
        Ok(self.manifest())
    }

    /// What a position has to name, as of the last [`Seen::sync`].
    pub(crate) fn manifest(&self) -> Manifest {
        let days = self.days.iter().map(|(day, run)| (*day, run.part)).collect();
        Manifest { days, log: self.log.as_ref().map(|log| log.part) }
    }

    fn begin_log(&self) -> io::Result<Log> {
        let part = Part { file: Uuid::new_v4(), bytes: 0, checksum: 0 };
        let path = part.path(&self.folder);
        let file = self.storage.open(&path, OpenMode::CreateNew).map_err(|error| at(&path, error))?;
        self.storage.sync_directory(&self.folder).map_err(|error| at(&self.folder, error))?;
        Ok(Log { file, part })
    }

    /// How many keys are in memory, and wait to be folded.
    pub(crate) fn recent(&self) -> usize {
        self.recent.len()
    }

    /// Moves what is in memory into the files of the days, and drops the days before `oldest`. The files that were in
    /// use before stay, until [`Seen::sweep`].
    ///
    /// To be called only when everything that was added is durable, in journal and index.
    ///
    /// # Errors
    /// As the operating system gives them, with the path. The index is then to be opened anew.
    pub(crate) fn fold(&mut self, oldest: u32) -> io::Result<()> {
        let mut new = BTreeMap::<u32, Vec<Key>>::new();
        for (key, day) in self.recent.drain() {
            new.entry(day).or_default().push(key);
        }
        self.days.retain(|day, _| *day >= oldest);
        for (day, mut keys) in new.into_iter().filter(|(day, _)| *day >= oldest) {
            keys.sort_unstable();
            let old = self.days.get(&day);
            let run = Run::write(&*self.storage, &self.folder, old, &keys)?;
            self.days.insert(day, run);
        }
        self.log = None;
        self.unwritten.clear();
        self.storage.sync_directory(&self.folder).map_err(|error| at(&self.folder, error))
    }

    /// Removes the files that are not in use. To be called only when the position that names the ones in use is
    /// durable.
    ///
    /// # Errors
    /// As the operating system gives them, with the path.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let runs = self.days.values().map(|run| run.part.path(&self.folder));
        let used: BTreeSet<_> = runs.chain(self.log.as_ref().map(|log| log.part.path(&self.folder))).collect();
        for entry in self.storage.list(&self.folder).map_err(|error| at(&self.folder, error))? {
            if !used.contains(&entry.path) {
                self.storage.remove_file(&entry.path).map_err(|error| at(&entry.path, error))?;
            }
        }
        Ok(())
    }
}

/// Sorted keys in a file, each once.
#[derive(Debug)]
struct Run {
    file: Box<dyn StorageFile>,
    part: Part,
    /// The first key of each block.
    fences: Vec<Key>,
}

impl Run {
    /// Opens and checks a file; what is wrong with it, where its content is not what was promised.
    fn open(storage: &dyn Storage, folder: &Path, part: Part) -> io::Result<Result<Self, String>> {
        let path = part.path(folder);
        let mut fences = Vec::new();
        let (mut last, mut is_sorted, mut count) = (None::<Key>, true, 0_usize);
        let read = read_part(storage, &path, part, KEY, |entry| {
            let mut key = [0; KEY];
            key.copy_from_slice(entry);
            is_sorted &= last.is_none_or(|last| last < key);
            if count.is_multiple_of(BLOCK) {
                fences.push(key);
            }
            last = Some(key);
            count += 1;
        })?;
        Ok(match read {
            Ok(_) if !is_sorted => Err(format!("{}: its keys are not sorted", path.display())),
            Ok(file) => Ok(Self { file, part, fences }),
            Err(what) => Err(what),
        })
    }

    /// Writes a new file with the keys of an older one and more keys, which are sorted, and makes its content durable.
    fn write(storage: &dyn Storage, folder: &Path, old: Option<&Self>, keys: &[Key]) -> io::Result<Self> {
        let mut run = Writing::begin(storage, folder)?;
        let mut keys = keys.iter().copied().peekable();
        if let Some(old) = old {
            let path = old.part.path(folder);
            let read = read_chunks(&*old.file, &path, old.part.bytes, KEY, |chunk| {
                for key in chunk.as_chunks::<KEY>().0 {
                    while let Some(new) = keys.next_if(|new| new < key) {
                        run.push(new)?;
                    }
                    // It may be in both.
                    keys.next_if_eq(key);
                    run.push(*key)?;
                }
                Ok(())
            })?;
            if read != old.part.bytes {
                return Err(at(&path, io::ErrorKind::UnexpectedEof.into()));
            }
        }
        for key in keys {
            run.push(key)?;
        }
        run.finish()
    }

    fn contains(&self, key: &Key) -> io::Result<bool> {
        let Some(block) = self.fences.partition_point(|fence| fence <= key).checked_sub(1) else { return Ok(false) };
        let mut buffer = [0; BLOCK * KEY];
        let offset = (block * BLOCK * KEY) as u64;
        let length = read_fully(&*self.file, &mut buffer, offset)?;
        let (keys, _) = buffer[..length].as_chunks::<KEY>();
        Ok(keys.binary_search(key).is_ok())
    }
}

/// A sorted file that is being written.
struct Writing {
    path: PathBuf,
    run: Run,
    /// What is to be written next.
    buffer: Vec<u8>,
    count: usize,
}

impl Writing {
    fn begin(storage: &dyn Storage, folder: &Path) -> io::Result<Self> {
        let part = Part { file: Uuid::new_v4(), bytes: 0, checksum: 0 };
        let path = part.path(folder);
        let file = storage.open(&path, OpenMode::CreateNew).map_err(|error| at(&path, error))?;
        let run = Run { file, part, fences: Vec::new() };
        Ok(Self { path, run, buffer: Vec::with_capacity(CHUNK), count: 0 })
    }

    fn push(&mut self, key: Key) -> io::Result<()> {
        if self.count.is_multiple_of(BLOCK) {
            self.run.fences.push(key);
        }
        self.count += 1;
        self.buffer.extend_from_slice(&key);
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let part = &mut self.run.part;
        self.run.file.write_all_at(&self.buffer, part.bytes).map_err(|error| at(&self.path, error))?;
        part.bytes += self.buffer.len() as u64;
        part.checksum = crc32c::crc32c_append(part.checksum, &self.buffer);
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<Run> {
        self.flush()?;
        self.run.file.sync().map_err(|error| at(&self.path, error))?;
        Ok(self.run)
    }
}

fn read_log(storage: &dyn Storage, folder: &Path, part: Part) -> io::Result<Result<HashMap<Key, u32>, String>> {
    let mut entries = HashMap::new();
    let read = read_part(storage, &part.path(folder), part, LOG_ENTRY, |entry| {
        let (mut key, mut day) = ([0; KEY], [0; 4]);
        key.copy_from_slice(&entry[..KEY]);
        day.copy_from_slice(&entry[KEY..]);
        entries.insert(key, u32::from_le_bytes(day));
    })?;
    Ok(read.map(|_| entries))
}

/// Reads what counts of a file, entry by entry; what is wrong with it, where it is not what was promised.
fn read_part(
    storage: &dyn Storage,
    path: &Path,
    part: Part,
    entry: usize,
    mut each: impl FnMut(&[u8]),
) -> io::Result<Result<Box<dyn StorageFile>, String>> {
    let file = match storage.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Err(format!("{} is missing", path.display())));
        }
        Err(error) => return Err(at(path, error)),
    };
    let mut checksum = 0;
    let read = read_chunks(&*file, path, part.bytes, entry, |chunk| {
        checksum = crc32c::crc32c_append(checksum, chunk);
        chunk.chunks_exact(entry).for_each(&mut each);
        Ok(())
    })?;
    Ok(match (read == part.bytes, checksum == part.checksum) {
        (true, true) => Ok(file),
        (false, _) => Err(format!("{} has {read} bytes instead of {}", path.display(), part.bytes)),
        (true, false) => Err(format!("{} is damaged: its checksum is wrong", path.display())),
    })
}

/// Reads the first `bytes` of a file in chunks of whole entries; how many there were.
fn read_chunks(
    file: &dyn StorageFile,
    path: &Path,
    bytes: u64,
    entry: usize,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK - CHUNK % entry];
    let mut offset = 0;
    while offset < bytes {
        let wanted = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(buffer.len());
        let length = read_fully(file, &mut buffer[..wanted], offset).map_err(|error| at(path, error))?;
        each(&buffer[..length])?;
        offset += length as u64;
        if length < wanted {
            break;
        }
    }
    Ok(offset)
}

/// Reads until the buffer is full or the file ends.
fn read_fully(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The day of a point in time, counted from 1970.
pub(crate) fn day(time: Timestamp) -> u32 {
    u32::try_from(time.unix_milliseconds() / (24 * 3600 * 1000)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
