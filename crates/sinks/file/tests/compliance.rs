//! The sink keeps the contract of `docs/component-spec.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the adapter is a part of the test")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use actlog_core::{AuditRecord, BuildContext, Storage, SystemClock};
use actlog_sink_file::FileSink;
use actlog_testkit::compliance::{Guarantee, Outage, SinkUnderTest};
use actlog_testkit::storage::{Fault, FaultStorage};
use async_trait::async_trait;
use uuid::Uuid;

const FOLDER: &str = "/data/audit";

/// A world with a file system that loses what was not synced.
struct Files(Mutex<Arc<FaultStorage>>);

impl Files {
    fn new() -> Self {
        let storage = FaultStorage::new(1);
        storage.create_directories(Path::new(FOLDER)).unwrap();
        Self(Mutex::new(Arc::new(storage)))
    }

    fn storage(&self) -> Arc<FaultStorage> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

#[async_trait]
impl SinkUnderTest for Files {
    type Plugin = FileSink;

    fn config(&self) -> String {
        "path = \"{data_dir}/audit/a.jsonl\"\ncommit_interval = \"10 ms\"\nrotate = { size = \"4 KiB\" }\n".to_owned()
    }

    fn build_context(&self) -> BuildContext {
        BuildContext::new("/data", self.storage(), Arc::new(SystemClock))
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn delivered(&self) -> Vec<Uuid> {
        let storage = self.storage();
        let mut files: Vec<_> = storage.list(Path::new(FOLDER)).unwrap_or_default();
        // In the order of their numbers: "a.jsonl" comes behind "a-0001.jsonl" by name.
        files.sort_by_key(|file| (file.path.as_os_str().len(), file.path.clone()));
        let mut ids = Vec::new();
        for file in files {
            let content = storage.read(&file.path, 1 << 30).unwrap_or_default();
            let whole_lines = content.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
            ids.extend(whole_lines.filter_map(|line| Some(AuditRecord::decode(line).ok()?.id)));
        }
        ids
    }

    async fn crash(&self) {
        let mut storage = self.0.lock().unwrap();
        let survivor = storage.crash(storage.steps());
        *storage = Arc::new(survivor);
    }

    async fn set_outage(&self, outage: Option<Outage>) -> bool {
        match outage {
            Some(Outage::Fails) => self.storage().fail_from(self.storage().steps(), Fault::Eio),
            // No process can end a write that the operating system does not end.
            Some(Outage::Hangs) => return false,
            None => self.storage().clear_faults(),
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_sink_keeps_the_contract_of_sinks() {
    actlog_testkit::compliance::sink(Files::new).await;
}
