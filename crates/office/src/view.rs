//! A record made from another, text by text; and its texts, one by one.

use std::borrow::Cow;

use actlog_core::{AuditRecord, Extra, Field};

/// The record without Fields, Query, lists of ids and Extra, all its texts borrowed.
pub(crate) fn head<'r>(record: &'r AuditRecord<'_>) -> AuditRecord<'r> {
    rebuild(record, Cow::Borrowed)
}

/// The keys that Office has members for, all texts borrowed: without Extra, and without what only actlog knows.
pub(crate) fn office_keys<'r>(record: &'r AuditRecord<'_>) -> AuditRecord<'r> {
    AuditRecord {
        initiating_user_id: None,
        content_type: None,
        category: None,
        activity: None,
        policy_version: None,
        source: None,
        collected_time: None,
        truncated: false,
        fields: record.fields.iter().map(|field| convert(field, Cow::Borrowed)).collect(),
        query: record.query.as_deref().map(Cow::Borrowed),
        query_results: record.query_results.clone(),
        linked_results: record.linked_results.clone(),
        ..head(record)
    }
}

/// What [`head`] gives, with texts of its own.
pub(crate) fn owned_head(record: &AuditRecord<'_>) -> AuditRecord<'static> {
    rebuild(record, |text| Cow::Owned(text.to_owned()))
}

/// The same column and value.
pub(crate) fn convert<'r, 'o>(field: &'r Field<'_>, text: impl Fn(&'r str) -> Cow<'o, str>) -> Field<'o> {
    Field { name: text(&field.name), value: field.value.as_deref().map(&text) }
}

fn rebuild<'r, 'o>(record: &'r AuditRecord<'_>, convert: impl Fn(&'r str) -> Cow<'o, str>) -> AuditRecord<'o> {
    let text = |text: &'r Option<Cow<'_, str>>| text.as_deref().map(&convert);
    AuditRecord {
        id: record.id,
        record_type: record.record_type,
        version: record.version,
        workload: convert(&record.workload),
        creation_time: record.creation_time,
        operation: convert(&record.operation),
        message: text(&record.message),
        organization_id: record.organization_id,
        crm_organization_unique_name: text(&record.crm_organization_unique_name),
        user_id: text(&record.user_id),
        user_key: text(&record.user_key),
        user_type: record.user_type,
        user_upn: text(&record.user_upn),
        system_user_id: record.system_user_id,
        initiating_user_id: record.initiating_user_id,
        client_ip: text(&record.client_ip),
        client_port: record.client_port,
        result_status: text(&record.result_status),
        correlation_id: record.correlation_id,
        instance_url: text(&record.instance_url),
        item_url: text(&record.item_url),
        item_type: text(&record.item_type),
        user_agent: text(&record.user_agent),
        entity_id: record.entity_id,
        entity_name: text(&record.entity_name),
        fields: Vec::new(),
        query: None,
        query_results: Vec::new(),
        linked_results: Vec::new(),
        service_name: text(&record.service_name),
        service_context_id: text(&record.service_context_id),
        service_context_id_type: text(&record.service_context_id_type),
        primary_field_value: text(&record.primary_field_value),
        object_id: text(&record.object_id),
        app_name: text(&record.app_name),
        content_type: text(&record.content_type),
        category: text(&record.category),
        activity: text(&record.activity),
        policy_version: record.policy_version,
        source: text(&record.source),
        collected_time: record.collected_time,
        truncated: record.truncated,
        extra: Extra::default(),
    }
}

/// The texts of a record's head by the names of their keys, those that are there.
pub(crate) fn texts<'t, 'a>(
    record: &'t mut AuditRecord<'a>,
) -> impl Iterator<Item = (&'static str, &'t mut Cow<'a, str>)> {
    [
        ("Workload", Some(&mut record.workload)),
        ("Operation", Some(&mut record.operation)),
        ("Message", record.message.as_mut()),
        ("CrmOrganizationUniqueName", record.crm_organization_unique_name.as_mut()),
        ("UserId", record.user_id.as_mut()),
        ("UserKey", record.user_key.as_mut()),
        ("UserUpn", record.user_upn.as_mut()),
        ("ClientIP", record.client_ip.as_mut()),
        ("ResultStatus", record.result_status.as_mut()),
        ("InstanceUrl", record.instance_url.as_mut()),
        ("ItemUrl", record.item_url.as_mut()),
        ("ItemType", record.item_type.as_mut()),
        ("UserAgent", record.user_agent.as_mut()),
        ("EntityName", record.entity_name.as_mut()),
        ("ServiceName", record.service_name.as_mut()),
        ("ServiceContextId", record.service_context_id.as_mut()),
        ("ServiceContextIdType", record.service_context_id_type.as_mut()),
        ("PrimaryFieldValue", record.primary_field_value.as_mut()),
        ("ObjectId", record.object_id.as_mut()),
        ("AppName", record.app_name.as_mut()),
        ("ContentType", record.content_type.as_mut()),
        ("Category", record.category.as_mut()),
        ("Activity", record.activity.as_mut()),
        ("Source", record.source.as_mut()),
    ]
    .into_iter()
    .filter_map(|(name, text)| Some((name, text?)))
}
