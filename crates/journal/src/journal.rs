//! The journal as callers see it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use actlog_core::{Clock, Storage, Timestamp};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch};
use uuid::Uuid;

use crate::batch::{Batch, MAX_BATCH};
use crate::catalog::{Catalog, Segment, SegmentName, Statistics};
use crate::error::{CommitError, JournalError, Pressure, SubmitError};
use crate::ids;
use crate::reader::Reader;
use crate::recovery::{self, Recovery};
use crate::writer::{Job, Message};

/// What a batch costs in the queue besides its bytes: so the queue is bounded by number too.
const BATCH_OVERHEAD: usize = 256;
/// When a refused submitter should try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Sizes and times of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes of a segment; at most an eighth of the budget, so that there is always something to release.
    pub segment_bytes: u64,
    /// Bytes of batches that wait to be written; at least those of the largest batch.
    pub queue_bytes: usize,
    /// Bytes from which on a group takes no further batch.
    pub group_bytes: usize,
    /// Bytes of all segments from which on data is refused.
    pub budget_bytes: u64,
    /// Bytes that are kept on the disk so that cursors and statements can be written when it is full.
    pub reserve_bytes: u64,
    /// How many of the last records' ids are remembered; 0 recognises no duplicates.
    pub duplicate_window: usize,
    /// How long nothing must have been submitted for an empty frame to prove the last one; also how often a full disk
    /// is looked at.
    pub idle_mark_after: Duration,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            queue_bytes: 16 << 20,
            group_bytes: 1 << 20,
            budget_bytes: 10 << 30,
            reserve_bytes: 4 << 20,
            duplicate_window: 1_000_000,
            idle_mark_after: Duration::from_secs(1),
        }
    }
}

impl JournalOptions {
    fn bounded(mut self) -> Self {
        self.segment_bytes = self.segment_bytes.min(self.budget_bytes / 8).max(4 << 10);
        self.queue_bytes = self.queue_bytes.clamp(MAX_BATCH + BATCH_OVERHEAD, Semaphore::MAX_PERMITS.min(1 << 30));
        self.group_bytes = self.group_bytes.min(MAX_BATCH);
        self.idle_mark_after = self.idle_mark_after.max(Duration::from_millis(1));
        self
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Index of its first entry; the others follow. None when no entry was written.
    pub first_index: Option<u64>,
    /// Entries that were written.
    pub written: u32,
    /// Records that were dropped because their ids are in the window: they are in the journal already.
    pub duplicates: u32,
}

/// The receipt of a batch: resolves when it is durable, or has failed.
///
/// Dropping it does not take the batch back.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Result<Committed, CommitError>>);

impl Future for Ticket {
    type Output = Result<Committed, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|result| result.unwrap_or(Err(CommitError::Closed)))
    }
}

/// A segment, for those who decide what may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its first index.
    pub first: u64,
    /// The index behind its last entry.
    pub end: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// When the last entry can have been written; none: it is being written.
    pub sealed_at: Option<Timestamp>,
}

/// What handles, readers and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: PathBuf,
    budget_bytes: u64,
    catalog: Mutex<Catalog>,
    durable: watch::Sender<u64>,
    pressure: watch::Sender<Option<Pressure>>,
    /// Held while ids are written: the writer does so, and whoever releases segments.
    writing_ids: Mutex<()>,
}

impl Shared {
    pub(crate) fn new(storage: Arc<dyn Storage>, directory: &Path, budget_bytes: u64, catalog: Catalog) -> Self {
        Self {
            storage,
            directory: directory.to_owned(),
            budget_bytes,
            durable: watch::Sender::new(catalog.durable),
            catalog: Mutex::new(catalog),
            pressure: watch::Sender::new(None),
            writing_ids: Mutex::new(()),
        }
    }

    pub(crate) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        // Nothing that can panic is done while it is locked.
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pressure(&self) -> Option<Pressure> {
        *self.pressure.borrow()
    }

    pub(crate) fn durable(&self) -> watch::Receiver<u64> {
        self.durable.subscribe()
    }

    /// Writes the ids of a sealed segment's records, unless they are written already.
    pub(crate) fn write_ids(&self, name: SegmentName, ids: &[Uuid]) -> io::Result<()> {
        let _writing = self.writing_ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.is_empty() || self.catalog().ids.contains(&name) {
            return Ok(());
        }
        ids::write(&*self.storage, &name.ids_path(&self.directory), ids)?;
        self.catalog().ids.push(name);
        Ok(())
    }

    /// Tells those who wait what the catalog says now.
    pub(crate) fn published(&self) {
        let catalog = self.catalog();
        let pressure = if catalog.disk_full {
            Some(Pressure::DiskFull)
        } else if catalog.bytes() >= self.budget_bytes {
            Some(Pressure::Budget)
        } else {
            catalog.failing.then_some(Pressure::Failing)
        };
        // Sent under the lock, so that what is sent last is what was true last.
        let changed = |old: &mut Option<Pressure>| std::mem::replace(old, pressure) != pressure;
        self.pressure.send_if_modified(changed);
        let durable = catalog.durable;
        self.durable.send_if_modified(|old| std::mem::replace(old, durable) != durable);
    }
}

/// The journal; clones are handles of the same one. When the last handle goes, the writer finishes what was submitted
/// and ends.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    messages: Sender<Message>,
    room: Arc<Semaphore>,
    options: JournalOptions,
    /// Held while segments are released: whether a removal is not durable yet.
    releasing: Mutex<bool>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("shared", &self.inner.shared).finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal in a folder, which is created when absent, and begins a new segment. Blocks.
    ///
    /// Only one process may have it open: the caller holds a lock.
    ///
    /// # Errors
    /// When the storage fails, or a segment has an unknown format. Damage is no error: see [`Recovery::damaged`].
    pub fn open(
        storage: Arc<dyn Storage>,
        directory: &Path,
        options: JournalOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovery), JournalError> {
        let options = options.bounded();
        let (writer, recovery) = recovery::open(storage, directory, options, clock)?;
        let shared = Arc::clone(&writer.shared);
        let (messages, received) = mpsc::channel();
        std::thread::Builder::new()
            .name("actlog-journal".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(JournalError::storage("starting the writer of", directory))?;
        let room = Arc::new(Semaphore::new(options.queue_bytes));
        let inner = Inner { shared, messages, room, options, releasing: Mutex::new(false) };
        Ok((Self { inner: Arc::new(inner) }, recovery))
    }

    /// Submits a batch, after waiting for room in the queue. When it returns, the batch will be written, whether or not
    /// the ticket is kept. Dropping the future before that submits nothing.
    ///
    /// # Errors
    /// [`SubmitError::Full`] when it is data and the disk or the budget is full, [`SubmitError::TooLarge`], or
    /// [`SubmitError::Closed`].
    pub async fn submit(&self, batch: Batch) -> Result<Ticket, SubmitError> {
        let cost = self.admit(&batch)?;
        let room = Arc::clone(&self.inner.room).acquire_many_owned(cost).await.map_err(|_| SubmitError::Closed)?;
        // It may have become full meanwhile.
        self.admit(&batch)?;
        self.send(batch, room)
    }

    /// Submits a batch, if there is room in the queue at once.
    ///
    /// # Errors
    /// As [`Self::submit`], and [`SubmitError::Busy`].
    pub fn try_submit(&self, batch: Batch) -> Result<Ticket, SubmitError> {
        let cost = self.admit(&batch)?;
        let room = Arc::clone(&self.inner.room).try_acquire_many_owned(cost).map_err(|error| match error {
            TryAcquireError::NoPermits => SubmitError::Busy,
            TryAcquireError::Closed => SubmitError::Closed,
        })?;
        self.send(batch, room)
    }

    /// What a batch costs in the queue, if it may enter.
    fn admit(&self, batch: &Batch) -> Result<u32, SubmitError> {
        if let Some(reason) = batch.too_large() {
            return Err(SubmitError::TooLarge(reason));
        }
        if !batch.control
            && let Some(pressure @ (Pressure::Budget | Pressure::DiskFull)) = self.pressure()
        {
            return Err(SubmitError::Full { pressure, retry_after: RETRY_AFTER });
        }
        // Less than the queue has in all, see `JournalOptions::bounded`.
        Ok(u32::try_from(batch.bytes() + BATCH_OVERHEAD).unwrap_or(u32::MAX))
    }

    fn send(&self, batch: Batch, room: OwnedSemaphorePermit) -> Result<Ticket, SubmitError> {
        let (receipt, ticket) = oneshot::channel();
        let message = Message::Submit(Job { batch, receipt, room: Some(room) });
        self.inner.messages.send(message).map_err(|_| SubmitError::Closed)?;
        Ok(Ticket(ticket))
    }

    /// A reader of the durable entries from an index on.
    pub fn reader(&self, from: u64) -> Reader {
        Reader::new(Arc::clone(&self.inner.shared), from)
    }

    /// One past the highest durable index: how many entries there ever were.
    pub fn durable(&self) -> u64 {
        self.inner.shared.catalog().durable
    }

    /// The lowest index that can still be read.
    pub fn first_index(&self) -> u64 {
        self.inner.shared.catalog().first()
    }

    /// The durable value of a state.
    pub fn state(&self, key: &str) -> Option<Bytes> {
        self.inner.shared.catalog().states.get(key).cloned()
    }

    /// All durable states.
    pub fn states(&self) -> BTreeMap<String, Bytes> {
        self.inner.shared.catalog().states.clone()
    }

    /// Why data is refused, or groups fail, at present.
    pub fn pressure(&self) -> Option<Pressure> {
        self.inner.shared.pressure()
    }

    /// Waits until data is not refused.
    pub async fn wait_for_room(&self) {
        let mut pressure = self.inner.shared.pressure.subscribe();
        // The sender lives as long as this journal.
        let _ = pressure.wait_for(|now| !matches!(now, Some(Pressure::Budget | Pressure::DiskFull))).await;
    }

    /// What was written since the journal was opened.
    pub fn statistics(&self) -> Statistics {
        self.inner.shared.catalog().statistics
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let catalog = self.inner.shared.catalog();
        (0..catalog.segments.len()).map(|place| info(&catalog, place)).collect()
    }

    /// Removes the segments that end at or below an index, oldest first, never the newest. Blocks. The ids of their
    /// records are kept as long as they are in the window.
    ///
    /// # Errors
    /// As the storage gives them. [`Journal::segments`] says what is still there; calling again goes on.
    pub fn release(&self, up_to: u64) -> io::Result<Vec<SegmentInfo>> {
        let mut unsynced = self.inner.releasing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut released = Vec::new();
        loop {
            if *unsynced {
                // Each time: otherwise a crash could bring an older segment back and not the younger, and the hole
                // between them would look like a loss.
                self.inner.shared.storage.sync_directory(&self.inner.shared.directory)?;
                *unsynced = false;
            }
            let Some((segment, info)) = self.take_oldest(up_to) else { break };
            if let Err(error) = self.remove(&segment, info.end) {
                self.inner.shared.catalog().segments.insert(0, segment);
                return Err(error);
            }
            *unsynced = true;
            self.inner.shared.published();
            released.push(info);
        }
        if !released.is_empty() {
            self.remove_old_ids()?;
        }
        Ok(released)
    }

    /// Takes the oldest segment out of the catalog if it ends at or below an index, so that no reader begins with it.
    fn take_oldest(&self, up_to: u64) -> Option<(Segment, SegmentInfo)> {
        let mut catalog = self.inner.shared.catalog();
        if catalog.segments.len() < 2 || catalog.range(0).end > up_to {
            return None;
        }
        let info = info(&catalog, 0);
        Some((catalog.segments.remove(0), info))
    }

    /// Removes the file of a segment, after making sure that the ids of its records are kept.
    fn remove(&self, segment: &Segment, end: u64) -> io::Result<()> {
        let Shared { storage, directory, .. } = &*self.inner.shared;
        let mut unwritten = None;
        if self.inner.options.duplicate_window > 0 && !self.inner.shared.catalog().ids.contains(&segment.name) {
            let ids = recovery::ids_of_segment(&**storage, directory, segment, end).unwrap_or_else(|error| {
                tracing::warn!(%error, segment = %segment.name, "the ids of a released segment could not be read");
                Vec::new()
            });
            // On a full disk the segment must be able to go first.
            unwritten = self.inner.shared.write_ids(segment.name, &ids).is_err().then_some(ids);
        }
        match storage.remove_file(&segment.name.path(directory)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if let Some(ids) = unwritten
            && let Err(error) = self.inner.shared.write_ids(segment.name, &ids)
        {
            tracing::warn!(%error, segment = %segment.name, "the ids of a released segment could not be kept");
        }
        Ok(())
    }

    /// Removes id files of released segments that are older than the window.
    fn remove_old_ids(&self) -> io::Result<()> {
        let Shared { storage, directory, .. } = &*self.inner.shared;
        let (mut names, first) = {
            let catalog = self.inner.shared.catalog();
            (catalog.ids.clone(), catalog.first())
        };
        names.sort_unstable();
        let mut newer = 0;
        let mut old = Vec::new();
        for name in names.into_iter().rev() {
            if newer >= self.inner.options.duplicate_window && name.first < first {
                old.push(name);
            } else {
                newer += ids::count(&**storage, &name.ids_path(directory))?;
            }
        }
        for name in old {
            match storage.remove_file(&name.ids_path(directory)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.inner.shared.catalog().ids.retain(|other| *other != name),
            }
        }
        Ok(())
    }

    /// Takes no more batches, writes those that were taken, and proves them with a last frame.
    ///
    /// # Errors
    /// When that last frame could not be written. The batches have receipts of their own.
    pub async fn shutdown(&self) -> Result<(), CommitError> {
        self.inner.room.close();
        let (done, finished) = oneshot::channel();
        if self.inner.messages.send(Message::Shutdown(done)).is_err() {
            return Ok(());
        }
        // The writer answers, or has ended because somebody else shut it down at the same time.
        finished.await.unwrap_or(Ok(()))
    }
}

fn info(catalog: &Catalog, place: usize) -> SegmentInfo {
    let range = catalog.range(place);
    let Segment { bytes, sealed_at, .. } = catalog.segments[place];
    SegmentInfo { first: range.start, end: range.end, bytes, sealed_at }
}
