//! What completes records: knowledge that their sources do not have.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::record::AuditRecord;

/// Completes the records of every source on their way to the policy: names of users, places of addresses.
///
/// Lifecycle: built once by its [`EnrichmentPlugin`](crate::EnrichmentPlugin), before any source runs, with what it
/// knows from earlier runs. Then `run` keeps that up to date; the runtime answers an error of `run` with back-off and
/// another `run`, and records go on being completed meanwhile.
#[async_trait]
pub trait Enrichment: Send + Sync + 'static {
    /// Adds what it knows. It is called for every record, on the source's thread: it looks at memory only and never
    /// waits. What is unknown stays as it is; capture never depends on it.
    fn complete(&self, record: &mut AuditRecord<'_>);

    /// Keeps its knowledge up to date until `cx.shutdown` fires.
    ///
    /// # Errors
    /// Whatever keeps it from going on.
    async fn run(self: Arc<Self>, cx: EnrichmentContext) -> Result<(), EnrichmentError>;
}

/// What an enrichment works with while it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EnrichmentContext {
    /// The configured name: `users` for `[enrichments.users]`.
    pub name: Arc<str>,
    /// Fires when it is to stop.
    pub shutdown: CancellationToken,
    /// How it is. The runtime sets `Ok` when `run` begins.
    pub health: Health,
}

impl EnrichmentContext {
    /// A context, as the runtime and tests make it.
    pub fn new(name: impl Into<Arc<str>>, shutdown: CancellationToken, health: Health) -> Self {
        Self { name: name.into(), shutdown, health }
    }
}

/// Why an enrichment can't bring its knowledge up to date, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EnrichmentError(pub String);
