//! Every form is what its receiver reads, and loses nothing of the record. `docs/mappings.md` is tested here.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;

use actlog_core::{AuditRecord, Extra, Field, Timestamp};
use actlog_interop::ecs::{self, EcsOptions};
use actlog_interop::splunk::{self, SplunkOptions};
use actlog_interop::{azure, cloudevents, ocsf, otlp};
use common::{bare, full, samples};
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

/// The forms of the table's columns, in its order.
const FORMS: [&str; 5] = ["ECS", "OCSF", "Azure column", "CloudEvents", "OTLP"];

fn encoded(record: &AuditRecord<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    bytes
}

/// What is written, and that it is one line of JSON without raw control characters.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
    let mut out = b"before ".to_vec();
    write(&mut out);
    let written = out.strip_prefix(b"before ").expect("what stands in the buffer stays there");
    assert!(!written.iter().any(|&byte| byte < b' '), "{}", String::from_utf8_lossy(written));
    serde_json::from_slice(written).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(written)))
}

fn ecs(record: &AuditRecord<'_>) -> Value {
    let options = EcsOptions { dataset: "actlog".into(), namespace: "default".into() };
    written(|out| ecs::document(record, &options, out))
}

fn cloudevent(record: &AuditRecord<'_>) -> Value {
    written(|out| cloudevents::event(record, &encoded(record), out))
}

fn hec(record: &AuditRecord<'_>, options: &SplunkOptions) -> Value {
    written(|out| splunk::event(record, &encoded(record), options, out))
}

fn otlp(record: &AuditRecord<'_>) -> Value {
    let mut request = written(|out| {
        otlp::begin(out);
        otlp::log_record(record, &encoded(record), out);
        otlp::end(out);
    });
    request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0].take()
}

fn form(name: &str, record: &AuditRecord<'_>) -> Value {
    match name {
        "ECS" => ecs(record),
        "OCSF" => written(|out| ocsf::event(record, out)),
        "Azure column" => written(|out| azure::row(record, out)),
        "CloudEvents" => cloudevent(record),
        _ => {
            let mut log = otlp(record);
            // Attributes by their keys.
            for attribute in log["attributes"].take().as_array().unwrap() {
                let value = attribute["value"].as_object().unwrap().values().next().unwrap();
                log[attribute["key"].as_str().unwrap()] = value.clone();
            }
            log
        }
    }
}

/// The value at a path; where there is an array, in any of its objects.
fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    if let Some(value) = value.get(path) {
        return Some(value);
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| at(item, path)),
        _ => path.split_once('.').and_then(|(first, rest)| at(value.get(first)?, rest)),
    }
}

/// Whether what was found says the same as the record's key.
fn says(found: &Value, key: &Value) -> bool {
    let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    let joined = |value: &Value| value.as_array().map(|ids| ids.iter().map(text).collect::<Vec<_>>().join(","));
    let time = key.as_str().and_then(|text| Timestamp::parse(text).ok()).map(|time| time.unix_milliseconds());
    found == key
        || text(found) == text(key)
        || found.as_array().is_some_and(|found| found.contains(key))
        || joined(key).is_some_and(|joined| text(found) == joined)
        || time.is_some_and(|time| text(found) == time.to_string() || text(found) == format!("{time}000000"))
}

/// The rows of a table of the page, the heading first.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let page = actlog_testkit::fixtures::workspace().join("docs/mappings.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lines = page.lines().skip_while(|line| !line.starts_with(heading)).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.map(cells).collect()
}

/// The table of keys: the key, and the paths for each form.
fn table() -> Vec<(String, Vec<Vec<String>>)> {
    let rows = rows("| Key |");
    assert_eq!(rows[0][1..], FORMS);
    let paths = |cell: &String| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    rows[2..].iter().map(|row| (row[0].clone(), row[1..].iter().map(paths).collect())).collect()
}

#[test]
fn every_key_of_the_record_is_where_the_page_says() {
    let team = AuditRecord { entity_name: Some("team".into()), ..full("Create", "Create") };
    let user = AuditRecord { entity_name: Some("systemuser".into()), ..full("Create", "Create") };
    let mut roles = AuditRecord { entity_name: Some("systemuser".into()), ..full("Associate", "Relationship") };
    roles.fields = vec![Field::new("relationship", "systemuserroles_association")];
    let operations = [
        ("RetrieveMultiple", "ReadMultiple"),
        ("WinOpportunity", "Business"),
        ("UserSignIn", "SignIn"),
        ("ImportSolution", "AdminSolution"),
    ];
    let records = operations.map(|(operation, category)| full(operation, category));
    let records: Vec<_> = records.into_iter().chain([team, user, roles]).collect();
    let keys: Value = serde_json::from_slice(&encoded(&records[0])).unwrap();
    let table = table();
    let documented: BTreeSet<_> = table.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(documented, keys.as_object().unwrap().keys().map(String::as_str).collect());
    for (column, name) in FORMS.iter().enumerate() {
        let forms: Vec<_> = records
            .iter()
            .map(|record| (form(name, record), serde_json::from_slice::<Value>(&encoded(record)).unwrap()))
            .collect();
        for (key, paths) in &table {
            for path in &paths[column] {
                let found: Vec<_> =
                    forms.iter().filter_map(|(form, keys)| Some((at(form, path)?, &keys[key]))).collect();
                assert!(found.iter().any(|(found, value)| says(found, value)), "{name}: {key} at {path}: {found:?}");
            }
        }
    }
}

#[test]
fn the_whole_record_rides_along() {
    for record in samples() {
        let keys: Value = serde_json::from_slice(&encoded(&record)).unwrap();
        let same = |form: &str, value: &Value| assert_eq!(*value, keys, "{form}");
        same("ECS", &ecs(&record)["o365"]["audit"]);
        same("OCSF", &form("OCSF", &record)["unmapped"]);
        same("CloudEvents", &cloudevent(&record)["data"]);
        same("Splunk", &hec(&record, &SplunkOptions::default())["event"]);
        assert_eq!(otlp(&record)["body"]["stringValue"], String::from_utf8(encoded(&record)).unwrap());
    }
}

#[test]
fn a_row_has_a_column_for_each_key_of_the_record_of_its_type_and_with_no_reserved_name() {
    let documented: BTreeSet<_> = table().into_iter().flat_map(|(_, paths)| paths[2].clone()).collect();
    let types: Vec<_> = rows("| Type | Columns |").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let type_of = |name: &str| {
        let (kind, _) = types.iter().find(|(_, columns)| columns.split(", ").any(|column| column == name))?;
        Some(kind.as_str())
    };
    for record in samples() {
        let row = form("Azure column", &record);
        let row = row.as_object().unwrap();
        for (name, value) in row {
            let is_right = match type_of(name) {
                Some("datetime") => Timestamp::parse(value.as_str().unwrap()).is_ok(),
                Some("int") => i32::try_from(value.as_i64().unwrap()).is_ok(),
                Some("long") => value.is_u64(),
                Some("boolean") => value.is_boolean(),
                Some("dynamic") => value.is_array() || value.is_object() || value.is_string(),
                Some(other) => panic!("{other} is no type of a column"),
                // UserType is a column in another form.
                None => value.is_string() && (documented.contains(name) || name == "UserType"),
            };
            assert!(is_right, "{name}: {value}");
            assert!(!azure::RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)), "{name}");
            assert!(name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.len() <= 45, "{name}");
        }
        let keys: Value = serde_json::from_slice(&encoded(&record)).unwrap();
        // One more than keys: TimeGenerated and CreationTime are the same. The port can stand in ClientIP.
        let from_address = row.contains_key("ClientPort") && record.client_port.is_none();
        assert_eq!(row.len(), keys.as_object().unwrap().len() + 1 + usize::from(from_address));
    }
}

#[test]
fn rows_have_what_the_rules_of_sentinel_compare() {
    let mut record = full("RetrieveMultiple", "ReadMultiple");
    record.client_ip = Some("203.0.113.7:443".into());
    record.client_port = None;
    let row = form("Azure column", &record);
    assert_eq!(row["UserType"], "Admin");
    assert_eq!((&row["ClientIp"], &row["ClientPort"]), (&"203.0.113.7".into(), &443.into()));
    let ids = record.query_results.iter().map(Uuid::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(row["QueryResults"], ids);
    assert_eq!(row["Fields"][0], serde_json::json!({ "Name": "name", "Value": "two\nlines" }));
}

/// Fields outside of `o365` and their types, from the ECS reference 8.17.
const ECS_FIELDS: [(&str, &str); 33] = [
    ("@timestamp", "date"),
    ("client.address", "keyword"),
    ("client.ip", "ip"),
    ("client.port", "long"),
    ("data_stream.dataset", "constant_keyword"),
    ("data_stream.namespace", "constant_keyword"),
    ("data_stream.type", "constant_keyword"),
    ("ecs.version", "keyword"),
    ("event.action", "keyword"),
    ("event.category", "keyword[]"),
    ("event.code", "keyword"),
    ("event.created", "date"),
    ("event.dataset", "keyword"),
    ("event.id", "keyword"),
    ("event.kind", "keyword"),
    ("event.module", "keyword"),
    ("event.outcome", "keyword"),
    ("event.provider", "keyword"),
    ("event.type", "keyword[]"),
    ("organization.id", "keyword"),
    ("organization.name", "keyword"),
    ("related.hosts", "keyword[]"),
    ("related.ip", "ip[]"),
    ("related.user", "keyword[]"),
    ("source.address", "keyword"),
    ("source.ip", "ip"),
    ("source.port", "long"),
    ("url.original", "wildcard"),
    ("user.domain", "keyword"),
    ("user.email", "keyword"),
    ("user.id", "keyword"),
    ("user.name", "keyword"),
    ("user_agent.original", "keyword"),
];

/// Values of `event.type` that the reference expects with a value of `event.category`.
const ECS_TYPES: [(&str, &[&str]); 5] = [
    (
        "api",
        &["access", "admin", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start", "user"],
    ),
    ("authentication", &["start", "end", "info"]),
    ("configuration", &["access", "change", "creation", "deletion", "info"]),
    ("database", &["access", "change", "info", "error"]),
    ("iam", &["admin", "change", "creation", "deletion", "group", "info", "user"]),
];

#[test]
fn documents_have_fields_of_ecs_with_values_of_their_types() {
    for record in samples() {
        let document = ecs(&record);
        let sections = document.as_object().unwrap().iter().filter(|(name, _)| *name != "o365");
        let fields = sections.flat_map(|(section, value)| match value {
            Value::Object(members) => {
                members.iter().map(|(name, value)| (format!("{section}.{name}"), value)).collect::<Vec<_>>()
            }
            value => vec![(section.clone(), value)],
        });
        for (name, value) in fields {
            let (_, kind) = ECS_FIELDS.iter().find(|(field, _)| *field == name).unwrap_or_else(|| panic!("{name}"));
            let values = match kind.strip_suffix("[]") {
                Some(_) => value.as_array().unwrap().iter().collect(),
                None => vec![value],
            };
            assert!(!values.is_empty(), "{name}");
            for value in values {
                let is_right = match kind.trim_end_matches("[]") {
                    "date" => Timestamp::parse(value.as_str().unwrap()).is_ok(),
                    "ip" => value.as_str().unwrap().parse::<IpAddr>().is_ok(),
                    "long" => value.is_i64(),
                    _ => value.is_string(),
                };
                assert!(is_right, "{name}: {value}");
            }
        }
        let (category, kind) = (&document["event"]["category"][0], &document["event"]["type"][0]);
        let (_, kinds) = ECS_TYPES.iter().find(|(known, _)| category == known).unwrap();
        assert!(kinds.iter().any(|known| kind == known), "{category} {kind}");
        let outcome = document["event"].get("outcome").and_then(Value::as_str);
        assert!([None, Some("success"), Some("failure"), Some("unknown")].contains(&outcome));
    }
}

#[test]
fn what_is_absent_is_absent() {
    let bare = bare();
    let document = ecs(&bare);
    let names: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["@timestamp", "data_stream", "ecs", "event", "o365"]);
    let event = cloudevent(&bare);
    assert!(event.get("subject").is_none());
    assert_eq!(event["source"], "/actlog");
    let log = otlp(&bare);
    assert!(log.get("observedTimeUnixNano").is_none() && log.get("traceId").is_none());
    assert_eq!(hec(&bare, &SplunkOptions::default()).as_object().unwrap().len(), 2);
    // What the class requires, and no more.
    let event = form("OCSF", &bare);
    assert_eq!(event["actor"], serde_json::json!({ "user": { "name": "Unknown" } }));
    assert_eq!(event["src_endpoint"], serde_json::json!({ "name": "Unknown" }));
    assert!(event.get("status_id").is_none() && event.get("http_request").is_none());
}

#[test]
fn splunk_gets_time_in_seconds_and_the_records_host_unless_another_is_set() {
    let record = full("Update", "Update");
    let event = hec(&record, &SplunkOptions::default());
    assert_eq!(event["time"].as_f64(), Some(1_520_033_156.25));
    assert_eq!(event["host"], "contoso.crm.dynamics.com");
    assert!(event.get("index").is_none());
    let text = |text: &str| Some(text.to_owned());
    let options =
        SplunkOptions { host: text("h"), source: text("s"), sourcetype: text("t"), index: text("i \"quoted\"") };
    let event = hec(&record, &options);
    assert_eq!((&event["host"], &event["source"]), (&"h".into(), &"s".into()));
    assert_eq!((&event["sourcetype"], &event["index"]), (&"t".into(), &"i \"quoted\"".into()));
    let early = AuditRecord { creation_time: Timestamp::from_unix_milliseconds(-1_001), ..record };
    assert_eq!(hec(&early, &SplunkOptions::default())["time"].as_f64(), Some(-1.001));
}

#[test]
fn operations_are_events_of_the_classes_that_the_page_names() {
    let class = |operation: &'static str, category: &'static str, entity: &'static str| {
        let event = form("OCSF", &AuditRecord { entity_name: Some(entity.into()), ..full(operation, category) });
        (event["class_uid"].as_u64().unwrap(), event["activity_id"].as_u64().unwrap())
    };
    for (operation, category, entity, expected) in [
        ("Retrieve", "Read", "account", (6005, 1)),
        ("Update", "Update", "account", (6005, 2)),
        ("RetrieveMultiple", "ReadMultiple", "account", (6005, 4)),
        ("ExportToExcel", "ReadMultiple", "account", (6005, 4)),
        ("Upsert", "Update", "account", (6005, 5)),
        ("Create", "Create", "account", (6005, 6)),
        ("Delete", "Delete", "account", (6005, 7)),
        ("WinOpportunity", "Business", "opportunity", (6003, 99)),
        ("ExportSolution", "Read", "solution", (6003, 2)),
        ("UserSignIn", "SignIn", "authentication", (3002, 1)),
        ("UserSignOut", "SignIn", "authentication", (3002, 2)),
        ("WhoAmI", "SignIn", "none", (3002, 99)),
        ("ImportSolution", "AdminSolution", "solution", (3004, 99)),
        ("DeleteAttribute", "AdminMetadata", "attribute", (3004, 4)),
        ("Create", "Create", "systemuser", (3001, 1)),
        ("Retrieve", "Read", "systemuser", (6005, 1)),
        ("AddMembersTeam", "AdminSecurity", "team", (3006, 3)),
        ("AddPrivilegesRole", "AdminSecurity", "role", (3006, 1)),
    ] {
        assert_eq!(class(operation, category, entity), expected, "{operation} {entity}");
    }
}

fn texts() -> impl Strategy<Value = Option<String>> {
    // Any characters; and those that mean something in addresses and URLs.
    proptest::option::of(prop_oneof![any::<String>(), "[a-z0-9.:@/\\[\\]%#? \u{0}\u{2028}\u{7f}\u{fffe}\"\\\\-]{0,20}"])
}

prop_compose! {
    fn any_record()(
        texts in proptest::collection::vec(texts(), 25),
        ids in proptest::collection::vec(proptest::option::of(any::<u128>()), 6),
        numbers in any::<(i32, i32, Option<i32>, Option<u16>, Option<u64>)>(),
        times in any::<(i64, Option<i64>, bool)>(),
        fields in proptest::collection::vec((any::<String>(), texts()), 0..4),
        extra in proptest::collection::vec((any::<String>(), any::<String>()), 0..4),
    ) -> AuditRecord<'static> {
        let mut texts = texts.into_iter().map(|text| text.map(Into::into));
        let mut text = || texts.next().unwrap();
        let mut ids = ids.into_iter().map(|id| id.map(Uuid::from_u128));
        let mut id = || ids.next().unwrap();
        let mut members = Extra::default();
        for (name, value) in extra {
            members.insert(name, value);
        }
        AuditRecord {
            id: id().unwrap_or_default(),
            record_type: numbers.0,
            version: numbers.1,
            workload: text().unwrap_or_default(),
            creation_time: Timestamp::from_unix_milliseconds(times.0),
            operation: text().unwrap_or_default(),
            message: text(),
            organization_id: id(),
            crm_organization_unique_name: text(),
            user_id: text(),
            user_key: text(),
            user_type: numbers.2,
            user_upn: text(),
            system_user_id: id(),
            initiating_user_id: id(),
            client_ip: text(),
            client_port: numbers.3,
            result_status: text(),
            correlation_id: id(),
            instance_url: text(),
            item_url: text(),
            item_type: text(),
            user_agent: text(),
            entity_id: id(),
            entity_name: text(),
            fields: fields
                .into_iter()
                .map(|(name, value)| Field { name: name.into(), value: value.map(Into::into) })
                .collect(),
            query: text(),
            query_results: vec![Uuid::nil(); numbers.0.rem_euclid(3) as usize],
            linked_results: vec![Uuid::max(); numbers.1.rem_euclid(3) as usize],
            service_name: text(),
            service_context_id: text(),
            service_context_id_type: text(),
            primary_field_value: text(),
            object_id: text(),
            app_name: text(),
            content_type: text(),
            category: text(),
            activity: text(),
            policy_version: numbers.4,
            source: text(),
            collected_time: times.1.map(Timestamp::from_unix_milliseconds),
            truncated: times.2,
            extra: members,
        }
    }
}

proptest! {
    #[test]
    fn any_record_becomes_valid_json_in_every_form_and_stays_whole(record in any_record()) {
        let keys: Value = serde_json::from_slice(&encoded(&record)).unwrap();
        let same = |value: &Value| *value == keys;
        prop_assert!(same(&ecs(&record)["o365"]["audit"]));
        prop_assert!(same(&form("OCSF", &record)["unmapped"]));
        prop_assert!(same(&cloudevent(&record)["data"]));
        prop_assert!(same(&hec(&record, &SplunkOptions::default())["event"]));
        prop_assert!(form("Azure column", &record).is_object());
        let log = otlp(&record);
        prop_assert!(log["timeUnixNano"].as_str().unwrap().parse::<u64>().is_ok());
        prop_assert_eq!(&log["body"]["stringValue"], &String::from_utf8(encoded(&record)).unwrap());
    }
}
