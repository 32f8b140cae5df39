//! What the sink counts.

use actlog_core::{Counter, Gauge, Histogram, Metrics};

/// The sink's counters.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) delivered: Counter,
    pub(crate) retries: Counter,
    pub(crate) requests: Counter,
    pub(crate) failed: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) seconds: Histogram,
    pub(crate) circuit_open: Gauge,
}

impl Figures {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let requests =
            |outcome| metrics.counter("actlog_http_sink_requests", "Requests to the receiver", &[("outcome", outcome)]);
        let bounds = [0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];
        Self {
            delivered: metrics.counter("actlog_sink_delivered", "Entries that the receiver has for good", &[]),
            retries: metrics.counter("actlog_sink_retries", "Deliveries that were put off", &[]),
            requests: requests("answered"),
            failed: requests("failed"),
            sent_bytes: metrics.counter("actlog_http_sink_sent_bytes", "Bytes of bodies, as they were sent", &[]),
            seconds: metrics.histogram(
                "actlog_http_sink_request_seconds",
                "How long a request took, to the end of its answer",
                &bounds,
                &[],
            ),
            circuit_open: metrics.gauge("actlog_http_sink_circuit_open", "1 while the receiver is out of order", &[]),
        }
    }
}
