//! Records whose texts are slices of the bytes that they were read from, and how they come loose.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

use super::{AuditRecord, Extra, Field, Json};
use crate::json::{Members, Text};

/// Reads an optional text.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    Ok(Option::<Text<'de>>::deserialize(deserializer)?.map(|text| text.0))
}

/// Reads columns and values.
pub(super) fn fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Field<'de>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase", deny_unknown_fields)]
    struct Borrowed<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
        #[serde(borrow)]
        value: Option<Text<'a>>,
    }
    let fields = Vec::<Borrowed<'de>>::deserialize(deserializer)?;
    Ok(fields.into_iter().map(|field| Field { name: field.name, value: field.value.map(|text| text.0) }).collect())
}

/// Reads what has no key of its own.
pub(super) fn extra<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Extra<'de>, D::Error> {
    let Members(members) = Members::deserialize(deserializer)?;
    Extra::of(members.into_iter().map(|(name, value)| (name, Json::raw(value))).collect())
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

impl AuditRecord<'_> {
    /// The same record with texts of its own.
    pub fn into_owned(self) -> AuditRecord<'static> {
        AuditRecord {
            id: self.id,
            record_type: self.record_type,
            version: self.version,
            workload: owned(self.workload),
            creation_time: self.creation_time,
            operation: owned(self.operation),
            message: self.message.map(owned),
            organization_id: self.organization_id,
            crm_organization_unique_name: self.crm_organization_unique_name.map(owned),
            user_id: self.user_id.map(owned),
            user_key: self.user_key.map(owned),
            user_type: self.user_type,
            user_upn: self.user_upn.map(owned),
            system_user_id: self.system_user_id,
            initiating_user_id: self.initiating_user_id,
            client_ip: self.client_ip.map(owned),
            client_port: self.client_port,
            result_status: self.result_status.map(owned),
            correlation_id: self.correlation_id,
            instance_url: self.instance_url.map(owned),
            item_url: self.item_url.map(owned),
            item_type: self.item_type.map(owned),
            user_agent: self.user_agent.map(owned),
            entity_id: self.entity_id,
            entity_name: self.entity_name.map(owned),
            fields: self.fields.into_iter().map(Field::into_owned).collect(),
            query: self.query.map(owned),
            query_results: self.query_results,
            linked_results: self.linked_results,
            service_name: self.service_name.map(owned),
            service_context_id: self.service_context_id.map(owned),
            service_context_id_type: self.service_context_id_type.map(owned),
            primary_field_value: self.primary_field_value.map(owned),
            object_id: self.object_id.map(owned),
            app_name: self.app_name.map(owned),
            content_type: self.content_type.map(owned),
            category: self.category.map(owned),
            activity: self.activity.map(owned),
            policy_version: self.policy_version,
            source: self.source.map(owned),
            collected_time: self.collected_time,
            truncated: self.truncated,
            extra: self.extra.into_owned(),
        }
    }
}

impl Field<'_> {
    /// The same column and value with texts of their own.
    pub fn into_owned(self) -> Field<'static> {
        Field { name: owned(self.name), value: self.value.map(owned) }
    }
}

impl Extra<'_> {
    /// The same members with texts of their own.
    pub fn into_owned(self) -> Extra<'static> {
        Extra(self.0.into_iter().map(|(name, value)| (owned(name), value.into_owned())).collect())
    }
}

impl Json<'_> {
    /// The same text, of its own.
    pub fn into_owned(self) -> Json<'static> {
        match self {
            Self::Borrowed(raw) => Json::Owned(raw.to_owned()),
            Self::Owned(raw) => Json::Owned(raw),
        }
    }
}
