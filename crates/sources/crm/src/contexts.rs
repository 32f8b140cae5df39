//! From bytes to records: what is in a body, and what becomes of each part.

use std::ops::Range;

use actlog_core::{AuditRecord, EmitError, Emitter, Prepared};
use actlog_dataverse::{Envelope, MappingOptions, map_context};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Most contexts of one request. A context has some hundred bytes at least, so no honest batch comes near.
const MAXIMUM_ELEMENTS: usize = 100_000;

/// How a body is divided into contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One context, or a JSON array of them.
    Json,
    /// One context a line.
    Lines,
}

impl Form {
    /// By the media type; what isn't known as lines is taken for JSON, which then says itself whether it is.
    pub(crate) fn of(content_type: Option<&str>) -> Self {
        const LINES: [&str; 6] = [
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
            "application/x-jsonlines",
            "application/jsonlines",
            "application/json-lines",
        ];
        let is_lines = content_type.is_some_and(|text| LINES.iter().any(|known| text.eq_ignore_ascii_case(known)));
        if is_lines { Self::Lines } else { Self::Json }
    }
}

/// A part of the input that is no context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Rejected {
    /// Line of the input, or number in the array, from 1.
    pub(crate) line: u64,
    /// What is wrong with it.
    pub(crate) reason: String,
    /// Where its bytes are.
    #[serde(skip)]
    pub(crate) place: Range<usize>,
}

/// The contexts of a body, each with its line or number.
#[derive(Debug)]
pub(crate) struct Elements<'a> {
    pub(crate) contexts: Vec<(u64, &'a [u8])>,
    /// Whether they came as a batch, whose elements stand for themselves.
    pub(crate) is_batch: bool,
}

/// Divides a body.
///
/// # Errors
/// What is wrong, for the answer.
pub(crate) fn divide(body: &[u8], form: Form) -> Result<Elements<'_>, String> {
    let trimmed = body.trim_ascii();
    match form {
        Form::Json if trimmed.first() == Some(&b'[') => {
            let Array(elements) = serde_json::from_slice(trimmed)
                .map_err(|error| format!("the body is not a JSON array of contexts: {error}"))?;
            let contexts = (1..).zip(elements.iter().map(|element| element.get().as_bytes())).collect();
            Ok(Elements { contexts, is_batch: true })
        }
        Form::Json => Ok(Elements { contexts: vec![(1, body)], is_batch: false }),
        Form::Lines => {
            let contexts: Vec<_> = lines(body).take(MAXIMUM_ELEMENTS + 1).collect();
            if contexts.len() > MAXIMUM_ELEMENTS {
                return Err(too_many());
            }
            Ok(Elements { contexts, is_batch: true })
        }
    }
}

fn too_many() -> String {
    format!("the body holds more than {MAXIMUM_ELEMENTS} contexts; send it in smaller parts")
}

/// The lines that aren't blank, with their numbers from 1.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', bytes).chain(std::iter::once(bytes.len()));
    let all = ends.map(move |end| {
        let line = &bytes[start..end];
        start = end + 1;
        line
    });
    (1..).zip(all).filter(|(_, line)| !line.trim_ascii().is_empty())
}

/// The elements of a JSON array as they stand in the body.
struct Array<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Array<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Slices;
        impl<'de> Visitor<'de> for Slices {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array of contexts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = sequence.next_element()? {
                    if elements.len() == MAXIMUM_ELEMENTS {
                        return Err(A::Error::custom(too_many()));
                    }
                    elements.push(element);
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(Slices).map(Array)
    }
}

/// What became of the elements of an input.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// The records, encoded; to be submitted even when there are none, for the position's sake.
    pub(crate) prepared: Prepared,
    pub(crate) accepted: usize,
    pub(crate) rejected: Vec<Rejected>,
}

/// Maps contexts to records and prepares them. `check` may refuse a record, with its reason.
///
/// # Errors
/// As [`Emitter::prepare`] has them.
pub(crate) fn map(
    body: &[u8],
    contexts: &[(u64, &[u8])],
    envelope: &Envelope<'_>,
    options: &MappingOptions,
    emitter: &Emitter,
    position: Option<Vec<u8>>,
    check: impl Fn(&AuditRecord<'_>) -> Result<(), String>,
) -> Result<Mapped, EmitError> {
    let mut records = Vec::with_capacity(contexts.len());
    let mut rejected = Vec::new();
    for (line, context) in contexts {
        let mapped = map_context(context, envelope, options).map_err(|error| error.to_string());
        match mapped.and_then(|record| check(&record).map(|()| record)) {
            Ok(record) => records.push(record),
            Err(reason) => rejected.push(Rejected { line: *line, reason, place: place_in(body, context) }),
        }
    }
    let accepted = records.len();
    Ok(Mapped { prepared: emitter.prepare(records, position)?, accepted, rejected })
}

/// Where a part of `body` stands in it.
fn place_in(body: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(body.as_ptr() as usize).min(body.len());
    start..(start + part.len()).min(body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &[u8], form: Form) -> Vec<(u64, String)> {
        let elements = divide(body, form).unwrap().contexts;
        elements.iter().map(|(line, bytes)| (*line, String::from_utf8_lossy(bytes).into_owned())).collect()
    }

    #[test]
    fn lines_keep_their_numbers_and_blank_ones_are_passed_over() {
        let expected = [(1, "{1}\r"), (3, "{2}"), (5, "{3}")].map(|(line, text)| (line, text.to_owned()));
        assert_eq!(texts(b"{1}\r\n\n{2}\n \t\r\n{3}", Form::Lines), expected);
        assert_eq!(texts(b"{1}\r\n\n{2}\n \t\r\n{3}\n", Form::Lines), expected);
        assert!(texts(b"\n\n", Form::Lines).is_empty());
    }

    #[test]
    fn arrays_and_single_contexts_are_told_apart_by_their_first_byte() {
        let expected = [(1, "{\"a\": 1}"), (2, "7")].map(|(line, text)| (line, text.to_owned()));
        assert_eq!(texts(b" [ {\"a\": 1} , 7 ] ", Form::Json), expected);
        assert!(divide(b"[{}", Form::Json).unwrap_err().contains("not a JSON array"));
        assert!(!divide(b"{}", Form::Json).unwrap().is_batch);
        assert!(divide(b"[]", Form::Json).unwrap().contexts.is_empty());
    }

    #[test]
    fn hostile_arrays_end_in_an_error() {
        let many = format!("[{}0]", "0,".repeat(MAXIMUM_ELEMENTS));
        assert!(divide(many.as_bytes(), Form::Json).unwrap_err().contains("more than 100000"));
        assert!(divide("1\n".repeat(MAXIMUM_ELEMENTS + 1).as_bytes(), Form::Lines).is_err());
        for deep in ["[".repeat(1 << 20), format!("[{}", "{\"a\":".repeat(1 << 20))] {
            assert!(divide(deep.as_bytes(), Form::Json).is_err());
        }
        let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        // Divided without recursion; what is no context is told when it is mapped.
        assert_eq!(divide(deep.as_bytes(), Form::Json).unwrap().contexts.len(), 1);
    }

    #[test]
    fn the_media_type_decides_about_lines() {
        assert_eq!(Form::of(Some("Application/X-NDJSON")), Form::Lines);
        assert_eq!(Form::of(Some("application/json")), Form::Json);
        assert_eq!(Form::of(None), Form::Json);
    }
}
