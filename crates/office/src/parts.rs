//! A view: which records are parts of one event.
//!
//! Office limits a record to 3 KB. Of a larger one Dynamics 365 makes several, each with an Id of its own, and divides
//! Fields, Query and QueryResults among them. The specification says that CorrelationId ties them together, but so it
//! does other things: all records of one action share it (the five of its example of a lead's conversion), and where it
//! is all zeros it ties nothing. So records are parts of one event only if they
//! - share a CorrelationId that is not zero, and
//! - are equal in everything else but Id, Fields, Query and QueryResults, their number (`Extra.Part`; the count of
//!   parts, `Extra.Parts`, is equal), and what the capture added (Source, CollectedTime, PolicyVersion), and
//! - say in what order they belong together by their numbers, each once; or, without numbers, can be the pieces of
//!   something that was too large: together they are near the limit at least, no column and no row is in two of them,
//!   and none has a whole query while another has another query.
//!
//! The parts that [`split`](crate::split) made are known by their Ids, and belong together without any doubt.
//!
//! When in doubt, records stay apart: two updates of one lead in the same second are two. Nothing is held back or
//! changed at capture: this is for those who look at records.

use std::collections::{BTreeMap, HashMap, HashSet};

use actlog_core::{AuditRecord, Extra, Json};
use uuid::Uuid;

pub use crate::split::NUMBERING;
use crate::split::{Place, join};

/// Members of Extra that parts may differ in: their number, and divided members in a form that can't be read.
const MAY_DIFFER: [&str; 5] = [NUMBERING.0, "Id", "Fields", "Query", "QueryResults"];

/// Bytes of an event that may have been divided. Office's limit is 3 KB; how it counts is not known, so this is less.
const MAY_BE_DIVIDED: usize = 2000;

/// A record, and its place among those that were given.
type Placed<'r, 'a> = (usize, &'r AuditRecord<'a>);

/// One event, by the records that are its parts: mostly one.
#[derive(Clone, Debug)]
pub struct Event<'r, 'a> {
    parts: Vec<&'r AuditRecord<'a>>,
}

/// The events that the records tell of, in the order of the first record of each. A record that is there more than once
/// (by Id) counts once.
pub fn events<'r, 'a>(records: &'r [AuditRecord<'a>]) -> Vec<Event<'r, 'a>> {
    let mut seen = HashSet::with_capacity(records.len());
    let mut correlated = HashMap::<Uuid, Vec<Placed<'r, 'a>>>::new();
    let mut divided = HashMap::<(Uuid, u32), Vec<Placed<'r, 'a>>>::new();
    let mut events = BTreeMap::new();
    for (place, record) in records.iter().enumerate().filter(|(_, record)| seen.insert(record.id)) {
        if let Some(Place { original, parts, .. }) = Place::of(record) {
            divided.entry((original, parts)).or_default().push((place, record));
            continue;
        }
        match record.correlation_id.filter(|id| !id.is_nil()) {
            Some(id) => correlated.entry(id).or_default().push((place, record)),
            None => {
                events.insert(place, vec![record]);
            }
        }
    }
    for group in correlated.into_values() {
        let mut alike = HashMap::<Vec<u8>, Vec<Placed<'r, 'a>>>::new();
        for (place, record) in group.iter().copied() {
            // Most actions have one record; then there is nothing to compare.
            let key = if group.len() > 1 { common(record) } else { Vec::new() };
            alike.entry(key).or_default().push((place, record));
        }
        for parts in alike.into_values().flat_map(divide) {
            events.insert(parts[0].0, parts.into_iter().map(|(_, record)| record).collect());
        }
    }
    for mut parts in divided.into_values() {
        let first = parts[0].0;
        parts.sort_by_key(|(_, record)| number(record, NUMBERING.0));
        events.insert(first, parts.into_iter().map(|(_, record)| record).collect());
    }
    events.into_values().map(|parts| Event { parts }).collect()
}

/// What parts of one event have in common, as bytes.
fn common(record: &AuditRecord<'_>) -> Vec<u8> {
    let mut members: Vec<_> = record.extra.iter().filter(|(name, _)| !MAY_DIFFER.contains(name)).collect();
    // The order of members differs from one delivery to the next.
    members.sort_by_key(|(name, _)| *name);
    let mut extra = Extra::default();
    for (name, value) in members {
        extra.insert(name, value.clone());
    }
    let common = AuditRecord {
        id: Uuid::nil(),
        fields: Vec::new(),
        query: None,
        query_results: Vec::new(),
        source: None,
        collected_time: None,
        policy_version: None,
        extra,
        ..record.clone()
    };
    let mut bytes = Vec::new();
    match common.encode(&mut bytes) {
        Ok(()) => bytes,
        // Out of reach, as encoding never fails; such a record would stay alone.
        Err(_) => record.id.as_bytes().to_vec(),
    }
}

/// Divides records that are alike into events.
fn divide<'r, 'a>(mut alike: Vec<Placed<'r, 'a>>) -> Vec<Vec<Placed<'r, 'a>>> {
    if alike.len() == 1 {
        return vec![alike];
    }
    let numbers: HashSet<u32> = alike.iter().filter_map(|(_, record)| number(record, NUMBERING.0)).collect();
    if numbers.len() == alike.len() {
        // The event stands where its first record did, whatever the order of its parts.
        let first = alike.iter().map(|(place, _)| *place).min();
        alike.sort_by_key(|(_, record)| number(record, NUMBERING.0));
        if let (Some((place, _)), Some(first)) = (alike.first_mut(), first) {
            *place = first;
        }
        return vec![alike];
    }
    if !numbers.is_empty() {
        return alone(alike);
    }
    let queries: HashSet<&str> = alike.iter().filter_map(|(_, record)| record.query.as_deref()).collect();
    let groups = if queries.len() > 1 && queries.iter().any(|query| is_whole(query)) {
        let mut by_query = HashMap::<Option<&str>, Vec<Placed<'r, 'a>>>::new();
        for (place, record) in alike {
            let whole = record.query.as_deref().filter(|query| is_whole(query));
            by_query.entry(whole).or_default().push((place, record));
        }
        // To which of the queries do those belong that have none?
        let doubtful = by_query.remove(&None).unwrap_or_default();
        by_query.into_values().chain(alone(doubtful)).collect()
    } else {
        vec![alike]
    };
    groups.into_iter().flat_map(|group| if are_pieces(&group) { vec![group] } else { alone(group) }).collect()
}

fn alone<'r, 'a>(records: Vec<Placed<'r, 'a>>) -> Vec<Vec<Placed<'r, 'a>>> {
    records.into_iter().map(|record| vec![record]).collect()
}

/// Whether records without numbers can be pieces of one that was too large.
fn are_pieces(records: &[Placed<'_, '_>]) -> bool {
    let event = Event { parts: records.iter().map(|(_, record)| *record).collect() };
    let (mut columns, mut rows) = (HashSet::new(), HashSet::new());
    let is_repeated = event.has_equal_fields();
    for part in &event.parts {
        let new_columns = part.fields.iter().all(|field| columns.insert(field.name.as_ref()));
        if !(new_columns || is_repeated) || !part.query_results.iter().all(|row| rows.insert(*row)) {
            return false;
        }
    }
    let mut bytes = Vec::new();
    event.record().encode(&mut bytes).is_ok() && bytes.len() >= MAY_BE_DIVIDED
}

/// Whether a filter is there from its beginning to its end.
fn is_whole(query: &str) -> bool {
    let query = query.trim();
    let count = |tag: &str| query.matches(tag).count();
    query.starts_with("<filter") && query.ends_with("</filter>") && count("<filter") == count("</filter>")
}

fn number(record: &AuditRecord<'_>, name: &str) -> Option<u32> {
    let value = record.extra.get(name)?.get();
    value.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(value).parse().ok()
}

impl<'r, 'a> Event<'r, 'a> {
    /// The records, in the order of their numbers, else in the order in which they were given. Never empty.
    pub fn parts(&self) -> &[&'r AuditRecord<'a>] {
        &self.parts
    }

    /// The Ids of the parts, in their order.
    pub fn ids(&self) -> impl Iterator<Item = Uuid> {
        self.parts.iter().map(|part| part.id)
    }

    /// Of how many parts the event was made, where the parts are numbered: fewer here means that some are missing.
    pub fn expected_parts(&self) -> Option<u32> {
        number(self.parts.first()?, NUMBERING.1)
    }

    /// Whether Fields were not divided but repeated in each part.
    fn has_equal_fields(&self) -> bool {
        self.parts.windows(2).all(|pair| pair[0].fields == pair[1].fields)
    }

    /// The event as one record. Of all the parts that [`split`](crate::split) made it is the record that was divided.
    /// Else it has the Id of the first part, Fields one after the other, QueryResults each once in order, and a Query
    /// that was divided put together.
    pub fn record(&self) -> AuditRecord<'a> {
        if let Ok(whole) = join(self.parts.iter().copied()) {
            return whole;
        }
        let [first, rest @ ..] = self.parts.as_slice() else { return AuditRecord::default() };
        let mut whole = AuditRecord::clone(first);
        if rest.is_empty() {
            return whole;
        }
        whole.extra.retain(|name, _: &mut Json<'a>| name != NUMBERING.0 && name != NUMBERING.1);
        if !self.has_equal_fields() {
            whole.fields.extend(rest.iter().flat_map(|part| part.fields.iter().cloned()));
        }
        let queries: Vec<_> = self.parts.iter().filter_map(|part| part.query.as_deref()).collect();
        if queries.windows(2).any(|pair| pair[0] != pair[1]) {
            whole.query = Some(queries.concat().into());
        } else if whole.query.is_none() {
            whole.query = rest.iter().find_map(|part| part.query.clone());
        }
        let mut seen = HashSet::new();
        let results = self.parts.iter().flat_map(|part| &part.query_results).copied();
        whole.query_results = results.filter(|id| seen.insert(*id)).collect();
        whole
    }
}
