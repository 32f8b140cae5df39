//! From one event to one record.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use actlog_core::{AuditRecord, Extra, Field, Timestamp};
use actlog_intake::record_id;
use serde::Deserialize;
use uuid::{Uuid, uuid};

use crate::entities::find;
use crate::{RECORD_TYPE, WORKLOAD};

/// Namespace of the Ids of these events. Changing it would make every event a new one.
const NAMESPACE: Uuid = uuid!("d4f0b7a6-1c92-5e38-8b4d-72a9e0c5f163");
/// The values of `UserType` that Office knows: 0 to 8.
const LARGEST_USER_TYPE: i32 = 8;

/// What an event may say. `docs/social-engagement.md` describes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Event<'a> {
    #[serde(borrow)]
    entity: Cow<'a, str>,
    #[serde(borrow)]
    action: Cow<'a, str>,
    creation_time: Timestamp,
    id: Option<Uuid>,
    organization_id: Option<Uuid>,
    crm_organization_unique_name: Option<Cow<'a, str>>,
    user_id: Option<Cow<'a, str>>,
    user_key: Option<Cow<'a, str>>,
    user_type: Option<i32>,
    user_upn: Option<Cow<'a, str>>,
    #[serde(rename = "ClientIP")]
    client_ip: Option<Cow<'a, str>>,
    result_status: Option<Cow<'a, str>>,
    correlation_id: Option<Uuid>,
    instance_url: Option<Cow<'a, str>>,
    item_url: Option<Cow<'a, str>>,
    user_agent: Option<Cow<'a, str>>,
    entity_id: Option<Uuid>,
    object_id: Option<Cow<'a, str>>,
    primary_field_value: Option<Cow<'a, str>>,
    #[serde(default)]
    fields: Vec<Field<'a>>,
}

/// Maps an event.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn record(element: &[u8], received: Timestamp) -> Result<AuditRecord<'_>, String> {
    let element = element.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(element).trim_ascii();
    // Serde would take an array of values as well.
    if !element.starts_with(b"{") {
        return Err("the element is not an event: it is no JSON object".to_owned());
    }
    let event: Event<'_> =
        serde_json::from_slice(element).map_err(|error| format!("the element is not an event: {error}"))?;
    let (entity, action) = find(&event.entity, &event.action)?;
    if let Some(user_type) = event.user_type.filter(|user_type| !(0..=LARGEST_USER_TYPE).contains(user_type)) {
        return Err(format!("UserType {user_type} is not known; 0 to {LARGEST_USER_TYPE} are"));
    }
    let (client_ip, client_port) = event.client_ip.as_deref().map(address).transpose()?.unzip();
    let mut extra = Extra::default();
    if let Some(id) = event.id {
        extra.insert("EventId", id);
    }
    Ok(AuditRecord {
        id: record_id(&NAMESPACE, event.id, element),
        record_type: RECORD_TYPE,
        version: 1,
        workload: WORKLOAD.into(),
        creation_time: event.creation_time,
        operation: action.compact.into(),
        message: Some(action.name.into()),
        organization_id: event.organization_id,
        crm_organization_unique_name: event.crm_organization_unique_name,
        user_id: event.user_id,
        user_key: event.user_key,
        user_type: event.user_type,
        user_upn: event.user_upn,
        client_ip: client_ip.map(Cow::Owned),
        client_port: client_port.flatten(),
        result_status: event.result_status,
        correlation_id: event.correlation_id,
        instance_url: event.instance_url,
        item_url: event.item_url,
        item_type: Some(entity.name.into()),
        user_agent: event.user_agent,
        entity_id: event.entity_id,
        entity_name: Some(entity.compact.into()),
        fields: event.fields,
        primary_field_value: event.primary_field_value,
        object_id: event.object_id,
        category: Some(action.category.into()),
        collected_time: Some(received),
        extra,
        ..AuditRecord::default()
    })
}

/// An address, and the port where one stands behind it.
fn address(text: &str) -> Result<(String, Option<u16>), String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.ip().to_string(), Some(address.port())));
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Ok((address.to_string(), None)),
        Err(_) => Err("ClientIP is no address; write for example \"203.0.113.7\" or \"[2001:db8::7]:443\"".to_owned()),
    }
}
