//! The way from a source into the journal.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::record::AuditRecord;
use crate::time::Timestamp;

/// Why records were not taken in. Whatever the reason, the upstream must not be told that they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The journal has reached its disk budget, or the disk is full: try again later.
    #[error("the journal is full: {reason}; try again in {} s", retry_after.as_secs())]
    Full {
        /// What is full, for a person.
        reason: String,
        /// When it makes sense to try again.
        retry_after: Duration,
    },
    /// actlog is shutting down.
    #[error("actlog is shutting down")]
    Closed,
    /// A batch that the journal can't hold in one frame.
    #[error("a batch of {bytes} bytes is more than the {limit} that the journal takes at once")]
    TooLarge {
        /// Size of the batch.
        bytes: usize,
        /// What would be taken.
        limit: usize,
    },
    /// Writing or syncing failed: the records may or may not be there after a restart, and they are not acknowledged.
    #[error("the journal could not be written: {0}")]
    Storage(String),
}

/// What became of a batch, once it is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Records that were written.
    pub written: u64,
    /// Records that were there already, and were dropped.
    pub duplicates: u64,
    /// Records that the policy leaves out.
    pub excluded: u64,
}

/// Resolves when the batch is on disk.
pub struct Receipt(Pin<Box<dyn Future<Output = Result<Committed, EmitError>> + Send>>);

impl Receipt {
    /// A receipt that resolves as the future does.
    pub fn new(future: impl Future<Output = Result<Committed, EmitError>> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for Receipt {
    type Output = Result<Committed, EmitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

/// Records that went through policy and encoding, and wait to be handed to the journal.
pub struct Prepared(pub(crate) Box<dyn Any + Send>);

impl Prepared {
    /// Wraps what the implementation of [`Emit`] prepares.
    pub fn new(inner: impl Any + Send) -> Self {
        Self(Box::new(inner))
    }

    /// Takes it out again; none when another implementation prepared it.
    pub fn into_inner<T: Any>(self) -> Option<T> {
        self.0.downcast().ok().map(|inner| *inner)
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared")
    }
}

/// Input that a source could not turn into a record, on its way to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedInput<'a> {
    /// Where it was, for a person: `contexts.ndjson line 17`.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
    /// The organisation that it is known to be of, if any.
    pub organization: Option<Uuid>,
    /// The input itself. It is stored only where the policy keeps all values as they are.
    pub bytes: &'a [u8],
}

/// A period from which events may be missing, as a source or a command knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Since when.
    pub from: Timestamp,
    /// Until when; none while it lasts.
    pub to: Option<Timestamp>,
    /// Why, in a word: `expired`, `outage`.
    pub reason: String,
    /// Particulars for a person.
    pub detail: Option<String>,
}

/// What stands behind an [`Emitter`]: the runtime's policy and journal, or a test's.
#[async_trait]
pub trait Emit: Send + Sync + 'static {
    /// Applies the policy and encodes, on the caller's thread.
    ///
    /// # Errors
    /// [`EmitError::TooLarge`].
    fn prepare(
        &self,
        component: &str,
        records: Vec<AuditRecord<'_>>,
        position: Option<Vec<u8>>,
    ) -> Result<Prepared, EmitError>;

    /// Waits for room in the journal's queue and hands the batch over.
    ///
    /// # Errors
    /// [`EmitError::Full`], [`EmitError::Closed`].
    async fn submit(&self, prepared: Prepared) -> Result<Receipt, EmitError>;

    /// States that events may be missing, with the source's position in the same frame of the journal.
    ///
    /// # Errors
    /// As [`Emit::submit`].
    async fn state_gap(&self, component: &str, gap: Gap, position: Option<Vec<u8>>) -> Result<Receipt, EmitError>;

    /// Stores input that is no record with the dead letters, durably.
    ///
    /// # Errors
    /// [`EmitError::Full`], [`EmitError::Storage`].
    async fn reject(&self, component: &str, input: RejectedInput<'_>) -> Result<(), EmitError>;

    /// Why nothing can be taken in right now; none when it can.
    fn pressure(&self) -> Option<EmitError>;
}

/// A component's handle on the journal. Cheap to clone.
#[derive(Clone)]
pub struct Emitter {
    component: Arc<str>,
    emit: Arc<dyn Emit>,
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("component", &self.component).finish_non_exhaustive()
    }
}

impl Emitter {
    /// A handle for the component of that name.
    pub fn new(component: impl Into<Arc<str>>, emit: Arc<dyn Emit>) -> Self {
        Self { component: component.into(), emit }
    }

    /// Name of the component.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// Hands records over: [`Emitter::prepare`], then [`Emitter::submit`].
    ///
    /// `position` says how far the source has come with these records. It becomes durable together with them, and is
    /// given to the source when it is next started. Batches of one source must be emitted in the order of their
    /// positions.
    ///
    /// # Errors
    /// As the two steps have them. The records are durable only when the [`Receipt`] says so.
    pub async fn emit(&self, records: Vec<AuditRecord<'_>>, position: Option<Vec<u8>>) -> Result<Receipt, EmitError> {
        let prepared = self.prepare(records, position)?;
        self.submit(prepared).await
    }

    /// Applies the policy and encodes each record once. This is the processor's work: it runs on the caller's thread.
    ///
    /// # Errors
    /// [`EmitError::TooLarge`] for a batch that does not fit into one frame of the journal.
    pub fn prepare(&self, records: Vec<AuditRecord<'_>>, position: Option<Vec<u8>>) -> Result<Prepared, EmitError> {
        self.emit.prepare(&self.component, records, position)
    }

    /// Hands a prepared batch to the journal; waits while its queue is full. Dropping the future before it resolves
    /// drops the batch.
    ///
    /// # Errors
    /// [`EmitError::Full`] when the disk or its budget is full, [`EmitError::Closed`] during shutdown.
    pub async fn submit(&self, prepared: Prepared) -> Result<Receipt, EmitError> {
        self.emit.submit(prepared).await
    }

    /// States that events of this component may be missing: what its upstream no longer has, or never had. `position`
    /// becomes durable together with the statement, so that each gap is stated once.
    ///
    /// # Errors
    /// As [`Emitter::submit`]. It is stated only when the [`Receipt`] says so.
    pub async fn state_gap(&self, gap: Gap, position: Option<Vec<u8>>) -> Result<Receipt, EmitError> {
        self.emit.state_gap(&self.component, gap, position).await
    }

    /// Puts input that is no record to the dead letters. Durable when this returns; so call it before emitting a
    /// position beyond it.
    ///
    /// # Errors
    /// [`EmitError::Full`], [`EmitError::Storage`].
    pub async fn reject(&self, input: RejectedInput<'_>) -> Result<(), EmitError> {
        self.emit.reject(&self.component, input).await
    }

    /// Why nothing can be taken in right now, for answering before work is done; none when it can.
    pub fn pressure(&self) -> Option<EmitError> {
        self.emit.pressure()
    }
}
