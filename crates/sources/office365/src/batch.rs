//! From blobs to a batch: what is new in them, mapped, with the position behind it.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use actlog_core::{AuditRecord, EmitError, Emitter, Prepared, RejectedInput, Timestamp};
use actlog_office::{Envelope, OfficeError, from_office};

use crate::blob::{Blob, Elements, Next};
use crate::figures::Figures;
use crate::position::{Position, Reached};
use crate::seen::{Manifest, Seen, record_key};

/// Records of a batch, at most: small ones grow most on their way.
const MAXIMUM_RECORDS: usize = 4096;
/// Elements that are no records, at most, before a batch is closed.
const MAXIMUM_REJECTED: usize = 256;
/// Elements of one blob that are no records and go to the dead letters one by one. More of them are only counted, so that
/// a blob full of nonsense does not keep the source from its work.
const REJECTED_OF_BLOB: u64 = 1000;

/// Blobs that wait, the first one perhaps begun.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    blobs: VecDeque<Open>,
    bytes: usize,
}

/// A blob, and the place in it.
#[derive(Debug)]
struct Open {
    blob: Arc<Blob>,
    elements: Elements,
    /// Elements so far that are no records.
    rejected: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, blob: Blob) {
        self.bytes += blob.body.len();
        self.blobs.push_back(Open { blob: Arc::new(blob), elements: Elements::default(), rejected: 0 });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Bytes of the blobs in it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What becomes durable together.
pub(crate) struct Batch {
    rejected: Vec<Rejected>,
    fresh: Vec<(Arc<Blob>, u64, Range<usize>)>,
    position: Vec<u8>,
    received: Timestamp,
}

struct Rejected {
    blob: Arc<Blob>,
    number: u64,
    place: Range<usize>,
    reason: String,
}

/// What a batch is made with.
pub(crate) struct Maker {
    pub(crate) emitter: Emitter,
    /// Bytes of a batch's records as they come; a single record at least.
    pub(crate) batch_size: usize,
}

impl Maker {
    /// Takes from the front of the queue what fits into a batch and was not seen before; and prepares it. The index is
    /// durable up to the batch's position when this returns.
    ///
    /// # Errors
    /// When the index can't be read or written.
    pub(crate) fn make(
        &self,
        queue: &mut Queue,
        seen: &mut Seen,
        reached: &Reached,
        received: Timestamp,
        figures: &Figures,
    ) -> io::Result<(Batch, Result<Prepared, EmitError>)> {
        let blobs: Vec<Arc<Blob>> = queue.blobs.iter().map(|open| Arc::clone(&open.blob)).collect();
        let (mut records, mut fresh, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bytes, mut over) = (0, 0);
        for (blob, open) in blobs.iter().zip(&mut queue.blobs) {
            // A listing that is shuffled while it is read can name a blob twice.
            if open.elements.is_at_start() && seen.contains(&blob.key)? {
                figures.blobs_known.inc();
                over += 1;
                continue;
            }
            let mut is_over = false;
            while !is_over
                && bytes < self.batch_size
                && records.len() < MAXIMUM_RECORDS
                && rejected.len() < MAXIMUM_REJECTED
            {
                match open.elements.next(&blob.body) {
                    Next::Element(number, place) => match map(blob, place.clone(), received) {
                        Ok(record) if seen.insert(record_key(record.id), blob.day)? => {
                            bytes += place.len();
                            records.push(record);
                            fresh.push((Arc::clone(blob), number, place));
                        }
                        Ok(_) => drop(figures.duplicates.inc()),
                        Err(error) => rejected.extend(open.reject(number, place, error.to_string(), figures)),
                    },
                    Next::Malformed(number, place, reason) => {
                        rejected.extend(open.reject(number, place, reason, figures));
                    }
                    Next::End => is_over = true,
                }
            }
            if !is_over {
                break;
            }
            seen.insert(blob.key, blob.day)?;
            figures.blobs_taken.inc();
            over += 1;
        }
        figures.received.inc_by(fresh.len() as u64);
        let position = encode(reached, seen.sync()?)?;
        let prepared = self.emitter.prepare(records, Some(position.clone()));
        queue.bytes -= queue.blobs.drain(..over).map(|open| open.blob.body.len()).sum::<usize>();
        let mut batch = Batch { rejected, fresh, position, received };
        if let Err(error @ EmitError::TooLarge { .. }) = &prepared {
            // Records can be larger than what they come from. It would be so the next time as well.
            batch.refuse(&error.to_string(), figures);
            let prepared = self.make_again(&batch);
            return Ok((batch, prepared));
        }
        Ok((batch, prepared))
    }

    /// Makes a batch anew that was used up and not taken in.
    pub(crate) fn make_again(&self, batch: &Batch) -> Result<Prepared, EmitError> {
        let records = batch.fresh.iter().filter_map(|(blob, _, place)| map(blob, place.clone(), batch.received).ok());
        self.emitter.prepare(records.collect(), Some(batch.position.clone()))
    }
}

impl Open {
    /// Input for the dead letters; none where only the count grows.
    fn reject(&mut self, number: u64, place: Range<usize>, mut reason: String, figures: &Figures) -> Option<Rejected> {
        figures.rejected.inc();
        self.rejected += 1;
        if self.rejected == REJECTED_OF_BLOB {
            reason.push_str("; further elements of this blob that are no records are only counted");
        }
        let blob = Arc::clone(&self.blob);
        (self.rejected <= REJECTED_OF_BLOB).then_some(Rejected { blob, number, place, reason })
    }
}

impl Batch {
    /// Makes all records input that is none.
    fn refuse(&mut self, reason: &str, figures: &Figures) {
        figures.rejected.inc_by(self.fresh.len() as u64);
        let refused = self.fresh.drain(..).map(|(blob, number, place)| {
            let reason = reason.to_owned();
            Rejected { blob, number, place, reason }
        });
        self.rejected.extend(refused);
    }

    /// What is no record, for the dead letters.
    pub(crate) fn rejected(&self) -> impl Iterator<Item = RejectedInput<'_>> {
        self.rejected.iter().map(|Rejected { blob, number, place, reason }| RejectedInput {
            place: format!("{}, {}, content {}, element {number}", blob.tenant, blob.content_type, blob.content_id),
            reason: reason.clone(),
            organization: None,
            bytes: &blob.body[place.clone()],
        })
    }
}

fn map(blob: &Blob, place: Range<usize>, received: Timestamp) -> Result<AuditRecord<'_>, OfficeError> {
    from_office(&blob.body[place], &Envelope { content_type: Some(blob.content_type), received })
}

/// The position for the journal.
pub(crate) fn encode(reached: &Reached, seen: Manifest) -> io::Result<Vec<u8>> {
    Position::new(reached.clone(), seen).encode().map_err(io::Error::other)
}
