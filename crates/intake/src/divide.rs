//! What is in a body: the elements that become a record each.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::csv::{Header, rows};

/// Most elements of one request, and of one array. An event has some hundred bytes, so no honest batch comes near.
pub(crate) const MAXIMUM_ELEMENTS: usize = 100_000;

/// How a body is divided into elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One element, or a JSON array of them.
    Json,
    /// One element a line; or an array of them on one line.
    Lines,
    /// CSV (RFC 4180) with a header line. Each row becomes a JSON object of texts, named by the header; empty cells are
    /// left out.
    Csv,
}

impl Form {
    /// By the media type; what isn't known as lines or CSV is taken for JSON, which then says itself whether it is.
    pub(crate) fn of(content_type: Option<&str>, takes_csv: bool) -> Self {
        const LINES: [&str; 6] = [
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
            "application/x-jsonlines",
            "application/jsonlines",
            "application/json-lines",
        ];
        let is = |known: &str| content_type.is_some_and(|text| text.eq_ignore_ascii_case(known));
        if LINES.into_iter().any(is) {
            return Self::Lines;
        }
        if takes_csv && is("text/csv") { Self::Csv } else { Self::Json }
    }
}

/// One element of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// Line of the input, or number in its array, from 1.
    pub line: u64,
    /// Its JSON text.
    pub bytes: Cow<'a, [u8]>,
    /// Where it stands in the input.
    pub place: Range<usize>,
}

/// A part of the input that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Line of the input, or number in its array, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
    /// Where it stands in the input.
    #[serde(skip)]
    pub place: Range<usize>,
}

/// The elements of an input, in their order.
#[derive(Debug, Default)]
pub struct Elements<'a> {
    /// What is to be mapped.
    pub list: Vec<Element<'a>>,
    /// What can't be.
    pub refused: Vec<Rejected>,
    /// Whether they came as a batch, whose elements stand for themselves.
    pub is_batch: bool,
}

impl<'a> Elements<'a> {
    fn push(&mut self, line: u64, body: &[u8], bytes: &'a [u8]) {
        self.list.push(Element { line, bytes: Cow::Borrowed(bytes), place: place_in(body, bytes) });
    }
}

/// Divides a body.
///
/// # Errors
/// What is wrong, for the answer: an array that is none, a CSV without a usable header, or too many elements.
pub fn divide(body: &[u8], form: Form) -> Result<Elements<'_>, String> {
    let trimmed = body.trim_ascii();
    let mut elements = Elements { is_batch: true, ..Elements::default() };
    match form {
        Form::Json if trimmed.first() == Some(&b'[') => {
            let array = array(trimmed).map_err(|error| format!("the body is not a JSON array: {error}"))?;
            elements.list.reserve_exact(array.len());
            for (number, element) in (1..).zip(array) {
                elements.push(number, body, element.get().as_bytes());
            }
        }
        Form::Json => {
            elements.is_batch = false;
            elements.push(1, body, body);
        }
        Form::Lines => {
            for (line, bytes) in lines(body) {
                divide_line(&mut elements, body, line, bytes);
                if elements.list.len() > MAXIMUM_ELEMENTS {
                    return Err(too_many());
                }
            }
        }
        Form::Csv => {
            let (header, start) = Header::read(body)?;
            elements = rows(body, start, 0, usize::MAX, &header);
            if elements.list.len() + elements.refused.len() > MAXIMUM_ELEMENTS {
                return Err(too_many());
            }
        }
    }
    Ok(elements)
}

/// Adds what is on a line: an element, or the elements of an array. An array that is none counts as one element, which
/// is told what it is when it is mapped.
pub(crate) fn divide_line<'a>(elements: &mut Elements<'a>, body: &[u8], line: u64, bytes: &'a [u8]) {
    let trimmed = bytes.trim_ascii();
    match (trimmed.first() == Some(&b'[')).then(|| array(trimmed)) {
        Some(Ok(array)) => array.iter().for_each(|element| elements.push(line, body, element.get().as_bytes())),
        _ => elements.push(line, body, bytes),
    }
}

fn too_many() -> String {
    format!("the body holds more than {MAXIMUM_ELEMENTS} elements; send it in smaller parts")
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

/// Where a part of `body` stands in it.
fn place_in(body: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(body.as_ptr() as usize).min(body.len());
    start..(start + part.len()).min(body.len())
}

/// The elements of a JSON array as they stand in it.
fn array(text: &[u8]) -> serde_json::Result<Vec<&RawValue>> {
    serde_json::from_slice(text).map(|Array(elements)| elements)
}

struct Array<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Array<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Slices;
        impl<'de> Visitor<'de> for Slices {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &[u8], form: Form) -> Vec<(u64, String)> {
        let elements = divide(body, form).unwrap();
        for element in &elements.list {
            assert!(form == Form::Csv || body[element.place.clone()] == *element.bytes);
        }
        elements.list.iter().map(|one| (one.line, String::from_utf8_lossy(&one.bytes).into_owned())).collect()
    }

    fn owned<const N: usize>(expected: [(u64, &str); N]) -> Vec<(u64, String)> {
        expected.map(|(line, text)| (line, text.to_owned())).into()
    }

    #[test]
    fn lines_keep_their_numbers_and_blank_ones_are_passed_over() {
        let expected = owned([(1, "{1}\r"), (3, "{2}"), (5, "{3}")]);
        assert_eq!(texts(b"{1}\r\n\n{2}\n \t\r\n{3}", Form::Lines), expected);
        assert_eq!(texts(b"{1}\r\n\n{2}\n \t\r\n{3}\n", Form::Lines), expected);
        assert!(texts(b"\n\n", Form::Lines).is_empty());
    }

    #[test]
    fn an_array_on_a_line_stands_for_its_elements() {
        assert_eq!(
            texts(b"{}\n [1, {\"a\":2}]\r\n[]\n[3", Form::Lines),
            owned([(1, "{}"), (2, "1"), (2, "{\"a\":2}"), (4, "[3")])
        );
    }

    #[test]
    fn arrays_and_single_elements_are_told_apart_by_their_first_byte() {
        assert_eq!(texts(b" [ {\"a\": 1} , 7 ] ", Form::Json), owned([(1, "{\"a\": 1}"), (2, "7")]));
        assert!(divide(b"[{}", Form::Json).unwrap_err().contains("not a JSON array"));
        assert!(!divide(b"{}", Form::Json).unwrap().is_batch);
        assert!(divide(b"[]", Form::Json).unwrap().list.is_empty());
    }

    #[test]
    fn hostile_arrays_end_in_an_error() {
        let many = format!("[{}0]", "0,".repeat(MAXIMUM_ELEMENTS));
        assert!(divide(many.as_bytes(), Form::Json).unwrap_err().contains("more than 100000"));
        assert!(divide("1\n".repeat(MAXIMUM_ELEMENTS + 1).as_bytes(), Form::Lines).is_err());
        assert!(divide("[1,1,1]\n".repeat(MAXIMUM_ELEMENTS / 2).as_bytes(), Form::Lines).is_err());
        assert!(divide(format!("a\n{}", "1\n".repeat(MAXIMUM_ELEMENTS + 1)).as_bytes(), Form::Csv).is_err());
        for deep in ["[".repeat(1 << 20), format!("[{}", "{\"a\":".repeat(1 << 20))] {
            assert!(divide(deep.as_bytes(), Form::Json).is_err());
            assert_eq!(divide(deep.as_bytes(), Form::Lines).unwrap().list.len(), 1);
        }
        let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        // Divided without recursion; what is no event is told when it is mapped.
        assert_eq!(divide(deep.as_bytes(), Form::Json).unwrap().list.len(), 1);
    }

    #[test]
    fn the_media_type_decides_about_lines_and_csv() {
        assert_eq!(Form::of(Some("Application/X-NDJSON"), false), Form::Lines);
        assert_eq!(Form::of(Some("application/json"), true), Form::Json);
        assert_eq!(Form::of(Some("Text/CSV"), true), Form::Csv);
        assert_eq!(Form::of(Some("text/csv"), false), Form::Json);
        assert_eq!(Form::of(None, true), Form::Json);
    }
}
