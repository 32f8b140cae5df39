//! What several plugins need to know of Dataverse, the platform of Dynamics 365.
//!
//! - [`map_context`] turns one `RemoteExecutionContext`, as Dataverse posts it in JSON to webhooks and writes it to
//!   Service Bus and Event Hubs, into one [`AuditRecord`](actlog_core::AuditRecord): pipeline names become SDK request
//!   names, queries become the specification's filters, answers become lists of row ids.
//! - [`customizations`] reads which audit flags a solution, or a live environment's metadata, has set.
//! - `webapi` (feature `client`) reads and changes a live environment.
//! - [`tables`] knows messages, entities and condition operators. The policy decides by them.
//!
//! Apart from `webapi` it does no I/O and knows no transport: a source hands it a body and what the [`Envelope`] said. It decides nothing:
//! what is audited, categorised, masked or left out is the policy's business. In the flow of a record it stands between
//! a source's listener (or file reader) and the emitter.
//!
//! Invariants:
//! - The same body gives the same Id, whatever came around it.
//! - No body makes it panic, recurse without bound, or use memory beyond a small multiple of the body's length.
//! - A context that is merely unknown, trimmed or odd is mapped; only what is no context at all is an error.

mod context;
pub mod customizations;
pub mod directory;
mod enclosing;
mod extra;
mod fetch;
mod fields;
mod identity;
mod json;
mod mapping;
mod query;
mod results;
pub mod tables;
mod text;
mod value;
#[cfg(feature = "client")]
pub mod webapi;

pub use context::ContextError;
pub use mapping::{Envelope, MappingOptions, map_context};
