//! The source keeps `docs/component-spec.md`, as a listener and as a reader of files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use actlog_source_crm::CrmSource;
use actlog_testkit::compliance::{Elements, intake};

#[tokio::test(flavor = "multi_thread")]
async fn the_source_keeps_the_component_specification() {
    intake::<CrmSource>(Elements { element: common::context, event_of: common::event_of, more: "" }).await;
}
