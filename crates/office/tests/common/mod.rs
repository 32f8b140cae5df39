//! Records to divide and to write, and what a collector reads of them.

use actlog_core::{AuditRecord, Field, Json, Timestamp};
use actlog_office::output::{OutputOptions, to_office};
use actlog_office::{Envelope, from_office};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::{Uuid, uuid};

pub(crate) const TENANT: Uuid = uuid!("3a568f62-11ff-4e89-bee8-4d47041b0003");

pub(crate) fn envelope() -> Envelope<'static> {
    Envelope { content_type: Some("Audit.General"), received: Timestamp::parse("2026-03-03T09:00:00Z").unwrap() }
}

/// What a collector reads.
pub(crate) fn office(bytes: &[u8]) -> AuditRecord<'_> {
    from_office(bytes, &envelope()).unwrap()
}

/// The Office records of a record.
pub(crate) fn written(record: &AuditRecord<'_>, options: &OutputOptions) -> Vec<(Uuid, Vec<u8>)> {
    let mut written = Vec::new();
    to_office(record, options, &mut |id, bytes| written.push((id, bytes.to_vec()))).unwrap();
    written
}

/// A record as the source of Dynamics 365 makes it.
pub(crate) fn record() -> AuditRecord<'static> {
    let mut record = AuditRecord {
        id: uuid!("d9ffb779-758d-536a-a6b0-55f8dde50396"),
        record_type: 21,
        version: 1,
        workload: "CRM".into(),
        creation_time: Timestamp::parse("2024-11-08T08:05:11.250Z").unwrap(),
        operation: "RetrieveMultiple".into(),
        message: Some("RetrieveMultiple".into()),
        organization_id: Some(uuid!("f42a590d-a29d-4f11-8a66-6045bd056902")),
        crm_organization_unique_name: Some("unqf42a590da29def118a666045bd056".into()),
        user_id: Some("3570e963-e69c-4f11-8a6b-000d3a318589".into()),
        user_key: Some("30965b76-43d8-4300-a48f-dda5e92106ee".into()),
        user_upn: Some("ada@contoso.com".into()),
        system_user_id: Some(uuid!("3570e963-e69c-4f11-8a6b-000d3a318589")),
        client_ip: Some("10.1.2.3".into()),
        client_port: Some(443),
        result_status: Some("Success".into()),
        correlation_id: Some(uuid!("f42b5cf5-0d11-b705-c77a-dc15ee39b7c8")),
        instance_url: Some("https://contoso.crm4.dynamics.com".into()),
        item_type: Some("account".into()),
        user_agent: Some("Mozilla/5.0".into()),
        entity_name: Some("account".into()),
        query: Some(r#"<filter type="and"><condition column="ownerid" operator="eq-userid" /></filter>"#.into()),
        query_results: vec![
            uuid!("0a0d8709-711e-4811-a952-000d3a732d76"),
            uuid!("dc136b61-6c1e-4811-a952-000d3a732d76"),
        ],
        category: Some("ReadMultiple".into()),
        policy_version: Some(1),
        source: Some("dynamics".into()),
        collected_time: Some(Timestamp::parse("2026-11-23T14:52:05.679Z").unwrap()),
        ..AuditRecord::default()
    };
    record.extra.insert("Stage", 40_i64);
    record.extra.insert("OperationId", "393a7ffd-c9ad-010d-80d2-916ff8783710");
    record
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-zA-Z0-9@. /-]{0,40}",
        2 => any::<String>(),
        1 => ("[ -~]{1,10}|é|日本|🦀|\"|\\\\|\u{1}", 1_usize..2_000).prop_map(|(text, times)| text.repeat(times)),
    ]
}

fn some_text() -> impl Strategy<Value = Option<std::borrow::Cow<'static, str>>> {
    prop::option::of(any_text().prop_map(Into::into))
}

fn any_id() -> impl Strategy<Value = Uuid> {
    prop_oneof![8 => any::<u128>().prop_map(Uuid::from_u128), 1 => Just(Uuid::nil()), 1 => Just(Uuid::from_u128(7))]
}

fn any_ids() -> impl Strategy<Value = Vec<Uuid>> {
    prop_oneof![
        8 => prop::collection::vec(any_id(), 0..4),
        2 => prop::collection::vec(any_id(), 60..400),
        1 => (1000_u128..5000).prop_map(|count| (1..count).map(Uuid::from_u128).collect()),
    ]
}

fn any_value() -> impl Strategy<Value = Json<'static>> {
    let long = any_text().prop_map(|text| json!(text));
    let nested = prop::collection::vec(any_text(), 0..3).prop_map(|texts| json!([{ "texts": texts }, null, 1.5]));
    prop_oneof![
        4 => prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), Just(json!(true)), long, nested]
            .prop_map(Json::from),
        1 => "1e999|\"\\\\ud83d\"|[1-9]{1,40}|\\{\"a\":1,\"a\":2\\}|(\\[){80}(\\]){80}"
            .prop_map(|text| Json::Owned(serde_json::value::RawValue::from_string(text).unwrap())),
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Za-z]{1,12}",
        2 => "Part|Parts|Rest|Continues|PlatformCorrelationId|Raw|Extra|OfficeOperation|CorrelationId|userid|Fields|\
              Message|\
              Stage|TenantId|Category|Source|Id|RecordType|LinkedResults|AdminEvent",
        1 => any_text(),
    ]
}

/// Records of all shapes, also such as no source makes.
pub(crate) fn any_record() -> impl Strategy<Value = AuditRecord<'static>> {
    let head = (
        any::<u128>(),
        prop_oneof![6 => Just(21), 1 => Just(0), 1 => Just(6), 1 => any::<i32>()],
        any_text(),
        any_text(),
        0_i64..4_000_000_000_000,
    );
    let user = (
        some_text(),
        some_text(),
        some_text(),
        prop::option::of(any_id()),
        prop::option::of(any_id()),
        prop::option::of(0..6),
    );
    let place = (
        prop::option::of("[1-9]\\.2\\.3\\.4|::1|2001:db8::[1-9]"),
        prop::option::of(any::<u16>()),
        some_text(),
        some_text(),
        some_text(),
        some_text(),
    );
    let what = (
        some_text(),
        some_text(),
        prop::option::of(any_id()),
        prop::option::of(any_id()),
        prop::option::of(any_id()),
        some_text(),
    );
    let lists = (
        prop_oneof![
            3 => prop::collection::vec((any_text(), some_text()), 0..5),
            1 => prop::collection::vec(("[a-z]{1,8}", some_text()), 0..60),
        ],
        any_ids(),
        any_ids(),
        some_text(),
        prop_oneof![
            6 => prop::collection::vec((any_name(), any_value()), 0..6),
            1 => prop::collection::vec((any_name(), any_value()), 100..300),
        ],
    );
    let ours = (some_text(), some_text(), some_text(), any::<bool>(), some_text(), some_text());
    (head, user, place, what, lists, ours).prop_map(|(head, user, place, what, lists, ours)| {
        let mut record = AuditRecord {
            id: Uuid::from_u128(head.0 | 1),
            record_type: head.1,
            version: 1,
            workload: head.2.into(),
            operation: head.3.into(),
            creation_time: Timestamp::from_unix_milliseconds(head.4),
            user_id: user.0,
            user_key: user.1,
            user_upn: user.2,
            system_user_id: user.3,
            initiating_user_id: user.4,
            user_type: user.5,
            client_ip: place.0.map(Into::into),
            client_port: place.1,
            instance_url: place.2,
            item_url: place.3,
            user_agent: place.4,
            app_name: place.5,
            message: what.0,
            entity_name: what.1,
            entity_id: what.2,
            correlation_id: what.3,
            organization_id: what.4,
            primary_field_value: what.5,
            fields: lists.0.into_iter().map(|(name, value)| Field { name: name.into(), value }).collect(),
            query_results: lists.1,
            linked_results: lists.2,
            query: lists.3,
            category: ours.0,
            source: ours.1,
            result_status: ours.2,
            truncated: ours.3,
            object_id: ours.4,
            item_type: ours.5,
            ..AuditRecord::default()
        };
        for (name, value) in lists.4 {
            record.extra.insert(name, value);
        }
        record
    })
}
