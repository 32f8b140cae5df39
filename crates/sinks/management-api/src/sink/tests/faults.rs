//! Crashes and disk errors at every step: every record that was committed is in exactly one blob.

use actlog_testkit::compliance::Crash;
use actlog_testkit::storage::Fault;

use super::super::claims::Claims;
use super::super::packer::Packer;
use super::*;
use crate::store::Coverage;

/// Lets the sink take several batches, each of which is a round or more. An error ends it early, as a crash does.
async fn work(bench: &Bench) -> Result<(), String> {
    let mut records = Records::new(1);
    bench.append(&mut records, 20);
    bench.run().await?;
    bench.append(&mut records, 20);
    bench.run().await
}

/// Goes on after whatever has happened, until everything is there.
async fn finish(bench: &Bench) {
    let mut attempts = 0;
    while let Err(error) = bench.run().await {
        attempts += 1;
        assert!(attempts < 5, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_record_is_in_its_feed_exactly_once() {
    let bench = Bench::new();
    work(&bench).await.unwrap();
    bench.assert_exactly_once("in good order");
    assert_eq!(bench.harness.misuse(), None);
    let parts = bench.feeds().values().map(Vec::len).sum::<usize>();
    assert!(parts > 40, "some records were divided: {parts}");
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_at_any_step_every_record_is_in_its_feed_exactly_once() {
    let mut step = 0;
    loop {
        let bench = Bench::new();
        bench.storage.halt_at(bench.storage.steps() + step);
        if work(&bench).await.is_ok() && !bench.storage.is_halted() {
            break;
        }
        bench.harness.crash();
        let what = format!("step {step}");
        let second = bench.on(if step % 2 == 0 { bench.storage.kill() } else { bench.storage.crash(step) });
        // The machine crashes again while it recovers.
        second.storage.halt_at(second.storage.steps() + step % 7);
        let _ = second.run().await;
        second.harness.crash();
        let third = second.on(second.storage.crash(step));
        finish(&third).await;
        third.assert_exactly_once(&what);
        third.on(third.storage.crash(step)).assert_exactly_once(&format!("{what}, and durably"));
        step += 1;
    }
    assert!(step >= 12, "only {step} steps were tried");
}

#[tokio::test(start_paused = true)]
async fn after_a_disk_error_at_any_step_every_record_is_in_its_feed_exactly_once() {
    for fault in [Fault::Eio, Fault::Enospc] {
        let complete = Bench::new();
        work(&complete).await.unwrap();
        for step in 0..complete.storage.steps() {
            let bench = Bench::new();
            bench.storage.fail_at(step, fault);
            if let Err(error) = work(&bench).await {
                assert!(error.contains(FOLDER) || error == "stopped early", "{fault:?} at step {step}: {error}");
            }
            finish(&bench).await;
            bench.assert_exactly_once(&format!("{fault:?} at step {step}"));
            bench
                .on(bench.storage.crash(step))
                .assert_exactly_once(&format!("{fault:?} at step {step}, after a crash"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_a_round_and_its_commit_neither_loses_nor_doubles() {
    for crash in [Crash::BeforeCommit(0), Crash::AfterCommit(0)] {
        let bench = Bench::new();
        bench.append(&mut Records::new(1), 40);
        bench.harness.crash_at(crash);
        let mut run = bench.start();
        assert!(bench.harness.wait(SinkHarness::has_crashed).await);
        bench.harness.crash();
        run.kill().await;
        bench.append(&mut Records::new(2), 40);
        finish(&bench).await;
        bench.assert_exactly_once(&format!("{crash:?}"));
    }
}

/// Where the journal was begun anew, its indices mean other records: none of them is taken for one that is there.
#[tokio::test(start_paused = true)]
async fn a_journal_that_is_another_one_is_taken_as_a_whole() {
    let first = Bench::new();
    first.append(&mut Records::new(1), 40);
    first.run().await.unwrap();
    let second = Bench { harness: SinkHarness::new(), ..first.clone() };
    second.append(&mut Records::new(2), 20);
    second.run().await.unwrap();
    let mut expected = first.expected();
    for (tenant, ids) in second.expected() {
        expected.entry(tenant).or_default().extend(ids);
    }
    assert_eq!(second.feeds(), expected);
}

#[tokio::test(start_paused = true)]
async fn content_that_was_there_at_the_last_commit_and_is_not_now_is_reported() {
    let bench = Bench::new();
    bench.append(&mut Records::new(1), 30);
    bench.run().await.unwrap();
    let emptied = bench.on(FaultStorage::new(2));
    let mut run = emptied.start();
    let status = emptied.healthy(&run.health, |status| matches!(status, Status::Degraded { .. })).await;
    assert!(matches!(&status, Status::Degraded { reason } if reason.contains("content is missing")), "{status:?}");
    run.shutdown.cancel();
    assert!(run.finished(DEADLINE).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_room_the_sink_takes_nothing_more_says_so_and_goes_on_when_there_is_room() {
    let bench = Bench::new();
    let mut records = Records::new(1);
    bench.append(&mut records, 20);
    let mut run = bench.start();
    let end = || bench.harness.entries().len() as u64;
    assert!(bench.harness.wait_for(DEADLINE, |harness| harness.cursor() == end()).await);
    let is_full = |status: &Status| matches!(status, Status::Degraded { reason } if reason.contains("is full"));
    for is_stopped in [false, true] {
        bench.storage.set_capacity(Some(bench.storage.used()));
        let before = bench.harness.cursor();
        bench.append(&mut records, 20);
        bench.healthy(&run.health, is_full).await;
        assert_eq!(bench.harness.cursor(), before);
        if is_stopped {
            // What was taken and is not published stays in the journal.
            run.shutdown.cancel();
            assert!(run.finished(DEADLINE).await.unwrap().is_ok());
        }
        bench.storage.set_capacity(None);
        if is_stopped {
            run = bench.start();
        }
        assert!(bench.harness.wait_for(DEADLINE, |harness| harness.cursor() == end()).await);
        bench.healthy(&run.health, |status| !is_full(status)).await;
        bench.assert_exactly_once("after the disk was full");
    }
}

#[test]
fn an_entry_that_is_no_record_is_refused_and_its_neighbours_are_served() {
    let claims = Claims::new(&Organizations::new(), [A]);
    let options = OutputOptions { mode: output::Mode::Spec, max_record_bytes: 3072, tenant: A };
    let mut packer = Packer::new(claims, [options], 16 << 10, Coverage::default()).unwrap();
    let mut json = Vec::new();
    Records::new(1).next_record().encode(&mut json).unwrap();
    let packed = packer.take(&[entry(7, b"{}"), entry(8, &json), entry(9, b"garbage")]).unwrap();
    assert_eq!(packed.done, 3);
    assert_eq!(packed.rejected.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 2]);
    let round = packer.round().unwrap();
    assert_eq!(round.blobs.len(), 1);
    assert_eq!(round.coverage, Coverage { first: Some((7, entry(7, b"").id)), next: 10 });
}

#[test]
fn a_round_ends_when_it_is_large_however_young_and_a_record_is_in_it_as_a_whole() {
    let claims = Claims::new(&Organizations::new(), [A]);
    let options = OutputOptions { mode: output::Mode::Spec, max_record_bytes: 400_000, tenant: A };
    let mut packer = Packer::new(claims, [options], 512 << 10, Coverage::default()).unwrap();
    let record = AuditRecord { query: Some("q".repeat(3 << 20).into()), ..Records::new(1).next_record() };
    let mut json = Vec::new();
    record.encode(&mut json).unwrap();
    let entries: Vec<Entry> = (0..5).map(|index| entry(index, &json)).collect();
    let packed = packer.take(&entries).unwrap();
    assert!(packer.is_full() && (2..5).contains(&packed.done), "{}", packed.done);
    let round = packer.round().unwrap();
    assert!(round.blobs.iter().all(|blob| blob.raw <= 512 << 10));
    assert_eq!(round.blobs.iter().map(|blob| blob.records).sum::<u32>(), packed.done as u32);
    packer.published();
    assert!(packer.is_empty() && !packer.is_full());
}
