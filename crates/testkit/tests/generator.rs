//! The generator of traffic: always the same, and like the real thing.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::collections::{BTreeMap, BTreeSet};

use actlog_testkit::generator::{Expected, Generator, ndjson};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn digest(seed: u64, count: usize) -> String {
    hex::encode(Sha256::digest(ndjson(&mut Generator::new(seed), count).0))
}

#[test]
fn the_same_seed_gives_the_same_bytes_for_ever() {
    // A change of these is a change of every benchmark: there must be a reason.
    assert_eq!(digest(1, 1000), "6ded5eb07f8d5d2ca34433477b5e026b0b5d8c1803d92bf632441a7d5b4d3ea5");
    assert_ne!(digest(2, 10), digest(1, 10));
}

#[test]
fn a_body_depends_on_nothing_but_its_number() {
    let mut all: Vec<_> = Generator::new(7).take(400).collect();
    for number in [399, 57, 0, 200] {
        let one = Generator::new(7).starting_at(number).next().unwrap();
        assert_eq!(one, all[number as usize]);
    }
    all.dedup();
    assert_eq!(all.len(), 400);
}

fn id(context: &Value, member: &str) -> String {
    context[member].as_str().unwrap().to_owned()
}

#[test]
fn every_body_says_what_is_expected_of_it() {
    for (body, expected) in Generator::new(3).take(1500) {
        let text = std::str::from_utf8(&body).unwrap();
        assert!(!text.contains(['\n', '\r']), "{text}");
        let context: Value = serde_json::from_str(text).unwrap();
        assert_eq!(context["MessageName"], expected.message, "{text}");
        assert_eq!(context["PrimaryEntityName"], expected.primary_entity);
        let zeros = uuid::Uuid::nil();
        assert_eq!(id(&context, "PrimaryEntityId"), expected.primary_entity_id.unwrap_or(zeros).to_string());
        assert_eq!(id(&context, "UserId"), expected.user_id.to_string());
        assert_eq!(id(&context, "InitiatingUserId"), expected.initiating_user_id.to_string());
        assert_eq!(id(&context, "OrganizationId"), expected.organization_id.to_string());
        assert_eq!(id(&context, "CorrelationId"), expected.correlation_id.to_string());
        assert_eq!(id(&context, "OperationId"), expected.operation_id.to_string());
        assert_eq!(context["Mode"], u64::from(expected.is_async));
        assert_eq!(context["IsInTransaction"], !expected.is_async);
        let date = context["OperationCreatedOn"].as_str().unwrap();
        let milliseconds = expected.created.unix_milliseconds();
        let zone = if expected.is_async { "+0000" } else { "" };
        assert_eq!(date, format!("/Date({milliseconds}{zone})/"));
        if let Some((_, target)) = expected.target {
            assert!(text.contains(&target.to_string()), "{}", expected.describe());
        }
        for row in &expected.rows {
            assert!(text.contains(&row.to_string()), "{}", expected.describe());
        }
        let parent = &context["ParentContext"];
        assert!(parent.is_null() || parent["Stage"] == 30, "{text}");
        if expected.enclosing == Some("ExportToExcel") {
            assert_eq!(parent["MessageName"], "ExportToExcel");
        }
    }
}

fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_dialect_is_the_platforms() {
    let mut forms = BTreeSet::new();
    for (body, expected) in Generator::new(5).take(2000) {
        let text = String::from_utf8(body).unwrap();
        // The order of the serializer's data contract; serde_json sorts, so it is looked at in the text.
        let order = [
            "{\"BusinessUnitId\":",
            "\"CorrelationId\":",
            "\"Depth\":",
            "\"InitiatingUserAgent\":",
            "\"InitiatingUserAzureActiveDirectoryObjectId\":",
            "\"InitiatingUserId\":",
            "\"InputParameters\":[",
        ];
        let places: Vec<_> = order.iter().map(|member| text.find(member).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        assert!(text.ends_with(&format!("\"UserId\":\"{}\"}}", expected.user_id)), "{text}");
        assert!(!text.contains("http://") && !text.contains("\"/Date("), "slashes are escaped: {text}");
        let context: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(members(&context).len(), 30);
        assert_eq!(members(&context["OwningExtension"]), ["Id", "KeyAttributes", "LogicalName", "Name", "RowVersion"]);
        for form in
            ["QueryExpression:", "FetchExpression:", "QueryByAttribute:", "AsynchronousStepPrimaryName", "Money:"]
        {
            if text.contains(form) {
                forms.insert(form);
            }
        }
    }
    assert_eq!(forms.len(), 5, "{forms:?}");
}

#[test]
fn the_traffic_has_every_message_and_is_skewed() {
    let expected: Vec<Expected> = ndjson(&mut Generator::new(1), 20_000).1;
    let count = |key: &dyn Fn(&Expected) -> String| {
        let mut counts = BTreeMap::<String, u64>::new();
        for one in &expected {
            *counts.entry(key(one)).or_default() += 1;
        }
        counts
    };
    let messages = count(&|one| one.message.to_owned());
    let wanted = [
        "AddMember",
        "AddMembers",
        "Assign",
        "Associate",
        "Create",
        "Delete",
        "Disassociate",
        "ExportToExcel",
        "ExportWordDocument",
        "GrantAccess",
        "Lose",
        "ModifyAccess",
        "Publish",
        "PublishAll",
        "QualifyLead",
        "Retrieve",
        "RetrieveMultiple",
        "RevokeAccess",
        "Send",
        "SetState",
        "Update",
        "WhoAmI",
        "Win",
    ];
    assert_eq!(messages.keys().collect::<Vec<_>>(), wanted);
    let mut users: Vec<u64> = count(&|one| one.user_id.to_string()).into_values().collect();
    users.sort_unstable_by(|a, b| b.cmp(a));
    assert!(users.len() > 2000 && users.len() <= Generator::USERS, "{}", users.len());
    assert!(users[0] > 20 * users[users.len() / 2], "the busiest user has {} events", users[0]);
    // Asynchronous posts carry whole seconds only.
    let seconds: Vec<i64> = expected.iter().map(|one| one.created.unix_milliseconds() / 1000).collect();
    assert!(seconds.is_sorted());
    assert!(expected.iter().any(|one| one.rows.len() >= 200));
    let exports: Vec<_> = expected.iter().filter(|one| one.message == "ExportToExcel").collect();
    for export in exports {
        let inner = &expected[export.number as usize - 1];
        assert_eq!((inner.enclosing, inner.correlation_id), (Some("ExportToExcel"), export.correlation_id));
        assert_ne!(inner.operation_id, export.operation_id);
    }
}

#[test]
fn the_mean_size_is_as_asked_for() {
    for mean in [Generator::MEAN_SIZE, 6000, 16_000] {
        let (lines, _) = ndjson(&mut Generator::new(1).with_mean_size(mean), 4000);
        let found = lines.len() / 4000;
        assert!(found.abs_diff(mean) * 20 < mean, "asked for {mean}, got {found}");
    }
}

#[test]
fn fewer_users_can_be_asked_for() {
    let (_, expected) = ndjson(&mut Generator::new(1).with_users(3), 500);
    let users: BTreeSet<_> = expected.iter().map(|one| one.user_id).collect();
    assert_eq!(users.len(), 3);
}
