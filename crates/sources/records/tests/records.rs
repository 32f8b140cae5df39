//! What is taken from applications and from another actlog, what is refused, and what becomes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;

use actlog_core::{AuditRecord, BuildContext, SourceDescriptor, SystemClock, Timestamp};
use actlog_source_records::RecordsSource;
use actlog_testkit::compliance::{Elements, SourceHarness, intake};
use actlog_testkit::records::Records;
use actlog_testkit::storage::FaultStorage;
use serde_json::{Value, json};
use uuid::Uuid;

/// Longer than anything here takes; a test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// Reads elements from a file: the records, and what was said of the rest.
async fn read(sender: &str, elements: &[Value]) -> (Vec<AuditRecord<'static>>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = elements.iter().map(|element| format!("{element}\n")).collect();
    std::fs::write(folder.path().join("records.jsonl"), lines).unwrap();
    let mut cx = BuildContext::new(folder.path(), Arc::new(FaultStorage::new(0)), Arc::new(SystemClock));
    cx.config_dir = folder.path().to_owned();
    let descriptor = SourceDescriptor::of::<RecordsSource>("under-test", "0.0.0");
    let factory = (descriptor.load)(json!({ "path": "records.jsonl", "sender": sender })).unwrap();
    let harness = SourceHarness::new();
    let mut run = harness.start("under-test", "records", factory.build(&cx.named("under-test")).await.unwrap());
    assert!(matches!(run.finished(DEADLINE).await, Some(Ok(()))));
    let records = harness.durable().into_iter().map(|stored| stored.record).collect();
    (records, harness.dead_letters().into_iter().map(|letter| letter.reason).collect())
}

async fn taken(sender: &str, element: Value) -> AuditRecord<'static> {
    let (mut records, refused) = read(sender, &[element]).await;
    assert!(refused.is_empty(), "{refused:?}");
    records.remove(0)
}

async fn refused(sender: &str, element: Value) -> String {
    let (records, mut refused) = read(sender, std::slice::from_ref(&element)).await;
    assert!(records.is_empty(), "{element}");
    refused.remove(0)
}

/// The least that an application must say.
fn least() -> Value {
    json!({ "CreationTime": "2018-03-02T23:25:56Z", "Operation": "Update" })
}

/// With these members besides, or instead.
fn with(mut element: Value, more: Value) -> Value {
    element.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    element
}

/// As another actlog sends it.
fn captured() -> Value {
    json!({
        "Id": "00000000-0000-0000-0000-000000000001", "RecordType": 21, "Version": 1, "Workload": "CRM",
        "CreationTime": "2018-03-02T23:25:56Z", "Operation": "Update", "EntityName": "account",
        "Category": "Update", "Activity": "Accessed out-of-box entity", "PolicyVersion": 7, "Source": "dynamics",
        "CollectedTime": "2018-03-02T23:25:57Z", "Extra": { "Depth": 1 },
    })
}

fn element(event: u64) -> String {
    with(least(), json!({ "EntityId": Uuid::from_u128(u128::from(event) + 1) })).to_string()
}

fn event_of(record: &AuditRecord<'_>) -> Option<u64> {
    u64::try_from(record.entity_id?.as_u128().checked_sub(1)?).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_keeps_the_component_specification() {
    intake::<RecordsSource>(Elements { element, event_of, more: "" }).await;
}

#[tokio::test]
async fn what_an_application_may_leave_out_is_completed() {
    let record = taken("application", least()).await;
    assert_eq!((record.record_type, record.version, &*record.workload, &*record.operation), (21, 1, "CRM", "Update"));
    assert!(record.collected_time.is_some() && record.extra.is_empty());
    let other = with(least(), json!({ "Workload": "Payroll", "RecordType": 1000, "Category": "Export" }));
    let record = taken("application", other).await;
    assert_eq!((record.record_type, &*record.workload, record.category.as_deref()), (1000, "Payroll", Some("Export")));
}

#[tokio::test]
async fn every_key_of_the_schema_arrives_as_it_was_sent() {
    let mut generated = Records::new(7).nasty();
    let mut given: Vec<AuditRecord<'static>> = (0..200).map(|_| generated.next_record()).collect();
    for record in &mut given {
        (record.source, record.collected_time, record.policy_version) = (None, None, None);
    }
    let elements: Vec<Value> = given.iter().map(|record| serde_json::to_value(record).unwrap()).collect();
    let (records, refused) = read("application", &elements).await;
    assert!(refused.is_empty(), "{refused:?}");
    for (mut record, given) in records.into_iter().zip(given) {
        let origin: Value = serde_json::from_str(record.extra.get("Origin").unwrap().get()).unwrap();
        assert_eq!(origin["Id"], json!(given.id));
        record.extra.retain(|name, _| name != "Origin");
        (record.id, record.source, record.collected_time) = (given.id, None, None);
        assert_eq!(record, given);
    }
}

#[tokio::test]
async fn without_an_id_the_same_element_gives_the_same_id_and_another_one_another() {
    let (records, _) =
        read("application", &[least(), with(least(), json!({ "EntityName": "account" })), least()]).await;
    assert_eq!(records.len(), 2, "the third is the first again");
    assert_ne!(records[0].id, records[1].id);
    assert_eq!(taken("application", least()).await.id, records[0].id);
}

#[tokio::test]
async fn an_applications_id_can_not_be_that_of_another_sources_record() {
    let id = "00000000-0000-0000-0000-000000000001";
    let record = taken("application", with(least(), json!({ "Id": id }))).await;
    assert_ne!(record.id.to_string(), id);
    assert_eq!(record.extra.get("Origin").unwrap().get(), format!("{{\"Id\":\"{id}\"}}"));
    // What else it says has no part in it: the same Id is the same event.
    let again = taken("application", with(least(), json!({ "Id": id, "Operation": "Delete" }))).await;
    assert_eq!(again.id, record.id);
}

#[tokio::test]
async fn unknown_keys_and_wrong_types_are_refused_by_name() {
    for (more, part) in [
        (json!({ "Colour": 1 }), "unknown field `Colour`"),
        (json!({ "operation": "x" }), "unknown field `operation`"),
        (json!({ "Operation": 5 }), "invalid type: integer `5`"),
        (json!({ "CreationTime": "yesterday" }), "RFC 3339"),
        (json!({ "QueryResults": "a, b" }), "expected a sequence"),
        (json!({ "Fields": [{ "Name": "a", "Worth": "b" }] }), "unknown field `Worth`"),
        (json!({ "Id": "x" }), "UUID"),
        (json!({ "Version": 2 }), "Version 2"),
        (json!({ "Operation": "" }), "must not be empty"),
        (json!({ "Workload": "Payroll" }), "missing field `RecordType`"),
    ] {
        let reason = refused("application", with(least(), more)).await;
        assert!(reason.contains(part), "{part}: {reason}");
    }
    for (element, part) in [
        (json!({}), "CreationTime"),
        (json!({ "CreationTime": "2018-03-02T23:25:56Z" }), "no Operation"),
        (json!(["not an object"]), "no JSON object"),
        (json!("text"), "no JSON object"),
        (json!([["00000000-0000-0000-0000-000000000001", 21, 1, "CRM", "2018-03-02T23:25:56Z", "Update"]]), "no JSON"),
    ] {
        let reason = refused("application", element).await;
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[tokio::test]
async fn an_application_can_not_speak_for_an_actlog() {
    for (more, part) in [
        (json!({ "Workload": "actlog", "RecordType": 0 }), "\"actlog\""),
        (json!({ "Workload": " ActLog", "RecordType": 0 }), "\"actlog\""),
        (json!({ "Source": "dynamics" }), "Source"),
        (json!({ "PolicyVersion": 3 }), "PolicyVersion"),
        (json!({ "CollectedTime": "2018-03-02T23:25:56Z" }), "CollectedTime"),
        (json!({ "Extra": { "Origin": {} } }), "Extra.Origin"),
    ] {
        let reason = refused("application", with(least(), more)).await;
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[tokio::test]
async fn a_chain_of_actlogs_keeps_the_id_and_says_where_the_record_was() {
    let before = Timestamp::parse("2020-01-01T00:00:00Z").unwrap();
    let record = taken("actlog", captured()).await;
    assert_eq!(record.id, Uuid::from_u128(1));
    assert_eq!((record.category.as_deref(), &record.policy_version), (Some("Update"), &None));
    assert!(record.collected_time.unwrap() > before && record.source.as_deref() != Some("dynamics"));
    let origin: Value = serde_json::from_str(record.extra.get("Origin").unwrap().get()).unwrap();
    let expected = json!({ "Source": "dynamics", "CollectedTime": "2018-03-02T23:25:57Z", "PolicyVersion": 7 });
    assert_eq!(origin, expected);
    assert_eq!(record.extra.get("Depth").unwrap().get(), "1");

    let sent_on = with(captured(), json!({ "Source": "site", "PolicyVersion": 1, "Extra": { "Origin": expected } }));
    let record = taken("actlog", sent_on).await;
    let origin: Value = serde_json::from_str(record.extra.get("Origin").unwrap().get()).unwrap();
    assert_eq!((&origin["Source"], &origin["Origin"]), (&json!("site"), &expected));
}

#[tokio::test]
async fn another_actlogs_access_records_are_taken_and_incomplete_records_are_not() {
    let access = with(captured(), json!({ "Workload": "actlog", "RecordType": 0, "Operation": "Search" }));
    assert_eq!(taken("actlog", access).await.workload, "actlog");
    let reason = refused("actlog", least()).await;
    assert!(reason.contains("missing field `Id`"), "{reason}");
}

#[tokio::test]
async fn hostile_records_end_in_a_refusal() {
    let deep = |levels: usize| {
        let nested = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        with(least(), json!({ "Extra": { "a": serde_json::from_str::<Value>(&nested).unwrap() } }))
    };
    let reason = refused("application", deep(110)).await;
    assert!(reason.contains("deeper than 100"), "{reason}");
    taken("application", deep(90)).await;
    // So many that comparing each with each would not end; the last one is there twice.
    let members: String = (0..300_000).map(|number| format!("\"{number}\":0,")).collect();
    let text =
        format!("{{\"CreationTime\":\"2018-03-02T23:25:56Z\",\"Operation\":\"x\",\"Extra\":{{{members}\"7\":0}}}}");
    let raw = serde_json::value::RawValue::from_string(text).unwrap();
    let error = AuditRecord::decode(raw.get().as_bytes()).unwrap_err().to_string();
    assert!(error.contains("duplicate field `7`"), "{error}");
}
