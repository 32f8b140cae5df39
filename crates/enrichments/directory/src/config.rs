//! How the enrichment is configured.

use std::path::PathBuf;
use std::time::Duration;

use actlog_core::{ConfigError, Span};
use actlog_http::client::ClientConfig;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::Deserialize;

/// Configuration of the `directory` enrichment. With `path` the users come from a file, else from the organisation.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// A CSV file with the columns SystemUserId, UserUpn, UserKey and UserType, in any order, of which only the first
    /// must be there. UserType is a number, or one of Regular, Admin, Support, System, Application. Relative paths are
    /// seen from the configuration file's folder.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// The name from `[organizations]` of whose users it speaks; it may be left out where there is one only. Without
    /// `path` that organisation needs a `url` and an `application`. Records of other organisations are left alone.
    #[serde(default)]
    pub organization: Option<String>,
    /// How often the table or the file is read again.
    #[serde(default = "default_refresh")]
    pub refresh: Span,
    /// Names of Microsoft's support users, as patterns with `*` and `?` and without regard to case: they get the UserType
    /// 3. Users whose access mode in Dataverse is Support User get it anyway.
    #[serde(default)]
    pub support_users: Vec<String>,
    /// The connection to the organisation.
    #[serde(default)]
    pub client: ClientConfig,
}

fn default_refresh() -> Span {
    Span(Duration::from_secs(3600))
}

impl DirectoryConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.refresh.0 < Duration::from_secs(1) {
            return Err(ConfigError::new("refresh", "must be a second at least"));
        }
        if self.path.is_some() && self.client != ClientConfig::default() {
            return Err(ConfigError::new("client", "has no use where users come from a file"));
        }
        self.client.validate().map_err(|error| error.within("client"))?;
        self.support().map(drop)
    }

    /// The patterns of support users.
    pub(crate) fn support(&self) -> Result<GlobSet, ConfigError> {
        let error = |error: globset::Error| ConfigError::new("support_users", error.to_string());
        let mut patterns = GlobSetBuilder::new();
        for pattern in &self.support_users {
            patterns.add(GlobBuilder::new(pattern).case_insensitive(true).build().map_err(error)?);
        }
        patterns.build().map_err(error)
    }
}
