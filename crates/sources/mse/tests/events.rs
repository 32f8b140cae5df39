//! Every entity and action of the specification's table, and what is said to anything else.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;

use actlog_core::{AuditRecord, BuildContext, Field, SourceDescriptor, SystemClock};
use actlog_source_mse::{ENTITIES, MseSource};
use actlog_testkit::compliance::{Elements, SourceHarness, intake};
use actlog_testkit::storage::FaultStorage;
use serde_json::{Value, json};
use uuid::Uuid;

/// Longer than anything here takes; a test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// The specification's table, as it prints it.
const TABLE: [(&str, &[&str]); 24] = [
    ("Search Topic Category", &["Create", "Rename", "Delete"]),
    ("Search Topic", &["Create", "Update", "Delete"]),
    ("Custom Source", &["Create", "Update", "Delete"]),
    ("Blocked Keyword", &["Add", "Delete"]),
    ("Blocked Domain", &["Add", "Delete"]),
    ("Stream", &["Create", "Update", "Delete"]),
    // Printed as "Internal & External Actions".
    ("Post (acquired)", &["Internal Action", "External Action"]),
    ("Post (published)", &["Send"]),
    ("Author", &["Add (GDPR)", "Delete (GDPR)", "Delete"]),
    ("Activity Map", &["Create", "Update", "Delete"]),
    ("Alert", &["Create", "Update", "Delete"]),
    ("Preference", &["Update"]),
    ("Social Profile", &["Create", "Update", "Reauthenticate", "Delete"]),
    ("User", &["Edit Role", "E-mail"]),
    ("Azure Event Hubs", &["Create", "Update", "Delete"]),
    ("Dynamics 365", &["Create", "Update", "Refresh", "Delete"]),
    ("Allowed Domain", &["Add", "Delete"]),
    ("Automation Rule", &["Create", "Update", "Delete"]),
    ("AR Notification", &["Enable", "Disable"]),
    ("Tag", &["Add", "Update", "Delete"]),
    // Printed as "Add, Update Delete".
    ("Label", &["Add", "Update", "Delete"]),
    ("Search Language", &["Add", "Delete"]),
    ("Adaptive Sentiment", &["Enable", "Disable", "Reset"]),
    ("Other Global Settings", &["Update"]),
];

/// Reads elements from a file: the records, and what was said of the rest.
async fn read(elements: &[Value]) -> (Vec<AuditRecord<'static>>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = elements.iter().map(|element| format!("{element}\n")).collect();
    std::fs::write(folder.path().join("events.ndjson"), lines).unwrap();
    let mut cx = BuildContext::new(folder.path(), Arc::new(FaultStorage::new(0)), Arc::new(SystemClock));
    cx.config_dir = folder.path().to_owned();
    let descriptor = SourceDescriptor::of::<MseSource>("under-test", "0.0.0");
    let factory = (descriptor.load)(json!({ "path": "events.ndjson" })).unwrap();
    let harness = SourceHarness::new();
    let mut run = harness.start("under-test", "mse", factory.build(&cx.named("under-test")).await.unwrap());
    assert!(matches!(run.finished(DEADLINE).await, Some(Ok(()))));
    let records = harness.durable().into_iter().map(|stored| stored.record).collect();
    (records, harness.dead_letters().into_iter().map(|letter| letter.reason).collect())
}

fn event(entity: &str, action: &str) -> Value {
    json!({ "Entity": entity, "Action": action, "CreationTime": "2018-03-02T23:25:56Z", "UserId": "a@contoso.com" })
}

fn with(mut event: Value, more: Value) -> Value {
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

fn element(number: u64) -> String {
    with(event("Tag", "Add"), json!({ "EntityId": Uuid::from_u128(u128::from(number) + 1) })).to_string()
}

fn event_of(record: &AuditRecord<'_>) -> Option<u64> {
    u64::try_from(record.entity_id?.as_u128().checked_sub(1)?).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_keeps_the_component_specification() {
    intake::<MseSource>(Elements { element, event_of, more: "" }).await;
}

#[tokio::test]
async fn every_entity_and_action_of_the_table_is_taken() {
    let pairs: Vec<(&str, &str)> =
        TABLE.iter().flat_map(|(entity, actions)| actions.iter().map(move |action| (*entity, *action))).collect();
    let events: Vec<Value> = pairs.iter().map(|(entity, action)| event(entity, action)).collect();
    let (records, refused) = read(&events).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(records.len(), pairs.len());
    let compact = |name: &str| name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "").to_ascii_lowercase();
    for ((entity, action), record) in pairs.iter().zip(&records) {
        let case = format!("{entity}: {action}");
        assert_eq!((&*record.workload, record.record_type, record.version), ("SocialEngagement", 0, 1), "{case}");
        assert_eq!((record.item_type.as_deref(), record.message.as_deref()), (Some(*entity), Some(*action)), "{case}");
        assert_eq!(record.entity_name.as_deref().map(compact), Some(compact(entity)), "{case}");
        assert_eq!(compact(&record.operation), compact(action), "{case}");
        assert!(record.operation.chars().all(|letter| letter.is_ascii_alphanumeric()), "{case}");
        assert_eq!(record.user_id.as_deref(), Some("a@contoso.com"), "{case}");
        assert_eq!((&record.activity, record.creation_time.to_string().as_str()), (&None, "2018-03-02T23:25:56Z"));
    }
    assert_eq!(ENTITIES.len(), TABLE.len());
    assert_eq!(
        ENTITIES.iter().map(|entity| entity.actions.len()).sum::<usize>(),
        pairs.len(),
        "no more than the table"
    );
}

#[tokio::test]
async fn an_action_has_the_category_of_what_it_does() {
    for (entity, action, category) in [
        ("Stream", "Create", "Create"),
        ("Tag", "Add", "Create"),
        ("Post (published)", "Send", "Create"),
        ("Search Topic Category", "Rename", "Update"),
        ("Dynamics 365", "Refresh", "Update"),
        ("AR Notification", "Disable", "State"),
        ("User", "Edit Role", "AdminSecurity"),
        ("User", "E-mail", "Other"),
        ("Author", "Delete (GDPR)", "Delete"),
    ] {
        let (records, _) = read(&[event(entity, action)]).await;
        assert_eq!(records[0].category.as_deref(), Some(category), "{entity}: {action}");
    }
}

#[tokio::test]
async fn both_spellings_become_the_same_record() {
    let (records, _) =
        read(&[event("Post (acquired)", "External Action"), event("postAcquired", "externalaction")]).await;
    assert_eq!(records.len(), 2);
    for record in &records {
        assert_eq!((&*record.operation, record.entity_name.as_deref()), ("ExternalAction", Some("PostAcquired")));
    }
}

#[tokio::test]
async fn everything_that_an_event_says_is_in_its_record() {
    let said = json!({
        "Id": "00000000-0000-0000-0000-000000000001",
        "OrganizationId": "00000000-0000-0000-0000-000000000002",
        "CrmOrganizationUniqueName": "contoso",
        "UserKey": "10033XXXA49AXXXX",
        "UserType": 2,
        "UserUpn": "admin@contoso.com",
        "ClientIP": "[2001:db8::7]:443",
        "ResultStatus": "Success",
        "CorrelationId": "00000000-0000-0000-0000-000000000003",
        "InstanceUrl": "https://listening.microsoft.com",
        "ItemUrl": "https://listening.microsoft.com/topics/7",
        "UserAgent": "Mozilla/5.0",
        "EntityId": "00000000-0000-0000-0000-000000000004",
        "ObjectId": "7",
        "PrimaryFieldValue": "Our brand",
        "Fields": [{ "Name": "name", "Value": "Our \"brand\"" }, { "Name": "note", "Value": null }],
    });
    let (mut records, refused) = read(&[with(event("Search Topic", "Update"), said.clone())]).await;
    assert!(refused.is_empty(), "{refused:?}");
    let record = records.remove(0);
    assert_eq!((record.client_ip.as_deref(), record.client_port), (Some("2001:db8::7"), Some(443)));
    assert_eq!(record.fields[0], Field::new("name", "Our \"brand\""));
    let id = said["Id"].as_str().unwrap();
    assert_ne!(record.id.to_string(), id, "it can't be taken for another source's record");
    assert_eq!(record.extra.get("EventId").unwrap().get(), format!("\"{id}\""));
    let encoded = serde_json::to_value(&record).unwrap();
    for (name, value) in said.as_object().unwrap() {
        if !matches!(name.as_str(), "Id" | "ClientIP") {
            assert_eq!(&encoded[name], value, "{name}");
        }
    }
}

#[tokio::test]
async fn the_same_event_has_the_same_id_each_time() {
    let named = |action| with(event("Tag", action), json!({ "Id": "00000000-0000-0000-0000-000000000001" }));
    let (records, _) = read(&[event("Tag", "Add"), event("Tag", "Add"), named("Add"), named("Update")]).await;
    assert_eq!(records.len(), 2, "an Id names the event; without one, its text does");
}

#[tokio::test]
async fn anything_else_is_refused_with_what_would_be_right() {
    for (event, part) in [
        (event("Serch Topic", "Create"), "there are: Search Topic, "),
        (event("Post", "Send"), "there are: "),
        (event("Preference", "Create"), "\"Create\" is no action on Preference; there are: Update"),
        (event("Tag", "Rename"), "there are: "),
        (with(event("Tag", "Add"), json!({ "Colour": 1 })), "unknown field `Colour`"),
        (with(event("Tag", "Add"), json!({ "Category": "Read" })), "unknown field `Category`"),
        (with(event("Tag", "Add"), json!({ "UserType": 9 })), "UserType 9"),
        (with(event("Tag", "Add"), json!({ "ClientIP": "here" })), "ClientIP is no address"),
        (with(event("Tag", "Add"), json!({ "CreationTime": "now" })), "RFC 3339"),
        (json!({ "Entity": "Tag", "Action": "Add" }), "missing field `CreationTime`"),
        (json!([["Tag", "Add", "2018-03-02T23:25:56Z"]]), "no JSON object"),
        (json!(7), "no JSON object"),
    ] {
        let (records, refused) = read(std::slice::from_ref(&event)).await;
        assert!(records.is_empty() && refused[0].contains(part), "{event}: {refused:?}");
    }
}
