//! The environment that a command works on, and the policy that holds for it.

use std::future::Future;
use std::path::PathBuf;

use actlog_core::config::pick_organization;
use actlog_core::{CommandContext, Organization};
use actlog_dataverse::webapi::WebApi;
use actlog_http::client::{Client, ClientConfig};
use actlog_policy::{PolicyDocument, PolicyStore, StoreError};
use tokio::runtime::Runtime;

use crate::Failure;

/// Which environment, and how it is reached.
#[derive(clap::Args)]
pub(crate) struct Connection {
    /// The organisation, by its name in `[organizations]` [default: the only one]
    #[arg(long, global = true, value_name = "NAME")]
    organization: Option<String>,
    /// PEM file with authorities that are trusted besides the system's
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// HTTP proxy [default: HTTPS_PROXY of the environment]
    #[arg(long, global = true, value_name = "URL")]
    proxy: Option<String>,
    /// Allow private, loopback and link-local addresses, and http to this machine
    #[arg(long, global = true)]
    pub(crate) allow_private: bool,
}

/// A live environment.
pub(crate) struct Environment {
    /// Its name in the configuration.
    pub(crate) name: String,
    pub(crate) organization: Organization,
    pub(crate) api: WebApi,
    /// Whether webhooks may lead to private addresses and plain HTTP.
    pub(crate) allow_private: bool,
    runtime: Runtime,
}

/// The policy that holds for the environment.
pub(crate) struct PolicyInForce {
    /// The published version; none where nothing has been published: the default is what will be in force.
    pub(crate) version: Option<u64>,
    pub(crate) document: PolicyDocument,
}

impl PolicyInForce {
    /// How a command names it.
    pub(crate) fn title(&self) -> String {
        self.version.map_or_else(|| "default policy".to_owned(), |version| format!("policy version {version}"))
    }
}

impl Connection {
    pub(crate) fn open(&self, cx: &CommandContext) -> Result<Environment, Failure> {
        let (name, organization) = pick_organization(&cx.organizations, self.organization.as_deref())
            .map_err(|error| Failure(format!("{}; name it with --organization", error.message)))?;
        let config = ClientConfig {
            ca: self.ca.clone(),
            proxy: self.proxy.clone(),
            allow_private: self.allow_private,
            ..ClientConfig::default()
        };
        // Flags are seen from the working folder, the configuration's paths from its own.
        let client = Client::new(&config, std::path::Path::new(".")).map_err(|error| Failure(format!("--{error}")))?;
        let api = WebApi::connect(organization, client, &cx.config_dir)
            .map_err(|error| error.within(&format!("organizations.{name}")))?;
        Ok(Environment {
            name: name.to_owned(),
            organization: organization.clone(),
            api,
            allow_private: self.allow_private,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        })
    }
}

impl Environment {
    /// Runs what needs the network.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The first line of what a command prints.
    pub(crate) fn title(&self) -> String {
        format!("{} ({})", self.name, self.api.url())
    }
}

/// Where the policy is kept.
pub(crate) fn policy_store(cx: &CommandContext) -> PolicyStore {
    PolicyStore::new(cx.storage.clone(), cx.data_dir.join("policy"))
}

/// The published policy; the default where nothing has run on this data folder yet.
pub(crate) fn policy_in_force(cx: &CommandContext) -> Result<PolicyInForce, Failure> {
    match policy_store(cx).load() {
        Ok(published) => Ok(PolicyInForce { version: Some(published.version), document: published.document }),
        Err(StoreError::Uninitialized { .. }) => {
            Ok(PolicyInForce { version: None, document: PolicyDocument::parse(PolicyDocument::DEFAULT_TEXT)? })
        }
        Err(error) => Err(error.into()),
    }
}
