//! CEF, the Common Event Format that ArcSight made and most SIEMs read: a header of eight fields, then `key=value`
//! pairs. Keys and their meaning are those of the CEF Implementation Standard, version 0.
//!
//! ```text
//! CEF:0|actlog|actlog|0.1.0|Update|Update account|3|externalId=… rt=1520033156000 act=Update …
//! ```
//!
//! | key | of the record |
//! |---|---|
//! | signature (5th field), `act` | Operation |
//! | name (6th field) | Operation and EntityName |
//! | severity (7th field) | 5 for what failed, else 3 |
//! | `externalId` | Id |
//! | `rt` | CreationTime, in milliseconds since 1970 |
//! | `cat` | Category |
//! | `outcome` | ResultStatus |
//! | `suser` | UserId |
//! | `suid` | SystemUserId, else UserKey |
//! | `src` (IPv4), `c6a2` (IPv6), `spt` | ClientIP, where it is an address; then ClientPort |
//! | `request`, `requestClientApplication` | ItemUrl, UserAgent |
//! | `dhost` | the host of InstanceUrl |
//! | `deviceExternalId` | OrganizationId |
//! | `cs1` … `cs6` | EntityName, EntityId, CorrelationId, CrmOrganizationUniqueName, Activity, Query |
//! | `flexString1`, `flexString2` | QueryResults with commas between; Fields as JSON |
//! | `actlogExtra` | Extra as JSON; in the parts of a divided record, also their numbers |
//!
//! The rest of the record is not carried: CEF has no place for it. Who needs all of it sends the record itself.

use std::borrow::Cow;
use std::io::Write;
use std::net::IpAddr;

use actlog_core::AuditRecord;
use serde::Serialize;
use uuid::Uuid;

use crate::reading;
use crate::syslog::Severity;

/// Appends the record as one CEF message, without a line end; it has no ASCII control characters in it.
///
/// Line ends inside of values are written as CEF has them, `\n` and `\r`. Other control characters become U+FFFD.
pub fn message(record: &AuditRecord<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(concat!("CEF:0|actlog|actlog|", env!("CARGO_PKG_VERSION"), "|").as_bytes());
    Escaped::new(out, Place::Header).text(&record.operation);
    out.push(b'|');
    Escaped::new(out, Place::Header).text(&record.operation);
    if let Some(entity) = &record.entity_name {
        out.push(b' ');
        Escaped::new(out, Place::Header).text(entity);
    }
    out.extend_from_slice(match Severity::of(record) {
        Severity::Warning => b"|5|",
        Severity::Informational => b"|3|",
    });
    let mut extension = Extension { out, is_first: true };
    extension.id("externalId", record.id);
    extension.shown("rt", record.creation_time.unix_milliseconds());
    extension.text("act", Some(&record.operation));
    extension.text("cat", record.category.as_ref());
    extension.text("outcome", record.result_status.as_ref());
    extension.text("suser", record.user_id.as_ref());
    match record.system_user_id {
        Some(id) => extension.id("suid", id),
        None => extension.text("suid", record.user_key.as_ref()),
    }
    if let Some((address, port)) = reading::client(record) {
        match address {
            IpAddr::V4(address) => extension.shown("src", address),
            IpAddr::V6(address) => {
                extension.key("c6a2Label", b"Source IPv6 Address");
                extension.shown("c6a2", address);
            }
        }
        if let Some(port) = port {
            extension.shown("spt", port);
        }
    }
    extension.text("request", record.item_url.as_ref());
    extension.text("requestClientApplication", record.user_agent.as_ref());
    if let Some(host) = reading::host(record) {
        extension.escaped("dhost", |value| value.text(host));
    }
    if let Some(id) = record.organization_id {
        extension.id("deviceExternalId", id);
    }
    custom_strings(record, &mut extension);
}

/// The values for which CEF has no key of its own: those of keys for that, each with a label that says what it is; then
/// Extra, under a key that the standard leaves to vendors.
fn custom_strings(record: &AuditRecord<'_>, extension: &mut Extension<'_>) {
    if let Some(name) = &record.entity_name {
        extension.key("cs1Label", b"EntityName");
        extension.text("cs1", Some(name));
    }
    if let Some(id) = record.entity_id {
        extension.key("cs2Label", b"EntityId");
        extension.id("cs2", id);
    }
    if let Some(id) = record.correlation_id {
        extension.key("cs3Label", b"CorrelationId");
        extension.id("cs3", id);
    }
    if let Some(name) = &record.crm_organization_unique_name {
        extension.key("cs4Label", b"CrmOrganizationUniqueName");
        extension.text("cs4", Some(name));
    }
    if let Some(activity) = &record.activity {
        extension.key("cs5Label", b"Activity");
        extension.text("cs5", Some(activity));
    }
    if let Some(query) = &record.query {
        extension.key("cs6Label", b"Query");
        extension.text("cs6", Some(query));
    }
    if !record.query_results.is_empty() {
        extension.key("flexString1Label", b"QueryResults");
        extension.escaped("flexString1", |value| {
            for (place, id) in record.query_results.iter().enumerate() {
                if place > 0 {
                    value.out.push(b',');
                }
                value.id(*id);
            }
        });
    }
    if !record.fields.is_empty() {
        extension.key("flexString2Label", b"Fields");
        extension.escaped("flexString2", |value| value.json(&record.fields));
    }
    if !record.extra.is_empty() {
        extension.escaped("actlogExtra", |value| value.json(&record.extra));
    }
}

/// The `key=value` pairs behind the header.
struct Extension<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

impl Extension<'_> {
    /// A pair whose value needs no escaping.
    fn key(&mut self, key: &str, value: &[u8]) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b' ');
        }
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b'=');
        self.out.extend_from_slice(value);
    }

    fn escaped(&mut self, key: &str, write: impl FnOnce(&mut Escaped<'_>)) {
        self.key(key, b"");
        write(&mut Escaped::new(self.out, Place::Value));
    }

    fn text(&mut self, key: &str, value: Option<&Cow<'_, str>>) {
        if let Some(value) = value {
            self.escaped(key, |escaped| escaped.text(value));
        }
    }

    fn id(&mut self, key: &str, id: Uuid) {
        self.escaped(key, |escaped| escaped.id(id));
    }

    /// A number, an address: nothing in them needs escaping.
    fn shown(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key, b"");
        // Writing to a Vec can't fail.
        let _ = write!(self.out, "{value}");
    }
}

/// Where a text stands: each place has characters of its own that end it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Value,
}

/// Escapes what is written to it. It works on bytes: everything that needs escaping is ASCII, so that a text may come in
/// pieces.
struct Escaped<'o> {
    out: &'o mut Vec<u8>,
    place: Place,
}

impl<'o> Escaped<'o> {
    fn new(out: &'o mut Vec<u8>, place: Place) -> Self {
        Self { out, place }
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Piece by piece: of the most, one look at all bytes together says that nothing is to be escaped.
    fn bytes(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(32) {
            match piece.iter().fold(false, |any, byte| any | self.is_special(*byte)) {
                true => self.escape(piece),
                false => self.out.extend_from_slice(piece),
            }
        }
    }

    fn escape(&mut self, mut rest: &[u8]) {
        while let Some(at) = rest.iter().position(|byte| self.is_special(*byte)) {
            self.out.extend_from_slice(&rest[..at]);
            match rest[at] {
                b'\n' if self.place == Place::Value => self.out.extend_from_slice(b"\\n"),
                b'\r' if self.place == Place::Value => self.out.extend_from_slice(b"\\r"),
                control if control.is_ascii_control() => self.out.extend_from_slice("\u{fffd}".as_bytes()),
                other => self.out.extend_from_slice(&[b'\\', other]),
            }
            rest = &rest[at + 1..];
        }
        self.out.extend_from_slice(rest);
    }

    fn is_special(&self, byte: u8) -> bool {
        let end = if self.place == Place::Header { b'|' } else { b'=' };
        byte == b'\\' || byte == end || byte.is_ascii_control()
    }

    fn id(&mut self, id: Uuid) {
        self.out.extend_from_slice(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    }

    fn json(&mut self, value: &impl Serialize) {
        // Writing to a Vec can't fail, and these types have a JSON form.
        let _ = serde_json::to_writer(&mut *self, value);
    }
}

impl Write for Escaped<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
