//! What a deployment configures.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use actlog_core::{
    ConfigError, EnrichmentFactory, Organizations, Registry, SecretReference, SinkFactory, Size, SourceFactory, Span,
    WhenFull,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The whole configuration. The tables of `sources`, `sinks` and `enrichments` are their plugins' own, plus the keys of
/// [`SourceTable`], [`SinkTable`] and [`EnrichmentTable`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of the journal, the policy and the dead letters; relative to the folder of this file.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// How long a shutdown may take; what the sinks have not received by then stays in the journal.
    #[serde(default = "default_shutdown")]
    pub shutdown_deadline: Span,
    /// Health and metrics over HTTP.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Logs of the process itself.
    #[serde(default)]
    pub log: LogConfig,
    /// The journal.
    #[serde(default)]
    pub journal: JournalConfig,
    /// What the audit policy needs; the policy itself is kept in the data folder (`actlog policy`).
    #[serde(default)]
    pub policy: PolicyConfig,
    /// Names for the Dynamics 365 organisations.
    #[serde(default)]
    pub organizations: Organizations,
    /// Ways in, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, SourceTable>")]
    pub sources: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    /// Ways out, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, SinkTable>")]
    pub sinks: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    /// What completes the records of all sources, by name; applied in the order of the names.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, EnrichmentTable>")]
    pub enrichments: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
}

fn default_data_dir() -> PathBuf {
    "actlog-data".into()
}

fn default_shutdown() -> Span {
    Span(Duration::from_secs(30))
}

/// `[admin]`: `/healthz`, `/readyz` and `/metrics`. It shows no record and takes no command.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Address and port; `"off"` for no listener.
    pub listen: String,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9700".into() }
    }
}

/// `[log]`: what the process says about itself, on standard error.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `text` for people, `json` for machines.
    pub format: LogFormat,
    /// The least severe level that is shown: `error`, `warn`, `info`, `debug`, `trace`; or directives such as
    /// `info,actlog_journal=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// `[journal]`: the durable log between sources and sinks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// Bytes that the journal may take on disk; when they are reached, each sink's `when_full` decides.
    pub budget: Size,
    /// Bytes after which a new segment is begun.
    pub segment_size: Size,
    /// Segments are kept at least so long, even if every sink has received them.
    pub min_age: Span,
    /// Segments are removed at that age even if a sink has not received them (that is stated in the journal).
    pub max_age: Option<Span>,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { budget: Size(10 << 30), segment_size: Size(64 << 20), min_age: Span::default(), max_age: None }
    }
}

/// `[policy]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// The key that field values are hashed with, where the policy says `hash`.
    pub hash_key: Option<SecretReference>,
}

/// Keys that every source has besides its plugin's.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SourceTable {
    /// The plugin: see `actlog plugins`.
    pub r#type: String,
}

/// Keys that every sink has besides its plugin's.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SinkTable {
    /// The plugin: see `actlog plugins`.
    pub r#type: String,
    /// When the journal is full and this sink is behind: `hold` keeps what it has not received and puts the sources
    /// off, `skip` moves it on and states what it missed. The plugin says which is the default.
    pub when_full: Option<WhenFull>,
    /// Where a new sink begins: with what the journal still holds, or with what comes from now on.
    #[serde(default)]
    pub start: StartAt,
}

/// Keys that every enrichment has besides its plugin's.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct EnrichmentTable {
    /// The plugin: see `actlog plugins`.
    pub r#type: String,
}

/// Where a sink begins that has no cursor yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// With the oldest entry that the journal holds.
    #[default]
    Beginning,
    /// With the next entry.
    Now,
}

/// A source, ready to be built.
pub struct SourcePlan {
    /// Its configured name.
    pub name: String,
    /// Its plugin's kind.
    pub kind: &'static str,
    /// Makes it.
    pub factory: Box<dyn SourceFactory>,
}

/// A sink, ready to be built.
pub struct SinkPlan {
    /// Its configured name.
    pub name: String,
    /// Its plugin's kind.
    pub kind: &'static str,
    /// What happens when the journal is full.
    pub when_full: WhenFull,
    /// Where it begins when it is new.
    pub start: StartAt,
    /// Makes it.
    pub factory: Box<dyn SinkFactory>,
}

/// An enrichment, ready to be built.
pub struct EnrichmentPlan {
    /// Its configured name.
    pub name: String,
    /// Its plugin's kind.
    pub kind: &'static str,
    /// Makes it.
    pub factory: Box<dyn EnrichmentFactory>,
}

/// Everything that was checked without input or output.
#[derive(Default)]
pub struct Plan {
    /// The sources, by name.
    pub sources: Vec<SourcePlan>,
    /// The sinks, by name.
    pub sinks: Vec<SinkPlan>,
    /// The enrichments, by name.
    pub enrichments: Vec<EnrichmentPlan>,
}

impl Plan {
    /// Checks every component's table against its plugin. `known` are kinds that other builds have, with the feature
    /// that would bring them.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key path from the top.
    pub fn new(config: &Config, registry: &Registry, known: &Known<'_>) -> Result<Self, ConfigError> {
        let mut sources = Vec::new();
        for (name, table) in &config.sources {
            let path = format!("sources.{name}");
            check_name(name).map_err(|e| e.within(&path))?;
            let (common, own): (SourceTable, _) = split(table, &["type"]).map_err(|e| e.within(&path))?;
            let descriptor = registry
                .source(&common.r#type, known.sources)
                .map_err(|e| ConfigError::new(format!("{path}.type"), e.to_string()))?;
            let factory = (descriptor.load)(own).map_err(|e| e.within(&path))?;
            sources.push(SourcePlan { name: name.clone(), kind: descriptor.kind, factory });
        }
        let mut sinks = Vec::new();
        for (name, table) in &config.sinks {
            let path = format!("sinks.{name}");
            check_name(name).map_err(|e| e.within(&path))?;
            let (common, own): (SinkTable, _) =
                split(table, &["type", "when_full", "start"]).map_err(|e| e.within(&path))?;
            let descriptor = registry
                .sink(&common.r#type, known.sinks)
                .map_err(|e| ConfigError::new(format!("{path}.type"), e.to_string()))?;
            let factory = (descriptor.load)(own).map_err(|e| e.within(&path))?;
            sinks.push(SinkPlan {
                name: name.clone(),
                kind: descriptor.kind,
                when_full: common.when_full.unwrap_or(descriptor.when_full),
                start: common.start,
                factory,
            });
        }
        let mut enrichments = Vec::new();
        for (name, table) in &config.enrichments {
            let path = format!("enrichments.{name}");
            check_name(name).map_err(|e| e.within(&path))?;
            let (common, own): (EnrichmentTable, _) = split(table, &["type"]).map_err(|e| e.within(&path))?;
            let descriptor = registry
                .enrichment(&common.r#type, known.enrichments)
                .map_err(|e| ConfigError::new(format!("{path}.type"), e.to_string()))?;
            let factory = (descriptor.load)(own).map_err(|e| e.within(&path))?;
            enrichments.push(EnrichmentPlan { name: name.clone(), kind: descriptor.kind, factory });
        }
        for (name, organization) in &config.organizations {
            if let Some(application) = &organization.application {
                let path = format!("organizations.{name}.application");
                application.validate().map_err(|e| e.within(&path))?;
            }
        }
        Ok(Self { sources, sinks, enrichments })
    }
}

/// Kinds that exist outside of this binary, as `(kind, feature)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// Sources.
    pub sources: &'a [(&'a str, &'a str)],
    /// Sinks.
    pub sinks: &'a [(&'a str, &'a str)],
    /// Enrichments.
    pub enrichments: &'a [(&'a str, &'a str)],
}

/// Names become file names, metric labels and keys in the journal.
fn check_name(name: &str) -> Result<(), ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        let message = format!("{name:?} can't be a name: use up to 64 letters, digits, - and _");
        return Err(ConfigError::new("", message));
    }
    Ok(())
}

type Table = serde_json::Map<String, serde_json::Value>;

/// Divides a component's table into the keys that all components have and those of its plugin.
fn split<T: serde::de::DeserializeOwned>(
    table: &Table,
    common: &[&str],
) -> Result<(T, serde_json::Value), ConfigError> {
    let (shared, own): (Table, Table) = table.clone().into_iter().partition(|(key, _)| common.contains(&key.as_str()));
    let shared = actlog_core::config::deserialize(serde_json::Value::Object(shared)).map_err(|mut error| {
        if error.message.contains("missing field `type`") {
            error.message = "the key `type` is missing: it names the plugin, see `actlog plugins`".into();
        }
        error
    })?;
    Ok((shared, serde_json::Value::Object(own)))
}
