//! How the sink joins: its name, its example, and how it is made out of its parts.

use std::sync::Arc;

use actlog_core::{BuildContext, BuildError, ConfigError, SinkPlugin, WhenFull};
use actlog_http::Server;

use crate::auth::Auth;
use crate::config::Config;
use crate::sink::ManagementApiSink;
use crate::store::{Store, StoreOptions};
use crate::subscriptions::Subscriptions;

actlog_core::register_sink!(ManagementApiSink);

impl SinkPlugin for ManagementApiSink {
    const KIND: &'static str = "management-api";
    const SUMMARY: &'static str = "A server of the Office 365 Management Activity API, for collectors of SIEM systems";
    const EXAMPLE: &'static str = r#"listen = "127.0.0.1:8443"
clients = "clients.toml"
tenants.contoso.id = "11111111-1111-1111-1111-111111111111"
tenants.contoso.domains = ["contoso.onmicrosoft.com"]
"#;
    /// The feed is one way out of several. When nobody can write its content for so long that the journal is full,
    /// capturing goes on; what the feed missed is stated, and can be replayed.
    const WHEN_FULL: WhenFull = WhenFull::Skip;
    type Config = Config;

    fn validate(config: &Config) -> Result<(), ConfigError> {
        config.validate()
    }

    fn serves(_: &Config) -> bool {
        true
    }

    async fn build(config: &Config, cx: &BuildContext) -> Result<Self, BuildError> {
        // Whatever is wrong with the tenants is wrong before anything is opened.
        config.tenants(&cx.organizations)?;
        let server = Server::bind(&config.server(), &cx.config_dir, Arc::clone(&cx.body_budget)).await?;
        let (config, cx) = (config.clone(), cx.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let options = StoreOptions {
                folder: cx.data_dir.join("sinks").join(&*cx.name).join("content"),
                retention: config.retention.0,
                budget: config.budget.0,
                blob_bytes: usize::try_from(config.blob_bytes.0).unwrap_or(usize::MAX),
            };
            let store = Store::open(Arc::clone(&cx.storage), Arc::clone(&cx.clock), options)?;
            let auth = Auth::open(&config, &cx)?;
            let subscriptions = Subscriptions::open(&cx, &config, store.clone(), auth.clone())?;
            Ok(Self::new(config, cx, server, store, auth, subscriptions))
        });
        opened.await.map_err(|error| BuildError::Other(format!("opening the feed's content: {error}")))?
    }
}
