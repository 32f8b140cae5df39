//! Log records of the OpenTelemetry protocol, in its JSON form: [`begin`], log records with commas between, [`end`].
//!
//! The body is a text: the record, or another form of it, as JSON. Attributes are those of the semantic conventions.
//! There are neither trace nor span ids: a CorrelationId is no trace. 64-bit numbers are texts, as protobuf's JSON has
//! them.

use std::borrow::Cow;

use actlog_core::{AuditRecord, Timestamp};

use crate::json::{Object, uuid, write};
use crate::reading::{Outcome, client, outcome, present, upn};

/// Appends the beginning of an `ExportLogsServiceRequest`.
pub fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(
        concat!(
            r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"actlog"}},"#,
            r#"{"key":"service.version","value":{"stringValue":""#,
            env!("CARGO_PKG_VERSION"),
            r#""}}]},"scopeLogs":[{"scope":{"name":"actlog"},"logRecords":["#
        )
        .as_bytes(),
    );
}

/// Appends the end of the request.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"]}]}]}");
}

/// Appends the record as one log record; `body` is JSON.
pub fn log_record(record: &AuditRecord<'_>, body: &[u8], out: &mut Vec<u8>) {
    write(out, |log| {
        log.set("timeUnixNano", nanoseconds(record.creation_time));
        log.set_if("observedTimeUnixNano", record.collected_time.map(nanoseconds));
        let (number, text) = match outcome(record) {
            Some(Outcome::Failure) => (13, "WARN"),
            _ => (9, "INFO"),
        };
        log.set("severityNumber", number);
        log.set("severityText", text);
        log.set("eventName", format!("actlog.{}.{}", record.workload, record.operation));
        log.object("body", |body_value| body_value.set("stringValue", utf8(body)));
        attributes(record, log);
    });
}

fn attributes(record: &AuditRecord<'_>, log: &mut Object<'_>) {
    let out = log.member("attributes");
    out.extend_from_slice(br#"[{"key":"log.record.uid","value":{"stringValue":"#);
    uuid(out, record.id);
    out.extend_from_slice(b"}}");
    let client = client(record);
    let address = client.map(|(ip, _)| ip.to_string());
    let texts = [
        ("client.address", address.as_deref().or(present(&record.client_ip))),
        ("user.id", present(&record.user_id)),
        ("user.email", upn(record)),
        ("user_agent.original", present(&record.user_agent)),
        ("url.full", present(&record.item_url)),
        ("db.operation.name", present(&record.message).or(Some(&*record.operation))),
        ("db.collection.name", present(&record.entity_name)),
        ("db.namespace", present(&record.crm_organization_unique_name)),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            attribute(key, out, |any| any.set("stringValue", text));
        }
    }
    if let Some(port) = client.and_then(|(_, port)| port).or(record.client_port) {
        attribute("client.port", out, |any| any.set("intValue", port.to_string()));
    }
    out.push(b']');
}

/// Appends one attribute behind others.
fn attribute(key: &'static str, out: &mut Vec<u8>, any: impl FnOnce(&mut Object<'_>)) {
    out.push(b',');
    write(out, |attribute| {
        attribute.set("key", key);
        attribute.object("value", any);
    });
}

/// JSON is UTF-8; should it not be, what is not becomes U+FFFD.
fn utf8(json: &[u8]) -> Cow<'_, str> {
    // Checking is several times faster than replacing.
    std::str::from_utf8(json).map_or_else(|_| String::from_utf8_lossy(json), Cow::Borrowed)
}

/// Nanoseconds since 1970. The field is unsigned: times before are 0, "unknown"; times after the year 2554 are its end.
fn nanoseconds(time: Timestamp) -> String {
    u64::try_from(time.unix_milliseconds()).unwrap_or(0).saturating_mul(1_000_000).to_string()
}
