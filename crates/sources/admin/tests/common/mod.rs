//! An environment whose audit table is read, and the source on the harness.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use actlog_core::{
    Application, AuditRecord, BuildContext, Clock, Organization, Organizations, SecretReference, SourceDescriptor,
    SystemClock, Timestamp,
};
use actlog_source_admin::AdminSource;
use actlog_testkit::compliance::{SourceHarness, SourceRun};
use actlog_testkit::dataverse_server::DataverseServer;
use actlog_testkit::storage::FaultStorage;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

/// A clock that a test sets.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_milliseconds(self.0.load(Ordering::SeqCst))
    }
}

impl TestClock {
    pub fn new(now: &str) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(Timestamp::parse(now).unwrap().unix_milliseconds())))
    }

    pub fn set(&self, now: &str) {
        self.0.store(Timestamp::parse(now).unwrap().unix_milliseconds(), Ordering::SeqCst);
    }
}

/// An environment, and the folder of a configuration that leads there.
pub struct World {
    pub server: DataverseServer,
    pub folder: TempDir,
    pub clock: Arc<dyn Clock>,
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), DataverseServer::SECRET).unwrap();
        Self { server: DataverseServer::start().await, folder, clock: Arc::new(SystemClock) }
    }

    pub fn build_context(&self) -> BuildContext {
        let url = self.server.url();
        let organization = Organization {
            id: Some(DataverseServer::ORGANIZATION_ID),
            unique_name: Some("unq1".to_owned()),
            tenant: Some(DataverseServer::TENANT.parse().unwrap()),
            url: Some(url.clone()),
            application: Some(Application {
                client_id: DataverseServer::CLIENT_ID.parse().unwrap(),
                secret: Some(SecretReference::File("secret".into())),
                certificate: None,
                key: None,
                authority: url,
            }),
        };
        let mut cx = build_context(self.folder.path(), Arc::clone(&self.clock));
        cx.organizations = Arc::new(Organizations::from([("contoso".to_owned(), organization)]));
        cx
    }

    /// Adds a row, by user 7, and gives its id.
    pub fn audit(&self, number: u64, created_on: &str, action: i32, table: &str) -> Uuid {
        let operation = match action {
            1..=3 => action,
            64 | 65 => 4,
            _ => 2,
        };
        let row = json!({
            "auditid": id_of(number), "createdon": created_on, "action": action, "operation": operation,
            "objecttypecode": table, "_objectid_value": Uuid::from_u128(0xb000 + u128::from(number)),
            "_userid_value": Uuid::from_u128(7), "transactionid": Uuid::nil(),
        });
        self.server.insert("audits", row)
    }

    /// Runs the source on the harness.
    pub async fn start(&self, harness: &SourceHarness, config: Value) -> SourceRun {
        start(harness, &self.build_context(), config).await
    }
}

/// The id of a row.
pub fn id_of(number: u64) -> Uuid {
    Uuid::from_u128(0xa000_0000 + u128::from(number))
}

/// The number of the row that a record was made from.
pub fn number_of(record: &AuditRecord<'_>) -> Option<u64> {
    let id = record.extra.get("AuditId")?.get().trim_matches('"').parse::<Uuid>().ok()?;
    u64::try_from(id.as_u128().checked_sub(0xa000_0000)?).ok()
}

pub fn build_context(folder: &Path, clock: Arc<dyn Clock>) -> BuildContext {
    let mut cx = BuildContext::new(folder, Arc::new(FaultStorage::new(0)), clock);
    cx.config_dir = folder.to_owned();
    cx
}

/// Builds the source from TOML-like JSON and runs it on the harness.
pub async fn start(harness: &SourceHarness, cx: &BuildContext, config: Value) -> SourceRun {
    let descriptor = SourceDescriptor::of::<AdminSource>("under-test", "0.0.0");
    let factory = (descriptor.load)(config).unwrap();
    let source = factory.build(&cx.named("under-test")).await.unwrap();
    harness.start("under-test", "admin", source)
}

/// What polls the environment often, and from the year 2018 on.
pub fn polling() -> Value {
    json!({ "poll": "100 ms", "since": "10000 days", "page_size": 3, "client": { "allow_private": true } })
}
