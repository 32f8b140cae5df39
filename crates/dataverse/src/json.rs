//! Dataverse's JSON dialect, read without building trees.
//!
//! `DataContractJsonSerializer` writes dictionaries as arrays of `{"key": …, "value": …}`, dates as `/Date(ms)/`, and a
//! `__type` as the first member of what has a base class for its static type. A value stays a slice of the body
//! ([`RawValue`]) until somebody asks for it.

use std::borrow::Cow;

use actlog_core::Timestamp;
pub(crate) use actlog_core::json::{Members, Text, nested_deeper_than};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

/// One element of a dictionary.
#[derive(Debug, Deserialize)]
pub(crate) struct Pair<'a> {
    #[serde(borrow)]
    pub(crate) key: Text<'a>,
    /// `None` for null.
    #[serde(borrow, default)]
    pub(crate) value: Option<&'a RawValue>,
}

/// The value of that key, the first where there are several; keys are compared as .NET compares them: exactly.
pub(crate) fn lookup<'a>(pairs: &[Pair<'a>], key: &str) -> Option<&'a RawValue> {
    pairs.iter().find(|pair| pair.key.0 == key).and_then(|pair| pair.value)
}

/// Reads a value as `T`; `None` where it has another shape.
pub(crate) fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// The text of a JSON string; `None` for other values.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let quoted = value.get();
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let decoded = serde_json::from_str::<String>(quoted).or_else(|_| serde_json::from_str(&paired(quoted)));
    decoded.ok().map(Cow::Owned)
}

/// The JSON string with U+FFFD in place of halves of characters: .NET cuts texts between the two `\u` escapes of an emoji
/// when a column is full, and no text in UTF-8 can hold half of it.
fn paired(quoted: &str) -> String {
    let mut out = String::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some(place) = memchr::memchr(b'\\', rest.as_bytes()) {
        let (before, escape) = rest.split_at(place);
        out.push_str(before);
        // An escape is two bytes long, `\uXXXX` six, a pair of them twelve.
        let unit = |from: usize| {
            let digits = escape.get(from..from + 6)?.strip_prefix("\\u")?;
            u16::from_str_radix(digits, 16).ok()
        };
        let length = match (unit(0), unit(6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                out.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            (Some(_), _) => 6,
            // The reader has seen that a character follows.
            (None, _) => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    out.push_str(rest);
    out
}

/// The text of a JSON string, unless it is empty.
pub(crate) fn non_empty_text(value: &RawValue) -> Option<Cow<'_, str>> {
    text(value).filter(|text| !text.is_empty())
}

/// The GUID that a JSON string holds; also the all-zero one.
pub(crate) fn guid(value: &RawValue) -> Option<Uuid> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    Uuid::try_parse(inner).ok()
}

/// A GUID that means something: not all zeros.
pub(crate) fn non_zero_guid(value: &RawValue) -> Option<Uuid> {
    guid(value).filter(|id| !id.is_nil())
}

/// A whole number.
pub(crate) fn integer(value: &RawValue) -> Option<i64> {
    value.get().parse().ok()
}

/// The instant of `/Date(1525647913673)/` or `/Date(1553679498000+0000)/`: milliseconds since the epoch, UTC. The
/// offset says in which zone the sender would show it; it moves nothing.
pub(crate) fn date(text: &str) -> Option<Timestamp> {
    let inner = text.strip_prefix("/Date(")?.strip_suffix(")/")?;
    // A sign in first place is that of the number.
    let digits = match inner.get(1..)?.find(['+', '-']) {
        Some(place) => {
            let (digits, zone) = inner.split_at(place + 1);
            (zone.len() == 5 && zone[1..].bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)?
        }
        None => inner,
    };
    digits.parse().ok().map(Timestamp::from_unix_milliseconds)
}

/// The type that a `__type` hint names, without its namespace: `EntityReference`. The serializer writes the hint first.
pub(crate) fn type_hint(value: &RawValue) -> Option<&str> {
    let after_brace = value.get().strip_prefix('{')?.trim_ascii_start();
    let after_key = after_brace.strip_prefix("\"__type\"")?.trim_ascii_start().strip_prefix(':')?;
    let name = after_key.trim_ascii_start().strip_prefix('"')?;
    name.find([':', '"', '\\']).map(|end| &name[..end])
}

/// The elements of an array, each a slice of the body.
pub(crate) fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    if !value.get().starts_with('[') {
        return None;
    }
    read(value)
}

/// Reads a GUID anywhere that serde asks for one; something else becomes nil rather than an error.
pub(crate) fn lenient_guid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    let value = <&RawValue>::deserialize(deserializer).map_err(D::Error::custom)?;
    Ok(guid(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn both_date_forms_are_read_as_utc_milliseconds() {
        for (text, milliseconds) in [
            ("/Date(1525647913673)/", 1_525_647_913_673),
            ("/Date(1553679498000+0000)/", 1_553_679_498_000),
            ("/Date(1506409448000-0700)/", 1_506_409_448_000),
            ("/Date(-62135596800000)/", -62_135_596_800_000),
            ("/Date(-5000+0100)/", -5000),
            ("/Date(0)/", 0),
        ] {
            assert_eq!(date(text).unwrap().unix_milliseconds(), milliseconds, "{text}");
        }
        for text in ["", "/Date()/", "/Date(1", "/Date(x)/", "/Date(1+1)/", "/Date(1+00a0)/", "Date(1)", "/Date(é)/"] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn texts_are_borrowed_unless_they_have_escapes() {
        let plain = raw("\"plain é\"");
        assert!(matches!(text(&plain), Some(Cow::Borrowed("plain é"))));
        assert_eq!(text(&raw(r#""a \"b\" \/ \ud83d\ude00""#)).unwrap(), "a \"b\" / 😀");
        assert_eq!(text(&raw("1")), None);
        assert_eq!(text(&raw(r#""\\ \ud83d\ude00 cut \ud83d""#)).unwrap(), "\\ 😀 cut \u{fffd}");
        assert_eq!(text(&raw(r#""\ude00\ud83d\n\\ud83d é""#)).unwrap(), "\u{fffd}\u{fffd}\n\\ud83d é");
        let pair: Pair<'_> = serde_json::from_str(r#"{"key":"name","value":null}"#).unwrap();
        assert!(matches!(pair.key.0, Cow::Borrowed("name")) && pair.value.is_none());
    }

    #[test]
    fn the_type_hint_is_read_with_and_without_white_space() {
        assert_eq!(type_hint(&raw(r#"{"__type":"Money:http:\/\/x","Value":1}"#)), Some("Money"));
        assert_eq!(type_hint(&raw("{ \"__type\" : \"Entity:http://x\"}")), Some("Entity"));
        assert_eq!(type_hint(&raw(r#"{"Value":1}"#)), None);
        assert_eq!(type_hint(&raw(r#"["__type"]"#)), None);
    }
}
