//! Reading JSON without building trees: a member stays a slice of the text until somebody asks for it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A text, borrowed where it has no escapes. (`Cow` itself always allocates inside of other types: serde's `borrow`
/// reaches it only as a field of its own.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(TextVisitor).map(Text)
    }
}

/// The members of an object, in their order, as often as they stand there.
#[derive(Clone, Debug)]
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

/// Whether brackets are nested deeper than `limit` anywhere in this JSON text. Reading such a text with recursive code
/// could exhaust the stack; serde's own limit does not count what is skipped or kept raw.
pub fn nested_deeper_than(json: &str, limit: usize) -> bool {
    let bytes = json.as_bytes();
    // So deep a nesting needs as many opening brackets. Counting them first, in sums of one byte that the compiler
    // turns into vector code, is many times faster than following them; most bodies don't have so many.
    let openings = bytes.chunks(255).map(|chunk| {
        let sum = chunk.iter().fold(0_u8, |sum, &byte| sum + u8::from(byte == b'[' || byte == b'{'));
        usize::from(sum)
    });
    if openings.sum::<usize>() <= limit {
        return false;
    }
    let (mut depth, mut place) = (0_usize, 0);
    while let Some(&byte) = bytes.get(place) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                // On to the closing quote.
                place += 1;
                while let Some(&inner) = bytes.get(place).filter(|&&inner| inner != b'"') {
                    place += if inner == b'\\' { 2 } else { 1 };
                }
            }
            _ => {}
        }
        place += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_borrowed_unless_they_have_escapes() {
        let texts: Vec<Text<'_>> = serde_json::from_str(r#"["plain", "es\"caped"]"#).unwrap();
        assert!(
            matches!(&texts[..], [Text(Cow::Borrowed("plain")), Text(Cow::Owned(escaped))] if escaped == "es\"caped")
        );
    }

    #[test]
    fn members_keep_their_order_their_text_and_their_repetitions() {
        let Members(members) = serde_json::from_str(r#"{"b": 1.0, "a": [ 2 ], "b": null}"#).unwrap();
        let members: Vec<_> = members.iter().map(|(name, value)| (name.as_ref(), value.get())).collect();
        assert_eq!(members, [("b", "1.0"), ("a", "[ 2 ]"), ("b", "null")]);
    }

    #[test]
    fn nesting_is_counted_outside_of_texts_only() {
        assert!(!nested_deeper_than(&"[]".repeat(500), 2));
        assert!(!nested_deeper_than(r#"["[[[[[[", "\"[[[[", {"a":1}]"#, 2));
        assert!(nested_deeper_than(r#"["]]]]", [[1]]]"#, 2));
        assert!(nested_deeper_than(&"[".repeat(100_000), 256));
        assert!(nested_deeper_than(&"{\"a\":".repeat(100_000), 256));
        assert!(!nested_deeper_than("[[[\"", 3));
    }
}
