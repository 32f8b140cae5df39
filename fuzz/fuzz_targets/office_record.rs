//! Any bytes as a record of the Office 365 feed: they are refused, or become a record that reads back as it was, and that
//! any reader of JSON can read.
//!
//! A good start is a corpus of real blobs, divided into their records.
#![no_main]

use actlog_core::{AuditRecord, Timestamp};
use actlog_office::{Envelope, from_office, parts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let envelope = Envelope { content_type: Some("Audit.General"), received: Timestamp::default() };
    let Ok(record) = from_office(bytes, &envelope) else { return };
    let mut line = Vec::new();
    record.encode(&mut line).expect("every record has a JSON form");
    assert!(!line.contains(&b'\n'), "one record is one line");
    assert_eq!(AuditRecord::decode(&line).expect("what was written is read"), record);
    serde_json::from_slice::<serde_json::Value>(&line).expect("any reader can read it");
    let records = [record.clone(), record];
    assert_eq!(parts::events(&records).len(), 1, "a record that comes twice counts once");
});
