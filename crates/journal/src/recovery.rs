//! Opening the journal: what is there, what is damaged, where to go on.
//!
//! Only the last segment is read, back to the last one that begins with an intact snapshot of the states. A segment of
//! an earlier run is never written again: the journal goes on in a new one. The last frame that was found is the only
//! one that nothing proves (its sync may have failed, or never have happened, and a later power failure may take it
//! away), so it is written again into the new segment, with its indices.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use actlog_core::{Clock, EntryKind, OpenMode, Storage, Timestamp};
use bytes::Bytes;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::batch::Batch;
use crate::catalog::{Catalog, Listing, Segment, SegmentName};
use crate::error::{CommitError, JournalError};
use crate::format::{self, Flags, Frame, SEGMENT_HEADER};
use crate::ids::{self, Window};
use crate::journal::{JournalOptions, Shared};
use crate::scan::{Scanned, Scanner, read_fully};
use crate::writer::{Job, Writer};

/// What was found when the journal was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The lowest index that there is.
    pub first_index: u64,
    /// The index that the next entry gets.
    pub next_index: u64,
    /// Segments, with the one that was begun.
    pub segments: usize,
    /// Whether the journal had been closed in good order, or is new.
    pub closed: bool,
    /// When the last intact frame was written: a gap in capture began at this time or after it.
    pub last_written: Option<Timestamp>,
    /// Bytes at the end that belong to a frame that was never finished. No submitter was told that it was durable.
    pub torn_bytes: u64,
    /// Durable bytes that are damaged, in the segments that were read. Readers come across the others.
    pub damaged: Vec<Damage>,
}

/// Durable bytes that can't be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: PathBuf,
    /// Where in it.
    pub bytes: Range<u64>,
    /// Indices of the entries that are lost; empty when only state updates or proofs were there.
    pub lost: Range<u64>,
}

/// A segment as it was read.
#[derive(Debug, Default)]
pub(crate) struct SegmentScan {
    /// Whether an intact snapshot was found: the updates are then complete.
    pub(crate) snapshot: bool,
    /// The last update of each key.
    pub(crate) updates: BTreeMap<String, Option<Bytes>>,
    pub(crate) damaged: Vec<Damage>,
    /// Bytes behind the last intact frame.
    pub(crate) tail: u64,
    /// The index behind the last entry.
    pub(crate) end: u64,
    pub(crate) last: Option<Frame>,
    /// Ids of records, those of the last frame separately.
    ids: Vec<Uuid>,
    last_ids: Vec<Uuid>,
}

/// Reads a segment. `end` is the first index of the next one: what is at or above it is void. None: it is the last,
/// and bytes behind its last intact frame were never finished.
pub(crate) fn scan_segment(
    storage: &dyn Storage,
    path: &Path,
    name: SegmentName,
    readable: u64,
    end: Option<u64>,
    mut visit: impl FnMut(&Frame, u64),
) -> Result<SegmentScan, JournalError> {
    let file = storage.open(path, OpenMode::Read).map_err(JournalError::storage("opening", path))?;
    let mut header = [0; SEGMENT_HEADER];
    let read = read_fully(&*file, &mut header, 0).map_err(JournalError::storage("reading", path))?;
    if let Some((version, _)) = format::read_segment_header(&header[..read])
        && version != format::VERSION
    {
        return Err(JournalError::Version { path: path.to_owned(), version });
    }
    let mut scan = SegmentScan { end: name.first, ..SegmentScan::default() };
    let mut scanner = Scanner::new(file, name.first, readable);
    let mut damage: Option<Range<u64>> = None;
    let mut intact_to = readable.min(SEGMENT_HEADER as u64);
    while let Some(scanned) = scanner.next().map_err(JournalError::storage("reading", path))? {
        let (frame, position) = match scanned {
            Scanned::Damage(bytes) => {
                damage = Some(damage.map_or(bytes.start, |damage| damage.start)..bytes.end);
                continue;
            }
            Scanned::Frame(frame, position) => (frame, position),
        };
        let void = end.is_some_and(|end| frame.header.end() > end || frame.header.first > end);
        if void || frame.header.first < scan.end {
            // Of a group that failed; or out of order, which no writer does.
            let bytes = position..position + frame.header.frame_length();
            damage = Some(damage.map_or(bytes.start, |damage| damage.start)..bytes.end);
            continue;
        }
        let missing = scan.end..frame.header.first;
        if damage.is_some() || !missing.is_empty() {
            let bytes = damage.take().unwrap_or(position..position);
            scan.damaged.push(Damage { segment: path.to_owned(), bytes, lost: missing });
        }
        visit(&frame, position);
        intact_to = position + frame.header.frame_length();
        scan.end = frame.lost_to().unwrap_or(frame.header.end()).max(frame.header.first);
        if frame.header.flags.has(Flags::SNAPSHOT) {
            scan.snapshot = true;
            scan.updates.clear();
        }
        for (key, value) in frame.updates() {
            scan.updates.insert(key.to_owned(), value.map(Bytes::copy_from_slice));
        }
        scan.ids.append(&mut scan.last_ids);
        scan.last_ids.extend(frame.entries().filter(|entry| entry.kind == EntryKind::Record).map(|entry| entry.id));
        scan.last = Some(frame);
    }
    scan.tail = readable - intact_to;
    if let Some(end) = end.filter(|end| scan.end < *end) {
        let bytes = intact_to..readable;
        scan.damaged.push(Damage { segment: path.to_owned(), bytes, lost: scan.end..end });
    }
    Ok(scan)
}

/// The ids of a segment's records, oldest first.
pub(crate) fn ids_of_segment(
    storage: &dyn Storage,
    directory: &Path,
    segment: &Segment,
    end: u64,
) -> io::Result<Vec<Uuid>> {
    let path = segment.name.path(directory);
    match scan_segment(storage, &path, segment.name, segment.readable, Some(end), |_, _| ()) {
        Ok(mut scan) => {
            scan.ids.append(&mut scan.last_ids);
            Ok(scan.ids)
        }
        Err(JournalError::Storage { source, .. }) => Err(source),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// The segments from the last one with an intact snapshot on, read in order.
pub(crate) fn scan_back(
    storage: &dyn Storage,
    directory: &Path,
    listing: &Listing,
) -> Result<Vec<SegmentScan>, JournalError> {
    let mut scans = Vec::new();
    let mut end = None;
    for (name, entry) in listing.segments.iter().rev() {
        let scan = scan_segment(storage, &name.path(directory), *name, entry.length, end, |_, _| ())?;
        let complete = scan.snapshot;
        scans.push(scan);
        if complete {
            break;
        }
        end = Some(name.first);
    }
    scans.reverse();
    Ok(scans)
}

/// The states after these segments.
pub(crate) fn states_of(scans: &[SegmentScan]) -> BTreeMap<String, Bytes> {
    let mut states = BTreeMap::new();
    for scan in scans {
        if scan.snapshot {
            states.clear();
        }
        for (key, value) in &scan.updates {
            match value {
                Some(value) => drop(states.insert(key.clone(), value.clone())),
                None => drop(states.remove(key)),
            }
        }
    }
    states
}

/// Reads what there is and begins a new segment.
pub(crate) fn open(
    storage: Arc<dyn Storage>,
    directory: &Path,
    options: JournalOptions,
    clock: Arc<dyn Clock>,
) -> Result<(Writer, Recovery), JournalError> {
    storage.create_directories(directory).map_err(JournalError::storage("creating", directory))?;
    let listing = Listing::read(&*storage, directory).map_err(JournalError::storage("listing", directory))?;
    let mut torn_bytes = 0;
    for (_, entry) in &listing.unbegun {
        torn_bytes += entry.length;
        storage.remove_file(&entry.path).map_err(JournalError::storage("removing", &entry.path))?;
    }
    if !listing.unbegun.is_empty() {
        // Before anything is written: if one came back, it would make void what the new segment holds.
        storage.sync_directory(directory).map_err(JournalError::storage("syncing", directory))?;
    }
    let mut scans = scan_back(&*storage, directory, &listing)?;
    let states = states_of(&scans);
    let damaged = scans.iter().flat_map(|scan| scan.damaged.iter().cloned()).collect();
    let last_written = scans.iter().rev().find_map(|scan| scan.last.as_ref()).map(|frame| frame.header.time);
    let last = scans.pop().unwrap_or_default();
    let carried = last.last.as_ref().filter(|frame| frame.header.count > 0);
    let next = carried.map_or(last.end, |frame| frame.header.first);
    let closed = match &last.last {
        Some(frame) => frame.header.flags.has(Flags::CLOSED),
        None => listing.unbegun.is_empty(),
    };

    let window = rebuild_window(&*storage, directory, options.duplicate_window, &listing, &last.ids)?;
    let catalog = catalog_of(&listing, next, states);
    let shared = Arc::new(Shared::new(Arc::clone(&storage), directory, options.budget_bytes, catalog));
    let mut writer = Writer::new(storage, directory.to_owned(), options, clock, shared, window);
    if let Some((name, _)) = listing.segments.last() {
        writer.last_name = Some(*name);
        // Its file of ids, if there is one, may hold those of the frame that moves on.
        writer.shared.catalog().ids.retain(|other| other != name);
        writer.sealed.push((*name, last.ids));
    }
    match writer.make_reserve() {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => writer.enter_full(),
        made => made.map_err(JournalError::storage("reserving space in", directory))?,
    }
    let batch = carried.map(carry).unwrap_or_default().control();
    let (receipt, mut committed) = oneshot::channel();
    writer.commit(vec![Job { batch, receipt, room: None }]);
    let begun = committed.try_recv().unwrap_or(Err(CommitError::Closed));
    begun.map_err(|source| JournalError::Begin { directory: directory.to_owned(), source })?;

    let recovery = {
        let catalog = writer.shared.catalog();
        Recovery {
            first_index: catalog.first(),
            next_index: catalog.durable,
            segments: catalog.segments.len(),
            closed,
            last_written,
            torn_bytes: torn_bytes + last.tail,
            damaged,
        }
    };
    Ok((writer, recovery))
}

/// The entries of a frame as a batch.
fn carry(frame: &Frame) -> Batch {
    let mut batch = Batch { carried: true, ..Batch::default() };
    for entry in frame.entries() {
        let written: Result<(), std::convert::Infallible> =
            batch.push(entry.kind, entry.id, entry.time, &entry.salt, |out| {
                out.extend_from_slice(&entry.bytes);
                Ok(())
            });
        match written {
            Ok(()) => {}
        }
    }
    batch
}

fn catalog_of(listing: &Listing, durable: u64, states: BTreeMap<String, Bytes>) -> Catalog {
    let segments = listing.segments.iter().map(|(name, entry)| Segment {
        name: *name,
        readable: entry.length,
        bytes: entry.length,
        sealed_at: Some(timestamp(entry.modified)),
    });
    Catalog { segments: segments.collect(), ids: listing.ids.clone(), durable, states, ..Catalog::default() }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let milliseconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Timestamp::from_unix_milliseconds(i64::try_from(milliseconds).unwrap_or(i64::MAX))
}

/// The ids of the last records: of the last segment as it was read, of the others from their files of ids, or from the
/// segments where those are missing.
fn rebuild_window(
    storage: &dyn Storage,
    directory: &Path,
    limit: usize,
    listing: &Listing,
    last_ids: &[Uuid],
) -> Result<Window, JournalError> {
    let mut window = Window::new(limit);
    let last = listing.segments.last().map(|(name, _)| *name);
    let mut names: Vec<_> = listing.ids.iter().copied().chain(listing.segments.iter().map(|(name, _)| *name)).collect();
    names.retain(|name| Some(*name) != last);
    names.sort_unstable();
    names.dedup();
    let mut parts = vec![last_ids.to_vec()];
    let mut count = last_ids.len();
    for name in names.into_iter().rev() {
        if count >= limit {
            break;
        }
        let path = name.ids_path(directory);
        let mut ids = ids::read(storage, &path).map_err(JournalError::storage("reading", path))?;
        if ids.is_none()
            && let Some(place) = listing.segments.iter().position(|(other, _)| *other == name)
        {
            // Never the last segment, so there is a next one.
            let end = listing.segments.get(place + 1).map(|(next, _)| next.first);
            let entry = &listing.segments[place].1;
            let mut scan = scan_segment(storage, &entry.path, name, entry.length, end, |_, _| ())?;
            scan.ids.append(&mut scan.last_ids);
            ids = Some(scan.ids);
        }
        let ids = ids.unwrap_or_default();
        count += ids.len();
        parts.push(ids);
    }
    for id in parts.into_iter().rev().flatten() {
        window.insert(id);
    }
    window.commit();
    Ok(window)
}
