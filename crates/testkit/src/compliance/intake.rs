//! Sources over `actlog-intake`: the same two adapters for all of them.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use actlog_core::{AuditRecord, BuildContext, SourcePlugin, SystemClock};
use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::{Answer, SourceUnderTest, Upstream};
use crate::http::Connection;
use crate::storage::FaultStorage;

/// What the kit must know of a source that takes elements by HTTP and from files.
#[derive(Clone, Copy, Debug)]
pub struct Elements {
    /// The element of an event, on one line.
    pub element: fn(u64) -> String,
    /// The number of the event that a record was made from.
    pub event_of: fn(&AuditRecord<'_>) -> Option<u64>,
    /// Keys of the configuration besides the way in and the credentials, in TOML.
    pub more: &'static str,
}

/// Puts a source over `actlog-intake` through all checks, as a listener and as a reader of files.
///
/// # Panics
/// When it violates a clause; the message lists all violations.
pub async fn intake<P: SourcePlugin>(elements: Elements) {
    super::source(|| Posting::<P>::new(elements)).await;
    super::source(|| Writing::<P>::new(elements)).await;
}

const MALFORMED: &str = "{\"nothing\": \"of the kind\"}";
const CONNECTIONS: usize = 6;

/// Somebody who posts.
struct Posting<P> {
    elements: Elements,
    folder: TempDir,
    address: SocketAddr,
    connections: Semaphore,
    plugin: PhantomData<fn() -> P>,
}

impl<P> Posting<P> {
    fn new(elements: Elements) -> Self {
        let folder = folder();
        succeed(std::fs::write(folder.path().join("key"), "secret\n"));
        let address = succeed(TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()));
        Self { elements, folder, address, connections: Semaphore::new(CONNECTIONS), plugin: PhantomData }
    }

    async fn post(&self, body: &str) -> Answer {
        let _place = self.connections.acquire().await;
        let answer = async {
            let mut connection = Connection::open(self.address).await?;
            connection.request("POST", "/?code=secret", &[("connection", "close")], body.as_bytes()).await
        };
        match answer.await.map(|answer| answer.status) {
            Err(_) => Answer::Lost,
            Ok(200) => Answer::Acknowledged,
            Ok(503) => Answer::Busy,
            Ok(_) => Answer::Refused,
        }
    }
}

#[async_trait]
impl<P: SourcePlugin> SourceUnderTest for Posting<P> {
    type Plugin = P;

    fn upstream(&self) -> Upstream {
        Upstream::Push
    }

    fn config(&self) -> String {
        format!("listen = \"{}\"\nkey = {{ file = \"key\" }}\n{}", self.address, self.elements.more)
    }

    fn build_context(&self) -> BuildContext {
        build_context(self.folder.path())
    }

    fn in_flight_limit(&self) -> usize {
        CONNECTIONS
    }

    async fn offer(&self, event: u64) -> Answer {
        self.post(&(self.elements.element)(event)).await
    }

    async fn offer_malformed(&self) -> Answer {
        self.post(MALFORMED).await
    }

    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64> {
        (self.elements.event_of)(record)
    }
}

/// Somebody who writes a file.
struct Writing<P> {
    elements: Elements,
    folder: TempDir,
    plugin: PhantomData<fn() -> P>,
}

impl<P> Writing<P> {
    fn new(elements: Elements) -> Self {
        Self { elements, folder: folder(), plugin: PhantomData }
    }

    fn append(&self, line: &str) -> Answer {
        let path = self.folder.path().join("elements.ndjson");
        let file = OpenOptions::new().create(true).append(true).open(path);
        succeed(file.and_then(|mut file| writeln!(file, "{line}")));
        Answer::Kept
    }
}

#[async_trait]
impl<P: SourcePlugin> SourceUnderTest for Writing<P> {
    type Plugin = P;

    fn upstream(&self) -> Upstream {
        Upstream::Pull
    }

    fn config(&self) -> String {
        // A batch of a byte holds one line.
        format!("path = \"*.ndjson\"\nbatch_size = 1\n{}", self.elements.more)
    }

    fn build_context(&self) -> BuildContext {
        build_context(self.folder.path())
    }

    fn in_flight_limit(&self) -> usize {
        // Mapped at once, being handed over, waiting for receipts.
        std::thread::available_parallelism().map_or(1, usize::from) + 1 + 8
    }

    async fn offer(&self, event: u64) -> Answer {
        self.append(&(self.elements.element)(event))
    }

    async fn offer_malformed(&self) -> Answer {
        self.append(MALFORMED)
    }

    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64> {
        (self.elements.event_of)(record)
    }
}

fn folder() -> TempDir {
    succeed(tempfile::tempdir())
}

fn build_context(folder: &Path) -> BuildContext {
    let mut cx = BuildContext::new(folder, Arc::new(FaultStorage::new(0)), Arc::new(SystemClock));
    cx.config_dir = folder.to_owned();
    cx
}

/// What the operating system must let a test do.
#[expect(clippy::panic, reason = "without a folder or a port there is no test")]
fn succeed<T>(result: io::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("the test can't be set up: {error}"))
}
