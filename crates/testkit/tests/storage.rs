//! The fault-injecting storage fails as it says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use actlog_core::{OpenMode, Storage, StorageFile};
use actlog_testkit::storage::{Fault, FaultStorage, SECTOR};

fn path(name: &str) -> PathBuf {
    Path::new("d").join(name)
}

fn with_file(seed: u64, content: &[u8]) -> (FaultStorage, Box<dyn StorageFile>) {
    let storage = FaultStorage::new(seed);
    storage.create_directories(Path::new("d")).unwrap();
    let file = storage.open(&path("a"), OpenMode::CreateNew).unwrap();
    file.write_all_at(content, 0).unwrap();
    (storage, file)
}

#[test]
fn what_was_synced_with_its_name_survives_every_crash() {
    for seed in 0..100 {
        let (storage, file) = with_file(seed, &[1; 2000]);
        file.sync().unwrap();
        storage.sync_directory(Path::new("d")).unwrap();
        file.write_all_at(&[2; 2000], 2000).unwrap();
        let survivor = storage.crash(seed).read(&path("a"), 10_000).unwrap();
        assert!(survivor.len() >= 2000 && survivor[..2000] == [1; 2000], "seed {seed}");
    }
}

#[test]
fn crashes_show_all_kinds_of_outcomes_of_what_was_not_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let (storage, file) = with_file(seed, &[1; 1024]);
        file.sync().unwrap();
        file.write_all_at(&[2; 1024], 0).unwrap();
        outcomes.insert(match storage.crash(seed).read(&path("a"), 10_000) {
            Err(_) => "no name",
            Ok(content) => match (content[0], content[1023]) {
                (1, 1) => "old",
                (2, 2) => "new",
                (2, 1) => "beginning",
                _ => "end",
            },
        });
    }
    assert_eq!(outcomes, ["beginning", "end", "new", "no name", "old"].into());
}

#[test]
fn a_sector_is_old_or_new_and_nothing_between() {
    for seed in 0..200 {
        let (storage, file) = with_file(seed, &[1; 4096]);
        file.sync().unwrap();
        storage.sync_directory(Path::new("d")).unwrap();
        file.write_all_at(&[2; 3000], 700).unwrap();
        let content = storage.crash(seed).read(&path("a"), 10_000).unwrap();
        for (number, sector) in content.chunks(SECTOR).enumerate() {
            let written: Vec<_> = (0..SECTOR).map(|at| (700..3700).contains(&(number * SECTOR + at))).collect();
            let new = sector.iter().zip(&written).all(|(byte, written)| *byte == if *written { 2 } else { 1 });
            assert!(new || sector.iter().all(|byte| *byte == 1), "seed {seed}, sector {number}");
        }
    }
}

#[test]
fn a_sync_after_a_failed_one_does_not_bring_the_data_back() {
    let lost = (0..50).any(|seed| {
        let (storage, file) = with_file(seed, &[1; 512]);
        storage.sync_directory(Path::new("d")).unwrap();
        storage.fail_at(storage.steps(), Fault::Eio);
        assert!(file.sync().is_err());
        assert_eq!(storage.read(&path("a"), 512).unwrap(), [1; 512], "still readable");
        file.sync().unwrap();
        storage.crash(seed).read(&path("a"), 512).unwrap() != [1; 512]
    });
    assert!(lost);
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one_at_every_step() {
    let mut step = 0;
    loop {
        let (storage, file) = with_file(step, b"old");
        file.sync().unwrap();
        storage.sync_directory(Path::new("d")).unwrap();
        storage.halt_at(storage.steps() + step);
        let done = storage.replace(&path("a"), b"new").is_ok();
        let content = storage.crash(step).read(&path("a"), 10).unwrap();
        assert!(content == b"new" || content == b"old" && !done, "step {step}: {content:?}");
        if done {
            break;
        }
        step += 1;
    }
    assert!(step >= 4, "creating, writing, syncing, renaming were all tried");
}

#[test]
fn a_full_disk_refuses_and_a_removed_file_makes_room() {
    let (storage, file) = with_file(3, &[1; 1024]);
    storage.set_capacity(Some(2048));
    let other = storage.open(&path("b"), OpenMode::Create).unwrap();
    assert_eq!(other.write_all_at(&[1; 1536], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_all_at(&[2; 1024], 0).unwrap();
    assert!(storage.used() <= 2048);
    storage.remove_file(&path("a")).unwrap();
    other.write_all_at(&[1; 1536], 0).unwrap();
    assert_eq!(storage.available_space(Path::new("d")).unwrap(), 512);
    other.set_length(1 << 20).unwrap();
    assert_eq!(storage.used(), 1536, "a hole takes up nothing");
}

#[test]
fn a_killed_process_loses_nothing_that_it_wrote() {
    let (storage, file) = with_file(4, b"unsynced");
    let survivor = storage.kill();
    assert!(file.sync().is_err());
    assert_eq!(survivor.read(&path("a"), 10).unwrap(), b"unsynced");
    assert!((0..50).any(|seed| survivor.crash(seed).length(&path("a")).unwrap() != Some(8)));
}

#[test]
fn the_same_seed_gives_the_same_survivor() {
    let survivor = || {
        let (storage, file) = with_file(5, &[1; 5000]);
        storage.sync_directory(Path::new("d")).unwrap();
        storage.fail_at(storage.steps(), Fault::Enospc);
        file.write_all_at(&[2; 5000], 5000).unwrap_err();
        storage.crash(6).read(&path("a"), 20_000).unwrap()
    };
    assert_eq!(survivor(), survivor());
}
