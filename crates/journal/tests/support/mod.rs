//! What the tests of the journal share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{Entry, EntryKind, Storage, SystemClock, Timestamp};
use actlog_journal::{Batch, Committed, Journal, JournalError, JournalOptions, Missing, ReadError, ReadItem, Recovery};
use actlog_testkit::storage::FaultStorage;
use uuid::Uuid;

pub(crate) const DIRECTORY: &str = "data/journal";

/// Small segments, so that there are many; no frame but those that the test asks for.
pub(crate) fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: 4 << 10,
        reserve_bytes: 8 << 10,
        group_bytes: 4 << 10,
        idle_mark_after: Duration::from_secs(3600),
        ..JournalOptions::default()
    }
}

pub(crate) fn open_with(storage: &FaultStorage, options: JournalOptions) -> Result<(Journal, Recovery), JournalError> {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    Journal::open(storage, Path::new(DIRECTORY), options, Arc::new(SystemClock))
}

pub(crate) fn open(storage: &FaultStorage) -> (Journal, Recovery) {
    open_with(storage, options()).unwrap()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// The entry of that number, always the same, except for its index.
pub(crate) fn entry(number: u64, length: usize) -> Entry {
    let kind = if number % 10 == 9 { EntryKind::Statement } else { EntryKind::Record };
    let text = format!("{{\"Number\":{number},\"Text\":\"{}\"}}", "x".repeat(length));
    Entry {
        index: 0,
        kind,
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_le_bytes()),
        time: Timestamp::from_unix_milliseconds(1_500_000_000_000 + number.cast_signed()),
        salt: [number.to_le_bytes()[0]; 32],
        bytes: text.into(),
    }
}

pub(crate) fn push(batch: &mut Batch, entry: &Entry) {
    let written: Result<(), ()> = batch.push(entry.kind, entry.id, entry.time, &entry.salt, |out| {
        out.extend_from_slice(&entry.bytes);
        Ok(())
    });
    written.unwrap();
}

pub(crate) fn batch(entries: &[Entry]) -> Batch {
    let mut batch = Batch::new();
    entries.iter().for_each(|entry| push(&mut batch, entry));
    batch
}

/// Submits a batch of entries with these numbers, and waits until it is durable.
pub(crate) async fn write(journal: &Journal, numbers: impl IntoIterator<Item = u64>) -> Committed {
    let entries: Vec<_> = numbers.into_iter().map(|number| entry(number, 50)).collect();
    journal.submit(batch(&entries)).await.unwrap().await.unwrap()
}

/// Entries, and what is missing.
pub(crate) type Content = (Vec<Entry>, Vec<(std::ops::Range<u64>, Missing)>);

/// All that is durable from an index on.
pub(crate) async fn try_read_from(journal: &Journal, from: u64) -> Result<Content, ReadError> {
    let mut reader = journal.reader(from);
    let (mut entries, mut missing) = (Vec::new(), Vec::new());
    while reader.position() < journal.durable() {
        match reader.next(1000).await? {
            ReadItem::Entries(some) => entries.extend(some),
            ReadItem::Missing { indices, reason } => missing.push((indices, reason)),
        }
    }
    Ok((entries, missing))
}

/// All that is durable from an index on, where reading works.
pub(crate) async fn read_from(journal: &Journal, from: u64) -> Content {
    try_read_from(journal, from).await.unwrap()
}

/// Waits until a condition holds.
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "the condition never held");
        std::thread::yield_now();
    }
}

/// The paths of the segments, in order.
pub(crate) fn segments(storage: &FaultStorage) -> Vec<std::path::PathBuf> {
    let entries = storage.list(Path::new(DIRECTORY)).unwrap();
    entries
        .into_iter()
        .map(|entry| entry.path)
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .collect()
}
