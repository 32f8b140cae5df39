//! What the journal promises to its callers, in the absence of crashes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]

mod support;

use std::path::Path;
use std::time::Duration;

use actlog_core::{Entry, OpenMode, Storage};
use actlog_journal::{
    Batch, CommitError, Committed, JournalError, JournalOptions, MAX_BATCH, MAX_STATE_KEY, MAX_STATE_VALUE, Missing,
    Pressure, ReadItem, SubmitError, inspect,
};
use actlog_testkit::storage::{Fault, FaultStorage};
use support::{DIRECTORY, batch, entry, open, open_with, options, read_from, runtime, segments, wait_until, write};

fn numbered(range: std::ops::Range<u64>, first: u64) -> Vec<Entry> {
    range.clone().zip(first..).map(|(number, index)| Entry { index, ..entry(number, 50) }).collect()
}

#[test]
fn entries_come_back_in_order_with_their_bytes_also_after_a_restart() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let (journal, recovery) = open(&storage);
        assert!(recovery.closed && recovery.next_index == 0, "{recovery:?}");
        assert_eq!(write(&journal, 0..5).await, Committed { first_index: Some(0), written: 5, duplicates: 0 });
        assert_eq!(write(&journal, 5..100).await, Committed { first_index: Some(5), written: 95, duplicates: 0 });
        assert_eq!(read_from(&journal, 0).await, (numbered(0..100, 0), vec![]));
        assert_eq!(read_from(&journal, 42).await, (numbered(42..100, 42), vec![]));
        journal.shutdown().await.unwrap();
        let (journal, recovery) = open(&storage);
        assert!(recovery.closed && recovery.next_index == 100 && recovery.last_written.is_some(), "{recovery:?}");
        write(&journal, 100..110).await;
        assert_eq!(read_from(&journal, 0).await, (numbered(0..110, 0), vec![]));
    });
}

#[test]
fn an_entry_may_be_empty_or_large_and_a_batch_may_be_empty() {
    runtime().block_on(async {
        let (journal, _) = open(&FaultStorage::new(1));
        let large = entry(0, 5 << 20);
        let empty = Entry { bytes: "".into(), ..entry(1, 0) };
        journal.submit(batch(&[large.clone(), empty.clone()])).await.unwrap().await.unwrap();
        let nothing = journal.submit(Batch::new()).await.unwrap().await.unwrap();
        assert_eq!(nothing, Committed { first_index: None, written: 0, duplicates: 0 });
        assert_eq!(read_from(&journal, 0).await.0, [large, Entry { index: 1, ..empty }]);
    });
}

#[test]
fn an_entry_that_could_not_be_encoded_leaves_no_trace_in_its_batch() {
    let mut batch = batch(&[entry(0, 5)]);
    let before = batch.bytes();
    let failed = batch.push(entry(1, 0).kind, entry(1, 0).id, entry(1, 0).time, &[0; 32], |out| {
        out.extend_from_slice(b"half");
        Err("no")
    });
    assert_eq!((failed, batch.len(), batch.bytes()), (Err("no"), 1, before));
}

#[test]
fn batches_that_wait_share_one_sync() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let (journal, _) = open_with(&storage, JournalOptions { segment_bytes: 1 << 20, ..options() }).unwrap();
        write(&journal, 0..1).await;
        storage.hold_syncs(true);
        let mut tickets = vec![journal.submit(batch(&[entry(1, 0)])).await.unwrap()];
        wait_until(|| storage.syncs_waiting() == 1);
        for number in 2..20 {
            tickets.push(journal.submit(batch(&[entry(number, 0)])).await.unwrap());
        }
        let groups = journal.statistics().groups;
        assert_eq!(journal.durable(), 1, "nothing is durable before its sync");
        storage.hold_syncs(false);
        for ticket in tickets {
            ticket.await.unwrap();
        }
        assert_eq!((journal.statistics().groups - groups, journal.durable()), (2, 20));
    });
}

#[test]
fn a_reader_waits_for_what_is_not_there_yet_and_loses_nothing_when_it_is_cancelled() {
    runtime().block_on(async {
        let (journal, _) = open(&FaultStorage::new(1));
        let mut reader = journal.reader(0);
        for round in 0..50 {
            // Polled once and dropped, at whatever point it has come to.
            for _ in 0..round {
                let _ = tokio::time::timeout(Duration::ZERO, reader.next(1)).await;
            }
            let before = reader.position();
            let (written, item) = tokio::join!(write(&journal, round..round + 1), reader.next(1));
            assert_eq!(written.first_index, Some(round));
            assert_eq!((before, item.unwrap()), (round, ReadItem::Entries(numbered(round..round + 1, round))));
        }
    });
}

#[test]
fn a_reader_gives_about_as_many_bytes_as_it_was_asked_for() {
    runtime().block_on(async {
        let (journal, _) = open(&FaultStorage::new(1));
        write(&journal, 0..100).await;
        let length = entry(50, 50).bytes.len();
        let mut reader = journal.reader(10);
        for (asked, expected) in [(0, 1), (1, 1), (3 * length, 3), (4 * length - 1, 3), (usize::MAX, 82)] {
            let Ok(ReadItem::Entries(entries)) = reader.next(asked).await else { panic!("entries") };
            assert_eq!(entries.len(), expected, "asked for {asked} bytes");
        }
        assert_eq!(reader.position(), 100);
    });
}

#[test]
fn a_read_that_failed_can_be_tried_again() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let (journal, _) = open(&storage);
        write(&journal, 0..3).await;
        let mut reader = journal.reader(0);
        storage.fail_reads(true);
        assert!(reader.next(1000).await.is_err());
        storage.fail_reads(false);
        assert_eq!(reader.next(1000).await.unwrap(), ReadItem::Entries(numbered(0..3, 0)));
    });
}

#[test]
fn states_are_durable_with_their_batch_and_survive_segments_and_restarts() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let (journal, _) = open(&storage);
        let mut first = batch(&[entry(0, 0)]);
        first.set_state("source/a", "one");
        first.set_state("source/a", "two");
        first.set_state("sink/b", "cursor");
        first.set_state("sink/gone", "old");
        storage.hold_syncs(true);
        let ticket = journal.submit(first).await.unwrap();
        wait_until(|| storage.syncs_waiting() == 1);
        assert_eq!(journal.state("source/a"), None, "not before it is durable");
        storage.hold_syncs(false);
        ticket.await.unwrap();
        assert_eq!(journal.state("source/a").unwrap(), "two");
        let mut second = Batch::new().control();
        second.remove_state("sink/gone");
        second.remove_state("sink/never");
        journal.submit(second).await.unwrap().await.unwrap();
        write(&journal, 1..200).await;
        assert!(segments(&storage).len() > 1);
        drop(journal);
        let (journal, _) = open(&storage.crash(2));
        let states: Vec<_> = journal.states().into_iter().collect();
        assert_eq!(states, [("sink/b".to_owned(), "cursor".into()), ("source/a".to_owned(), "two".into())]);
    });
}

#[test]
fn what_is_too_large_is_refused_alone() {
    runtime().block_on(async {
        let (journal, _) = open(&FaultStorage::new(1));
        let with_state = |key: usize, value: usize| {
            let mut batch = Batch::new();
            batch.set_state("k".repeat(key), vec![0; value]);
            batch
        };
        for batch in
            [batch(&[entry(0, MAX_BATCH)]), with_state(MAX_STATE_KEY + 1, 0), with_state(1, MAX_STATE_VALUE + 1)]
        {
            let refused = journal.submit(batch).await.map(drop);
            assert!(matches!(refused, Err(SubmitError::TooLarge(_))), "{refused:?}");
        }
        journal.submit(with_state(MAX_STATE_KEY, MAX_STATE_VALUE)).await.unwrap().await.unwrap();
        // All states together are bounded too; the batches around the one that goes too far are not affected.
        let mut refused = 0;
        for number in 0..20 {
            let mut batch = batch(&[entry(number, 0)]);
            batch.set_state(format!("sink/{number}"), vec![0; MAX_STATE_VALUE]);
            match journal.submit(batch).await.unwrap().await {
                Ok(_) => assert_eq!(refused, 0),
                Err(CommitError::TooLarge(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((refused, journal.states().len(), journal.durable()), (6, 15, 14));
    });
}

#[test]
fn the_queue_is_bounded_and_waits() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let (journal, _) = open_with(&storage, JournalOptions { queue_bytes: 0, ..options() }).unwrap();
        storage.hold_syncs(true);
        let first = journal.try_submit(batch(&[entry(0, MAX_BATCH / 2)])).unwrap();
        assert_eq!(journal.try_submit(batch(&[entry(1, MAX_BATCH / 2)])).map(drop), Err(SubmitError::Busy));
        let second = tokio::time::timeout(Duration::ZERO, journal.submit(batch(&[entry(1, MAX_BATCH / 2)]))).await;
        assert!(second.is_err(), "it waits");
        let (second, ()) = tokio::join!(journal.submit(batch(&[entry(2, MAX_BATCH / 2)])), async {
            storage.hold_syncs(false);
        });
        assert_eq!(first.await.unwrap().first_index, Some(0));
        assert_eq!(second.unwrap().await.unwrap().first_index, Some(1), "the one that was given up is not there");
    });
}

#[test]
fn after_the_shutdown_nothing_is_taken_and_all_that_was_taken_is_there() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let (journal, _) = open(&storage);
        let tickets: Vec<_> = (0..50).map(|number| journal.try_submit(batch(&[entry(number, 0)])).unwrap()).collect();
        journal.shutdown().await.unwrap();
        for ticket in tickets {
            ticket.await.unwrap();
        }
        assert_eq!(journal.submit(Batch::new()).await.map(drop), Err(SubmitError::Closed));
        assert_eq!(journal.try_submit(Batch::new()).map(drop), Err(SubmitError::Closed));
        journal.shutdown().await.unwrap();
        let (journal, recovery) = open(&storage.crash(1));
        assert!(recovery.closed);
        assert_eq!(journal.durable(), 50);
    });
}

#[test]
fn after_a_failed_sync_the_file_is_left_and_the_next_group_gets_the_same_index() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let (journal, _) = open(&storage);
        write(&journal, 0..3).await;
        let left = segments(&storage).pop().unwrap();
        storage.fail_at(storage.steps() + 1, Fault::Eio);
        let failed = journal.submit(batch(&[entry(3, 0)])).await.unwrap().await;
        assert!(matches!(failed, Err(CommitError::Storage(_))), "{failed:?}");
        assert_eq!(journal.pressure(), Some(Pressure::Failing));
        let length = storage.length(&left).unwrap();
        assert_eq!(write(&journal, 4..6).await.first_index, Some(3));
        assert_eq!(write(&journal, 3..4).await.first_index, Some(5), "ids of a failed group leave the window");
        assert_eq!(storage.length(&left).unwrap(), length, "never written again");
        assert_eq!((journal.pressure(), journal.statistics().failed_groups), (None, 1));
        let ids = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>();
        let expected: Vec<_> = [0, 1, 2, 4, 5, 3].map(|number| entry(number, 0).id).into();
        assert_eq!(ids(read_from(&journal, 0).await.0), expected);
        let (journal, recovery) = open(&storage.kill());
        assert_eq!(recovery.damaged, [], "what the left file holds is void, not damaged");
        assert_eq!(ids(read_from(&journal, 0).await.0), expected);
    });
}

#[test]
fn a_segment_that_failed_and_could_not_be_removed_is_released_before_the_one_that_makes_it_void() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let options = JournalOptions { duplicate_window: 0, ..options() };
        let (journal, _) = open_with(&storage, options).unwrap();
        write(&journal, 0..1).await;
        // Appending fails; then the next segment is created and written, and can be neither synced nor removed.
        storage.fail_at(storage.steps(), Fault::Eio);
        assert!(journal.submit(batch(&[entry(1, 0)])).await.unwrap().await.is_err());
        let create = storage.steps();
        storage.fail_at(create + 2, Fault::Eio);
        storage.fail_at(create + 3, Fault::Eio);
        assert!(journal.submit(batch(&[entry(1, 0)])).await.unwrap().await.is_err());
        write(&journal, 1..30).await;
        // So that all of these can be released.
        storage.fail_at(storage.steps(), Fault::Eio);
        assert!(journal.submit(batch(&[entry(30, 0)])).await.unwrap().await.is_err());
        write(&journal, 30..31).await;
        journal.release(30).unwrap();
        assert_eq!(journal.first_index(), 30);
        journal.shutdown().await.unwrap();
        assert_eq!(actlog_journal::verify(&storage, DIRECTORY.as_ref()).unwrap(), []);
    });
}

#[test]
fn after_a_batch_with_a_position_failed_no_later_one_moves_the_position_until_it_is_mended() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        // Every batch is a group of its own.
        let (journal, _) = open_with(&storage, JournalOptions { group_bytes: 0, ..options() }).unwrap();
        let at = |number: u64| {
            let mut batch = batch(&[entry(number, 0)]);
            batch.set_state("source/a", vec![u8::try_from(number).unwrap()]);
            batch
        };
        journal.submit(at(1)).await.unwrap().await.unwrap();
        storage.hold_syncs(true);
        let first = journal.submit(at(2)).await.unwrap();
        wait_until(|| storage.syncs_waiting() == 1);
        // The two after it are in the queue already when the first of them fails.
        let (failing, later) = (journal.submit(at(3)).await.unwrap(), journal.submit(at(4)).await.unwrap());
        storage.fail_at(storage.steps() + 1, Fault::Eio);
        storage.hold_syncs(false);
        first.await.unwrap();
        assert!(matches!(failing.await, Err(CommitError::Storage(_))));
        assert!(matches!(later.await, Err(CommitError::Broken)));
        assert_eq!(journal.state("source/a").unwrap()[..], [2]);
        write(&journal, 5..6).await;

        let mut mended = Batch::new().control();
        mended.mend("source/a");
        journal.submit(mended).await.unwrap().await.unwrap();
        journal.submit(at(3)).await.unwrap().await.unwrap();
        assert_eq!(journal.state("source/a").unwrap()[..], [3]);
    });
}

#[test]
fn a_full_disk_refuses_data_and_still_takes_cursors_and_takes_data_again_when_there_is_room() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        storage.create_directories(Path::new(DIRECTORY)).unwrap();
        let options = JournalOptions { idle_mark_after: Duration::from_millis(1), ..options() };
        let (journal, _) = open_with(&storage, options).unwrap();
        storage.set_capacity(Some(storage.used() + (8 << 10)));
        let mut number = 0;
        let refused = loop {
            match journal.submit(batch(&[entry(number, 500)])).await {
                Ok(ticket) => match ticket.await {
                    Ok(_) => number += 1,
                    Err(error) => assert!(matches!(error, CommitError::Full(Pressure::DiskFull)), "{error}"),
                },
                Err(error) => break error,
            }
            assert!(number < 100);
        };
        assert!(matches!(refused, SubmitError::Full { pressure: Pressure::DiskFull, .. }), "{refused}");
        assert_eq!(storage.length(&Path::new(DIRECTORY).join("reserve")).unwrap(), None, "the reserve was given up");
        for cursor in 0..10_u8 {
            let mut batch =
                batch(&[Entry { kind: actlog_core::EntryKind::Statement, ..entry(1000 + u64::from(cursor), 0) }]);
            batch.set_state("sink/a", vec![cursor]);
            journal.submit(batch.control()).await.unwrap().await.unwrap();
        }
        assert_eq!(journal.state("sink/a").unwrap(), [9_u8].as_slice());
        storage.set_capacity(None);
        journal.wait_for_room().await;
        assert_eq!(storage.length(&Path::new(DIRECTORY).join("reserve")).unwrap(), Some(8 << 10));
        assert_eq!(write(&journal, number..number + 1).await.first_index, Some(number + 10));
        assert_eq!(read_from(&journal, 0).await.1, []);
    });
}

#[test]
fn the_journal_opens_on_a_full_disk_thanks_to_its_reserve() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let (journal, _) = open(&storage);
        write(&journal, 0..5).await;
        let storage = storage.kill();
        storage.set_capacity(Some(storage.used()));
        let (journal, _) = open(&storage);
        assert_eq!(journal.pressure(), Some(Pressure::DiskFull));
        assert_eq!(read_from(&journal, 0).await.0, numbered(0..5, 0));
    });
}

#[test]
fn the_budget_refuses_data_until_segments_are_released() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let (journal, _) = open_with(&storage, JournalOptions { budget_bytes: 40 << 10, ..options() }).unwrap();
        let mut number = 0;
        let refused = loop {
            match journal.submit(batch(&[entry(number, 500)])).await {
                Ok(ticket) => drop(ticket.await.unwrap()),
                Err(error) => break error,
            }
            number += 1;
            assert!(number < 1000);
        };
        assert!(matches!(refused, SubmitError::Full { pressure: Pressure::Budget, .. }), "{refused}");
        let mut cursor = Batch::new().control();
        cursor.set_state("sink/a", "1");
        journal.submit(cursor).await.unwrap().await.unwrap();
        let before = journal.segments();
        assert_eq!(journal.release(before[0].end - 1).unwrap(), []);
        let released = journal.release(before[2].end).unwrap();
        assert_eq!(released, before[..3]);
        assert_eq!(journal.pressure(), None);
        assert_eq!(journal.first_index(), before[3].first);
        assert_eq!(write(&journal, number..number + 1).await.first_index, Some(number));
        // The newest segment stays, whatever is asked for.
        journal.release(u64::MAX).unwrap();
        assert_eq!(journal.segments().len(), 1);
        assert_eq!(segments(&storage).len(), 1);
        let first = journal.first_index();
        assert_eq!(read_from(&journal, 0).await.1, [(0..first, Missing::Released)]);
        assert_eq!(open(&storage.crash(1)).1.first_index, first);
    });
}

#[test]
fn a_reader_goes_on_behind_what_is_released_under_it() {
    runtime().block_on(async {
        let (journal, _) = open(&FaultStorage::new(1));
        write(&journal, 0..30).await;
        let mut reader = journal.reader(0);
        assert_eq!(reader.next(1).await.unwrap(), ReadItem::Entries(numbered(0..1, 0)));
        for round in 1..10 {
            write(&journal, round * 30..(round + 1) * 30).await;
        }
        journal.release(100).unwrap();
        let first = journal.first_index();
        let mut next = 1;
        while next < 300 {
            match reader.next(1000).await.unwrap() {
                ReadItem::Entries(entries) => {
                    assert_eq!(entries, numbered(next..next + entries.len() as u64, next));
                    next += entries.len() as u64;
                }
                ReadItem::Missing { indices, reason } => {
                    assert_eq!((indices.start, indices.end, reason), (next, first, Missing::Released));
                    next = first;
                }
            }
        }
    });
}

#[test]
fn a_segment_of_a_newer_format_is_refused_by_name() {
    let storage = FaultStorage::new(1);
    drop(open(&storage));
    let path = segments(&storage).remove(0);
    let file = storage.open(&path, OpenMode::Write).unwrap();
    let mut header = storage.read(&path, 1 << 20).unwrap();
    header[8] = 2;
    let crc = crc32c::crc32c(&header[..28]).to_le_bytes();
    header[28..32].copy_from_slice(&crc);
    file.write_all_at(&header, 0).unwrap();
    let refused = open_with(&storage, options()).map(drop);
    assert!(matches!(refused, Err(JournalError::Version { version: 2, .. })), "{refused:?}");
    assert!(matches!(inspect(&storage, Path::new(DIRECTORY)), Err(JournalError::Version { .. })));
}

#[test]
fn an_inspection_counts_what_is_there_and_writes_nothing() {
    runtime().block_on(async {
        let storage = FaultStorage::new(1);
        let (journal, _) = open(&storage);
        let mut first = batch(&[]);
        first.set_state("sink/a", "12345");
        journal.submit(first).await.unwrap().await.unwrap();
        write(&journal, 0..100).await;
        journal.shutdown().await.unwrap();
        let steps = storage.steps();
        let inspection = inspect(&storage, Path::new(DIRECTORY)).unwrap();
        assert_eq!(storage.steps(), steps);
        let sum =
            |count: fn(&actlog_journal::SegmentInspection) -> u64| inspection.segments.iter().map(count).sum::<u64>();
        assert_eq!((sum(|segment| segment.records), sum(|segment| segment.statements)), (90, 10));
        assert_eq!(inspection.segments.last().unwrap().end, 100);
        let lengths: Vec<_> = inspection.states.iter().map(|(key, value)| (key.as_str(), value.len())).collect();
        assert_eq!(lengths, [("sink/a", 5)]);
    });
}
