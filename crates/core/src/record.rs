//! The audit record: what every source produces and every sink receives.
//!
//! The two schema tables of the specification name some things twice (Date and CreationTime, IP address and
//! ClientIP, User and UserId …); here each has one key. `docs/record.md` has the table of aliases.
//!
//! Texts are [`Cow`]s, so that a source which parses a large body can hand on slices of it: the emitter encodes the
//! record before the body goes away.

mod borrowing;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::time::Timestamp;

/// `RecordType` of Dynamics 365 records in the Office 365 Management Activity API ("CRM").
pub const RECORD_TYPE_CRM: i32 = 21;
/// `Workload` of Dynamics 365 records.
pub const WORKLOAD_CRM: &str = "CRM";
/// `Workload` of actlog's own records: access to the log, administration.
pub const WORKLOAD_ACTLOG: &str = "actlog";

/// One audited event. In JSON: the keys in the order of the fields here, absent ones left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct AuditRecord<'a> {
    /// Unique per event and the same each time the event is delivered: a UUIDv5 of what identifies it at its origin.
    pub id: Uuid,
    /// The Office 365 record type: 21 for Dynamics 365.
    pub record_type: i32,
    /// Version of the schema: 1.
    pub version: i32,
    /// The product that the event comes from: `CRM` for Dynamics 365, `actlog` for access to this log.
    #[serde(borrow)]
    pub workload: Cow<'a, str>,
    /// When the event happened, UTC. Aliases in the specification: Date, CreationTime.
    pub creation_time: Timestamp,
    /// The SDK request that was executed, such as `RetrieveMultiple` or `WinOpportunity`.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// The message as the platform's event pipeline names it, such as `Win` for the request `WinOpportunity`.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub message: Option<Cow<'a, str>>,
    /// The Dataverse organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Uuid>,
    /// Unique name of the Dynamics 365 organisation.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub crm_organization_unique_name: Option<Cow<'a, str>>,
    /// The user: the UPN where known at capture, else the system user's GUID.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Cow<'a, str>>,
    /// The user's identity in Entra: the PUID, else the object id.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub user_key: Option<Cow<'a, str>>,
    /// 0 regular, 2 administrator, 3 Microsoft support, 4 system, 5 application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_type: Option<i32>,
    /// The user principal name.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub user_upn: Option<Cow<'a, str>>,
    /// The system user in the Dynamics 365 organisation on whose behalf the operation ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_user_id: Option<Uuid>,
    /// The system user who started the operation, where that is another (impersonation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiating_user_id: Option<Uuid>,
    /// Address of the user or of the corporate gateway; never that of whoever posted a webhook.
    #[serde(
        default,
        borrow,
        deserialize_with = "borrowing::text",
        skip_serializing_if = "Option::is_none",
        rename = "ClientIP"
    )]
    pub client_ip: Option<Cow<'a, str>>,
    /// The port that came with the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_port: Option<u16>,
    /// `Success` in most cases.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub result_status: Option<Cow<'a, str>>,
    /// The platform's id of the action: the records of one action share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    /// URL of the instance.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub instance_url: Option<Cow<'a, str>>,
    /// URL of the record (row) that the event is about.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub item_url: Option<Cow<'a, str>>,
    /// Name of the entity.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub item_type: Option<Cow<'a, str>>,
    /// The browser or client that executed the request.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Cow<'a, str>>,
    /// The row that the event is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity_id: Option<Uuid>,
    /// Logical name of the entity (table).
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub entity_name: Option<Cow<'a, str>>,
    /// The values that were created or updated, in the caller's order.
    #[serde(default, borrow, deserialize_with = "borrowing::fields", skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field<'a>>,
    /// The outermost filter of the query, as `<filter type="and"><condition column="…" operator="…" /></filter>`.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub query: Option<Cow<'a, str>>,
    /// Ids of the rows that the operation returned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_results: Vec<Uuid>,
    /// Ids of linked rows and related entities that the answer carried too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub linked_results: Vec<Uuid>,
    /// Name of the service that generated the log.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub service_name: Option<Cow<'a, str>>,
    /// Id of the service context.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub service_context_id: Option<Cow<'a, str>>,
    /// The application's token that says what the context is for.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub service_context_id_type: Option<Cow<'a, str>>,
    /// Value of the row's primary name column.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub primary_field_value: Option<Cow<'a, str>>,
    /// Office's own name of the object.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub object_id: Option<Cow<'a, str>>,
    /// The model-driven app that called.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub app_name: Option<Cow<'a, str>>,
    /// The Office content type that the record came from, such as `Audit.General`.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Cow<'a, str>>,
    /// What kind of operation it is: `Create`, `Read`, `ReadMultiple`, `Update`, `Delete`, `Export` …
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub category: Option<Cow<'a, str>>,
    /// One of the nine activities of the specification's preconfigured reports.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub activity: Option<Cow<'a, str>>,
    /// The version of the policy that decided about this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_version: Option<u64>,
    /// The configured name of the component that captured the event.
    #[serde(default, borrow, deserialize_with = "borrowing::text", skip_serializing_if = "Option::is_none")]
    pub source: Option<Cow<'a, str>>,
    /// When actlog received the event, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collected_time: Option<Timestamp>,
    /// Whether the platform cut parts off before it sent the event.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// What has no key of its own.
    #[serde(default, borrow, deserialize_with = "borrowing::extra", skip_serializing_if = "Extra::is_empty")]
    pub extra: Extra<'a>,
}

/// One column and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Field<'a> {
    /// Logical name of the column, in lower case.
    pub name: Cow<'a, str>,
    /// The value as text; null where the column was cleared.
    pub value: Option<Cow<'a, str>>,
}

impl<'a> Field<'a> {
    /// A column with a value.
    pub fn new(name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

impl AuditRecord<'_> {
    /// Appends the record as JSON, on one line, without a line end.
    ///
    /// # Errors
    /// Never for a record that this crate's types can hold; the type is `serde_json`'s.
    pub fn encode(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(out, self)
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// When the bytes are not JSON, or hold an unknown key or a value of the wrong type.
    pub fn decode(bytes: &[u8]) -> serde_json::Result<AuditRecord<'static>> {
        AuditRecord::decode_borrowed(bytes).map(AuditRecord::into_owned)
    }

    /// Reads a record back; texts without escapes are slices of the bytes. For those who are done with the record before
    /// the bytes go away: it is a quarter faster than [`decode`](Self::decode).
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_borrowed(bytes: &[u8]) -> serde_json::Result<AuditRecord<'_>> {
        serde_json::from_slice(bytes)
    }

    /// The JSON Schema of the record.
    pub fn schema() -> Schema {
        let mut schema = schemars::schema_for!(AuditRecord<'static>);
        schema.insert("title".into(), "AuditRecord".into());
        schema
    }
}

/// A JSON text on one line.
#[derive(Clone, Debug)]
pub enum Json<'a> {
    /// A slice of a body that lives elsewhere.
    Borrowed(&'a RawValue),
    /// A text of its own.
    Owned(Box<RawValue>),
}

impl<'a> Json<'a> {
    /// A part of a parsed body. Line ends between tokens (they can't be inside of strings) become spaces, so that the
    /// record stays on one line.
    pub fn raw(value: &'a RawValue) -> Self {
        if memchr::memchr2(b'\n', b'\r', value.get().as_bytes()).is_none() {
            return Self::Borrowed(value);
        }
        match RawValue::from_string(value.get().replace(['\n', '\r'], " ")) {
            Ok(one_line) => Self::Owned(one_line),
            // Replacing white space between tokens leaves valid JSON, so this is out of reach; null keeps the line whole.
            Err(_) => Self::Owned(RawValue::NULL.to_owned()),
        }
    }

    /// The same text, borrowed.
    pub fn borrowed(&self) -> Json<'_> {
        match self {
            Self::Borrowed(value) => Json::Borrowed(value),
            Self::Owned(value) => Json::Borrowed(value),
        }
    }

    /// The text.
    pub fn get(&self) -> &str {
        match self {
            Self::Borrowed(value) => value.get(),
            Self::Owned(value) => value.get(),
        }
    }
}

macro_rules! json_from {
    ($($type:ty),*) => {$(
        impl From<$type> for Json<'_> {
            fn from(value: $type) -> Self {
                // Scalars and texts always have a JSON form.
                Self::Owned(serde_json::value::to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned()))
            }
        }
    )*};
}
json_from!(&str, String, bool, i64, u64, Uuid, serde_json::Value);

/// What a source knows of an event and the record has no key for; in JSON an object.
#[derive(Clone, Debug, Default)]
pub struct Extra<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Extra<'a> {
    /// Adds a member, or replaces the one of that name.
    pub fn insert(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Json<'a>>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(present, _)| *present == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// The member of that name.
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(present, _)| present == name).map(|(_, value)| value)
    }

    /// The members, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// These members, if no two have one name.
    fn of<E: Error>(members: Vec<(Cow<'a, str>, Json<'a>)>) -> Result<Self, E> {
        // Looking for each name among the others would take hostile input for ever.
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(E::custom(format_args!("duplicate field `{}`", twice[0]))),
            None => Ok(Self(members)),
        }
    }

    /// The same members, borrowed.
    pub fn borrowed(&self) -> Extra<'_> {
        Extra(self.0.iter().map(|(name, value)| (Cow::Borrowed(name.as_ref()), value.borrowed())).collect())
    }

    /// Keeps the members for which `keep` says so; it may change them.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Json<'a>) -> bool) {
        self.0.retain_mut(|(name, value)| keep(name, value));
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Extra<'_> {
    /// Equal when they hold the same members with the same text, in any order.
    fn eq(&self, other: &Self) -> bool {
        let sorted = |extra: &Self| {
            extra.0.iter().map(|(name, value)| (name.to_string(), value.get().to_owned())).collect::<BTreeMap<_, _>>()
        };
        sorted(self) == sorted(other)
    }
}

impl Serialize for Extra<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            match value {
                Json::Borrowed(raw) => map.serialize_entry(name, raw)?,
                Json::Owned(raw) => map.serialize_entry(name, raw)?,
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Extra<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Extra<'static>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'static, str>, _)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    let one_line = match Json::raw(&value) {
                        Json::Borrowed(_) => Json::Owned(value),
                        Json::Owned(one_line) => Json::Owned(one_line),
                    };
                    members.push((Cow::Owned(name), one_line));
                }
                Extra::of(members)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl JsonSchema for Extra<'_> {
    fn schema_name() -> Cow<'static, str> {
        "Extra".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "description": "What has no key of its own." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_with_the_keys_in_the_documented_order() {
        let raw: Box<RawValue> = serde_json::from_str("{\n \"a\": [1,\r\n 2]}").unwrap();
        let mut record = AuditRecord {
            record_type: RECORD_TYPE_CRM,
            version: 1,
            workload: WORKLOAD_CRM.into(),
            operation: "Update".into(),
            client_ip: Some("10.0.0.1".into()),
            fields: vec![Field::new("name", "two\nlines"), Field { name: "fax".into(), value: None }],
            ..Default::default()
        };
        record.extra.insert("Parent", Json::raw(&raw));
        let mut bytes = Vec::new();
        record.encode(&mut bytes).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(!text.contains(['\n', '\r']), "{text}");
        let keys =
            ["Id", "RecordType", "Version", "Workload", "CreationTime", "Operation", "ClientIP", "Fields", "Extra"];
        let places: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        assert_eq!(AuditRecord::decode(&bytes).unwrap(), record);
        let borrowed = AuditRecord::decode_borrowed(&bytes).unwrap();
        assert!(matches!((&borrowed.operation, &borrowed.client_ip), (Cow::Borrowed(_), Some(Cow::Borrowed(_)))));
        assert!(matches!(borrowed.extra.get("Parent"), Some(Json::Borrowed(_))));
        assert_eq!(borrowed, record);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = AuditRecord::decode(br#"{"Id":"00000000-0000-0000-0000-000000000000","Colour":1}"#).unwrap_err();
        assert!(error.to_string().contains("Colour"), "{error}");
    }
}
