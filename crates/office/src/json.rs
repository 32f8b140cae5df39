//! Reading a record's members without building trees: a member stays a slice of the bytes until somebody asks for it.

use std::borrow::Cow;
use std::fmt;

use actlog_core::Json;
pub(crate) use actlog_core::json::{Members, Text};
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

/// How deep a member may be nested, so that every reader of JSON can read the record.
const MAX_DEPTH: usize = 64;

/// Reads a value as `T`; `None` where it has another shape.
pub(crate) fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// The text of a JSON string; `None` for other values.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    value.get().starts_with('"').then(|| read::<Text<'_>>(value)).flatten().map(|text| text.0)
}

/// The text of a JSON string under Extra; `None` for other values.
pub(crate) fn text_of<'v>(value: &'v Json<'_>) -> Option<Cow<'v, str>> {
    serde_json::from_str(value.get()).ok().map(|Text(text)| text)
}

/// Whether this JSON stands for no value: null, an empty text, the all-zero GUID.
pub(crate) fn says_nothing(value: &str) -> bool {
    value == "null"
        || serde_json::from_str(value)
            .is_ok_and(|Text(text)| text.is_empty() || Uuid::try_parse(&text) == Ok(Uuid::nil()))
}

/// The GUID that a JSON string holds, unless it is the all-zero one, which stands for none.
pub(crate) fn guid(value: &RawValue) -> Option<Uuid> {
    Uuid::try_parse(&text(value)?).ok().filter(|id| !id.is_nil())
}

/// A whole number, also as a text or with an exponent: `20`, `"20"`, `"1e9"`.
pub(crate) fn integer(value: &RawValue) -> Option<i32> {
    /// No number that fits is written longer.
    const MAX_LENGTH: usize = 32;
    let text = text(value);
    let digits = text.as_deref().unwrap_or(value.get());
    if digits.len() > MAX_LENGTH {
        return None;
    }
    digits.parse().ok().or_else(|| {
        let number: f64 = digits.parse().ok()?;
        let fits = number.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number);
        fits.then_some(number as i32)
    })
}

/// Whether any reader of JSON can read this JSON text: it is not nested too deep, its numbers are in the range of
/// 64-bit ones, and its texts hold no halves of characters. (Skipping a value, as raw ones are, checks none of this.)
pub(crate) fn is_readable(value: &str) -> bool {
    let json = value.as_bytes();
    match json.first() {
        Some(b't' | b'f' | b'n') => true,
        Some(b'"') if !json.contains(&b'\\') => true,
        _ => {
            let mut deserializer = serde_json::Deserializer::from_str(value);
            Readable { depth: MAX_DEPTH }.deserialize(&mut deserializer).is_ok()
        }
    }
}

/// Visits a value and all in it, and keeps nothing.
#[derive(Clone, Copy)]
struct Readable {
    /// How many levels more are allowed.
    depth: usize,
}

impl Readable {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Readable {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.inner::<A::Error>()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.inner::<A::Error>()?;
        while map.next_key::<Text<'de>>()?.is_some() {
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}
