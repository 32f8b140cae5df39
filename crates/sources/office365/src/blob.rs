//! A blob of records, and its division into records.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;

use crate::seen::Key;

/// A blob that was fetched.
#[derive(Debug)]
pub(crate) struct Blob {
    /// Its tenant's configured name.
    pub(crate) tenant: Arc<str>,
    pub(crate) content_type: &'static str,
    pub(crate) content_id: String,
    /// Of tenant and content id.
    pub(crate) key: Key,
    /// The day on which it became available; its records are remembered for as long as that day is.
    pub(crate) day: u32,
    pub(crate) body: Bytes,
    /// Its share of the memory that blobs may take up.
    pub(crate) _room: OwnedSemaphorePermit,
}

/// The next thing in a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// An element, whatever JSON it is, with its number from 1.
    Element(u64, Range<usize>),
    /// Not JSON from here on, where the element of that number should be. Nothing follows.
    Malformed(u64, Range<usize>, String),
    /// There is nothing more.
    End,
}

/// A place in a JSON array. An array is read from element to element, so that what is wrong in it affects nothing
/// before it, and a large one takes up no more memory than its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Elements {
    offset: usize,
    number: u64,
    is_over: bool,
}

impl Elements {
    /// Whether nothing has been read yet.
    pub(crate) fn is_at_start(&self) -> bool {
        self.offset == 0 && !self.is_over
    }

    /// The next one of `body`, which must be the same each time.
    pub(crate) fn next(&mut self, body: &[u8]) -> Next {
        if self.is_over {
            return Next::End;
        }
        match self.read(body) {
            Ok(Some(place)) => {
                self.offset = place.end;
                self.number += 1;
                Next::Element(self.number, place)
            }
            Ok(None) => {
                self.is_over = true;
                Next::End
            }
            Err(reason) => {
                self.is_over = true;
                Next::Malformed(self.number + 1, self.offset..body.len(), reason)
            }
        }
    }

    fn read(&self, body: &[u8]) -> Result<Option<Range<usize>>, String> {
        let mut rest = body.get(self.offset..).unwrap_or_default().trim_ascii_start();
        if self.offset == 0 {
            rest = begin(body).ok_or("it is not a JSON array")?.trim_ascii_start();
            if let Some(behind) = rest.strip_prefix(b"]") {
                return end(behind);
            }
        } else {
            match rest.split_first() {
                Some((b']', behind)) => return end(behind),
                Some((b',', behind)) => rest = behind.trim_ascii_start(),
                Some(_) => return Err("there is neither a comma nor the array's end behind the element".to_owned()),
                None => return Err("it ends within the array".to_owned()),
            }
        }
        let start = body.len() - rest.len();
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
        match values.next() {
            Some(Ok(value)) => Ok(Some(start..start + value.get().len())),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("it ends within the array".to_owned()),
        }
    }
}

fn end(behind: &[u8]) -> Result<Option<Range<usize>>, String> {
    if behind.trim_ascii().is_empty() { Ok(None) } else { Err("something follows the array".to_owned()) }
}

/// What follows the bracket that begins an array; none when the body is none.
pub(crate) fn begin(body: &[u8]) -> Option<&[u8]> {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii_start().strip_prefix(b"[")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Malformed<'a> = Option<(u64, &'a [u8])>;

    fn all(body: &[u8]) -> (Vec<&[u8]>, Malformed<'_>) {
        let (mut elements, mut found) = (Elements::default(), Vec::new());
        loop {
            match elements.next(body) {
                Next::Element(number, place) => {
                    found.push(&body[place]);
                    assert_eq!(number, found.len() as u64);
                }
                Next::Malformed(number, place, reason) => {
                    assert!(!reason.is_empty());
                    assert_eq!(elements.next(body), Next::End);
                    return (found, Some((number, &body[place])));
                }
                Next::End => return (found, None),
            }
        }
    }

    #[test]
    fn elements_are_given_as_they_stand() {
        let none: Vec<&[u8]> = Vec::new();
        assert_eq!(all(b"\xEF\xBB\xBF [ ] "), (none.clone(), None));
        assert_eq!(
            all(b"[{\"a\": [1]} ,\n2,\"]\",null]\n"),
            (vec![&b"{\"a\": [1]}"[..], b"2", b"\"]\"", b"null"], None)
        );
    }

    #[test]
    fn what_is_wrong_affects_nothing_before_it() {
        let none: Vec<&[u8]> = Vec::new();
        assert_eq!(all(b"{\"error\":1}"), (none.clone(), Some((1, &b"{\"error\":1}"[..]))));
        assert_eq!(all(b""), (none.clone(), Some((1, &b""[..]))));
        assert_eq!(all(b"["), (none, Some((1, &b"["[..]))));
        assert_eq!(all(b"[{},{\"a\":"), (vec![&b"{}"[..]], Some((2, &b",{\"a\":"[..]))));
        assert_eq!(all(b"[{} {}]"), (vec![&b"{}"[..]], Some((2, &b" {}]"[..]))));
        assert_eq!(all(b"[{},]"), (vec![&b"{}"[..]], Some((2, &b",]"[..]))));
        assert_eq!(all(b"[{},\"\xFF\"]").0, vec![&b"{}"[..]]);
        assert_eq!(all(b"[{}]{}"), (vec![&b"{}"[..]], Some((2, &b"]{}"[..]))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_divided_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            all(&body);
        }

        #[test]
        fn what_is_damaged_keeps_what_is_before_the_damage(
            texts in proptest::collection::vec("[a-z\"\\\\\\[\\],]{0,8}", 1..8), cut in any::<prop::sample::Index>(),
        ) {
            let body = serde_json::to_vec(&texts).unwrap();
            let cut = &body[..cut.index(body.len())];
            let (found, rest) = all(cut);
            prop_assert!(rest.is_some());
            let parsed: Vec<String> = found.iter().map(|text| serde_json::from_slice(text).unwrap()).collect();
            prop_assert_eq!(&parsed[..], &texts[..parsed.len()]);
        }
    }
}
