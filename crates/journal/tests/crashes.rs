//! Crashes, errors and full disks at every step of the storage: whatever was acknowledged is there afterwards, once,
//! with its index; nothing turns up that was not submitted; positions are never ahead of their data.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use actlog_core::{Entry, EntryKind};
use actlog_journal::{Batch, CommitError, Committed, Journal, SubmitError, Ticket, verify};
use actlog_testkit::storage::{Fault, FaultStorage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{DIRECTORY, entry, open, open_with, options, push, runtime, try_read_from, wait_until};
use uuid::Uuid;

const POSITION: &str = "source/a";

/// What a journal must hold.
#[derive(Default)]
struct Model {
    /// Everything that was ever submitted.
    submitted: HashMap<Uuid, Entry>,
    /// What was acknowledged, with its index where the receipt told it.
    acknowledged: HashMap<Uuid, Option<u64>>,
    /// Values of each state in the order of submission, and how many of them count no more, as a later one was
    /// acknowledged.
    states: BTreeMap<String, (Vec<Vec<u8>>, usize)>,
    /// The data that must be there when the position has this value.
    positions: BTreeMap<Vec<u8>, Vec<Uuid>>,
    released: u64,
    next_number: u64,
}

/// A batch as the model remembers it.
struct Sent {
    ids: Vec<(Uuid, EntryKind)>,
    states: Vec<(String, usize)>,
}

impl Model {
    /// Makes a batch: new entries, at times old ones again, mostly with a position or a cursor.
    fn batch(&mut self, rng: &mut ChaCha8Rng) -> (Batch, Sent) {
        let mut batch = Batch::new();
        let mut sent = Sent { ids: Vec::new(), states: Vec::new() };
        for _ in 0..rng.random_range(0..6) {
            let again = self.next_number > 0 && rng.random_bool(0.15);
            let number = if again { rng.random_range(0..self.next_number) } else { self.next_number };
            let mut new = entry(number, usize::try_from(number * 37 % 400).unwrap());
            if again && new.kind == EntryKind::Statement {
                continue;
            }
            new.index = 0;
            self.next_number += u64::from(!again);
            push(&mut batch, &new);
            sent.ids.push((new.id, new.kind));
            self.submitted.insert(new.id, new);
        }
        let mut set = |key: &str, value: Vec<u8>| {
            let (values, _) = self.states.entry(key.to_owned()).or_default();
            values.push(value.clone());
            sent.states.push((key.to_owned(), values.len()));
            batch.set_state(key, value);
        };
        match rng.random_range(0..4) {
            0 => {}
            1 => set("sink/b", rng.random_range(0..1000_u32).to_be_bytes().repeat(rng.random_range(1..20))),
            _ => {
                let value = self.positions.len().to_be_bytes().to_vec();
                set(POSITION, value.clone());
                self.positions.insert(value, sent.ids.iter().map(|(id, _)| *id).collect());
            }
        }
        (batch, sent)
    }

    /// A batch is submitted again: its states come after those that were submitted meanwhile.
    fn again(&mut self, sent: &mut Sent) {
        for (key, count) in &mut sent.states {
            if let Some((values, _)) = self.states.get_mut(key) {
                values.push(values[*count - 1].clone());
                *count = values.len();
            }
        }
    }

    fn acknowledge(&mut self, sent: &Sent, committed: Committed) {
        assert_eq!(sent.ids.len(), (committed.written + committed.duplicates) as usize);
        for (place, (id, _)) in sent.ids.iter().enumerate() {
            let index = committed.first_index.filter(|_| committed.duplicates == 0).map(|first| first + place as u64);
            let known = self.acknowledged.entry(*id).or_insert(index);
            *known = known.or(index);
        }
        for (key, count) in &sent.states {
            if let Some((_, passed)) = self.states.get_mut(key) {
                *passed = (*passed).max(*count);
            }
        }
    }

    /// Compares a journal with what it must hold.
    async fn check(&self, journal: &Journal, storage: &FaultStorage) {
        let first = journal.first_index();
        assert!(first <= self.released, "nothing goes that was not released");
        let (entries, missing) = match try_read_from(journal, first).await {
            // The writer has gone on, to the step at which the storage halts.
            Err(_) if storage.is_halted() => return,
            content => content.unwrap(),
        };
        assert_eq!(missing, []);
        let mut present = HashMap::new();
        for (place, found) in entries.iter().enumerate() {
            assert_eq!(found.index, first + place as u64, "no holes");
            let submitted = self.submitted.get(&found.id).expect("nothing turns up that was not submitted");
            assert_eq!(&Entry { index: 0, ..found.clone() }, submitted);
            assert_eq!(present.insert(found.id, found.index), None, "once: {}", found.id);
        }
        for (id, index) in &self.acknowledged {
            if let Some(index) = index.filter(|index| *index >= first) {
                assert_eq!(present.get(id), Some(&index), "acknowledged with its index: {id}");
            }
            assert!(first > 0 || present.contains_key(id), "acknowledged: {id}");
        }
        for (key, (values, passed)) in &self.states {
            let found = journal.state(key).map(|value| value.to_vec());
            let allowed = match (&found, *passed) {
                (None, passed) => passed == 0,
                (Some(found), 0) => values.contains(found),
                (Some(found), passed) => values[passed - 1..].contains(found),
            };
            assert!(allowed, "{key} has an outdated or a strange value, {passed} of {} passed", values.len());
            if key == POSITION
                && first == 0
                && let Some(data) = found.and_then(|found| self.positions.get(&found))
            {
                assert!(data.iter().all(|id| present.contains_key(id)), "the position is ahead of its data");
            }
        }
    }
}

/// Writes groups of batches of known composition; failed ones are submitted again at times. Ends early when the storage
/// is halted.
async fn work(model: &mut Model, journal: &Journal, storage: &FaultStorage, rng: &mut ChaCha8Rng, groups: usize) {
    for _ in 0..groups {
        let batches: Vec<_> = (0..rng.random_range(1..4)).map(|_| model.batch(rng)).collect();
        // While the first batch is being synced the others gather, and become one group.
        storage.hold_syncs(true);
        let mut tickets = Vec::new();
        for (batch, sent) in batches {
            let again = batch.clone();
            match journal.submit(batch).await {
                Ok(ticket) => tickets.push((Asked::new(ticket), sent, again)),
                Err(SubmitError::Full { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            if let [(ticket, ..)] = &mut tickets[..] {
                wait_until(|| storage.syncs_waiting() > 0 || ticket.is_resolved());
            }
        }
        storage.hold_syncs(false);
        for (ticket, mut sent, again) in tickets {
            match ticket.wait().await {
                Ok(committed) => model.acknowledge(&sent, committed),
                Err(CommitError::Storage(_) | CommitError::Full(_)) if rng.random_bool(0.5) => {
                    model.again(&mut sent);
                    if let Ok(ticket) = journal.submit(again).await
                        && let Ok(committed) = ticket.await
                    {
                        model.acknowledge(&sent, committed);
                    }
                }
                Err(_) => {}
            }
        }
        if rng.random_bool(0.1) {
            let up_to = rng.random_range(0..=journal.durable());
            model.released = model.released.max(up_to);
            let _ = journal.release(up_to);
        }
        if storage.is_halted() {
            return;
        }
    }
    model.check(journal, storage).await;
}

/// A ticket that can be asked without waiting.
struct Asked {
    ticket: std::pin::Pin<Box<Ticket>>,
    result: Option<Result<Committed, CommitError>>,
}

impl Asked {
    fn new(ticket: Ticket) -> Self {
        Self { ticket: Box::pin(ticket), result: None }
    }

    fn is_resolved(&mut self) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if self.result.is_none()
            && let std::task::Poll::Ready(result) = self.ticket.as_mut().poll(&mut context)
        {
            self.result = Some(result);
        }
        self.result.is_some()
    }

    async fn wait(self) -> Result<Committed, CommitError> {
        match self.result {
            Some(result) => result,
            None => self.ticket.await,
        }
    }
}

/// Runs something that must hold for a seed, and names the seed when it does not.
fn named<T>(what: &str, seed: u64, step: u64, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        eprintln!("failed: {what}, seed {seed}, step {step}");
        resume_unwind(panic)
    })
}

/// Opens what survived, compares, writes more, and comes back once more.
async fn check_survivor(mut model: Model, survivor: &FaultStorage, rng: &mut ChaCha8Rng) {
    let (journal, recovery) = open(survivor);
    assert_eq!(recovery.damaged, []);
    model.check(&journal, survivor).await;
    work(&mut model, &journal, survivor, rng, 3).await;
    journal.shutdown().await.unwrap();
    assert_eq!(verify(survivor, DIRECTORY.as_ref()).unwrap(), []);
    let (journal, recovery) = open(survivor);
    assert!(recovery.closed && recovery.torn_bytes == 0 && recovery.damaged.is_empty());
    model.check(&journal, survivor).await;
}

/// One life: opens, works, meets its fault, loses power, and what survived is compared. False when the fault was behind
/// the end of the work.
fn life(seed: u64, step: u64, inject: impl Fn(&FaultStorage)) -> bool {
    runtime().block_on(async {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let storage = FaultStorage::new(seed);
        let mut model = Model::default();
        inject(&storage);
        if let Ok((journal, _)) = open_with(&storage, options()) {
            work(&mut model, &journal, &storage, &mut rng, 12).await;
        }
        let reached = storage.steps() > step || storage.is_halted();
        // Sometimes only the process dies, and the power fails later.
        let mut survivor = if rng.random_bool(0.2) { storage.kill() } else { storage.crash(seed ^ step) };
        // Sometimes it crashes again while it is being opened.
        if rng.random_bool(0.3) {
            survivor.halt_at(survivor.steps() + rng.random_range(0..12));
            if let Ok((journal, _)) = open_with(&survivor, options()) {
                work(&mut model, &journal, &survivor, &mut rng, 1).await;
            }
            survivor = survivor.crash(seed ^ step ^ 1);
        }
        check_survivor(model, &survivor, &mut rng).await;
        reached
    })
}

/// Tries a fault at every step, for `count` seeds, or as many times that as `ACTLOG_CRASH_ROUNDS` says.
fn at_every_step(what: &str, count: u64, inject: impl Fn(&FaultStorage, u64)) {
    let rounds = std::env::var("ACTLOG_CRASH_ROUNDS").map_or(1, |rounds| rounds.parse::<u64>().unwrap());
    for seed in 0..count * rounds {
        let mut step = 0;
        while named(what, seed, step, || life(seed, step, |storage| inject(storage, step))) {
            step += 1;
        }
        assert!(step > 50, "only {step} steps");
    }
}

#[test]
fn a_crash_at_any_step_loses_nothing_that_was_acknowledged() {
    at_every_step("crash", 6, |storage, step| storage.halt_at(step));
}

#[test]
fn an_error_at_any_step_costs_one_group_and_nothing_that_was_acknowledged() {
    at_every_step("EIO", 3, |storage, step| storage.fail_at(step, Fault::Eio));
}

#[test]
fn a_full_disk_at_any_step_loses_nothing_that_was_acknowledged() {
    at_every_step("ENOSPC", 3, |storage, step| storage.fail_at(step, Fault::Enospc));
}

#[test]
fn a_disk_that_fails_for_good_loses_nothing_that_was_acknowledged() {
    at_every_step("EIO for good", 2, |storage, step| storage.fail_from(step, Fault::Eio));
}

/// The tests above would notice a lost acknowledgement: on a disk that lies about syncing they do.
#[test]
fn a_disk_that_lies_is_noticed_by_these_tests() {
    let noticed = (0..20).any(|seed| {
        catch_unwind(AssertUnwindSafe(|| life(seed, 0, |storage| storage.fail_from(10, Fault::SyncLies)))).is_err()
    });
    assert!(noticed);
}
