//! What the last run left on the disk, and what is made of it.

use std::io;
use std::path::{Path, PathBuf};

use actlog_core::{OpenMode, Storage, StorageFile};

use super::StoreError;
use super::frame::{self, Coverage, Head, MAGIC};
use super::index::Index;

/// Ending of segments.
const ENDING: &str = "seg";

/// The path of the segment that begins with a round.
pub(super) fn segment_path(folder: &Path, first_round: u64) -> PathBuf {
    folder.join(format!("{first_round:020}.{ENDING}"))
}

/// Where the last round has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    /// Its number.
    pub(super) round: u64,
    /// When it was, in milliseconds.
    pub(super) time: i64,
    /// Which part of the journal is covered.
    pub(super) coverage: Coverage,
}

impl Last {
    fn of(head: &Head) -> Self {
        Self { round: head.round, time: head.time, coverage: head.coverage }
    }
}

/// What was found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) index: Index,
    /// None when there was no round yet.
    pub(super) last: Option<Last>,
    /// What is missing, for a person.
    pub(super) problem: Option<String>,
}

/// A frame that is intact as far as its head says, and not in the index yet.
struct Found {
    head: Head,
    segment: u32,
    offset: u64,
    is_in_last_segment: bool,
}

/// A segment's file.
struct Scanned {
    path: PathBuf,
    first_round: u64,
    file: Box<dyn StorageFile>,
    length: u64,
}

/// Reads all heads, and writes the last round anew where nobody knows whether it is durable.
///
/// # Errors
/// When a file can't be used.
pub(super) fn recover(storage: &dyn Storage, folder: &Path) -> Result<Recovered, StoreError> {
    storage.create_directories(folder).map_err(StoreError::file(folder))?;
    let (mut recovered, last) = scan(storage, folder)?;
    match last {
        // A later segment was begun, so this round was durable.
        Some(found) if !found.is_in_last_segment => recovered.add(&found),
        Some(found) => recovered.write_anew(storage, folder, found)?,
        None => {}
    }
    recovered.set_aside(storage, folder)?;
    remove_leftovers(storage, folder).map_err(StoreError::file(folder))?;
    Ok(recovered)
}

impl Recovered {
    /// Writes the last round as a segment of its own, if it is whole; else nobody was shown it.
    fn write_anew(&mut self, storage: &dyn Storage, folder: &Path, found: Found) -> Result<(), StoreError> {
        let Some(path) = self.index.path(found.segment).map(Path::to_owned) else { return Ok(()) };
        let Some(frame) = read_frame(storage, &path, &found).map_err(StoreError::file(&path))? else { return Ok(()) };
        let anew = segment_path(folder, found.head.round);
        storage.replace(&anew, &[&MAGIC[..], &frame].concat()).map_err(StoreError::file(&anew))?;
        let length = (MAGIC.len() + frame.len()) as u64;
        let segment = if anew == path {
            self.index.set_length(found.segment, length);
            found.segment
        } else {
            self.index.add_segment(anew, length)
        };
        self.add(&Found { segment, offset: MAGIC.len() as u64, ..found });
        Ok(())
    }

    /// Renames the segments behind the last round. Nothing of them can be read, and their names are those of rounds to
    /// come: they would stand in the way of what is written then.
    fn set_aside(&mut self, storage: &dyn Storage, folder: &Path) -> Result<(), StoreError> {
        let next = self.last.map_or(0, |last| last.round + 1);
        for (_, path) in segments(storage, folder)?.into_iter().filter(|(first_round, _)| *first_round >= next) {
            let aside = path.with_extension("damaged");
            storage.rename(&path, &aside).map_err(StoreError::file(&path))?;
            storage.sync_directory(folder).map_err(StoreError::file(folder))?;
            self.index.forget_file(&path);
            let (path, aside) = (path.display(), aside.display());
            self.problem = Some(format!("content in {path} can't be read: the file is damaged, and is {aside} now"));
        }
        Ok(())
    }

    fn add(&mut self, found: &Found) {
        let payload = found.offset + found.head.encoded_length() as u64;
        // Segments are far smaller than 4 GiB.
        self.index.add_frame(&found.head, found.segment, u32::try_from(payload).unwrap_or(u32::MAX));
        self.last = Some(Last::of(&found.head));
    }
}

/// Everything but the last frame, and that one.
fn scan(storage: &dyn Storage, folder: &Path) -> Result<(Recovered, Option<Found>), StoreError> {
    let mut recovered = Recovered { index: Index::default(), last: None, problem: None };
    let segments = segments(storage, folder)?;
    let mut expected = segments.first().map_or(0, |(first_round, _)| *first_round);
    let mut last: Option<Found> = None;
    for (place, (first_round, path)) in segments.iter().enumerate() {
        let limit = segments.get(place + 1).map_or(u64::MAX, |(next, _)| *next);
        if *first_round > expected {
            let missing = first_round - expected;
            recovered.problem = Some(format!(
                "{missing} rounds of content before {} can't be read any more: a file is damaged or was removed",
                path.display()
            ));
            expected = *first_round;
        }
        let segment = Scanned::open(storage, path, *first_round).map_err(StoreError::file(path))?;
        let number = recovered.index.add_segment(path.clone(), segment.length);
        let mut offset = segment.check_magic()?;
        while let Some(at) = offset {
            let head = Head::read(&*segment.file, at, segment.length).map_err(StoreError::file(path))?;
            let Some(head) = head.filter(|head| head.round == expected && head.round < limit) else { break };
            let after = at + head.encoded_length() as u64 + head.payload();
            expected += 1;
            let found = Found { head, segment: number, offset: at, is_in_last_segment: limit == u64::MAX };
            if let Some(proved) = last.replace(found) {
                recovered.add(&proved);
            }
            offset = Some(after);
        }
    }
    Ok((recovered, last))
}

/// Segments by their first round.
fn segments(storage: &dyn Storage, folder: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let listed = storage.list(folder).map_err(StoreError::file(folder))?;
    let mut segments: Vec<(u64, PathBuf)> = listed
        .into_iter()
        .filter(|entry| !entry.is_directory && entry.path.extension().is_some_and(|ending| ending == ENDING))
        .filter_map(|entry| Some((entry.path.file_stem()?.to_str()?.parse().ok()?, entry.path)))
        .collect();
    segments.sort_unstable();
    Ok(segments)
}

impl Scanned {
    fn open(storage: &dyn Storage, path: &Path, first_round: u64) -> io::Result<Self> {
        let file = storage.open(path, OpenMode::Read)?;
        let length = file.length()?;
        Ok(Self { path: path.to_owned(), first_round, file, length })
    }

    /// Where the first frame is; none where not even the beginning of the segment is whole.
    fn check_magic(&self) -> Result<Option<u64>, StoreError> {
        let mut magic = [0; MAGIC.len()];
        if self.length < magic.len() as u64 {
            return Ok(None);
        }
        frame::read_exact(&*self.file, &mut magic, 0).map_err(StoreError::file(&self.path))?;
        let (name, version) = MAGIC.split_at(MAGIC.len() - 1);
        match magic.split_at(name.len()) {
            (found, other) if found == name && other != version => {
                Err(StoreError::Format(self.path.display().to_string()))
            }
            _ if magic == MAGIC => Ok(Some(magic.len() as u64)),
            _ => {
                tracing::warn!(path = %self.path.display(), first_round = self.first_round, "not a whole segment");
                Ok(None)
            }
        }
    }
}

/// The bytes of a frame; none when those of a blob are not what the head says.
fn read_frame(storage: &dyn Storage, path: &Path, found: &Found) -> io::Result<Option<Vec<u8>>> {
    let head = &found.head;
    let Ok(length) = usize::try_from(head.encoded_length() as u64 + head.payload()) else { return Ok(None) };
    let mut frame = vec![0; length];
    frame::read_exact(&*storage.open(path, OpenMode::Read)?, &mut frame, found.offset)?;
    let mut rest = &frame[head.encoded_length()..];
    for line in &head.blobs {
        let (blob, behind) = rest.split_at(line.stored as usize);
        if crc32c::crc32c(blob) != line.crc {
            return Ok(None);
        }
        rest = behind;
    }
    Ok(Some(frame))
}

/// Removes files that were begun and did not get their name.
fn remove_leftovers(storage: &dyn Storage, folder: &Path) -> io::Result<()> {
    for entry in storage.list(folder)? {
        if entry.path.extension().is_some_and(|ending| ending == "new") {
            storage.remove_file(&entry.path)?;
        }
    }
    Ok(())
}
