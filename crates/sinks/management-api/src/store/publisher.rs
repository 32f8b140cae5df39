//! What makes content available, and removes it when its time is over.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use actlog_core::{Lease, OpenMode, StorageFile};
use uuid::Uuid;

use super::frame::{Coverage, Head, Line, MAGIC, Partition};
use super::recovery::{Last, segment_path};
use super::{Store, StoreError, milliseconds};

/// Largest segment, but for one that holds a single larger frame.
const SEGMENT_BYTES: u64 = 64 << 20;
/// A segment takes new rounds for this part of the retention. So content stays on disk a little longer than it can be
/// fetched, and no more.
const SEGMENT_SPAN: i64 = 28;

/// A blob that is to become available.
#[derive(Clone, Debug)]
pub(crate) struct NewBlob {
    /// Whose it is.
    pub(crate) partition: Partition,
    /// Journal records of which something is in it.
    pub(crate) records: u32,
    /// Bytes unpacked.
    pub(crate) raw: u32,
    /// The JSON array, compressed.
    pub(crate) packed: Vec<u8>,
}

/// Everything that becomes available at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    /// The blobs, in order.
    pub(crate) blobs: Vec<NewBlob>,
    /// What part of the journal is covered then.
    pub(crate) coverage: Coverage,
    /// Blobs without a tenant whose records are in this round: the organisation's id, and contentCreated.
    pub(crate) replaced: Vec<(Uuid, i64)>,
}

/// Why a round is not available.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// There is no room; nothing was changed, and the same round can be tried again.
    #[error("{0}")]
    Full(String),
    /// The content could not be compressed.
    #[error("content could not be compressed: {0}")]
    Packing(std::io::Error),
    /// The store is closed now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The open segment.
#[derive(Debug)]
struct Active {
    file: Box<dyn StorageFile>,
    path: PathBuf,
    number: u32,
    length: u64,
    /// Time of its first round.
    since: i64,
}

/// What a publisher knows; kept with the store until the run takes it.
#[derive(Debug)]
pub(super) struct Writer {
    last: Option<Last>,
    active: Option<Active>,
    problem: Option<String>,
    #[expect(dead_code, reason = "held for as long as something may write")]
    lease: Lease,
}

impl Writer {
    pub(super) fn new(last: Option<Last>, problem: Option<String>, lease: Lease) -> Self {
        Self { last, active: None, problem, lease }
    }
}

/// Makes content available. There is one for a store. Everything it does blocks.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: Store,
    writer: Writer,
}

impl Publisher {
    pub(super) fn new(store: Store, writer: Writer) -> Self {
        Self { store, writer }
    }

    /// Which part of the journal is in the rounds so far.
    pub(crate) fn coverage(&self) -> Coverage {
        self.writer.last.map(|last| last.coverage).unwrap_or_default()
    }

    /// Number of the last round; none when there was none yet.
    pub(crate) fn last_round(&self) -> Option<u64> {
        self.writer.last.map(|last| last.round)
    }

    /// What was found damaged at the start.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.writer.problem.as_deref()
    }

    /// Makes a round available: on disk first, then for everybody, at its contentCreated.
    ///
    /// # Errors
    /// [`PublishError::Full`], or that a file could not be written; nothing is listed from then on until the store is
    /// opened again.
    pub(crate) fn publish(&mut self, round: &Round) -> Result<(), PublishError> {
        let store = self.store.clone();
        let shared = &*store.0;
        self.expire()?;
        let mut head = self.head(round);
        let length = head.encoded_length() as u64 + head.payload();
        self.check_room(length)?;
        let mut closed = shared.gate.blocking_write();
        let now = shared.clock.now().unix_milliseconds().max(shared.listed.load(Ordering::Relaxed));
        head.time = self.writer.last.map_or(now, |last| now.max(last.time));
        self.date(&mut head);
        let mut frame = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        head.encode(&mut frame);
        round.blobs.iter().for_each(|blob| frame.extend_from_slice(&blob.packed));
        // Nobody may be told what is available until it is known whether this round is.
        *closed = true;
        let (segment, offset) = self.write(&head, &frame)?;
        let payload = offset + head.encoded_length() as u64;
        shared.index_mut().add_frame(&head, segment, u32::try_from(payload).unwrap_or(u32::MAX));
        *closed = false;
        drop(closed);
        self.writer.last = Some(Last { round: head.round, time: head.time, coverage: head.coverage });
        shared.published.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The head, without times.
    fn head(&self, round: &Round) -> Head {
        let blobs = round.blobs.iter().map(|blob| Line {
            partition: blob.partition,
            records: blob.records,
            created: 0,
            stored: blob.packed.len() as u32,
            raw: blob.raw,
            crc: crc32c::crc32c(&blob.packed),
        });
        Head {
            round: self.last_round().map_or(0, |last| last + 1),
            time: 0,
            coverage: round.coverage,
            retention: u32::try_from(self.store.0.options.retention.as_secs()).unwrap_or(u32::MAX),
            blobs: blobs.collect(),
            replaced: round.replaced.clone(),
        }
    }

    /// Gives each blob its contentCreated: the round's time, or a millisecond behind the last one of its partition.
    fn date(&self, head: &mut Head) {
        let index = self.store.0.index();
        let mut last = std::collections::HashMap::new();
        for line in &mut head.blobs {
            let before = last.get(&line.partition).copied().or_else(|| index.last(line.partition));
            line.created = before.map_or(head.time, |before: i64| head.time.max(before + 1));
            last.insert(line.partition, line.created);
        }
    }

    /// Whether the frame may be written, by the budget and by the disk.
    fn check_room(&self, length: u64) -> Result<(), PublishError> {
        let shared = &*self.store.0;
        let folder = &shared.options.folder;
        let free = shared.storage.available_space(folder).map_err(StoreError::file(folder))?;
        if free <= length {
            let folder = folder.display();
            return Err(PublishError::Full(format!("the disk of {folder} is full; nothing more becomes available")));
        }
        let (index, budget) = (shared.index(), shared.options.budget);
        // Where everything has expired, only the segment that knows where to go on is left, and has to be followed.
        if index.bytes() + length > budget && index.holds_content(shared.clock.now().unix_milliseconds()) {
            let until = index.first_expiration().map_or_else(String::new, |time| format!(", not before {time}"));
            return Err(PublishError::Full(format!(
                "the feed's content has reached its budget of {budget} bytes; nothing more becomes available until \
                 content expires{until}; raise budget, or shorten retention"
            )));
        }
        Ok(())
    }

    /// Writes and syncs; gives the segment and the frame's place in it.
    fn write(&mut self, head: &Head, frame: &[u8]) -> Result<(u32, u64), StoreError> {
        let options = &self.store.0.options;
        let longest = SEGMENT_BYTES.min(options.budget / 8);
        let span = milliseconds(options.retention) / SEGMENT_SPAN;
        let goes_on = |active: &Active| {
            active.length + frame.len() as u64 <= longest && head.time.saturating_sub(active.since) <= span
        };
        match self.writer.active.take().filter(goes_on) {
            Some(active) => self.append(active, frame),
            None => self.begin_segment(head, frame),
        }
    }

    fn append(&mut self, mut active: Active, frame: &[u8]) -> Result<(u32, u64), StoreError> {
        let offset = active.length;
        active.file.write_all_at(frame, offset).map_err(StoreError::file(&active.path))?;
        active.file.sync().map_err(StoreError::file(&active.path))?;
        active.length += frame.len() as u64;
        let number = active.number;
        self.store.0.index_mut().set_length(number, active.length);
        self.writer.active = Some(active);
        Ok((number, offset))
    }

    fn begin_segment(&mut self, head: &Head, frame: &[u8]) -> Result<(u32, u64), StoreError> {
        let shared = &*self.store.0;
        let path = segment_path(&shared.options.folder, head.round);
        let content = [&MAGIC[..], frame].concat();
        shared.storage.replace(&path, &content).map_err(StoreError::file(&path))?;
        let file = shared.storage.open(&path, OpenMode::Write).map_err(StoreError::file(&path))?;
        let length = content.len() as u64;
        let number = shared.index_mut().add_segment(path.clone(), length);
        self.writer.active = Some(Active { file, path, number, length, since: head.time });
        Ok((number, MAGIC.len() as u64))
    }

    /// Forgets what has expired, and removes the segments in which nothing is left.
    ///
    /// # Errors
    /// When a file can't be removed.
    pub(crate) fn expire(&mut self) -> Result<(), StoreError> {
        let shared = &*self.store.0;
        let now = shared.clock.now().unix_milliseconds();
        let emptied = shared.index_mut().expire(now);
        for (number, path) in emptied {
            remove(&*shared.storage, &path, &shared.options.folder).map_err(StoreError::file(&path))?;
            shared.index_mut().remove_segment(number);
        }
        Ok(())
    }
}

/// Removes a file for good before the next one: a gap between two segments would look like damage.
fn remove(storage: &dyn actlog_core::Storage, path: &Path, folder: &Path) -> std::io::Result<()> {
    match storage.remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => storage.sync_directory(folder),
    }
}
