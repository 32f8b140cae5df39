//! Which records are parts of one event.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashSet;

use actlog_core::{AuditRecord, Field, Json, Timestamp};
use actlog_office::parts::{Event, events};
use actlog_office::{Envelope, from_office};
use actlog_testkit::fixtures;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

const FILTER: &str =
    r#"<filter type="and"><filter type="or"><condition column="a" operator="eq" value="1" /></filter></filter>"#;

/// A record that retrieved these rows.
fn record(id: u128, correlation: u128, rows: std::ops::Range<u128>) -> AuditRecord<'static> {
    AuditRecord {
        id: Uuid::from_u128(id),
        operation: "RetrieveMultiple".into(),
        correlation_id: Some(Uuid::from_u128(correlation)),
        entity_name: Some("account".into()),
        query_results: rows.map(Uuid::from_u128).collect(),
        ..AuditRecord::default()
    }
}

fn map(body: &str) -> AuditRecord<'_> {
    from_office(body.as_bytes(), &Envelope { content_type: None, received: Timestamp::default() }).unwrap()
}

fn ids(events: &[Event<'_, '_>]) -> Vec<Vec<u128>> {
    events.iter().map(|event| event.ids().map(|id| id.as_u128()).collect()).collect()
}

fn numbered(mut record: AuditRecord<'static>, part: u64, parts: u64) -> AuditRecord<'static> {
    record.extra.insert("Part", Json::from(part));
    record.extra.insert("Parts", Json::from(parts));
    record
}

#[test]
fn rows_that_a_retrieval_divided_are_united() {
    let mut parts = [record(1, 9, 100..160), record(2, 9, 160..190), record(3, 9, 190..190)];
    parts[0].query = Some(FILTER.into());
    // Parts may come in different blobs, at different times.
    parts[1].collected_time = Some(Timestamp::from_unix_milliseconds(5));
    let events = events(&parts);
    assert_eq!(ids(&events), [[1, 2, 3]]);
    let whole = events[0].record();
    assert_eq!(whole.query_results, (100..190).map(Uuid::from_u128).collect::<Vec<_>>());
    assert_eq!((whole.id, whole.query.as_deref()), (Uuid::from_u128(1), Some(FILTER)));
    assert_eq!(events[0].expected_parts(), None);
}

#[test]
fn a_query_that_was_divided_is_put_together_in_the_order_of_the_parts() {
    let (begin, end) = FILTER.split_at(57);
    let (middle, end) = end.split_at(10);
    let part = |id, number, query: &'static str| {
        numbered(AuditRecord { query: Some(query.into()), ..record(id, 9, 0..0) }, number, 3)
    };
    let parts = [part(7, 3, end), part(8, 1, begin), part(9, 2, middle)];
    let events = events(&parts);
    assert_eq!(ids(&events), [[8, 9, 7]]);
    let whole = events[0].record();
    assert_eq!((whole.query.as_deref(), whole.extra.is_empty()), (Some(FILTER), true));
    assert_eq!(events[0].expected_parts(), Some(3));
    let missing = &parts[..2];
    assert_eq!(actlog_office::parts::events(missing)[0].expected_parts(), Some(3));
}

#[test]
fn what_an_action_did_beside_is_no_part() {
    let one = record(1, 9, 0..60);
    let apart = [
        AuditRecord { entity_name: Some("contact".into()), ..record(2, 9, 60..99) },
        AuditRecord { operation: "Retrieve".into(), ..record(3, 9, 60..99) },
        AuditRecord { entity_id: Some(Uuid::from_u128(5)), ..record(4, 9, 60..99) },
        record(5, 8, 60..99),
        record(6, 0, 60..99),
        record(7, 0, 0..60),
        AuditRecord { correlation_id: None, ..record(8, 9, 60..99) },
        AuditRecord { correlation_id: None, ..record(9, 9, 0..60) },
    ];
    let mut all = vec![one];
    all.extend(apart);
    assert_eq!(ids(&events(&all)), (1..=9).map(|id| [id]).collect::<Vec<_>>());
}

#[test]
fn members_that_have_no_key_count_too_in_any_order() {
    let with = |id, members: &[(&'static str, &str)]| {
        let mut record = record(id, 9, id * 60..id * 60 + 60);
        for (name, value) in members {
            record.extra.insert(*name, *value);
        }
        record
    };
    let all = [
        with(1, &[("A", "1"), ("B", "2")]),
        with(2, &[("B", "2"), ("A", "1"), ("Fields", "cut")]),
        with(3, &[("A", "1"), ("B", "3")]),
    ];
    assert_eq!(ids(&events(&all)), [vec![1, 2], vec![3]]);
}

#[test]
fn parts_that_contradict_each_other_stay_apart() {
    // Two queries, each whole: two retrievals in one action.
    let of =
        |id, query: &'static str| AuditRecord { query: Some(query.into()), ..record(id, 9, id * 60..id * 60 + 60) };
    let other = FILTER.replace('1', "2").leak();
    let all = [of(1, FILTER), of(2, other), of(3, FILTER), record(4, 9, 900..960)];
    assert_eq!(ids(&events(&all)), [vec![1, 3], vec![2], vec![4]]);
    // A number that occurs twice: two events that can't be told from each other.
    let all =
        [numbered(record(1, 9, 0..1), 1, 2), numbered(record(2, 9, 1..2), 1, 2), numbered(record(3, 9, 1..2), 2, 2)];
    assert_eq!(ids(&events(&all)), [[1], [2], [3]]);
    let all = [numbered(record(1, 9, 0..1), 1, 2), numbered(record(2, 9, 1..2), 2, 3)];
    assert_eq!(ids(&events(&all)), [[1], [2]]);
    // The same list looked at twice: a row in both.
    assert_eq!(ids(&events(&[record(1, 9, 0..60), record(2, 9, 59..99)])), [[1], [2]]);
    // Two updates of a column.
    let of = |id, value: &str| AuditRecord {
        fields: vec![Field::new("name", value.repeat(1000)), Field::new(format!("c{id}"), "v")],
        ..record(id, 9, 0..0)
    };
    assert_eq!(ids(&events(&[of(1, "abc"), of(2, "def")])), [[1], [2]]);
}

#[test]
fn what_was_small_enough_was_not_divided() {
    assert_eq!(ids(&events(&[record(1, 9, 0..10), record(2, 9, 10..20)])), [[1], [2]]);
    assert_eq!(ids(&events(&[record(1, 9, 0..30), record(2, 9, 30..60)])), [[1, 2]]);
}

#[test]
fn a_record_that_comes_twice_counts_once() {
    let all = [record(1, 9, 0..2), record(1, 9, 0..2), record(2, 0, 0..1), record(2, 0, 0..1)];
    let events = events(&all);
    assert_eq!(ids(&events), [[1], [2]]);
    assert_eq!(events[0].record(), all[0]);
}

#[test]
fn fields_are_joined_where_they_were_divided_and_not_where_they_are_repeated() {
    let with = |id, name: &'static str| AuditRecord {
        fields: vec![Field::new(name, "v".repeat(1000)), Field::new(format!("{name}2"), "v".repeat(1000))],
        ..record(id, 9, 0..0)
    };
    let names = |all: &[AuditRecord<'static>]| {
        let whole = events(all)[0].record();
        whole.fields.into_iter().map(|field| field.name.into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&[with(1, "a"), with(2, "b")]), ["a", "a2", "b", "b2"]);
    assert_eq!(names(&[with(1, "a"), with(2, "a")]), ["a", "a2"]);
}

/// The specification's example 3, as the feed would carry it: what converting a lead does.
#[test]
fn the_five_records_of_a_lead_s_conversion_are_five_events() {
    let rows = [
        ("53c98033-cca4-4420-97e4-4c1b4f81e062", "23ad069e-4d22-e811-a953-000d3a732d76", "contact", "Create"),
        ("5aca837c-a1f5-4801-b770-5c66183a58aa", "25ad069e-4d22-e811-a953-000d3a732d76", "opportunity", "Create"),
        ("c9585748-fdbf-4ff7-970c-bb37f6aa2c36", "25ad069e-4d22-e811-a953-000d3a732d76", "opportunity", "Update"),
        ("a0469f30-078b-419d-be61-b04c9a34121f", "1cad069e-4d22-e811-a953-000d3a732d76", "lead", "Update"),
        ("0975bceb-07c7-4dc2-b621-5a7b245c36a4", "1cad069e-4d22-e811-a953-000d3a732d76", "lead", "Update"),
    ];
    let bodies = rows.map(|(id, entity_id, entity, message)| {
        json!({ "Id": id, "RecordType": 21, "Workload": "CRM", "Operation": "CrmDefaultActivity", "Message": message,
            "CreationTime": "2018-03-07T18:00:00", "Fields": [{ "Name": format!("column{}", &id[..2]), "Value": "1" }],
            "EntityId": entity_id, "EntityName": entity, "CorrelationId": "2f0b9d6e-7a21-4a9e-9f0e-0e6c86a1c0de" })
        .to_string()
    });
    let records: Vec<_> = bodies.iter().map(|body| map(body)).collect();
    let correlations: HashSet<_> = records.iter().map(|record| record.correlation_id).collect();
    assert_eq!(correlations, HashSet::from([Some("2f0b9d6e-7a21-4a9e-9f0e-0e6c86a1c0de".parse().unwrap())]));
    let events = events(&records);
    assert_eq!(events.len(), 5);
    assert!(events.iter().zip(&records).all(|(event, record)| event.parts() == [record]));
}

#[test]
fn the_real_record_is_an_event_of_its_own_however_often_it_occurs() {
    let Some(shared) = fixtures::shared() else { actlog_testkit::skip!("no captures of the feed") };
    let file = std::fs::read(shared.join("fixtures/office365/crm/crm_recordtype21_issue134.json")).unwrap();
    let mut value: Value = serde_json::from_slice(&file).unwrap();
    let first = value["record"].to_string();
    value["record"]["Id"] = json!("22222222-42f2-43ca-a38c-1b4c737453c2");
    let second = value["record"].to_string();
    let records = [map(&first), map(&second)];
    assert_eq!(events(&records).len(), 2);
}

proptest! {
    #[test]
    fn however_events_were_divided_and_mixed_they_are_found_again(
        originals in prop::collection::vec((80_usize..120, 0_usize..8, 1_usize..5, any::<bool>()), 1..8),
        seed in any::<u64>(),
    ) {
        // Each event is an action of its own; some are numbered.
        let mut records = Vec::new();
        let mut expected = Vec::new();
        for (number, (rows, columns, parts, is_numbered)) in originals.into_iter().enumerate() {
            let mut whole = record(0, number as u128 + 1, 0..rows as u128);
            whole.fields = (0..columns).map(|column| Field::new(format!("c{column}"), "v")).collect();
            for part in 0..parts {
                let share = |length: usize| length * part / parts..length * (part + 1) / parts;
                let mut record = AuditRecord {
                    id: Uuid::from_u128((number as u128 + 1) * 1000 + part as u128),
                    fields: whole.fields[share(columns)].to_vec(),
                    query_results: whole.query_results[share(rows)].to_vec(),
                    ..whole.clone()
                };
                if is_numbered {
                    record = numbered(record, part as u64 + 1, parts as u64);
                }
                records.push(record);
            }
            expected.push((whole, is_numbered));
        }
        let mut state = seed | 1;
        for place in (1..records.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            records.swap(place, (state >> 33) as usize % (place + 1));
        }
        let events = events(&records);
        prop_assert_eq!(events.len(), expected.len());
        let places: Vec<_> = events.iter().map(|event| {
            event.ids().map(|id| records.iter().position(|record| record.id == id).unwrap()).min().unwrap()
        }).collect();
        prop_assert!(places.is_sorted(), "events are in the order of their first records");
        for event in events {
            let mut found = event.record();
            let number = (found.id.as_u128() / 1000 - 1) as usize;
            let (mut whole, is_numbered) = expected[number].clone();
            whole.id = found.id;
            found.extra.retain(|name, _| name != "Part" && name != "Parts");
            if !is_numbered {
                // Nothing tells the order of parts without numbers.
                found.query_results.sort();
                found.fields.sort_by(|a, b| a.name.cmp(&b.name));
            }
            prop_assert_eq!(found, whole);
        }
    }
}
