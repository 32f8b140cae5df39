//! A way in.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::emitter::Emitter;
use crate::health::Health;
use crate::metrics::Metrics;

/// A way in: turns what it receives into records and emits them.
///
/// Lifecycle: built by its [`SourcePlugin`](crate::SourcePlugin), run once. The runtime answers an error with back-off
/// and a fresh build, so a source need not retry by itself what a fresh start would cure.
#[async_trait]
pub trait Source: Send {
    /// Runs until the input ends or `cx.shutdown` fires. Returning `Ok` means that there is nothing more to come.
    ///
    /// On shutdown it stops taking input, waits for the receipts of what it has emitted, answers its upstream, and
    /// returns. It must not return before, and it must never tell its upstream that something is safe without a receipt.
    ///
    /// # Errors
    /// Whatever keeps it from going on.
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError>;
}

/// What a source works with.
#[derive(Debug)]
#[non_exhaustive]
pub struct SourceContext {
    /// The configured name: `dynamics` for `[sources.dynamics]`.
    pub name: Arc<str>,
    /// Where records go.
    pub emitter: Emitter,
    /// The last position that became durable; none at the first start.
    pub position: Option<Vec<u8>>,
    /// Fires when the source is to stop.
    pub shutdown: CancellationToken,
    /// For figures of its own; carries the labels `component` and `role`.
    pub metrics: Metrics,
    /// How it is. The runtime sets `Ok` when `run` begins.
    pub health: Health,
}

impl SourceContext {
    /// A context, as the runtime and tests make it.
    pub fn new(
        emitter: Emitter,
        position: Option<Vec<u8>>,
        shutdown: CancellationToken,
        metrics: Metrics,
        health: Health,
    ) -> Self {
        let name = Arc::from(emitter.component());
        Self { name, emitter, position, shutdown, metrics, health }
    }
}

/// Why a source can't go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Records could not be handed over.
    #[error(transparent)]
    Emit(#[from] crate::EmitError),
    /// A file could not be read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// Anything else, in words that say what to do.
    #[error("{0}")]
    Other(String),
}
