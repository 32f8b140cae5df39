//! Writing a record's keys as the members of an Office record, straight into bytes.

use std::io::Write;

use actlog_core::{AuditRecord, Json, RECORD_TYPE_CRM, Timestamp};
use uuid::Uuid;

use crate::mapping::Member;
use crate::split::PLATFORM_CORRELATION;

/// Members of a record that are not to be written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Omitted(u64);

impl Omitted {
    /// Leaves one more out.
    pub(crate) fn add(&mut self, member: Member) {
        self.0 |= 1 << member as u64;
    }

    /// All that every product's records are read for.
    pub(crate) fn common() -> Self {
        let mut omitted = Self::default();
        Member::common().for_each(|member| omitted.add(member));
        omitted
    }

    fn has(self, member: Member) -> bool {
        self.0 & (1 << member as u64) != 0
    }
}

/// Appends the record, in the order in which Dynamics 365's records had their members; after them those of Extra. The
/// capture's own keys are not written: whoever wants them puts them under Extra.
pub(crate) fn write(record: &AuditRecord<'_>, omitted: Omitted, out: &mut Vec<u8>) {
    let is_crm = record.record_type == RECORD_TYPE_CRM;
    let mut object = Object { out, omitted };
    object.out.push(b'{');
    object.value(Member::CreationTime, |out| time(record.creation_time, out));
    object.value(Member::Id, |out| id(record.id, out));
    object.text(Member::Operation, Some(&record.operation));
    object.id(Member::OrganizationId, record.organization_id);
    object.number(Member::RecordType, Some(record.record_type));
    object.text(Member::ResultStatus, record.result_status.as_deref());
    object.text(Member::UserKey, record.user_key.as_deref());
    object.number(Member::UserType, record.user_type);
    object.number(Member::Version, Some(record.version));
    object.text(Member::Workload, Some(&record.workload));
    if let Some(ip) = &record.client_ip {
        object.value(Member::ClientIP, |out| address(ip, record.client_port, out));
    }
    object.text(Member::ObjectId, record.object_id.as_deref());
    object.text(Member::UserId, record.user_id.as_deref());
    object.text(Member::CrmOrganizationUniqueName, record.crm_organization_unique_name.as_deref());
    if is_crm || !record.fields.is_empty() {
        object.value(Member::Fields, |out| json(&record.fields, out));
    }
    object.text(Member::InstanceUrl, record.instance_url.as_deref());
    object.text(Member::ItemType, record.item_type.as_deref());
    object.text(Member::ItemUrl, record.item_url.as_deref());
    object.text(Member::UserAgent, record.user_agent.as_deref());
    object.text(Member::AppName, record.app_name.as_deref());
    object.id(Member::CorrelationId, record.correlation_id);
    object.id(Member::EntityId, record.entity_id);
    object.text(Member::EntityName, record.entity_name.as_deref());
    object.text(Member::Message, record.message.as_deref());
    object.text(Member::PrimaryFieldValue, record.primary_field_value.as_deref());
    object.text(Member::Query, record.query.as_deref());
    object.ids(Member::QueryResults, &record.query_results);
    object.ids(Member::LinkedResults, &record.linked_results);
    object.text(Member::ServiceContextId, record.service_context_id.as_deref());
    object.text(Member::ServiceContextIdType, record.service_context_id_type.as_deref());
    object.text(Member::ServiceName, record.service_name.as_deref());
    object.id(Member::SystemUserId, record.system_user_id);
    object.text(Member::UserUpn, record.user_upn.as_deref());
    for (name, value) in record.extra.iter() {
        object.name(name);
        object.out.extend_from_slice(extra_value(name, value).as_bytes());
    }
    object.out.push(b'}');
}

/// In Office's words no correlation is the all-zero GUID: a part says so with null, which the in-memory form of the
/// zero GUID is not.
fn extra_value<'v>(name: &str, value: &'v Json<'_>) -> &'v str {
    const ZERO: &str = "\"00000000-0000-0000-0000-000000000000\"";
    if name == PLATFORM_CORRELATION && value.get() == ZERO { "null" } else { value.get() }
}

/// A JSON object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    omitted: Omitted,
}

impl Object<'_> {
    fn name(&mut self, name: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        json(name, self.out);
        self.out.push(b':');
    }

    fn value(&mut self, member: Member, write: impl FnOnce(&mut Vec<u8>)) {
        if self.omitted.has(member) {
            return;
        }
        // Names of members need no escapes. The first one has no comma before it.
        self.out.extend_from_slice(if self.out.last() == Some(&b'{') { b"\"" } else { b",\"" });
        self.out.extend_from_slice(member.name().as_bytes());
        self.out.extend_from_slice(b"\":");
        write(self.out);
    }

    fn text(&mut self, member: Member, text: Option<&str>) {
        if let Some(text) = text {
            self.value(member, |out| json(text, out));
        }
    }

    fn id(&mut self, member: Member, value: Option<Uuid>) {
        if let Some(value) = value {
            self.value(member, |out| id(value, out));
        }
    }

    fn number(&mut self, member: Member, number: Option<i32>) {
        if let Some(number) = number {
            self.value(member, |out| json(&number, out));
        }
    }

    fn ids(&mut self, member: Member, ids: &[Uuid]) {
        if !ids.is_empty() {
            self.value(member, |out| {
                out.push(b'"');
                comma_separated(ids, out);
                out.push(b'"');
            });
        }
    }
}

/// Appends ids with commas between them, as Office has lists of ids.
pub(crate) fn comma_separated(ids: &[Uuid], out: &mut Vec<u8>) {
    out.reserve(ids.len() * 37);
    for (place, id) in ids.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    }
}

fn id(id: Uuid, out: &mut Vec<u8>) {
    out.push(b'"');
    comma_separated(&[id], out);
    out.push(b'"');
}

/// A time as Office's records have it: without a zone; with milliseconds only where there are any.
fn time(time: Timestamp, out: &mut Vec<u8>) {
    // Writing to a vector doesn't fail.
    let _ = write!(out, "\"{time}");
    out.pop_if(|last| *last == b'Z');
    out.push(b'"');
}

/// An address with the port that came with it.
fn address(ip: &str, port: Option<u16>, out: &mut Vec<u8>) {
    match port {
        None => json(ip, out),
        Some(port) if ip.contains(':') => json(&format!("[{ip}]:{port}"), out),
        Some(port) => json(&format!("{ip}:{port}"), out),
    }
}

/// Appends a value's JSON.
pub(crate) fn json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Texts, numbers and lists of columns always have a JSON form, and writing to a vector doesn't fail.
    let _ = serde_json::to_writer(out, value);
}
