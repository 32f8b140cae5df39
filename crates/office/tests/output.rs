//! Office records that are made of records.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use actlog_core::{AuditRecord, Field, Json};
use actlog_office::output::{Mode, OutputOptions, content_type, to_office};
use actlog_office::split::reassemble;
use actlog_office::{ContentType, from_office};
use actlog_testkit::fixtures;
use common::{TENANT, any_record, envelope, office, record, written};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

const ID: &str = "4e655d3f-35fa-42e0-b050-264b2d255c7a";

fn options(mode: Mode) -> OutputOptions {
    OutputOptions { mode, max_record_bytes: 3072, tenant: TENANT }
}

/// The one Office record of a record.
fn text(record: &AuditRecord<'_>, mode: Mode) -> String {
    let mut written = written(record, &options(mode));
    assert_eq!(written.len(), 1);
    String::from_utf8(written.pop().unwrap().1).unwrap()
}

fn value(record: &AuditRecord<'_>, mode: Mode) -> Value {
    serde_json::from_str(&text(record, mode)).unwrap()
}

#[test]
fn a_record_is_told_in_the_words_of_the_specification() {
    let expected = concat!(
        r#"{"CreationTime":"2024-11-08T08:05:11","Id":"d9ffb779-758d-536a-a6b0-55f8dde50396","#,
        r#""Operation":"RetrieveMultiple","OrganizationId":"f42a590d-a29d-4f11-8a66-6045bd056902","RecordType":21,"#,
        r#""ResultStatus":"Success","UserKey":"30965b76-43d8-4300-a48f-dda5e92106ee","UserType":0,"Version":1,"#,
        r#""Workload":"CRM","ClientIP":"10.1.2.3","UserId":"3570e963-e69c-4f11-8a6b-000d3a318589","#,
        r#""CrmOrganizationUniqueName":"unqf42a590da29def118a666045bd056","Fields":[],"#,
        r#""InstanceUrl":"https://contoso.crm4.dynamics.com","ItemType":"account","UserAgent":"Mozilla/5.0","#,
        r#""CorrelationId":"f42b5cf5-0d11-b705-c77a-dc15ee39b7c8","EntityId":"00000000-0000-0000-0000-000000000000","#,
        r#""EntityName":"account","Message":"RetrieveMultiple","#,
        r#""Query":"<filter type=\"and\"><condition column=\"ownerid\" operator=\"eq-userid\" /></filter>","#,
        r#""QueryResults":"0a0d8709-711e-4811-a952-000d3a732d76,dc136b61-6c1e-4811-a952-000d3a732d76","#,
        r#""SystemUserId":"3570e963-e69c-4f11-8a6b-000d3a318589","UserUpn":"ada@contoso.com","#,
        r#""TenantId":"3a568f62-11ff-4e89-bee8-4d47041b0003","ClientPort":443,"Category":"ReadMultiple","#,
        r#""PolicyVersion":1,"Source":"dynamics","CollectedTime":"2026-11-23T14:52:05.679Z","Stage":40,"#,
        r#""OperationId":"393a7ffd-c9ad-010d-80d2-916ff8783710"}"#
    );
    assert_eq!(text(&record(), Mode::Spec), expected);
}

#[test]
fn a_record_is_told_as_the_service_was_seen_to_tell_it() {
    let expected = concat!(
        r#"{"CreationTime":"2024-11-08T08:05:11","Id":"d9ffb779-758d-536a-a6b0-55f8dde50396","#,
        r#""Operation":"CrmDefaultActivity","OrganizationId":"3a568f62-11ff-4e89-bee8-4d47041b0003","RecordType":21,"#,
        r#""ResultStatus":"Success","UserKey":"30965b76-43d8-4300-a48f-dda5e92106ee","UserType":0,"Version":1,"#,
        r#""Workload":"CRM","ClientIP":"10.1.2.3","ObjectId":"RetrieveMultiple account","UserId":"ada@contoso.com","#,
        r#""CrmOrganizationUniqueName":"unqf42a590da29def118a666045bd056","Fields":[],"#,
        r#""InstanceUrl":"https://contoso.crm4.dynamics.com","ItemType":"Dynamics365","#,
        r#""ItemUrl":"https://contoso.crm4.dynamics.com","UserAgent":"Mozilla/5.0","#,
        r#""CorrelationId":"f42b5cf5-0d11-b705-c77a-dc15ee39b7c8","EntityId":"00000000-0000-0000-0000-000000000000","#,
        r#""EntityName":"account","Message":"RetrieveMultiple","#,
        r#""Query":"<filter type=\"and\"><condition column=\"ownerid\" operator=\"eq-userid\" /></filter>","#,
        r#""QueryResults":"0a0d8709-711e-4811-a952-000d3a732d76,dc136b61-6c1e-4811-a952-000d3a732d76","#,
        r#""SystemUserId":"3570e963-e69c-4f11-8a6b-000d3a318589","UserUpn":"ada@contoso.com"}"#
    );
    assert_eq!(text(&record(), Mode::Observed), expected);
}

#[test]
fn what_nothing_tells_is_written_as_office_writes_it() {
    let nothing = AuditRecord {
        id: Uuid::max(),
        record_type: 21,
        version: 1,
        operation: "UpdateRibbonClientMetadata".into(),
        workload: "CRM".into(),
        ..AuditRecord::default()
    };
    let observed = value(&nothing, Mode::Observed);
    for (name, expected) in [
        ("UserKey", json!("Unknown")),
        ("UserId", json!("Unknown")),
        ("UserType", json!(0)),
        ("EntityName", json!("Unknown")),
        ("CrmOrganizationUniqueName", json!("Unknown")),
        ("InstanceUrl", json!("Unknown")),
        ("EntityId", json!(Uuid::nil())),
        ("CorrelationId", json!(Uuid::nil())),
        ("ObjectId", json!("UpdateRibbonClientMetadata ")),
        ("Fields", json!([])),
        ("Message", json!("UpdateRibbonClientMetadata")),
        // Nobody knows that it succeeded, or from where it came.
        ("ResultStatus", Value::Null),
        ("ClientIP", Value::Null),
    ] {
        assert_eq!(observed[name], expected, "{name}");
    }
    let spec = value(&nothing, Mode::Spec);
    assert_eq!(
        (&spec["OrganizationId"], &spec["CorrelationId"], &spec["ObjectId"]),
        (&json!(Uuid::nil()), &Value::Null, &Value::Null)
    );
}

#[test]
fn every_member_of_the_connector_s_list_has_its_type() {
    let Some(shared) = fixtures::shared() else { actlog_testkit::skip!("no list of the members") };
    let list = std::fs::read_to_string(shared.join("fixtures/office365/crm/record_fields_ms_connector.csv")).unwrap();
    let mut whole = record();
    whole.fields = vec![Field::new("name", "Fourth Coffee")];
    whole.app_name = Some("Sales".into());
    whole.primary_field_value = Some("Fourth Coffee".into());
    whole.service_name = Some("s".into());
    whole.service_context_id = Some("c".into());
    whole.service_context_id_type = Some("t".into());
    let types: std::collections::HashMap<_, _> = list.lines().skip(1).filter_map(|line| line.split_once(',')).collect();
    assert_eq!(types.len(), 32);
    let observed = value(&whole, Mode::Observed);
    for (name, value) in observed.as_object().unwrap() {
        match types.get(name.as_str()) {
            Some(&"int") => assert!(value.is_i64(), "{name}"),
            Some(_) => assert!(value.is_string(), "{name}"),
            None => assert_eq!(name, "Fields", "the list leaves out only this"),
        }
    }
    let absent: Vec<_> = types.keys().filter(|name| observed.get(**name).is_none()).collect();
    assert_eq!(absent, [&"AdditionalInfo"], "nothing that we know is in it");
}

#[test]
fn the_real_record_goes_out_with_the_members_that_it_came_with_in_their_order() {
    let Some(shared) = fixtures::shared() else { actlog_testkit::skip!("no captures of the feed") };
    let file = std::fs::read_to_string(shared.join("fixtures/office365/crm/crm_recordtype21_issue134.json")).unwrap();
    let Value::Object(file) = serde_json::from_str(&file).unwrap() else { panic!("no object") };
    let real = file["record"].to_string();
    for mode in [Mode::Spec, Mode::Observed] {
        let out = value(&office(real.as_bytes()), mode);
        assert_eq!(out, file["record"]);
    }
    // What we make of one of our own has the same members, in the order of the file.
    let file = std::fs::read_to_string(shared.join("fixtures/office365/crm/crm_recordtype21_issue134.json")).unwrap();
    let own = text(&record(), Mode::Observed);
    let names = file.lines().filter_map(|line| line.strip_prefix("  \"")?.split_once('"')).map(|(name, _)| name);
    let places: Vec<_> =
        names.map(|name| own.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name}"))).collect();
    assert!(places.len() > 20 && places.is_sorted(), "{places:?}");
}

#[test]
fn what_came_from_office_goes_out_as_it_came() {
    for body in [
        json!({ "Id": ID, "RecordType": 21, "Version": 1, "Workload": "CRM", "CreationTime": "2019-12-24T06:01:09",
            "Operation": "CrmDefaultActivity", "Message": "Retrieve", "ClientIP": "52.163.88.69:50749",
            "EntityId": Uuid::nil(),
            "QueryResults": "N/A", "Fields": [], "AdditionalInfo": "", "New": { "a": [1] } }),
        json!({ "Id": ID, "RecordType": 2, "Version": 1, "Workload": "Exchange", "CreationTime": "2019-12-24T06:01:09",
            "Operation": "Set-Mailbox", "Parameters": [{ "Name": "a", "Value": "b" }], "Message": "m", "ClientIP": null,
            "ClientIPAddress": "::1" }),
        json!({ "Id": ID, "RecordType": 99_999, "Operation": "New", "ClientIP": "1.2.3.4:5" }),
        json!({ "Id": "", "RecordType": 6, "Operation": "FileAccessed", "CreationTime": "2019-12-24T06:01:09",
            "Version": 1, "Workload": "SharePoint" }),
        json!({ "Id": "abc", "RecordType": "21", "Operation": "CrmDefaultActivity", "Message": "Win",
            "CreationTime": "2019-12-24T06:01:09.5",
            "Version": 1, "Workload": "CRM", "Fields": [] }),
    ] {
        let bytes = body.to_string();
        let mut expected = body.clone();
        if body["RecordType"] == "21" {
            expected["RecordType"] = json!(21);
            expected["CreationTime"] = json!("2019-12-24T06:01:09.500");
        }
        let read = office(bytes.as_bytes());
        if body["Id"] == "" {
            expected["Id"] = json!(read.id);
        }
        assert_eq!(value(&read, Mode::Spec), expected);
    }
    // A sign-in is told in Office's words again, with the address that was found in it.
    let sign_in = json!({ "Id": ID, "RecordType": 15, "Version": 1, "Workload": "AzureActiveDirectory",
        "CreationTime": "2026-03-02T10:00:00", "Operation": "UserLoginFailed", "ResultStatus": "Success",
        "ActorIpAddress": "1.2.3.4",
        "ApplicationId": "00000007-0000-0000-c000-000000000000" });
    let mut expected = sign_in.clone();
    expected["ClientIP"] = json!("1.2.3.4");
    let bytes = sign_in.to_string();
    let read = office(bytes.as_bytes());
    assert_eq!(read.operation, "UserSignIn");
    assert_eq!(value(&read, Mode::Observed), expected);
}

#[test]
fn a_record_of_another_product_is_not_divided_at_3_kb() {
    let body = |bytes: usize| {
        json!({ "Id": ID, "RecordType": 2, "Operation": "Set-Mailbox", "Parameters": "p".repeat(bytes) }).to_string()
    };
    assert_eq!(written(&office(body(60_000).as_bytes()), &options(Mode::Spec)).len(), 1);
    let body = body(300_000);
    let whole = office(body.as_bytes());
    let parts = written(&whole, &options(Mode::Spec));
    assert!(parts.len() >= 5 && parts.iter().all(|(_, part)| part.len() <= 65_536), "{}", parts.len());
    let parts: Vec<_> = parts.iter().map(|(_, part)| office(part)).collect();
    assert_eq!(reassemble(&parts).unwrap(), whole);
}

#[test]
fn what_readers_would_stumble_over_is_never_a_member() {
    let mut whole = record();
    for (name, text) in [
        ("Huge", "1e999"),
        ("Half", r#""\ud83d""#),
        ("Deep", &("[".repeat(90) + &"]".repeat(90))),
        ("operation", "1"),
        ("Raw2", "{}"),
    ] {
        whole.extra.insert(name, Json::Owned(serde_json::value::RawValue::from_string(text.to_owned()).unwrap()));
    }
    let out = value(&whole, Mode::Spec);
    let remainder = out["Extra"].as_str().unwrap();
    for name in ["Huge", "Half", "Deep", "operation"] {
        assert!(remainder.contains(&format!("\"{name}\":")) && out.get(name).is_none(), "{name}");
    }
    assert_eq!(out["Raw2"], json!({}));
    // Also where it claims to be from Office.
    for raw in [json!("no json"), json!("{\"a\":1e999}"), json!("{} {}"), json!([1]), json!(5)] {
        let mut claimed = record();
        claimed.extra.insert("Raw", raw);
        assert_eq!(value(&claimed, Mode::Spec)["Id"], json!(claimed.id));
    }
    for mode in [Mode::Spec, Mode::Observed] {
        let many: String = (0..100_000).map(|number| format!(",\"m{number}\":{number}")).collect();
        let json = format!(
            r#"{{"Id":"{}","RecordType":21,"Version":1,"Workload":"CRM","Operation":"U",
                "CreationTime":"2026-03-03T09:00:00Z","ContentType":"Audit.General","Extra":{{{}}}}}"#,
            Uuid::max(),
            &many[1..]
        );
        let mut count = 0;
        to_office(&AuditRecord::decode(json.as_bytes()).unwrap(), &options(mode), &mut |_, part| {
            count += usize::from(part.len() <= 3072)
        })
        .unwrap();
        assert!(count > 0);
    }
}

#[test]
fn records_keep_their_content_type() {
    let of = |name: Option<&'static str>| content_type(&AuditRecord { content_type: name.map(Into::into), ..record() });
    assert_eq!(of(None), ContentType::General);
    assert_eq!(of(Some("Audit.Exchange")), ContentType::Exchange);
    assert_eq!(of(Some("dlp.all")), ContentType::Dlp);
    assert_eq!(of(Some("Audit.New")), ContentType::General);
}

fn any_member() -> impl Strategy<Value = (String, Value)> {
    let name = "Id|RecordType|Version|Workload|CreationTime|Operation|OrganizationId|UserId|UserKey|UserType|ClientIP|\
                ResultStatus|\
                CorrelationId|ItemType|UserAgent|ObjectId|Message|UserUpn|SystemUserId|EntityId|EntityName|Fields|\
                Query|QueryResults|LinkedResults|AppName|clientip|Extra|EnvironmentId|PropertyCollection|Target|\
                ApplicationId|\
                ExtendedProperties|ActorIpAddress|Part|Parts|Rest|[A-Za-z]{1,9}";
    let property = "[a-z]{1,5}|user_agent.original|enduser.id|powerplatform.analytics.activity.name";
    let value = prop_oneof![
        Just(Value::Null),
        Just(json!("CrmDefaultActivity")),
        Just(json!("00000007-0000-0000-c000-000000000000")),
        any::<i32>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "(|N/A|21|1e2|2026-03-02T23:25:56(Z|.12|.1234567)?|1.2.3.4:5|\\[::1\\]:7|Win|UserLoggedIn|UserLoginFailed)"
            .prop_map(Value::from),
        Just(json!(Uuid::nil())),
        any::<u128>().prop_map(|id| json!(Uuid::from_u128(id))),
        prop::collection::vec(any::<u128>(), 0..4).prop_map(|ids| ids
            .iter()
            .map(|id| Uuid::from_u128(*id).to_string())
            .collect::<Vec<_>>()
            .join(",")
            .into()),
        prop::collection::vec((property, any::<Option<String>>()), 0..4).prop_map(|fields| {
            fields.into_iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect()
        }),
        prop::collection::vec(any::<f64>(), 0..3).prop_map(|numbers| json!({ "a": numbers })),
    ];
    (name, value)
}

proptest! {
    #[test]
    fn what_was_read_from_office_is_read_the_same_again(
        members in prop::collection::vec(any_member(), 0..24),
        record_type in prop_oneof![Just(21), Just(256), Just(15), Just(8), Just(6), any::<i32>()],
        mode in prop_oneof![Just(Mode::Spec), Just(Mode::Observed)],
    ) {
        // Only Operation says so.
        let is_possible = |(name, value): &(String, Value)| name == "Operation" || value != "CrmDefaultActivity";
        let mut members: serde_json::Map<String, Value> = members.into_iter().filter(is_possible).collect();
        members.insert("RecordType".to_owned(), json!(record_type));
        let bytes = Value::Object(members).to_string();
        let read = office(bytes.as_bytes());
        let written = written(&read, &options(mode));
        prop_assert_eq!(written.len(), 1);
        let again = from_office(&written[0].1, &envelope()).unwrap();
        let (mut again, mut read) = (again, read.clone());
        // Where the record had no Id that says something, it has ours now; a native one that is no GUID makes an Id
        // with the OrganizationId's spelling.
        let native = read.extra.get("Id").map(|id| id.get().to_owned());
        let nothing = ["null", "\"\"", "\"00000000-0000-0000-0000-000000000000\""];
        if native.is_some_and(|id| nothing.contains(&id.as_str())) {
            read.extra.retain(|name, _| name != "Id");
        } else if read.extra.get("Id").is_some() {
            again.id = read.id;
        }
        prop_assert_eq!(again, read);
    }

    #[test]
    fn every_record_is_valid_json_with_the_mandatory_members(
        record in any_record(),
        mode in prop_oneof![Just(Mode::Spec), Just(Mode::Observed)],
    ) {
        let mut record = record;
        // What has these is taken for a record from Office, which goes out as it came.
        record.extra.retain(|name, _| name != "OfficeOperation" && name != "Raw");
        for (id, bytes) in written(&record, &options(mode)) {
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            for name in [
                "Id", "RecordType", "CreationTime", "Operation", "OrganizationId", "UserType", "UserKey", "Workload",
                "UserId", "Version",
            ] {
                prop_assert!(value.get(name).is_some(), "{} in {}", name, value);
            }
            prop_assert_eq!(value["Id"].as_str().unwrap(), id.to_string());
        }
    }
}
