//! What the listener answers, and what becomes of what it took.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use actlog_core::EmitError;
use actlog_testkit::compliance::{SourceHarness, SourceRun};
use common::{Answered, DEADLINE, context, event_of, free_port, post, send, start};
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
    async fn post(&self, headers: &str, body: impl AsRef<[u8]>) -> Answered {
        post(self.address, "/?code=new", headers, body.as_ref()).await.expect("an answer")
    }

    fn events(&self) -> Vec<u64> {
        self.harness.durable().iter().map(|stored| event_of(&stored.record).unwrap()).collect()
    }
}

#[tokio::test]
async fn every_valid_key_lets_in_on_any_path() {
    let world = world(json!({})).await;
    for (event, path) in [(0, "/?code=old"), (1, "/?code=new"), (2, "/api/hook?x=1&code=new")] {
        let answer = post(world.address, path, "", context(event).as_bytes()).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
    }
    assert_eq!(world.events(), [0, 1, 2]);
    for path in ["/", "/?code=neither"] {
        let answer = post(world.address, path, "", context(3).as_bytes()).await.unwrap();
        assert_eq!(answer.status, 401, "{path}");
        assert!(!answer.body.contains("neither"), "{}", answer.body);
    }
    let answer = send(world.address, "GET", "/?code=new", "", b"").await.unwrap();
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: POST"), "{}", answer.head);
    assert_eq!(send(world.address, "GET", "/", "", b"").await.unwrap().status, 401, "who asks comes before what");
    assert_eq!(world.events().len(), 3);
}

#[tokio::test]
async fn the_headers_of_a_post_reach_its_record() {
    let world = world(json!({})).await;
    let headers = "x-ms-dynamics-organization: contoso.crm.dynamics.com\r\nx-ms-dynamics-msg-size-exceeded: 1\r\n\
                   x-ms-correlation-request-id: 00000000-0000-0000-0000-00000000cccc\r\n";
    assert_eq!(world.post(headers, context(7)).await.status, 200);
    let record = world.harness.durable().remove(0).record;
    assert_eq!(record.instance_url.as_deref(), Some("https://contoso.crm.dynamics.com"));
    assert!(record.truncated);
    assert_eq!(record.correlation_id.unwrap().as_u128(), 0xcccc);
}

#[tokio::test]
async fn what_is_no_context_is_told_so() {
    let world = world(json!({})).await;
    for (body, part) in [
        ("", "empty"),
        (" \r\n", "empty"),
        ("[]", "empty"),
        ("{", "not JSON"),
        ("\"text\"", "not"),
        ("{\"a\":1}", "MessageName"),
        ("[{", "not a JSON array"),
        ("{\"MessageName\":\"Update\"} {}", "not JSON"),
    ] {
        let answer = world.post("", body).await;
        assert_eq!(answer.status, 400, "{body}");
        let error: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains(part), "{body}: {error}");
    }
    let deep = "[".repeat(100_000);
    for body in [deep.clone(), format!("{{\"MessageName\":\"Update\",\"X\":{deep}"), "{\"a\":".repeat(100_000)] {
        assert_eq!(world.post("", body).await.status, 400);
    }
    assert!(world.events().is_empty());
    assert_eq!(world.post("", context(1)).await.status, 200);
}

#[tokio::test]
async fn a_context_that_is_merely_unknown_is_kept() {
    let world = world(json!({})).await;
    let body = "{\"MessageName\":\"new_Something\",\"Novelty\":{\"deep\":[1,2]},\"OrganizationId\":7}";
    assert_eq!(world.post("", body).await.status, 200);
    assert_eq!(world.harness.durable()[0].record.operation, "new_Something");
}

#[tokio::test]
async fn batches_are_taken_as_lines_and_as_arrays() {
    let world = world(json!({})).await;
    let lines = format!("{}\n\n{}\r\n{}", context(0), context(1), context(2));
    let answer = world.post("content-type: application/x-ndjson\r\n", lines).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"accepted\":3,\"rejected\":[]}"));
    let array = format!("[{},\n{}]", context(3), context(4));
    let answer = world.post("content-type: application/json; charset=utf-8\r\n", array).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"accepted\":2,\"rejected\":[]}"));
    assert_eq!(world.events(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_batch_names_its_bad_elements_and_keeps_the_good_ones() {
    let world = world(json!({})).await;
    let lines = format!("{}\n{{\"a\":1}}\n{}\nnonsense\n", context(0), context(1));
    let answer = world.post("content-type: application/x-ndjson\r\n", lines).await;
    assert_eq!(answer.status, 200);
    let summary: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(summary["accepted"], 2);
    let lines: Vec<_> = summary["rejected"].as_array().unwrap().iter().map(|one| one["line"].as_u64()).collect();
    assert_eq!(lines, [Some(2), Some(4)]);
    assert!(summary["rejected"][0]["reason"].as_str().unwrap().contains("MessageName"), "{summary}");
    assert_eq!(world.events(), [0, 1]);

    let answer = world.post("", "[{\"a\":1},2]").await;
    assert_eq!(answer.status, 400);
    let summary: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(summary["error"]["code"], "not-a-context");
    assert_eq!(summary["rejected"][1]["line"], 2);
}

#[tokio::test]
async fn the_list_of_bad_elements_is_bounded_and_says_so() {
    let world = world(json!({})).await;
    let answer =
        world.post("content-type: application/x-ndjson\r\n", format!("{}{}", "x\n".repeat(5000), context(0))).await;
    let summary: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(summary["rejected"].as_array().unwrap().len(), 1000);
    assert_eq!((&summary["accepted"], &summary["more_rejected"]), (&json!(1), &json!(4000)));
}

#[tokio::test]
async fn a_bound_credential_is_refused_for_other_organisations() {
    let world = world(json!({})).await;
    let ours = context(0);
    let other = context(1).replace("0000000000aa", "0000000000bb");
    let with_headers =
        async |body: String| post(world.address, "/", "x-key: header\r\n", body.as_bytes()).await.unwrap();
    let answer = with_headers(ours.clone()).await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("forbidden-organization"), "{}", answer.body);
    assert_eq!(with_headers("{\"MessageName\":\"Update\"}".to_owned()).await.status, 403);
    assert_eq!(with_headers(other.clone()).await.status, 200);
    let summary: Value = serde_json::from_str(&with_headers(format!("[{ours},{other}]")).await.body).unwrap();
    assert_eq!((&summary["accepted"], &summary["rejected"][0]["line"]), (&json!(1), &json!(1)));
    assert_eq!(world.events(), [1], "the second delivery of event 1 is a duplicate");
}

#[tokio::test]
async fn large_bodies_are_taken_and_larger_ones_refused() {
    let world = world(json!({ "limits": { "max_body": "2 MiB" } })).await;
    let batch = |events: u64| (0..events).map(|event| context(event) + "\n").collect::<String>();
    let large = batch(4000);
    assert!(large.len() > 1 << 20 && large.len() < 2 << 20, "{}", large.len());
    let ndjson = "content-type: application/x-ndjson\r\n";
    assert_eq!(world.post(ndjson, &large).await.body, "{\"accepted\":4000,\"rejected\":[]}");
    assert_eq!(world.post(ndjson, batch(12_000)).await.status, 413);
    let mut compressed = Vec::new();
    flate2::bufread::GzEncoder::new(large.as_bytes(), flate2::Compression::fast())
        .read_to_end(&mut compressed)
        .unwrap();
    let answer = world.post("content-type: application/x-ndjson\r\ncontent-encoding: gzip\r\n", compressed).await;
    assert_eq!(answer.body, "{\"accepted\":4000,\"rejected\":[]}");
    assert_eq!(world.harness.duplicates(), 4000);
}

#[tokio::test]
async fn pressure_is_answered_with_503_before_the_body_is_read_and_passes() {
    let world = world(json!({})).await;
    let full = EmitError::Full { reason: "/var/lib/actlog is full".to_owned(), retry_after: Duration::from_secs(17) };
    world.harness.refuse(Some(full));
    let answer = world.post("", context(0)).await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 17"), "{}", answer.head);
    assert!(!answer.body.contains("/var/lib"), "{}", answer.body);
    // Announced, and never sent: the answer comes all the same.
    let waiting = send(world.address, "POST", "/?code=new", "expect: 100-continue\r\n", b"").await.unwrap();
    assert_eq!(waiting.status, 503);
    assert!(matches!(world.run.health.get(), actlog_core::Status::Degraded { .. }));
    world.harness.refuse(None);
    assert_eq!(world.post("", context(0)).await.status, 200);
    assert_eq!(world.run.health.get(), actlog_core::Status::Ok);
}

#[tokio::test]
async fn a_failed_write_is_answered_with_503_and_the_repetition_is_taken() {
    let world = world(json!({})).await;
    world.harness.fail_batches(1);
    assert_eq!(world.post("", context(0)).await.status, 503);
    assert!(world.events().is_empty());
    assert_eq!(world.post("", context(0)).await.status, 200);
    assert_eq!(world.events(), [0]);
}

#[tokio::test]
async fn shutdown_answers_what_has_begun() {
    let mut world = world(json!({})).await;
    world.harness.hold_durability_after(0);
    let address = world.address;
    let posting = tokio::spawn(async move { post(address, "/?code=new", "", context(0).as_bytes()).await });
    assert!(world.harness.wait(|harness| harness.waiting_batches() == 1).await);
    world.run.shutdown.cancel();
    world.harness.release_durability();
    assert_eq!(posting.await.unwrap().unwrap().status, 200);
    assert!(matches!(world.run.finished(DEADLINE).await, Some(Ok(()))));
}

/// Real captures, where they are at hand.
#[tokio::test]
async fn every_captured_context_is_taken() {
    let shared = std::env::var_os("ACTLOG_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../shared")), PathBuf::from);
    let world = world(json!({})).await;
    let mut taken = 0;
    for folder in ["webhook", "webhook/dialects", "generated"] {
        let Ok(entries) = std::fs::read_dir(shared.join("fixtures/dataverse").join(folder)) else {
            eprintln!("skipped: no captures in {}", shared.display());
            return;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.ends_with(".json") || name.ends_with(".headers.json") {
                continue;
            }
            let answer = world.post("content-type: application/json\r\n", std::fs::read(&path).unwrap()).await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.body);
            taken += 1;
        }
    }
    assert!(taken > 20, "{taken}");
    assert_eq!(world.harness.durable().len(), taken);
}
