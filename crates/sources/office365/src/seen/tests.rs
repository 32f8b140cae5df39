use std::collections::BTreeMap;

use actlog_testkit::storage::{Fault, FaultStorage};
use proptest::prelude::*;

use super::*;

const FOLDER: &str = "data/sources/office";

fn key_of(number: u64) -> Key {
    record_key(Uuid::from_u128(number.into()))
}

fn open(storage: &FaultStorage, manifest: &Manifest) -> (Seen, Vec<String>) {
    Seen::open(Arc::new(storage.clone()), FOLDER.into(), manifest, 0).unwrap()
}

/// What is done to the index. A commit is what the journal does with a position.
#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u32),
    Commit,
    Fold(u32),
    /// The run ends; what is not committed is void.
    Restart,
    /// The process is killed.
    Kill,
    /// The power fails.
    Crash(u64),
    /// A step on the disk fails soon.
    Fail(u64, Fault),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0_u64..80, 0_u32..6).prop_map(|(key, day)| Step::Insert(key, day)),
        4 => Just(Step::Commit),
        2 => (0_u32..4).prop_map(Step::Fold),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => (0_u64..6, prop_oneof![Just(Fault::Eio), Just(Fault::Enospc)]).prop_map(|(step, fault)| Step::Fail(step, fault)),
    ];
    proptest::collection::vec(step, 0..120)
}

/// The index, and a map that does what it should.
struct World {
    storage: FaultStorage,
    seen: Seen,
    expected: BTreeMap<u64, u32>,
    committed: (Manifest, BTreeMap<u64, u32>),
}

impl World {
    fn new() -> Self {
        let storage = FaultStorage::new(1);
        let (seen, _) = open(&storage, &Manifest::default());
        Self { storage, seen, expected: BTreeMap::new(), committed: Default::default() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Insert(number, day) => {
                let is_new = self.seen.insert(key_of(number), day).unwrap();
                assert_eq!(is_new, !self.expected.contains_key(&number));
                let newest = self.expected.entry(number).or_insert(day);
                *newest = day.max(*newest);
            }
            Step::Commit => match self.seen.sync() {
                Ok(manifest) => self.commit(manifest),
                Err(_) => self.restart(self.storage.clone()),
            },
            Step::Fold(oldest) => {
                self.take(Step::Commit);
                match self.seen.fold(oldest) {
                    Ok(()) => {
                        self.expected.retain(|_, day| *day >= oldest);
                        let manifest = self.seen.manifest();
                        self.commit(manifest);
                        // What can't be removed now is removed another time.
                        let _ = self.seen.sweep();
                    }
                    Err(_) => self.restart(self.storage.clone()),
                }
            }
            Step::Restart => self.restart(self.storage.clone()),
            Step::Kill => self.restart(self.storage.kill()),
            Step::Crash(seed) => self.restart(self.storage.crash(seed)),
            Step::Fail(steps, fault) => self.storage.fail_at(self.storage.steps() + steps, fault),
        }
    }

    fn commit(&mut self, manifest: Manifest) {
        self.committed = (manifest, self.expected.clone());
    }

    fn restart(&mut self, storage: FaultStorage) {
        self.storage = storage;
        self.storage.clear_faults();
        let (seen, lost) = open(&self.storage, &self.committed.0);
        assert_eq!(lost, Vec::<String>::new());
        self.seen = seen;
        self.expected = self.committed.1.clone();
        let manifest = self.seen.manifest();
        self.commit(manifest);
    }

    fn check(&self) {
        for number in 0..80 {
            let found = self.seen.day_of(&key_of(number)).unwrap();
            assert_eq!(found, self.expected.get(&number).copied(), "key {number}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_index_knows_exactly_what_was_committed_whatever_crashes(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check();
        }
        world.take(Step::Crash(7));
        world.check();
    }
}

#[test]
fn many_keys_are_found_across_blocks_and_chunks() {
    let storage = FaultStorage::new(1);
    let (mut seen, _) = open(&storage, &Manifest::default());
    // More than a chunk, and more than one fold's worth.
    for round in 0..3 {
        for number in 0..25_000 {
            assert!(seen.insert(key_of(round * 25_000 + number), 5).unwrap());
        }
        seen.sync().unwrap();
        seen.fold(0).unwrap();
    }
    let manifest = seen.sync().unwrap();
    let (seen, lost) = open(&storage.crash(1), &manifest);
    assert!(lost.is_empty() && seen.recent() == 0);
    assert_eq!(seen.days[&5].fences.len(), 75_000_usize.div_ceil(BLOCK));
    for number in 0..75_000 {
        assert!(seen.contains(&key_of(number)).unwrap(), "{number}");
    }
    for number in 75_000..80_000 {
        assert!(!seen.contains(&key_of(number)).unwrap(), "{number}");
    }
}

#[test]
fn days_that_are_too_old_are_dropped_and_files_that_are_not_used_are_removed() {
    let storage = FaultStorage::new(1);
    let (mut seen, _) = open(&storage, &Manifest::default());
    for number in 0..100 {
        seen.insert(key_of(number), u32::try_from(number % 10).unwrap()).unwrap();
    }
    // Seen again later: it stays with the later day.
    assert!(!seen.insert(key_of(0), 9).unwrap());
    seen.sync().unwrap();
    seen.fold(8).unwrap();
    let left = (0..100).filter(|number| seen.contains(&key_of(*number)).unwrap());
    assert_eq!(left.collect::<Vec<_>>().len(), 21);
    assert!(seen.contains(&key_of(0)).unwrap());
    assert!(storage.list(Path::new(FOLDER)).unwrap().len() > 2);
    seen.sweep().unwrap();
    assert_eq!(storage.list(Path::new(FOLDER)).unwrap().len(), 2);
}

#[test]
fn a_part_that_is_lost_is_named_and_the_rest_is_kept() {
    let committed = || {
        let storage = FaultStorage::new(1);
        let (mut seen, _) = open(&storage, &Manifest::default());
        seen.insert(key_of(1), 1).unwrap();
        seen.insert(key_of(2), 2).unwrap();
        seen.sync().unwrap();
        seen.fold(0).unwrap();
        seen.insert(key_of(3), 3).unwrap();
        let manifest = seen.sync().unwrap();
        let paths: Vec<PathBuf> =
            manifest.days.values().chain(&manifest.log).map(|part| part.path(Path::new(FOLDER))).collect();
        (storage, manifest, paths)
    };
    for lost in 0..3 {
        let (storage, manifest, paths) = committed();
        storage.remove_file(&paths[lost]).unwrap();
        let (seen, what) = open(&storage, &manifest);
        assert!(what.len() == 1 && what[0].contains("is missing"), "{what:?}");
        let known: Vec<bool> = (1..4).map(|number| seen.contains(&key_of(number)).unwrap()).collect();
        assert_eq!(known, [lost != 0, lost != 1, lost != 2]);

        let (storage, manifest, paths) = committed();
        storage.damage(&paths[lost], 3, 1).unwrap();
        assert!(open(&storage, &manifest).1[0].contains("checksum"));

        let (storage, manifest, paths) = committed();
        storage.open(&paths[lost], OpenMode::Write).unwrap().set_length(2).unwrap();
        assert!(open(&storage, &manifest).1[0].contains("has 2 bytes instead of"));
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_an_error_and_not_an_empty_index() {
    let storage = FaultStorage::new(1);
    let (mut seen, _) = open(&storage, &Manifest::default());
    seen.insert(key_of(1), 1).unwrap();
    let manifest = seen.sync().unwrap();
    storage.fail_reads(true);
    let error = Seen::open(Arc::new(storage), FOLDER.into(), &manifest, 0).unwrap_err();
    assert!(error.to_string().contains(FOLDER), "{error}");
}

#[test]
fn keys_of_records_and_of_contents_differ_by_tenant() {
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert_ne!(content_key(one, "a"), content_key(two, "a"));
    assert_ne!(content_key(one, ""), record_key(one));
    assert_eq!(day(Timestamp::parse("1970-01-02T00:00:00Z").unwrap()), 1);
    assert_eq!(day(Timestamp::parse("1969-01-02T00:00:00Z").unwrap()), 0);
}
