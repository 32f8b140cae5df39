//! What every source must keep, tried on this one.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use actlog_core::{AuditRecord, BuildContext, SystemClock};
use actlog_testkit::compliance::{self, Answer, SourceUnderTest, Upstream};
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;
use badge_reader::BadgeReader;

/// A folder with an export in it.
struct Export {
    folder: tempfile::TempDir,
}

impl Export {
    fn new() -> Self {
        let export = Self { folder: tempfile::tempdir().unwrap() };
        export.append("sequence,time,door,badge,holder,result");
        export
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("badges.csv")
    }

    fn append(&self, line: &str) -> Answer {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
        writeln!(file, "{line}").unwrap();
        Answer::Kept
    }
}

#[async_trait]
impl SourceUnderTest for Export {
    type Plugin = BadgeReader;

    fn upstream(&self) -> Upstream {
        Upstream::Pull
    }

    fn config(&self) -> String {
        "path = \"badges.csv\"".to_owned()
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
        self.append(&format!("{event},2026-03-02T07:58:12Z,Server room,0x{event:x},ada@contoso.example,granted"))
    }

    async fn offer_malformed(&self) -> Answer {
        self.append("the controller was restarted")
    }

    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64> {
        let badge = record.extra.get("Badge")?.get().trim_matches('"');
        u64::from_str_radix(badge.strip_prefix("0x")?, 16).ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_keeps_the_contract_of_components() {
    compliance::source(Export::new).await;
}
