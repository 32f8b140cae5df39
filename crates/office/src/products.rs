//! What single products' records say beyond the members that all have.

use std::borrow::Cow;

use actlog_core::{AuditRecord, Extra, Field};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::{Uuid, uuid};

use crate::admin::admin_event;
use crate::json;
use crate::mapping::{Member, Reader};
use crate::values;

/// The application (and resource) in Entra that users of Dynamics 365 sign in to: Dataverse.
pub const DYNAMICS_APPLICATION: Uuid = uuid!("00000007-0000-0000-c000-000000000000");

/// What Dynamics 365 writes as Operation of all its records.
pub(crate) const CRM_DEFAULT_ACTIVITY: &str = "CrmDefaultActivity";
/// The operation of a sign-in, in the words of the detection rules for Dynamics 365.
const SIGN_IN: &str = "UserSignIn";
/// The entity under which Dynamics 365 logs sign-ins.
const SIGN_IN_ENTITY: &str = "authentication";

/// What the mapping adds to Extra.
#[derive(Default)]
pub(crate) struct Derived<'a>(Vec<(&'static str, Cow<'a, str>)>);

impl<'a> Derived<'a> {
    /// Members that only we may have: the record's own would be taken for ours.
    pub(crate) const OWN: [&'static str; 4] = ["AdminEvent", "OfficeOperation", "OfficeResultStatus", "Raw"];

    fn add(&mut self, name: &'static str, value: Option<Cow<'a, str>>) {
        self.0.extend(value.map(|value| (name, value)));
    }

    /// What the record itself says under the name stays.
    pub(crate) fn add_to(self, extra: &mut Extra<'a>) {
        for (name, value) in self.0 {
            if extra.get(name).is_none() {
                extra.insert(name, value.as_ref());
            }
        }
    }
}

/// The keys of Dynamics 365; gives the SDK message in place of the one operation that it names.
pub(crate) fn dynamics<'a>(
    record: &mut AuditRecord<'a>,
    reader: &mut Reader<'a>,
    operation: Option<Cow<'a, str>>,
    derived: &mut Derived<'a>,
) -> Option<Cow<'a, str>> {
    record.message = reader.text(Member::Message);
    record.crm_organization_unique_name = reader.text(Member::CrmOrganizationUniqueName);
    record.user_upn = reader.text(Member::UserUpn);
    record.system_user_id = reader.guid(Member::SystemUserId);
    record.instance_url = reader.text(Member::InstanceUrl);
    record.item_url = reader.text(Member::ItemUrl);
    record.entity_id = reader.guid(Member::EntityId);
    record.entity_name = reader.text(Member::EntityName);
    record.fields = reader.list(Member::Fields, values::fields);
    record.query = reader.text(Member::Query);
    record.query_results = reader.list(Member::QueryResults, values::ids);
    // Not Office's, but ours where the feed is another actlog's.
    record.linked_results = reader.list(Member::LinkedResults, values::ids);
    record.service_name = reader.text(Member::ServiceName);
    record.service_context_id = reader.text(Member::ServiceContextId);
    record.service_context_id_type = reader.text(Member::ServiceContextIdType);
    record.primary_field_value = reader.text(Member::PrimaryFieldValue);
    record.app_name = reader.text(Member::AppName);

    if operation.as_ref().is_some_and(|operation| operation != CRM_DEFAULT_ACTIVITY) {
        return operation;
    }
    // ObjectId is "<message> <entity>".
    let of_object = || match record.object_id.as_ref()? {
        Cow::Borrowed(object) => object.split_ascii_whitespace().next().map(Cow::Borrowed),
        Cow::Owned(object) => object.split_ascii_whitespace().next().map(|word| Cow::Owned(word.to_owned())),
    };
    match record.message.clone().or_else(of_object) {
        Some(message) => {
            derived.add("OfficeOperation", operation);
            Some(message)
        }
        None => operation,
    }
}

/// What an event of the admin centre says in its collection of properties; gives the activity's name.
pub(crate) fn admin_center<'a>(
    record: &mut AuditRecord<'a>,
    reader: &Reader<'a>,
    operation: Option<Cow<'a, str>>,
    derived: &mut Derived<'a>,
) -> Option<Cow<'a, str>> {
    let properties = Properties::of(reader, "PropertyCollection");
    let (name, id) = (properties.get("enduser.principal_name"), properties.get("enduser.id"));
    record.user_id = record.user_id.take().or(name).or_else(|| id.clone());
    record.user_key = record.user_key.take().or(id);
    record.user_agent = record.user_agent.take().or_else(|| properties.get("user_agent.original"));
    if record.client_ip.is_none() {
        values::set_address(record, properties.get("enduser.ip_address"));
    }
    derived.add("EnvironmentId", properties.get("powerplatform.analytics.resource.environment.id"));
    derived.add("TenantId", properties.get("powerplatform.analytics.resource.tenant.id"));
    let activity = properties.get("powerplatform.analytics.activity.name");
    let event = [&activity, &operation].into_iter().flatten().find_map(|name| admin_event(name));
    derived.add("AdminEvent", event.map(|event| event.as_str().into()));
    if activity.is_none() {
        return operation;
    }
    derived.add("OfficeOperation", operation.filter(|operation| Some(operation) != activity.as_ref()));
    activity
}

/// A sign-in to Dynamics 365, if it is one. There are no sign-outs in the feed.
pub(crate) fn sign_in<'a>(
    record: &mut AuditRecord<'a>,
    reader: &Reader<'a>,
    operation: Option<Cow<'a, str>>,
    derived: &mut Derived<'a>,
) -> Option<Cow<'a, str>> {
    let has_failed = match operation.as_deref() {
        Some("UserLoggedIn") => false,
        Some("UserLoginFailed") => true,
        _ => return operation,
    };
    if !is_to_dynamics(record, reader) {
        return operation;
    }
    if record.client_ip.is_none() {
        let address = reader.other("ActorIpAddress").and_then(json::text).filter(|text| !text.is_empty());
        values::set_address(record, address);
    }
    record.user_agent =
        record.user_agent.take().or_else(|| Properties::of(reader, "ExtendedProperties").get("UserAgent"));
    if has_failed {
        // Office's word is about the HTTP request.
        derived.add("OfficeResultStatus", record.result_status.replace("Failed".into()));
    }
    derived.add("OfficeOperation", operation);
    record.message = Some(SIGN_IN.into());
    record.entity_name = Some(SIGN_IN_ENTITY.into());
    Some(SIGN_IN.into())
}

fn is_to_dynamics(record: &AuditRecord<'_>, reader: &Reader<'_>) -> bool {
    #[derive(Deserialize)]
    struct Target<'a> {
        #[serde(rename = "ID", borrow, default)]
        id: Option<&'a RawValue>,
    }
    let is_dynamics = |text: &str| Uuid::try_parse(text) == Ok(DYNAMICS_APPLICATION);
    let names_it = |value: &RawValue| json::text(value).is_some_and(|text| is_dynamics(&text));
    let targets = || reader.other("Target").and_then(json::read::<Vec<Target<'_>>>).unwrap_or_default();
    reader.other("ApplicationId").is_some_and(names_it)
        || record.object_id.as_deref().is_some_and(is_dynamics)
        || targets().iter().any(|target| target.id.is_some_and(names_it))
}

/// A collection of names and values.
struct Properties<'a>(Vec<Field<'a>>);

impl<'a> Properties<'a> {
    fn of(reader: &Reader<'a>, member: &str) -> Self {
        Self(reader.other(member).map(|value| values::fields(value).0).unwrap_or_default())
    }

    /// A value that says something.
    fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let property = self.0.iter().find(|property| property.name.eq_ignore_ascii_case(name))?;
        property.value.clone().filter(|value| !value.is_empty())
    }
}
