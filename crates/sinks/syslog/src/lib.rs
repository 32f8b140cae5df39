//! The sink `syslog`: audit records as RFC 5424 messages over TLS or TCP, with the record as JSON or as CEF, for SIEMs
//! and log servers that take nothing else.
//!
//! It speaks to one receiver, in the journal's order. It doesn't speak UDP, which loses messages, and it is no relay:
//! what it sends are this log's records.
//!
//! ```text
//! journal ─► SinkContext::next ─► Framer (header, JSON or CEF, length) ─► Connection ─► receiver
//!              ▲                                                             │
//!              └──────── SinkContext::commit ◄── the receiver has closed ◄───┘
//! ```
//!
//! Syslog has no acknowledgement: that bytes were written to a connection says nothing. Promises all the same:
//!
//! - **Confirmed twice.** A connection is used for an interval. Then the sink closes its half, and the receiver, once it
//!   has read everything, the other half. What has been read may still be in the receiver's memory only; so it counts as
//!   delivered when a *later* connection has ended in good order too, at least an interval after that.
//! - **At least once.** After any failure (a connection that breaks, is closed early, or is not closed in time) the run
//!   ends with an error, and the next one begins at the cursor. A record may arrive again; its `Id` tells.
//! - **Whole messages.** A record whose message is longer than the receiver takes is divided by `actlog_office::split`
//!   into parts that are records of their own. One that can't be divided goes to the dead letters.
//! - **Bounds.** A pull of entries and its frames are in memory, nothing else. Each step has a time limit.
//!
//! The address is the operator's, and SIEMs are at home in private networks: no address is refused. `docs/syslog.md` is
//! the user's view.

mod config;
mod connection;
mod message;
mod sink;

pub use config::{Confirm, Facility, Format, SyslogConfig, TlsOptions, Transport};
pub use sink::SyslogSink;
