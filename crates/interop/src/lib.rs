//! An audit record in other systems' shapes: what sinks send, byte by byte.
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
