//! Column values and parameters as text. The table of forms is in `docs/crm-mapping.md`.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::json::{self, Pair, Text};

/// Byte values up to this length are kept, as base64; of longer ones the length is kept.
const MAX_BYTES_KEPT: usize = 1024;
/// Texts of parameters up to this length (in the body's bytes) are kept.
const MAX_PARAMETER_KEPT: usize = 16 * 1024;
/// How deep values may hold values before the inner one is kept as JSON.
const MAX_NESTING: usize = 8;
/// What stands for a value that must not be in a log.
const LEFT_OUT: &str = "(left out)";

/// `EntityReference`: a row by its id, or by its alternate key.
#[derive(Debug, Deserialize)]
pub(crate) struct Reference<'a> {
    #[serde(rename = "Id", deserialize_with = "json::lenient_guid", default)]
    pub(crate) id: Uuid,
    #[serde(rename = "LogicalName", borrow, default)]
    pub(crate) logical_name: Option<Text<'a>>,
    #[serde(rename = "KeyAttributes", borrow, default)]
    pub(crate) key_attributes: Option<Vec<Pair<'a>>>,
}

/// `Entity`: a row with the columns that were sent.
#[derive(Debug, Deserialize)]
pub(crate) struct Entity<'a> {
    #[serde(rename = "Id", deserialize_with = "json::lenient_guid", default)]
    pub(crate) id: Uuid,
    #[serde(rename = "LogicalName", borrow, default)]
    pub(crate) logical_name: Option<Text<'a>>,
    #[serde(rename = "Attributes", borrow)]
    pub(crate) attributes: Vec<Pair<'a>>,
    #[serde(rename = "RelatedEntities", borrow, default)]
    pub(crate) related_entities: Option<&'a RawValue>,
}

impl<'a> Entity<'a> {
    /// The row's id, from its primary key column where the member is zero (rows of activities have `activityid`).
    pub(crate) fn row_id(&self) -> Option<Uuid> {
        if !self.id.is_nil() {
            return Some(self.id);
        }
        let name = &self.logical_name.as_ref()?.0;
        let key = self.attributes.iter().find(|pair| pair.key.0.strip_suffix("id").is_some_and(|stem| stem == *name));
        key.or_else(|| self.attributes.iter().find(|pair| pair.key.0 == "activityid"))
            .and_then(|pair| json::non_zero_guid(pair.value?))
    }

    /// A column that is there and not null.
    pub(crate) fn attribute(&self, name: &str) -> Option<&'a RawValue> {
        json::lookup(&self.attributes, name)
    }
}

/// The text of a value; `None` for null. Texts, numbers and truth values are slices of the body.
pub(crate) fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    text_at(value, 0)
}

/// The text of a column or parameter of that name, which is left out where the name says that it is a secret.
pub(crate) fn text_of_named<'a>(name: &str, value: &'a RawValue) -> Option<Cow<'a, str>> {
    if value.get() != "null" && is_secret(name) { Some(Cow::Borrowed(LEFT_OUT)) } else { text_of(value) }
}

/// The text of a request's parameter. Bytes (a solution file, a spreadsheet) and very long texts are named by their
/// length only.
pub(crate) fn parameter_text<'a>(name: &str, value: &'a RawValue) -> Option<Cow<'a, str>> {
    let length = match value.get().as_bytes().first()? {
        b'[' => json::read::<Vec<u8>>(value).map(|bytes| bytes.len()).filter(|&length| length > 0),
        b'"' => Some(value.get().len() - 2).filter(|&length| length > MAX_PARAMETER_KEPT),
        _ => None,
    };
    match length {
        Some(length) => Some(Cow::Owned(format!("({length} bytes)"))),
        None => text_of_named(name, value),
    }
}

/// Whether a column or parameter holds a password, a key or another secret, going by its name.
pub(crate) fn is_secret(name: &str) -> bool {
    let bytes = name.as_bytes();
    (0..bytes.len()).any(|place| {
        // One look at each letter sorts out nearly every name.
        let words: &[&str] = match bytes[place].to_ascii_lowercase() {
            b'a' => &["accesstoken", "apikey", "authvalue"],
            b'c' => &["connectionstring"],
            b'd' => &["decryptionkey"],
            b'e' => &["encryptionkey"],
            b'p' => &["passphrase", "password", "privatekey"],
            b'r' => &["refreshtoken"],
            b's' => &["saskey", "sastoken", "secret", "secureconfig"],
            _ => &[],
        };
        words.iter().any(|word| {
            bytes.get(place..place + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word.as_bytes()))
        })
    })
}

fn text_at(value: &RawValue, level: usize) -> Option<Cow<'_, str>> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'"' => {
            let text = json::text(value)?;
            Some(match json::date(&text) {
                Some(time) => Cow::Owned(time.to_string()),
                None => text,
            })
        }
        b'n' => None,
        b'{' => Some(object_text(value, level)),
        b'[' => Some(array_text(value, level)),
        _ => Some(Cow::Borrowed(json)),
    }
}

/// An object by its type hint, else by its shape; as JSON where neither says what it is.
fn object_text(value: &RawValue, level: usize) -> Cow<'_, str> {
    let as_json = || Cow::Borrowed(value.get());
    if level >= MAX_NESTING {
        return as_json();
    }
    match json::type_hint(value) {
        Some("EntityReference") => {
            json::read::<Reference<'_>>(value).map_or_else(as_json, |reference| Cow::Owned(reference_text(&reference)))
        }
        Some("Entity") => json::read(value).map_or_else(as_json, |entity| entity_text(&entity, value, level)),
        Some("EntityCollection") => {
            json::read::<Collection<'_>>(value).map_or_else(as_json, |rows| joined(&rows.entities, level))
        }
        Some("PrincipalAccess") => json::read::<PrincipalAccess<'_>>(value)
            .map_or_else(as_json, |access| Cow::Owned(reference_text(&access.principal))),
        // OptionSetValue, Money, AliasedValue, BooleanManagedProperty, and "__value" of a library's own dialect.
        _ => match json::read::<Wrapped<'_>>(value).and_then(|wrapped| wrapped.inner()) {
            Some(inner) => text_at(inner, level + 1).unwrap_or_default(),
            None => as_json(),
        },
    }
}

/// Arrays of numbers are bytes (base64) or, with anything above 255, numbers; others a comma-separated list.
fn array_text(value: &RawValue, level: usize) -> Cow<'_, str> {
    if level >= MAX_NESTING {
        return Cow::Borrowed(value.get());
    }
    if let Some(bytes) = json::read::<Vec<u8>>(value).filter(|bytes| !bytes.is_empty()) {
        return Cow::Owned(if bytes.len() <= MAX_BYTES_KEPT {
            STANDARD.encode(bytes)
        } else {
            format!("({} bytes)", bytes.len())
        });
    }
    match json::elements(value) {
        Some(elements) => joined(&elements, level),
        None => Cow::Borrowed(value.get()),
    }
}

/// The texts of several values, comma-separated.
fn joined(values: &[&RawValue], level: usize) -> Cow<'static, str> {
    let mut out = String::new();
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        // The rows of a collection have no type hint; their shape tells.
        let row = value.get().starts_with('{') && json::type_hint(value).is_none();
        let text = match row.then(|| json::read::<Entity<'_>>(value)).flatten() {
            Some(entity) if level < MAX_NESTING => Some(entity_text(&entity, value, level + 1)),
            _ => text_at(value, level + 1),
        };
        out.push_str(&text.unwrap_or_default());
    }
    Cow::Owned(out)
}

/// The id, else the alternate key as `column=value`.
fn reference_text(reference: &Reference<'_>) -> String {
    let mut out = String::new();
    let keys = reference.key_attributes.as_deref().unwrap_or_default();
    if !reference.id.is_nil() || keys.is_empty() {
        let _ = write!(out, "{}", reference.id);
        return out;
    }
    for (place, key) in keys.iter().enumerate() {
        let value = key.value.and_then(|value| text_at(value, MAX_NESTING)).unwrap_or_default();
        let _ = write!(out, "{}{}={value}", if place > 0 { "," } else { "" }, key.key.0);
    }
    out
}

/// A row inside of a value: the party of an activity is who it stands for, anything else its id.
fn entity_text<'a>(entity: &Entity<'a>, value: &'a RawValue, level: usize) -> Cow<'a, str> {
    let is_party = entity.logical_name.as_ref().is_some_and(|name| name.0 == "activityparty");
    let party = is_party.then(|| entity.attribute("partyid").or_else(|| entity.attribute("addressused"))).flatten();
    match (party.and_then(|party| text_at(party, level + 1)), entity.row_id()) {
        (Some(party), _) => party,
        (None, Some(id)) => Cow::Owned(id.to_string()),
        (None, None) => Cow::Borrowed(value.get()),
    }
}

/// What wraps one value.
#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(rename = "Value", borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(rename = "__value", borrow, default)]
    dialect_value: Option<&'a RawValue>,
}

impl<'a> Wrapped<'a> {
    fn inner(&self) -> Option<&'a RawValue> {
        self.value.or(self.dialect_value)
    }
}

/// The rows of an `EntityCollection`.
#[derive(Deserialize)]
struct Collection<'a> {
    #[serde(rename = "Entities", borrow)]
    entities: Vec<&'a RawValue>,
}

/// With whom a row is shared, and what they may do with it (a sum of the SDK's `AccessRights`).
#[derive(Deserialize)]
pub(crate) struct PrincipalAccess<'a> {
    #[serde(rename = "AccessMask", borrow, default)]
    pub(crate) access_mask: Option<&'a RawValue>,
    #[serde(rename = "Principal", borrow)]
    pub(crate) principal: Reference<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Option<String> {
        text_of(&RawValue::from_string(json.to_owned()).unwrap()).map(Cow::into_owned)
    }

    #[test]
    fn every_value_type_has_its_documented_text() {
        let hint = |name: &str, rest: &str| format!(r#"{{"__type":"{name}:http:\/\/x",{rest}}}"#);
        let id = "0a0d8709-711e-4811-a952-000d3a732d76";
        let reference =
            hint("EntityReference", &format!(r#""Id":"{id}","KeyAttributes":[],"LogicalName":"account","Name":"A""#));
        for (json, expected) in [
            (r#""plain""#.to_owned(), "plain"),
            (r#""a \/ b""#.to_owned(), "a / b"),
            ("true".to_owned(), "true"),
            ("10.120".to_owned(), "10.120"),
            ("9007199254740993".to_owned(), "9007199254740993"),
            (r#""\/Date(1709251199123)\/""#.to_owned(), "2024-02-29T23:59:59.123Z"),
            (r#""\/Date(1709164800000+0200)\/""#.to_owned(), "2024-02-29T00:00:00Z"),
            (hint("Money", r#""Value":1234567.8900"#), "1234567.8900"),
            (hint("OptionSetValue", r#""Value":3"#), "3"),
            (reference.clone(), id),
            (hint("AliasedValue", &format!(r#""AttributeLogicalName":"x","Value":{reference}"#)), id),
            (hint("BooleanManagedProperty", r#""CanBeChanged":true,"Value":false"#), "false"),
            (format!("[{},{}]", hint("OptionSetValue", r#""Value":1"#), hint("OptionSetValue", r#""Value":2"#)), "1,2"),
            ("[]".to_owned(), ""),
            ("[1,2,255]".to_owned(), "AQL/"),
            ("[1,2,256]".to_owned(), "1,2,256"),
            (format!("[\"{id}\",\"b\"]"), "0a0d8709-711e-4811-a952-000d3a732d76,b"),
            (r#"{"__type":"Guid:#System","__value":"x"}"#.to_owned(), "x"),
            (r#"{"unheard":[1]}"#.to_owned(), r#"{"unheard":[1]}"#),
            (
                hint(
                    "EntityReference",
                    r#""Id":"00000000-0000-0000-0000-000000000000","KeyAttributes":[{"key":"no","value":7}]"#,
                ),
                "no=7",
            ),
            (
                hint(
                    "EntityCollection",
                    &format!(
                        r#""Entities":[{{"Attributes":[{{"key":"partyid","value":{reference}}}],"Id":"5328c462-3038-4fd8-d8bc-77bf402512fc","LogicalName":"activityparty"}}]"#
                    ),
                ),
                id,
            ),
            (
                hint(
                    "Entity",
                    &format!(r#""Attributes":[{{"key":"taskid","value":"{id}"}}],"Id":null,"LogicalName":"task""#),
                ),
                id,
            ),
        ] {
            assert_eq!(text(&json).as_deref(), Some(expected), "{json}");
        }
        assert_eq!(text("null"), None);
    }

    #[test]
    fn long_byte_values_are_named_by_their_length() {
        let bytes = vec!["7"; MAX_BYTES_KEPT + 1].join(",");
        assert_eq!(text(&format!("[{bytes}]")).unwrap(), "(1025 bytes)");
    }

    #[test]
    fn values_inside_of_values_end_at_a_depth() {
        let deep = "{\"Value\":".repeat(100) + "1" + &"}".repeat(100);
        assert!(text(&deep).unwrap().starts_with("{\"Value\":"));
        assert!(text(&("[".repeat(100) + &"]".repeat(100))).unwrap().starts_with('['));
    }

    #[test]
    fn secrets_are_told_by_their_names() {
        for name in ["password", "new_Password2", "authvalue", "EncryptionKey", "saskey"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["name", "passport", "key", "description"] {
            assert!(!is_secret(name), "{name}");
        }
        let value = RawValue::from_string("\"x\"".to_owned()).unwrap();
        assert_eq!(text_of_named("password", &value).unwrap(), LEFT_OUT);
        assert_eq!(text_of_named("password", RawValue::NULL), None);
    }
}
