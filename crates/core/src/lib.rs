//! The vocabulary of actlog: what a plugin author compiles.
//!
//! It holds the [`AuditRecord`] and its schema, the traits [`Source`], [`Sink`] and [`Enrichment`], what they work with,
//! and the registration of plugins. It is not a runtime: it starts nothing, opens nothing by itself, and knows no plugin.
//!
//! ```text
//! Source ── Emitter ──► (policy, journal: the runtime's) ── SinkContext ──► Sink
//! ```
//!
//! A source turns what it receives into records and emits them; the [`Receipt`] resolves when they are on disk, and
//! only then may the source tell its upstream. Each sink pulls [`Entry`]s at a cursor of its own.
//!
//! To write a plugin, implement [`Source`] and [`SourcePlugin`] (or [`Sink`] and [`SinkPlugin`], or [`Enrichment`] and
//! [`EnrichmentPlugin`]), register it with [`register_source!`] (or [`register_sink!`], [`register_enrichment!`]), and name
//! the crate in a host. `docs/writing-a-source.md` shows the
//! whole way.

mod command;
pub mod config;
mod config_keys;
mod emitter;
mod enrichment;
mod entry;
mod health;
pub mod json;
mod lease;
mod metrics;
mod plugin;
mod record;
mod secret;
mod sink;
mod source;
mod storage;
pub mod terminal;
mod time;

pub use command::{CommandContext, CommandDescriptor, CommandLog};
pub use config::{Application, ConfigError, Organization, Organizations, Size, Span};
pub use config_keys::{ConfigKey, config_keys};
pub use emitter::{Committed, Emit, EmitError, Emitter, Gap, Prepared, Receipt, RejectedInput};
pub use enrichment::{Enrichment, EnrichmentContext, EnrichmentError};
pub use entry::{Entry, EntryKind, Statement};
pub use health::{Health, Status};
#[doc(hidden)]
pub use inventory;
pub use lease::Lease;
pub use metrics::{Counter, Gauge, Histogram, Metrics};
pub use plugin::{
    BuildContext, BuildError, EnrichmentDescriptor, EnrichmentFactory, EnrichmentPlugin, PluginInfo, Registry,
    RegistryError, SinkDescriptor, SinkFactory, SinkPlugin, SourceDescriptor, SourceFactory, SourcePlugin, WhenFull,
};
pub use record::{AuditRecord, Extra, Field, Json, RECORD_TYPE_CRM, WORKLOAD_ACTLOG, WORKLOAD_CRM};
pub use secret::{Secret, SecretReference};
pub use sink::{BatchSink, Delivery, Pull, Sink, SinkContext, SinkError, run_batches};
pub use source::{Source, SourceContext, SourceError};
pub use storage::{FileEntry, OpenMode, Storage, StorageFile};
pub use time::{Clock, SystemClock, Timestamp};
