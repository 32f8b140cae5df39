//! Configuration values that every plugin shares, and the error that every plugin answers with.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::secret::SecretReference;

/// Something in a configuration that can't be used: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct ConfigError {
    /// Key path, such as `tls.certificate`; relative to the component's table until the host completes it.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl ConfigError {
    /// An error at a key.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }

    /// The same error, with the path seen from further out.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.path = match (outer, self.path.as_str()) {
            ("", _) => self.path,
            (outer, "") => outer.to_owned(),
            (outer, inner) => format!("{outer}.{inner}"),
        };
        self
    }
}

/// Reads a configuration table into a type; an error names the key path.
///
/// # Errors
/// When a key is unknown or missing, or a value has the wrong type.
pub fn deserialize<T: serde::de::DeserializeOwned>(table: serde_json::Value) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(table).map_err(|error| {
        let path = match error.path().to_string() {
            root if root == "." => String::new(),
            path => path,
        };
        ConfigError::new(path, error.inner().to_string())
    })
}

/// Checks that a value is in its range.
///
/// # Errors
/// What the range is, at the key.
pub fn within<T: PartialOrd + fmt::Display>(key: &str, value: T, range: RangeInclusive<T>) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(key, format!("{value} is not within {} to {}", range.start(), range.end())))
}

/// Checks that a key is used only with the format (or formats) that it is for.
///
/// # Errors
/// Which format that is, at the key.
pub fn only_for(is_used: bool, is_chosen: bool, key: &str, formats: &str) -> Result<(), ConfigError> {
    if is_used && !is_chosen {
        let message = format!("is for format = \"{formats}\" only; leave it out, or change the format");
        return Err(ConfigError::new(key, message));
    }
    Ok(())
}

/// A span of time, written as `"30 s"`, `"5 min"`, `"90 days"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self).map_err(|error| {
            format!("{text:?} is not a span of time ({error}); write for example \"30 s\" or \"90 days\"")
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A number of bytes, written as `"64 MiB"` or as a plain number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|error| format!("{text:?} is not a size ({error}); write for example \"64 MiB\""))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bytesize::ByteSize(self.0).display().iec().fmt(f)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64 MiB\" or a number of bytes")
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::custom("a size can't be negative"))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! text_value {
    ($($type:ident: $description:literal),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description })
            }
        }
    )*};
}
text_value!(Span: "A span of time: \"30 s\", \"5 min\", \"90 days\".", Size: "A number of bytes: \"64 MiB\", or a plain number.");

/// One of the deployment's Dynamics 365 organisations: `[organizations.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Organization {
    /// `OrganizationId` in Dataverse.
    pub id: Option<Uuid>,
    /// The unique name in Dataverse, such as `unqf42a590d…`; the table's name where left out.
    pub unique_name: Option<String>,
    /// The Office 365 tenant that its records belong to.
    pub tenant: Option<Uuid>,
    /// URL of the instance, such as `https://contoso.crm.dynamics.com`.
    pub url: Option<String>,
    /// What actlog signs in with where it reads from the instance or changes it: polling, directory, `actlog dataverse`.
    pub application: Option<Application>,
}

/// An application that is registered in Entra, and what it proves its identity with: a secret, or a certificate with its
/// private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// The application (client) id.
    pub client_id: Uuid,
    /// A client secret.
    #[serde(default)]
    pub secret: Option<SecretReference>,
    /// A certificate that is registered for the application, in PEM; relative to the configuration file's folder.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[serde(default)]
    pub key: Option<SecretReference>,
    /// Where it signs in; national clouds have their own.
    #[serde(default = "default_authority")]
    pub authority: String,
}

fn default_authority() -> String {
    "https://login.microsoftonline.com".into()
}

impl Application {
    /// Looks at it without any input or output.
    ///
    /// # Errors
    /// When it is not exactly one of a secret, and a certificate with its key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match (&self.secret, &self.certificate, &self.key) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => Ok(()),
            (None, Some(_), None) => Err(ConfigError::new("key", "the certificate's private key is missing")),
            (None, None, Some(_)) => Err(ConfigError::new("certificate", "the certificate of the key is missing")),
            _ => Err(ConfigError::new("", "give a secret, or a certificate with its key")),
        }
    }
}

/// The organisation that a component means: the one of that name, or the only one there is.
///
/// # Errors
/// When there is none of that name, or none is named and there are several or none.
pub fn pick_organization<'a>(
    organizations: &'a Organizations,
    name: Option<&str>,
) -> Result<(&'a str, &'a Organization), ConfigError> {
    let known = || organizations.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let mut all = organizations.iter();
    match (name, all.next(), all.next()) {
        (_, None, _) => {
            Err(ConfigError::new("organization", "no organisation is configured: add [organizations.NAME]"))
        }
        (None, Some((name, organization)), None) => Ok((name, organization)),
        (None, Some(_), Some(_)) => {
            Err(ConfigError::new("organization", format!("say which one is meant, of {}", known())))
        }
        (Some(name), ..) => match organizations.get_key_value(name) {
            Some((name, organization)) => Ok((name, organization)),
            None => Err(ConfigError::new("organization", format!("there is no {name:?}; there are {}", known()))),
        },
    }
}

/// The organisations by their configured names.
pub type Organizations = BTreeMap<String, Organization>;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its deserialisation is looked at")]
    struct Example {
        size: Size,
        #[serde(default)]
        age: Span,
    }

    #[test]
    fn sizes_and_spans_are_read_as_people_write_them() {
        assert_eq!("64 MiB".parse::<Size>().unwrap().0, 64 << 20);
        assert_eq!("90 days".parse::<Span>().unwrap().0, Duration::from_secs(90 * 86_400));
        assert_eq!(Size(64 << 20).to_string(), "64.0 MiB");
    }

    #[test]
    fn an_organization_is_picked_by_name_or_because_it_is_the_only_one() {
        let one = |name: &str| (name.to_owned(), Organization::default());
        let mut organizations = Organizations::from([one("contoso")]);
        assert_eq!(pick_organization(&organizations, None).unwrap().0, "contoso");
        organizations.extend([one("fabrikam")]);
        assert!(pick_organization(&organizations, None).unwrap_err().message.contains("contoso, fabrikam"));
        assert_eq!(pick_organization(&organizations, Some("fabrikam")).unwrap().0, "fabrikam");
        assert!(pick_organization(&organizations, Some("x")).unwrap_err().message.contains("contoso, fabrikam"));
        assert!(pick_organization(&Organizations::new(), None).unwrap_err().message.contains("[organizations.NAME]"));
    }

    #[test]
    fn an_application_proves_its_identity_in_exactly_one_way() {
        let application = |table: serde_json::Value| {
            let mut table = table;
            table["client_id"] = "6f0b1c7e-2d1c-4f9a-9a55-0f0c2f6f5d11".into();
            deserialize::<Application>(table).unwrap().validate()
        };
        let (env, certificate) = (serde_json::json!({ "env": "X" }), "cert.pem");
        assert!(application(serde_json::json!({ "secret": env })).is_ok());
        assert!(application(serde_json::json!({ "certificate": certificate, "key": env })).is_ok());
        for wrong in [
            serde_json::json!({}),
            serde_json::json!({ "certificate": certificate }),
            serde_json::json!({ "key": env }),
            serde_json::json!({ "secret": env, "certificate": certificate, "key": env }),
        ] {
            assert!(application(wrong).is_err());
        }
    }

    #[test]
    fn an_error_names_the_key_and_what_would_be_right() {
        let error =
            deserialize::<Example>(serde_json::json!({ "size": "64 furlongs" })).unwrap_err().within("sinks.audit");
        assert_eq!(error.path, "sinks.audit.size");
        assert!(error.message.contains("64 MiB"), "{error}");
        let error = deserialize::<Example>(serde_json::json!({ "size": 1, "colour": 2 })).unwrap_err();
        assert!(error.message.contains("colour"), "{error}");
    }
}
