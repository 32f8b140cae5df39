//! Contexts, a build context, and a client that speaks HTTP by hand.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{AuditRecord, BuildContext, SourceDescriptor, SystemClock};
use actlog_source_crm::CrmSource;
use actlog_testkit::compliance::{SourceHarness, SourceRun};
use actlog_testkit::http::Connection;
use actlog_testkit::storage::FaultStorage;
use uuid::Uuid;

/// Longer than anything here takes; a test that waits this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A small context of its own for each number.
pub fn context(event: u64) -> String {
    let operation = Uuid::from_u128(0xe0e0_0000 + u128::from(event));
    let entity = Uuid::from_u128(u128::from(event) + 1);
    format!(
        "{{\"MessageName\":\"Update\",\"PrimaryEntityName\":\"account\",\"PrimaryEntityId\":\"{entity}\",\
         \"OperationId\":\"{operation}\",\"Mode\":1,\"Stage\":40,\"Depth\":1,\
         \"OperationCreatedOn\":\"\\/Date(1553679498000+0000)\\/\",\
         \"OrganizationId\":\"00000000-0000-0000-0000-0000000000aa\",\"OrganizationName\":\"contoso\"}}"
    )
}

/// The number of the context that a record was made from.
pub fn event_of(record: &AuditRecord<'_>) -> Option<u64> {
    u64::try_from(record.entity_id?.as_u128().checked_sub(1)?).ok()
}

pub fn build_context(folder: &Path) -> BuildContext {
    let mut cx = BuildContext::new(folder, Arc::new(FaultStorage::new(0)), Arc::new(SystemClock));
    cx.config_dir = folder.to_owned();
    cx
}

/// Builds the source from TOML-like JSON and runs it on the harness.
pub async fn start(harness: &SourceHarness, folder: &Path, config: serde_json::Value) -> SourceRun {
    let descriptor = SourceDescriptor::of::<CrmSource>("under-test", "0.0.0");
    let factory = (descriptor.load)(config).unwrap();
    let source = factory.build(&build_context(folder).named("under-test")).await.unwrap();
    harness.start("under-test", "crm", source)
}

/// A port that is free now.
pub fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Status and body of an answer.
pub struct Answered {
    pub status: u16,
    pub body: String,
}

/// Posts on a connection of its own; none when there is no answer. `headers` are whole lines.
pub async fn post(address: SocketAddr, target: &str, headers: &str, body: &[u8]) -> Option<Answered> {
    let exchange = async {
        let mut connection = Connection::open(address).await.ok()?;
        let length = body.len();
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
        );
        // The source may answer, and close, before it has everything.
        let _ = connection.send(&[head.as_bytes(), body].concat()).await;
        let response = connection.response().await.ok()?;
        Some(Answered { status: response.status, body: response.text() })
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("an answer in time")
}
