//! Files: what is read, once, in order, whatever they are stored as.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use actlog_core::SourcePlugin;
use actlog_testkit::compliance::SourceHarness;
use common::{DEADLINE, NumberSource, element, events, start};
use serde_json::{Value, json};

fn lines(events: std::ops::Range<u64>) -> Vec<u8> {
    events.flat_map(|event| (element(event) + "\n").into_bytes()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// Runs the source to its end.
async fn read(harness: &SourceHarness, folder: &Path, config: Value) {
    let mut run = start(harness, folder, config).await;
    match run.finished(DEADLINE).await {
        Some(Ok(())) => {}
        other => panic!("the source did not end well: {other:?}"),
    }
}

fn letters(harness: &SourceHarness) -> Vec<(String, String)> {
    harness.dead_letters().into_iter().map(|letter| (letter.place, letter.reason)).collect()
}

#[tokio::test]
async fn files_are_read_in_order_whatever_they_are_stored_as() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("a.ndjson"), lines(0..300)).unwrap();
    // Members and frames one after another, cut in the middle of lines.
    let (first, second) = (lines(300..500), lines(500..700));
    std::fs::write(path("b.gz"), [gzip(&first[..1000]), gzip(&first[1000..])].concat()).unwrap();
    std::fs::write(path("c.bin"), [zstd(&second[..777]), zstd(&second[777..])].concat()).unwrap();
    std::fs::write(path("d.txt"), lines(700..701).trim_ascii_end()).unwrap();
    std::fs::write(path("empty"), b"").unwrap();
    std::fs::write(path(".hidden"), lines(900..901)).unwrap();
    for config in [
        json!({ "path": "." }),
        json!({ "path": ["a.*", "[bc]*", "d.txt", "empty", "a.ndjson"] }),
        json!({ "path": ".", "batch_size": "4 KiB" }),
        json!({ "path": folder.path(), "batch_size": 1 }),
    ] {
        let harness = SourceHarness::new();
        read(&harness, folder.path(), config).await;
        assert_eq!(events(&harness), (0..701).collect::<Vec<_>>());
        assert!(letters(&harness).is_empty());
    }
}

#[tokio::test]
async fn what_was_read_is_not_read_again_and_what_was_appended_is() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, gz) = (folder.path().join("plain"), folder.path().join("zipped.gz"));
    std::fs::write(&plain, lines(0..10)).unwrap();
    std::fs::write(&gz, gzip(&lines(100..110))).unwrap();
    let harness = SourceHarness::new();
    let config = json!({ "path": ["plain", "zipped.gz"] });
    read(&harness, folder.path(), config.clone()).await;
    let emissions = harness.emissions();
    read(&harness, folder.path(), config.clone()).await;
    assert_eq!(harness.emissions(), emissions, "nothing new, nothing emitted");

    append(&plain, &lines(10..12));
    append(&gz, &gzip(&lines(110..112)));
    std::fs::write(folder.path().join("later"), lines(200..202)).unwrap();
    read(&harness, folder.path(), json!({ "path": ["later", "plain", "zipped.gz"] })).await;
    let expected: Vec<u64> = (0..10).chain(100..110).chain(200..202).chain(10..12).chain(110..112).collect();
    assert_eq!(events(&harness), expected);
    assert_eq!(harness.duplicates(), 0);
}

#[tokio::test]
async fn another_file_of_the_same_name_is_read_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("numbers");
    let harness = SourceHarness::new();
    for (content, expected) in [(lines(0..10), 10), (lines(50..80), 40), (lines(50..55), 40)] {
        std::fs::write(&path, content).unwrap();
        read(&harness, folder.path(), json!({ "path": "numbers" })).await;
        assert_eq!(events(&harness).len(), expected);
    }
    assert_eq!(harness.duplicates(), 5, "what is shorter than what was read is another file");
}

#[tokio::test]
async fn bad_lines_go_to_the_dead_letters_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{{\"event\":1,\"note\":\"{}\"}}", "x".repeat(200_000));
    let content = format!("{}\nnonsense\n\n{long}\n{}\n{{\"a\":1}}\n{long}", element(0), element(1));
    std::fs::write(folder.path().join("numbers"), content).unwrap();
    for batch_size in [1, 100_000, 1 << 20] {
        let harness = SourceHarness::new();
        read(&harness, folder.path(), json!({ "path": "numbers", "max_line": 100_000, "batch_size": batch_size }))
            .await;
        assert_eq!(events(&harness), [0, 1]);
        let place = |line| folder.path().join("numbers").to_string_lossy().into_owned() + &format!(" line {line}");
        let mut found = letters(&harness);
        found.sort();
        let places: Vec<_> = found.iter().map(|(place, _)| place.clone()).collect();
        assert_eq!(places, [place(2), place(4), place(6), place(7)], "{batch_size}");
        assert!(found[1].1.contains("200021 bytes") && found[2].1.contains("no event"), "{found:?}");
        read(&harness, folder.path(), json!({ "path": "numbers", "max_line": 100_000 })).await;
        assert_eq!(letters(&harness).len(), 4, "told once");
    }
}

#[tokio::test]
async fn a_file_that_breaks_off_is_read_as_far_as_it_goes_and_on_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("numbers");
    for encode in [gzip as fn(&[u8]) -> Vec<u8>, zstd] {
        let members: Vec<Vec<u8>> = (0..4).map(|part| encode(&lines(part * 50..(part + 1) * 50))).collect();
        let whole = members.concat();
        let cut = whole.len() - members[3].len() / 2;
        std::fs::write(&path, &whole[..cut]).unwrap();
        let harness = SourceHarness::new();
        let config = json!({ "path": "numbers" });
        for _ in 0..2 {
            read(&harness, folder.path(), config.clone()).await;
        }
        let found = letters(&harness);
        assert_eq!(found.len(), 1, "told once: {found:?}");
        assert!(found[0].1.contains("can't be decompressed any further"), "{found:?}");
        assert!(events(&harness).len() >= 150);
        std::fs::write(&path, &whole).unwrap();
        read(&harness, folder.path(), config).await;
        assert_eq!(events(&harness), (0..200).collect::<Vec<_>>());
        assert_eq!((harness.duplicates(), letters(&harness).len()), (0, 1));
    }
}

#[tokio::test]
async fn a_stop_midway_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.zst"), zstd(&lines(0..500))).unwrap();
    std::fs::write(folder.path().join("b"), lines(500..1000)).unwrap();
    let harness = SourceHarness::new();
    let config = json!({ "path": ["a.zst", "b"], "batch_size": 512 });
    for stop in 1.. {
        harness.hold_durability_after(20);
        let mut run = start(&harness, folder.path(), config.clone()).await;
        harness.wait(|harness| harness.waiting_batches() > 0 || run.is_finished()).await;
        run.shutdown.cancel();
        harness.release_durability();
        assert!(matches!(run.finished(DEADLINE).await, Some(Ok(()))));
        if events(&harness).len() == 1000 {
            assert!(stop > 2, "it was stopped midway");
            break;
        }
    }
    assert_eq!(events(&harness), (0..1000).collect::<Vec<_>>());
    assert_eq!(harness.duplicates(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_given_up_at_shutdown_holds_back_those_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("numbers"), lines(0..30)).unwrap();
    let config = json!({ "path": "numbers", "batch_size": 1 });
    // What is ready at once when the shutdown comes is different each time.
    for _ in 0..100 {
        let harness = SourceHarness::new();
        harness.hold_submissions(true);
        let mut run = start(&harness, folder.path(), config.clone()).await;
        assert!(harness.wait(|harness| harness.emissions() > 0).await);
        run.shutdown.cancel();
        harness.hold_submissions(false);
        assert!(matches!(run.finished(DEADLINE).await, Some(Ok(()))));
        read(&harness, folder.path(), config.clone()).await;
        assert_eq!(events(&harness), (0..30).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_is_not_there_or_no_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let build = async |path: &str| {
        let config = actlog_core::config::deserialize(json!({ "path": path })).unwrap();
        NumberSource::build(&config, &common::build_context(folder.path())).await
    };
    let error = build("absent.ndjson").await.unwrap_err().to_string();
    assert!(error.contains("absent.ndjson"), "{error}");
    assert!(build("/dev/null").await.unwrap_err().to_string().contains("stdin = true"));
    assert!(build("*.ndjson").await.is_ok(), "a pattern may match nothing yet");
}

#[tokio::test]
async fn an_array_on_a_line_stands_for_its_elements() {
    let folder = tempfile::tempdir().unwrap();
    let content = format!("[{},{}]\n{}\n[{}, {{}}]\n[\n", element(0), element(1), element(2), element(3));
    std::fs::write(folder.path().join("numbers"), content).unwrap();
    let harness = SourceHarness::new();
    read(&harness, folder.path(), json!({ "path": "numbers" })).await;
    assert_eq!(events(&harness), [0, 1, 2, 3]);
    let letters = harness.dead_letters();
    assert_eq!(letters.iter().map(|letter| letter.bytes.as_slice()).collect::<Vec<_>>(), [b"{}".as_slice(), b"["]);
}

/// Rows with these numbers, of which some go over two lines.
fn rows(events: std::ops::Range<u64>) -> String {
    let row = |event: u64| match event % 3 {
        0 => format!("\"two\nlines, \"\"{event}\"\"\",{event}\r\n"),
        _ => format!(",{event}\n"),
    };
    events.map(row).collect()
}

#[tokio::test]
async fn csv_files_are_read_on_with_their_header_wherever_reading_ended() {
    let folder = tempfile::tempdir().unwrap();
    let header = "\u{feff}note,event\r\n";
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("a.csv"), format!("{header}{}", rows(0..100))).unwrap();
    std::fs::write(path("b.CSV.gz"), gzip(format!("{header}{}", rows(100..200)).as_bytes())).unwrap();
    std::fs::write(path("c.csv.zst"), zstd(format!("{header}{}", rows(200..300)).as_bytes())).unwrap();
    std::fs::write(path("d.csv"), "").unwrap();
    let harness = SourceHarness::new();
    let config = json!({ "path": ".", "batch_size": 100 });
    while events(&harness).len() < 300 {
        harness.hold_durability_after(3);
        let mut run = start(&harness, folder.path(), config.clone()).await;
        harness.wait(|harness| harness.waiting_batches() > 0 || run.is_finished()).await;
        run.shutdown.cancel();
        harness.release_durability();
        assert!(matches!(run.finished(DEADLINE).await, Some(Ok(()))));
    }
    append(&path("a.csv"), rows(300..310).as_bytes());
    read(&harness, folder.path(), config.clone()).await;
    let mut found = events(&harness);
    found.sort_unstable();
    assert_eq!(found, (0..310).collect::<Vec<_>>());
    assert_eq!((harness.duplicates(), letters(&harness)), (0, Vec::new()));
    let note = harness.durable()[0].record.operation.clone();
    assert_eq!(note, "two\nlines, \"0\"");
}

#[tokio::test]
async fn rows_and_headers_that_can_not_be_read_are_told_once_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "event,event\n1,2\n").unwrap();
    std::fs::write(folder.path().join("b.csv"), format!("note,event\n{}5\nx,\n,7\n", rows(0..2))).unwrap();
    std::fs::write(folder.path().join("c.csv"), format!("note,event\n\"{}\n,9\n", "x".repeat(200_000))).unwrap();
    let harness = SourceHarness::new();
    for _ in 0..2 {
        read(&harness, folder.path(), json!({ "path": "*.csv", "max_line": 100_000 })).await;
    }
    assert_eq!(events(&harness), [0, 1, 7, 9]);
    let mut found = letters(&harness);
    found.sort();
    let name = |file: &str, line: u32| format!("{} line {line}", folder.path().join(file).display());
    let places: Vec<_> = found.iter().map(|(place, _)| place.clone()).collect();
    assert_eq!(places, [name("a.csv", 1), name("b.csv", 5), name("b.csv", 6), name("c.csv", 2)]);
    for ((_, reason), part) in found.iter().zip(["two columns", "1 columns", "no event", "quote"]) {
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[tokio::test]
async fn a_compressed_csv_whose_header_is_cut_off_is_read_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv.gz");
    let whole = gzip(format!("note,event\n{}", rows(0..100)).as_bytes());
    let harness = SourceHarness::new();
    for (content, expected) in [(&whole[..12], 0), (&whole[..12], 0), (&whole[..], 100)] {
        std::fs::write(&path, content).unwrap();
        read(&harness, folder.path(), json!({ "path": "*.csv.gz" })).await;
        assert_eq!(events(&harness).len(), expected);
        let found = letters(&harness);
        assert!(found.len() == 1 && found[0].1.contains("can't be decompressed"), "{found:?}");
    }
}
