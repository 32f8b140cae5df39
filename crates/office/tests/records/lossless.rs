//! Whether a record holds all that it was made from.

use actlog_core::{AuditRecord, Timestamp};
use actlog_office::{Envelope, from_office};
use serde_json::{Map, Value};
use uuid::Uuid;

pub(crate) const RECEIVED: &str = "2026-03-03T09:00:00Z";

pub(crate) fn envelope() -> Envelope<'static> {
    Envelope { content_type: Some("Audit.General"), received: Timestamp::parse(RECEIVED).unwrap() }
}

pub(crate) fn map(bytes: &[u8]) -> AuditRecord<'_> {
    from_office(bytes, &envelope()).unwrap()
}

/// Maps the record, writes it, and finds each of its members again: in the key of that name with an equal value, or as
/// it came under Extra.
pub(crate) fn assert_nothing_is_lost(record: &Value) {
    let bytes = record.to_string();
    let mapped = map(bytes.as_bytes());
    let mut line = Vec::new();
    mapped.encode(&mut line).unwrap();
    assert!(!line.contains(&b'\n'));
    assert_eq!(AuditRecord::decode(&line).unwrap(), mapped, "it reads back as it was");
    let written: Value = serde_json::from_slice(&line).unwrap();
    let nothing = Map::new();
    let extra = written["Extra"].as_object().unwrap_or(&nothing);
    let raw = match &extra.get("Raw") {
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        Some(raw) => Some((*raw).clone()),
        None => None,
    };
    if raw.as_ref() == Some(record) {
        return;
    }
    for (name, value) in record.as_object().unwrap() {
        let kept = extra
            .get(name)
            .or_else(|| extra.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
        let is_kept = kept == Some(value);
        assert!(is_kept || is_held(name, value, &written), "{name} {value} is lost: {written}");
    }
}

/// Whether a key of ours holds the value exactly.
fn is_held(name: &str, value: &Value, written: &Value) -> bool {
    let Some((key, held)) = written.as_object().unwrap().iter().find(|(key, _)| key.eq_ignore_ascii_case(name)) else {
        // An empty list is left out of the JSON of a record.
        let texts = value.as_str().and_then(|text| serde_json::from_str(text).ok());
        return matches!(name.to_ascii_lowercase().as_str(), "fields" | "queryresults")
            && texts.as_ref().unwrap_or(value) == &Value::Array(vec![]);
    };
    let text = value.as_str();
    match key.as_str() {
        "Id" | "OrganizationId" | "CorrelationId" | "EntityId" | "SystemUserId" => {
            text.and_then(|text| Uuid::try_parse(text).ok())
                == held.as_str().and_then(|text| Uuid::try_parse(text).ok())
        }
        "RecordType" | "Version" | "UserType" => {
            value.as_f64().or_else(|| text?.parse().ok()) == held.as_f64() && held.is_number()
        }
        "CreationTime" => {
            let text = text.unwrap().replace(' ', "T");
            let time = Timestamp::parse(&text).or_else(|_| Timestamp::parse(&format!("{text}Z"))).unwrap();
            time.to_string() == held.as_str().unwrap()
        }
        "ClientIP" => {
            let ip = held.as_str().unwrap();
            let forms = match written["ClientPort"].as_u64() {
                Some(port) => [format!("{ip}:{port}"), format!("[{ip}]:{port}")],
                None => [ip.to_owned(), ip.to_owned()],
            };
            forms.iter().any(|form| Some(form.as_str()) == text)
        }
        "Operation" | "ResultStatus" => {
            let office = &written["Extra"][format!("Office{key}")];
            [held, office].contains(&value)
        }
        "Fields" => same_fields(value, held),
        "QueryResults" => {
            let ids: Vec<String> = match value {
                Value::String(text) => text.split(',').map(|id| id.trim().to_lowercase()).collect(),
                other => other.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_lowercase()).collect(),
            };
            &Value::from(ids) == held
        }
        _ => held == value,
    }
}

/// Names and values; numbers and truth values are texts in the record.
fn same_fields(value: &Value, held: &Value) -> bool {
    let inner = value.as_str().map(|text| serde_json::from_str::<Value>(text).unwrap());
    let plain = |fields: &Value| -> Vec<(String, Option<String>)> {
        let fields = fields.as_array().unwrap().iter();
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        fields.map(|field| (field["Name"].as_str().unwrap().to_owned(), text(&field["Value"]))).collect()
    };
    plain(inner.as_ref().unwrap_or(value)) == plain(held)
}
