//! Secrets: kept out of logs, errors, metrics and exports by their type.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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

/// By hand: where somebody has put a secret itself, a derived implementation would quote it in its error.
impl<'de> Deserialize<'de> for SecretReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = SecretReference;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ file = \"…\" } or { env = \"…\" }")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<SecretReference, A::Error> {
                let reference = match map.next_key::<Cow<'_, str>>()?.as_deref() {
                    Some("file") => SecretReference::File(map.next_value()?),
                    Some("env") => SecretReference::Env(map.next_value()?),
                    Some(other) => return Err(de::Error::unknown_field(other, &["file", "env"])),
                    None => return Err(de::Error::custom("a secret is missing: { file = \"…\" } or { env = \"…\" }")),
                };
                match map.next_key::<Cow<'_, str>>()?.as_deref() {
                    None => Ok(reference),
                    Some("file" | "env") => Err(de::Error::custom("a secret is in one place: either file or env")),
                    Some(other) => Err(de::Error::unknown_field(other, &["file", "env"])),
                }
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretReference, E> {
                Err(itself())
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretReference, E> {
                Err(itself())
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretReference, E> {
                Err(itself())
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretReference, E> {
                Err(itself())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The error where the secret itself is found; it must not be repeated.
fn itself<E: de::Error>() -> E {
    E::custom("a secret itself does not belong in a configuration; write { file = \"…\" } or { env = \"…\" }")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }

    #[test]
    fn a_secret_is_named_by_its_place_and_never_quoted_where_it_stands_itself() {
        let read = |value: serde_json::Value| crate::config::deserialize::<SecretReference>(value);
        let file = SecretReference::File("key".into());
        assert_eq!(read(json!({ "file": "key" })), Ok(file.clone()));
        assert_eq!(read(json!({ "env": "KEY" })), Ok(SecretReference::Env("KEY".into())));
        assert_eq!(read(serde_json::to_value(&file).unwrap()), Ok(file));
        for itself in [json!("hunter2"), json!(4711), json!(-4711), json!(47.11)] {
            let error = read(itself).unwrap_err().to_string();
            assert!(error.contains("{ file = ") && !error.contains("hunter2") && !error.contains("47"), "{error}");
        }
        for (wrong, reason) in [
            (json!({}), "missing"),
            (json!({ "file": "a", "env": "B" }), "either file or env"),
            (json!({ "path": "a" }), "`path`"),
            (json!({ "file": "a", "path": "b" }), "`path`"),
            (json!([]), "{ file = "),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
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
