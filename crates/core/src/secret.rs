//! Secrets: kept out of logs, errors, metrics and exports by their type.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// A secret's bytes. Neither `Debug` nor anything else prints them; [`Secret::expose`] marks each use.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes in.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, to be used and not to be kept.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is: `{ file = "…" }` or `{ env = "…" }`. Never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SecretReference {
    /// A file that holds the secret; white space around it is dropped. Relative paths are seen from the configuration
    /// file's folder.
    File(PathBuf),
    /// An environment variable that holds the secret.
    Env(String),
}

impl SecretReference {
    /// Secrets are keys and passwords; nothing near this size is one.
    const MAXIMUM_BYTES: u64 = 64 * 1024;

    /// Reads the secret.
    ///
    /// # Errors
    /// When the file or variable is absent, unreadable, empty or too large. The error never holds the secret.
    pub fn load(&self, folder: &Path) -> Result<Secret, ConfigError> {
        let bytes = match self {
            Self::File(path) => {
                let path = folder.join(path);
                let error = |what: String| ConfigError::new("file", format!("{}: {what}", path.display()));
                let length = std::fs::metadata(&path).map_err(|e| error(e.to_string()))?.len();
                if length > Self::MAXIMUM_BYTES {
                    return Err(error(format!("{length} bytes are too many for a secret")));
                }
                std::fs::read(&path).map_err(|e| error(e.to_string()))?
            }
            Self::Env(name) => std::env::var(name)
                .map_err(|_| {
                    ConfigError::new("env", format!("the environment variable {name} is not set, or is not UTF-8"))
                })?
                .into_bytes(),
        };
        match bytes.trim_ascii() {
            [] => Err(ConfigError::new("", "the secret is empty")),
            trimmed => Ok(Secret::new(trimmed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }

    #[test]
    fn a_missing_secret_is_an_error_that_names_its_place() {
        let folder = Path::new("/nonexistent");
        let error = SecretReference::File("key".into()).load(folder).unwrap_err();
        assert!(error.message.contains("/nonexistent/key"), "{error}");
        let error = SecretReference::Env("ACTLOG_TEST_UNSET".into()).load(folder).unwrap_err();
        assert!(error.message.contains("ACTLOG_TEST_UNSET"), "{error}");
    }
}
