//! From elements to records, ready to be submitted.

use actlog_core::{AuditRecord, EmitError, Emitter, Prepared};

use crate::Format;
use crate::divide::{Elements, Rejected};

/// What became of the elements of an input.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// The records, encoded; to be submitted even when there are none, for the position's sake.
    pub(crate) prepared: Prepared,
    pub(crate) accepted: usize,
    /// In the order of the input.
    pub(crate) rejected: Vec<Rejected>,
}

/// Maps elements to records and prepares them. `check` may refuse a record, with its reason.
///
/// # Errors
/// As [`Emitter::prepare`] has them.
pub(crate) fn map<'a, F: Format>(
    format: &F,
    elements: &'a Elements<'a>,
    envelope: &F::Envelope<'a>,
    emitter: &Emitter,
    position: Option<Vec<u8>>,
    check: impl Fn(&AuditRecord<'_>) -> Result<(), String>,
) -> Result<Mapped, EmitError> {
    let mut records = Vec::with_capacity(elements.list.len());
    let mut rejected = elements.refused.clone();
    for element in &elements.list {
        let mapped = format.map(&element.bytes, envelope);
        match mapped.and_then(|record| check(&record).map(|()| record)) {
            Ok(record) => records.push(record),
            Err(reason) => rejected.push(Rejected { line: element.line, reason, place: element.place.clone() }),
        }
    }
    rejected.sort_by_key(|one| one.line);
    let accepted = records.len();
    Ok(Mapped { prepared: emitter.prepare(records, position)?, accepted, rejected })
}
