//! What every sink must keep (`docs/component-spec.md`), tried on this one.

use std::path::Path;
use std::sync::{Arc, Mutex};

use actlog_core::{AuditRecord, BuildContext, Storage, SystemClock};
use actlog_sink_new_plugin::NewPlugin;
use actlog_testkit::compliance::{self, Guarantee, SinkUnderTest};
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;
use uuid::Uuid;

/// A file system in memory, which can lose what was not synced.
struct Disk(Mutex<FaultStorage>);

impl Disk {
    fn new() -> Self {
        Self(Mutex::new(FaultStorage::new(1)))
    }

    fn storage(&self) -> FaultStorage {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl SinkUnderTest for Disk {
    type Plugin = NewPlugin;

    fn config(&self) -> String {
        "folder = \"batches\"".to_owned()
    }

    fn build_context(&self) -> BuildContext {
        BuildContext::new("data", Arc::new(self.storage()), Arc::new(SystemClock))
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn delivered(&self) -> Vec<Uuid> {
        let storage = self.storage();
        let mut ids = Vec::new();
        for file in storage.list(Path::new("batches")).unwrap() {
            if file.path.extension().is_some_and(|extension| extension == "jsonl") {
                let content = String::from_utf8(storage.read(&file.path, 1 << 20).unwrap()).unwrap();
                ids.extend(content.lines().map(|line| AuditRecord::decode(line.as_bytes()).unwrap().id));
            }
        }
        ids
    }

    async fn crash(&self) {
        let survivor = self.storage().crash(1);
        *self.0.lock().unwrap() = survivor;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_keeps_the_contract_of_components() {
    compliance::sink(Disk::new).await;
}
