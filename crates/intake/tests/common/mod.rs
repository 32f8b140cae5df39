//! A source of numbers over the intake, and a client that speaks HTTP by hand.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{
    AuditRecord, BuildContext, BuildError, ConfigError, Source, SourceContext, SourceDescriptor, SourceError,
    SourcePlugin, SystemClock, Timestamp,
};
use actlog_intake::{Arrival, Format, Intake, IntakeConfig, NoKeys};
use actlog_testkit::compliance::{SourceHarness, SourceRun};
use actlog_testkit::http::{Connection, Response};
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;
use serde::Deserialize;
use uuid::Uuid;

/// Longer than anything here takes; a test that waits this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Takes objects with a number, and the organisation that they are of.
#[derive(Debug)]
pub struct Numbers;

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
struct Numbered {
    event: Option<Number>,
    organization: Option<Uuid>,
    #[serde(default)]
    note: String,
}

impl Format for Numbers {
    const ELEMENT: &'static str = "a number";
    const REFUSAL: &'static str = "not-a-number";
    const TAKES_CSV: bool = true;
    type Envelope<'a> = Timestamp;

    fn envelope<'a>(&self, arrival: Arrival<'a>) -> Timestamp {
        arrival.received
    }

    fn map<'a>(&self, element: &'a [u8], received: &Timestamp) -> Result<AuditRecord<'a>, String> {
        let Numbered { event, organization, note } =
            serde_json::from_slice(element).map_err(|error| format!("it is not JSON: {error}"))?;
        let number = match event {
            Some(Number::Number(number)) => Some(number),
            Some(Number::Text(text)) => text.parse().ok(),
            None => None,
        };
        let number = number.ok_or("it has no event (a number)")?;
        Ok(AuditRecord {
            id: Uuid::from_u128(u128::from(number) + 1),
            operation: note.into(),
            organization_id: organization,
            creation_time: *received,
            ..AuditRecord::default()
        })
    }
}

#[derive(Debug)]
pub struct NumberSource(Intake<Numbers>);

impl SourcePlugin for NumberSource {
    const KIND: &'static str = "numbers";
    const SUMMARY: &'static str = "Numbers";
    const EXAMPLE: &'static str = "listen = \"127.0.0.1:7071\"\n";
    type Config = IntakeConfig<NoKeys>;

    fn validate(config: &Self::Config) -> Result<(), ConfigError> {
        config.intake.validate()
    }

    async fn build(config: &Self::Config, cx: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self(Intake::build(&config.intake, Numbers, cx).await?))
    }
}

#[async_trait]
impl Source for NumberSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        Box::new(self.0).run(cx).await
    }
}

/// The element of a number.
pub fn element(event: u64) -> String {
    format!("{{\"event\":{event},\"organization\":\"00000000-0000-0000-0000-0000000000aa\"}}")
}

/// The number that a record was made from.
pub fn event_of(record: &AuditRecord<'_>) -> Option<u64> {
    u64::try_from(record.id.as_u128().checked_sub(1)?).ok()
}

pub fn events(harness: &SourceHarness) -> Vec<u64> {
    harness.durable().iter().map(|stored| event_of(&stored.record).unwrap()).collect()
}

pub fn build_context(folder: &Path) -> BuildContext {
    let mut cx = BuildContext::new(folder, Arc::new(FaultStorage::new(0)), Arc::new(SystemClock));
    cx.config_dir = folder.to_owned();
    cx
}

/// Builds the source from TOML-like JSON and runs it on the harness.
pub async fn start(harness: &SourceHarness, folder: &Path, config: serde_json::Value) -> SourceRun {
    let descriptor = SourceDescriptor::of::<NumberSource>("under-test", "0.0.0");
    let factory = (descriptor.load)(config).unwrap();
    let source = factory.build(&build_context(folder).named("under-test")).await.unwrap();
    harness.start("under-test", "numbers", source)
}

/// A port that is free now.
pub fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends a request on a connection of its own. `headers` are whole lines.
pub async fn send(address: SocketAddr, method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
    let exchange = async {
        let mut connection = Connection::open(address).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
        );
        // The source may answer, and close, before it has everything.
        let _ = connection.send(&[head.as_bytes(), body].concat()).await;
        connection.response().await.unwrap()
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("an answer in time")
}
