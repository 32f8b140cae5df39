//! A host whose sinks misbehave on purpose, for tests of what the others and the journal do then.

use std::path::PathBuf;
use std::process::ExitCode;

use actlog_core::{
    BatchSink, BuildContext, BuildError, ConfigError, Delivery, Entry, Sink, SinkContext, SinkError, SinkPlugin,
    register_sink, run_batches,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use actlog_tests as _;

/// Takes entries and never comes back, until a file appears.
struct Hanging(PathBuf);

/// Nothing but where the file would be that ends it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HangingConfig {
    /// It hangs until this file exists.
    until: PathBuf,
}

#[async_trait]
impl Sink for Hanging {
    async fn run(mut self: Box<Self>, cx: SinkContext) -> Result<(), SinkError> {
        run_batches(&mut *self, cx).await
    }
}

#[async_trait]
impl BatchSink for Hanging {
    async fn deliver(&mut self, _entries: &[Entry]) -> Delivery {
        while !self.0.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Delivery::Delivered
    }
}

impl SinkPlugin for Hanging {
    const KIND: &'static str = "hanging";
    const SUMMARY: &'static str = "Hangs until a file appears";
    const EXAMPLE: &'static str = "until = \"go\"";
    type Config = HangingConfig;

    fn validate(_config: &Self::Config) -> Result<(), ConfigError> {
        Ok(())
    }

    async fn build(config: &Self::Config, cx: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self(cx.config_dir.join(&config.until)))
    }
}

/// Refuses every record whose message is `Delete`, until a file appears.
struct Rejecting(PathBuf);

#[async_trait]
impl Sink for Rejecting {
    async fn run(mut self: Box<Self>, cx: SinkContext) -> Result<(), SinkError> {
        run_batches(&mut *self, cx).await
    }
}

#[async_trait]
impl BatchSink for Rejecting {
    async fn deliver(&mut self, entries: &[Entry]) -> Delivery {
        if self.0.exists() {
            return Delivery::Delivered;
        }
        let is_delete = |entry: &Entry| entry.bytes.windows(18).any(|window| window == b"\"Message\":\"Delete\"");
        let refused = entries.iter().enumerate().filter(|(_, entry)| is_delete(entry));
        Delivery::Rejected(refused.map(|(place, _)| (place, "no deletes here".to_owned())).collect())
    }
}

impl SinkPlugin for Rejecting {
    const KIND: &'static str = "rejecting";
    const SUMMARY: &'static str = "Refuses deletes until a file appears";
    const EXAMPLE: &'static str = "until = \"go\"";
    type Config = HangingConfig;

    fn validate(_config: &Self::Config) -> Result<(), ConfigError> {
        Ok(())
    }

    async fn build(config: &Self::Config, cx: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self(cx.config_dir.join(&config.until)))
    }
}

register_sink!(Hanging);
register_sink!(Rejecting);

fn main() -> ExitCode {
    actlog::main()
}
