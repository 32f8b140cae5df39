//! How a listener is configured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use actlog_core::{BuildContext, ConfigError, Size, Span};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::peer::ProxyHeader;

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address and port to listen on, such as `127.0.0.1:7071` or `[::]:443`.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Certificate and key. Without them the listener speaks plain HTTP, which it does on loopback addresses only,
    /// unless `plaintext` says otherwise.
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
    /// Networks that clients may come from; all when left out. Clients behind trusted proxies count by their own
    /// address.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub allow_from: Vec<IpNet>,
    /// Limits on sizes, times and counts.
    #[serde(default)]
    pub limits: Limits,
}

/// Where the certificate and its key are, as PEM. Both are read again when they change, so that a renewal needs no
/// restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// File with the certificate and, behind it, the chain that leads to its root.
    pub certificate: PathBuf,
    /// File with the private key.
    pub key: PathBuf,
}

/// Limits on what clients can make the listener hold, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest body as it is sent. Larger ones are answered with 413.
    pub max_body: Size,
    /// Largest body after gzip or zstd is undone. Larger ones are answered with 413.
    pub max_decompressed_body: Size,
    /// Most connections at once. When they are reached, the one that has waited longest for its client is closed; when
    /// none waits, the newcomer is answered with 503.
    pub max_connections: usize,
    /// Most bytes of a request's line and headers, between 8 KiB and 1 MiB. More are answered with 431.
    pub max_header_size: Size,
    /// Most headers of a request. More are answered with 431.
    pub max_headers: usize,
    /// How long a client may take for the TLS handshake, and for the line and headers of a request.
    pub header_timeout: Span,
    /// How long a client may take to send a body. It is then answered with 408.
    pub body_timeout: Span,
    /// How long a connection is kept while no request comes.
    pub idle_timeout: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: Size(16 << 20),
            max_decompressed_body: Size(32 << 20),
            max_connections: 1024,
            max_header_size: Size(32 << 10),
            max_headers: 100,
            header_timeout: Span(Duration::from_secs(10)),
            body_timeout: Span(Duration::from_secs(30)),
            idle_timeout: Span(Duration::from_secs(60)),
        }
    }
}

impl ServerConfig {
    /// A listener with default limits, without TLS.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            plaintext: false,
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::default(),
            allow_from: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Whether only this machine can reach the listener.
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// Looks for what can't work or isn't safe, without any input or output.
    ///
    /// # Errors
    /// What is wrong and what to do, at its key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !self.is_loopback() && self.tls.is_none() && !self.plaintext {
            let message = format!(
                "{} can be reached from other machines, and there is no TLS; give tls = {{ certificate = …, key = … }}, \
                 or listen on 127.0.0.1, or say plaintext = true when a proxy in front ends TLS",
                self.listen
            );
            return Err(ConfigError::new("listen", message));
        }
        if self.tls.is_some() && self.plaintext {
            return Err(ConfigError::new("plaintext", "tls and plaintext = true exclude each other; leave one out"));
        }
        self.limits.validate().map_err(|error| error.within("limits"))
    }
}

impl Limits {
    fn validate(&self) -> Result<(), ConfigError> {
        let bodies = self.max_body.0.saturating_add(self.max_decompressed_body.0);
        let budget = BuildContext::BODY_BUDGET as u64;
        let wrong = if bodies > budget {
            // A compressed body is held in both forms for a moment.
            let both = Size(budget);
            Some(("max_decompressed_body", format!("max_body and max_decompressed_body may be {both} together")))
        } else if self.max_connections == 0 {
            Some(("max_connections", "must be at least 1".to_owned()))
        } else if !(8 << 10..=1 << 20).contains(&self.max_header_size.0) {
            Some(("max_header_size", "must be between 8 KiB and 1 MiB".to_owned()))
        } else if self.max_headers == 0 {
            Some(("max_headers", "must be at least 1".to_owned()))
        } else {
            let spans = [
                ("header_timeout", self.header_timeout),
                ("body_timeout", self.body_timeout),
                ("idle_timeout", self.idle_timeout),
            ];
            let allowed = Duration::from_millis(1)..=Duration::from_secs(3600);
            let wrong = spans.iter().find(|(_, span)| !allowed.contains(&span.0));
            wrong.map(|(name, _)| (*name, "must be between 1 ms and 1 hour".to_owned()))
        };
        wrong.map_or(Ok(()), |(path, message)| Err(ConfigError::new(path, message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: serde_json::Value) -> Result<ServerConfig, ConfigError> {
        let config: ServerConfig = actlog_core::config::deserialize(value)?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn plain_http_beyond_loopback_must_be_asked_for() {
        assert!(config(serde_json::json!({ "listen": "127.0.0.1:80" })).is_ok());
        assert!(config(serde_json::json!({ "listen": "[::1]:80" })).is_ok());
        let error = config(serde_json::json!({ "listen": "0.0.0.0:80" })).unwrap_err();
        assert!(error.path == "listen" && error.message.contains("plaintext = true"), "{error}");
        assert!(config(serde_json::json!({ "listen": "0.0.0.0:80", "plaintext": true })).is_ok());
        let tls = serde_json::json!({ "certificate": "c.pem", "key": "k.pem" });
        assert!(config(serde_json::json!({ "listen": "0.0.0.0:443", "tls": tls })).is_ok());
        assert!(config(serde_json::json!({ "listen": "0.0.0.0:443", "tls": tls, "plaintext": true })).is_err());
    }

    #[test]
    fn limits_that_cannot_work_are_refused_by_name() {
        for (limits, key) in [
            (serde_json::json!({ "max_decompressed_body": "64 MiB" }), "limits.max_decompressed_body"),
            (serde_json::json!({ "max_connections": 0 }), "limits.max_connections"),
            (serde_json::json!({ "max_header_size": "4 KiB" }), "limits.max_header_size"),
            (serde_json::json!({ "idle_timeout": "0 s" }), "limits.idle_timeout"),
            (serde_json::json!({ "max_bodies": 1 }), "limits.max_bodies"),
        ] {
            let error = config(serde_json::json!({ "listen": "127.0.0.1:80", "limits": limits })).unwrap_err();
            assert!(error.path == key || error.message.contains("max_bodies"), "{error}");
        }
    }
}
