//! What a listener counts.

use std::sync::OnceLock;

use actlog_core::{Counter, Gauge, Metrics};
use hyper::StatusCode;

/// Figures of one listener. Labels are few: none of them comes from outside, but the status, of which there are 500.
pub(crate) struct Figures {
    metrics: Metrics,
    answers: Vec<OnceLock<Counter>>,
    pub(crate) connections: Gauge,
    pub(crate) received: Counter,
    pub(crate) refused_address: Counter,
    pub(crate) refused_full: Counter,
    pub(crate) evicted: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) handshakes: Counter,
}

impl Figures {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let closed = |reason| {
            let help = "Connections and requests that were ended early, by reason";
            metrics.counter("actlog_http_refused", help, &[("reason", reason)])
        };
        Self {
            answers: std::iter::repeat_with(OnceLock::new).take(500).collect(),
            connections: metrics.gauge("actlog_http_connections", "Open connections", &[]),
            received: metrics.counter("actlog_http_received_bytes", "Bytes of bodies, as they were sent", &[]),
            refused_address: closed("address"),
            refused_full: closed("connections"),
            evicted: closed("evicted"),
            timed_out: closed("timeout"),
            handshakes: closed("handshake"),
            metrics: metrics.clone(),
        }
    }

    /// An answer was given.
    pub(crate) fn count(&self, status: StatusCode) {
        if let Some(slot) = self.answers.get(usize::from(status.as_u16()).wrapping_sub(100)) {
            let help = "Answers, by status";
            slot.get_or_init(|| self.metrics.counter("actlog_http_responses", help, &[("status", status.as_str())]))
                .inc();
        }
    }
}
