//! The durable, ordered log between sources and sinks.
//!
//! A source's emitter submits a [`Batch`] of encoded entries, and the position that belongs to them; the one writer
//! thread puts what waits into a frame, syncs once, and resolves the [`Ticket`]s. Each sink has a [`Reader`] of its own
//! and commits its cursor as a state. States (small values by key) are kept in the log itself, so that a position is
//! committed with its data, in the same frame, and a cursor with the sink's own state.
//!
//! It is not a store to search in, knows nothing of the fields of a record, and decides nothing about retention: the
//! runtime says what may be released.
//!
//! # Invariants
//!
//! - **Acknowledged is on disk.** A ticket resolves with success after the sync of the frame that holds its entries, and
//!   of the folder when the segment is new.
//! - **An intact frame proves what is before it.** A frame is written only after the one before it was synced; a segment
//!   is created only after the last frame of the one before it was. So only the last frame can be unfinished.
//! - **A file that failed is left.** After a failed write or sync the segment is never written or synced again. The next
//!   one begins with the index of the group that failed, and whatever a segment holds at or above the first index of the
//!   next one is void. Files of earlier runs are never written either.
//! - **Indices have no holes**, and that of an acknowledged entry is never used again.
//! - **Nothing is skipped in silence.** Damaged entries are reported with their indices, to whoever reads or opens.
//!
//! The format is described in `docs/journal-format.md`. Everything goes through core's
//! [`Storage`](actlog_core::Storage); [`DiskStorage`] is the one over the operating system.

mod batch;
mod catalog;
mod disk;
mod error;
mod format;
mod ids;
mod journal;
mod offline;
mod reader;
mod recovery;
mod reserve;
mod scan;
mod writer;

pub use batch::{Batch, MAX_BATCH, MAX_STATE_KEY, MAX_STATE_VALUE};
pub use catalog::Statistics;
pub use disk::DiskStorage;
pub use error::{CommitError, JournalError, Pressure, ReadError, SubmitError};
pub use journal::{Committed, Journal, JournalOptions, SegmentInfo, Ticket};
pub use offline::{Inspection, Problem, ProblemKind, Repair, SegmentInspection, inspect, repair, statements, verify};
pub use reader::{Missing, ReadItem, Reader};
pub use recovery::{Damage, Recovery};
