//! The sink's own figures.

use actlog_core::{Counter, Gauge, Metrics};

/// Registered once for a run.
#[derive(Clone, Debug)]
pub(super) struct SinkFigures {
    /// Rounds that became available.
    pub(super) rounds: Counter,
    /// Entries that can't be served.
    pub(super) rejected: Counter,
    /// Records that no tenant claims.
    pub(super) unclaimed: Gauge,
    /// Blobs on disk.
    pub(super) blobs: Gauge,
    /// Bytes on disk.
    pub(super) bytes: Gauge,
    /// Seconds.
    pub(super) oldest: Gauge,
}

impl SinkFigures {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counter = |name, help| metrics.counter(name, help, &[]);
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        Self {
            rounds: counter("actlog_management_api_rounds", "Times that content became available"),
            rejected: counter(
                "actlog_management_api_rejected",
                "Entries that can't be served and went to the dead letters",
            ),
            unclaimed: gauge("actlog_management_api_unclaimed", "Records kept that no tenant claims"),
            blobs: gauge("actlog_management_api_blobs", "Blobs of content on disk"),
            bytes: gauge("actlog_management_api_content_bytes", "Bytes of content on disk"),
            oldest: gauge("actlog_management_api_oldest_seconds", "Age of the oldest blob"),
        }
    }
}
