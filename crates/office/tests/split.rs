//! Dividing records and putting them together again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use actlog_core::{AuditRecord, Field, Json, Timestamp};
use actlog_office::output::{Mode, OutputOptions};
use actlog_office::parts::events;
use actlog_office::record_type_name;
use actlog_office::split::{Limits, MIN_LIMIT, ReassembleError, SplitError, reassemble, split};
use common::{TENANT, any_record, office, record, written};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

fn plain(record: &AuditRecord<'_>, out: &mut Vec<u8>) {
    record.encode(out).unwrap();
}

fn options(mode: Mode, max_record_bytes: usize) -> OutputOptions {
    OutputOptions { mode, max_record_bytes, tenant: TENANT }
}

fn length(record: &AuditRecord<'_>) -> usize {
    let mut bytes = Vec::new();
    plain(record, &mut bytes);
    bytes.len()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    extra: Numbers,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Numbers {
    part: u64,
    parts: u64,
}

/// Divides the record and checks all that is promised of the parts.
fn assert_is_divided_well(record: &AuditRecord<'_>, limits: &Limits) -> usize {
    let Some(parts) = split(record, limits, &plain).unwrap() else {
        assert!(length(record) <= limits.record);
        return 1;
    };
    let count = parts.len();
    for (part, number) in parts.iter().zip(1_u64..) {
        let mut bytes = Vec::new();
        plain(part, &mut bytes);
        assert!(bytes.len() <= limits.record, "{} > {}", bytes.len(), limits.record);
        // Extra may hold numbers that this reader has no room for; any reader sees where they end.
        let json: Part = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((json.extra.part, json.extra.parts), (number, count as u64));
        assert_eq!(part.correlation_id, Some(record.id));
        assert_ne!(part.id, record.id);
    }
    let mut ids: Vec<_> = parts.iter().map(|part| part.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "each part has an Id of its own");
    let results: Vec<_> = parts.iter().flat_map(|part| part.query_results.iter().copied()).collect();
    assert_eq!(results, record.query_results, "each id once, in order");
    assert_eq!(&reassemble(&parts).unwrap(), record);
    let mut mixed = parts.clone();
    mixed.reverse();
    mixed.extend(parts.first().cloned());
    let events = events(&mixed);
    assert_eq!((events.len(), events[0].parts().len()), (1, count));
    assert_eq!(&events[0].record(), record);
    assert_eq!(split(record, limits, &plain).unwrap(), Some(parts), "the same parts each time");
    count
}

fn limits(record: usize) -> Limits {
    Limits { record, field: usize::MAX }
}

#[test]
fn a_long_list_of_rows_is_divided_between_ids() {
    let mut whole = record();
    whole.query_results = (0..50_000_u128).map(Uuid::from_u128).collect();
    let parts = assert_is_divided_well(&whole, &limits(3072));
    // 39 bytes an id, in JSON.
    assert!((50_000 * 39 / 3072..50_000 * 39 / 1500).contains(&parts), "{parts}");
}

#[test]
fn rows_that_are_there_twice_stay_twice() {
    let mut whole = record();
    whole.query_results = (0..400_u128).map(|number| Uuid::from_u128(number % 3)).collect();
    whole.linked_results = whole.query_results.clone();
    assert_is_divided_well(&whole, &limits(MIN_LIMIT));
}

#[test]
fn a_value_of_200_kb_is_cut_between_characters() {
    for text in ["x", "é", "日", "🦀", "\"", "\u{1}", "aé日🦀\n"] {
        let mut whole = record();
        whole.fields = vec![
            Field::new("name", "before"),
            Field::new("description", text.repeat(200_000 / text.len())),
            Field::new("name", ""),
        ];
        assert_is_divided_well(&whole, &limits(3072));
        let parts = split(&whole, &limits(3072), &plain).unwrap().unwrap();
        assert_eq!(parts[1].extra.get("Continues").map(Json::get), Some("true"));
        assert!(parts.iter().all(|part| part.fields.len() <= 2));
    }
}

#[test]
fn every_text_may_be_long_at_once() {
    for text in ["long ", "\u{1}", "🦀"] {
        let long = || Some(text.repeat(2_000 / text.len()).into());
        let whole = AuditRecord {
            workload: text.repeat(1000).into(),
            operation: text.repeat(1000).into(),
            message: long(),
            crm_organization_unique_name: long(),
            user_id: long(),
            user_key: long(),
            user_type: Some(i32::MIN),
            user_upn: long(),
            initiating_user_id: Some(Uuid::max()),
            client_ip: long(),
            client_port: Some(u16::MAX),
            result_status: long(),
            instance_url: long(),
            item_url: long(),
            item_type: long(),
            user_agent: long(),
            entity_name: long(),
            query: long(),
            service_name: long(),
            service_context_id: long(),
            service_context_id_type: long(),
            primary_field_value: long(),
            object_id: long(),
            app_name: long(),
            content_type: long(),
            category: long(),
            activity: long(),
            policy_version: Some(u64::MAX),
            source: long(),
            collected_time: Some(Timestamp::from_unix_milliseconds(1_772_528_400_123)),
            truncated: true,
            fields: vec![Field::new(text.repeat(200), "v"), Field { name: text.repeat(200).into(), value: None }],
            ..record()
        };
        assert_is_divided_well(&whole, &limits(MIN_LIMIT));
    }
}

#[test]
fn members_with_names_that_parts_use_come_back() {
    let mut whole = record();
    for name in ["Part", "Parts", "Continues", "PlatformCorrelationId", "Rest", "Raw", "CorrelationId", "Id", "Fields"]
    {
        whole.extra.insert(name, "3");
    }
    whole.extra.insert("Long", serde_json::json!(["x".repeat(9000), { "deep": [[[1e300]]] }]));
    whole.extra.insert("n".repeat(5000), 1_i64);
    assert_is_divided_well(&whole, &limits(MIN_LIMIT));
    for correlation_id in [None, Some(Uuid::nil()), Some(Uuid::max())] {
        whole.correlation_id = correlation_id;
        assert_is_divided_well(&whole, &limits(MIN_LIMIT));
    }
    // A part of a part.
    let parts = split(&whole, &limits(8192), &plain).unwrap().unwrap();
    assert_is_divided_well(&parts[0], &limits(MIN_LIMIT));
}

#[test]
fn a_hundred_thousand_members_are_no_trouble() {
    let members: String = (0..100_000).map(|number| format!(",\"m{number}\":{number}")).collect();
    let json = format!(
        r#"{{"Id":"{}","RecordType":21,"Version":1,"Workload":"CRM","Operation":"Update",
            "CreationTime":"2026-03-03T09:00:00Z","Extra":{{{}}}}}"#,
        Uuid::max(),
        &members[1..]
    );
    let whole = AuditRecord::decode(json.as_bytes()).unwrap();
    assert_is_divided_well(&whole, &limits(65_536));
}

#[test]
fn no_value_is_longer_than_its_limit() {
    let mut whole = record();
    whole.user_agent = Some("agent ".repeat(1000).into());
    whole.query = Some("<filter/>".repeat(1000).into());
    whole.fields = (0..500).map(|number| Field::new(format!("column{number}"), "value")).collect();
    whole.query_results = (0..500_u128).map(Uuid::from_u128).collect();
    whole.extra.insert("Long", "x".repeat(5000));
    let limits = Limits { record: 1 << 20, field: 1024 };
    for part in split(&whole, &limits, &plain).unwrap().unwrap() {
        let Value::Object(json) = serde_json::to_value(&part).unwrap() else { panic!("no object") };
        for (name, value) in json.into_iter().flat_map(|(name, value)| match (name.as_str(), value) {
            ("Extra", Value::Object(members)) => members.into_iter().collect(),
            (_, value) => vec![(name, value)],
        }) {
            assert!(value.to_string().len() <= 1026, "{name}: {value}");
        }
    }
    assert_is_divided_well(&whole, &limits);
}

#[test]
fn a_limit_that_is_too_small_is_an_error_that_says_so() {
    let mut whole = record();
    whole.query_results = (0..100_u128).map(Uuid::from_u128).collect();
    let error = split(&whole, &limits(300), &plain).unwrap_err();
    assert!(matches!(error, SplitError::LimitTooSmall { record: 300, .. }), "{error}");
    assert!(error.to_string().contains(&whole.id.to_string()), "{error}");
}

#[test]
fn what_are_not_all_the_parts_is_not_put_together() {
    let mut whole = record();
    whole.query_results = (0..300_u128).map(Uuid::from_u128).collect();
    let parts = split(&whole, &limits(3072), &plain).unwrap().unwrap();
    let others = split(&whole, &limits(2500), &plain).unwrap().unwrap();
    assert_eq!(reassemble(&[]), Err(ReassembleError::Empty));
    assert_eq!(reassemble(&[whole.clone()]), Err(ReassembleError::NotAPart { id: whole.id }));
    let missing = ReassembleError::Missing { original: whole.id, number: 2, parts: parts.len() as u32 };
    assert_eq!(reassemble(&[&parts[..1], &parts[2..]].concat()), Err(missing));
    assert_eq!(
        reassemble(&[parts[0].clone(), others[0].clone()]),
        Err(ReassembleError::Different { first: parts[0].id, other: others[0].id })
    );
    let mut damaged = parts.clone();
    damaged[0].extra.insert("Rest", r#"{"Texts":{"AppName":"x"}}"#);
    assert!(reassemble(&damaged).unwrap_err().to_string().contains("AppName"));
    damaged[0].extra.insert("Rest", "{");
    assert!(matches!(reassemble(&damaged), Err(ReassembleError::Damaged { .. })));
    damaged[0].extra.insert("Rest", r#"{"Names":{"7":"x"}}"#);
    assert!(matches!(reassemble(&damaged), Err(ReassembleError::Damaged { .. })));
    let mut endless = parts.clone();
    endless.last_mut().unwrap().extra.insert("Continues", true);
    assert!(matches!(reassemble(&endless), Err(ReassembleError::Damaged { .. })));
    // What is missing is still one event, of which it is known that it is not whole.
    let some = &parts[1..];
    let events = events(some);
    assert_eq!((events.len(), events[0].expected_parts()), (1, Some(parts.len() as u32)));
}

#[test]
fn the_ids_of_parts_never_change() {
    let mut whole = record();
    whole.query_results = (0..100_u128).map(Uuid::from_u128).collect();
    let ids: Vec<_> =
        split(&whole, &limits(3072), &plain).unwrap().unwrap().iter().map(|part| part.id.to_string()).collect();
    assert_eq!(ids, ["41715362-cc67-5925-94bf-a2238dde0ae1", "c3c3be61-fb0b-50ab-a030-ef609ec2feb2"]);
}

/// Through the wire: what a collector reads of the parts, and of the whole.
fn assert_comes_back_over_the_wire(record: &AuditRecord<'_>, mode: Mode, limit: usize) {
    let whole = written(record, &options(mode, usize::MAX));
    let whole = office(&whole[0].1);
    let parts = written(record, &options(mode, limit));
    for (id, part) in &parts {
        assert!(part.len() <= limit, "{} > {limit}", part.len());
        assert_eq!(office(part).id, *id);
    }
    let parts: Vec<_> = parts.iter().map(|(_, part)| office(part)).collect();
    match &parts[..] {
        [part] if part.id == record.id => assert_eq!(part, &whole),
        parts => {
            assert_eq!(reassemble(parts).unwrap(), whole);
            let events = events(parts);
            assert_eq!((events.len(), &events[0].record()), (1, &whole));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_put_together_as_it_was(record in any_record(), limit in MIN_LIMIT..65_536) {
        assert_is_divided_well(&record, &limits(limit));
        assert_is_divided_well(&record, &limits(MIN_LIMIT));
    }

    #[test]
    fn every_record_is_put_together_as_it_was_under_a_limit_of_its_values(
        record in any_record(),
        limit in MIN_LIMIT..65_536,
        field in 1024_usize..8192,
    ) {
        assert_is_divided_well(&record, &Limits { record: limit, field });
    }

    #[test]
    fn every_record_comes_back_over_the_wire(record in any_record(), limit in MIN_LIMIT..16_384) {
        let mut record = record;
        // What has these is taken for a record from Office, and a record of an unknown type is also kept whole.
        record.extra.retain(|name, _| name != "OfficeOperation" && name != "Raw");
        if record_type_name(record.record_type).is_none() {
            record.record_type = 6;
        }
        for mode in [Mode::Spec, Mode::Observed] {
            assert_comes_back_over_the_wire(&record, mode, limit);
            assert_comes_back_over_the_wire(&record, mode, 3072);
        }
    }

    #[test]
    fn no_parts_make_putting_together_panic(
        records in prop::collection::vec(any_record(), 0..3),
        cut in any::<usize>(),
    ) {
        let divide = |record| split(record, &limits(MIN_LIMIT), &plain).unwrap().unwrap_or_default();
        let mut parts: Vec<_> = records.iter().flat_map(divide).collect();
        if !parts.is_empty() {
            parts.swap_remove(cut % parts.len());
        }
        let _ = reassemble(&parts);
    }
}
