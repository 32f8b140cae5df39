//! The header of a syslog message, RFC 5424, made from a record.
//!
//! ```text
//! <134>1 2018-03-02T23:25:56.000Z audit.example actlog - Update [actlog@32473 Id="…" EntityName="account"] {"Id":…}
//! ```
//!
//! TIMESTAMP is when the event happened, with three digits of milliseconds; PROCID is nil; MSGID is the operation. What
//! follows the header (the record as JSON, a CEF message) is its user's matter.
//!
//! 32473 is the enterprise number that RFC 5612 keeps for documentation: actlog has none of its own, and the name
//! `actlog@32473` can't be mistaken for anybody's.

use std::io::Write;

use actlog_core::{AuditRecord, Timestamp};
use chrono::{Datelike, Timelike};

use crate::json;

/// What the headers of one sender have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogOptions {
    /// Number of the facility, 0 to 23; larger ones count as 23.
    pub facility: u8,
    /// HOSTNAME: who sends. At most 255 characters, printable ASCII; others become `_`. Nil where empty.
    pub hostname: String,
    /// APP-NAME: at most 48 characters, likewise.
    pub app_name: String,
    /// Whether the element `actlog@32473` is there; else STRUCTURED-DATA is nil.
    pub structured_data: bool,
}

/// How much a record matters, as syslog counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The operation failed, or was refused.
    Warning = 4,
    /// Everything else.
    Informational = 6,
}

impl Severity {
    /// By the record's ResultStatus: `Failed` in the records of Dynamics 365 and Office 365, and `False` in those of
    /// Exchange. A sign-in that failed says so in its Operation only.
    pub fn of(record: &AuditRecord<'_>) -> Self {
        let status = record.result_status.as_deref().unwrap_or_default();
        let failures = ["Failed", "Failure", "Fail", "False", "Error", "Denied"];
        let has_failed = failures.iter().any(|failure| status.eq_ignore_ascii_case(failure));
        if has_failed || record.operation == "UserLoginFailed" { Self::Warning } else { Self::Informational }
    }
}

/// The longest value in the structured data, in bytes; the whole one is in the message.
const LONGEST_VALUE: usize = 256;

/// The longest header that can come about, in bytes, the space behind it included.
///
/// PRI, VERSION, TIMESTAMP and the spaces have less than 64 bytes; then HOSTNAME, APP-NAME, MSGID; the element's names,
/// quotation marks and ids have less than 512; and each of the four texts may double by escapes.
pub const LONGEST_HEADER: usize = 64 + 255 + 48 + 32 + 512 + 4 * 2 * LONGEST_VALUE;

/// Appends everything before MSG, the space behind it included. At most [`LONGEST_HEADER`] bytes, without ASCII
/// control characters.
pub fn header(record: &AuditRecord<'_>, options: &SyslogOptions, out: &mut Vec<u8>) {
    let priority = u16::from(options.facility.min(23)) * 8 + Severity::of(record) as u16;
    // Writing to a Vec can't fail.
    let _ = write!(out, "<{priority}>1 ");
    timestamp(record.creation_time, out);
    out.push(b' ');
    name(&options.hostname, 255, out);
    out.push(b' ');
    name(&options.app_name, 48, out);
    out.extend_from_slice(b" - ");
    name(&record.operation, 32, out);
    out.push(b' ');
    if options.structured_data {
        structured_data(record, out);
    } else {
        out.push(b'-');
    }
    out.push(b' ');
}

/// RFC 3339 with three digits of milliseconds. By hand: chrono's formatting takes as long as the rest of the header.
fn timestamp(time: Timestamp, out: &mut Vec<u8>) {
    let time = time.to_datetime();
    let mut number = |value: u32, digits: u32, behind: u8| {
        out.extend((0..digits).rev().map(|place| b'0' + (value / 10_u32.pow(place) % 10) as u8));
        out.push(behind);
    };
    number(time.year().unsigned_abs(), 4, b'-');
    number(time.month(), 2, b'-');
    number(time.day(), 2, b'T');
    number(time.hour(), 2, b':');
    number(time.minute(), 2, b':');
    number(time.second(), 2, b'.');
    number(time.timestamp_subsec_millis(), 3, b'Z');
}

/// A name of the header: printable ASCII without spaces, cut to its limit; nil where empty.
fn name(text: &str, limit: usize, out: &mut Vec<u8>) {
    if text.is_empty() {
        out.push(b'-');
    }
    out.extend(text.chars().take(limit).map(|c| if c.is_ascii_graphic() { c as u8 } else { b'_' }));
}

fn structured_data(record: &AuditRecord<'_>, out: &mut Vec<u8>) {
    // Ids and names that receivers sort by, so that they need not read the message for that.
    out.extend_from_slice(b"[actlog@32473");
    let ids: [(&[u8], _); 4] = [
        (b" Id=", Some(record.id)),
        (b" CorrelationId=", record.correlation_id),
        (b" OrganizationId=", record.organization_id),
        (b" EntityId=", record.entity_id),
    ];
    for (name, id) in ids {
        if let Some(id) = id {
            out.extend_from_slice(name);
            json::uuid(out, id);
        }
    }
    let texts: [(&[u8], _); 4] = [
        (b" EntityName=", &record.entity_name),
        (b" UserId=", &record.user_id),
        (b" ClientIP=", &record.client_ip),
        (b" ResultStatus=", &record.result_status),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            out.extend_from_slice(name);
            out.push(b'"');
            value(text, out);
            out.push(b'"');
        }
    }
    out.push(b']');
}

/// The value of a parameter: `"`, `\` and `]` escaped, as RFC 5424 wants it. Control characters, which receivers write
/// in ways of their own, become a space.
fn value(text: &str, out: &mut Vec<u8>) {
    let end = (0..=text.len().min(LONGEST_VALUE)).rev().find(|end| text.is_char_boundary(*end));
    for byte in text[..end.unwrap_or(0)].bytes() {
        match byte {
            b'"' | b'\\' | b']' => out.extend_from_slice(&[b'\\', byte]),
            control if control.is_ascii_control() => out.push(b' '),
            other => out.push(other),
        }
    }
}
