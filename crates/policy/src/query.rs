//! The literals of a query, hashed or left out.
//!
//! A query is the specification's `<filter>` with `<condition>`s, and in the extended form `<link-entity>`s beside it;
//! other sources may give whole FetchXML. Only what is known to be structure stays: element names, and the attributes
//! of [`STRUCTURE`] as long as they look like names. Every other attribute's value and every text is taken for a
//! literal, since some hold display names (`uiname`). What is no XML is taken for one literal.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};

use crate::redact::{ColumnValues, Redaction};

/// Elements of filters and FetchXML. A query with any other is taken for one literal.
const ELEMENTS: &[&str] =
    &["fetch", "entity", "link-entity", "filter", "condition", "value", "attribute", "all-attributes", "order"];

/// Attributes that hold names of columns, entities and operators, switches and counts.
const STRUCTURE: &[&str] = &[
    "column",
    "attribute",
    "operator",
    "type",
    "entityname",
    "name",
    "alias",
    "from",
    "to",
    "link-type",
    "intersect",
    "visible",
    "distinct",
    "aggregate",
    "groupby",
    "descending",
    "mapping",
    "version",
    "page",
    "count",
    "top",
    "returntotalrecordcount",
    "no-lock",
    "output-format",
    "valueof",
    "uitype",
];

/// Elements in each other that are followed; what nests deeper is taken for one literal.
const MAX_DEPTH: usize = 128;

/// Whose literals are met where we are in the query.
struct Place<'p> {
    /// What happens to the values of the entity's columns.
    entity: &'p ColumnValues,
    /// None outside of conditions.
    column: Option<String>,
}

/// The query with its literals replaced; none where nothing is to be.
pub(crate) fn redact(text: &str, redaction: &Redaction<'_>) -> Option<String> {
    match rewrite(text, redaction) {
        Some(rewritten) => (rewritten != text).then_some(rewritten),
        None => redaction.replacement(redaction.strictest(), "Query", text),
    }
}

/// None for what is no well-formed query, or nests too deep.
fn rewrite(text: &str, redaction: &Redaction<'_>) -> Option<String> {
    let mut reader = Reader::from_str(text);
    let mut out = String::with_capacity(text.len());
    let mut places = vec![Place { entity: redaction.own, column: None }];
    // A text comes in pieces, split at its entity references.
    let mut literal = String::new();
    loop {
        let event = reader.read_event().ok()?;
        match &event {
            Event::Text(piece) => literal.push_str(piece),
            Event::GeneralRef(name) => {
                literal.push('&');
                literal.push_str(name);
                literal.push(';');
            }
            _ => {
                write_literal(&literal, places.last()?, redaction, &mut out)?;
                literal.clear();
            }
        }
        match event {
            Event::Text(_) | Event::GeneralRef(_) => {}
            Event::Start(element) => {
                if places.len() > MAX_DEPTH {
                    return None;
                }
                let place = place_in(&element, places.last()?, redaction)?;
                write_element(&element, &place, redaction, &mut out)?;
                out.push('>');
                places.push(place);
            }
            Event::Empty(element) => {
                let place = place_in(&element, places.last()?, redaction)?;
                write_element(&element, &place, redaction, &mut out)?;
                out.push_str(" />");
            }
            Event::End(element) => {
                places.pop();
                out.push_str("</");
                out.push_str(element.name().into_inner());
                out.push('>');
            }
            Event::Eof => break,
            // Nobody writes queries with declarations, comments or character data sections in them.
            _ => return None,
        }
    }
    (places.len() == 1 && out.contains('<')).then_some(out)
}

/// Whose literals an element holds. Conditions may be about another entity: inside of a `link-entity` about the one that
/// it names; where they name one by alias, about any.
fn place_in<'p>(element: &BytesStart<'_>, outer: &Place<'p>, redaction: &Redaction<'p>) -> Option<Place<'p>> {
    let attribute = |wanted: &str| {
        let found = element.attributes().flatten().find(|attribute| attribute.key.into_inner() == wanted)?;
        unescape(&found.value).ok().map(Cow::into_owned)
    };
    let (mut entity, mut column) = (outer.entity, outer.column.clone());
    match element.name().into_inner() {
        "entity" | "link-entity" => {
            entity = match attribute("name") {
                Some(name) => redaction.settings.entity_values(&name),
                None => redaction.unknown,
            };
        }
        "condition" => {
            column = attribute("column").or_else(|| attribute("attribute"));
            if attribute("entityname").is_some() {
                entity = redaction.unknown;
            }
        }
        name if !ELEMENTS.contains(&name) => return None,
        _ => {}
    }
    Some(Place { entity, column })
}

fn write_element(
    element: &BytesStart<'_>,
    place: &Place<'_>,
    redaction: &Redaction<'_>,
    out: &mut String,
) -> Option<()> {
    out.push('<');
    out.push_str(element.name().into_inner());
    for attribute in element.attributes() {
        let attribute = attribute.ok()?;
        let name = attribute.key.into_inner();
        if !is_name(name) {
            return None;
        }
        out.push(' ');
        out.push_str(name);
        out.push_str("=\"");
        if STRUCTURE.contains(&name) && is_name(&attribute.value) {
            out.push_str(&attribute.value);
        } else {
            // A value that stood between single quotes may hold double ones.
            out.push_str(&replaced(&attribute.value, place, redaction)?.replace('"', "&quot;"));
        }
        out.push('"');
    }
    Some(())
}

fn write_literal(raw: &str, place: &Place<'_>, redaction: &Redaction<'_>, out: &mut String) -> Option<()> {
    if raw.trim_ascii().is_empty() {
        out.push_str(raw);
    } else {
        out.push_str(&replaced(raw, place, redaction)?);
    }
    Some(())
}

/// What is written for a literal, escaped as XML; it hashes as the value itself does, so that it can be compared with
/// the hashes under Fields.
fn replaced<'a>(raw: &'a str, place: &Place<'_>, redaction: &Redaction<'_>) -> Option<Cow<'a, str>> {
    let values = place.column.as_deref().map_or_else(|| place.entity.strictest(), |column| place.entity.of(column));
    let literal = unescape(raw).ok()?;
    let replacement = redaction.replacement(values, place.column.as_deref().unwrap_or("Query"), &literal);
    Some(replacement.map_or(Cow::Borrowed(raw), Cow::Owned))
}

/// Whether the text looks like the name of a column, an entity or an operator, or like a number.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    text.len() <= 128 && text.bytes().all(fits)
}
