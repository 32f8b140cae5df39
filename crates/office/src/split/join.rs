//! Putting the parts of a record together again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actlog_core::{AuditRecord, Json};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{CONTINUES, NUMBERING, PLATFORM_CORRELATION, Place, REST, Rest};
use crate::json::text_of;
use crate::view::{convert, owned_head, texts};

/// Why parts do not make a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReassembleError {
    /// No records at all.
    #[error("there are no parts")]
    Empty,
    /// A record that [`split`](super::split()) did not make.
    #[error("record {id} is not a part of another one")]
    NotAPart {
        /// Its Id.
        id: Uuid,
    },
    /// Parts of two records, or of two divisions of one.
    #[error("parts {first} and {other} are not of one division of one record")]
    Different {
        /// Id of the first part.
        first: Uuid,
        /// Id of the one that does not go with it.
        other: Uuid,
    },
    /// Not all parts are there.
    #[error("part {number} of {parts} of record {original} is missing")]
    Missing {
        /// The whole's Id.
        original: Uuid,
        /// Number of the first one that is missing.
        number: u32,
        /// How many there are in all.
        parts: u32,
    },
    /// The parts were changed after the division.
    #[error("the parts of record {original} do not go together: {reason}")]
    Damaged {
        /// The whole's Id.
        original: Uuid,
        /// What is wrong.
        reason: String,
    },
}

/// Puts together the parts that [`split`](super::split()) made of a record, in whatever order they are; one that is there more than
/// once counts once.
///
/// # Errors
/// When they are not all the parts of one division of one record.
pub fn reassemble(parts: &[AuditRecord<'_>]) -> Result<AuditRecord<'static>, ReassembleError> {
    join(parts.iter())
}

/// What [`reassemble`] does, of parts wherever they are.
pub(crate) fn join<'p, 'a: 'p>(
    parts: impl Iterator<Item = &'p AuditRecord<'a>>,
) -> Result<AuditRecord<'static>, ReassembleError> {
    let mut ordered = BTreeMap::new();
    let mut division = None;
    for part in parts {
        let place = Place::of(part).ok_or(ReassembleError::NotAPart { id: part.id })?;
        let (first, id) = *division.get_or_insert((place, part.id));
        if (place.original, place.parts) != (first.original, first.parts) {
            return Err(ReassembleError::Different { first: id, other: part.id });
        }
        ordered.insert(place.number, part);
    }
    let Some((Place { original, parts, .. }, _)) = division else { return Err(ReassembleError::Empty) };
    if let Some(number) = (1..=parts).find(|number| !ordered.contains_key(number)) {
        return Err(ReassembleError::Missing { original, number, parts });
    }
    let damaged = |reason: &str| ReassembleError::Damaged { original, reason: reason.to_owned() };
    let mut whole = ordered.values().next().map(|first| owned_head(first)).unwrap_or_default();
    whole.id = original;
    whole.correlation_id = None;
    let mut rest = String::new();
    let mut continues = false;
    for part in ordered.values() {
        if let Some(piece) = &part.query {
            whole.query.get_or_insert_default().to_mut().push_str(piece);
        }
        let mut fields = part.fields.iter();
        if continues {
            let end = fields.next().and_then(|field| field.value.as_deref());
            let begun = whole.fields.last_mut().and_then(|field| field.value.as_mut());
            let (Some(begun), Some(end)) = (begun, end) else { return Err(damaged("a value of Fields has no end")) };
            begun.to_mut().push_str(end);
        }
        whole.fields.extend(fields.map(|field| convert(field, |text| Cow::Owned(text.to_owned()))));
        whole.query_results.extend(&part.query_results);
        whole.linked_results.extend(&part.linked_results);
        continues = part.extra.get(CONTINUES).is_some();
        for (name, value) in part.extra.iter() {
            match name {
                REST => rest += &text_of(value).ok_or_else(|| damaged("Rest is not a text"))?,
                CONTINUES | PLATFORM_CORRELATION => {}
                _ if name == NUMBERING.0 || name == NUMBERING.1 => {}
                _ if whole.extra.get(name).is_none() => whole.extra.insert(name.to_owned(), owned(value)),
                _ => {}
            }
        }
    }
    if continues {
        return Err(damaged("the last value of Fields has no end"));
    }
    match ordered.values().find_map(|part| part.extra.get(PLATFORM_CORRELATION)) {
        None => {}
        // Office's all-zero GUID, which a record read from Office's has under Extra.
        Some(none) if none.get() == "null" => whole.extra.insert("CorrelationId", Uuid::nil()),
        Some(id) => {
            let id = text_of(id).and_then(|id| Uuid::try_parse(&id).ok());
            whole.correlation_id = Some(id.ok_or_else(|| damaged("PlatformCorrelationId is not a GUID"))?);
        }
    }
    if !rest.is_empty() {
        let rest: Rest<'static> = serde_json::from_str(&rest).map_err(|error| damaged(&format!("Rest: {error}")))?;
        add_rest(&mut whole, rest)
            .map_err(|key| damaged(&format!("Rest has an end of {key}, which has no beginning")))?;
    }
    Ok(whole)
}

/// Puts into its place what parts have under [`REST`]. The error names the key that is not there.
fn add_rest(whole: &mut AuditRecord<'static>, rest: Rest<'static>) -> Result<(), String> {
    // A record that was read from Office's has its Operation from Message.
    if whole.extra.get("OfficeOperation").is_some()
        && whole.message.as_ref() == Some(&whole.operation)
        && let Some(end) = rest.texts.get("Message")
    {
        whole.operation.to_mut().push_str(end);
    }
    let mut ends = rest.texts;
    for (name, text) in texts(whole) {
        if let Some(end) = ends.remove(name) {
            text.to_mut().push_str(&end);
        }
    }
    if let Some((name, _)) = ends.pop_first() {
        return Err(name.into_owned());
    }
    for (place, end) in rest.names {
        let field = whole.fields.get_mut(place).ok_or_else(|| format!("Fields[{place}]"))?;
        field.name.to_mut().push_str(&end);
    }
    // Few members stay in their place, so that this is not quadratic.
    let mut extra = std::mem::replace(&mut whole.extra, rest.extra);
    extra.retain(|name, value| {
        if whole.extra.get(name).is_none() {
            whole.extra.insert(name.to_owned(), owned(value));
        }
        false
    });
    Ok(())
}

fn owned(value: &Json<'_>) -> Json<'static> {
    // It was JSON before.
    Json::Owned(RawValue::from_string(value.get().to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
}
