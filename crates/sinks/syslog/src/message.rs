//! Entries as frames: a length, a blank, a message (octet counting, RFC 6587 section 3.4.1).

use std::io::Write;

use actlog_core::{AuditRecord, Entry};
use actlog_interop::cef;
use actlog_interop::syslog::{self, SyslogOptions};
use actlog_office::split::{Limits, SplitError, split};

use crate::config::Format;

/// Makes frames of entries.
#[derive(Debug)]
pub(crate) struct Framer {
    format: Format,
    header: SyslogOptions,
    limit: usize,
    /// The message that is being made: its length has to be known before it.
    message: Vec<u8>,
}

/// Why an entry can never be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsendable {
    #[error("not a record: {0}")]
    NotARecord(#[from] serde_json::Error),
    #[error("{0}; raise max_record_bytes here and at the receiver, and replay the dead letter")]
    Split(#[from] SplitError),
}

impl Framer {
    /// `limit` is the longest message, in bytes.
    pub(crate) fn new(format: Format, header: SyslogOptions, limit: usize) -> Self {
        Self { format, header, limit, message: Vec::new() }
    }

    /// Appends the record that an entry holds: as one frame, or as one for each of its parts. Returns how many, and
    /// appends nothing where it returns an error.
    pub(crate) fn append(&mut self, entry: &Entry, out: &mut Vec<u8>) -> Result<usize, Unsendable> {
        let record = AuditRecord::decode_borrowed(&entry.bytes)?;
        self.message.clear();
        match self.format {
            // The exact bytes that the journal holds.
            Format::Rfc5424 => {
                syslog::header(&record, &self.header, &mut self.message);
                self.message.extend_from_slice(&entry.bytes);
            }
            Format::Cef => self.encode_message(&record),
        }
        if self.message.len() <= self.limit {
            frame(&self.message, out);
            return Ok(1);
        }
        let limits = Limits { record: self.limit, field: usize::MAX };
        let encode = |record: &AuditRecord<'_>, out: &mut Vec<u8>| encode(self.format, &self.header, record, out);
        let parts = split(&record, &limits, &encode)?;
        // A record that had white space in the journal may fit without.
        let parts = parts.as_deref().unwrap_or(std::slice::from_ref(&record));
        for part in parts {
            self.message.clear();
            self.encode_message(part);
            frame(&self.message, out);
        }
        Ok(parts.len())
    }

    fn encode_message(&mut self, record: &AuditRecord<'_>) {
        encode(self.format, &self.header, record, &mut self.message);
    }
}

/// Appends a record as a message.
///
/// There is no byte order mark before the JSON, although RFC 5424 wants one for UTF-8: rsyslog hands it on as a part of
/// the message, and then it is no JSON.
fn encode(format: Format, header: &SyslogOptions, record: &AuditRecord<'_>, out: &mut Vec<u8>) {
    syslog::header(record, header, out);
    match format {
        // A record always has a JSON form.
        Format::Rfc5424 => _ = record.encode(out),
        Format::Cef => cef::message(record, out),
    }
}

fn frame(message: &[u8], out: &mut Vec<u8>) {
    // Writing to a Vec can't fail.
    let _ = write!(out, "{} ", message.len());
    out.extend_from_slice(message);
}
