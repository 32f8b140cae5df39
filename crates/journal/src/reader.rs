//! Reading durable entries.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use actlog_core::{Entry, OpenMode};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::catalog::{Place, SegmentName};
use crate::error::ReadError;
use crate::journal::Shared;
use crate::scan::{Scanned, Scanner};

/// What a reader gives next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadItem {
    /// Entries, in order, without holes. Their bytes are slices of a shared block.
    Entries(Vec<Entry>),
    /// Entries that can't be had any more. Reading goes on behind them.
    Missing {
        /// Their indices.
        indices: Range<u64>,
        /// Why.
        reason: Missing,
    },
}

/// Why entries are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Their segments were released.
    Released,
    /// They were durable, and are damaged: a gap to be stated.
    Damaged,
}

/// Entries are read ahead up to about so many bytes.
const AHEAD: usize = 1 << 20;

/// A cursor that comes back from reading, and how that went.
type Filled = (Box<Cursor>, Result<(), ReadError>);

/// Reads the durable entries from an index on, and waits for more at the end.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    durable: watch::Receiver<u64>,
    /// None while it is in a blocking thread, reading.
    cursor: Option<Box<Cursor>>,
    /// A read on its way; kept here so that dropping the future of [`Reader::next`] loses nothing.
    reading: Option<JoinHandle<Filled>>,
    position: u64,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, from: u64) -> Self {
        let durable = shared.durable();
        Self { shared, durable, cursor: None, reading: None, position: from }
    }

    /// The index that is given next.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next entries, of about `max_bytes` together, at least one; waits until there are some. Cancel-safe: what a
    /// dropped future would have given comes from the next call. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the storage can't read; calling again tries again.
    pub async fn next(&mut self, max_bytes: usize) -> Result<ReadItem, ReadError> {
        loop {
            if let Some(item) = self.cursor.as_mut().and_then(|cursor| cursor.take(max_bytes)) {
                self.position = match &item {
                    ReadItem::Entries(entries) => entries.last().map_or(self.position, |entry| entry.index + 1),
                    ReadItem::Missing { indices, .. } => indices.end,
                };
                return Ok(item);
            }
            if self.reading.is_none() {
                let position = self.position;
                // The sender lives in `shared`, so waiting never fails.
                let _ = self.durable.wait_for(|durable| *durable > position).await;
            }
            let reading = self.reading.get_or_insert_with(|| {
                let mut cursor = self
                    .cursor
                    .take()
                    .unwrap_or_else(|| Box::new(Cursor::new(Arc::clone(&self.shared), self.position)));
                tokio::task::spawn_blocking(move || {
                    let result = cursor.fill();
                    (cursor, result)
                })
            });
            let finished = reading.await;
            self.reading = None;
            // An error of the thread itself means that the runtime shuts down. The next call begins with a new cursor.
            let (cursor, result) =
                finished.map_err(|error| ReadError { path: self.shared.directory.clone(), source: error.into() })?;
            self.cursor = Some(cursor);
            result?;
        }
    }
}

/// The blocking half of a reader.
#[derive(Debug)]
struct Cursor {
    shared: Arc<Shared>,
    /// The index that is read next.
    next: u64,
    segment: Option<(SegmentName, Scanner)>,
    /// Entries that were read and not given yet.
    ready: VecDeque<Entry>,
    /// Indices that are missing behind the ones that were given, and before or between those that are ready.
    missing: Option<(Range<u64>, Missing)>,
}

impl Cursor {
    fn new(shared: Arc<Shared>, next: u64) -> Self {
        Self { shared, next, segment: None, ready: VecDeque::new(), missing: None }
    }

    /// What is ready, up to `max_bytes`.
    fn take(&mut self, max_bytes: usize) -> Option<ReadItem> {
        let missing = self.missing.as_ref().map_or(u64::MAX, |(indices, _)| indices.start);
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = self.ready.front() {
            bytes += entry.bytes.len();
            if entry.index >= missing || (bytes > max_bytes && !entries.is_empty()) {
                break;
            }
            entries.extend(self.ready.pop_front());
        }
        if entries.is_empty() {
            return self.missing.take().map(|(indices, reason)| ReadItem::Missing { indices, reason });
        }
        Some(ReadItem::Entries(entries))
    }

    /// Reads until enough is ready, something is missing, or all that is durable was read.
    fn fill(&mut self) -> Result<(), ReadError> {
        let mut bytes = 0;
        while bytes < AHEAD && self.missing.is_none() {
            let place = self.shared.catalog().find(self.next);
            let (name, readable, end) = match place {
                Place::NotYet => break,
                Place::Before(first) => {
                    self.miss(first, Missing::Released);
                    continue;
                }
                Place::In { name, readable, end } => (name, readable, end),
            };
            let path = name.path(&self.shared.directory);
            match self.read_frame(name, &path, readable) {
                // Void.
                Ok(Some(Scanned::Frame(frame, _))) if frame.header.end() > end => {}
                Ok(Some(Scanned::Frame(frame, _))) => {
                    if frame.header.first > self.next {
                        self.miss(frame.header.first, Missing::Damaged);
                    }
                    for entry in frame.entries() {
                        // Those before were given already, or were not asked for.
                        if entry.index == self.next {
                            bytes += entry.bytes.len();
                            self.next += 1;
                            self.ready.push_back(entry);
                        }
                    }
                }
                // How many entries it held shows when the next frame does.
                Ok(Some(Scanned::Damage(_))) => {}
                Ok(None) => self.miss(end, Missing::Damaged),
                // Released since it was looked up.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && self.shared.catalog().find(self.next) != place => {}
                Err(source) => return Err(ReadError { path, source }),
            }
        }
        Ok(())
    }

    fn miss(&mut self, to: u64, reason: Missing) {
        self.missing = Some((self.next..to, reason));
        self.next = to;
    }

    /// The next frame or damage of a segment, which is opened if it is not.
    fn read_frame(&mut self, name: SegmentName, path: &Path, readable: u64) -> io::Result<Option<Scanned>> {
        let mut scanner = match self.segment.take() {
            Some((open, scanner)) if open == name => scanner,
            _ => {
                let file = self.shared.storage.open(path, OpenMode::Read)?;
                let mut scanner = Scanner::new(file, name.first, readable);
                scanner.skip_to(self.next)?;
                scanner
            }
        };
        scanner.grow(readable);
        let scanned = scanner.next();
        self.segment = Some((name, scanner));
        scanned
    }
}
