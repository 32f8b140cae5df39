//! The audit flags of a live environment, for `actlog policy diff --live`.

use actlog_core::Organization;
use actlog_dataverse::customizations::AuditFlags;

use crate::commands::Failure;
use crate::config_file::Loaded;

/// Which environment, and how it is reached. Without the feature `dataverse` there is none.
#[derive(clap::Args)]
pub(super) struct Environment {
    /// Compare with the audit flags of a live environment: that of the organisation of this name, or the only one
    #[cfg(feature = "dataverse")]
    #[arg(long, value_name = "ORGANIZATION")]
    live: Option<Option<String>>,
    /// PEM file with authorities that are trusted besides the system's
    #[cfg(feature = "dataverse")]
    #[arg(long, value_name = "FILE", requires = "live")]
    ca: Option<std::path::PathBuf>,
    /// HTTP proxy [default: HTTPS_PROXY of the environment]
    #[cfg(feature = "dataverse")]
    #[arg(long, value_name = "URL", requires = "live")]
    proxy: Option<String>,
    /// Allow private, loopback and link-local addresses, and http to this machine
    #[cfg(feature = "dataverse")]
    #[arg(long, requires = "live")]
    allow_private: bool,
}

/// The flags that an organisation's environment has.
pub(super) struct Live<'a> {
    /// What the configuration calls it.
    pub(super) name: &'a str,
    pub(super) organization: &'a Organization,
    pub(super) flags: AuditFlags,
}

#[cfg(feature = "dataverse")]
impl Environment {
    /// Reads the flags from the environment, if that was asked for.
    pub(super) fn read<'a>(&self, loaded: &'a Loaded) -> Result<Option<Live<'a>>, Failure> {
        use actlog_http::client::{Client, ClientConfig};

        let Some(named) = &self.live else { return Ok(None) };
        let organizations = &loaded.config.organizations;
        let (name, organization) = actlog_core::config::pick_organization(organizations, named.as_deref())
            .map_err(|error| Failure(format!("--live: {}", error.message)))?;
        let config = ClientConfig {
            ca: self.ca.clone(),
            proxy: self.proxy.clone(),
            allow_private: self.allow_private,
            ..ClientConfig::default()
        };
        // Flags are seen from the working folder, the configuration's paths from its own.
        let client = Client::new(&config, ".".as_ref()).map_err(|error| Failure(format!("--{error}")))?;
        let api = actlog_dataverse::webapi::WebApi::connect(organization, client, &loaded.folder)
            .map_err(|error| loaded.error(error.within(&format!("organizations.{name}"))))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let flags = runtime.block_on(api.audit_flags())?;
        Ok(Some(Live { name, organization, flags }))
    }
}

#[cfg(not(feature = "dataverse"))]
impl Environment {
    pub(super) fn read<'a>(&self, _: &'a Loaded) -> Result<Option<Live<'a>>, Failure> {
        Ok(None)
    }
}
