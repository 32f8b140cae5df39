//! The source keeps `docs/component-spec.md`, as a listener and as a reader of files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;

use actlog_core::{AuditRecord, BuildContext};
use actlog_source_crm::CrmSource;
use actlog_testkit::compliance::{Answer, SourceUnderTest, Upstream, source};
use async_trait::async_trait;
use common::{build_context, context, event_of, free_port, post};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// Dataverse, as the other end of the listener.
struct Posting {
    folder: TempDir,
    address: SocketAddr,
    connections: Semaphore,
}

const CONNECTIONS: usize = 6;

impl Posting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "secret\n").unwrap();
        Self { folder, address: free_port(), connections: Semaphore::new(CONNECTIONS) }
    }

    async fn post(&self, body: &str) -> Answer {
        let _place = self.connections.acquire().await.unwrap();
        match post(self.address, "/?code=secret", "", body.as_bytes()).await.map(|answer| answer.status) {
            None => Answer::Lost,
            Some(200) => Answer::Acknowledged,
            Some(503) => Answer::Busy,
            Some(_) => Answer::Refused,
        }
    }
}

#[async_trait]
impl SourceUnderTest for Posting {
    type Plugin = CrmSource;

    fn upstream(&self) -> Upstream {
        Upstream::Push
    }

    fn config(&self) -> String {
        format!("listen = \"{}\"\nkey = {{ file = \"key\" }}\n", self.address)
    }

    fn build_context(&self) -> BuildContext {
        build_context(self.folder.path())
    }

    fn in_flight_limit(&self) -> usize {
        CONNECTIONS
    }

    async fn offer(&self, event: u64) -> Answer {
        self.post(&context(event)).await
    }

    async fn offer_malformed(&self) -> Answer {
        self.post("{\"not\": \"a context\"}").await
    }

    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64> {
        event_of(record)
    }
}

/// Somebody who writes a file.
struct Writing {
    folder: TempDir,
}

impl Writing {
    fn append(&self, line: &str) -> Answer {
        let path = self.folder.path().join("contexts.ndjson");
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
        Answer::Kept
    }
}

#[async_trait]
impl SourceUnderTest for Writing {
    type Plugin = CrmSource;

    fn upstream(&self) -> Upstream {
        Upstream::Pull
    }

    fn config(&self) -> String {
        // A batch of a byte holds one line.
        "path = \"*.ndjson\"\nbatch_size = 1\n".to_owned()
    }

    fn build_context(&self) -> BuildContext {
        build_context(self.folder.path())
    }

    fn in_flight_limit(&self) -> usize {
        // Mapped at once, being handed over, waiting for receipts.
        std::thread::available_parallelism().map_or(1, usize::from) + 1 + 8
    }

    async fn offer(&self, event: u64) -> Answer {
        self.append(&context(event))
    }

    async fn offer_malformed(&self) -> Answer {
        self.append("{\"not\": \"a context\"}")
    }

    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64> {
        event_of(record)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_keeps_the_component_specification() {
    source(Posting::new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_reader_keeps_the_component_specification() {
    source(|| Writing { folder: tempfile::tempdir().unwrap() }).await;
}
