//! Entries of the journal, as sinks receive them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// An [`AuditRecord`](crate::AuditRecord) as JSON.
    Record,
    /// A [`Statement`] about the log itself, as JSON.
    Statement,
}

/// A durable entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the journal: 0, 1, 2 … without holes, never used again.
    pub index: u64,
    /// What the bytes are.
    pub kind: EntryKind,
    /// Id of the record; for statements a random one.
    pub id: Uuid,
    /// `CreationTime` of the record; when a statement was made.
    pub time: Timestamp,
    /// Random bytes that a commitment to this entry is salted with (see `docs/architecture.md`, Integrity).
    pub salt: [u8; 32],
    /// The exact stored bytes: JSON on one line, without a line end.
    pub bytes: Bytes,
}

/// What the log says about itself: why something may be missing from it, and who changed what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Statement", rename_all = "lowercase", rename_all_fields = "PascalCase")]
pub enum Statement {
    /// Capture began.
    Start {
        /// When.
        time: Timestamp,
        /// Version of actlog.
        version: String,
    },
    /// Capture ended in good order.
    Stop {
        /// When.
        time: Timestamp,
    },
    /// Capture was running at that time; bounds what a crash can have cost.
    Heartbeat {
        /// When.
        time: Timestamp,
    },
    /// Events between two times may be missing.
    Gap {
        /// When the statement was made.
        time: Timestamp,
        /// The component that was affected; none: all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        component: Option<String>,
        /// Since when.
        from: Timestamp,
        /// Until when; none while it lasts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Timestamp>,
        /// Why: `crash`, `stopped`, `overload`, `journal-damage`, `auditing-off`.
        reason: String,
        /// Particulars for a person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A sink's cursor was moved past entries that it has not received, because the journal was full.
    Skip {
        /// When.
        time: Timestamp,
        /// The sink.
        sink: String,
        /// First entry that it missed.
        from: u64,
        /// First entry that it did not miss.
        to: u64,
    },
    /// A policy was published.
    Policy {
        /// When.
        time: Timestamp,
        /// The new version.
        version: u64,
        /// Who published it.
        actor: String,
        /// What changed, a line each.
        changes: Vec<String>,
    },
    /// A segment of the journal was removed, every sink having received what it held.
    Segment {
        /// When.
        time: Timestamp,
        /// Its first entry.
        from: u64,
        /// The first entry behind it.
        to: u64,
    },
    /// An administrative action.
    Administration {
        /// When.
        time: Timestamp,
        /// Who.
        actor: String,
        /// What.
        action: String,
    },
}

impl Statement {
    /// When the statement was made.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Start { time, .. }
            | Self::Stop { time }
            | Self::Heartbeat { time }
            | Self::Gap { time, .. }
            | Self::Skip { time, .. }
            | Self::Policy { time, .. }
            | Self::Segment { time, .. }
            | Self::Administration { time, .. } => *time,
        }
    }
}
