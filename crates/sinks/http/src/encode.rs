//! From entries of the journal to what is sent of them.

use std::sync::Arc;

use actlog_core::{AuditRecord, Entry, EntryKind, Size};
use actlog_interop::ecs::{self, EcsOptions};
use actlog_interop::ocsf;
use actlog_office::split::{Limits, split};
use bytes::Bytes;

use crate::config::{Body, HttpConfig};
use crate::formats::{Facts, Format, Shape};

/// A record, or a part of one, as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The entry that it is of.
    pub(crate) entry: Entry,
    pub(crate) bytes: Bytes,
}

/// What became of entries.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    /// In the entries' order; several for one entry where it was divided.
    pub(crate) pieces: Vec<Piece>,
    /// Entries that can't be sent, and why.
    pub(crate) refused: Vec<(Entry, String)>,
}

/// Writes records in the shape that the receiver wants, within its limits.
pub(crate) struct Encoder {
    format: Arc<dyn Format>,
    body: Body,
    limits: Limits,
    ecs: EcsOptions,
}

impl Encoder {
    pub(crate) fn new(config: &HttpConfig, format: Arc<dyn Format>) -> Self {
        let facts = Facts::of(config.format);
        let bytes = |limit: Option<Size>, own| limit.map_or(own, |Size(limit)| usize::try_from(limit).unwrap_or(own));
        let limits = Limits {
            record: bytes(config.max_record_bytes, facts.max_record_bytes),
            field: bytes(config.max_field_bytes, facts.max_field_bytes),
        };
        let stream = config.elasticsearch.clone().unwrap_or_default();
        let ecs = EcsOptions { dataset: stream.dataset, namespace: stream.namespace };
        Self { format, body: config.body.unwrap_or(facts.body), limits, ecs }
    }

    /// Takes time in proportion to the entries' size: not for a thread that must not block.
    pub(crate) fn encode(&self, entries: Vec<Entry>) -> Encoded {
        let mut encoded = Encoded::default();
        // Where each piece ends that is written here, in the order of `pieces`; stored bytes are sent as they are.
        let (mut buffer, mut ends) = (Vec::new(), Vec::new());
        for entry in entries.into_iter().filter(|entry| entry.kind == EntryKind::Record) {
            if self.goes_as_it_is(&entry) {
                encoded.pieces.push(Piece { bytes: entry.bytes.clone(), entry });
                ends.push(None);
                continue;
            }
            let begin = (buffer.len(), ends.len());
            match self.write(&entry, &mut buffer, &mut ends) {
                Ok(()) => {
                    let piece = Piece { bytes: Bytes::new(), entry };
                    encoded.pieces.resize(ends.len(), piece);
                }
                Err(reason) => {
                    buffer.truncate(begin.0);
                    ends.truncate(begin.1);
                    encoded.refused.push((entry, reason));
                }
            }
        }
        let mut rest = Bytes::from(buffer);
        let mut at = 0;
        for (piece, end) in encoded.pieces.iter_mut().zip(ends) {
            if let Some(end) = end {
                piece.bytes = rest.split_to(end - at);
                at = end;
            }
        }
        encoded
    }

    fn goes_as_it_is(&self, entry: &Entry) -> bool {
        let is_bare = matches!(self.format.shape(), Shape::Bare) && self.body == Body::Record;
        is_bare && entry.bytes.len() <= self.limits.record.min(self.limits.field)
    }

    /// Writes a record, or the parts of it.
    fn write(&self, entry: &Entry, buffer: &mut Vec<u8>, ends: &mut Vec<Option<usize>>) -> Result<(), String> {
        let record = AuditRecord::decode_borrowed(&entry.bytes)
            .map_err(|error| format!("not a record of this version: {error}"))?;
        let begin = buffer.len();
        self.shape(&record, Some(&entry.bytes), buffer);
        // No value is longer than the record that it is in.
        if buffer.len() - begin > self.limits.record || entry.bytes.len() > self.limits.field {
            let measure = |record: &AuditRecord<'_>, out: &mut Vec<u8>| self.shape(record, None, out);
            let parts = split(&record, &self.limits, &measure)
                .map_err(|error| format!("too large for this receiver, and can't be divided: {error}"))?;
            if let Some(parts) = parts {
                buffer.truncate(begin);
                for part in &parts {
                    self.shape(part, None, buffer);
                    ends.push(Some(buffer.len()));
                }
                return Ok(());
            }
        }
        ends.push(Some(buffer.len()));
        Ok(())
    }

    /// Appends a record as it is sent. `stored` are its bytes in the journal, if it is a whole one.
    fn shape(&self, record: &AuditRecord<'_>, stored: Option<&[u8]>, out: &mut Vec<u8>) {
        match self.format.shape() {
            Shape::Bare => self.write_body(record, stored, out),
            Shape::Own(write) => write(record, out),
            Shape::Around(write) => match (self.body, stored) {
                (Body::Record, Some(stored)) => write(record, stored, out),
                _ => {
                    let mut body = Vec::with_capacity(1024);
                    self.write_body(record, None, &mut body);
                    write(record, &body, out);
                }
            },
        }
    }

    fn write_body(&self, record: &AuditRecord<'_>, stored: Option<&[u8]>, out: &mut Vec<u8>) {
        match (self.body, stored) {
            (Body::Record, Some(stored)) => out.extend_from_slice(stored),
            (Body::Record, None) => {
                let begin = out.len();
                // Core promises that a record always has a JSON form.
                if record.encode(out).is_err() {
                    out.truncate(begin);
                    out.extend_from_slice(b"{}");
                }
            }
            (Body::Ecs, _) => ecs::document(record, &self.ecs, out),
            (Body::Ocsf, _) => ocsf::event(record, out),
        }
    }
}
