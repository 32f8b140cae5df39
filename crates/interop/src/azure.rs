//! Rows for the Logs Ingestion API of Azure Monitor, and so for Microsoft Sentinel.
//!
//! Columns have the names and types of Sentinel's table `DataverseActivity`, so that its rules work on them through a
//! function; what that table has no column for keeps the record's own name. None of them is one of the names that Log
//! Analytics keeps for itself ([`RESERVED`]). `docs/mappings.md` has the table.
//!
//! Log Analytics replaces a TimeGenerated that is more than two days old by the time of arrival. CreationTime keeps
//! what the record says.

use std::borrow::Cow;

use actlog_core::AuditRecord;
use uuid::Uuid;

use crate::json::{Object, write};
use crate::reading::client;

/// Column names that a custom table can't have, in any case; nor can it have any that begins with `_`. From Microsoft's
/// pages on custom tables, on the Logs Ingestion API and on standard columns.
pub const RESERVED: [&str; 16] = [
    "Computer",
    "id",
    "MG",
    "ManagementGroupName",
    "RawData",
    "resource",
    "resourceid",
    "resourcename",
    "resourcetype",
    "SourceSystem",
    "subscriptionid",
    "tenanted",
    "TenantId",
    "Title",
    "Type",
    "UniqueId",
];

/// Appends the record as one row, a JSON object on one line.
pub fn row(record: &AuditRecord<'_>, out: &mut Vec<u8>) {
    write(out, |row| {
        row.time("TimeGenerated", record.creation_time);
        row.id("SourceRecordId", record.id);
        row.set("RecordType", record.record_type);
        row.set("Version", record.version);
        row.set("OfficeWorkload", &record.workload);
        row.time("CreationTime", record.creation_time);
        row.set("Operation", &record.operation);
        row.set_if("Message", record.message.as_ref());
        row.id("OrganizationId", record.organization_id);
        row.set_if("CrmOrganizationUniqueName", record.crm_organization_unique_name.as_ref());
        row.set_if("UserId", record.user_id.as_ref());
        row.set_if("UserKey", record.user_key.as_ref());
        row.set_if("UserType", record.user_type.map(user_type));
        row.set_if("UserUpn", record.user_upn.as_ref());
        row.id("SystemUserId", record.system_user_id);
        row.id("InitiatingUserId", record.initiating_user_id);
        match client(record) {
            Some((address, port)) => {
                row.set("ClientIp", address);
                row.set_if("ClientPort", port);
            }
            None => {
                row.set_if("ClientIp", record.client_ip.as_ref());
                row.set_if("ClientPort", record.client_port);
            }
        }
        row.set_if("ResultStatus", record.result_status.as_ref());
        row.id("CorrelationId", record.correlation_id);
        row.set_if("InstanceUrl", record.instance_url.as_ref());
        row.set_if("ItemUrl", record.item_url.as_ref());
        row.set_if("ItemType", record.item_type.as_ref());
        row.set_if("UserAgent", record.user_agent.as_ref());
        row.id("EntityId", record.entity_id);
        row.set_if("EntityName", record.entity_name.as_ref());
        if !record.fields.is_empty() {
            row.set("Fields", &record.fields);
        }
        row.set_if("Query", record.query.as_ref());
        ids("QueryResults", &record.query_results, row);
        ids("LinkedResults", &record.linked_results, row);
        row.set_if("ServiceName", record.service_name.as_ref());
        row.set_if("ServiceContextId", record.service_context_id.as_ref());
        row.set_if("ServiceContextIdType", record.service_context_id_type.as_ref());
        row.set_if("PrimaryFieldValue", record.primary_field_value.as_ref());
        row.set_if("OriginalObjectId", record.object_id.as_ref());
        row.set_if("AppName", record.app_name.as_ref());
        row.set_if("ContentType", record.content_type.as_ref());
        row.set_if("Category", record.category.as_ref());
        row.set_if("Activity", record.activity.as_ref());
        row.set_if("PolicyVersion", record.policy_version);
        row.set_if("Source", record.source.as_ref());
        row.time("CollectedTime", record.collected_time);
        if record.truncated {
            row.set("Truncated", true);
        }
        if !record.extra.is_empty() {
            row.set("Extra", &record.extra);
        }
    });
}

/// Ids with commas between: the rules of Sentinel divide the text there.
fn ids(name: &'static str, ids: &[Uuid], row: &mut Object<'_>) {
    if ids.is_empty() {
        return;
    }
    let out = row.member(name);
    out.push(b'"');
    for (place, id) in ids.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    }
    out.push(b'"');
}

/// The name of a user type, as Sentinel's rules compare it; the number where it has none. The names are Office's.
fn user_type(number: i32) -> Cow<'static, str> {
    let names = [
        "Regular",
        "Reserved",
        "Admin",
        "DcAdmin",
        "System",
        "Application",
        "ServicePrincipal",
        "CustomPolicy",
        "SystemPolicy",
    ];
    match usize::try_from(number).ok().and_then(|number| names.get(number)) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(number.to_string()),
    }
}
