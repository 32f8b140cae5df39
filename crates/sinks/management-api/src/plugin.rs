//! How the sink joins: its name, its example, and how it is made out of its parts.

use std::sync::Arc;

use actlog_core::{BuildContext, BuildError, ConfigError, SinkPlugin, WhenFull};
use actlog_http::Server;

use crate::auth::{self, Auth};
use crate::config::{Config, TenantConfig};
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
        let server = Server::bind(&config.server(), &cx.config_dir, Arc::clone(&cx.body_budget)).await?;
        let (config, cx) = (config.clone(), cx.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let config = with_tenants(config, &cx)?;
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

/// Where the configuration names no tenant, those of the registered clients are served.
fn with_tenants(mut config: Config, cx: &BuildContext) -> Result<Config, BuildError> {
    if config.tenants(&cx.organizations).is_ok() {
        return Ok(config);
    }
    let path = cx.config_dir.join(&config.clients);
    let clients =
        auth::registered(&path).map_err(|problem| BuildError::Other(format!("{}: {problem}", path.display())))?;
    config.tenants =
        clients.iter().map(|client| (client.tenant.to_string(), TenantConfig::new(client.tenant))).collect();
    if config.tenants.is_empty() {
        // Tried again until somebody registers one.
        return Err(BuildError::Other(format!(
            "{0}: no client is registered, and no tenant is named, so nobody knows whose feed is to be served; register \
             a client with `actlog clients add --file {0}`, or add [sinks.NAME.tenants.NAME] with id = \"…\", or tenant = \
             \"…\" to [organizations.NAME]",
            path.display()
        )));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use actlog_core::SystemClock;
    use actlog_testkit::storage::FaultStorage;

    use super::*;
    use crate::auth::Clients;

    #[test]
    fn without_a_tenant_in_the_configuration_those_of_the_clients_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let mut cx = BuildContext::new("/d", Arc::new(FaultStorage::new(1)), Arc::new(SystemClock));
        cx.config_dir = folder.path().to_owned();
        let table = serde_json::json!({ "listen": "127.0.0.1:1", "clients": "clients.toml" });
        let config: Config = actlog_core::config::deserialize(table).unwrap();
        let path = folder.path().join("clients.toml");
        std::fs::write(&path, "").unwrap();
        let error = with_tenants(config.clone(), &cx).unwrap_err().to_string();
        assert!(error.contains("clients.toml: no client is registered"), "{error}");
        let mut clients = Clients::default();
        let tenant = uuid::Uuid::from_u128(7);
        clients.entry(tenant, uuid::Uuid::from_u128(8), cx.clock.now());
        clients.entry(tenant, uuid::Uuid::from_u128(9), cx.clock.now());
        std::fs::write(&path, clients.to_text().unwrap()).unwrap();
        let tenants = with_tenants(config, &cx).unwrap().tenants(&cx.organizations).unwrap();
        assert_eq!(tenants.iter().map(|tenant| tenant.id).collect::<Vec<_>>(), [tenant]);
    }
}
