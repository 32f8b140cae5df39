//! The source keeps `docs/component-spec.md`, as a reader of the audit table, as a listener, and as a reader of files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use actlog_core::{AuditRecord, BuildContext};
use actlog_source_admin::AdminSource;
use actlog_testkit::compliance::{Answer, Elements, SourceUnderTest, Upstream, intake, source};
use async_trait::async_trait;
use common::{World, number_of};
use serde_json::json;

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

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_of_the_audit_table_keeps_the_component_specification() {
    source(Polling::new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_and_file_reader_keep_the_component_specification() {
    let element = |event: u64| {
        let event = json!({
            "Event": "BackupAndRestore", "Operation": "BackupEnvironment", "UserId": "kim@contoso.com",
            "CreationTime": "2024-05-01T10:00:00Z", "ObjectId": event.to_string(),
        });
        event.to_string()
    };
    let event_of = |record: &AuditRecord<'_>| record.object_id.as_deref()?.parse().ok();
    intake::<AdminSource>(Elements { element, event_of, more: "format = \"events\"\n" }).await;
}
