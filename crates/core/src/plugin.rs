//! How plugins join: each registers itself, and the registry refuses what would fail silently.
//!
//! A plugin crate says `actlog_core::register_source!(MySource)`; the host names the crate (`use my_source as _;`), and
//! that is all. Registration rests on `inventory`, which has silent failures; each has a guard:
//!
//! - a crate that nobody names is dropped by the linker: hosts deny `unused_crate_dependencies`;
//! - two versions of this crate make two registries: `links` in the manifest makes cargo refuse them;
//! - a kind registered twice: [`Registry::collect`] refuses it and names both crates;
//! - the order is unspecified: the registry sorts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::command::CommandDescriptor;
use crate::config::{self, ConfigError, Organizations};
use crate::enrichment::Enrichment;
use crate::metrics::Metrics;
use crate::sink::Sink;
use crate::source::Source;
use crate::storage::Storage;
use crate::time::Clock;

/// What a component is built with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BuildContext {
    /// The configured name: `audit` for `[sinks.audit]`.
    pub name: Arc<str>,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The folder of the configuration file: relative paths in the configuration are seen from there.
    pub config_dir: PathBuf,
    /// The file system.
    pub storage: Arc<dyn Storage>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Bytes of request bodies that all listeners together may hold at once, one permit each.
    pub body_budget: Arc<Semaphore>,
    /// The configured organisations.
    pub organizations: Arc<Organizations>,
}

impl BuildContext {
    /// 64 MiB: the bytes of request bodies that are held at once.
    pub const BODY_BUDGET: usize = 64 << 20;

    /// A context, as the runtime and tests make it, with a body budget of its own.
    pub fn new(data_dir: impl Into<PathBuf>, storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Self {
        Self {
            name: Arc::from(""),
            data_dir: data_dir.into(),
            config_dir: PathBuf::new(),
            storage,
            clock,
            body_budget: Arc::new(Semaphore::new(Self::BODY_BUDGET)),
            organizations: Arc::default(),
        }
    }

    /// The same for a component of that name.
    #[must_use]
    pub fn named(&self, name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), ..self.clone() }
    }
}

/// Why a component could not be built; the runtime tries again with back-off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener could not be opened.
    #[error("listen on {address}: {error}")]
    Listen {
        /// The address.
        address: String,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// A file could not be used.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// Anything else, in words that say what to do.
    #[error("{0}")]
    Other(String),
}

/// What the author of a source writes besides [`Source`].
pub trait SourcePlugin: Source + Sized + 'static {
    /// Its name in configurations: `type = "crm"`.
    const KIND: &'static str;
    /// What it is, in one line.
    const SUMMARY: &'static str;
    /// A working configuration in TOML, without the table's head and the `type`.
    const EXAMPLE: &'static str;
    /// Its configuration; every field has a doc comment, and unknown keys are denied.
    type Config: DeserializeOwned + JsonSchema + Send + Sync + 'static;

    /// Looks at the configuration without any input or output: `actlog validate` calls it.
    ///
    /// # Errors
    /// What is wrong, with the key path.
    fn validate(config: &Self::Config) -> Result<(), ConfigError>;

    /// Makes a source. Repeatable: it is called again after each error.
    ///
    /// # Errors
    /// What keeps it from being made.
    fn build(config: &Self::Config, cx: &BuildContext) -> impl Future<Output = Result<Self, BuildError>> + Send;
}

/// What the author of a sink writes besides [`Sink`].
pub trait SinkPlugin: Sink + Sized + 'static {
    /// Its name in configurations: `type = "file"`.
    const KIND: &'static str;
    /// What it is, in one line.
    const SUMMARY: &'static str;
    /// A working configuration in TOML, without the table's head and the `type`.
    const EXAMPLE: &'static str;
    /// What becomes of the journal when it is full and this sink is behind, unless the configuration says otherwise.
    const WHEN_FULL: WhenFull = WhenFull::Hold;
    /// Its configuration; every field has a doc comment, and unknown keys are denied.
    type Config: DeserializeOwned + JsonSchema + Send + Sync + 'static;

    /// Looks at the configuration without any input or output: `actlog validate` calls it.
    ///
    /// # Errors
    /// What is wrong, with the key path.
    fn validate(config: &Self::Config) -> Result<(), ConfigError>;

    /// Whether it serves others (a listener), so that the process does not end by itself when all sources have ended.
    fn serves(_config: &Self::Config) -> bool {
        false
    }

    /// Makes a sink. Repeatable: it is called again after each error.
    ///
    /// # Errors
    /// What keeps it from being made.
    fn build(config: &Self::Config, cx: &BuildContext) -> impl Future<Output = Result<Self, BuildError>> + Send;
}

/// What the author of an enrichment writes besides [`Enrichment`].
pub trait EnrichmentPlugin: Enrichment + Sized {
    /// Its name in configurations: `type = "directory"`.
    const KIND: &'static str;
    /// What it is, in one line.
    const SUMMARY: &'static str;
    /// A working configuration in TOML, without the table's head and the `type`.
    const EXAMPLE: &'static str;
    /// Its configuration; every field has a doc comment, and unknown keys are denied.
    type Config: DeserializeOwned + JsonSchema + Send + Sync + 'static;

    /// Looks at the configuration without any input or output: `actlog validate` calls it.
    ///
    /// # Errors
    /// What is wrong, with the key path.
    fn validate(config: &Self::Config) -> Result<(), ConfigError>;

    /// Makes an enrichment with what it knows from earlier runs. It is called once, before any source runs, and asks no
    /// other system: capture does not wait for one. `metrics` carries the labels `component` and `role`.
    ///
    /// # Errors
    /// What keeps it from being made; the run then does not begin.
    fn build(
        config: &Self::Config,
        cx: &BuildContext,
        metrics: &Metrics,
    ) -> impl Future<Output = Result<Self, BuildError>> + Send;
}

/// What happens when the journal has reached its budget and a sink is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// The journal keeps what the sink has not received; sources are put off.
    Hold,
    /// The sink's cursor moves on; what it missed is stated in the journal.
    Skip,
}

/// A source's configuration, checked, with its type erased.
#[async_trait]
pub trait SourceFactory: Send + Sync {
    /// See [`SourcePlugin::build`].
    ///
    /// # Errors
    /// As there.
    async fn build(&self, cx: &BuildContext) -> Result<Box<dyn Source>, BuildError>;
}

/// A sink's configuration, checked, with its type erased.
#[async_trait]
pub trait SinkFactory: Send + Sync {
    /// See [`SinkPlugin::serves`].
    fn serves(&self) -> bool;

    /// See [`SinkPlugin::build`].
    ///
    /// # Errors
    /// As there.
    async fn build(&self, cx: &BuildContext) -> Result<Box<dyn Sink>, BuildError>;
}

/// An enrichment's configuration, checked, with its type erased.
#[async_trait]
pub trait EnrichmentFactory: Send + Sync {
    /// See [`EnrichmentPlugin::build`].
    ///
    /// # Errors
    /// As there.
    async fn build(&self, cx: &BuildContext, metrics: &Metrics) -> Result<Arc<dyn Enrichment>, BuildError>;
}

struct Configured<P, C> {
    config: C,
    plugin: std::marker::PhantomData<fn() -> P>,
}

#[async_trait]
impl<P: SourcePlugin> SourceFactory for Configured<P, P::Config> {
    async fn build(&self, cx: &BuildContext) -> Result<Box<dyn Source>, BuildError> {
        Ok(Box::new(P::build(&self.config, cx).await?))
    }
}

#[async_trait]
impl<P: SinkPlugin> SinkFactory for Configured<P, P::Config> {
    fn serves(&self) -> bool {
        P::serves(&self.config)
    }

    async fn build(&self, cx: &BuildContext) -> Result<Box<dyn Sink>, BuildError> {
        Ok(Box::new(P::build(&self.config, cx).await?))
    }
}

#[async_trait]
impl<P: EnrichmentPlugin> EnrichmentFactory for Configured<P, P::Config> {
    async fn build(&self, cx: &BuildContext, metrics: &Metrics) -> Result<Arc<dyn Enrichment>, BuildError> {
        Ok(Arc::new(P::build(&self.config, cx, metrics).await?))
    }
}

macro_rules! descriptor {
    ($(#[$doc:meta])* $name:ident, $plugin:ident, $factory:ident $(, $extra:ident: $extra_type:ty = $constant:ident)?) => {
        $(#[$doc])*
        pub struct $name {
            /// Name in configurations.
            pub kind: &'static str,
            /// What it is, in one line.
            pub summary: &'static str,
            /// A working configuration in TOML.
            pub example: &'static str,
            /// The crate that registered it.
            pub crate_name: &'static str,
            /// Version of that crate.
            pub crate_version: &'static str,
            $(
                /// The default of `when_full`.
                pub $extra: $extra_type,
            )?
            /// JSON Schema of the configuration.
            pub schema: fn() -> Schema,
            /// Reads and validates a configuration, without any input or output.
            pub load: fn(serde_json::Value) -> Result<Box<dyn $factory>, ConfigError>,
        }

        impl $name {
            /// Describes a plugin; `register_…!` calls it.
            pub const fn of<P: $plugin>(crate_name: &'static str, crate_version: &'static str) -> Self {
                Self {
                    kind: P::KIND,
                    summary: P::SUMMARY,
                    example: P::EXAMPLE,
                    crate_name,
                    crate_version,
                    $($extra: P::$constant,)?
                    schema: || schemars::schema_for!(P::Config),
                    load: |table| {
                        let config: P::Config = config::deserialize(table)?;
                        P::validate(&config)?;
                        Ok(Box::new(Configured::<P, _> { config, plugin: std::marker::PhantomData }))
                    },
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({} from {} {})", stringify!($name), self.kind, self.crate_name, self.crate_version)
            }
        }

        inventory::collect!($name);
    };
}
descriptor! {
    /// A registered source.
    SourceDescriptor, SourcePlugin, SourceFactory
}
descriptor! {
    /// A registered sink.
    SinkDescriptor, SinkPlugin, SinkFactory, when_full: WhenFull = WHEN_FULL
}
descriptor! {
    /// A registered enrichment.
    EnrichmentDescriptor, EnrichmentPlugin, EnrichmentFactory
}

/// Registers a [`SourcePlugin`] under its kind.
#[macro_export]
macro_rules! register_source {
    ($plugin:ty) => {
        $crate::inventory::submit! {
            $crate::SourceDescriptor::of::<$plugin>(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        }
    };
}

/// Registers a [`SinkPlugin`] under its kind.
#[macro_export]
macro_rules! register_sink {
    ($plugin:ty) => {
        $crate::inventory::submit! {
            $crate::SinkDescriptor::of::<$plugin>(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        }
    };
}

/// Registers an [`EnrichmentPlugin`] under its kind.
#[macro_export]
macro_rules! register_enrichment {
    ($plugin:ty) => {
        $crate::inventory::submit! {
            $crate::EnrichmentDescriptor::of::<$plugin>(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        }
    };
}

/// A line of `actlog plugins`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PluginInfo {
    /// Name in configurations or on the command line.
    pub kind: &'static str,
    /// `source`, `sink`, `enrichment` or `command`.
    pub role: &'static str,
    /// The crate that registered it.
    #[serde(rename = "crate")]
    pub crate_name: &'static str,
    /// Version of that crate.
    pub version: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
}

/// Why the plugins that are compiled in can't be used together, or one that is wanted is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Two crates register the same name.
    #[error("two crates register the {role} {kind:?}: {first} and {second}; leave one of them out of the host")]
    Duplicate {
        /// `source`, `sink`, `enrichment` or `command`.
        role: &'static str,
        /// The name.
        kind: String,
        /// One crate.
        first: String,
        /// The other.
        second: String,
    },
    /// No crate registers this name.
    #[error("there is no {role} of type {kind:?} in this binary; it has: {available}{hint}")]
    Unknown {
        /// `source`, `sink` or `enrichment`.
        role: &'static str,
        /// The name.
        kind: String,
        /// The names that would do.
        available: String,
        /// The nearest of them, or the feature that would bring it.
        hint: String,
    },
}

/// The plugins that are compiled in, by name.
#[derive(Debug)]
pub struct Registry {
    sources: BTreeMap<&'static str, &'static SourceDescriptor>,
    sinks: BTreeMap<&'static str, &'static SinkDescriptor>,
    enrichments: BTreeMap<&'static str, &'static EnrichmentDescriptor>,
    commands: BTreeMap<&'static str, &'static CommandDescriptor>,
}

impl Registry {
    /// Everything that is registered in this binary.
    ///
    /// # Errors
    /// [`RegistryError::Duplicate`].
    pub fn collect() -> Result<Self, RegistryError> {
        Ok(Self {
            sources: by_kind("source", inventory::iter::<SourceDescriptor>, |d| (d.kind, d.crate_name))?,
            sinks: by_kind("sink", inventory::iter::<SinkDescriptor>, |d| (d.kind, d.crate_name))?,
            enrichments: by_kind("enrichment", inventory::iter::<EnrichmentDescriptor>, |d| (d.kind, d.crate_name))?,
            commands: by_kind("command", inventory::iter::<CommandDescriptor>, |d| (d.name, d.crate_name))?,
        })
    }

    /// The source of that kind. `known` are kinds that exist elsewhere, with the feature that would bring them.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`].
    pub fn source(&self, kind: &str, known: &[(&str, &str)]) -> Result<&'static SourceDescriptor, RegistryError> {
        self.sources.get(kind).copied().ok_or_else(|| unknown("source", kind, self.sources.keys(), known))
    }

    /// The sink of that kind. `known` are kinds that exist elsewhere, with the feature that would bring them.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`].
    pub fn sink(&self, kind: &str, known: &[(&str, &str)]) -> Result<&'static SinkDescriptor, RegistryError> {
        self.sinks.get(kind).copied().ok_or_else(|| unknown("sink", kind, self.sinks.keys(), known))
    }

    /// The enrichment of that kind. `known` are kinds that exist elsewhere, with the feature that would bring them.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`].
    pub fn enrichment(
        &self,
        kind: &str,
        known: &[(&str, &str)],
    ) -> Result<&'static EnrichmentDescriptor, RegistryError> {
        self.enrichments.get(kind).copied().ok_or_else(|| unknown("enrichment", kind, self.enrichments.keys(), known))
    }

    /// All sources, by kind.
    pub fn sources(&self) -> impl Iterator<Item = &'static SourceDescriptor> {
        self.sources.values().copied()
    }

    /// All sinks, by kind.
    pub fn sinks(&self) -> impl Iterator<Item = &'static SinkDescriptor> {
        self.sinks.values().copied()
    }

    /// All enrichments, by kind.
    pub fn enrichments(&self) -> impl Iterator<Item = &'static EnrichmentDescriptor> {
        self.enrichments.values().copied()
    }

    /// All commands of plugins, by name.
    pub fn commands(&self) -> impl Iterator<Item = &'static CommandDescriptor> {
        self.commands.values().copied()
    }

    /// Everything as a list, by role and name.
    pub fn list(&self) -> Vec<PluginInfo> {
        let sources = self.sources().map(|d| (d.kind, "source", d.crate_name, d.crate_version, d.summary));
        let sinks = self.sinks().map(|d| (d.kind, "sink", d.crate_name, d.crate_version, d.summary));
        let enrichments = self.enrichments().map(|d| (d.kind, "enrichment", d.crate_name, d.crate_version, d.summary));
        let commands = self.commands().map(|d| (d.name, "command", d.crate_name, d.crate_version, d.summary));
        sources
            .chain(sinks)
            .chain(enrichments)
            .chain(commands)
            .map(|(kind, role, crate_name, version, summary)| PluginInfo { kind, role, crate_name, version, summary })
            .collect()
    }
}

fn by_kind<T: 'static, I: IntoIterator<Item = &'static T>>(
    role: &'static str,
    registered: I,
    describe: impl Fn(&T) -> (&'static str, &'static str),
) -> Result<BTreeMap<&'static str, &'static T>, RegistryError> {
    let mut by_kind = BTreeMap::new();
    for descriptor in registered {
        let (kind, second) = describe(descriptor);
        if let Some(present) = by_kind.insert(kind, descriptor) {
            let mut crates = [describe(present).1.to_owned(), second.to_owned()];
            crates.sort();
            let [first, second] = crates;
            return Err(RegistryError::Duplicate { role, kind: kind.to_owned(), first, second });
        }
    }
    Ok(by_kind)
}

fn unknown<'a>(
    role: &'static str,
    kind: &str,
    available: impl Iterator<Item = &'a &'static str>,
    known: &[(&str, &str)],
) -> RegistryError {
    let available: Vec<&str> = available.copied().collect();
    let feature = known.iter().find(|(name, _)| *name == kind);
    let nearest = available.iter().max_by(|a, b| strsim::jaro(a, kind).total_cmp(&strsim::jaro(b, kind)));
    let hint = match (feature, nearest) {
        (Some((_, feature)), _) => format!("; build the host with the feature {feature:?} to bring it"),
        (None, Some(nearest)) if strsim::jaro(nearest, kind) > 0.7 => format!("; did you mean {nearest:?}?"),
        _ => String::new(),
    };
    let available = if available.is_empty() { "none".to_owned() } else { available.join(", ") };
    RegistryError::Unknown { role, kind: kind.to_owned(), available, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(kind: &'static str, crate_name: &'static str) -> &'static CommandDescriptor {
        Box::leak(Box::new(CommandDescriptor {
            name: kind,
            summary: "",
            crate_name,
            crate_version: "1.0.0",
            run: |_, _| std::process::ExitCode::SUCCESS,
        }))
    }

    #[test]
    fn a_name_that_is_registered_twice_is_refused_with_both_crates() {
        let registered = [descriptor("clients", "crate-b"), descriptor("clients", "crate-a")];
        let error = by_kind("command", registered, |d| (d.name, d.crate_name)).unwrap_err().to_string();
        assert!(error.contains("crate-a and crate-b"), "{error}");
    }

    #[test]
    fn an_unknown_kind_gets_the_list_the_nearest_name_and_the_feature() {
        let error = unknown("source", "crn", ["crm", "mse"].iter(), &[]).to_string();
        assert!(error.contains("crm, mse") && error.contains("did you mean \"crm\""), "{error}");
        let error = unknown("source", "admin", ["crm"].iter(), &[("admin", "source-admin")]).to_string();
        assert!(error.contains("\"source-admin\""), "{error}");
    }
}
