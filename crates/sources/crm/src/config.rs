//! How the source is configured.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::Path;

use actlog_core::{ConfigError, Organizations, SecretReference, Size};
use actlog_http::{Authenticator, Credential, CredentialError, Limits, ProxyHeader, ServerConfig, TlsConfig};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::files::MAXIMUM_BATCH;

/// Configuration of the `crm` source. Exactly one of `listen`, `path` and `stdin` says where contexts come from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrmConfig {
    /// Take webhook posts at this address and port, on any path: `127.0.0.1:7071`, `[::]:443`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub listen: Option<SocketAddr>,
    /// Read files, one context a line, to their end: a file, a folder, or a pattern such as `contexts/*.ndjson.gz`; or
    /// a list of these. gzip and zstd are recognised by content. Relative paths are seen from the configuration file.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany<String>")]
    pub path: Vec<String>,
    /// Read standard input, one context a line, to its end; gzip and zstd are recognised by content.
    #[serde(default)]
    pub stdin: bool,

    /// Webhook key, which Dataverse sends as `?code=…`; a list while keys change. Without any credential the source
    /// listens on loopback addresses only.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany<SecretReference>")]
    pub key: Vec<SecretReference>,
    /// Headers that posts must carry, all of them, by name.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretReference>,
    /// Query parameters that posts must carry, all of them, by name.
    #[serde(default)]
    pub query: BTreeMap<String, SecretReference>,
    /// More credentials, each of which is enough: for rotation of headers, and to bind one to organisations.
    #[serde(default)]
    pub credentials: Vec<CredentialConfig>,

    /// Certificate and key of the listener.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Allows plain HTTP on addresses that other machines can reach: for a listener behind a proxy that ends TLS.
    #[serde(default)]
    pub plaintext: bool,
    /// Networks of the proxies in front of the listener; what they say in `proxy_header` is believed.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they report the client's address.
    #[serde(default)]
    pub proxy_header: ProxyHeader,
    /// Networks that posts may come from; all when left out.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub allow_from: Vec<IpNet>,
    /// Limits of the listener on sizes, times and counts.
    #[serde(default)]
    pub limits: Limits,

    /// Repair texts that arrive as UTF-8 read as Windows-1252.
    #[serde(default)]
    pub repair_text: bool,
    /// Append the filters of linked entities to Query; the specification's form has the outermost filter only.
    #[serde(default)]
    pub extended_query: bool,

    /// Longest line of a file, decompressed, up to 16 MiB. Longer ones go to the dead letters.
    #[serde(default = "default_max_line")]
    pub max_line: Size,
    /// How much of a file is read, mapped and made durable at once, up to 16 MiB; a single line at least.
    #[serde(default = "default_batch_size")]
    pub batch_size: Size,
}

/// One way to be let in.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialConfig {
    /// Webhook key, which Dataverse sends as `?code=…`.
    #[serde(default)]
    pub key: Option<SecretReference>,
    /// Headers that posts must carry, all of them, by name.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretReference>,
    /// Query parameters that posts must carry, all of them, by name.
    #[serde(default)]
    pub query: BTreeMap<String, SecretReference>,
    /// Organisations that posts with this credential may be of: names from `[organizations]`, ids, or unique names;
    /// all when left out.
    #[serde(default)]
    pub organizations: Vec<String>,
}

fn default_max_line() -> Size {
    Size(16 << 20)
}

fn default_batch_size() -> Size {
    Size(1 << 20)
}

/// Schema of a value that may stand alone or in a list.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// Reads a value that may stand alone or in a list, with the errors of the value itself.
fn one_or_many<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Either<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value, or a list of values")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            Ok(vec![T::deserialize(de::value::StrDeserializer::new(text))?])
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            Ok(vec![T::deserialize(MapAccessDeserializer::new(map))?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(sequence))
        }
    }
    deserializer.deserialize_any(Either(PhantomData))
}

impl CrmConfig {
    /// What is wrong with it, as far as that can be seen without any input or output.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let ways = [self.listen.is_some(), !self.path.is_empty(), self.stdin];
        if ways.iter().filter(|chosen| **chosen).count() != 1 {
            let message = "say where contexts come from, by exactly one of listen = \"127.0.0.1:7071\", \
                           path = \"contexts/*.ndjson\" and stdin = true";
            return Err(ConfigError::new("", message));
        }
        for (key, size) in [("max_line", self.max_line), ("batch_size", self.batch_size)] {
            if !(1..=MAXIMUM_BATCH).contains(&size.0) {
                return Err(ConfigError::new(key, format!("must be between 1 byte and {}", Size(MAXIMUM_BATCH))));
            }
        }
        for pattern in &self.path {
            glob::Pattern::new(pattern)
                .map_err(|error| ConfigError::new("path", format!("{pattern:?} is not a pattern: {error}")))?;
        }
        match self.server() {
            Some(server) => self.validate_listener(&server),
            None => self.validate_reading(),
        }
    }

    fn validate_listener(&self, server: &ServerConfig) -> Result<(), ConfigError> {
        server.validate()?;
        if !self.has_credentials() && !server.is_loopback() {
            let message = format!(
                "{} can be reached from other machines, and no credential is asked for; give key, headers, query or \
                 credentials, or listen on 127.0.0.1",
                server.listen
            );
            return Err(ConfigError::new("listen", message));
        }
        for (position, credential) in self.credentials.iter().enumerate() {
            if credential.key.is_none() && credential.headers.is_empty() && credential.query.is_empty() {
                let message = "asks for nothing; give key, headers or query";
                return Err(ConfigError::new(format!("credentials[{position}]"), message));
            }
        }
        // Names are checked with any value, since secrets are read later.
        self.authenticate_with(&Organizations::new(), |_| Ok(b"value".to_vec())).map(|_| ())
    }

    fn validate_reading(&self) -> Result<(), ConfigError> {
        let of_listener = [
            ("key", !self.key.is_empty()),
            ("headers", !self.headers.is_empty()),
            ("query", !self.query.is_empty()),
            ("credentials", !self.credentials.is_empty()),
            ("tls", self.tls.is_some()),
            ("plaintext", self.plaintext),
            ("trusted_proxies", !self.trusted_proxies.is_empty()),
            ("allow_from", !self.allow_from.is_empty()),
            ("limits", self.limits != Limits::default()),
        ];
        match of_listener.iter().find(|(_, is_given)| *is_given) {
            Some((key, _)) => Err(ConfigError::new(*key, "belongs to listen; leave it out where files are read")),
            None => Ok(()),
        }
    }

    /// The listener; none where files are read.
    pub(crate) fn server(&self) -> Option<ServerConfig> {
        Some(ServerConfig {
            listen: self.listen?,
            tls: self.tls.clone(),
            plaintext: self.plaintext,
            trusted_proxies: self.trusted_proxies.clone(),
            proxy_header: self.proxy_header,
            allow_from: self.allow_from.clone(),
            limits: self.limits.clone(),
        })
    }

    fn has_credentials(&self) -> bool {
        !(self.key.is_empty() && self.headers.is_empty() && self.query.is_empty() && self.credentials.is_empty())
    }

    /// Reads the secrets. None where nothing is asked for.
    pub(crate) fn doors(&self, folder: &Path, organizations: &Organizations) -> Result<Option<Doors>, ConfigError> {
        if !self.has_credentials() {
            return Ok(None);
        }
        self.authenticate_with(organizations, |secret| Ok(secret.load(folder)?.expose().to_vec())).map(Some)
    }

    fn authenticate_with(
        &self,
        organizations: &Organizations,
        load: impl Fn(&SecretReference) -> Result<Vec<u8>, ConfigError>,
    ) -> Result<Doors, ConfigError> {
        let none = BTreeMap::new();
        let mut ways = Vec::new();
        for (position, key) in self.key.iter().enumerate() {
            ways.push((format!("key[{position}]"), Some(key), &none, &none, [].as_slice()));
        }
        if !self.headers.is_empty() {
            ways.push((String::new(), None, &self.headers, &none, &[]));
        }
        if !self.query.is_empty() {
            ways.push((String::new(), None, &none, &self.query, &[]));
        }
        for (position, way) in self.credentials.iter().enumerate() {
            let at = format!("credentials[{position}]");
            ways.push((at, way.key.as_ref(), &way.headers, &way.query, &way.organizations));
        }
        let mut credentials = Vec::new();
        let mut bindings = Vec::new();
        for (at, key, headers, query, bound_to) in ways {
            let credential = credential(key, headers, query, &load).map_err(|error| error.within(&at))?;
            credentials.push(credential);
            bindings.push(bound_to.iter().map(|name| Binding::new(name, organizations)).collect());
        }
        Ok(Doors { authenticator: Authenticator::new(credentials), bindings })
    }
}

fn credential(
    key: Option<&SecretReference>,
    headers: &BTreeMap<String, SecretReference>,
    query: &BTreeMap<String, SecretReference>,
    load: &impl Fn(&SecretReference) -> Result<Vec<u8>, ConfigError>,
) -> Result<Credential, ConfigError> {
    let unusable = |at: String| move |error: CredentialError| ConfigError::new(at, error.to_string());
    let mut credential = Credential::default();
    if let Some(key) = key {
        credential = Credential::webhook_key(&load(key)?).map_err(unusable(String::new()))?;
    }
    for (name, secret) in headers {
        let at = format!("headers.{name}");
        let value = load(secret).map_err(|error| error.within(&at))?;
        credential = credential.with_header(name, &value).map_err(unusable(at))?;
    }
    for (name, secret) in query {
        let at = format!("query.{name}");
        let value = load(secret).map_err(|error| error.within(&at))?;
        credential = credential.with_query(name, &value).map_err(unusable(at))?;
    }
    Ok(credential)
}

/// The ways in, and for whom each of them is.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) authenticator: Authenticator,
    /// For each credential the organisations that it is bound to; empty: all.
    bindings: Vec<Vec<Binding>>,
}

impl Doors {
    /// Whether who came by a credential may post contexts of an organisation. What a context doesn't say can't be
    /// checked: with a bound credential it must say its organisation's id or name.
    pub(crate) fn allows(&self, credential: usize, id: Option<Uuid>, unique_name: Option<&str>) -> bool {
        let bound_to = self.bindings.get(credential).map_or([].as_slice(), Vec::as_slice);
        bound_to.is_empty() || bound_to.iter().any(|binding| binding.fits(id, unique_name))
    }
}

/// An organisation, by what is known of it.
#[derive(Debug)]
struct Binding {
    id: Option<Uuid>,
    unique_name: Option<String>,
}

impl Binding {
    fn new(text: &str, organizations: &Organizations) -> Self {
        if let Some(organization) = organizations.get(text) {
            // The table's name stands for the unique name only where nothing better is known.
            let name = organization.unique_name.clone();
            return Self {
                id: organization.id,
                unique_name: name.or(organization.id.is_none().then(|| text.to_owned())),
            };
        }
        match text.parse() {
            Ok(id) => Self { id: Some(id), unique_name: None },
            Err(_) => Self { id: None, unique_name: Some(text.to_owned()) },
        }
    }

    /// Everything that both sides know must be the same, and there must be something that both know.
    fn fits(&self, id: Option<Uuid>, unique_name: Option<&str>) -> bool {
        let same_id = self.id.zip(id).map(|(own, other)| own == other);
        let same_name =
            self.unique_name.as_deref().zip(unique_name).map(|(own, other)| own.eq_ignore_ascii_case(other));
        match (same_id, same_name) {
            (None, None) => false,
            _ => same_id.unwrap_or(true) && same_name.unwrap_or(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use actlog_core::Organization;
    use serde_json::json;

    use super::*;

    fn config(value: serde_json::Value) -> Result<CrmConfig, ConfigError> {
        let config: CrmConfig = actlog_core::config::deserialize(value)?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn exactly_one_way_in_is_chosen() {
        let error = config(json!({})).unwrap_err();
        assert!(error.message.contains("exactly one of listen"), "{error}");
        assert!(config(json!({ "listen": "127.0.0.1:7071", "path": "x" })).is_err());
        assert!(config(json!({ "path": "x", "stdin": true })).is_err());
        assert!(config(json!({ "listen": "127.0.0.1:7071" })).is_ok());
        assert!(config(json!({ "path": ["a", "b/*.gz"] })).is_ok());
        assert!(config(json!({ "stdin": true })).is_ok());
        assert_eq!(config(json!({ "path": "[" })).unwrap_err().path, "path");
        assert_eq!(config(json!({ "path": "x", "key": { "env": "K" } })).unwrap_err().path, "key");
    }

    #[test]
    fn without_credentials_only_this_machine_may_post() {
        let error = config(json!({ "listen": "0.0.0.0:80", "plaintext": true })).unwrap_err();
        assert!(error.path == "listen" && error.message.contains("credential"), "{error}");
        let keys = json!([{ "env": "A" }, { "file": "b" }]);
        assert_eq!(config(json!({ "listen": "0.0.0.0:80", "plaintext": true, "key": keys })).unwrap().key.len(), 2);
        let error = config(json!({ "listen": "0.0.0.0:80", "key": keys })).unwrap_err();
        assert!(error.message.contains("TLS"), "{error}");
    }

    #[test]
    fn what_cannot_be_used_is_named_by_its_key() {
        for (wrong, key, text) in [
            (json!({ "headers": { "not a name": { "env": "A" } } }), "headers.not a name", "HTTP header"),
            (json!({ "credentials": [{ "organizations": ["a"] }] }), "credentials[0]", "asks for nothing"),
            (json!({ "key": { "environment": "A" } }), "key", "environment"),
            (json!({ "colour": 1 }), "", "colour"),
            (json!({ "max_line": "1 GiB" }), "max_line", "16.0 MiB"),
            (json!({ "limits": { "max_connections": 0 } }), "limits.max_connections", "at least 1"),
        ] {
            let mut table = wrong;
            table["listen"] = json!("127.0.0.1:7071");
            let error = config(table).unwrap_err();
            assert!(error.message.contains(text) && error.path.starts_with(key), "{key}: {error}");
        }
    }

    #[test]
    fn a_bound_credential_speaks_for_its_organisations_only() {
        let (ours, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let contoso = Organization { id: Some(ours), unique_name: Some("unq1".into()), ..Organization::default() };
        let organizations = Organizations::from([("contoso".to_owned(), contoso)]);
        let doors = Doors {
            authenticator: Authenticator::default(),
            bindings: vec![
                vec![],
                vec![Binding::new("contoso", &organizations)],
                vec![Binding::new(&ours.to_string(), &organizations), Binding::new("Unq2", &organizations)],
            ],
        };
        for (credential, id, name, expected) in [
            (0, Some(other), Some("unq2"), true),
            (0, None, None, true),
            (1, Some(ours), Some("UNQ1"), true),
            (1, Some(ours), None, true),
            (1, None, Some("unq1"), true),
            // The right name beside another's id is no way in.
            (1, Some(other), Some("unq1"), false),
            (1, Some(ours), Some("unq2"), false),
            (1, None, None, false),
            (2, Some(other), Some("unq2"), true),
            (2, Some(ours), Some("anything"), true),
            (2, Some(other), Some("unq3"), false),
        ] {
            assert_eq!(doors.allows(credential, id, name), expected, "{credential} {id:?} {name:?}");
        }
    }
}
