//! Field values that are hashed or left out.

use std::borrow::Cow;
use std::collections::HashMap;

use actlog_core::{AuditRecord, Json};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::admin_event;
use crate::document::Values;
use crate::policy::{NameBuffer, Settings};
use crate::query;

/// What stands in a record where a value was left out.
pub const OMITTED: &str = "(omitted)";

/// Begins every hash of a value.
const HASH_PREFIX: &str = "hmac:";

/// Bytes of the HMAC that are kept.
const HASH_BYTES: usize = 16;

/// Hashes values with the host's key.
#[derive(Clone)]
pub(crate) struct ValueHasher(Hmac<Sha256>);

impl std::fmt::Debug for ValueHasher {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ValueHasher")
    }
}

impl ValueHasher {
    /// Bytes that a key must have at least: a shorter one could be found by trying.
    pub(crate) const MIN_KEY_BYTES: usize = 16;

    /// None for a key that is too short.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        if key.len() < Self::MIN_KEY_BYTES {
            return None;
        }
        Hmac::new_from_slice(key).ok().map(Self)
    }

    /// `hmac:` and the first 16 bytes, in hexadecimal digits, of the HMAC-SHA-256 of the column's name in lower case,
    /// a zero byte, and the value. So the same value of the same column has the same hash in every record.
    fn hash(&self, column: &str, value: &str) -> String {
        let mut mac = self.0.clone();
        for byte in column.bytes() {
            mac.update(&[byte.to_ascii_lowercase()]);
        }
        mac.update(&[0]);
        mac.update(value.as_bytes());
        format!("{HASH_PREFIX}{}", hex::encode(&mac.finalize().into_bytes()[..HASH_BYTES]))
    }
}

/// What happens to the values of one entity's columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColumnValues {
    /// Columns with a treatment of their own, by name in lower case.
    pub(crate) columns: HashMap<String, Values>,
    /// All others.
    pub(crate) others: Values,
}

impl ColumnValues {
    pub(crate) fn of(&self, column: &str) -> Values {
        if self.columns.is_empty() {
            return self.others;
        }
        // A name that is too long or not in lower case to look up is none that a policy can name.
        let mut buffer = NameBuffer::default();
        buffer.lowercase(column).and_then(|name| self.columns.get(name)).copied().unwrap_or(self.others)
    }

    /// The strictest treatment of any column.
    pub(crate) fn strictest(&self) -> Values {
        self.columns.values().copied().max().unwrap_or_default().max(self.others)
    }

    /// The strictest treatment, column by column, that any of these gives: for values of which the entity is not known.
    pub(crate) fn strictest_of<'v>(all: impl Iterator<Item = &'v Self>) -> Self {
        let (mut entities, mut strictest) = (0, Self::default());
        let mut named = HashMap::<&String, usize>::new();
        for one in all {
            entities += 1;
            strictest.others = strictest.others.max(one.others);
            for (column, values) in &one.columns {
                *named.entry(column).or_default() += 1;
                let so_far = strictest.columns.entry(column.clone()).or_default();
                *so_far = (*so_far).max(*values);
            }
        }
        // A column that only some entities name is in the others one of the others.
        for (column, values) in &mut strictest.columns {
            if named.get(column) != Some(&entities) {
                *values = (*values).max(strictest.others);
            }
        }
        strictest
    }
}

/// Hashes and leaves out the values of one record.
pub(crate) struct Redaction<'p> {
    pub(crate) hasher: Option<&'p ValueHasher>,
    /// Where other entities' treatment is looked up.
    pub(crate) settings: &'p Settings,
    /// What holds for the record's own entity.
    pub(crate) own: &'p ColumnValues,
    /// What holds for values of which the entity is not known.
    pub(crate) unknown: &'p ColumnValues,
}

impl Redaction<'_> {
    /// What is stored in place of the value; none where the value itself is.
    pub(crate) fn replacement(&self, values: Values, column: &str, value: &str) -> Option<String> {
        match (values, self.hasher) {
            (Values::Keep, _) => None,
            (Values::Hash, Some(hasher)) => Some(hasher.hash(column, value)),
            // A policy that hashes is not compiled without a key; without one, nothing is stored.
            (Values::Hash, None) | (Values::Omit, _) => Some(OMITTED.to_owned()),
        }
    }

    /// The strictest treatment that anything in the record may need.
    pub(crate) fn strictest(&self) -> Values {
        self.own.strictest().max(self.unknown.strictest())
    }

    /// Replaces the values in Fields, Query, PrimaryFieldValue and Extra.
    pub(crate) fn apply(&self, record: &mut AuditRecord<'_>) {
        if self.strictest() == Values::Keep {
            return;
        }
        for field in &mut record.fields {
            let values = self.own.of(&field.name);
            if let Some(value) = &mut field.value
                && let Some(replacement) = self.replacement(values, &field.name, value)
            {
                *value = Cow::Owned(replacement);
            }
        }
        if let Some(text) = &mut record.query
            && let Some(replacement) = query::redact(text, self)
        {
            *text = Cow::Owned(replacement);
        }
        // Which column it is the value of is not known here, so any column's treatment may be meant.
        if let Some(value) = &mut record.primary_field_value
            && let Some(replacement) = self.replacement(self.own.strictest(), "PrimaryFieldValue", value)
        {
            *value = Cow::Owned(replacement);
        }
        self.apply_to_extra(record);
    }

    /// Extra may hold anything about any entity, such as the values of an enclosing operation; so what is not known
    /// to be technical gets the strictest treatment of all.
    fn apply_to_extra(&self, record: &mut AuditRecord<'_>) {
        let values = self.strictest();
        record.extra.retain(|name, value| {
            if is_technical(name, value.get()) {
                return true;
            }
            match (values, self.replacement(values, name, value.get())) {
                (Values::Hash, Some(replacement)) => {
                    *value = Json::from(replacement);
                    true
                }
                _ => false,
            }
        });
    }
}

/// What a technical member of Extra looks like. Anything else under its name is treated as a value.
enum Shape {
    /// A number, true, false or null.
    Number,
    /// A UUID.
    Id,
    /// A row of the specification's tables of events.
    AdminEvent,
    /// Names of messages, entities or columns: a text with one or several (with `, ` between them) or an array. A name
    /// has up to 128 letters, digits, `_` and `.`; or it is `*`.
    Names,
}

/// The members of Extra that say how an operation ran and hold no field values, as actlog's sources name them.
const TECHNICAL: &[(&str, Shape)] = &[
    (admin_event::ADMIN_EVENT, Shape::AdminEvent),
    ("BusinessUnitId", Shape::Id),
    ("Columns", Shape::Names),
    ("Depth", Shape::Number),
    ("InitiatingUserAzureActiveDirectoryObjectId", Shape::Id),
    ("Mode", Shape::Number),
    ("OperationId", Shape::Id),
    ("OwningExtensionId", Shape::Id),
    ("ParentEntityId", Shape::Id),
    ("ParentEntityName", Shape::Names),
    ("ParentMessage", Shape::Names),
    ("RequestId", Shape::Id),
    ("SecondaryEntityName", Shape::Names),
    ("Stage", Shape::Number),
    ("Unread", Shape::Names),
];

fn is_technical(name: &str, json: &str) -> bool {
    let Some((_, shape)) = TECHNICAL.iter().find(|(technical, _)| *technical == name) else { return false };
    let text = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match (shape, text) {
        (Shape::Number, None) => matches!(json, "true" | "false" | "null") || json.parse::<f64>().is_ok(),
        (Shape::Id, Some(text)) => Uuid::try_parse(text).is_ok(),
        (Shape::AdminEvent, Some(_)) => admin_event::category_of(json).is_some(),
        (Shape::Names, Some(text)) => text.split(", ").all(is_name),
        (Shape::Names, None) => {
            serde_json::from_str::<Vec<Cow<'_, str>>>(json).is_ok_and(|names| names.iter().all(|name| is_name(name)))
        }
        _ => false,
    }
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    text == "*" || (text.len() <= 128 && text.bytes().all(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_key_column_and_value_and_on_nothing_else() {
        let hasher = ValueHasher::new(b"0123456789abcdef").unwrap();
        let hash = hasher.hash("fullname", "Ada");
        // Computed with another implementation:
        // printf 'fullname\0Ada' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(hash, "hmac:02de7b39dcf2b92e2edaa78cb850a112");
        assert_eq!(hasher.hash("FullName", "Ada"), hash);
        assert_ne!(hasher.hash("firstname", "Ada"), hash);
        assert_ne!(hasher.hash("fullname", "ada"), hash);
        assert_ne!(ValueHasher::new(b"0123456789abcdeF").unwrap().hash("fullname", "Ada"), hash);
        assert!(ValueHasher::new(b"0123456789abcde").is_none());
        assert!(!format!("{hasher:?}").contains("0123"));
    }

    #[test]
    fn technical_members_are_told_by_name_and_shape() {
        for (name, json) in [
            ("Stage", "40"),
            ("AdminEvent", "\"Team, user management\""),
            ("Depth", "1"),
            ("Columns", r#"["name","fax"]"#),
            ("Columns", r#""*""#),
            ("Unread", r#""InputParameters, SharedVariables""#),
            ("OperationId", r#""0a0d8709-711e-e811-a952-000d3a732d76""#),
            ("ParentMessage", r#""QualifyLead""#),
        ] {
            assert!(is_technical(name, json), "{name} {json}");
        }
        for (name, json) in [
            ("Stage", r#""Ada Lovelace""#),
            ("Stage", r#"{"name":"Ada"}"#),
            ("OperationId", r#""Ada""#),
            ("ParentMessage", r#""Ada Lovelace""#),
            ("ParentMessage", r#"{"name":"Ada"}"#),
            ("Columns", r#"["Ada Lovelace"]"#),
            ("Columns", r#"[["Ada"]]"#),
            ("SharedVariables", "1"),
        ] {
            assert!(!is_technical(name, json), "{name} {json}");
        }
    }
}
