//! Crashes and disk errors at every step: every record is in the files exactly once, and no line is torn.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the helpers are parts of tests, where a panic is a failure"
)]

mod common;

use std::path::Path;
use std::time::Duration;

use actlog_core::{OpenMode, SinkError, Storage};
use actlog_testkit::storage::Fault;
use common::{Bench, records};
use serde_json::json;

/// Two routes, several days, rotation by size: files are begun, closed and gone on with all the time.
fn busy() -> Bench {
    let config = json!({
        "path": "{data_dir}/audit/{source}/{date}.jsonl", "rotate": { "size": "4 KiB" }, "commit_interval": "10 ms",
    });
    Bench { pace: Duration::from_secs(3600), ..Bench::new(config, records(60)) }
}

#[tokio::test]
async fn after_a_crash_at_any_step_every_record_is_there_exactly_once() {
    let mut step = 0;
    loop {
        let bench = busy();
        let before = bench.storage.steps();
        bench.storage.halt_at(before + step);
        let ended = bench.run().await;
        if ended.is_ok() && !bench.storage.is_halted() {
            break;
        }
        for (seed, killed) in [(step, false), (step + 1_000_000, false), (step, true)] {
            let storage = if killed { bench.storage.kill() } else { bench.storage.crash(seed) };
            let second = bench.on(storage);
            // The machine crashes again while it recovers.
            second.storage.halt_at(second.storage.steps() + seed % 13);
            let _ = second.run().await;
            let third = second.on(second.storage.crash(seed));
            third.run().await.unwrap();
            third.assert_exactly_once(&format!("step {step}, seed {seed}, killed {killed}"));
            let settled = third.on(third.storage.crash(seed));
            settled.assert_exactly_once(&format!("step {step}, seed {seed}, and durably"));
        }
        step += 1;
    }
    assert!(step > 100, "only {step} steps were tried");
}

#[tokio::test]
async fn after_a_disk_error_at_any_step_every_record_is_there_exactly_once() {
    for fault in [Fault::Eio, Fault::Enospc] {
        let complete = busy();
        let begin = complete.storage.steps();
        complete.run().await.unwrap();
        for step in begin..complete.storage.steps() {
            let bench = busy();
            bench.storage.fail_at(step, fault);
            let mut attempts = 0;
            while let Err(error) = bench.run().await {
                attempts += 1;
                assert!(attempts < 3, "step {step}: {error}");
                let named = matches!(&error, SinkError::File { path, .. } if path.starts_with("/data"));
                let at_shutdown = matches!(&error, SinkError::Other(message) if message == common::STOPPED_EARLY);
                assert!(named || at_shutdown || matches!(error, SinkError::Journal(_)), "step {step}: {error}");
            }
            bench.assert_exactly_once(&format!("{fault:?} at step {step}"));
            let settled = bench.on(bench.storage.crash(step));
            settled.assert_exactly_once(&format!("{fault:?} at step {step}, after a crash"));
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_names_the_file_and_nothing_is_lost_when_there_is_room_again() {
    let bench = busy();
    bench.storage.set_capacity(Some(16 << 10));
    let error = bench.run().await.unwrap_err();
    assert!(
        matches!(&error, SinkError::File { path, error } if path.contains("/data/audit/") && error.kind() == std::io::ErrorKind::StorageFull)
            || matches!(error, SinkError::Journal(_)),
        "{error}"
    );
    let before = bench.storage.list(Path::new("/data/audit/crm")).unwrap().len();
    for _ in 0..5 {
        bench.run().await.unwrap_err();
    }
    assert_eq!(
        bench.storage.list(Path::new("/data/audit/crm")).unwrap().len(),
        before,
        "attempts leave nothing behind"
    );
    bench.storage.set_capacity(None);
    bench.run().await.unwrap();
    bench.assert_exactly_once("after the disk was full");
}

/// Proves that the tests above would notice a file that is not synced.
#[tokio::test]
async fn a_disk_that_lies_about_syncs_is_noticed() {
    let bench = busy();
    bench.storage.fail_from(bench.storage.steps(), Fault::SyncLies);
    bench.run().await.unwrap();
    bench.assert_exactly_once("before the crash");
    let lost = (0..20).any(|seed| {
        let survivor = bench.on(bench.storage.crash(seed));
        let count: usize =
            std::panic::catch_unwind(|| survivor.files().iter().map(|(_, lines)| lines.len()).sum()).unwrap_or(0);
        count != bench.entries.len()
    });
    assert!(lost);
}

/// Each run may stop compressing as soon as all closed files are compressed: two routes have at most two open ones.
fn compressing(compression: &str) -> Bench {
    let mut bench = busy();
    bench.config["compress"] = compression.into();
    bench.until = |bench| {
        let list = |folder: &Path| bench.storage.list(folder).unwrap_or_default();
        let files = list(Path::new("/data/audit")).into_iter().flat_map(|folder| list(&folder.path));
        files.filter(|file| file.path.extension().is_some_and(|ending| ending == "jsonl")).count() <= 2
    };
    bench
}

#[tokio::test]
async fn closed_files_are_compressed_and_a_crash_at_any_step_counts_nothing_twice() {
    for compression in ["gzip", "zstd"] {
        let bench = compressing(compression);
        bench.run().await.unwrap();
        bench.assert_exactly_once(compression);
        let ending = if compression == "gzip" { "gz" } else { "zst" };
        let compressed = bench.files().iter().filter(|(path, _)| path.extension().is_some_and(|e| e == ending)).count();
        assert!(compressed >= 4, "{compressed}");
        assert_eq!(bench.figure("compressed_total"), compressed as u64);
    }
    let mut step = 0;
    loop {
        let bench = compressing("gzip");
        bench.storage.halt_at(bench.storage.steps() + step);
        if bench.run().await.is_ok() && !bench.storage.is_halted() {
            break;
        }
        let survivor = bench.on(bench.storage.crash(step));
        survivor.run().await.unwrap();
        survivor.assert_exactly_once(&format!("step {step}"));
        step += 3;
    }
    assert!(step > 150, "only {step} steps were tried");
}

#[tokio::test]
async fn a_days_file_is_gone_on_with_after_a_restart_and_a_closed_one_never_is() {
    let config = json!({ "path": "{data_dir}/{date}.jsonl" });
    let bench = Bench::new(config, records(30));
    let first = Bench { entries: bench.entries[..10].into(), ..bench.clone() };
    first.run().await.unwrap();
    let second = Bench { entries: bench.entries[..20].into(), ..bench.clone() };
    second.run().await.unwrap();
    assert_eq!(bench.only_file().len(), 20);
    bench.clock.advance(Duration::from_secs(86_400));
    bench.run().await.unwrap();
    bench.clock.advance(Duration::from_secs(86_400));
    let idle = Bench { entries: records(31).into(), ..bench.clone() };
    // A clock that was wrong and is put back: the day's file is closed.
    let put_back = Bench { clock: common::ManualClock::at("2018-03-02T23:00:00Z"), ..idle.clone() };
    put_back.run().await.unwrap();
    put_back.assert_exactly_once("a clock that was put back");
    let names: Vec<_> =
        put_back.files().into_iter().map(|(path, lines)| (path.display().to_string(), lines.len())).collect();
    let expected = [("/data/2018-03-02-0001.jsonl", 1), ("/data/2018-03-02.jsonl", 20), ("/data/2018-03-03.jsonl", 10)];
    assert_eq!(names, expected.map(|(name, lines)| (name.to_owned(), lines)));
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_never_touched() {
    let bench = Bench::new(json!({ "path": "{data_dir}/audit.jsonl" }), records(5));
    bench.storage.put(Path::new("/data/audit.jsonl"), b"somebody else's\n");
    bench.storage.put(Path::new("/data/audit-0001.jsonl.gz"), b"");
    bench.run().await.unwrap();
    assert_eq!(bench.storage.read(Path::new("/data/audit.jsonl"), 100).unwrap(), b"somebody else's\n");
    let ours = bench.storage.read(Path::new("/data/audit-0002.jsonl"), 1 << 20).unwrap();
    assert_eq!(ours.iter().filter(|byte| **byte == b'\n').count(), 5);
}

#[tokio::test]
async fn a_file_that_somebody_removed_or_cut_is_reported_and_not_gone_on_with() {
    for cut in [false, true] {
        let bench = Bench::new(json!({ "path": "{data_dir}/audit.jsonl" }), records(20));
        let first = Bench { entries: bench.entries[..10].into(), ..bench.clone() };
        first.run().await.unwrap();
        let path = Path::new("/data/audit.jsonl");
        if cut {
            bench.storage.open(path, OpenMode::Write).unwrap().set_length(7).unwrap();
        } else {
            bench.storage.remove_file(path).unwrap();
        }
        bench.run().await.unwrap();
        assert_eq!(bench.figure("damaged_total"), 1);
        let next = Path::new(if cut { "/data/audit-0001.jsonl" } else { "/data/audit.jsonl" });
        let lines = bench.storage.read(next, 1 << 20).unwrap().iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, 10);
        assert!(!cut || bench.storage.length(path).unwrap() == Some(7), "left as it was found");
    }
}

#[tokio::test]
async fn a_changed_layout_begins_a_new_file() {
    let bench = Bench::new(json!({ "path": "{data_dir}/audit.log" }), records(10));
    Bench { entries: bench.entries[..4].into(), ..bench.clone() }.run().await.unwrap();
    let csv = Bench { config: json!({ "path": "{data_dir}/audit.log", "format": "csv" }), ..bench.clone() };
    csv.run().await.unwrap();
    let lines: Vec<_> =
        csv.files().into_iter().map(|(path, lines)| (path.display().to_string(), lines.len())).collect();
    assert_eq!(
        lines,
        [("/data/audit-0001.log".to_owned(), 7), ("/data/audit.log".to_owned(), 4)],
        "a header and six rows"
    );
}

#[tokio::test]
async fn more_routes_than_files_may_be_open_lose_nothing() {
    let entries: Vec<_> = (0..200)
        .map(|index| {
            let source = Some(format!("source{:03}", index * 7 % 100).into());
            let record = actlog_core::AuditRecord { id: uuid::Uuid::from_u128(index), source, ..Default::default() };
            common::record_entry(index as u64, &record)
        })
        .collect();
    let bench = Bench::new(json!({ "path": "{data_dir}/audit/{source}.jsonl" }), entries);
    bench.run().await.unwrap();
    bench.assert_exactly_once("100 routes");
    assert_eq!(bench.figure("open"), 64);
    assert_eq!(bench.files().len(), 200, "each route's file was closed before the route came again");
}
