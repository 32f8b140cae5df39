//! Records are recognised by their ids: exactly, over the last so many, whatever happened meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]

mod support;

use actlog_core::Storage;
use actlog_journal::{Committed, Journal, JournalOptions};
use actlog_testkit::storage::{Fault, FaultStorage};
use support::{batch, entry, open, open_with, options, runtime, segments, wait_until, write};

/// Records only: their numbers do not end with 9.
fn records(count: u64) -> impl Iterator<Item = u64> {
    (0..).filter(|number| number % 10 != 9).take(usize::try_from(count).unwrap())
}

async fn duplicates_of(journal: &Journal, numbers: impl IntoIterator<Item = u64>) -> u32 {
    write(journal, numbers).await.duplicates
}

#[test]
fn a_record_that_is_there_is_dropped_and_counted_and_a_statement_is_not() {
    runtime().block_on(async {
        let (journal, _) = open(&FaultStorage::new(1));
        write(&journal, 0..10).await;
        let again = write(&journal, [3, 20, 3, 9, 4, 21, 21]).await;
        assert_eq!(again, Committed { first_index: Some(10), written: 3, duplicates: 4 });
        assert_eq!(write(&journal, [3]).await, Committed { first_index: None, written: 0, duplicates: 1 });
        let ids: Vec<_> = support::read_from(&journal, 10).await.0.iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [20, 9, 21].map(|number| entry(number, 0).id));
        assert_eq!(journal.statistics().duplicates, 5);
    });
}

#[test]
fn a_duplicate_of_a_record_in_flight_shares_its_fate() {
    for fails in [false, true] {
        runtime().block_on(async {
            let storage = FaultStorage::new(1);
            let (journal, _) = open_with(&storage, JournalOptions { segment_bytes: 1 << 20, ..options() }).unwrap();
            storage.hold_syncs(true);
            let first = journal.submit(batch(&[entry(0, 0)])).await.unwrap();
            wait_until(|| storage.syncs_waiting() == 1);
            let original = journal.submit(batch(&[entry(1, 0)])).await.unwrap();
            let duplicate = journal.submit(batch(&[entry(1, 0)])).await.unwrap();
            if fails {
                // The sync of the first group is next, then writing and syncing the second.
                storage.fail_at(storage.steps() + 2, Fault::Eio);
            }
            storage.hold_syncs(false);
            first.await.unwrap();
            let (original, duplicate) = (original.await, duplicate.await);
            if fails {
                assert!(original.is_err() && duplicate.is_err());
                assert_eq!(duplicates_of(&journal, [1]).await, 0, "it left the window");
            } else {
                assert_eq!((original.unwrap().written, duplicate.unwrap().duplicates), (1, 1));
            }
        });
    }
}

#[test]
fn the_window_holds_exactly_as_many_as_it_should() {
    runtime().block_on(async {
        let window = |duplicate_window| JournalOptions { duplicate_window, ..options() };
        let storage = FaultStorage::new(1);
        let (journal, _) = open_with(&storage, window(50)).unwrap();
        for number in records(100) {
            write(&journal, [number]).await;
        }
        let newest: Vec<_> = records(100).skip(50).collect();
        assert_eq!(duplicates_of(&journal, newest.clone()).await, 50);
        journal.shutdown().await.unwrap();
        for survivor in [storage.kill(), storage.crash(1)] {
            let (journal, _) = open_with(&survivor, window(50)).unwrap();
            assert_eq!(duplicates_of(&journal, newest.clone()).await, 50);
            assert_eq!(duplicates_of(&journal, records(50)).await, 0);
        }
        let (journal, _) = open_with(&FaultStorage::new(1), window(0)).unwrap();
        assert_eq!(duplicates_of(&journal, [1, 1, 2]).await, 0, "no window, no duplicates");
    });
}

#[test]
fn the_window_survives_restarts_with_its_files_missing_or_damaged() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let (journal, _) = open(&storage);
        for chunk in records(200).collect::<Vec<_>>().chunks(7) {
            write(&journal, chunk.iter().copied()).await;
        }
        journal.shutdown().await.unwrap();
        let storage = storage.kill();
        let with_ids: Vec<_> = segments(&storage).iter().map(|path| path.with_extension("ids")).collect();
        assert!(with_ids.len() > 4);
        storage.remove_file(&with_ids[0]).unwrap();
        storage.damage(&with_ids[1], 30, 1).unwrap();
        storage.damage(&with_ids[2], 12, 1).unwrap();
        let (journal, _) = open(&storage);
        assert_eq!(duplicates_of(&journal, records(200)).await, 200);
    });
}

#[test]
fn ids_of_released_segments_stay_in_the_window_and_their_files_go_when_they_leave_it() {
    runtime().block_on(async {
        let window = JournalOptions { duplicate_window: 60, ..options() };
        let storage = FaultStorage::new(1);
        let (journal, _) = open_with(&storage, window).unwrap();
        for number in records(50) {
            write(&journal, [number]).await;
        }
        journal.release(u64::MAX).unwrap();
        journal.shutdown().await.unwrap();
        let storage = storage.crash(3);
        let (journal, _) = open_with(&storage, window).unwrap();
        journal.release(u64::MAX).unwrap();
        assert_eq!(duplicates_of(&journal, records(50)).await, 50);
        let later: Vec<_> = records(500).skip(50).collect();
        for number in &later {
            write(&journal, [*number]).await;
        }
        journal.release(u64::MAX).unwrap();
        let files = storage.list(support::DIRECTORY.as_ref()).unwrap();
        let ids = files.iter().filter(|file| file.path.extension().is_some_and(|end| end == "ids")).count();
        assert!((1..15).contains(&ids), "{ids} files of ids are left");
        drop(journal);
        let (journal, _) = open_with(&storage.crash(4), window).unwrap();
        assert_eq!(duplicates_of(&journal, later.iter().rev().take(60).copied()).await, 60);
    });
}
