//! An audit record in other systems' shapes.
//!
//! | module | for |
//! |---|---|
//! | [`ecs`] | Elasticsearch and OpenSearch: the Elastic Common Schema |
//! | [`ocsf`] | data lakes and SIEMs that read the Open Cybersecurity Schema Framework |
//! | [`cloudevents`] | whatever takes CloudEvents |
//! | [`splunk`] | Splunk's HTTP Event Collector |
//! | [`azure`] | Azure Monitor's Logs Ingestion API, and so Microsoft Sentinel |
//! | [`otlp`] | the OpenTelemetry protocol, logs |
//! | [`cef`], [`syslog`] | ArcSight's Common Event Format; the header of RFC 5424 |
//!
//! Here is only what bytes stand for a record. Sending them, dividing records that are too large, compressing and
//! batching are matters of the sinks, which are the users of this crate. The Office record, which actlog reads as well as
//! writes, is in `actlog-office`. `docs/mappings.md` says which key is where.
//!
//! What holds for all of it:
//!
//! - A function appends to a buffer, and what it appends is whole: one object, on one line, valid for any record.
//!   Nothing fails, panics, or builds a tree first.
//! - Nothing of the record is lost, except in CEF, which has no place for all of it; nothing is made up. What is absent is
//!   absent, except where a schema requires a value: then it is the schema's own "unknown".
//! - Values have the types of the receiver's mapping: an address is one, or it is in a text.

pub mod azure;
pub mod cef;
pub mod cloudevents;
pub mod ecs;
mod json;
pub mod ocsf;
pub mod otlp;
mod reading;
pub mod splunk;
pub mod syslog;
