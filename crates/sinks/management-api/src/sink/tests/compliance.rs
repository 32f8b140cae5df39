//! The sink keeps the contract of `docs/component-spec.md`.

use std::path::Path;
use std::sync::{Arc, Mutex};

use actlog_core::SystemClock;
use actlog_testkit::compliance::{Guarantee, Outage, SinkUnderTest};
use actlog_testkit::storage::Fault;
use tempfile::TempDir;

use super::*;

/// A world with a file system that loses what was not synced.
struct Feed {
    storage: Mutex<FaultStorage>,
    /// Of the configuration: the clients file is there.
    folder: TempDir,
}

impl Feed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("clients.toml"), "").unwrap();
        Self { storage: Mutex::new(FaultStorage::new(1)), folder }
    }

    fn storage(&self) -> FaultStorage {
        self.storage.lock().unwrap().clone()
    }
}

#[async_trait]
impl SinkUnderTest for Feed {
    type Plugin = ManagementApiSink;

    fn config(&self) -> String {
        // Records as they are, so that the kit finds their Ids.
        format!(
            "listen = \"127.0.0.1:0\"\nclients = \"clients.toml\"\nblob_age = \"10 ms\"\n\
             tenants.contoso = {{ id = \"{A}\", max_record_bytes = 400000 }}\n"
        )
    }

    fn build_context(&self) -> BuildContext {
        let mut build = BuildContext::new("/data", Arc::new(self.storage()), Arc::new(SystemClock));
        build.config_dir = self.folder.path().to_owned();
        build
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn delivered(&self) -> Vec<Uuid> {
        let storage = self.storage();
        let blobs = tokio::task::spawn_blocking(move || blobs(&storage, Path::new("/data/sinks/under-test/content")));
        blobs.await.unwrap().iter().flat_map(|(_, blob)| ids(blob)).collect()
    }

    async fn crash(&self) {
        let mut storage = self.storage.lock().unwrap();
        let survivor = storage.crash(storage.steps());
        *storage = survivor;
    }

    async fn set_outage(&self, outage: Option<Outage>) -> bool {
        let storage = self.storage();
        match outage {
            Some(Outage::Fails) => storage.fail_from(storage.steps(), Fault::Eio),
            // No process can end a write that the operating system does not end.
            Some(Outage::Hangs) => return false,
            None => storage.clear_faults(),
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_management_api_sink_keeps_the_contract_of_sinks() {
    actlog_testkit::compliance::sink(Feed::new).await;
}
