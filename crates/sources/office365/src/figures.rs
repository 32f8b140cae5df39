//! What the source says of itself: metrics and health.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use actlog_core::{Counter, Gauge, Health, Metrics, Status};

/// Counters that all parts share.
#[derive(Debug)]
pub(crate) struct Figures {
    metrics: Metrics,
    pub(crate) received: Counter,
    pub(crate) rejected: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) blobs_taken: Counter,
    pub(crate) blobs_known: Counter,
    pub(crate) blobs_lost: Counter,
}

impl Figures {
    pub(crate) fn new(metrics: Metrics) -> Self {
        let blobs = |outcome| {
            let help = "Blobs of records: taken, known already when listed again, or lost because they had expired";
            metrics.counter("actlog_office365_blobs", help, &[("outcome", outcome)])
        };
        Self {
            received: metrics.counter("actlog_source_received", "Records that came in for the first time", &[]),
            rejected: metrics.counter("actlog_source_rejected", "Elements of blobs that are no records", &[]),
            duplicates: metrics.counter(
                "actlog_office365_duplicate_records",
                "Records that had come before, in other blobs",
                &[],
            ),
            blobs_taken: blobs("taken"),
            blobs_known: blobs("known"),
            blobs_lost: blobs("lost"),
            metrics,
        }
    }

    /// Requests to a tenant, by how they ended.
    pub(crate) fn requests(&self, tenant: &str, outcome: &str) -> Counter {
        let labels = [("tenant", tenant), ("outcome", outcome)];
        self.metrics.counter("actlog_office365_requests", "Requests to the interface, by their outcome", &labels)
    }

    /// Requests that had to wait for the tenant's budget.
    pub(crate) fn waits(&self, tenant: &str) -> Counter {
        let help = "Times that a request waited because of the limit per minute, or because the service asked for it";
        self.metrics.counter("actlog_office365_budget_waits", help, &[("tenant", tenant)])
    }

    /// How far a feed is behind.
    pub(crate) fn lag(&self, tenant: &str, content_type: &str) -> Gauge {
        let help = "How long ago that became available which is not known to be taken, in seconds";
        let labels = [("tenant", tenant), ("content_type", content_type)];
        self.metrics.gauge("actlog_office365_lag_seconds", help, &labels)
    }
}

/// What needs attention, by where it is. The source is degraded for as long as there is anything.
#[derive(Debug)]
pub(crate) struct Problems {
    health: Health,
    present: Mutex<BTreeMap<String, String>>,
}

impl Problems {
    /// Most problems that are spelled out.
    const SHOWN: usize = 5;

    pub(crate) fn new(health: Health) -> Self {
        Self { health, present: Mutex::default() }
    }

    /// Something is wrong, or wrong in another way than before.
    pub(crate) fn set(&self, place: &str, what: String) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.get(place) == Some(&what) {
            return;
        }
        tracing::warn!(place, "{what}");
        present.insert(place.to_owned(), what);
        self.show(&present);
    }

    /// All is well there.
    pub(crate) fn clear(&self, place: &str) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.remove(place).is_some() {
            tracing::info!(place, "is well again");
            self.show(&present);
        }
    }

    fn show(&self, present: &BTreeMap<String, String>) {
        if present.is_empty() {
            return self.health.set(Status::Ok);
        }
        let mut texts: Vec<String> =
            present.iter().take(Self::SHOWN).map(|(place, what)| format!("{place}: {what}")).collect();
        if let Some(more @ 1..) = present.len().checked_sub(Self::SHOWN) {
            texts.push(format!("and {more} more"));
        }
        self.health.set(Status::Degraded { reason: texts.join("; ") });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_degraded_for_as_long_as_anything_is_wrong() {
        let health = Health::default();
        let problems = Problems::new(health.clone());
        for number in 0..7 {
            problems.set(&format!("tenant {number}"), "no token".to_owned());
        }
        let Status::Degraded { reason } = health.get() else { panic!("{:?}", health.get()) };
        assert!(reason.starts_with("tenant 0: no token; ") && reason.ends_with("; and 2 more"), "{reason}");
        for number in 0..7 {
            assert_ne!(health.get(), Status::Ok);
            problems.clear(&format!("tenant {number}"));
        }
        assert_eq!(health.get(), Status::Ok);
    }
}
