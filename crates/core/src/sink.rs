//! A way out.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::emitter::{EmitError, Emitter};
use crate::entry::{Entry, EntryKind};
use crate::health::{Health, Status};
use crate::metrics::Metrics;

/// A way out: pulls entries from the journal at its own pace, so that it may batch, overlap, rotate and expire as it
/// likes.
///
/// Lifecycle: built by its [`SinkPlugin`](crate::SinkPlugin), run once. The runtime answers an error with back-off and
/// a fresh build; the next run begins at the last committed cursor.
#[async_trait]
pub trait Sink: Send {
    /// Runs until `cx.shutdown` fires. Then it finishes what it has begun, commits, and returns.
    ///
    /// # Errors
    /// Whatever keeps it from going on.
    async fn run(self: Box<Self>, cx: SinkContext) -> Result<(), SinkError>;
}

/// What stands behind a [`SinkContext`]: the runtime's journal, or a test's.
#[async_trait]
pub trait Pull: Send + 'static {
    /// See [`SinkContext::next`].
    ///
    /// # Errors
    /// [`SinkError::Journal`].
    async fn next(&mut self, max_bytes: usize, wait: Duration) -> Result<Vec<Entry>, SinkError>;

    /// See [`SinkContext::commit`].
    ///
    /// # Errors
    /// [`SinkError::Journal`].
    async fn commit(&mut self, next_index: u64, state: Vec<u8>) -> Result<(), SinkError>;

    /// See [`SinkContext::reject`].
    ///
    /// # Errors
    /// [`SinkError::Journal`].
    async fn reject(&mut self, entry: &Entry, reason: &str) -> Result<(), SinkError>;
}

/// What a sink works with.
#[non_exhaustive]
pub struct SinkContext {
    /// The configured name: `audit` for `[sinks.audit]`.
    pub name: Arc<str>,
    /// The state that was stored with the cursor; none at the first start.
    pub state: Option<Vec<u8>>,
    /// For records of its own, such as access to what it stores.
    pub emitter: Emitter,
    /// Fires when the sink is to stop.
    pub shutdown: CancellationToken,
    /// For figures of its own; carries the labels `component` and `role`.
    pub metrics: Metrics,
    /// How it is. The runtime sets `Ok` when `run` begins.
    pub health: Health,
    pull: Box<dyn Pull>,
}

impl std::fmt::Debug for SinkContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkContext").field("name", &self.name).finish_non_exhaustive()
    }
}

impl SinkContext {
    /// A context, as the runtime and tests make it.
    pub fn new(
        emitter: Emitter,
        pull: Box<dyn Pull>,
        state: Option<Vec<u8>>,
        shutdown: CancellationToken,
        metrics: Metrics,
        health: Health,
    ) -> Self {
        let name = Arc::from(emitter.component());
        Self { name, state, emitter, shutdown, metrics, health, pull }
    }

    /// The next durable entries in the journal's order: about `max_bytes` of them, at least one if there is any. Waits
    /// up to `wait` for some to come; returns an empty list when none came or the shutdown fired meanwhile.
    ///
    /// What this returns counts as delivered only when [`SinkContext::commit`] says so; the same run never gets it
    /// again.
    ///
    /// # Errors
    /// [`SinkError::Journal`] when the journal can't be read.
    pub async fn next(&mut self, max_bytes: usize, wait: Duration) -> Result<Vec<Entry>, SinkError> {
        if self.shutdown.is_cancelled() {
            return Ok(Vec::new());
        }
        tokio::select! {
            biased;
            entries = self.pull.next(max_bytes, wait) => entries,
            () = self.shutdown.cancelled() => Ok(Vec::new()),
        }
    }

    /// Says that everything before `next_index` is done with for good, and stores the sink's own state with that,
    /// atomically. Durable when this returns.
    ///
    /// # Errors
    /// [`SinkError::Journal`] when it could not be made durable.
    pub async fn commit(&mut self, next_index: u64, state: Vec<u8>) -> Result<(), SinkError> {
        self.pull.commit(next_index, state).await
    }

    /// Puts an entry that will never be accepted to the dead letters. Durable when this returns.
    ///
    /// # Errors
    /// [`SinkError::Journal`] when it could not be made durable.
    pub async fn reject(&mut self, entry: &Entry, reason: &str) -> Result<(), SinkError> {
        self.pull.reject(entry, reason).await
    }
}

/// Why a sink can't go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The journal can't be read, or a cursor can't be stored.
    #[error("journal: {0}")]
    Journal(String),
    /// A file could not be written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// Records of its own could not be handed over.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// Anything else, in words that say what to do.
    #[error("{0}")]
    Other(String),
}

/// What a receiver did with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It has all of them for good.
    Delivered,
    /// It has none of them for good, and may take them later.
    Retry {
        /// When the receiver asked to be tried again; else the back-off decides.
        after: Option<Duration>,
        /// Why, for a person.
        reason: String,
    },
    /// It has all but these, and will never take these: place in the batch, and why.
    Rejected(Vec<(usize, String)>),
    /// Nothing can be delivered until somebody changes something.
    Fatal(String),
}

/// A simple sink: one batch after the other. [`run_batches`] does the rest.
#[async_trait]
pub trait BatchSink: Send {
    /// About how many bytes of entries make a batch.
    fn max_bytes(&self) -> usize {
        1 << 20
    }

    /// Whether the sink wants [`EntryKind::Statement`]s too.
    fn wants_statements(&self) -> bool {
        false
    }

    /// Delivers a batch; never an empty one. The future is dropped when it has not ended some seconds after shutdown;
    /// the batch then stays before the cursor.
    async fn deliver(&mut self, entries: &[Entry]) -> Delivery;
}

/// Runs a [`BatchSink`]: pulls, delivers, retries with back-off (100 ms doubling to 30 s), sends what is refused for
/// good to the dead letters, and commits after each batch.
///
/// # Errors
/// [`SinkError::Other`] when a delivery is [`Delivery::Fatal`]; else as the context has them.
pub async fn run_batches(sink: &mut dyn BatchSink, mut cx: SinkContext) -> Result<(), SinkError> {
    const LONGEST_PAUSE: Duration = Duration::from_secs(30);
    /// What a delivery that has begun may still take after shutdown.
    const GRACE: Duration = Duration::from_secs(5);
    let delivered = cx.metrics.counter("actlog_sink_delivered", "Entries that the receiver has for good", &[]);
    let retries = cx.metrics.counter("actlog_sink_retries", "Deliveries that were put off", &[]);
    while !cx.shutdown.is_cancelled() {
        let pulled = cx.next(sink.max_bytes(), Duration::from_secs(60)).await?;
        let Some(last) = pulled.last() else { continue };
        let next_index = last.index + 1;
        let statements = sink.wants_statements();
        let batch: Vec<Entry> =
            pulled.into_iter().filter(|entry| statements || entry.kind == EntryKind::Record).collect();
        let mut pause = Duration::from_millis(100);
        while !batch.is_empty() {
            let shutdown = cx.shutdown.clone();
            let too_late = async {
                shutdown.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            let delivery = tokio::select! {
                biased;
                delivery = sink.deliver(&batch) => delivery,
                () = too_late => return Ok(()),
            };
            match delivery {
                Delivery::Delivered => {
                    delivered.inc_by(batch.len() as u64);
                    break;
                }
                Delivery::Rejected(refused) => {
                    delivered.inc_by(batch.len().saturating_sub(refused.len()) as u64);
                    for (place, reason) in refused {
                        if let Some(entry) = batch.get(place) {
                            cx.reject(entry, &reason).await?;
                        }
                    }
                    break;
                }
                Delivery::Retry { after, reason } => {
                    retries.inc();
                    cx.health.set(Status::Degraded { reason });
                    let wait = after.unwrap_or(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        // What was not delivered stays in the journal, before the cursor.
                        () = cx.shutdown.cancelled() => return Ok(()),
                    }
                }
                Delivery::Fatal(reason) => return Err(SinkError::Other(reason)),
            }
        }
        cx.health.set(Status::Ok);
        cx.commit(next_index, Vec::new()).await?;
    }
    Ok(())
}
