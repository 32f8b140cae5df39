//! Dividing a record that is larger than its receiver takes, and putting the parts together again.
//!
//! Each part is a record that says who did what, when and where, as the whole does, and has a share of the rest: of
//! QueryResults and LinkedResults between ids, of Fields between columns, of Extra between members, and of Query
//! between characters. A column's value that is too long for one part goes on in the next. The parts say so under
//! Extra:
//!
//! | member | meaning |
//! |---|---|
//! | `Part`, `Parts` | the part's number, from 1, and how many there are |
//! | `Continues` | true where the last value of Fields goes on in the first one of the next part |
//! | `PlatformCorrelationId` | the whole's CorrelationId; the parts' is the whole's Id |
//! | `Rest` | pieces of a JSON text, which has what no part has in its place |
//!
//! The rest are the ends of long texts (each part has their beginnings), and the members of Extra that are long or have
//! names that parts use themselves.
//!
//! Every part has an Id of its own, the first one too: a receiver that keeps one record of each Id must never take a
//! part for the whole, which it may have had before, under another limit. The Id is made of the whole's Id, the part's
//! number and the number of parts, so that the same division gives the same Ids, and a part can be told from another
//! record that has a `Part` by chance.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actlog_core::{AuditRecord, Extra, Field, Json, RECORD_TYPE_CRM};
use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

use crate::mapping::Member;
use crate::products::Derived;
use crate::view::{head, texts};

mod join;

pub(crate) use join::join;
pub use join::{ReassembleError, reassemble};

/// The members of Extra under which numbered parts say which one they are, from 1, and of how many.
pub const NUMBERING: (&str, &str) = ("Part", "Parts");
/// The smallest `record` limit with which every record can be divided, if the form adds little to the record.
pub const MIN_LIMIT: usize = 2048;

/// The member of Extra in which parts keep the whole's CorrelationId.
pub(crate) const PLATFORM_CORRELATION: &str = "PlatformCorrelationId";
/// The member of Extra that says that a value goes on in the next part.
const CONTINUES: &str = "Continues";
/// The member of Extra that holds pieces of the [`Rest`].
const REST: &str = "Rest";
/// Namespace of the parts' Ids. Changing it would make every part of the past another record's.
const NAMESPACE: Uuid = uuid!("b0a6f1c2-8d5e-5c43-9a37-2f6be1d04c7a");
/// Bytes of a text, as JSON, that every part has at least, whatever the limit.
const MIN_TEXT: usize = 16;
/// Members of Extra that are looked at one by one; more are in the rest.
const MAX_MEMBERS: usize = 128;
/// Stands for the number of parts while it is not known: none is written longer.
const WIDEST_NUMBER: i64 = 4_294_967_295;

/// Bounds of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole part as `encode` writes it. At least [`MIN_LIMIT`].
    pub record: usize,
    /// Bytes of any one value in it, lists and objects as JSON; `usize::MAX` for no limit, else at least 1024.
    pub field: usize,
}

/// Why a record could not be divided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// What every part has leaves no room for more.
    #[error(
        "record {id}: a limit of {record} bytes a record and {field} bytes a value is too small to divide it; \
         {MIN_LIMIT} bytes a record always suffice in Office's form"
    )]
    LimitTooSmall {
        /// The record's Id.
        id: Uuid,
        /// The limit of a record, in bytes.
        record: usize,
        /// The limit of a value, in bytes.
        field: usize,
    },
}

/// What of a record no part has in its place.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rest<'a> {
    /// Ends of texts, by the name of the key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    texts: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// Ends of the names of columns, by their place in the whole's Fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    names: BTreeMap<usize, Cow<'a, str>>,
    /// Members of Extra.
    #[serde(default, skip_serializing_if = "Extra::is_empty")]
    extra: Extra<'a>,
}

/// Whether a member of Extra may not have this name in a part: parts, or records read from Office's, use it themselves.
pub(crate) fn is_taken(name: &str, record_type: i32) -> bool {
    let is_key = |member| record_type == RECORD_TYPE_CRM || Member::common().any(|common| common == member);
    [NUMBERING.0, NUMBERING.1, CONTINUES, PLATFORM_CORRELATION, REST].contains(&name)
        || Derived::OWN.contains(&name)
        || Member::of(name).is_some_and(is_key)
}

/// Which part of what a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The whole's Id.
    pub(crate) original: Uuid,
    /// From 1 to `parts`.
    pub(crate) number: u32,
    pub(crate) parts: u32,
}

impl Place {
    /// The place of a part that [`split`] made; `None` for any other record.
    pub(crate) fn of(record: &AuditRecord<'_>) -> Option<Self> {
        let number = |name| record.extra.get(name)?.get().parse().ok();
        let place =
            Self { original: record.correlation_id?, number: number(NUMBERING.0)?, parts: number(NUMBERING.1)? };
        ((1..=place.parts).contains(&place.number) && place.id() == record.id).then_some(place)
    }

    fn id(self) -> Uuid {
        Uuid::new_v5(&NAMESPACE, format!("{}/{}/{}", self.original, self.number, self.parts).as_bytes())
    }
}

/// Divides a record; `None` when it fits as it is. `encode` appends the record in the form whose size counts.
///
/// # Errors
/// When the limits are too small.
pub fn split<'r>(
    record: &'r AuditRecord<'_>,
    limits: &Limits,
    encode: &dyn Fn(&AuditRecord<'_>, &mut Vec<u8>),
) -> Result<Option<Vec<AuditRecord<'r>>>, SplitError> {
    let mut scale = Scale { limits: *limits, encode, bytes: Vec::new() };
    if scale.fits(record) {
        return Ok(None);
    }
    let too_small = || SplitError::LimitTooSmall { id: record.id, record: limits.record, field: limits.field };
    let mut rest = Rest::default();
    let head = scale.head(record, &mut rest);
    let room = limits.record.saturating_sub(scale.measure(&head));
    let items = items(record, room, limits.field, rest);
    let mut parts = scale.distribute(&head, &items).filter(|parts| !parts.is_empty()).ok_or_else(too_small)?;
    let count = u32::try_from(parts.len()).map_err(|_| too_small())?;
    for (part, number) in parts.iter_mut().zip(1..) {
        part.id = Place { original: record.id, number, parts: count }.id();
        part.extra.insert(NUMBERING.0, i64::from(number));
        part.extra.insert(NUMBERING.1, i64::from(count));
    }
    Ok(Some(parts))
}

/// What is to be distributed among parts that have `room` bytes beside their head, no value of more than `field` bytes;
/// `rest` has what the head lacks.
fn items<'r>(record: &'r AuditRecord<'_>, room: usize, field: usize, mut rest: Rest<'r>) -> Vec<Item<'r>> {
    let mut items = Vec::new();
    items.extend(record.query.as_deref().map(Item::Query));
    for (place, Field { name, value }) in record.fields.iter().enumerate() {
        let mut name = Cow::Borrowed(name.as_ref());
        if let Some(end) = shorten(&mut name, (room / 8).min(field / 4)) {
            rest.names.insert(place, end);
        }
        items.push(Item::Field(name, value.as_deref()));
    }
    items.extend(record.query_results.iter().copied().map(Item::Result));
    items.extend(record.linked_results.iter().copied().map(Item::Linked));
    let longest = (room / 4).min(field);
    let is_item = |place: usize, name: &str, value: &Json<'_>| {
        place < MAX_MEMBERS && json_length(name) + value.get().len() <= longest && !is_taken(name, record.record_type)
    };
    let members = record.extra.iter().enumerate().filter(|(place, (name, value))| is_item(*place, name, value));
    items.extend(members.map(|(_, (name, value))| Item::Extra(name, value)));
    rest.extra = record.extra.borrowed();
    let mut places = 0..;
    rest.extra.retain(|name, value| places.next().is_some_and(|place| !is_item(place, name, value)));
    // Texts and JSON always have a JSON form.
    let rest = serde_json::to_string(&rest).unwrap_or_default();
    if rest != "{}" {
        items.push(Item::Rest(rest));
    }
    items
}

/// Whether records are within the limits.
struct Scale<'e> {
    limits: Limits,
    encode: &'e dyn Fn(&AuditRecord<'_>, &mut Vec<u8>),
    bytes: Vec<u8>,
}

impl Scale<'_> {
    fn measure(&mut self, record: &AuditRecord<'_>) -> usize {
        self.bytes.clear();
        (self.encode)(record, &mut self.bytes);
        self.bytes.len()
    }

    fn fits(&mut self, record: &AuditRecord<'_>) -> bool {
        (self.limits.field == usize::MAX || longest_value(record) <= self.limits.field)
            && self.measure(record) <= self.limits.record
    }

    /// What all parts have. Where it takes more than half of the room, its longest texts are shortened, and their ends
    /// are in the rest.
    fn head<'r>(&mut self, record: &'r AuditRecord<'_>, rest: &mut Rest<'r>) -> AuditRecord<'r> {
        let mut longest = self.limits.field.min(self.limits.record / 2);
        loop {
            rest.texts.clear();
            let mut head = head(record);
            for (name, text) in texts(&mut head) {
                if let Some(end) = shorten(text, longest) {
                    rest.texts.insert(name.into(), end);
                }
            }
            head.correlation_id = Some(record.id);
            head.extra.insert(NUMBERING.0, WIDEST_NUMBER);
            head.extra.insert(NUMBERING.1, WIDEST_NUMBER);
            if let Some(id) = record.correlation_id {
                head.extra.insert(PLATFORM_CORRELATION, id);
            }
            if longest <= MIN_TEXT || self.measure(&head) <= self.limits.record / 2 {
                return head;
            }
            longest = (longest / 2).max(MIN_TEXT);
        }
    }

    /// Parts with as many items each as fit, in their order. An item that no part has room for is cut, if it can be;
    /// else there are none.
    fn distribute<'r>(&mut self, head: &AuditRecord<'r>, items: &[Item<'r>]) -> Option<Vec<AuditRecord<'r>>> {
        let mut parts = Vec::new();
        // The item that is next, and how many bytes of it are in parts already.
        let (mut next, mut done) = (0, 0);
        let (mut usual_items, mut usual_bytes) = (1, self.limits.record / 2);
        while next < items.len() {
            let left = &items[next..];
            let text = left[0].text().and_then(|text| text.get(done..));
            // What is longer than a part as it stands is not tried whole: again for each part, that would take for
            // ever.
            let whole = match text {
                Some(text) if text.len() > self.limits.record => 0,
                _ => most(left.len(), usual_items, |count| self.fits(&fill(head, &left[..count], done, None))),
            };
            if whole > 0 {
                parts.push(fill(head, &left[..whole], done, None));
                (next, done, usual_items) = (next + whole, 0, whole);
                continue;
            }
            let text = text?;
            let bytes = most(text.len().min(self.limits.record), usual_bytes, |bytes| {
                self.fits(&fill(head, &left[..1], done, Some(boundary(text, bytes))))
            });
            let cut = boundary(text, bytes);
            if cut == 0 || cut == text.len() {
                return None;
            }
            parts.push(fill(head, &left[..1], done, Some(cut)));
            (done, usual_bytes) = (done + cut, cut);
        }
        Some(parts)
    }
}

/// Something that is in one part, or that can be cut.
enum Item<'r> {
    Query(&'r str),
    Field(Cow<'r, str>, Option<&'r str>),
    Result(Uuid),
    Linked(Uuid),
    Extra(&'r str, &'r Json<'r>),
    Rest(String),
}

impl<'r> Item<'r> {
    /// The text that may be cut.
    fn text(&self) -> Option<&str> {
        match self {
            Self::Query(text) => Some(text),
            Self::Rest(text) => Some(text),
            Self::Field(_, value) => *value,
            Self::Result(_) | Self::Linked(_) | Self::Extra(..) => None,
        }
    }

    /// Puts the item into a part: of its text, the piece from `start` to `end`.
    fn add_to(&self, part: &mut AuditRecord<'r>, start: usize, end: Option<usize>) {
        let piece = |text: &'r str| Cow::Borrowed(&text[start..end.unwrap_or(text.len())]);
        match self {
            Self::Query(text) => part.query = Some(piece(text)),
            Self::Field(name, value) => part.fields.push(Field { name: name.clone(), value: value.map(piece) }),
            Self::Result(id) => part.query_results.push(*id),
            Self::Linked(id) => part.linked_results.push(*id),
            Self::Extra(name, value) => part.extra.insert(*name, value.borrowed()),
            Self::Rest(text) => part.extra.insert(REST, &text[start..end.unwrap_or(text.len())]),
        }
    }
}

/// A part of these items. Of the first item's text, `done` bytes are in parts before it; it ends after `cut` more
/// bytes, if that is given.
fn fill<'r>(head: &AuditRecord<'r>, items: &[Item<'r>], done: usize, cut: Option<usize>) -> AuditRecord<'r> {
    let mut part = head.clone();
    for (place, item) in items.iter().enumerate() {
        item.add_to(&mut part, if place == 0 { done } else { 0 }, cut.map(|cut| done + cut));
    }
    if cut.is_some() && matches!(items, [Item::Field(..)]) {
        part.extra.insert(CONTINUES, true);
    }
    part
}

/// The largest number, up to `max`, for which `fits` holds, if it holds for all below; tried first near the guess.
fn most(max: usize, guess: usize, mut fits: impl FnMut(usize) -> bool) -> usize {
    let guess = guess.clamp(1, max);
    // It holds for `low`, and not for `high`.
    let (mut low, mut high) = (0, max + 1);
    let mut step = 1;
    let mut next = guess;
    while low + 1 < high {
        if fits(next) {
            low = next;
            next = if high > max { low.saturating_add(step) } else { low.midpoint(high) };
        } else {
            high = next;
            next = if low == 0 { high.saturating_sub(step) } else { low.midpoint(high) };
        }
        step *= 2;
        next = next.clamp(low + 1, (high - 1).max(low + 1));
    }
    low
}

/// The last boundary between characters that is not after this many bytes.
fn boundary(text: &str, bytes: usize) -> usize {
    (0..=bytes.min(text.len())).rev().find(|place| text.is_char_boundary(*place)).unwrap_or_default()
}

/// Bytes of a character in a JSON text.
fn escaped_length(character: char) -> usize {
    match character {
        '"' | '\\' | '\u{8}' | '\u{c}' | '\n' | '\r' | '\t' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

/// Bytes of a text in JSON, without its quotation marks.
fn json_length(text: &str) -> usize {
    text.chars().map(escaped_length).sum()
}

/// Cuts a text to this many bytes as JSON, and gives what was cut off.
fn shorten<'r>(text: &mut Cow<'r, str>, bytes: usize) -> Option<Cow<'r, str>> {
    if text.len() <= bytes / 6 {
        return None;
    }
    let mut length = 0;
    let (end, _) = text.char_indices().find(|(_, character)| {
        length += escaped_length(*character);
        length > bytes
    })?;
    let cut_off;
    (*text, cut_off) = match text {
        Cow::Borrowed(text) => (Cow::Borrowed(&text[..end]), Cow::Borrowed(&text[end..])),
        Cow::Owned(text) => (Cow::Owned(text[..end].to_owned()), Cow::Owned(text[end..].to_owned())),
    };
    Some(cut_off)
}

/// Bytes of the longest value that a part has a share of; texts, lists and members of Extra as JSON.
fn longest_value(record: &AuditRecord<'_>) -> usize {
    /// A GUID as an element of a list.
    const ID_BYTES: usize = 39;
    /// What stands in a column and its value besides their texts.
    const FIELD_BYTES: usize = r#"{"Name":"","Value":""},"#.len();
    let of_field =
        |field: &Field<'_>| json_length(&field.name) + field.value.as_deref().map_or(2, json_length) + FIELD_BYTES;
    let mut head = head(record);
    let texts = texts(&mut head).map(|(_, text)| json_length(text));
    let extra = record.extra.iter().map(|(_, value)| value.get().len());
    let lists = [
        record.query.as_deref().map_or(0, json_length),
        record.fields.iter().map(of_field).sum::<usize>() + 1,
        record.query_results.len() * ID_BYTES + 1,
        record.linked_results.len() * ID_BYTES + 1,
    ];
    texts.chain(extra).chain(lists).max().unwrap_or_default()
}
