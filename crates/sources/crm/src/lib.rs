//! The `crm` source: execution contexts of Dynamics 365 (Dataverse), as webhook posts or from files.
//!
//! It stands at the beginning of a record's way: bytes come in, are divided into contexts, mapped to records by
//! `actlog-dataverse`, and emitted. It knows the wire and its answers; it decides neither what a context means nor what
//! is audited.
//!
//! - **Listener** (module `webhook`): a post is answered with 200 when its records are on disk, and not before. Every answer
//!   is listed in `docs/webhooks.md`.
//! - **Files and standard input** (module `files`): one context a line, plain, gzip or zstd. How far a file has been read is
//!   committed in the same batch as its records, so that neither a crash nor a restart loses or doubles a line.
//!
//! Invariants: nothing is acknowledged, and no position is passed, before its records (and dead letters) are durable;
//! batches of files are handed over in the order of their positions; every buffer is bounded.

mod config;
mod contexts;
mod files;
mod position;
mod reader;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actlog_core::{
    BuildContext, BuildError, Clock, ConfigError, Source, SourceContext, SourceError, SourcePlugin, register_source,
};
use actlog_dataverse::MappingOptions;
use actlog_http::Server;
use async_trait::async_trait;

use config::Doors;
pub use config::{CredentialConfig, CrmConfig};
use files::Files;
use reader::{Input, Settings};
use webhook::{Shared, Webhook};

/// How long requests that have begun may take at shutdown. The runtime's own deadline is usually shorter.
const GRACE: Duration = Duration::from_secs(60);

register_source!(CrmSource);

/// The source, ready to run.
pub struct CrmSource(Way);

/// How contexts come in.
enum Way {
    Listener { server: Server, doors: Option<Arc<Doors>>, options: MappingOptions, clock: Arc<dyn Clock> },
    Files(Files),
}

impl std::fmt::Debug for CrmSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Way::Listener { server, .. } => f.debug_tuple("CrmSource").field(&server.local_address()).finish(),
            Way::Files(files) => f.debug_tuple("CrmSource").field(&files.inputs).finish(),
        }
    }
}

impl SourcePlugin for CrmSource {
    const KIND: &'static str = "crm";
    const SUMMARY: &'static str = "Dynamics 365 (Dataverse) execution contexts: webhook posts, or files of them";
    const EXAMPLE: &'static str = "\
listen = \"127.0.0.1:7071\"
key = { env = \"ACTLOG_WEBHOOK_KEY\" }
";
    type Config = CrmConfig;

    fn validate(config: &CrmConfig) -> Result<(), ConfigError> {
        config.validate()
    }

    async fn build(config: &CrmConfig, cx: &BuildContext) -> Result<Self, BuildError> {
        let options = MappingOptions { repair_text: config.repair_text, extended_query: config.extended_query };
        let clock = Arc::clone(&cx.clock);
        if let Some(server) = config.server() {
            let doors = config.doors(&cx.config_dir, &cx.organizations)?.map(Arc::new);
            let server = Server::bind(&server, &cx.config_dir, Arc::clone(&cx.body_budget)).await?;
            tracing::info!(address = %server.local_address(), "webhook posts are taken");
            return Ok(Self(Way::Listener { server, doors, options, clock }));
        }
        let inputs = match config.stdin {
            true => vec![Input::Stdin],
            false => find(cx.config_dir.clone(), config.path.clone()).await?,
        };
        // Validation has bounded both far below what fits.
        let bytes = |size: actlog_core::Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        let settings = Settings { batch_size: bytes(config.batch_size), max_line: bytes(config.max_line) };
        Ok(Self(Way::Files(Files { inputs, settings, options, clock })))
    }
}

/// Looks for the files, on a blocking thread.
async fn find(folder: PathBuf, patterns: Vec<String>) -> Result<Vec<Input>, BuildError> {
    let found = tokio::task::spawn_blocking(move || (reader::find(&folder, &patterns), patterns)).await;
    let (inputs, patterns) = found.map_err(|error| BuildError::Other(format!("looking for files failed: {error}")))?;
    let inputs = inputs.map_err(|error| match error.kind() {
        // At the first start that ends the run: nobody waits for a file that was mistyped.
        std::io::ErrorKind::NotFound => ConfigError::new("path", error.to_string()).into(),
        _ => BuildError::File { path: patterns.join(", "), error },
    })?;
    if inputs.is_empty() {
        tracing::warn!(path = patterns.join(", "), "there is no file to read");
    }
    Ok(inputs)
}

#[async_trait]
impl Source for CrmSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        match self.0 {
            Way::Files(files) => files.run(cx).await,
            Way::Listener { server, doors, options, clock } => {
                let shared = Shared {
                    received: cx.metrics.counter("actlog_source_received", "Contexts that came in", &[]),
                    rejected: cx.metrics.counter("actlog_source_rejected", "Input that is no context", &[]),
                    emitter: cx.emitter,
                    options,
                    clock,
                    health: cx.health,
                    is_degraded: AtomicBool::new(false),
                };
                let handler = Arc::new(Webhook { shared: Arc::new(shared), doors });
                server.serve(handler, &cx.metrics, cx.shutdown, GRACE).await;
                Ok(())
            }
        }
    }
}
