//! What `RetrieveAuditDetails` says of a row: old and new values, members, privileges.

use actlog_core::{AuditRecord, Extra, Field, Json};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Bytes of the largest details that are kept; what a row can hold is far below.
const MAXIMUM: usize = 1 << 20;
/// The platform cuts values of this size and more, and ends them with an ellipsis.
const CUT_FROM: usize = 4096;

/// What is known of a row's details.
#[derive(Debug)]
pub(super) enum Details {
    /// They were read.
    Read(Value),
    /// The row has none, or none any more.
    None,
    /// They are there, and can't be had: why, in a word.
    Missing(&'static str),
}

impl Details {
    /// Reads the answer of `RetrieveAuditDetails`.
    pub(super) fn read(answer: &str) -> Self {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "AuditDetail")]
            detail: Option<Value>,
        }
        if answer.len() > MAXIMUM {
            return Self::Missing("too large");
        }
        match serde_json::from_str::<Answer>(answer) {
            Ok(Answer { detail: Some(detail) }) => Self::Read(detail),
            Ok(Answer { detail: None }) => Self::None,
            Err(_) => Self::Missing("unreadable"),
        }
    }

    /// Puts them where they belong in the record.
    pub(super) fn add_to(self, record: &mut AuditRecord<'static>) {
        match self {
            Self::None => {}
            Self::Missing(reason) => record.extra.insert("AuditDetails", reason),
            Self::Read(detail) => {
                let kind = detail["@odata.type"].as_str().and_then(|kind| kind.rsplit('.').next());
                match kind {
                    Some("AttributeAuditDetail") => attributes(&detail, record),
                    Some("RelationshipAuditDetail") => relationship(&detail, record),
                    Some("RolePrivilegeAuditDetail") => privileges(&detail, record),
                    Some("ShareAuditDetail") => sharing(&detail, record),
                    Some("AuditDetail") | None => {}
                    Some(_) => record.extra.insert("AuditDetails", Json::from(detail)),
                }
            }
        }
    }
}

/// The columns of a row in the Web API's form: annotations left out, lookups by the column's own name.
fn columns(row: &Value) -> impl Iterator<Item = (&str, Option<String>)> {
    let members = row.as_object().into_iter().flat_map(Map::iter);
    members.filter(|(name, _)| !name.contains('@')).map(|(name, value)| {
        let lookup = name.strip_prefix('_').and_then(|name| name.strip_suffix("_value"));
        (lookup.unwrap_or(name), text(value))
    })
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// What was before, as an object of texts.
fn old_values<'a>(extra: &mut Extra<'static>, values: impl Iterator<Item = (&'a str, Option<String>)>) {
    let values: Map<String, Value> =
        values.map(|(name, value)| (name.to_owned(), value.map_or(Value::Null, Value::String))).collect();
    if !values.is_empty() {
        extra.insert("OldValues", Json::from(Value::Object(values)));
    }
}

fn attributes(detail: &Value, record: &mut AuditRecord<'static>) {
    let (old, new) = (&detail["OldValue"], &detail["NewValue"]);
    record
        .fields
        .extend(columns(new).map(|(name, value)| Field { name: name.to_owned().into(), value: value.map(Into::into) }));
    if new.is_object() {
        // What is not there any more was cleared.
        let cleared = columns(old).filter(|(name, _)| !columns(new).any(|(present, _)| present == *name));
        record.fields.extend(cleared.map(|(name, _)| Field { name: name.to_owned().into(), value: None }));
    }
    let is_cut = |value: &String| value.len() >= CUT_FROM && value.ends_with('…');
    record.truncated |= columns(old).chain(columns(new)).any(|(_, value)| value.as_ref().is_some_and(is_cut));
    old_values(&mut record.extra, columns(old));
    for (member, names) in [
        ("InvalidNewValueAttributes", &detail["InvalidNewValueAttributes"]),
        ("DeletedAttributes", &detail["DeletedAttributes"]["Values"]),
    ] {
        if names.as_array().is_some_and(|names| !names.is_empty()) {
            record.extra.insert(member, Json::from(names.clone()));
        }
    }
}

/// Who was added or removed. The names of the fields are those that webhook posts of the same messages have.
fn relationship(detail: &Value, record: &mut AuditRecord<'static>) {
    let targets = detail["TargetRecords"].as_array().map(Vec::as_slice).unwrap_or_default();
    record.linked_results = targets.iter().filter_map(row_id).collect();
    if record.operation.ends_with("Associate") || record.operation.ends_with("Disassociate") {
        if let Some(name) = detail["RelationshipName"].as_str() {
            record.fields.push(Field::new("relationship", name.to_owned()));
        }
        return;
    }
    if let Some(name) = detail["RelationshipName"].as_str() {
        record.extra.insert("RelationshipName", name);
    }
    let members: Vec<String> = record.linked_results.iter().map(Uuid::to_string).collect();
    record.fields.push(Field::new("memberids", members.join(",")));
}

/// The id of a row in the Web API's form: the column of the table's name and `id`, else the only column with an id.
fn row_id(row: &Value) -> Option<Uuid> {
    let id = |value: &Value| Uuid::try_parse(value.as_str()?).ok();
    let table = row["@odata.type"].as_str().and_then(|kind| kind.rsplit('.').next()).unwrap_or_default();
    id(&row[format!("{table}id")]).or_else(|| {
        let mut ids =
            row.as_object()?.iter().filter(|(name, _)| !name.contains('@')).filter_map(|(_, value)| id(value));
        ids.next().filter(|_| ids.next().is_none())
    })
}

fn privileges(detail: &Value, record: &mut AuditRecord<'static>) {
    // `privilege depth`, with commas between them.
    let list = |member: &str| {
        let privileges = detail[member].as_array().map(Vec::as_slice).unwrap_or_default();
        let texts = privileges.iter().map(|privilege| {
            let (id, depth) = (text(&privilege["PrivilegeId"]), text(&privilege["Depth"]));
            let name = text(&privilege["PrivilegeName"]).filter(|name| !name.is_empty());
            [name.or(id), depth].into_iter().flatten().collect::<Vec<_>>().join(" ")
        });
        texts.collect::<Vec<_>>().join(", ")
    };
    record.fields.push(Field::new("privileges", list("NewRolePrivileges")));
    old_values(&mut record.extra, [("privileges", Some(list("OldRolePrivileges")))].into_iter());
    if detail["InvalidNewPrivileges"].as_array().is_some_and(|invalid| !invalid.is_empty()) {
        record.extra.insert("InvalidNewPrivileges", Json::from(detail["InvalidNewPrivileges"].clone()));
    }
}

fn sharing(detail: &Value, record: &mut AuditRecord<'static>) {
    if let Some(principal) = row_id(&detail["Principal"]) {
        record.fields.push(Field::new("principal", principal.to_string()));
        record.linked_results.push(principal);
    }
    record.fields.push(Field::new("privileges", text(&detail["NewPrivileges"]).unwrap_or_default()));
    old_values(&mut record.extra, [("privileges", text(&detail["OldPrivileges"]))].into_iter());
}
