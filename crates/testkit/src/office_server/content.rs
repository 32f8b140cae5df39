//! What is in the feed: blobs and their records, made from a seed when they are asked for. Nothing is kept in memory,
//! so that a million records cost nothing until they are fetched.

use std::collections::HashSet;
use std::time::Duration;

use actlog_core::Timestamp;
use uuid::Uuid;

use super::records;
use crate::random::{Random, id_of};

/// Streams of choices of their own.
const BLOB: u64 = 20;
const RECORD: u64 = 23;
const IDS: u64 = 25;
/// A content id has six digits for the blob's number.
const MAXIMUM_BLOBS: u64 = 1_000_000;

/// What the feed is to hold. The same plan gives the same content for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentPlan {
    /// Seed of all choices.
    pub seed: u64,
    /// Records in all blobs together, duplicates counted; rounded up to whole blobs.
    pub records: u64,
    /// Records of one blob.
    pub records_per_blob: u64,
    /// Of 100 records, so many are copies of records in the same or earlier blobs.
    pub duplicates_percent: u64,
    /// When the first blob becomes available. The others follow evenly; they need a millisecond each.
    pub from: Timestamp,
    /// When all blobs are available.
    pub to: Timestamp,
    /// What blobs hold, at random.
    pub content_types: Vec<&'static str>,
    /// Of 1000 blobs, so many are listed and can't be fetched any more.
    pub expired_per_mille: u64,
    /// One blob in twenty is listed only so long after it became available.
    pub listing_lag: Duration,
    /// Of 1000 records that are no copies, so many are no records at all.
    pub malformed_per_mille: u64,
}

impl ContentPlan {
    /// So many records in blobs of 50, spread over the time, of all content types; no duplicates, nothing expired.
    pub fn new(seed: u64, records: u64, from: Timestamp, to: Timestamp) -> Self {
        Self {
            seed,
            records,
            records_per_blob: 50,
            duplicates_percent: 0,
            from,
            to,
            content_types: super::CONTENT_TYPES.to_vec(),
            expired_per_mille: 0,
            listing_lag: Duration::ZERO,
            malformed_per_mille: 0,
        }
    }
}

/// A blob as the list of content names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its number, counted from 0, in the order in which blobs become available.
    pub number: u64,
    /// Its id.
    pub content_id: String,
    /// What it holds.
    pub content_type: &'static str,
    /// When it became available.
    pub created: Timestamp,
    /// When it is listed.
    pub listed: Timestamp,
    /// Whether it can't be fetched although it is listed.
    pub is_expired: bool,
}

/// The content of a plan.
#[derive(Clone, Debug)]
pub struct Content {
    plan: ContentPlan,
    blobs: u64,
}

impl Content {
    /// # Panics
    /// When the plan can't be carried out: nothing to choose from, or more blobs than ids or milliseconds.
    pub fn new(plan: ContentPlan) -> Self {
        let blobs = plan.records.div_ceil(plan.records_per_blob.max(1));
        assert!(!plan.content_types.is_empty() && plan.records_per_blob > 0, "an empty plan: {plan:?}");
        assert!(blobs <= MAXIMUM_BLOBS && plan.duplicates_percent < 100, "too much of something: {plan:?}");
        let content = Self { plan, blobs };
        assert!(blobs == 0 || content.step() > 0, "blobs need a millisecond each: {:?}", content.plan);
        content
    }

    /// All blobs, those that are not available yet too.
    pub fn blobs(&self) -> impl Iterator<Item = Blob> {
        (0..self.blobs).map(|number| self.blob(number))
    }

    /// The blob of that id.
    pub(crate) fn find(&self, content_id: &str) -> Option<Blob> {
        let number = content_id.get(17..23)?.parse().ok().filter(|number| *number < self.blobs)?;
        Some(self.blob(number)).filter(|blob| blob.content_id == content_id)
    }

    /// The blobs that became available from `from` on and before `to`, in that order; those from number `first` on.
    pub(crate) fn between(&self, from: Timestamp, to: Timestamp, first: u64) -> impl Iterator<Item = Blob> {
        let (mut low, mut high) = (first.min(self.blobs), self.blobs);
        while low < high {
            let middle = u64::midpoint(low, high);
            if self.created(middle) < from { low = middle + 1 } else { high = middle }
        }
        (low..self.blobs).map(|number| self.blob(number)).take_while(move |blob| blob.created < to)
    }

    /// Milliseconds from one blob to the next.
    fn step(&self) -> u64 {
        let span = self.plan.to.unix_milliseconds() - self.plan.from.unix_milliseconds();
        u64::try_from(span).unwrap_or_default() / self.blobs
    }

    /// Later than that of the blob before: listings go by it.
    fn created(&self, number: u64) -> Timestamp {
        let step = self.step();
        let within = Random::new(self.plan.seed, BLOB, number).below(step);
        self.plan.from.plus_milliseconds((number * step + within) as i64)
    }

    fn content_type(&self, number: u64) -> &'static str {
        Random::new(self.plan.seed, BLOB + 1, number).pick(&self.plan.content_types)
    }

    fn blob(&self, number: u64) -> Blob {
        let (created, content_type) = (self.created(number), self.content_type(number));
        let mut random = Random::new(self.plan.seed, BLOB + 2, number);
        let is_expired = random.per_mille(self.plan.expired_per_mille);
        let lag = if random.below(20) == 0 { self.plan.listing_lag.as_millis() as i64 } else { 0 };
        let key = format!("{}{number:06}", created.to_datetime().format("%Y%m%d%H%M%S%3f"));
        let name = content_type.replace('.', "_");
        Blob {
            number,
            content_id: format!("{key}${key}${}${name}$emea0036", name.to_lowercase()),
            content_type,
            created,
            listed: created.plus_milliseconds(lag),
            is_expired,
        }
    }

    /// How many of a blob's records are no copies.
    fn originals(&self) -> u64 {
        self.plan.records_per_blob - self.plan.records_per_blob * self.plan.duplicates_percent / 100
    }

    /// What a blob holds: each record by the blob that it was in first, and its number there.
    fn entries(&self, blob: &Blob) -> Vec<(u64, u64)> {
        let mut random = Random::new(self.plan.seed, RECORD, blob.number);
        let originals = self.originals();
        let mut entries: Vec<_> = (0..originals).map(|number| (blob.number, number)).collect();
        for _ in originals..self.plan.records_per_blob {
            // A copy of something of the same content type, days old at times. Some are in the same blob twice.
            let earlier = (0..8).map(|_| random.below(blob.number + 1));
            let same = earlier.into_iter().find(|number| self.content_type(*number) == blob.content_type);
            entries.push((same.unwrap_or(blob.number), random.below(originals)));
        }
        for place in (1..entries.len()).rev() {
            entries.swap(place, random.place(place + 1));
        }
        entries
    }

    /// The Id of the record of that number in the blob that it was in first; none for what is no record.
    fn id(&self, blob: u64, number: u64) -> Option<Uuid> {
        let place = blob * self.originals() + number;
        let is_malformed = Random::new(self.plan.seed, IDS + 1, place).per_mille(self.plan.malformed_per_mille);
        (!is_malformed).then(|| id_of(self.plan.seed, IDS, place))
    }

    /// The Ids of a blob's records, in their order, copies included.
    pub fn ids(&self, blob: &Blob) -> Vec<Uuid> {
        self.entries(blob).into_iter().filter_map(|(first, number)| self.id(first, number)).collect()
    }

    /// Elements of a blob that are no records.
    pub fn malformed(&self, blob: &Blob) -> usize {
        self.entries(blob).into_iter().filter(|(first, number)| self.id(*first, *number).is_none()).count()
    }

    /// The distinct Ids in all blobs that can be fetched: what a collector must have in the end, each once.
    pub fn available(&self) -> HashSet<Uuid> {
        self.blobs().filter(|blob| !blob.is_expired).flat_map(|blob| self.ids(&blob)).collect()
    }

    /// The distinct Ids that are in blobs only that can't be fetched any more.
    pub fn lost(&self) -> HashSet<Uuid> {
        let expired: Vec<_> = self.blobs().filter(|blob| blob.is_expired).collect();
        if expired.is_empty() {
            return HashSet::new();
        }
        let available = self.available();
        expired.iter().flat_map(|blob| self.ids(blob)).filter(|id| !available.contains(id)).collect()
    }

    /// A blob as it is sent: an array of records.
    pub(crate) fn body(&self, blob: &Blob) -> String {
        let mut body = String::with_capacity(1200 * self.plan.records_per_blob as usize);
        for (place, (first, number)) in self.entries(blob).into_iter().enumerate() {
            body.push(if place == 0 { '[' } else { ',' });
            match self.id(first, number) {
                // A copy has the members of the first one, in another order: so they differ between deliveries.
                Some(id) => {
                    let random = Random::new(self.plan.seed, RECORD + 1, first * self.originals() + number);
                    let created = self.created(first);
                    records::write(&mut body, random, id, blob.content_type, created, blob.number as usize + place);
                }
                None => body.push_str([r#""no record""#, "null", "[]", "5"][place % 4]),
            }
        }
        body.push_str(if body.is_empty() { "[]" } else { "]" });
        body
    }
}
