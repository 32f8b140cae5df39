//! The source keeps `docs/component-spec.md`, also when it is killed in the middle of a pull.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use actlog_core::{AuditRecord, BuildContext};
use actlog_source_office365::Office365Source;
use actlog_testkit::compliance::{Answer, SourceUnderTest, Upstream, source};
use async_trait::async_trait;
use common::{HOUR, World, blob, number_of};

/// The service, as the place where events lie.
struct Publishing(World);

impl Publishing {
    fn new() -> Self {
        let start = World::new("batch_size = 1\nconcurrency = 2");
        Self(tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(start)))
    }
}

#[async_trait]
impl SourceUnderTest for Publishing {
    type Plugin = Office365Source;

    fn upstream(&self) -> Upstream {
        Upstream::Pull
    }

    fn config(&self) -> String {
        self.0.config.clone()
    }

    fn build_context(&self) -> BuildContext {
        self.0.build_context()
    }

    fn in_flight_limit(&self) -> usize {
        // Waiting for receipts, and being handed over; a batch of a byte holds one record.
        8 + 1
    }

    async fn offer(&self, event: u64) -> Answer {
        // Two events share a blob, and each blob holds again what the one before it held.
        let id = format!("content{event}");
        self.0.service.state().publish(&id, HOUR, blob([event.saturating_sub(1), event]));
        Answer::Kept
    }

    async fn offer_malformed(&self) -> Answer {
        self.0.service.state().publish("malformed", HOUR, "[17]");
        Answer::Kept
    }

    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64> {
        number_of(record.id)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_keeps_the_component_specification() {
    source(Publishing::new).await;
}
