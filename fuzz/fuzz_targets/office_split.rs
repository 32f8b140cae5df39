//! Any record, divided under any limit: the parts are within the limit and give the record again, and what is written
//! for clients of the feed is read again. The first bytes of the input choose the limits.
#![no_main]

use actlog_core::{AuditRecord, Timestamp};
use actlog_office::output::{Mode, OutputOptions, to_office};
use actlog_office::split::{Limits, MIN_LIMIT, reassemble, split};
use actlog_office::{Envelope, from_office};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [low, high, json @ ..] = bytes else { return };
    let envelope = Envelope { content_type: None, received: Timestamp::default() };
    // A record as we write it, or one of Office's.
    let Ok(record) = AuditRecord::decode(json).or_else(|_| from_office(json, &envelope)) else { return };
    let limit = MIN_LIMIT + usize::from(u16::from_le_bytes([*low, *high]));
    let encode = |record: &AuditRecord<'_>, out: &mut Vec<u8>| record.encode(out).expect("records have a JSON form");
    let limits = Limits { record: limit, field: if low % 2 == 0 { usize::MAX } else { 1024 } };
    if let Some(parts) = split(&record, &limits, &encode).expect("the limit is not too small") {
        for part in &parts {
            let mut out = Vec::new();
            encode(part, &mut out);
            assert!(out.len() <= limit, "{} bytes", out.len());
            serde_json::from_slice::<serde::de::IgnoredAny>(&out).expect("a part is JSON");
        }
        assert_eq!(reassemble(&parts).expect("they are all there"), record);
    }
    for mode in [Mode::Spec, Mode::Observed] {
        let options = OutputOptions { mode, max_record_bytes: limit, tenant: record.id };
        to_office(&record, &options, &mut |_, out| {
            serde_json::from_slice::<serde_json::Value>(out).expect("any reader can read it");
            from_office(out, &envelope).expect("it is a record of the feed");
        })
        .expect("the limit is not too small");
    }
});
