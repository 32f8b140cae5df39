//! Damage at rest: every byte that was durable and is not what it was is noticed, whatever else can be read is read,
//! and nothing panics.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]

mod support;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actlog_core::{Entry, Storage};
use actlog_journal::{Batch, Journal, JournalOptions, Missing, ProblemKind, inspect, repair, verify};
use actlog_testkit::storage::FaultStorage;
use proptest::prelude::*;
use support::{DIRECTORY, batch, entry, open, open_with, options, read_from, runtime, segments, write};

/// Segments of a few frames each, closed in good order, so that everything is proven.
async fn three_segments() -> FaultStorage {
    let storage = FaultStorage::new(1);
    let (journal, _) = open_with(&storage, JournalOptions { segment_bytes: 1 << 20, ..options() }).unwrap();
    drop(fill(journal, 0).await);
    for first in [20, 40] {
        let (journal, _) = open_with(&storage, JournalOptions { segment_bytes: 1 << 20, ..options() }).unwrap();
        drop(fill(journal, first).await);
    }
    storage
}

async fn fill(journal: Journal, first: u64) -> Journal {
    for group in 0..4 {
        let numbers: Vec<_> = (first + group * 5..first + group * 5 + 5).map(|number| entry(number, 10)).collect();
        let mut batch = batch(&numbers);
        batch.set_state("source/a", (first + group).to_le_bytes().to_vec());
        journal.submit(batch).await.unwrap().await.unwrap();
    }
    journal.shutdown().await.unwrap();
    journal
}

fn reopen(storage: &FaultStorage) -> (Journal, actlog_journal::Recovery) {
    open_with(storage, JournalOptions { duplicate_window: 0, ..options() }).unwrap()
}

fn lost(missing: &[(Range<u64>, Missing)]) -> Vec<u64> {
    missing.iter().flat_map(|(indices, _)| indices.clone()).collect()
}

/// What was read and what was reported as missing are together all that there was, in order.
fn assert_complete(entries: &[Entry], missing: &[(Range<u64>, Missing)], count: u64) {
    assert!(missing.iter().all(|(indices, reason)| *reason == Missing::Damaged && !indices.is_empty()));
    let mut all: Vec<_> = entries.iter().map(|entry| entry.index).chain(lost(missing)).collect();
    assert!(entries.is_sorted_by_key(|entry| entry.index));
    all.sort_unstable();
    assert_eq!(all, (0..count).collect::<Vec<_>>());
    for found in entries {
        assert_eq!(found, &Entry { index: found.index, ..entry(found.index, 10) });
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_segment_is_reported_and_costs_its_group_only() {
    runtime().block_on(async {
        let original = three_segments().await;
        let paths = segments(&original);
        assert_eq!(paths.len(), 3);
        for (place, path) in paths.iter().enumerate() {
            // Behind the last entry of a segment that is not the last there is a mark of 40 bytes. A group that failed
            // may be there as well; nothing is lost with either.
            let proof = if place == 2 { 0 } else { 40 };
            for offset in 0..original.length(path).unwrap().unwrap() - proof {
                let storage = original.fork();
                storage.damage(path, offset, 1 << (offset % 8)).unwrap();
                let problems = verify(&storage, Path::new(DIRECTORY)).unwrap();
                assert!(!problems.is_empty(), "{}, byte {offset}", path.display());
                assert!(problems.iter().all(|problem| problem.segment == *path), "{problems:?}");
                let reported: Vec<_> = problems.iter().flat_map(|problem| problem.lost.clone()).collect();
                let (journal, recovery) = reopen(&storage);
                assert_eq!(journal.durable(), 60, "{recovery:?}");
                let (entries, missing) = read_from(&journal, 0).await;
                assert_complete(&entries, &missing, 60);
                assert_eq!(lost(&missing), reported, "{}, byte {offset}", path.display());
                assert!(reported.is_empty() || reported.len() == 5, "one group: {reported:?}");
                if place == 2 && !reported.is_empty() {
                    let found: Vec<_> = recovery.damaged.iter().flat_map(|damage| damage.lost.clone()).collect();
                    assert_eq!(found, reported, "opening reports what it reads");
                }
            }
        }
    });
}

#[test]
fn damage_below_a_mark_is_reported_and_without_one_it_is_a_torn_tail() {
    runtime().block_on(async {
        for marked in [false, true] {
            let storage = FaultStorage::new(1);
            let idle_mark_after = Duration::from_millis(1);
            let options = if marked { JournalOptions { idle_mark_after, ..options() } } else { options() };
            let (journal, _) = open_with(&storage, options).unwrap();
            write(&journal, 0..5).await;
            write(&journal, 5..8).await;
            let groups = journal.statistics().groups;
            if marked {
                support::wait_until(|| journal.statistics().groups > groups);
            }
            let storage = storage.kill();
            let path = segments(&storage).remove(0);
            let bytes = storage.read(&path, 1 << 20).unwrap();
            let content = &entry(7, 50).bytes;
            let at = bytes.windows(content.len()).position(|window| window == content).unwrap();
            storage.damage(&path, at as u64, 1).unwrap();
            let (journal, recovery) = open(&storage);
            let (entries, missing) = read_from(&journal, 0).await;
            assert_eq!(entries.len(), 5);
            if marked {
                assert_eq!((journal.durable(), recovery.torn_bytes), (8, 0));
                assert_eq!(recovery.damaged[0].lost, 5..8);
                assert_eq!(missing, [(5..8, Missing::Damaged)]);
            } else {
                assert_eq!((journal.durable(), recovery.damaged.len()), (5, 0));
                assert!(recovery.torn_bytes > 0);
                assert_eq!(write(&journal, 5..8).await.duplicates, 0, "what was cut can be delivered again");
            }
        }
    });
}

#[test]
fn a_lost_segment_is_a_reported_gap() {
    runtime().block_on(async {
        let storage = three_segments().await;
        storage.remove_file(&segments(&storage)[1]).unwrap();
        let (journal, _) = reopen(&storage);
        let (entries, missing) = read_from(&journal, 0).await;
        assert_complete(&entries, &missing, 60);
        assert_eq!(missing, [(20..40, Missing::Damaged)]);
        assert_eq!(verify(&storage, Path::new(DIRECTORY)).unwrap()[0].lost, 20..40);
    });
}

#[test]
fn states_are_found_though_the_newest_snapshot_is_damaged() {
    runtime().block_on(async {
        let storage = three_segments().await;
        storage.damage(&segments(&storage)[2], 60, 1).unwrap();
        let (journal, _) = reopen(&storage);
        assert_eq!(journal.state("source/a").unwrap(), 43_u64.to_le_bytes().as_slice());
    });
}

#[test]
fn a_repair_keeps_the_original_and_leaves_a_journal_that_says_what_is_lost() {
    runtime().block_on(async {
        let original = three_segments().await;
        let paths = segments(&original);
        let damage: [&[(usize, u64)]; 4] = [&[(0, 300)], &[(1, 50), (1, 1200)], &[(0, 5)], &[(0, 700), (2, 700)]];
        for places in damage {
            let copy = original.fork();
            for (segment, offset) in places {
                copy.damage(&paths[*segment], *offset, 0x10).unwrap();
            }
            let directory = Path::new(DIRECTORY);
            let before = verify(&copy, directory).unwrap();
            let damaged = copy.read(&paths[places[0].0], 1 << 20).unwrap();
            let repairs = repair(&copy, directory).unwrap();
            assert_eq!(repairs.iter().map(|repair| &repair.segment).collect::<Vec<_>>(), distinct(&paths, places));
            assert_eq!(copy.read(&repairs[0].original, 1 << 20).unwrap(), damaged);
            let after = verify(&copy, directory).unwrap();
            assert!(after.iter().all(|problem| problem.kind == ProblemKind::Lost), "{after:?}");
            let ranges = |problems: &[actlog_journal::Problem]| -> Vec<u64> {
                problems.iter().flat_map(|problem| problem.lost.clone()).collect()
            };
            assert_eq!(ranges(&after), ranges(&before));
            assert_eq!(repair(&copy, directory).unwrap(), [], "nothing is left to do");
            let copy = copy.crash(2);
            let (journal, recovery) = reopen(&copy);
            assert_eq!((journal.durable(), recovery.closed), (60, true));
            let (entries, missing) = read_from(&journal, 0).await;
            assert_complete(&entries, &missing, 60);
        }
    });
}

fn distinct<'a>(paths: &'a [PathBuf], places: &[(usize, u64)]) -> Vec<&'a PathBuf> {
    let mut segments: Vec<_> = places.iter().map(|(segment, _)| &paths[*segment]).collect();
    segments.dedup();
    segments
}

#[test]
fn a_repair_that_is_interrupted_at_any_step_loses_nothing_that_could_be_read() {
    runtime().block_on(async {
        for step in 0.. {
            let storage = three_segments().await;
            let path = segments(&storage)[1].clone();
            storage.damage(&path, 300, 1).unwrap();
            storage.halt_at(storage.steps() + step);
            let done = repair(&storage, Path::new(DIRECTORY)).is_ok();
            let survivor = storage.crash(step);
            let kinds: Vec<_> =
                verify(&survivor, Path::new(DIRECTORY)).unwrap().iter().map(|problem| problem.kind).collect();
            assert!(
                kinds == [ProblemKind::Lost] || (kinds == [ProblemKind::Damaged] && !done),
                "step {step}: {kinds:?}"
            );
            repair(&survivor, Path::new(DIRECTORY)).unwrap();
            let (journal, _) = reopen(&survivor);
            let (entries, missing) = read_from(&journal, 0).await;
            assert_complete(&entries, &missing, 60);
            assert_eq!(lost(&missing).len(), 5);
            if done {
                return;
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a segment holds, opening, reading, checking and repairing come to an end without a panic, and reading
    /// accounts for every index.
    #[test]
    fn any_bytes_in_a_segment_are_survived(
        edits in prop::collection::vec((0..3_usize, 0..2000_usize, prop::collection::vec(any::<u8>(), 0..80)), 1..6),
        cut in prop::option::of((0..3_usize, 0..2000_u64)),
        moved in prop::option::of((0..1000_usize, 0..1000_usize, 0..400_usize)),
    ) {
        runtime().block_on(async {
            let storage = three_segments().await;
            let paths = segments(&storage);
            for (place, at, bytes) in edits {
                let mut content = storage.read(&paths[place], 1 << 20).unwrap();
                let at = at.min(content.len());
                let end = content.len().min(at + bytes.len());
                content.splice(at..end, bytes);
                storage.put(&paths[place], &content);
            }
            if let Some((from, to, length)) = moved {
                let mut content = storage.read(&paths[1], 1 << 20).unwrap();
                let part = content[from.min(content.len())..(from + length).min(content.len())].to_vec();
                let to = to.min(content.len());
                content.splice(to..to, part);
                storage.put(&paths[1], &content);
            }
            if let Some((place, length)) = cut {
                let mut content = storage.read(&paths[place], 1 << 20).unwrap();
                content.truncate(usize::try_from(length).unwrap());
                storage.put(&paths[place], &content);
            }
            let directory = Path::new(DIRECTORY);
            verify(&storage, directory).unwrap();
            inspect(&storage, directory).unwrap();
            let (journal, _) = reopen(&storage.crash(1));
            let (entries, missing) = read_from(&journal, 0).await;
            assert_complete(&entries, &missing, journal.durable());
            let storage = storage.crash(1).crash(2);
            repair(&storage, directory).unwrap();
            let (journal, _) = reopen(&storage);
            let (again, missing) = read_from(&journal, 0).await;
            assert_complete(&again, &missing, journal.durable());
            assert_eq!(again, entries, "a repair changes nothing that can be read");
            let batch = Batch::new();
            journal.submit(batch).await.unwrap().await.unwrap();
        });
    }
}
