//! The sink `http`: audit records for receivers that take them over HTTP, in the shape that each of them understands.
//!
//! It speaks to any webhook (`json`, `ndjson`, `cloudevents`), to Splunk's HTTP Event Collector, to Elasticsearch and
//! OpenSearch, to OpenTelemetry collectors and to Azure Monitor. It is not a router: a sink has one receiver, and what
//! goes to several needs several sinks, each with a cursor of its own. It decides nothing about what is audited.
//!
//! ```text
//! journal ─► Pump ─► Encoder (shape, limits) ─► batches ─► Delivery ─► Link ─► receiver
//!              ▲                                             │ Format: what an answer means
//!              └── commit up to the first that is not done ◄─┘ Circuit: when to try again
//! ```
//!
//! Invariants:
//!
//! - The cursor passes a record when the receiver has said that it has it for good, or when it is with the dead letters.
//!   What a receiver refuses becomes a dead letter by itself: a request that is refused as a whole is divided until it is
//!   known which record it is.
//! - A receiver that is out of order costs time and never a record: all deliveries stop, one tries again after a pause,
//!   for as long as it takes. The circuit's state, since when and why, is the sink's health.
//! - With `concurrency = 1`, and a format whose receiver takes or refuses a request as a whole (all but
//!   `elasticsearch`), records arrive in the journal's order.
//! - Records may arrive more than once, and carry their Id as a key wherever the format has a place for one.
//! - Memory: what was pulled last, and as many batches as may be on their way and one more. Of each, the stored records,
//!   those as the receiver wants them, and the request's body.
//! - `json` and `ndjson` send the stored bytes; they are decoded only where a limit asks for it.
//! - What is configured as a secret appears in no error, log, metric or dead letter, not even where a receiver echoes it.
//!
//! `docs/http-sinks.md` is the user's view.

mod circuit;
mod config;
mod delivery;
mod encode;
mod figures;
mod formats;
mod link;
mod pump;
mod sink;
mod value;
mod verdict;

pub use config::{
    Ack, Auth, Azure, Basic, Batch, Body, CloudEvents, Compression, Elasticsearch, Entra, FormatName, HttpConfig,
    OAuth2, Splunk, StatusTable,
};
pub use sink::HttpSink;
pub use value::Value;

/// What an answer of any bytes means to the format of a configuration: the places of records that it names, of `count`
/// that were sent. For fuzzing.
#[doc(hidden)]
pub fn places_in_answer(config: &HttpConfig, status: u16, body: &[u8], count: usize) -> Option<Vec<usize>> {
    formats::places(config, status, body, count)
}
