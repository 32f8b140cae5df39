//! Records of every kind.

#![allow(dead_code, reason = "each test file uses a part of it")]

use actlog_core::{AuditRecord, Extra, Field, Json, Timestamp, WORKLOAD_ACTLOG, WORKLOAD_CRM};
use actlog_dataverse::MappingOptions;
use actlog_testkit::fixtures;
use uuid::Uuid;

/// A record with every key; no two keys have the same value.
pub(crate) fn full(operation: &'static str, category: &'static str) -> AuditRecord<'static> {
    let id = |number: u128| Uuid::from_u128(0x5f3a_0000_0000_4000_8000_0000_0000_0000 + number);
    let mut extra = Extra::default();
    extra.insert("Part", 2_u64);
    extra.insert("Note", "a note");
    extra.insert("Depth", Json::from(serde_json::json!({ "a": [1, { "b": null }] })));
    // Every key is named, so that this no longer compiles when the record gets another.
    AuditRecord {
        id: id(1),
        record_type: 21,
        version: 1,
        workload: WORKLOAD_CRM.into(),
        creation_time: Timestamp::from_unix_milliseconds(1_520_033_156_250),
        operation: operation.into(),
        message: Some(format!("{operation} as a message").into()),
        organization_id: Some(id(2)),
        crm_organization_unique_name: Some("contoso".into()),
        user_id: Some("kim@contoso.com".into()),
        user_key: Some("10033FFF80D25F77".into()),
        user_type: Some(2),
        user_upn: Some("kim.upn@contoso.com".into()),
        system_user_id: Some(id(3)),
        initiating_user_id: Some(id(4)),
        client_ip: Some("2001:db8::7".into()),
        client_port: Some(51_234),
        result_status: Some("Success".into()),
        correlation_id: Some(id(5)),
        instance_url: Some("https://contoso.crm.dynamics.com/".into()),
        item_url: Some("https://contoso.crm.dynamics.com/main.aspx?etn=account".into()),
        item_type: Some("account as a type".into()),
        user_agent: Some("Mozilla/5.0 (X11)".into()),
        entity_id: Some(id(6)),
        entity_name: Some("account".into()),
        fields: vec![Field::new("name", "two\nlines"), Field { name: "fax".into(), value: None }],
        query: Some(r#"<filter type="and"><condition column="statecode" operator="eq" value="0" /></filter>"#.into()),
        query_results: vec![id(7), id(8)],
        linked_results: vec![id(9), id(10)],
        service_name: Some("the service".into()),
        service_context_id: Some("the context".into()),
        service_context_id_type: Some("type of the context".into()),
        primary_field_value: Some("Contoso Ltd".into()),
        object_id: Some("the object".into()),
        app_name: Some("Sales Hub".into()),
        content_type: Some("Audit.General".into()),
        category: Some(category.into()),
        activity: Some("Accessed out-of-box entity".into()),
        policy_version: Some(17),
        source: Some("dynamics".into()),
        collected_time: Some(Timestamp::from_unix_milliseconds(1_520_033_157_500)),
        truncated: true,
        extra,
    }
}

/// A record with what every record has, and with nothing in it.
pub(crate) fn bare() -> AuditRecord<'static> {
    AuditRecord::default()
}

/// Every message of the SDK on entities of each kind; other products; records with little in them; nasty ones.
pub(crate) fn samples() -> Vec<AuditRecord<'static>> {
    let mut samples = vec![bare(), full("RetrieveMultiple", "ReadMultiple"), full("WinOpportunity", "Business")];
    for message in actlog_dataverse::tables::messages() {
        let category = actlog_policy::Category::of(message.request, None).as_str();
        for entity in [None, Some("account"), Some("systemuser"), Some("team"), Some("role"), Some("organization")] {
            samples.push(AuditRecord {
                workload: WORKLOAD_CRM.into(),
                record_type: 21,
                operation: message.request.into(),
                category: Some(category.into()),
                entity_name: entity.map(Into::into),
                ..bare()
            });
        }
        samples.push(full(message.request, category));
    }
    for relationship in ["systemuserroles_association", "teamroles_association", "other"] {
        for (operation, entity) in [("Associate", "systemuser"), ("Disassociate", "systemuser"), ("Associate", "team")]
        {
            let fields = vec![Field::new("relationship", relationship)];
            let entity_name = Some(entity.into());
            let record = AuditRecord { fields, entity_name, ..full(operation, "Relationship") };
            samples.push(AuditRecord { linked_results: Vec::new(), ..record.clone() });
            samples.push(record);
        }
    }
    for operation in ["AddPrivilegesRole", "RemovePrivilegeRole", "AddMembersTeam", "RemoveMembersTeam"] {
        let mut record = full(operation, "AdminSecurity");
        record.linked_results.truncate(1);
        samples.push(record.clone());
        record.linked_results.clear();
        record.fields = vec![Field::new("privileges", "prvReadAccount Global, prvWriteAccount Local")];
        samples.push(record);
    }
    for (workload, operation, category) in [
        ("AzureActiveDirectory", "UserLoggedIn", None),
        ("AzureActiveDirectory", "UserLoginFailed", Some("SignIn")),
        ("CRM", "UserSignIn", Some("SignIn")),
        ("CRM", "UserSignOut", Some("SignIn")),
        ("SharePoint", "FileAccessed", Some("Other")),
        ("Exchange", "Set-Mailbox", None),
        ("SocialEngagement", "Rename", Some("Update")),
        ("SocialEngagement", "EditRole", Some("AdminSecurity")),
        ("PowerPlatform", "EnvironmentBackup", Some("AdminOrganization")),
        (WORKLOAD_ACTLOG, "Search", None),
        ("", "", Some("A category of somebody's own")),
    ] {
        let (workload, category) = (workload.into(), category.map(Into::into));
        let little = AuditRecord { workload, operation: operation.into(), category, ..bare() };
        let AuditRecord { workload, category, .. } = little.clone();
        samples.push(little);
        for (client_ip, user) in [("asyncservice", "Unknown"), ("203.0.113.7:443", "CONTOSO\\kim"), ("", "@")] {
            samples.push(AuditRecord {
                workload: workload.clone(),
                category: category.clone(),
                client_ip: Some(client_ip.into()),
                client_port: None,
                user_id: Some(user.into()),
                user_upn: None,
                user_key: None,
                system_user_id: None,
                result_status: Some(if user == "@" { "rsProcessingAborted" } else { "Failed" }.into()),
                ..full(operation, "")
            });
        }
    }
    for user_type in -1..10 {
        samples.push(AuditRecord { user_type: Some(user_type), ..full("Retrieve", "Read") });
    }
    for operation in ["Retrieve", "WhoAmI"] {
        // Only names that stand for nothing.
        samples.push(AuditRecord {
            workload: WORKLOAD_CRM.into(),
            operation: operation.into(),
            entity_name: Some("Unknown".into()),
            user_id: Some("".into()),
            client_ip: Some("".into()),
            user_agent: Some("".into()),
            item_url: Some("".into()),
            query: Some("".into()),
            result_status: Some("".into()),
            ..bare()
        });
    }
    samples.extend(actlog_testkit::records::Records::new(7).nasty().take(200));
    samples.extend(captured());
    samples
}

/// The records of real captures, where there are any.
fn captured() -> Vec<AuditRecord<'static>> {
    let (Some(shared), Some(contexts)) = (fixtures::shared(), fixtures::webhook_captures()) else {
        fixtures::say_skipped(format_args!("the records of real captures: there are none"));
        return Vec::new();
    };
    let received = Timestamp::from_unix_milliseconds(1_520_033_157_500);
    let mut records = Vec::new();
    for capture in &contexts {
        let envelope = actlog_dataverse::Envelope::new(received);
        // Some captures are fragments that name no message; the source refuses those.
        let Ok(record) = actlog_dataverse::map_context(&capture.bytes, &envelope, &MappingOptions::default()) else {
            continue;
        };
        let category = actlog_policy::Category::of(&record.operation, record.message.as_deref()).as_str();
        records.push(owned(&AuditRecord { category: Some(category.into()), ..record }));
    }
    let file = shared.join("fixtures/office365/panther/microsoft365_rule_tests.ndjson");
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let envelope = actlog_office::Envelope { content_type: Some("Audit.General"), received };
        records.push(owned(&actlog_office::from_office(line.as_bytes(), &envelope).unwrap()));
    }
    assert!(records.len() > 40, "{}", records.len());
    records
}

fn owned(record: &AuditRecord<'_>) -> AuditRecord<'static> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    AuditRecord::decode(&bytes).unwrap()
}
