//! The sink `new-plugin`: writes each batch of records to a file of its own.
//!
//! It delivers records as they are, one JSON object a line. It is not for people to read from: the sink `file` has dates
//! in its names, rotation and other formats.

use std::path::PathBuf;
use std::sync::Arc;

use actlog_core::{
    BatchSink, BuildContext, BuildError, ConfigError, Delivery, Entry, Sink, SinkContext, SinkError, SinkPlugin,
    Storage, run_batches,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// `[sinks.NAME]` with `type = "new-plugin"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPluginConfig {
    /// Folder of the files, made when absent. Relative paths are seen from the configuration's folder.
    pub folder: PathBuf,
}

/// Writes batches to files.
#[derive(Debug)]
pub struct NewPlugin {
    folder: PathBuf,
    storage: Arc<dyn Storage>,
}

actlog_core::register_sink!(NewPlugin);

impl SinkPlugin for NewPlugin {
    const KIND: &'static str = "new-plugin";
    const SUMMARY: &'static str = "Writes each batch of records to a file of its own";
    const EXAMPLE: &'static str = include_str!("../example.toml");
    type Config = NewPluginConfig;

    fn validate(config: &NewPluginConfig) -> Result<(), ConfigError> {
        if config.folder.as_os_str().is_empty() {
            return Err(ConfigError::new("folder", "is empty; name a folder"));
        }
        Ok(())
    }

    async fn build(config: &NewPluginConfig, cx: &BuildContext) -> Result<Self, BuildError> {
        let sink = Self { folder: cx.config_dir.join(&config.folder), storage: Arc::clone(&cx.storage) };
        let (folder, storage) = (sink.folder.clone(), Arc::clone(&sink.storage));
        blocking(move || storage.create_directories(&folder))
            .await
            .map_err(|error| BuildError::File { path: sink.folder.display().to_string(), error })?;
        Ok(sink)
    }
}

#[async_trait]
impl Sink for NewPlugin {
    async fn run(mut self: Box<Self>, cx: SinkContext) -> Result<(), SinkError> {
        run_batches(&mut *self, cx).await
    }
}

#[async_trait]
impl BatchSink for NewPlugin {
    async fn deliver(&mut self, entries: &[Entry]) -> Delivery {
        let Some(first) = entries.first() else { return Delivery::Delivered };
        // After a crash the batch comes again, perhaps with another end, but always with this beginning: it replaces its
        // first delivery, and no record is there twice.
        let path = self.folder.join(format!("{:020}.jsonl", first.index));
        let mut content = Vec::with_capacity(entries.iter().map(|entry| entry.bytes.len() + 1).sum());
        for entry in entries {
            content.extend_from_slice(&entry.bytes);
            content.push(b'\n');
        }
        let storage = Arc::clone(&self.storage);
        match blocking(move || storage.replace(&path, &content)).await {
            Ok(()) => Delivery::Delivered,
            Err(error) => Delivery::Retry { after: None, reason: format!("{}: {error}", self.folder.display()) },
        }
    }
}

/// Storage blocks, so it is used on a thread that may.
async fn blocking(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> std::io::Result<()> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
