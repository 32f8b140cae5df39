//! Wires sources to sinks from a configuration.
//!
//! ```text
//! sources ── emitters ──► policy ──► journal ──► readers ── cursors ──► sinks
//! ```
//!
//! It opens a data folder ([`Instance`]), builds the configured components and keeps them going ([`run`]), stores what
//! is refused for good ([`DeadLetters`]), answers on the control socket ([`ask`]), and shows health and metrics. It
//! names no plugin, reads no command line and no configuration file: that is the host's.
//!
//! Invariants:
//! - One process at a time uses a data folder.
//! - A source is told "durable" by the journal alone; nothing here answers for it.
//! - A sink's cursor never moves back, and moves past what the sink has not received only with a statement of that.

mod admin;
mod config;
mod control;
mod dead_letters;
mod housekeeping;
mod instance;
mod lock;
mod pipeline;
mod pull;
mod run;
mod statements;
mod supervisor;

pub use actlog_journal::{DiskStorage, JournalOptions};
pub use config::{
    AdminConfig, Config, EnrichmentPlan, EnrichmentTable, JournalConfig, Known, LogConfig, LogFormat, Plan,
    PolicyConfig, SinkPlan, SinkTable, SourcePlan, SourceTable, StartAt,
};
pub use control::{ControlError, Request, ask};
pub use dead_letters::{DeadLetter, DeadLetters};
pub use instance::{Instance, OpenError, Platform, journal_folder, policy_folder};
pub use lock::{DataLock, LockError};
pub use pull::{CursorView, read_cursors};
pub use run::{RunError, RunOptions, run};
