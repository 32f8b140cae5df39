//! The sink's own figures.

use actlog_core::{Counter, Gauge, Metrics};

#[derive(Clone, Debug)]
pub(crate) struct FileMetrics {
    pub(crate) bytes: Counter,
    pub(crate) open: Gauge,
    pub(crate) closed: Counter,
    pub(crate) compressed: Counter,
    pub(crate) removed: Counter,
    pub(crate) rejected: Counter,
    pub(crate) damaged: Counter,
}

impl FileMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let counter = |name, help| metrics.counter(name, help, &[]);
        Self {
            bytes: counter("actlog_sink_file_bytes", "Bytes of lines put into audit files, uncompressed"),
            open: metrics.gauge("actlog_sink_file_open", "Audit files that are written to", &[]),
            closed: counter("actlog_sink_file_closed", "Audit files that were closed"),
            compressed: counter("actlog_sink_file_compressed", "Closed audit files that were compressed"),
            removed: counter("actlog_sink_file_removed", "Audit files that were removed at their maximum age"),
            rejected: counter("actlog_sink_file_rejected", "Entries that have no line and went to the dead letters"),
            damaged: counter("actlog_sink_file_damaged", "Open audit files found removed or cut by somebody else"),
        }
    }
}
