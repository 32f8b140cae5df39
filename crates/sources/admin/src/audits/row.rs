//! From a row of the audit table, and its details, to a record.

use std::borrow::Cow;

use actlog_core::{AuditRecord, Field, RECORD_TYPE_CRM, Timestamp, WORKLOAD_CRM};
use actlog_dataverse::tables::{self, EntityKind};
use serde::Deserialize;
use uuid::{Uuid, uuid};

use super::actions::{self, Action};
use super::details::Details;
use crate::event::{ADMIN_EVENT, Event, SIGN_IN_ENTITY};

/// Namespace of the Ids of rows. Changing it would make every row a new one.
const NAMESPACE: Uuid = uuid!("f42b6d9c-0e57-5a18-b3c4-9d21e7a05f68");

/// A row of the audit table.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    #[serde(rename = "auditid")]
    pub(super) id: Uuid,
    #[serde(rename = "createdon")]
    pub(super) created_on: Timestamp,
    pub(super) action: i32,
    #[serde(rename = "action@OData.Community.Display.V1.FormattedValue")]
    label: Option<String>,
    operation: Option<i32>,
    /// The table's logical name.
    #[serde(rename = "objecttypecode")]
    table: Option<String>,
    #[serde(rename = "_objectid_value")]
    object: Option<Uuid>,
    #[serde(rename = "_objectid_value@OData.Community.Display.V1.FormattedValue")]
    object_name: Option<String>,
    #[serde(rename = "_userid_value")]
    user: Option<Uuid>,
    #[serde(rename = "_callinguserid_value")]
    calling_user: Option<Uuid>,
    #[serde(rename = "_regardingobjectid_value")]
    regarding: Option<Uuid>,
    #[serde(rename = "transactionid")]
    transaction: Option<Uuid>,
    #[serde(rename = "useradditionalinfo")]
    user_information: Option<String>,
}

impl Row {
    /// The columns that are asked for.
    pub(super) const SELECT: &str = "auditid,createdon,action,operation,objecttypecode,_objectid_value,_userid_value,\
        _callinguserid_value,_regardingobjectid_value,transactionid,useradditionalinfo";

    fn action(&self) -> Option<&'static Action> {
        actions::of(self.action)
    }

    /// Whether there are details worth asking for; sign-ins, which are many, have none that the row doesn't have.
    pub(super) fn has_details(&self) -> bool {
        !self.action().is_some_and(Action::is_sign_in)
    }

    /// The name in the event pipeline.
    fn message(&self) -> &'static str {
        match (self.action(), self.operation) {
            (Some(action), _) if action.number != 0 => action.message,
            (_, Some(1)) => "Create",
            (_, Some(2)) => "Update",
            (_, Some(3)) => "Delete",
            _ => "Unknown",
        }
    }

    /// The specification's row, if it is of one.
    fn event(&self) -> Option<Event> {
        self.action().and_then(Action::event).or_else(|| {
            let table = tables::entity(self.table.as_deref()?)?;
            (table.kind == EntityKind::AdminSecurity).then_some(Event::TeamUserManagement)
        })
    }
}

/// The environment that rows come from.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    pub(super) organization_id: Uuid,
    pub(super) unique_name: String,
    /// Without a slash at its end.
    pub(super) url: String,
}

/// Makes the record of a row.
pub(super) fn record(
    row: Row,
    details: Details,
    environment: &Environment,
    received: Timestamp,
) -> AuditRecord<'static> {
    let some = |id: Option<Uuid>| id.filter(|id| !id.is_nil());
    let (message, action, event) = (row.message(), row.action(), row.event());
    let is_sign_in = action.is_some_and(Action::is_sign_in);
    let table = row.table.filter(|table| !table.is_empty());
    let operation = tables::request_name(message, table.as_deref().unwrap_or("none")).unwrap_or(message);
    let shown_message = action.filter(|action| action.is_about_auditing()).map_or(message, |action| action.label);
    let entity: Option<Cow<'static, str>> =
        if is_sign_in { Some(SIGN_IN_ENTITY.into()) } else { table.map(Cow::Owned) };
    let entity_id = some(row.object).filter(|_| !is_sign_in);
    let item_url = entity
        .as_deref()
        .zip(entity_id)
        .map(|(entity, id)| format!("{}/main.aspx?etn={entity}&pagetype=entityrecord&id={id}", environment.url));
    let user = some(row.user);
    let mut record = AuditRecord {
        id: id(environment.organization_id, row.id),
        record_type: RECORD_TYPE_CRM,
        version: 1,
        workload: WORKLOAD_CRM.into(),
        creation_time: row.created_on,
        operation: operation.into(),
        message: Some(shown_message.into()),
        organization_id: Some(environment.organization_id),
        crm_organization_unique_name: Some(environment.unique_name.clone().into()),
        user_id: user.map(|user| user.to_string().into()),
        system_user_id: user,
        initiating_user_id: some(row.calling_user).filter(|calling| Some(*calling) != user),
        result_status: Some("Success".into()),
        correlation_id: some(row.transaction),
        instance_url: Some(environment.url.clone().into()),
        item_url: item_url.map(Cow::Owned),
        item_type: entity.clone(),
        entity_name: entity,
        entity_id,
        primary_field_value: row.object_name.filter(|_| !is_sign_in).map(Cow::Owned),
        collected_time: Some(received),
        ..AuditRecord::default()
    };
    let extra = &mut record.extra;
    if let Some(row) = event.and_then(Event::row) {
        extra.insert(ADMIN_EVENT, row);
    }
    extra.insert("AuditId", row.id);
    extra.insert("AuditAction", i64::from(row.action));
    let label = row.label.as_deref().or(action.map(|action| action.label));
    if let Some(label) = label {
        extra.insert("AuditActionLabel", label);
    }
    if let Some(regarding) = some(row.regarding) {
        extra.insert("RegardingObjectId", regarding);
    }
    if let Some(text) = row.user_information.filter(|text| !text.is_empty()) {
        extra.insert("UserAdditionalInfo", text);
    }
    details.add_to(&mut record);
    // The action says it where the details can't.
    if let Some(relationship) = action.and_then(Action::relationship)
        && !record.fields.iter().any(|field| field.name == "relationship")
    {
        record.fields.insert(0, Field::new("relationship", relationship));
    }
    record
}

/// The same row gives the same Id, whoever reads it.
fn id(organization: Uuid, row: Uuid) -> Uuid {
    Uuid::new_v5(&NAMESPACE, &[*organization.as_bytes(), *row.as_bytes()].concat())
}
