//! The source keeps `docs/component-spec.md`, as a reader of the audit table and as a listener. Reading files is the
//! same code for all sources, and tried with `crm`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use std::net::SocketAddr;

use actlog_core::{AuditRecord, BuildContext, SystemClock};
use actlog_source_admin::AdminSource;
use actlog_testkit::compliance::{Answer, SourceUnderTest, Upstream, source};
use actlog_testkit::http;
use async_trait::async_trait;
use common::{World, build_context, number_of};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// An environment with an audit table.
struct Polling(World);

const PAGE: usize = 4;

impl Polling {
    fn new() -> Self {
        // The kit asks for a world where nothing can be awaited.
        let handle = tokio::runtime::Handle::current();
        Self(tokio::task::block_in_place(|| handle.block_on(World::new())))
    }
}

#[async_trait]
impl SourceUnderTest for Polling {
    type Plugin = AdminSource;

    fn upstream(&self) -> Upstream {
        Upstream::Pull
    }

    fn config(&self) -> String {
        format!("poll = \"100 ms\"\nsince = \"10000 days\"\npage_size = {PAGE}\nclient = {{ allow_private = true }}\n")
    }

    fn build_context(&self) -> BuildContext {
        self.0.build_context()
    }

    fn in_flight_limit(&self) -> usize {
        PAGE
    }

    async fn offer(&self, event: u64) -> Answer {
        // Several in the same second.
        let created_on = format!("2024-05-01T10:{:02}:{:02}Z", event / 3 / 60, event / 3 % 60);
        self.0.audit(event, &created_on, 55, "systemuser");
        Answer::Kept
    }

    async fn offer_malformed(&self) -> Answer {
        let row = json!({
            "createdon": "2024-05-01T10:00:01Z", "action": null, "operation": 1, "objecttypecode": "systemuser",
        });
        self.0.server.insert("audits", row);
        Answer::Kept
    }

    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64> {
        number_of(record)
    }
}

/// A tool that posts events.
struct Posting {
    folder: TempDir,
    address: SocketAddr,
    connections: Semaphore,
}

const CONNECTIONS: usize = 6;

impl Posting {
    fn new() -> Self {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { folder: tempfile::tempdir().unwrap(), address, connections: Semaphore::new(CONNECTIONS) }
    }

    async fn post(&self, body: &str) -> Answer {
        let _place = self.connections.acquire().await.unwrap();
        match http::post(self.address, "/", body.as_bytes()).await.map(|answer| answer.status) {
            Err(_) => Answer::Lost,
            Ok(200) => Answer::Acknowledged,
            Ok(503) => Answer::Busy,
            Ok(_) => Answer::Refused,
        }
    }
}

#[async_trait]
impl SourceUnderTest for Posting {
    type Plugin = AdminSource;

    fn upstream(&self) -> Upstream {
        Upstream::Push
    }

    fn config(&self) -> String {
        format!("listen = \"{}\"\n", self.address)
    }

    fn build_context(&self) -> BuildContext {
        build_context(self.folder.path(), std::sync::Arc::new(SystemClock))
    }

    fn in_flight_limit(&self) -> usize {
        CONNECTIONS
    }

    async fn offer(&self, event: u64) -> Answer {
        let event = json!({
            "Event": "BackupAndRestore", "Operation": "BackupEnvironment", "UserId": "kim@contoso.com",
            "CreationTime": "2024-05-01T10:00:00Z", "ObjectId": event.to_string(),
        });
        self.post(&event.to_string()).await
    }

    async fn offer_malformed(&self) -> Answer {
        self.post("{\"not\": \"an event\"}").await
    }

    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64> {
        record.object_id.as_deref()?.parse().ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_of_the_audit_table_keeps_the_component_specification() {
    source(Polling::new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_keeps_the_component_specification() {
    source(Posting::new).await;
}
