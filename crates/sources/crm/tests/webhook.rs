//! What becomes of posted contexts, and what is said to those that are none. The listener itself is tested in `actlog-intake`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use std::net::SocketAddr;
use std::path::PathBuf;

use actlog_testkit::compliance::{SourceHarness, SourceRun};
use common::{Answered, context, event_of, free_port, post, start};
use serde_json::{Value, json};
use tempfile::TempDir;

struct World {
    harness: SourceHarness,
    _run: SourceRun,
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
    World { harness, _run: run, address, _folder: folder }
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
