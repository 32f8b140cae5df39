//! Several sinks in the real binary: one whose receiver is down disturbs no other, and misses nothing.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use actlog_testkit::process::{Actlog, wait_until};
use actlog_testkit::server::{Bytes, Request, Server, StatusCode, empty};
use actlog_tests::{context, lines};
use serde_json::Value;

const RECORDS: u128 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_down_disturbs_no_other_sink_and_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let contexts: Vec<u8> =
        (0..RECORDS).flat_map(|number| [context("Update", "account", number), b"\n".to_vec()].concat()).collect();
    std::fs::write(folder.path().join("contexts.ndjson"), contexts).unwrap();
    let (is_down, received) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let (down, taken) = (Arc::clone(&is_down), Arc::clone(&received));
    let receiver = Server::start(move |request: Request<Bytes>| {
        if down.load(Ordering::Relaxed) {
            return ready(empty(StatusCode::SERVICE_UNAVAILABLE));
        }
        let lines = request.body().split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let records = lines.map(|line| serde_json::from_slice::<Value>(line).unwrap()["Id"].clone());
        taken.lock().unwrap().extend(records);
        ready(empty(StatusCode::OK))
    })
    .await;
    let config = format!(
        "[sources.contexts]\ntype = \"crm\"\npath = \"contexts.ndjson\"\n\n\
         [sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\n\n\
         [sinks.hook]\ntype = \"http\"\nformat = \"ndjson\"\nurl = \"{}/\"\nbatch.count = 50\n\
         client.allow_private = true\n",
        receiver.url()
    );
    let mut actlog = Actlog::start(folder.path(), &config).await;
    let audit = folder.path().join("actlog-data/audit");
    wait_until("the file has all records", async || lines(&audit) == RECORDS as usize).await;
    let status = async || {
        let output = actlog.command(&["status", "--json"]).stdout;
        serde_json::from_slice::<Value>(&output).unwrap_or_default()
    };
    wait_until("the status tells of the receiver", async || {
        status().await["sinks"]["hook"]["reason"].as_str().is_some_and(|reason| reason.contains("503"))
    })
    .await;
    assert_eq!(status().await["sinks"]["audit"]["status"], "ok");
    assert!(received.lock().unwrap().is_empty());

    is_down.store(false, Ordering::Relaxed);
    wait_until("the receiver has all records", async || received.lock().unwrap().len() >= RECORDS as usize).await;
    actlog.process.ended().await;
    let in_file: Vec<Value> = actlog_tests::records(&audit).iter().map(|record| record["Id"].clone()).collect();
    assert_eq!(*received.lock().unwrap(), in_file, "each record once, in the journal's order");
}
