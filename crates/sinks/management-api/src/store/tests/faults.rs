//! Crashes and disk errors at every step: what was listed stays as it was, and no round is lost or there twice.

use std::collections::BTreeMap;

use actlog_testkit::storage::Fault;

use super::*;

const ROUNDS: u64 = 14;

/// A text of several sectors that does not become shorter when it is compressed.
fn text(index: u64) -> String {
    let parts = (0..60).map(|part| Uuid::new_v5(&A, format!("{index} {part}").as_bytes()).simple().to_string());
    format!("[\"{}\"]", parts.collect::<String>())
}

/// A round that a crash can tear within a blob.
fn round(index: u64) -> Round {
    let mut round = super::round(index);
    round.blobs.push(blob(tenant(B), &text(index)));
    round
}

/// What clients were shown, by contentId.
type Shown = BTreeMap<String, (ContentInfo, Bytes)>;

/// Two rounds an hour and small segments, so that segments are begun and removed all the time.
fn busy() -> Disk {
    let mut disk = Disk::new();
    disk.options.retention = 2 * HOUR;
    disk.options.budget = 64 << 10;
    disk
}

/// Publishes all rounds that are missing, as the sink does after a restart; notes what is listed after each.
fn work(disk: &Disk, shown: &mut Shown) -> Result<(), String> {
    let (store, mut publisher) = disk.open().map_err(|error| error.to_string())?;
    assert_eq!(publisher.problem(), None);
    shown.extend(listed(&store));
    while publisher.coverage().next < ROUNDS {
        let next = publisher.coverage().next;
        if let Err(error) = publisher.publish(&round(next)) {
            let (from, to) = (Timestamp::from_unix_milliseconds(0), disk.clock.now());
            if now(store.list(A, GENERAL, from, to, None, 1)).is_ok() {
                // Then there is no trace of the round.
                let (_, publisher) = disk.on(disk.storage.fork()).open().unwrap();
                assert_eq!(publisher.coverage().next, next);
            }
            return Err(error.to_string());
        }
        shown.extend(listed(&store));
        disk.clock.advance(HOUR / 2);
    }
    Ok(())
}

/// What is listed now, for both tenants.
fn listed(store: &Store) -> Shown {
    let contents = [A, B].into_iter().flat_map(|tenant| {
        all(store, tenant).into_iter().map(move |entry| (format!("{tenant} {}", entry.0.id), entry))
    });
    contents.collect()
}

/// What was shown and has not expired is there, as it was; nothing is there twice; times grow.
fn check(disk: &Disk, shown: &Shown, what: &str) {
    let (store, _publisher) = disk.open().unwrap();
    let listed = listed(&store);
    for tenant in [A, B] {
        let contents = all(&store, tenant);
        assert_strictly_increasing(&contents);
        let mut texts: Vec<&Bytes> = contents.iter().map(|(_, text)| text).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), contents.len(), "{what}: a round is there twice");
    }
    let now = disk.clock.now();
    for (id, entry) in shown.iter().filter(|(_, (info, _))| info.expiration > now) {
        assert_eq!(listed.get(id), Some(entry), "{what}: {id} was shown");
    }
}

/// Every round was shown in the end, in one pair of blobs.
fn check_complete(shown: &Shown, what: &str) {
    let mut texts: Vec<&[u8]> = shown.values().map(|(_, text)| &text[..]).collect();
    texts.sort_unstable();
    let mut expected: Vec<Vec<u8>> = (0..ROUNDS)
        .flat_map(|index| super::round(index).blobs.into_iter().chain([blob(tenant(B), &text(index))]))
        .map(|blob| zstd::bulk::decompress(&blob.packed, blob.raw as usize).unwrap())
        .collect();
    expected.sort_unstable();
    assert!(texts == expected, "{what}: {} of {} texts", texts.len(), expected.len());
}

#[test]
fn after_a_crash_at_any_step_content_is_as_it_was_shown_and_nothing_is_lost() {
    let mut step = 0;
    loop {
        let disk = busy();
        disk.storage.halt_at(disk.storage.steps() + step);
        let mut shown = Shown::new();
        if work(&disk, &mut shown).is_ok() && !disk.storage.is_halted() {
            check_complete(&shown, "without a crash");
            assert!(disk.segments().len() < 7, "{:?}", disk.segments());
            break;
        }
        for (seed, killed) in [(step, false), (step + 1_000_000, false), (step, true)] {
            let what = format!("step {step}, seed {seed}, killed {killed}");
            let survivor = if killed { disk.storage.fork() } else { disk.storage.fork().crash(seed) };
            let mut shown = shown.clone();
            let second = Disk { clock: disk.clock.apart(), ..disk.on(survivor) };
            // The machine crashes again while it recovers.
            second.storage.halt_at(second.storage.steps() + seed % 7);
            let _ = work(&second, &mut shown);
            let third = second.on(second.storage.crash(seed));
            check(&third, &shown, &what);
            work(&third, &mut shown).unwrap();
            check_complete(&shown, &what);
            let settled = third.on(third.storage.crash(seed));
            check(&settled, &shown, &format!("{what}, and durably"));
        }
        step += 1;
    }
    assert!(step > 60, "only {step} steps were tried");
}

#[test]
fn after_a_disk_error_at_any_step_content_is_as_it_was_shown_and_nothing_is_lost() {
    for fault in [Fault::Eio, Fault::Enospc] {
        let complete = busy();
        let begin = complete.storage.steps();
        work(&complete, &mut Shown::new()).unwrap();
        for step in begin..complete.storage.steps() {
            let (disk, mut shown) = (busy(), Shown::new());
            disk.storage.fail_at(step, fault);
            let mut attempts = 0;
            while let Err(error) = work(&disk, &mut shown) {
                attempts += 1;
                assert!(attempts < 3 && error.contains(FOLDER), "{fault:?} at step {step}: {error}");
            }
            let what = format!("{fault:?} at step {step}");
            check(&disk, &shown, &what);
            check_complete(&shown, &what);
            check(&disk.on(disk.storage.crash(step)), &shown, &format!("{what}, after a crash"));
        }
    }
}

/// A round that may be on the disk or not must not turn up later with its old time in a listing that was answered.
#[test]
fn after_a_round_that_failed_nothing_is_listed_until_the_store_is_opened_again() {
    let disk = busy();
    let (store, mut publisher) = disk.open().unwrap();
    publisher.publish(&round(0)).unwrap();
    let (info, _) = all(&store, A).remove(0);
    disk.storage.fail_from(disk.storage.steps(), Fault::Eio);
    publisher.publish(&round(1)).unwrap_err();
    let (from, to) = (Timestamp::from_unix_milliseconds(0), disk.clock.now());
    assert_eq!(now(store.list(A, GENERAL, from, to, None, 1)), Err(Closed));
    assert!(store.blob(A, &info.id).unwrap().read().is_ok(), "what was shown can still be fetched");
    drop((store, publisher));
    disk.storage.clear_faults();
    assert!(!all(&disk.open().unwrap().0, A).is_empty());
}

/// Proves that the tests above would notice a round that is not synced.
#[test]
fn a_disk_that_lies_about_syncs_is_noticed() {
    let lost = (0..20).any(|seed| {
        let (disk, mut shown) = (busy(), Shown::new());
        disk.storage.fail_from(disk.storage.steps(), Fault::SyncLies);
        work(&disk, &mut shown).unwrap();
        let survivor = disk.on(disk.storage.crash(seed));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&survivor, &shown, "lies"))).is_err()
    });
    assert!(lost);
}
