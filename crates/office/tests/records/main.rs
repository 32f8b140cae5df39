//! Whole records of the feed and what becomes of them.
//!
//! Captures of the real feed are not part of the repository: they are read from the folder that `ACTLOG_SHARED` names
//! (else `shared` beside the workspace), and the tests on them say so when it is not there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lossless;

use actlog_core::AuditRecord;
use actlog_office::errors::lookup;
use actlog_office::{MAX_RECORD, OfficeError, from_office, record_type_name};
use actlog_testkit::fixtures;
use lossless::{RECEIVED, assert_nothing_is_lost, envelope, map};
use proptest::prelude::*;
use serde_json::{Value, json};

fn map_value(value: &Value) -> AuditRecord<'static> {
    let bytes = value.to_string();
    let mut encoded = Vec::new();
    map(bytes.as_bytes()).encode(&mut encoded).unwrap();
    AuditRecord::decode(&encoded).unwrap()
}

fn extra(record: &AuditRecord<'_>, name: &str) -> Option<Value> {
    record.extra.get(name).map(|value| serde_json::from_str(value.get()).unwrap())
}

/// A Dynamics 365 record as the feed carries it.
fn crm() -> Value {
    json!({
        "CreationTime": "2026-03-02T23:25:56", "Id": "50e01c88-2e43-4005-8be8-9ceb172e2e90",
        "Operation": "CrmDefaultActivity", "OrganizationId": "6f9bd25c-0a1f-4a1f-9c55-5a3e5ba0f7d1",
        "RecordType": 21, "ResultStatus": "Success", "UserKey": "10033FFFA49AB123", "UserType": 0, "Version": 1,
        "Workload": "CRM", "ClientIP": "131.107.1.20:50749", "ObjectId": "RetrieveMultiple account",
        "UserId": "ada@contoso.com", "CrmOrganizationUniqueName": "orgc111a6c1",
        "Fields": [{ "Name": "name", "Value": "Fourth Coffee" }, { "Name": "fax", "Value": null }],
        "InstanceUrl": "https://contoso.crm.dynamics.com/", "ItemType": "account",
        "ItemUrl": "https://contoso.crm.dynamics.com/main.aspx?etn=account", "UserAgent": "Mozilla/5.0",
        "CorrelationId": "2f0b9d6e-7a21-4a9e-9f0e-0e6c86a1c0de", "EntityId": "0a0d8709-711e-e811-a952-000d3a732d76",
        "EntityName": "account", "Message": "RetrieveMultiple", "Query": "<filter type=\"and\"></filter>",
        "QueryResults": "0a0d8709-711e-e811-a952-000d3a732d76, dc136b61-6c1e-e811-a952-000d3a732d76",
        "ServiceContextId": "9d7e1e30-94c5-4b55-9b15-5b8f5c3ad0b0", "ServiceContextIdType": "batch",
        "ServiceName": "Dynamics365", "SystemUserId": "b3c9f2b5-8f5e-4c64-b3a5-0e9f6d0c7a11",
        "UserUpn": "ada@contoso.com", "PrimaryFieldValue": "Fourth Coffee", "AppName": "Sales Hub",
        "AdditionalInfo": "more"
    })
}

#[test]
fn every_key_of_a_dynamics_record_is_filled() {
    let record = map_value(&crm());
    let expected = json!({
        "Id": "50e01c88-2e43-4005-8be8-9ceb172e2e90", "RecordType": 21, "Version": 1, "Workload": "CRM",
        "CreationTime": "2026-03-02T23:25:56Z", "Operation": "RetrieveMultiple", "Message": "RetrieveMultiple",
        "OrganizationId": "6f9bd25c-0a1f-4a1f-9c55-5a3e5ba0f7d1", "CrmOrganizationUniqueName": "orgc111a6c1",
        "UserId": "ada@contoso.com", "UserKey": "10033FFFA49AB123", "UserType": 0, "UserUpn": "ada@contoso.com",
        "SystemUserId": "b3c9f2b5-8f5e-4c64-b3a5-0e9f6d0c7a11", "ClientIP": "131.107.1.20", "ClientPort": 50749,
        "ResultStatus": "Success", "CorrelationId": "2f0b9d6e-7a21-4a9e-9f0e-0e6c86a1c0de",
        "InstanceUrl": "https://contoso.crm.dynamics.com/",
        "ItemUrl": "https://contoso.crm.dynamics.com/main.aspx?etn=account", "ItemType": "account",
        "UserAgent": "Mozilla/5.0", "EntityId": "0a0d8709-711e-e811-a952-000d3a732d76", "EntityName": "account",
        "Fields": [{ "Name": "name", "Value": "Fourth Coffee" }, { "Name": "fax", "Value": null }],
        "Query": "<filter type=\"and\"></filter>",
        "QueryResults": ["0a0d8709-711e-e811-a952-000d3a732d76", "dc136b61-6c1e-e811-a952-000d3a732d76"],
        "ServiceName": "Dynamics365", "ServiceContextId": "9d7e1e30-94c5-4b55-9b15-5b8f5c3ad0b0",
        "ServiceContextIdType": "batch", "PrimaryFieldValue": "Fourth Coffee",
        "ObjectId": "RetrieveMultiple account", "AppName": "Sales Hub", "ContentType": "Audit.General",
        "CollectedTime": RECEIVED, "Extra": { "AdditionalInfo": "more", "OfficeOperation": "CrmDefaultActivity" }
    });
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
    assert_nothing_is_lost(&crm());
}

#[test]
fn the_only_operation_that_dynamics_names_becomes_the_message() {
    let mut value = crm();
    value["Message"] = Value::Null;
    value["ObjectId"] = json!("ExportToExcel account");
    assert_eq!(map_value(&value).operation, "ExportToExcel");
    value["ObjectId"] = json!(" ");
    let record = map_value(&value);
    assert_eq!((record.operation.as_ref(), extra(&record, "OfficeOperation")), ("CrmDefaultActivity", None));
    value["Operation"] = json!("Retrieve");
    value["Message"] = json!("RetrieveMultiple");
    let record = map_value(&value);
    assert_eq!((record.operation.as_ref(), record.message.as_deref()), ("Retrieve", Some("RetrieveMultiple")));
}

#[test]
fn unlike_forms_of_a_value_give_the_same_record() {
    let (a, b) = ("0a0d8709-711e-e811-a952-000d3a732d76", "dc136b61-6c1e-e811-a952-000d3a732d76");
    let expected = map_value(&crm());
    for (member, form) in [
        ("Fields", json!(crm()["Fields"].to_string())),
        ("QueryResults", json!(format!("{a},{b}"))),
        ("QueryResults", json!([a, b])),
        ("RecordType", json!("21")),
        ("RecordType", json!(21.0)),
        ("RecordType", json!("2.1e1")),
        ("CreationTime", json!("2026-03-02 23:25:56")),
        ("CreationTime", json!("2026-03-03T00:25:56.000+01:00")),
        ("EntityId", json!("0A0D8709-711E-E811-A952-000D3A732D76")),
        ("EntityId", json!("{0a0d8709-711e-e811-a952-000d3a732d76}")),
    ] {
        let mut value = crm();
        value[member] = form.clone();
        assert_eq!(map_value(&value), expected, "{member} {form}");
        assert_nothing_is_lost(&value);
    }
    let lower = crm().as_object().unwrap().iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    let record = map_value(&Value::Object(lower));
    assert_eq!(extra(&record, "additionalinfo"), Some(json!("more")));
    assert_eq!((record.id, record.query_results.len()), (expected.id, 2));
}

#[test]
fn what_a_key_cannot_hold_stays_as_it_came() {
    for (member, value) in [
        ("ClientIP", json!("")),
        ("ClientIP", Value::Null),
        ("CorrelationId", json!("00000000-0000-0000-0000-000000000000")),
        ("EntityId", json!("")),
        ("EntityId", json!("N/A")),
        ("UserType", json!("Admin")),
        ("UserType", json!(1e12)),
        ("RecordType", json!("CRM")),
        ("OrganizationId", json!("11-aa-22-bb")),
        ("CreationTime", json!("yesterday")),
        ("CreationTime", json!("2026-03-02T23:25:56.1234567")),
        ("UserId", json!({ "Name": "Ada" })),
        ("Fields", json!("N/A")),
        ("Fields", json!([{ "Name": "name", "Value": { "deep": [1] } }])),
        ("QueryResults", json!("0a0d8709-711e-e811-a952-000d3a732d76,dc136b61-6c1e")),
        ("QueryResults", json!("")),
        ("Operation", json!(5)),
    ] {
        let mut record = crm();
        record[member] = value.clone();
        let mapped = map_value(&record);
        let kept = if member == "RecordType" {
            extra(&mapped, "Raw").map(|raw| raw[member].clone())
        } else {
            extra(&mapped, member)
        };
        assert_eq!(kept, Some(value), "{member}");
        assert_nothing_is_lost(&record);
    }
}

#[test]
fn a_record_needs_no_member_at_all() {
    let record = map_value(&json!({}));
    assert_eq!((record.operation.as_ref(), record.workload.as_ref(), record.version), ("Unknown", "Unknown", 1));
    assert_eq!(record.creation_time.to_string(), RECEIVED);
    assert_eq!(extra(&record, "Raw"), Some(json!({})));
    assert_eq!(map_value(&json!({ "RecordType": 15 })).workload, "AzureActiveDirectory");
    assert_eq!(map_value(&json!({ "RecordType": 21 })).workload, "CRM");
}

#[test]
fn the_same_record_has_the_same_id_whatever_the_order_of_its_members() {
    let id = |json: &str| map(json.as_bytes()).id;
    assert_eq!(id(r#"{"RecordType":1,"UserId":"a"}"#), id(r#"{ "UserId": "a", "RecordType" : 1 }"#));
    assert_ne!(id(r#"{"RecordType":1,"UserId":"a"}"#), id(r#"{"RecordType":1,"UserId":"b"}"#));
    assert_eq!(id(r#"{"Id":"abc-def-123","UserId":"a"}"#), id(r#"{"UserId":"b","Id":"abc-def-123"}"#));
    assert_ne!(id(r#"{"Id":"abc-def-123"}"#), id(r#"{"Id":"abc-def-123","OrganizationId":"1"}"#));
    // Also of a record that can't be taken apart.
    let many: String = (0..300).map(|number| format!(",\"member{number}\":{number}")).collect();
    assert_ne!(id(&format!(r#"{{"RecordType":1{many},"Z":1}}"#)), id(&format!(r#"{{"RecordType":1{many},"Z":2}}"#)));
    assert_ne!(id(r#"{"UserId":1,"UserId":2}"#), id(r#"{"UserId":1,"UserId":3}"#));
    for nothing in ["null", "\"\"", "\"00000000-0000-0000-0000-000000000000\"", "\"00000000000000000000000000000000\""]
    {
        let record = format!(r#"{{"Id":{nothing},"UserId":"a"}}"#);
        assert_ne!(id(&record), id(&record.replace("\"a\"", "\"b\"")), "{nothing}");
    }
}

#[test]
fn sign_ins_to_dynamics_are_told_from_others() {
    let sign_in = |changes: Value| {
        let mut record = json!({
            "CreationTime": "2026-03-02T10:00:00", "Id": "4e655d3f-35fa-42e0-b050-264b2d255c7a",
            "Operation": "UserLoggedIn", "RecordType": 15, "ResultStatus": "Success", "ClientIP": Value::Null,
            "ActorIpAddress": "1.2.3.4:443", "UserId": "ada@contoso.com", "Workload": "AzureActiveDirectory",
            "ApplicationId": "51f81489-12ee-4a9e-aaae-a2591f45987d",
            "ExtendedProperties": [{ "Name": "UserAgent", "Value": "Mozilla/5.0" }],
            "Target": [{ "ID": "00000007-0000-0000-c000-000000000000", "Type": 0 }]
        });
        for (name, value) in changes.as_object().unwrap() {
            record[name] = value.clone();
        }
        assert_nothing_is_lost(&record);
        map_value(&record)
    };
    let elsewhere = json!([{ "ID": "00000003-0000-0000-c000-000000000000", "Type": 0 }]);
    let dynamics = "00000007-0000-0000-C000-000000000000";
    for changes in [
        json!({}),
        json!({ "RecordType": 8 }),
        json!({ "Target": elsewhere, "ApplicationId": dynamics }),
        json!({ "Target": elsewhere, "ObjectId": dynamics }),
    ] {
        let record = sign_in(changes.clone());
        assert_eq!((record.operation.as_ref(), record.message.as_deref()), ("UserSignIn", Some("UserSignIn")));
        assert_eq!((record.client_ip.as_deref(), record.client_port), (Some("1.2.3.4"), Some(443)), "{changes}");
        assert_eq!(record.user_agent.as_deref(), Some("Mozilla/5.0"));
        assert_eq!(record.entity_name.as_deref(), Some("authentication"));
        assert_eq!(record.result_status.as_deref(), Some("Success"));
        assert_eq!(extra(&record, "OfficeOperation"), Some(json!("UserLoggedIn")));
    }
    let failed = sign_in(json!({ "Operation": "UserLoginFailed", "LogonError": "InvalidUserNameOrPassword" }));
    assert_eq!((failed.operation.as_ref(), failed.result_status.as_deref()), ("UserSignIn", Some("Failed")));
    assert_eq!(extra(&failed, "OfficeResultStatus"), Some(json!("Success")));
    for other in [
        json!({ "Target": elsewhere }),
        json!({ "Target": "odd" }),
        json!({ "RecordType": 8, "Operation": "Add app role assignment to service principal." }),
        json!({ "RecordType": 9 }),
    ] {
        let record = sign_in(other.clone());
        assert_eq!((record.message.as_deref(), extra(&record, "OfficeOperation")), (None, None), "{other}");
    }
}

#[test]
fn events_of_the_admin_centre_say_who_did_what_where() {
    let properties = json!([
        { "Name": "type", "Value": "PowerPlatformAdministratorActivityRecord" },
        { "Name": "powerplatform.analytics.activity.name", "Value": "LockboxRequestOperation" },
        { "Name": "powerplatform.analytics.resource.environment.id", "Value": "ed92c80e-89ef-e0c8-a9eb-98559ca07809" },
        { "Name": "powerplatform.analytics.resource.tenant.id", "Value": "3a568f62-11ff-4e89-bee8-4d47041b0003" },
        { "Name": "enduser.id", "Value": "7b7e4a3e-6b43-4d0e-8f6d-0e4e0a5f3c11" },
        { "Name": "enduser.principal_name", "Value": "ada@contoso.com" },
        { "Name": "enduser.ip_address", "Value": "[2001:db8::1]:443" },
        { "Name": "user_agent.original", "Value": "Edge" }
    ]);
    let record =
        json!({ "Id": "4e655d3f-35fa-42e0-b050-264b2d255c7a", "RecordType": 256, "PropertyCollection": properties });
    let mapped = map_value(&record);
    assert_eq!(mapped.operation, "LockboxRequestOperation");
    assert_eq!(mapped.user_id.as_deref(), Some("ada@contoso.com"));
    assert_eq!(mapped.user_key.as_deref(), Some("7b7e4a3e-6b43-4d0e-8f6d-0e4e0a5f3c11"));
    assert_eq!((mapped.client_ip.as_deref(), mapped.client_port), (Some("2001:db8::1"), Some(443)));
    assert_eq!(mapped.user_agent.as_deref(), Some("Edge"));
    assert_eq!(extra(&mapped, "EnvironmentId"), Some(json!("ed92c80e-89ef-e0c8-a9eb-98559ca07809")));
    assert_eq!(extra(&mapped, "TenantId"), Some(json!("3a568f62-11ff-4e89-bee8-4d47041b0003")));
    assert_eq!(extra(&mapped, "AdminEvent"), Some(json!("All support CRUD activities")));
    assert_eq!(extra(&mapped, "PropertyCollection"), Some(properties.clone()));
    assert_nothing_is_lost(&record);

    // The record's own members come first; the collection may also be a text.
    let record = json!({ "RecordType": 256, "Operation": "Backed up environment", "UserId": "root@contoso.com",
        "PropertyCollection": properties.to_string() });
    let mapped = map_value(&record);
    assert_eq!(
        (mapped.operation.as_ref(), mapped.user_id.as_deref()),
        ("LockboxRequestOperation", Some("root@contoso.com"))
    );
    assert_eq!(extra(&mapped, "OfficeOperation"), Some(json!("Backed up environment")));
    let plain = map_value(&json!({ "RecordType": 256, "Operation": "Backed up environment" }));
    assert_eq!(extra(&plain, "AdminEvent"), Some(json!("Backup and restore")));
}

#[test]
fn a_record_of_an_unknown_type_is_kept_whole() {
    for record_type in [json!(117), json!("155"), json!(99_999), json!(-1), json!("none"), Value::Null] {
        let record = json!({ "Id": "4e655d3f-35fa-42e0-b050-264b2d255c7a", "RecordType": record_type, "Operation": "New",
            "ClientIP": "1.2.3.4:5", "Nested": { "a": [1, null] } });
        let mapped = map_value(&record);
        assert_eq!(extra(&mapped, "Raw"), Some(record.clone()));
        assert_eq!((mapped.operation.as_ref(), mapped.client_port), ("New", Some(5)));
        assert_eq!(mapped.extra.iter().count(), 1);
        assert_nothing_is_lost(&record);
    }
}

#[test]
fn every_known_type_is_taken_apart_and_its_own_members_stay() {
    for record_type in (0..600).filter(|number| record_type_name(*number).is_some()) {
        let record = json!({ "Id": "4e655d3f-35fa-42e0-b050-264b2d255c7a", "RecordType": record_type, "UserType": 2,
            "Version": 1, "Workload": "Exchange", "Operation": "Set-Mailbox", "Parameters": [{ "Name": "a", "Value": "b" }],
            "Message": "what it says", "Scope": 0, "AppAccessContext": { "AADSessionId": "x" }, "Gone": null });
        let mapped = map_value(&record);
        assert_eq!((mapped.record_type, extra(&mapped, "Raw")), (record_type, None));
        assert_eq!(extra(&mapped, "Parameters"), Some(record["Parameters"].clone()), "{record_type}");
        assert_nothing_is_lost(&record);
    }
}

#[test]
fn what_readers_of_json_would_stumble_over_is_kept_as_a_text() {
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let many: String = (0..300).map(|number| format!(",\"member{number}\":{number}")).collect();
    for members in [
        ",\"Deep\":".to_owned() + &deep,
        ",\"Number\":1e999".to_owned(),
        r#","Half":"\ud83d""#.to_owned(),
        r#","UserId":"\ud83d""#.to_owned(),
        r#","Twice":1,"Twice":2"#.to_owned(),
        r#","id":"x""#.to_owned(),
        r#","Raw":"x""#.to_owned(),
        r#","OfficeOperation":"x""#.to_owned(),
        many,
    ] {
        let record =
            format!(r#"{{"Id":"4e655d3f-35fa-42e0-b050-264b2d255c7a","RecordType":21,"Message":"Win"{members}}}"#);
        let mapped = map(record.as_bytes());
        assert_eq!(mapped.operation, "Win");
        assert_eq!(extra(&mapped, "Raw"), Some(json!(record)));
        assert_eq!(mapped.extra.iter().count(), 1, "{mapped:?}");
        let mut bytes = Vec::new();
        mapped.encode(&mut bytes).unwrap();
        assert!(serde_json::from_slice::<Value>(&bytes).is_ok(), "any reader can read it");
    }
    let fits = format!("{}{}", "[".repeat(64), "]".repeat(64));
    assert!(map(format!(r#"{{"RecordType":21,"Deep":{fits}}}"#).as_bytes()).extra.get("Raw").is_none());
}

#[test]
fn what_is_no_record_is_refused_with_a_reason() {
    for bytes in [&b""[..], b"[]", b"5", b"null", b"{", b"{}{}", b"{\"a\":\"\xff\"}", b"{\"a\":01}", b"{\"a\":\"\n\"}"]
    {
        let error = from_office(bytes, &envelope()).unwrap_err();
        assert!(matches!(error, OfficeError::NotARecord { .. }), "{error}");
    }
    let long = vec![b' '; MAX_RECORD + 1];
    assert_eq!(from_office(&long, &envelope()), Err(OfficeError::TooLarge { bytes: MAX_RECORD + 1 }));
    assert!(from_office(b"\xef\xbb\xbf {} \r\n", &envelope()).is_ok());
}

#[test]
fn nothing_of_a_real_record_is_lost() {
    let Some(shared) = fixtures::shared() else { actlog_testkit::skip!("no captures of the feed") };
    let folder = shared.join("fixtures/office365");
    let crm: Value =
        serde_json::from_slice(&std::fs::read(folder.join("crm/crm_recordtype21_issue134.json")).unwrap()).unwrap();
    let record = map_value(&crm["record"]);
    assert_eq!(record.operation, "UpdateRibbonClientMetadata");
    assert_eq!((record.client_ip.as_deref(), record.client_port), (Some("52.163.88.69"), Some(50749)));
    assert_eq!((record.correlation_id, record.entity_id), (None, None));
    assert_eq!((record.entity_name.as_deref(), record.user_id.as_deref()), (Some("Unknown"), Some("Unknown")));

    let lines = std::fs::read_to_string(folder.join("panther/microsoft365_rule_tests.ndjson")).unwrap();
    let blob = std::fs::read(folder.join("ms-docs/content_blob_reference_sample.json")).unwrap();
    let mut records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    records.extend(serde_json::from_slice::<Vec<Value>>(&blob).unwrap());
    records.push(crm["record"].clone());
    let lockbox =
        std::fs::read(shared.join("fixtures/dataverse/audit/purview_lockbox_propertycollection.json")).unwrap();
    records
        .push(json!({ "RecordType": 256, "PropertyCollection": serde_json::from_slice::<Value>(&lockbox).unwrap() }));
    assert!(records.len() > 20, "{}", records.len());
    for record in &records {
        assert_nothing_is_lost(record);
    }
}

#[test]
fn the_tables_hold_what_the_reference_lists() {
    let Some(shared) = fixtures::shared() else { actlog_testkit::skip!("no reference of the feed") };
    let read = |name: &str| std::fs::read_to_string(shared.join("fixtures/office365/schema").join(name)).unwrap();
    // Descriptions run over several lines; those don't begin with a code or number and a comma.
    let first = |line: &str| line.split_once(',').map(|(first, _)| first.to_owned());
    let codes: Vec<_> = read("error_codes_documented.csv").lines().skip(1).filter_map(first).collect();
    assert_eq!(codes.len(), 22);
    for code in codes {
        assert!(lookup(&code).is_some(), "{code}");
    }
    let types: Vec<i32> =
        read("audit_log_record_types.csv").lines().filter_map(first).filter_map(|number| number.parse().ok()).collect();
    assert_eq!(types.len(), 257);
    assert_eq!(types, (0..1000).filter(|number| record_type_name(*number).is_some()).collect::<Vec<_>>());
}

/// Any JSON value, small.
fn any_value() -> impl Strategy<Value = Value> {
    let id = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        any::<String>().prop_map(Value::from),
        "(|N/A|Unknown|00000000-0000-0000-0000-000000000000|21|15|256|1e2|2026-03-02T23:25:56(Z|.12|.1234567)?)"
            .prop_map(Value::from),
        id.prop_map(Value::from),
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}(:[0-9]{1,6})?|\\[?::1\\]?(:[0-9]{1,5})?".prop_map(Value::from),
        prop::collection::vec(id, 0..4).prop_map(|ids| Value::from(ids.join(", "))),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,5}|Name|Value", inner.clone()), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
            prop::collection::vec(("[a-z]{1,5}", inner), 0..4).prop_map(|fields| {
                fields.into_iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect()
            }),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    let known = "Id|RecordType|Version|Workload|CreationTime|Operation|OrganizationId|UserId|UserKey|UserType|ClientIP|\
                 ResultStatus|CorrelationId|ItemType|UserAgent|ObjectId|Message|CrmOrganizationUniqueName|UserUpn|\
                 SystemUserId|EntityId|EntityName|Fields|Query|QueryResults|ServiceName|AppName|clientip|Extra|Raw|\
                 OfficeOperation|EnvironmentId|PropertyCollection|Target|ApplicationId|ExtendedProperties|ActorIpAddress";
    prop_oneof![4 => known, 1 => ".{0,12}"]
}

proptest! {
    #[test]
    fn nothing_of_any_record_is_lost(
        members in prop::collection::vec((any_name(), any_value()), 0..24),
        record_type in prop_oneof![Just(json!(21)), Just(json!("15")), Just(json!(256)), Just(json!(8)), any_value()],
    ) {
        let mut members: serde_json::Map<String, Value> = members.into_iter().collect();
        members.insert("RecordType".to_owned(), record_type);
        assert_nothing_is_lost(&Value::Object(members));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_office(&bytes, &envelope());
    }

    #[test]
    fn no_damage_to_a_record_makes_it_panic(place in 0_usize..1400, byte in any::<u8>(), cut in 0_usize..1400) {
        let mut bytes = crm().to_string().into_bytes();
        let length = bytes.len();
        bytes[place % length] = byte;
        bytes.truncate(length - cut % length);
        if let Ok(record) = from_office(&bytes, &envelope()) {
            let mut encoded = Vec::new();
            record.encode(&mut encoded).unwrap();
            prop_assert_eq!(AuditRecord::decode(&encoded).unwrap(), record);
        }
    }
}
