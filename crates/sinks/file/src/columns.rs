//! Columns: the record's keys, and reading the wanted ones from a record's bytes.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Number in the journal: a column, not a key of the record.
pub(crate) const JOURNAL_INDEX: &str = "JournalIndex";
/// Salt of the record's commitment: a column, not a key of the record.
pub(crate) const JOURNAL_SALT: &str = "JournalSalt";

/// All columns: the record's keys in their order, then what the journal adds.
pub(crate) const KEYS: [&str; 44] = [
    "Id",
    "RecordType",
    "Version",
    "Workload",
    "CreationTime",
    "Operation",
    "Message",
    "OrganizationId",
    "CrmOrganizationUniqueName",
    "UserId",
    "UserKey",
    "UserType",
    "UserUpn",
    "SystemUserId",
    "InitiatingUserId",
    "ClientIP",
    "ClientPort",
    "ResultStatus",
    "CorrelationId",
    "InstanceUrl",
    "ItemUrl",
    "ItemType",
    "UserAgent",
    "EntityId",
    "EntityName",
    "Fields",
    "Query",
    "QueryResults",
    "LinkedResults",
    "ServiceName",
    "ServiceContextId",
    "ServiceContextIdType",
    "PrimaryFieldValue",
    "ObjectId",
    "AppName",
    "ContentType",
    "Category",
    "Activity",
    "PolicyVersion",
    "Source",
    "CollectedTime",
    "Truncated",
    "Extra",
    JOURNAL_INDEX,
];

/// The key that a column's name means: in any case, by the specification's names too.
pub(crate) fn key(name: &str) -> Option<&'static str> {
    let name = match name.to_ascii_lowercase().as_str() {
        "date" => "CreationTime".to_owned(),
        "ip address" => "ClientIP".to_owned(),
        "user" => "UserId".to_owned(),
        other => other.replace(' ', ""),
    };
    KEYS.into_iter().chain([JOURNAL_SALT]).find(|key| key.eq_ignore_ascii_case(&name))
}

/// Reads the values of `keys` from a record's bytes, each as it stands there; absent ones stay `None`.
pub(crate) fn read<'a>(bytes: &'a [u8], keys: &[&str]) -> serde_json::Result<Vec<Option<&'a RawValue>>> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let values = Wanted(keys).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(values)
}

/// The text of a JSON string; none for anything else.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(value.get()).map(Cow::Owned).ok()
}

struct Wanted<'k>(&'k [&'k str]);

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.len()];
        // Records have their keys in one order: what comes next is mostly the next wanted one.
        let mut next = 0;
        while let Some(Key(key)) = map.next_key()? {
            let (before, from) = self.0.split_at(next);
            let place = match from.iter().position(|wanted| *wanted == key) {
                Some(place) => Some(next + place),
                None => before.iter().position(|wanted| *wanted == key),
            };
            match place {
                Some(place) => {
                    values[place] = Some(map.next_value()?);
                    next = place;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use actlog_core::{AuditRecord, Extra, Field, Timestamp};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_columns_are_the_keys_of_the_record_in_their_order() {
        let (text, id) = (Some("x".into()), Some(Uuid::nil()));
        let mut extra = Extra::default();
        extra.insert("a", 1_u64);
        // Every field is named, so that this no longer compiles when the record gets another.
        let record = AuditRecord {
            id: Uuid::nil(),
            record_type: 21,
            version: 1,
            workload: "CRM".into(),
            creation_time: Timestamp::default(),
            operation: "x".into(),
            message: text.clone(),
            organization_id: id,
            crm_organization_unique_name: text.clone(),
            user_id: text.clone(),
            user_key: text.clone(),
            user_type: Some(0),
            user_upn: text.clone(),
            system_user_id: id,
            initiating_user_id: id,
            client_ip: text.clone(),
            client_port: Some(1),
            result_status: text.clone(),
            correlation_id: id,
            instance_url: text.clone(),
            item_url: text.clone(),
            item_type: text.clone(),
            user_agent: text.clone(),
            entity_id: id,
            entity_name: text.clone(),
            fields: vec![Field::new("a", "b")],
            query: text.clone(),
            query_results: vec![Uuid::nil()],
            linked_results: vec![Uuid::nil()],
            service_name: text.clone(),
            service_context_id: text.clone(),
            service_context_id_type: text.clone(),
            primary_field_value: text.clone(),
            object_id: text.clone(),
            app_name: text.clone(),
            content_type: text.clone(),
            category: text.clone(),
            activity: text.clone(),
            policy_version: Some(1),
            source: text,
            collected_time: Some(Timestamp::default()),
            truncated: true,
            extra,
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes).unwrap();
        let keys = &KEYS[..KEYS.len() - 1];
        assert!(read(&bytes, keys).unwrap().iter().all(Option::is_some));
        let places: Vec<_> =
            keys.iter().map(|key| memchr::memmem::find(&bytes, format!("\"{key}\":").as_bytes()).unwrap()).collect();
        assert!(places.is_sorted());
        let count = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).unwrap().len();
        assert_eq!(count, keys.len());
    }

    #[test]
    fn keys_are_found_in_any_order_and_by_the_names_of_the_specification() {
        let values = read(br#"{"Query":"q","Colour":[1,{"a":2}],"Id":"i\n"}"#, &["Id", "EntityId", "Query"]).unwrap();
        assert_eq!(values[0].and_then(text).unwrap(), "i\n");
        assert!(values[1].is_none());
        assert_eq!(values[2].and_then(text).unwrap(), "q");
        let names = ["ID", "Date", "EntityID", "ItemURL", "IP address", "Organization Id", "journalsalt", "colour"];
        let keys = ["Id", "CreationTime", "EntityId", "ItemUrl", "ClientIP", "OrganizationId", "JournalSalt"];
        assert!(names.map(key).into_iter().eq(keys.into_iter().map(Some).chain([None])));
    }
}
