//! The generated records: always the same, and as nasty as asked for.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::collections::BTreeSet;

use actlog_core::AuditRecord;
use actlog_testkit::records::Records;
use sha2::{Digest, Sha256};

fn encoded(records: impl Iterator<Item = AuditRecord<'static>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        record.encode(&mut bytes).unwrap();
        bytes.push(b'\n');
    }
    bytes
}

#[test]
fn the_same_seed_gives_the_same_records_for_ever() {
    // What was drawn, not its JSON: that may change with the record.
    let digest = |records: Records| {
        let mut digest = Sha256::new();
        for record in records.take(200) {
            digest.update(record.id);
            digest.update(record.creation_time.unix_milliseconds().to_le_bytes());
            record
                .fields
                .iter()
                .filter_map(|field| field.value.as_ref())
                .for_each(|value| digest.update(value.as_bytes()));
            record.query_results.iter().for_each(|id| digest.update(id));
        }
        hex::encode(digest.finalize())
    };
    assert_eq!(digest(Records::new(1)), "d60a20a544824f466f73fa6be30c75ab61e8687b82e12db565594911bd1ea5fa");
    assert_eq!(digest(Records::new(1).nasty()), "9a4dffa6381050b7e08931e6265862d1fae274a9e75c402fe393e2e3c42ec58a");
    assert_ne!(encoded(Records::new(2).take(5)), encoded(Records::new(1).take(5)));
}

#[test]
fn ids_differ_and_are_known_in_advance() {
    let records = Records::new(1);
    let ids: BTreeSet<_> = records.clone().take(1000).map(|record| record.id).collect();
    assert_eq!(ids.len(), 1000);
    assert_eq!(ids, (0..1000).map(|number| records.id(number)).collect());
}

#[test]
fn nasty_records_have_everything_that_breaks_careless_writers() {
    let values: Vec<String> = Records::new(1)
        .nasty()
        .take(500)
        .flat_map(|record| record.fields.into_iter().filter_map(|field| field.value).map(|value| value.into_owned()))
        .collect();
    let any = |test: &dyn Fn(&str) -> bool| values.iter().any(|value| test(value));
    assert!(any(&|value| value.contains('\n') && !value.contains('\r')) && any(&|value| value.contains("\r\n")));
    assert!(any(&|value| value.contains('\0')) && any(&|value| value.contains('\u{2028}')));
    assert!(any(&|value| value.starts_with('=')) && any(&|value| value.starts_with('@')));
    assert!(any(&|value| value.contains('"') && value.contains(' ')) && any(&|value| value.contains(',')));
    assert!(any(&str::is_empty) && any(&|value| value.chars().count() < value.len()));
    assert!(any(&|value| value.len() > 60_000));
    let lines = encoded(Records::new(1).nasty().take(500));
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 500, "a record is one line, whatever it holds");
}
