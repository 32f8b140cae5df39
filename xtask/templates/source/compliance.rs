//! What every source must keep (`docs/component-spec.md`), tried on this one.

use std::io::Write;
use std::sync::Arc;

use actlog_core::{AuditRecord, BuildContext, SystemClock};
use actlog_source_new_plugin::NewPlugin;
use actlog_testkit::compliance::{self, Answer, SourceUnderTest, Upstream};
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;

/// A folder with a file of events in it.
struct Events {
    folder: tempfile::TempDir,
}

impl Events {
    fn new() -> Self {
        let events = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(events.folder.path().join("events.jsonl"), "").unwrap();
        events
    }

    fn append(&self, line: &str) -> Answer {
        let path = self.folder.path().join("events.jsonl");
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
        Answer::Kept
    }
}

#[async_trait]
impl SourceUnderTest for Events {
    type Plugin = NewPlugin;

    fn upstream(&self) -> Upstream {
        Upstream::Pull
    }

    fn config(&self) -> String {
        "path = \"events.jsonl\"".to_owned()
    }

    fn build_context(&self) -> BuildContext {
        let mut cx = BuildContext::new("data", Arc::new(FaultStorage::new(1)), Arc::new(SystemClock));
        cx.config_dir = self.folder.path().to_owned();
        cx
    }

    fn in_flight_limit(&self) -> usize {
        100
    }

    async fn offer(&self, event: u64) -> Answer {
        let time = "2026-03-02T07:58:12Z";
        self.append(&format!(r#"{{"id":"event {event}","time":"{time}","operation":"{event}","user":"ada"}}"#))
    }

    async fn offer_malformed(&self) -> Answer {
        self.append("no event")
    }

    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64> {
        record.operation.parse().ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_keeps_the_contract_of_components() {
    compliance::source(Events::new).await;
}
