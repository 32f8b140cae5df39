//! Any bytes as a segment: checking, inspecting, repairing and opening come to an end, without a panic, and without
//! allocating more than the file is long.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use actlog_core::{Storage, SystemClock};
use actlog_journal::{Journal, JournalOptions, inspect, repair, verify};
use actlog_testkit::storage::FaultStorage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let directory = Path::new("journal");
    let storage = FaultStorage::new(0);
    storage.put(&directory.join("00000000000000000000.seg"), content);
    let _ = verify(&storage, directory);
    let _ = inspect(&storage, directory);
    let options = JournalOptions { reserve_bytes: 0, ..JournalOptions::default() };
    let opened: Arc<dyn Storage> = Arc::new(storage.fork());
    if let Ok((journal, recovery)) = Journal::open(opened, directory, options, Arc::new(SystemClock)) {
        assert!(journal.durable() >= recovery.first_index);
    }
    let _ = repair(&storage, directory);
    let after = verify(&storage, directory).unwrap_or_default();
    assert!(after.iter().all(|problem| problem.kind != actlog_journal::ProblemKind::Damaged), "{after:?}");
});
