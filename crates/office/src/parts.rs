//! A view: which records are parts of one event.
//!
//! Office limits a record to 3 KB. Of a larger one Dynamics 365 makes several, each with an Id of its own, and divides
//! Fields, Query and QueryResults among them. The specification says that CorrelationId ties them together, but so it
//! does other things: all records of one action share it (the five of its example of a lead's conversion), and where it
//! is all zeros it ties nothing. So records are parts of one event only if they
//! - share a CorrelationId that is not zero, and
//! - are equal in everything else but Id, Fields, Query and QueryResults, their number (`Extra.Part`; the count of parts,
//!   `Extra.Parts`, is equal), and what the capture added (Source, CollectedTime, PolicyVersion), and
//! - do not contradict each other: no number occurs twice, and none has a whole query while another has another query.
//!
//! When in doubt, records stay apart. Nothing is held back or changed at capture: this is for those who look at records.

use std::collections::{BTreeMap, HashMap, HashSet};

use actlog_core::{AuditRecord, Extra, Json};
use uuid::Uuid;

/// The members of Extra under which numbered parts say which one they are, from 1, and of how many.
pub const NUMBERING: (&str, &str) = ("Part", "Parts");

/// Members of Extra that parts may differ in: their number, and divided members in a form that can't be read.
const MAY_DIFFER: [&str; 5] = [NUMBERING.0, "Id", "Fields", "Query", "QueryResults"];

/// One event, by the records that are its parts: mostly one.
#[derive(Clone, Debug)]
pub struct Event<'r, 'a> {
    parts: Vec<&'r AuditRecord<'a>>,
}

/// The events that the records tell of, in the order of the first record of each. A record that is there more than once
/// (by Id) counts once.
pub fn events<'r, 'a>(records: &'r [AuditRecord<'a>]) -> Vec<Event<'r, 'a>> {
    let mut seen = HashSet::with_capacity(records.len());
    let mut correlated = HashMap::<Uuid, Vec<(usize, &AuditRecord<'a>)>>::new();
    let mut events = BTreeMap::new();
    for (place, record) in records.iter().enumerate().filter(|(_, record)| seen.insert(record.id)) {
        match record.correlation_id.filter(|id| !id.is_nil()) {
            Some(id) => correlated.entry(id).or_default().push((place, record)),
            None => {
                events.insert(place, vec![record]);
            }
        }
    }
    for group in correlated.into_values() {
        let mut alike = HashMap::<Vec<u8>, Vec<(usize, &AuditRecord<'a>)>>::new();
        for (place, record) in group.iter().copied() {
            // Most actions have one record; then there is nothing to compare.
            let key = if group.len() > 1 { common(record) } else { Vec::new() };
            alike.entry(key).or_default().push((place, record));
        }
        for parts in alike.into_values().flat_map(without_contradictions) {
            events.insert(parts[0].0, parts.into_iter().map(|(_, record)| record).collect());
        }
    }
    events.into_values().map(Event::new).collect()
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

type Placed<'r, 'a> = (usize, &'r AuditRecord<'a>);

/// Divides records that are alike so that no two of one event contradict each other.
fn without_contradictions<'r, 'a>(mut alike: Vec<Placed<'r, 'a>>) -> Vec<Vec<Placed<'r, 'a>>> {
    let alone = |records: Vec<Placed<'r, 'a>>| records.into_iter().map(|record| vec![record]).collect();
    let mut numbers = HashSet::new();
    if !alike.iter().filter_map(|(_, record)| number(record, NUMBERING.0)).all(|number| numbers.insert(number)) {
        return alone(alike);
    }
    let queries: HashSet<&str> = alike.iter().filter_map(|(_, record)| record.query.as_deref()).collect();
    if queries.len() <= 1 || !queries.iter().any(|query| is_whole(query)) {
        let first = alike.iter().map(|(place, _)| *place).min();
        alike.sort_by_key(|(_, record)| number(record, NUMBERING.0));
        // The event stands where its first record did, whatever the order of its parts.
        if let (Some((place, _)), Some(first)) = (alike.first_mut(), first) {
            *place = first;
        }
        return vec![alike];
    }
    let mut by_query = HashMap::<Option<&str>, Vec<Placed<'r, 'a>>>::new();
    for (place, record) in alike {
        by_query.entry(record.query.as_deref()).or_default().push((place, record));
    }
    by_query
        .into_iter()
        .flat_map(|(query, records)| match query {
            Some(query) if is_whole(query) => vec![records],
            _ => alone(records),
        })
        .collect()
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
    fn new(parts: Vec<&'r AuditRecord<'a>>) -> Self {
        Self { parts }
    }

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

    /// The event as one record, with the Id of the first part: Fields one after the other, QueryResults each once in
    /// order, and a Query that was divided put together.
    pub fn record(&self) -> AuditRecord<'a> {
        let [first, rest @ ..] = self.parts.as_slice() else { return AuditRecord::default() };
        let mut whole = AuditRecord::clone(first);
        if rest.is_empty() {
            return whole;
        }
        whole.extra.retain(|name, _: &mut Json<'a>| name != NUMBERING.0 && name != NUMBERING.1);
        // What all parts have alike was not divided but repeated.
        if rest.iter().any(|part| part.fields != first.fields) {
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
