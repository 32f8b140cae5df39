//! What is submitted together.

use actlog_core::{EntryKind, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

use crate::format;

/// Bytes of a key of a state, at most.
pub const MAX_STATE_KEY: usize = 256;
/// Bytes of the value of a state, at most.
pub const MAX_STATE_VALUE: usize = 1 << 20;
/// Bytes of a batch, entries and states together with their overhead, at most.
pub const MAX_BATCH: usize = 16 << 20;

/// Entries and states that become durable together: all of them or none.
///
/// The emitter builds it on its own thread; the bytes are encoded once, here, and copied once, by the writer.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The entries as they are in a frame.
    pub(crate) encoded: Vec<u8>,
    pub(crate) entries: Vec<EntryPlace>,
    pub(crate) states: Vec<(String, Option<Bytes>)>,
    pub(crate) control: bool,
    pub(crate) mends: Vec<String>,
    /// Taken over from the last frame before a restart: its records are not looked up in the window, so that no
    /// index changes.
    pub(crate) carried: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryPlace {
    pub(crate) id: Uuid,
    pub(crate) kind: EntryKind,
    /// Where it ends in [`Batch::encoded`].
    pub(crate) end: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for so many bytes of entries.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { encoded: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Adds an entry; `write` appends its bytes (JSON on one line) to the vector that it is given, and must leave alone
    /// what is in it already.
    ///
    /// # Errors
    /// What `write` returns; the batch is then as before.
    pub fn push<E>(
        &mut self,
        kind: EntryKind,
        id: Uuid,
        time: Timestamp,
        salt: &[u8; 32],
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.encoded.len();
        format::begin_entry(&mut self.encoded, kind, time, id, salt);
        if let Err(error) = write(&mut self.encoded) {
            self.encoded.truncate(start);
            return Err(error);
        }
        format::finish_entry(&mut self.encoded, start);
        self.entries.push(EntryPlace { id, kind, end: self.encoded.len() });
        Ok(())
    }

    /// Sets a state when the batch becomes durable: `source/NAME` for a source's position, `sink/NAME` for a sink's
    /// cursor. Keys have at most [`MAX_STATE_KEY`] bytes, values [`MAX_STATE_VALUE`].
    pub fn set_state(&mut self, key: impl Into<String>, value: impl Into<Bytes>) {
        self.states.push((key.into(), Some(value.into())));
    }

    /// Removes a state when the batch becomes durable.
    pub fn remove_state(&mut self, key: impl Into<String>) {
        self.states.push((key.into(), None));
    }

    /// Says that a state may be set again. When a batch with data fails, later batches that set the same states fail
    /// too ([`CommitError::Broken`](crate::CommitError::Broken)): they were submitted in the belief that it would be
    /// durable. Whoever begins anew from the durable value of the state says so with this, in a batch of its own.
    pub fn mend(&mut self, key: impl Into<String>) {
        self.mends.push(key.into());
    }

    /// Marks the batch as one of actlog's own (cursors, statements): it may pass the disk budget, and the reserve is
    /// given up for it when the disk is full.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.control = true;
        self
    }

    /// How many entries are in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is neither an entry nor a state in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.states.is_empty()
    }

    /// Bytes that it will take up in a segment.
    pub fn bytes(&self) -> usize {
        let states = self.states.iter().map(|(key, value)| format::update_length(key, value.as_deref()));
        self.encoded.len() + states.sum::<usize>()
    }

    /// Why it can't be written, if so.
    pub(crate) fn too_large(&self) -> Option<String> {
        if self.bytes() > MAX_BATCH {
            return Some(format!("the batch has {} bytes, more than {MAX_BATCH}: divide it", self.bytes()));
        }
        if self.states.len() > usize::from(u16::MAX) {
            return Some(format!("the batch sets {} states, more than {}", self.states.len(), u16::MAX));
        }
        self.states.iter().find_map(|(key, value)| {
            let length = value.as_ref().map_or(0, Bytes::len);
            (key.len() > MAX_STATE_KEY || length > MAX_STATE_VALUE).then(|| {
                let key_length = key.len();
                format!(
                    "a state has a key of {key_length} and a value of {length} bytes; \
                     {MAX_STATE_KEY} and {MAX_STATE_VALUE} are allowed"
                )
            })
        })
    }
}
