//! What the listener answers, and what becomes of what it took.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use actlog_core::EmitError;
use actlog_testkit::compliance::{SourceHarness, SourceRun};
use actlog_testkit::http::Response;
use common::{DEADLINE, element, event_of, free_port, send, start};
use serde_json::{Value, json};
use tempfile::TempDir;

struct World {
    harness: SourceHarness,
    run: SourceRun,
    address: SocketAddr,
    _folder: TempDir,
}

const OTHER_ORGANIZATION: &str = "00000000-0000-0000-0000-0000000000bb";

/// A listener on loopback, with a key `old`, a key `new`, headers that are bound to one organisation, and more.
async fn world(more: Value) -> World {
    let folder = tempfile::tempdir().unwrap();
    for secret in ["old", "new", "header"] {
        std::fs::write(folder.path().join(secret), secret).unwrap();
    }
    let address = free_port();
    let mut config = json!({
        "listen": address,
        "key": [{ "file": "old" }, { "file": "new" }],
        "credentials": [{ "headers": { "x-key": { "file": "header" } }, "organizations": [OTHER_ORGANIZATION] }],
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let harness = SourceHarness::new();
    let run = start(&harness, folder.path(), config).await;
    World { harness, run, address, _folder: folder }
}

impl World {
    async fn post(&self, headers: &str, body: impl AsRef<[u8]>) -> Response {
        send(self.address, "POST", "/?code=new", headers, body.as_ref()).await
    }

    fn events(&self) -> Vec<u64> {
        self.harness.durable().iter().map(|stored| event_of(&stored.record).unwrap()).collect()
    }
}

#[tokio::test]
async fn every_valid_key_lets_in_on_any_path() {
    let world = world(json!({})).await;
    for (event, path) in [(0, "/?code=old"), (1, "/?code=new"), (2, "/api/hook?x=1&code=new")] {
        let answer = send(world.address, "POST", path, "", element(event).as_bytes()).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{path}");
    }
    assert_eq!(world.events(), [0, 1, 2]);
    for path in ["/", "/?code=neither"] {
        let answer = send(world.address, "POST", path, "", element(3).as_bytes()).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(!answer.text().contains("neither"), "{answer:?}");
    }
    let answer = send(world.address, "GET", "/?code=new", "", b"").await;
    assert_eq!(answer.status, 405);
    assert!(answer.header("allow") == Some("POST"), "{answer:?}");
    assert_eq!(send(world.address, "GET", "/", "", b"").await.status, 401, "who asks comes before what");
    assert_eq!(world.events().len(), 3);
}

#[tokio::test]
async fn batches_are_taken_as_lines_and_as_arrays() {
    let world = world(json!({})).await;
    let lines = format!("{}\n\n{}\r\n{}", element(0), element(1), element(2));
    let answer = world.post("content-type: application/x-ndjson\r\n", lines).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "{\"accepted\":3,\"rejected\":[]}"));
    let array = format!("[{},\n{}]", element(3), element(4));
    let answer = world.post("content-type: application/json; charset=utf-8\r\n", array).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "{\"accepted\":2,\"rejected\":[]}"));
    assert_eq!(world.events(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_batch_names_its_bad_elements_and_keeps_the_good_ones() {
    let world = world(json!({})).await;
    let lines = format!("{}\n{{\"a\":1}}\n{}\nnonsense\n", element(0), element(1));
    let answer = world.post("content-type: application/x-ndjson\r\n", lines).await;
    assert_eq!(answer.status, 200);
    let summary: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(summary["accepted"], 2);
    let lines: Vec<_> = summary["rejected"].as_array().unwrap().iter().map(|one| one["line"].as_u64()).collect();
    assert_eq!(lines, [Some(2), Some(4)]);
    assert!(summary["rejected"][0]["reason"].as_str().unwrap().contains("no event"), "{summary}");
    assert_eq!(world.events(), [0, 1]);

    let answer = world.post("", "[{\"a\":1},2]").await;
    assert_eq!(answer.status, 400);
    let summary: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(summary["error"]["code"], "not-a-number");
    assert_eq!(summary["rejected"][1]["line"], 2);
}

#[tokio::test]
async fn the_list_of_bad_elements_is_bounded_and_says_so() {
    let world = world(json!({})).await;
    let answer =
        world.post("content-type: application/x-ndjson\r\n", format!("{}{}", "x\n".repeat(5000), element(0))).await;
    let summary: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(summary["rejected"].as_array().unwrap().len(), 1000);
    assert_eq!((&summary["accepted"], &summary["more_rejected"]), (&json!(1), &json!(4000)));
}

#[tokio::test]
async fn large_bodies_are_taken_and_larger_ones_refused() {
    let world = world(json!({ "limits": { "max_body": "2 MiB" } })).await;
    let batch = |events: u64| (0..events).map(|event| element(event) + "\n").collect::<String>();
    let large = batch(16_000);
    assert!(large.len() > 1 << 20 && large.len() < 2 << 20, "{}", large.len());
    let ndjson = "content-type: application/x-ndjson\r\n";
    assert_eq!(world.post(ndjson, &large).await.text(), "{\"accepted\":16000,\"rejected\":[]}");
    assert_eq!(world.post(ndjson, batch(40_000)).await.status, 413);
    let mut compressed = Vec::new();
    flate2::bufread::GzEncoder::new(large.as_bytes(), flate2::Compression::fast())
        .read_to_end(&mut compressed)
        .unwrap();
    let answer = world.post("content-type: application/x-ndjson\r\ncontent-encoding: gzip\r\n", compressed).await;
    assert_eq!(answer.text(), "{\"accepted\":16000,\"rejected\":[]}");
    assert_eq!(world.harness.duplicates(), 16_000);
}

#[tokio::test]
async fn pressure_is_answered_with_503_before_the_body_is_read_and_passes() {
    let world = world(json!({})).await;
    let full = EmitError::Full { reason: "/var/lib/actlog is full".to_owned(), retry_after: Duration::from_secs(17) };
    world.harness.refuse(Some(full));
    let answer = world.post("", element(0)).await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after") == Some("17"), "{answer:?}");
    assert!(!answer.text().contains("/var/lib"), "{answer:?}");
    // Announced, and never sent: the answer comes all the same.
    let waiting = send(world.address, "POST", "/?code=new", "expect: 100-continue\r\n", b"").await;
    assert_eq!(waiting.status, 503);
    assert!(matches!(world.run.health.get(), actlog_core::Status::Degraded { .. }));
    world.harness.refuse(None);
    assert_eq!(world.post("", element(0)).await.status, 200);
    assert_eq!(world.run.health.get(), actlog_core::Status::Ok);
}

#[tokio::test]
async fn a_failed_write_is_answered_with_503_and_the_repetition_is_taken() {
    let world = world(json!({})).await;
    world.harness.fail_batches(1);
    assert_eq!(world.post("", element(0)).await.status, 503);
    assert!(world.events().is_empty());
    assert_eq!(world.post("", element(0)).await.status, 200);
    assert_eq!(world.events(), [0]);
}

#[tokio::test]
async fn shutdown_answers_what_has_begun() {
    let mut world = world(json!({})).await;
    world.harness.hold_durability_after(0);
    let address = world.address;
    let posting = tokio::spawn(async move { send(address, "POST", "/?code=new", "", element(0).as_bytes()).await });
    assert!(world.harness.wait(|harness| harness.waiting_batches() == 1).await);
    world.run.shutdown.cancel();
    world.harness.release_durability();
    assert_eq!(posting.await.unwrap().status, 200);
    assert!(matches!(world.run.finished(DEADLINE).await, Some(Ok(()))));
}

#[tokio::test]
async fn rows_of_csv_are_taken_and_bad_ones_named() {
    let world = world(json!({})).await;
    let csv = "content-type: text/csv; charset=utf-8\r\n";
    let answer = world.post(csv, "event,note\n0,\"a\nb\"\n1\n,x\n2,\n").await;
    assert_eq!(answer.status, 200);
    let summary: Value = serde_json::from_slice(&answer.body).unwrap();
    let lines: Vec<_> = summary["rejected"].as_array().unwrap().iter().map(|one| one["line"].as_u64()).collect();
    assert_eq!((summary["accepted"].as_u64(), lines), (Some(2), vec![Some(4), Some(5)]));
    assert_eq!(world.events(), [0, 2]);
    for (body, code) in [("event,event\n1,2\n", "not-a-number"), ("event\n", "empty"), ("event\nx\n", "not-a-number")] {
        let answer = world.post(csv, body).await;
        let error: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, error["error"]["code"].as_str()), (400, Some(code)), "{body}");
    }
}
