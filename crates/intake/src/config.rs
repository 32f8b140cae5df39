//! How an intake is configured.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use actlog_core::{ConfigError, SecretReference, Size};
use actlog_http::{Limits, ProxyHeader, ServerConfig, TlsConfig};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::keys::{OneOrMany, OneOrManySchema};

/// Largest batch, and longest line: either must fit, with what mapping adds, into one frame of the journal.
const MAXIMUM_BATCH: u64 = 16 << 20;

/// The keys of every intake. Exactly one of `listen`, `path` and `stdin` says where events come from.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(default)]
pub struct IntakeKeys {
    /// Take HTTP posts at this address and port, on any path: `127.0.0.1:7071`, `[::]:443`.
    #[schemars(with = "Option<String>")]
    pub listen: Option<SocketAddr>,
    /// Read files, one event a line, to their end: a file, a folder, or a pattern such as `events/*.ndjson.gz`; or a
    /// list of these. gzip and zstd are recognised by content. Relative paths are seen from the configuration file.
    #[schemars(with = "OneOrManySchema<String>")]
    pub path: OneOrMany<String>,
    /// Read standard input, one event a line, to its end; gzip and zstd are recognised by content.
    pub stdin: bool,

    /// Key that posts must carry as `?code=…`, as Dataverse sends the key of a webhook; a list while keys change.
    /// Without any credential the source listens on loopback addresses only.
    #[schemars(with = "OneOrManySchema<SecretReference>")]
    pub key: OneOrMany<SecretReference>,
    /// Headers that posts must carry, all of them, by name.
    pub headers: BTreeMap<String, SecretReference>,
    /// Query parameters that posts must carry, all of them, by name.
    pub query: BTreeMap<String, SecretReference>,
    /// More credentials, each of which is enough: for rotation of headers, and to bind one to organisations.
    pub credentials: Vec<CredentialConfig>,

    /// Certificate and key of the listener.
    pub tls: Option<TlsConfig>,
    /// Allows plain HTTP on addresses that other machines can reach: for a listener behind a proxy that ends TLS.
    pub plaintext: bool,
    /// Networks of the proxies in front of the listener; what they say in `proxy_header` is believed.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they report the client's address.
    pub proxy_header: ProxyHeader,
    /// Networks that posts may come from; all when left out.
    #[schemars(with = "Vec<String>")]
    pub allow_from: Vec<IpNet>,
    /// Limits of the listener on sizes, times and counts.
    pub limits: Limits,

    /// Longest line of a file, decompressed, up to 16 MiB. Longer ones go to the dead letters.
    pub max_line: Size,
    /// How much of a file is read, mapped and made durable at once, up to 16 MiB; a single line at least.
    pub batch_size: Size,
}

crate::keys!(IntakeKeys {
    listen,
    path,
    stdin,
    key,
    headers,
    query,
    credentials,
    tls,
    plaintext,
    trusted_proxies,
    proxy_header,
    allow_from,
    limits,
    max_line,
    batch_size,
});

impl Default for IntakeKeys {
    fn default() -> Self {
        Self {
            listen: None,
            path: OneOrMany::default(),
            stdin: false,
            key: OneOrMany::default(),
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            credentials: Vec::new(),
            tls: None,
            plaintext: false,
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::default(),
            allow_from: Vec::new(),
            limits: Limits::default(),
            max_line: Size(16 << 20),
            batch_size: Size(1 << 20),
        }
    }
}

/// One way to be let in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialConfig {
    /// Key that posts must carry as `?code=…`.
    pub key: Option<SecretReference>,
    /// Headers that posts must carry, all of them, by name.
    pub headers: BTreeMap<String, SecretReference>,
    /// Query parameters that posts must carry, all of them, by name.
    pub query: BTreeMap<String, SecretReference>,
    /// Organisations that posts with this credential may be of: names from `[organizations]`, ids, or unique names;
    /// all when left out.
    pub organizations: Vec<String>,
}

impl IntakeKeys {
    /// What is wrong with them, as far as that can be seen without any input or output.
    ///
    /// # Errors
    /// The first thing that is wrong, at its key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ways = [self.listen.is_some(), !self.path.is_empty(), self.stdin];
        if ways.iter().filter(|chosen| **chosen).count() != 1 {
            let message = "say where events come from, by exactly one of listen = \"127.0.0.1:7071\", \
                           path = \"events/*.ndjson\" and stdin = true";
            return Err(ConfigError::new("", message));
        }
        for (key, size) in [("max_line", self.max_line), ("batch_size", self.batch_size)] {
            if !(1..=MAXIMUM_BATCH).contains(&size.0) {
                return Err(ConfigError::new(key, format!("must be between 1 byte and {}", Size(MAXIMUM_BATCH))));
            }
        }
        for pattern in self.path.iter() {
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
        self.validate_credentials()
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

    pub(crate) fn has_credentials(&self) -> bool {
        !(self.key.is_empty() && self.headers.is_empty() && self.query.is_empty() && self.credentials.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{IntakeConfig, NoKeys};

    fn config(value: serde_json::Value) -> Result<IntakeKeys, ConfigError> {
        let config: IntakeConfig<NoKeys> = actlog_core::config::deserialize(value)?;
        config.intake.validate()?;
        Ok(config.intake)
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
}
