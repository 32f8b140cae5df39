//! How events come in that somebody sends or writes down: over HTTP, from files, and from standard input.
//!
//! It is what sources such as `crm`, `mse`, `admin` and `records` have in common. A source gives a [`Format`], which says
//! what one element becomes; [`Intake`] does the rest and is itself a [`Source`]. It is no source by itself: it registers
//! nothing and knows no product. It stands at the beginning of a record's way: bytes come in, are divided into elements,
//! mapped to records, and emitted. It knows the wire and its answers, and decides nothing about what is audited.
//!
//! - **Listener** (module `listener`): a post is answered with 200 when its records are on disk, and not before. Every
//!   answer is listed in `docs/webhooks.md`.
//! - **Files and standard input** (module `files`): one element a line, plain, gzip or zstd; or CSV. How far a file has
//!   been read is committed in the same batch as its records, so that neither a crash nor a restart loses or doubles a
//!   line.
//!
//! Invariants: nothing is acknowledged, and no position is passed, before its records (and dead letters) are durable;
//! batches of files are handed over in the order of their positions; who posts is authenticated before a body is read;
//! every buffer is bounded.

mod config;
mod csv;
mod cutter;
mod divide;
mod doors;
mod files;
mod identity;
mod inputs;
mod keys;
mod listener;
mod mapping;
mod position;
mod reader;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actlog_core::{
    AuditRecord, BuildContext, BuildError, Clock, ConfigError, Size, Source, SourceContext, SourceError, Timestamp,
};
use actlog_http::{Head, Server};
use async_trait::async_trait;
#[doc(hidden)]
pub use serde::de::MapAccess;

pub use config::{CredentialConfig, IntakeKeys};
use cutter::Settings;
pub use divide::{Element, Elements, Form, Rejected, divide};
use doors::Doors;
use files::Files;
pub use identity::record_id;
use inputs::Input;
pub use keys::{IntakeConfig, Keys, NoKeys, OneOrMany};
use listener::{Listener, Shared};

/// How long requests that have begun may take at shutdown. The runtime's own deadline is usually shorter.
const GRACE: Duration = Duration::from_secs(60);
/// Name and help of the figures that every intake has.
const RECEIVED: (&str, &str) = ("actlog_source_received", "Events that came in");
const REJECTED: (&str, &str) = ("actlog_source_rejected", "Input that is no event");

/// What one element of the input is, and what it becomes.
pub trait Format: Send + Sync + 'static {
    /// What is expected, in the words of a refusal: `an execution context in JSON`.
    const ELEMENT: &'static str;
    /// The code of the answer when nothing of a post could be taken: `not-a-context`.
    const REFUSAL: &'static str;
    /// Whether CSV is taken too: posts of media type `text/csv`, and files with the ending `.csv` (before `.gz` or
    /// `.zst`). Each row then comes as a JSON object of texts.
    const TAKES_CSV: bool = false;

    /// What mapping needs to know besides the element; made once for a body.
    type Envelope<'a>;

    /// Makes the envelope of a body.
    fn envelope<'a>(&self, arrival: Arrival<'a>) -> Self::Envelope<'a>;

    /// Maps an element to its record, which borrows from it what it can. Called on any thread, for several elements at
    /// once. The organisation's id and unique name in the record count for credentials that are bound to organisations.
    ///
    /// # Errors
    /// What is wrong with the element, for who sent it, and what would be right.
    fn map<'a>(&self, element: &'a [u8], envelope: &Self::Envelope<'a>) -> Result<AuditRecord<'a>, String>;
}

/// How a body came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// When it was received.
    pub received: Timestamp,
    /// The head of the request that it came with; none for files.
    pub head: Option<&'a Head>,
    /// Whether the body may hold several elements, so that headers can only say what all of them share.
    pub is_batch: bool,
}

/// A listener, or a reader of files or standard input, ready to run.
pub struct Intake<F> {
    format: Arc<F>,
    clock: Arc<dyn Clock>,
    way: Way,
}

/// How elements come in.
enum Way {
    Listener { server: Server, doors: Option<Arc<Doors>> },
    Files { inputs: Vec<Input>, settings: Settings },
}

impl<F> fmt::Debug for Intake<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way {
            Way::Listener { server, .. } => f.debug_tuple("Intake").field(&server.local_address()).finish(),
            Way::Files { inputs, .. } => f.debug_tuple("Intake").field(inputs).finish(),
        }
    }
}

impl<F: Format> Intake<F> {
    /// Opens the listener, or looks for the files. `keys` must be valid.
    ///
    /// # Errors
    /// When a secret can't be read, the address can't be listened on, or a named file isn't there.
    pub async fn build(keys: &IntakeKeys, format: F, cx: &BuildContext) -> Result<Self, BuildError> {
        let way = match keys.server() {
            Some(server) => {
                let doors = keys.doors(&cx.config_dir, &cx.organizations)?.map(Arc::new);
                let server = Server::bind(&server, &cx.config_dir, Arc::clone(&cx.body_budget)).await?;
                tracing::info!(address = %server.local_address(), "posts are taken");
                Way::Listener { server, doors }
            }
            None => {
                let inputs = match keys.stdin {
                    true => vec![Input::Stdin],
                    false => find(cx.config_dir.clone(), keys.path.to_vec()).await?,
                };
                // Validation has bounded both far below what fits.
                let bytes = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
                let (batch_size, max_line) = (bytes(keys.batch_size), bytes(keys.max_line));
                Way::Files { inputs, settings: Settings { batch_size, max_line, takes_csv: F::TAKES_CSV } }
            }
        };
        Ok(Self { format: Arc::new(format), clock: Arc::clone(&cx.clock), way })
    }
}

/// Looks for the files, on a blocking thread.
async fn find(folder: PathBuf, patterns: Vec<String>) -> Result<Vec<Input>, BuildError> {
    let found = tokio::task::spawn_blocking(move || (inputs::find(&folder, &patterns), patterns)).await;
    let (inputs, patterns) = found.map_err(|error| BuildError::Other(format!("looking for files failed: {error}")))?;
    let inputs = inputs.map_err(|error| match error.kind() {
        // At the first start that ends the run: nobody waits for a file that was mistyped.
        std::io::ErrorKind::NotFound => ConfigError::new("path", error.to_string()).into(),
        _ => BuildError::File { path: patterns.join(", "), error },
    })?;
    if inputs.is_empty() {
        tracing::warn!(path = patterns.join(", "), "there is no file to read");
    }
    Ok(inputs)
}

#[async_trait]
impl<F: Format> Source for Intake<F> {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let Self { format, clock, way } = *self;
        match way {
            Way::Files { inputs, settings } => Files { format, inputs, settings, clock }.run(cx).await,
            Way::Listener { server, doors } => {
                let shared = Shared {
                    received: cx.metrics.counter(RECEIVED.0, RECEIVED.1, &[]),
                    rejected: cx.metrics.counter(REJECTED.0, REJECTED.1, &[]),
                    format,
                    emitter: cx.emitter,
                    clock,
                    health: cx.health,
                    is_degraded: AtomicBool::new(false),
                };
                let handler = Arc::new(Listener { shared: Arc::new(shared), doors });
                server.serve(handler, &cx.metrics, cx.shutdown, GRACE).await;
                Ok(())
            }
        }
    }
}
