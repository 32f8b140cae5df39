//! From an audit record to Office records: what a client of the feed reads.
//!
//! A record that came from Office goes out as it came. Of any other the members are what Office would have, as far as
//! it is known, in one of two wordings ([`Mode`]). `docs/office-records.md` has the rules, member by member.

use std::borrow::Cow;

use actlog_core::{AuditRecord, Extra, Json, RECORD_TYPE_CRM};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::feed::ContentType;
use crate::json::{is_readable, says_nothing, text_of};
use crate::mapping::{Member, UNKNOWN};
use crate::products::{CRM_DEFAULT_ACTIVITY, Derived};
use crate::split::{self, Limits, SplitError};
use crate::view;
use crate::write::{Omitted, json, write};

/// Records that came from Office are divided only above this many bytes, which is also the longest event that a widely
/// used collector (Wazuh) takes: Office let them be so large, and rules for its other products know nothing of parts.
const MAX_FROM_OFFICE: usize = 64 << 10;

/// Members of Extra that become members of an Office record; the others become one text. Readers of records, ours among
/// them, have their limits.
const MAX_MEMBERS: usize = 128;

/// The member that holds, as a JSON text, what of Extra can't be a member.
const REMAINDER: &str = "Extra";

/// ItemType of all of Dynamics 365's records.
const DYNAMICS_365: &str = "Dynamics365";

/// In whose words a record of Dynamics 365 is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As the specification of activity logging has it: Operation is the SDK message, ItemType the entity.
    #[default]
    Spec,
    /// As the service's records were seen: Operation is `CrmDefaultActivity`, ItemType is `Dynamics365`, and the SDK
    /// message is in Message. Detection rules for Dynamics 365 are written for this.
    Observed,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputOptions {
    /// In whose words.
    pub mode: Mode,
    /// Bytes of the longest record; what is longer is divided. The specification has 3,072. At least
    /// [`split::MIN_LIMIT`].
    pub max_record_bytes: usize,
    /// The Office tenant whose feed it is.
    pub tenant: Uuid,
}

/// The content type that a record is served under: its own, else `Audit.General`.
pub fn content_type(record: &AuditRecord<'_>) -> ContentType {
    record.content_type.as_deref().and_then(ContentType::parse).unwrap_or(ContentType::General)
}

/// Writes the record as Office records, one or its parts in order, and calls `each` with the Id and the JSON of each.
///
/// # Errors
/// When the record has to be divided and the limit is too small for that.
pub fn to_office(
    record: &AuditRecord<'_>,
    options: &OutputOptions,
    each: &mut dyn FnMut(Uuid, &[u8]),
) -> Result<(), SplitError> {
    /// Most records are shorter.
    const USUAL_BYTES: usize = 1536;
    let mut out = Vec::with_capacity(USUAL_BYTES);
    if !is_from_office(record) {
        let shaped = shaped(record, options);
        write(&shaped, Omitted::default(), &mut out);
        if out.len() <= options.max_record_bytes {
            each(record.id, &out);
            return Ok(());
        }
        return write_parts(&shaped, options.max_record_bytes, out, each);
    }
    let limit = options.max_record_bytes.max(MAX_FROM_OFFICE);
    match record.extra.get("Raw") {
        Some(raw) => out.extend_from_slice(original(raw).as_bytes()),
        None => {
            let (record, omitted) = as_it_came(record);
            write(&record, omitted, &mut out);
        }
    }
    if out.len() <= limit {
        each(record.id, &out);
        return Ok(());
    }
    let mut whole = AuditRecord { extra: record.extra.borrowed(), ..view::office_keys(record) };
    remove_derived_keys(&mut whole);
    write_parts(&whole, limit, out, each)
}

fn write_parts(
    record: &AuditRecord<'_>,
    limit: usize,
    mut out: Vec<u8>,
    each: &mut dyn FnMut(Uuid, &[u8]),
) -> Result<(), SplitError> {
    let limits = Limits { record: limit, field: usize::MAX };
    let encode = |part: &AuditRecord<'_>, out: &mut Vec<u8>| write(part, Omitted::default(), out);
    let mut write_one = |record: &AuditRecord<'_>| {
        out.clear();
        encode(record, &mut out);
        each(record.id, &out);
    };
    match split::split(record, &limits, &encode)? {
        Some(parts) => parts.iter().for_each(&mut write_one),
        None => write_one(record),
    }
    Ok(())
}

/// Whether the record was read from an Office record, and any reader of JSON can read that: one that can't would cost
/// its readers the whole blob. Such a record is told in our words, and what it was is in the text under [`REMAINDER`].
fn is_from_office(record: &AuditRecord<'_>) -> bool {
    /// A record that was read from an Office record has fewer under Extra.
    const MAX_MEMBERS: usize = 512;
    let has = |name| record.extra.get(name).is_some();
    let is_object = |raw: &Json<'_>| {
        let raw = original(raw);
        raw.starts_with('{') && serde_json::from_str::<&RawValue>(&raw).is_ok_and(|raw| is_readable(raw.get()))
    };
    (record.content_type.is_some() || has("OfficeOperation") || has("Raw"))
        && record.extra.iter().nth(MAX_MEMBERS).is_none()
        && record.extra.iter().all(|(_, value)| is_readable(value.get()))
        && record.extra.get("Raw").is_none_or(is_object)
}

/// What a text under Extra says; of another value its JSON.
fn original<'v>(raw: &'v Json<'_>) -> Cow<'v, str> {
    text_of(raw).unwrap_or(Cow::Borrowed(raw.get()))
}

/// The record with its members as they came, and those of its keys that are under Extra as they came.
fn as_it_came<'r>(record: &'r AuditRecord<'_>) -> (AuditRecord<'r>, Omitted) {
    let mut whole = AuditRecord { extra: record.extra.borrowed(), ..view::office_keys(record) };
    // Readers tell records from each other by their Ids, so that none goes out without one.
    whole.extra.retain(|name, value| Member::of(name) != Some(Member::Id) || !says_nothing(value.get()));
    let mut omitted = Omitted::default();
    for member in whole.extra.iter().filter_map(|(name, _)| Member::of(name)) {
        omitted.add(member);
    }
    if let Some(operation) = record.extra.get("OfficeOperation") {
        whole.operation = original(operation);
    }
    if let Some(status) = record.extra.get("OfficeResultStatus") {
        whole.result_status = Some(original(status));
    }
    whole.extra.retain(|name, _| !Derived::OWN.contains(&name));
    remove_derived_keys(&mut whole);
    (whole, omitted)
}

/// The keys that only records of Dynamics 365 are read into; in others the mapping may have put something there.
fn remove_derived_keys(record: &mut AuditRecord<'_>) {
    if record.record_type != RECORD_TYPE_CRM {
        (record.message, record.entity_name) = (None, None);
    }
}

/// The record with the members that Office would give it.
fn shaped<'r>(record: &'r AuditRecord<'_>, options: &OutputOptions) -> AuditRecord<'r> {
    let mut shaped = view::office_keys(record);
    // Office's times are whole seconds.
    let milliseconds = record.creation_time.unix_milliseconds();
    shaped.creation_time = record.creation_time.plus_milliseconds(-milliseconds.rem_euclid(1000));
    shaped.client_port = None;
    shaped.operation = known(Some(record.operation.as_ref()));
    shaped.workload = known(Some(record.workload.as_ref()));
    shaped.user_key = Some(known(record.user_key.as_deref()));
    shaped.user_type = record.user_type.or(Some(0));
    if record.record_type != RECORD_TYPE_CRM {
        shaped.organization_id = Some(options.tenant);
        shaped.user_id = Some(known(record.user_id.as_deref()));
        shaped.extra = own_members(record, options);
        move_to_extra(&mut shaped);
        add_extra(&mut shaped, &record.extra);
        return shaped;
    }
    shaped.crm_organization_unique_name = Some(known(record.crm_organization_unique_name.as_deref()));
    shaped.instance_url = Some(known(record.instance_url.as_deref()));
    shaped.entity_id = record.entity_id.or(Some(Uuid::nil()));
    shaped.entity_name = Some(known(record.entity_name.as_deref()));
    match options.mode {
        Mode::Spec => {
            shaped.organization_id = record.organization_id.or(Some(Uuid::nil()));
            shaped.user_id = Some(known(record.user_id.as_deref()));
            shaped.message = Some(known(record.message.as_deref().or(Some(&record.operation))));
            shaped.item_type = Some(known(record.item_type.as_deref().or(record.entity_name.as_deref())));
            shaped.extra = own_members(record, options);
            add_extra(&mut shaped, &record.extra);
        }
        Mode::Observed => {
            let entity = record.entity_name.as_deref().filter(|name| *name != UNKNOWN).unwrap_or_default();
            shaped.object_id = Some(format!("{} {entity}", record.operation).into());
            shaped.message = Some(std::mem::replace(&mut shaped.operation, CRM_DEFAULT_ACTIVITY.into()));
            shaped.organization_id = Some(options.tenant);
            shaped.user_id = Some(known(record.user_upn.as_deref().or(record.user_id.as_deref())));
            shaped.item_type = Some(DYNAMICS_365.into());
            shaped.item_url = shaped.item_url.or_else(|| record.instance_url.as_deref().map(Cow::Borrowed));
            shaped.correlation_id = record.correlation_id.or(Some(Uuid::nil()));
            if record.truncated {
                shaped.extra.insert("Truncated", true);
            }
        }
    }
    shaped
}

/// The text, or what Office writes for an unknown one.
fn known(text: Option<&str>) -> Cow<'_, str> {
    Cow::Borrowed(text.filter(|text| !text.is_empty()).unwrap_or(UNKNOWN))
}

/// What actlog knows of the record and Office has no member for.
fn own_members<'r>(record: &'r AuditRecord<'_>, options: &OutputOptions) -> Extra<'r> {
    let mut members = Extra::default();
    let mut add = |name: &'static str, value: Option<Json<'r>>| {
        if let Some(value) = value {
            members.insert(name, value);
        }
    };
    add("TenantId", (record.record_type == RECORD_TYPE_CRM).then(|| options.tenant.into()));
    add("InitiatingUserId", record.initiating_user_id.map(Json::from));
    add("ClientPort", record.client_port.map(|port| i64::from(port).into()));
    add("Category", record.category.as_deref().map(Json::from));
    add("Activity", record.activity.as_deref().map(Json::from));
    add("PolicyVersion", record.policy_version.map(Json::from));
    add("Source", record.source.as_deref().map(Json::from));
    add("CollectedTime", record.collected_time.map(|time| time.to_string().into()));
    add("Truncated", record.truncated.then(|| true.into()));
    members
}

/// Puts the keys that only records of Dynamics 365 are read into under Extra, with the JSON of their members.
fn move_to_extra(record: &mut AuditRecord<'_>) {
    let mut whole = AuditRecord { record_type: record.record_type, ..AuditRecord::default() };
    macro_rules! take {
        ($($key:ident),*) => { $(whole.$key = std::mem::take(&mut record.$key);)* };
    }
    take!(
        message,
        crm_organization_unique_name,
        user_upn,
        system_user_id,
        instance_url,
        item_url,
        entity_id,
        entity_name,
        fields,
        query,
        query_results,
        linked_results,
        service_name,
        service_context_id,
        service_context_id_type,
        primary_field_value,
        app_name
    );
    let mut members = Vec::new();
    write(&whole, Omitted::common(), &mut members);
    if let Ok(members) = serde_json::from_slice::<Extra<'_>>(&members) {
        for (name, value) in members.iter() {
            record.extra.insert(name.to_owned(), value.clone());
        }
    }
}

/// Adds what members can hold of Extra, and the rest as one text.
fn add_extra<'r>(record: &mut AuditRecord<'r>, extra: &'r Extra<'_>) {
    let mut room = MAX_MEMBERS;
    let mut is_added = |(name, value): (&'r str, &'r Json<'_>)| {
        let fits = room > 0
            && !split::is_taken(name, record.record_type)
            && !name.eq_ignore_ascii_case(REMAINDER)
            && record.extra.get(name).is_none()
            && is_readable(value.get());
        if fits {
            room -= 1;
            record.extra.insert(name, value.borrowed());
        }
        fits
    };
    let added: Vec<bool> = extra.iter().map(&mut is_added).collect();
    if added.contains(&false) {
        let (mut remainder, mut added) = (extra.borrowed(), added.into_iter());
        remainder.retain(|_, _| added.next() == Some(false));
        let mut text = Vec::new();
        json(&remainder, &mut text);
        record.extra.insert(REMAINDER, String::from_utf8_lossy(&text).as_ref());
    }
}
