//! When files are begun, committed, closed and removed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the helpers are parts of tests, where a panic is a failure"
)]

mod common;

use std::path::Path;
use std::time::Duration;

use actlog_core::{Registry, Storage};
use common::{Bench, records};
use serde_json::json;

/// Names and line counts of the files.
fn names(bench: &Bench) -> Vec<(String, usize)> {
    let name = |path: &Path| path.strip_prefix("/data").unwrap().display().to_string();
    bench.files().iter().map(|(path, lines)| (name(path), lines.len())).collect()
}

#[tokio::test]
async fn a_file_that_has_reached_its_size_is_closed_and_the_next_one_is_numbered() {
    let bench = Bench::new(json!({ "path": "{data_dir}/a.jsonl", "rotate": { "size": "4 KiB" } }), records(60));
    bench.run().await.unwrap();
    bench.assert_exactly_once("rotation by size");
    let files = names(&bench);
    assert!(files.len() > 5, "{files:?}");
    let longest = bench.entries.iter().map(|entry| entry.bytes.len()).max().unwrap() as u64;
    for (place, name) in ["a-0001.jsonl", "a-0002.jsonl", "a-0003.jsonl"].iter().enumerate() {
        assert_eq!(files[place].0, *name);
        let length = bench.storage.length(&Path::new("/data").join(name)).unwrap().unwrap();
        assert!((4096..4096 + longest + 1).contains(&length), "{name}: {length}");
    }
    assert_eq!(bench.figure("closed_total"), files.len() as u64 - bench.figure("open"));
}

#[tokio::test]
async fn a_file_is_closed_at_its_age_though_nothing_comes() {
    let mut bench = Bench::new(json!({ "path": "{data_dir}/a.jsonl", "rotate": { "age": "1 h" } }), records(5));
    bench.run().await.unwrap();
    assert_eq!((bench.figure("open"), bench.figure("closed_total")), (1, 0));
    bench.entries = records(6).into();
    bench.until = |bench| {
        bench.clock.advance(Duration::from_secs(3601));
        bench.figure("closed_total") == 1
    };
    bench.run().await.unwrap();
    assert_eq!(bench.figure("open"), 0);
    bench.entries = records(7).into();
    bench.until = |_| true;
    bench.run().await.unwrap();
    assert_eq!(names(&bench), [("a-0001.jsonl".to_owned(), 1), ("a.jsonl".to_owned(), 6)]);
}

#[tokio::test]
async fn what_was_written_is_committed_in_time_though_nothing_more_comes() {
    let mut bench = Bench::new(json!({ "path": "{data_dir}/a.jsonl", "commit_interval": "10 ms" }), records(5));
    bench.until = |bench| bench.committed.lock().unwrap().last() == Some(&5);
    bench.run().await.unwrap();
    let after_power_failure = bench.on(bench.storage.crash(1));
    after_power_failure.assert_exactly_once("committed means durable");
}

#[tokio::test]
async fn much_that_was_written_is_committed_before_its_time() {
    let config = json!({ "path": "{data_dir}/a.jsonl", "commit_interval": "1 h", "commit_bytes": "64 KiB" });
    let bench = Bench::new(config, records(600));
    bench.run().await.unwrap();
    let committed = bench.committed.lock().unwrap().clone();
    assert!(committed.is_sorted() && committed.len() >= 5 && committed.last() == Some(&600), "{committed:?}");
}

#[tokio::test]
async fn entries_without_a_line_move_the_cursor_too() {
    let mut entries = records(3);
    for entry in &mut entries {
        entry.kind = actlog_core::EntryKind::Statement;
    }
    let bench = Bench::new(json!({ "path": "{data_dir}/a.jsonl" }), entries);
    bench.run().await.unwrap();
    assert_eq!(*bench.committed.lock().unwrap(), [3]);
    assert!(bench.files().is_empty());
}

#[tokio::test]
async fn closed_files_are_removed_at_their_maximum_age_and_open_ones_are_not() {
    let config = json!({ "path": "{data_dir}/audit/{date}.jsonl", "max_age": "90 days", "compress": "gzip" });
    let mut bench = Bench::new(config, records(5));
    bench.storage.put(Path::new("/data/audit/2017-01-01.jsonl.gz"), b"old");
    bench.storage.put(Path::new("/data/audit/readme.txt"), b"old too, but not one of ours");
    bench.until = |bench| bench.figure("removed_total") == 1;
    bench.run().await.unwrap();
    let files: Vec<_> =
        bench.storage.list(Path::new("/data/audit")).unwrap().into_iter().map(|file| file.path).collect();
    assert_eq!(files, [Path::new("/data/audit/2018-03-02.jsonl"), Path::new("/data/audit/readme.txt")]);
}

#[test]
fn the_sink_is_registered_and_its_example_is_valid() {
    let registry = Registry::collect().unwrap();
    let descriptor = registry.sink("file", &[]).unwrap();
    let example: serde_json::Value = toml::from_str(descriptor.example).unwrap();
    (descriptor.load)(example).map(drop).unwrap();
}

#[test]
fn what_cannot_be_used_is_refused_with_its_key_and_a_remedy() {
    let registry = Registry::collect().unwrap();
    let load = registry.sink("file", &[]).unwrap().load;
    for (key, change, remedy) in [
        ("path", json!({ "path": "{data_dir}/{colour}" }), "{organization}"),
        ("raw_csv", json!({ "raw_csv": true }), "format = \"csv\""),
        ("statements", json!({ "statements": true, "format": "csv" }), "jsonl"),
        ("columns", json!({ "columns": ["Id"] }), "\"csv\" or \"spec\""),
        ("columns[1]", json!({ "columns": ["Id", "Colour"], "format": "csv" }), "CreationTime"),
        ("display_names", json!({ "display_names": { "a": "A" }, "format": "csv" }), "spec"),
        ("commit_interval", json!({ "commit_interval": "1 ms" }), "10ms to 1h"),
        ("commit_bytes", json!({ "commit_bytes": "1 KiB" }), "64.0 KiB to 1.0 GiB"),
        ("rotate.size", json!({ "rotate": { "size": 1 } }), "4.0 KiB"),
        ("rotate.age", json!({ "rotate": { "age": "0 s" } }), "1s to"),
        ("max_age", json!({ "max_age": "1 s" }), "1m to"),
        ("rotate", json!({ "rotate": { "colour": 1 } }), "size"),
        ("compress", json!({ "compress": "bzip2" }), "zstd"),
    ] {
        let mut config = json!({ "path": "{data_dir}/a.jsonl" });
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = load(config).map(drop).unwrap_err();
        assert!(error.path.starts_with(key) && error.message.contains(remedy), "{key}: {error}");
    }
}
