//! What several plugins need to know of the Office 365 Management Activity API and its audit records.
//!
//! - [`from_office`] turns one record of the feed, of any product, into one [`AuditRecord`](actlog_core::AuditRecord):
//!   Dynamics 365 (`CRM`), the Power Platform admin centre, sign-ins to Dynamics 365, and everything else as it came.
//! - [`output`] is the way back: an audit record becomes the Office records that clients of the feed read.
//! - [`split`] divides a record that is too large for its receiver, and puts the parts together again.
//! - [`parts`] is a view: which records are parts of one event that Office's limit of 3 KB divided.
//! - [`errors`] knows the service's error codes and what a client does about each.
//! - [`feed`] has the feed's own names: content types, content entries, spellings of time; [`Cloud`] its addresses.
//! - [`admin`] knows the events of the Power Platform admin centre by name.
//!
//! It does no I/O and knows no transport: a source hands it the bytes of a record. It decides nothing: what is audited,
//! categorised or masked is the policy's business. In the flow of a record it stands between a source of the feed's
//! records and the emitter, and again where records are looked at (parts) and served on (output, names and codes).
//!
//! Invariants:
//! - Nothing of a record is lost. What a key of ours does not hold exactly is under `Extra` as it came.
//! - The same record gives the same Id, whichever blob it came in.
//! - `reassemble(split(record))` is the record, for every record.
//! - What is written for clients is read the same again.
//! - No bytes make it panic, recurse without bound, or use memory beyond a small multiple of their length.

pub mod admin;
mod cloud;
pub mod errors;
pub mod feed;
mod json;
mod mapping;
pub mod output;
pub mod parts;
mod products;
mod record_types;
pub mod split;
mod values;
mod view;
mod write;

pub use cloud::Cloud;
pub use feed::{CONTENT_TYPES, ContentType};
pub use mapping::{Envelope, MAX_RECORD, OfficeError, from_office};
pub use products::DYNAMICS_APPLICATION;
pub use record_types::record_type_name;
