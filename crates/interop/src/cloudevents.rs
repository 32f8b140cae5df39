//! CloudEvents 1.0.2 in the structured JSON form. Several with commas between, in brackets, are a batch.
//!
//! Attributes can't hold control characters or what is no character: these become U+FFFD there. The data is what it was.

use std::borrow::Cow;
use std::fmt::Write;

use actlog_core::AuditRecord;

use crate::json::{Object, write};
use crate::reading::{entity, present};

/// Appends the record as one event. `data` is what the event carries: the record, or another form of it, as JSON.
///
/// | attribute | of the record |
/// |---|---|
/// | `id` | Id |
/// | `source` | InstanceUrl where it is a plain URL, else `urn:uuid:` and OrganizationId, else `/actlog/` and Source, else `/actlog` |
/// | `type` | `actlog.`, Workload, `.`, Operation |
/// | `subject` | EntityName `/` EntityId, else the one that is there, else ObjectId |
/// | `time` | CreationTime |
pub fn event(record: &AuditRecord<'_>, data: &[u8], out: &mut Vec<u8>) {
    write(out, |event| {
        event.set("specversion", "1.0");
        event.id("id", record.id);
        event.set("source", source(record));
        event.set("type", attribute(&format!("actlog.{}.{}", record.workload, record.operation)));
        subject(record, event);
        event.time("time", record.creation_time);
        event.set("datacontenttype", "application/json");
        event.member("data").extend_from_slice(data);
    });
}

fn source(record: &AuditRecord<'_>) -> String {
    if let Some(url) = present(&record.instance_url).filter(|url| is_reference(url)) {
        return url.to_owned();
    }
    match (record.organization_id, present(&record.source)) {
        (Some(id), _) => format!("urn:uuid:{id}"),
        (None, Some(name)) => format!("/actlog/{}", segment(name)),
        (None, None) => "/actlog".to_owned(),
    }
}

/// Whether it is the URL of a site, with nothing in it that a URI reference can't hold.
fn is_reference(url: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let Some(rest) = url.strip_prefix("https://").or(url.strip_prefix("http://")) else { return false };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    host.chars().all(is_plain)
        && !host.is_empty()
        && port.chars().all(|c| c.is_ascii_digit())
        && path.chars().all(|c| is_plain(c) || c == '/')
}

/// A name as a segment of a path: characters that mean something there become percent sequences.
fn segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            // Memory takes all.
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

fn subject(record: &AuditRecord<'_>, event: &mut Object<'_>) {
    match (entity(record), record.entity_id) {
        (Some(name), Some(id)) => event.set("subject", attribute(&format!("{name}/{id}"))),
        (Some(name), None) => event.set("subject", attribute(name)),
        (None, Some(id)) => event.id("subject", id),
        (None, None) => event.set_if("subject", present(&record.object_id).map(attribute)),
    }
}

/// The text without what an attribute can't hold.
fn attribute(text: &str) -> Cow<'_, str> {
    let forbidden = |c: char| c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || c as u32 & 0xFFFE == 0xFFFE;
    match text.contains(forbidden) {
        true => Cow::Owned(text.replace(forbidden, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}
