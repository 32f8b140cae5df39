//! The directory keeps the contract of enrichments.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::sync::Arc;

use actlog_core::{AuditRecord, BuildContext, SystemClock};
use actlog_enrichment_directory::DirectoryEnrichment;
use actlog_testkit::compliance::{self, EnrichmentUnderTest};
use actlog_testkit::dataverse_server::DataverseServer;
use actlog_testkit::storage::FaultStorage;
use serde_json::json;
use uuid::Uuid;

const ANN: Uuid = Uuid::from_u128(0x6f0b1c7e_2d1c_4f9a_9a55_0f0c2f6f5d11);

fn incomplete() -> AuditRecord<'static> {
    AuditRecord { user_id: Some(ANN.to_string().into()), system_user_id: Some(ANN), ..AuditRecord::default() }
}

fn context(folder: &tempfile::TempDir) -> BuildContext {
    let mut cx = BuildContext::new("/data", Arc::new(FaultStorage::new(1)), Arc::new(SystemClock));
    cx.config_dir = folder.path().to_owned();
    cx
}

struct FromFile(tempfile::TempDir);

impl EnrichmentUnderTest for FromFile {
    type Plugin = DirectoryEnrichment;

    fn config(&self) -> String {
        "path = \"users.csv\"".to_owned()
    }

    fn build_context(&self) -> BuildContext {
        context(&self.0)
    }

    fn incomplete(&self) -> AuditRecord<'static> {
        incomplete()
    }

    fn is_complete(&self, record: &AuditRecord<'_>) -> bool {
        record.user_id.as_deref() == Some("ann@contoso.com")
    }
}

struct FromDataverse {
    folder: tempfile::TempDir,
    server: Arc<DataverseServer>,
}

impl EnrichmentUnderTest for FromDataverse {
    type Plugin = DirectoryEnrichment;

    fn config(&self) -> String {
        "client = { allow_private = true }".to_owned()
    }

    fn build_context(&self) -> BuildContext {
        let mut cx = context(&self.folder);
        let config: toml::Table = toml::from_str(&self.server.organization("contoso")).unwrap();
        cx.organizations = Arc::new(config["organizations"].clone().try_into().unwrap());
        cx
    }

    fn incomplete(&self) -> AuditRecord<'static> {
        incomplete()
    }

    fn is_complete(&self, record: &AuditRecord<'_>) -> bool {
        record.user_id.as_deref() == Some("ann@contoso.com")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_from_a_file_keeps_the_contract() {
    compliance::enrichment(|| {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("SystemUserId,UserUpn\n{ANN},ann@contoso.com\n");
        std::fs::write(folder.path().join("users.csv"), text).unwrap();
        FromFile(folder)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_from_dataverse_keeps_the_contract_while_requests_are_refused_now_and_then() {
    let server = Arc::new(DataverseServer::start().await);
    for number in 0..12_000 {
        server.insert("systemusers", json!({ "domainname": format!("user{number}@contoso.com") }));
    }
    server.insert("systemusers", json!({ "systemuserid": ANN, "domainname": "ann@contoso.com" }));
    server.refuse_at_random(1, 200, 100);
    compliance::enrichment(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), DataverseServer::SECRET).unwrap();
        FromDataverse { folder, server: Arc::clone(&server) }
    })
    .await;
    assert_eq!(server.violations(), Vec::<String>::new());
}
