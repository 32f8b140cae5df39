//! Any bytes as a posted context: they are refused, or become a record that reads back as it was.
//!
//! A good start is a corpus of real bodies: `cargo +nightly fuzz run context corpus/context ../crates/dataverse/tests/data`.
#![no_main]

use actlog_core::{AuditRecord, Timestamp};
use actlog_dataverse::{Envelope, MappingOptions, map_context};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let envelope =
        Envelope { organization_host: Some("contoso.crm.dynamics.com"), ..Envelope::new(Timestamp::default()) };
    let options = MappingOptions { repair_text: true, extended_query: true };
    let Ok(record) = map_context(body, &envelope, &options) else { return };
    let mut bytes = Vec::new();
    record.encode(&mut bytes).expect("every record has a JSON form");
    assert!(!bytes.contains(&b'\n'), "one record is one line");
    assert_eq!(AuditRecord::decode(&bytes).expect("what was written is read"), record);
});
