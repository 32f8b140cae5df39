//! The sink's configuration, and what can be wrong with it.

use std::path::PathBuf;
use std::time::Duration;

use actlog_core::config::within;
use actlog_core::{ConfigError, SecretReference, Size, Span};
use actlog_http::client::ClientConfig;
use actlog_interop::syslog::LONGEST_HEADER;
use actlog_office::split;
use rustls_pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[sinks.NAME]` with `type = "syslog"`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyslogConfig {
    /// Host and port of the receiver, such as `siem.example:6514` or `[2001:db8::1]:6514`.
    pub address: String,
    /// How it is reached: `tls` (RFC 5425), or `tcp` (RFC 6587), which everybody on the way can read and change.
    #[serde(default)]
    pub transport: Transport,
    /// `tls` only: whom the connection trusts, and what it shows of itself.
    #[serde(default)]
    pub tls: TlsOptions,
    /// What a message holds: `rfc5424` (the record as JSON, with ids and names as structured data), or `cef`.
    #[serde(default)]
    pub format: Format,
    /// The facility of the messages.
    #[serde(default)]
    pub facility: Facility,
    /// HOSTNAME of the messages: at most 255 printable ASCII characters without spaces. Left out: this machine's name.
    #[serde(default)]
    pub hostname: Option<String>,
    /// APP-NAME of the messages: at most 48 printable ASCII characters without spaces.
    #[serde(default = "default_app_name")]
    pub app_name: String,
    /// The longest message, header included, that is sent; a longer record is divided into messages that are records
    /// of their own, with `Part` and `Parts`. Not more than the receiver takes: it cuts longer ones or hangs up. The
    /// default is within the 8096 bytes that rsyslog takes unless told otherwise.
    #[serde(default = "default_max_record_bytes")]
    pub max_record_bytes: Size,
    /// When messages count as delivered: `close` (the receiver has closed the connection, having read them all), or
    /// `none` (they were handed to the operating system): for receivers that never close, with losses when they fail.
    #[serde(default)]
    pub confirm: Confirm,
    /// How long a connection is used before the receiver is asked to confirm what came over it; 10 ms to 5 min. A
    /// receiver that fails within this time of having confirmed a message is sent it again.
    #[serde(default = "default_commit_interval")]
    pub commit_interval: Span,
    /// After how many bytes that happens earlier; 64 KiB to 1 GiB.
    #[serde(default = "default_commit_bytes")]
    pub commit_bytes: Size,
    /// How long the receiver may take for each step: to be connected to, to take in a megabyte, to close; 1 s to 5 min.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

fn default_app_name() -> String {
    "actlog".to_owned()
}

fn default_max_record_bytes() -> Size {
    Size(8000)
}

fn default_commit_interval() -> Span {
    Span(Duration::from_secs(1))
}

fn default_commit_bytes() -> Size {
    Size(8 << 20)
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(30))
}

/// How the receiver is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TLS 1.2 or 1.3.
    #[default]
    Tls,
    /// Without protection.
    Tcp,
}

/// Whom a TLS connection trusts, and what it shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// PEM file with certificates of authorities that are trusted besides the operating system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// PEM file with the certificate, and its chain, that is shown to a receiver that asks for one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// Its private key, in PEM.
    #[serde(default)]
    pub key: Option<SecretReference>,
    /// The name that the receiver's certificate must have. Left out: the host in `address`.
    #[serde(default)]
    pub server_name: Option<String>,
}

/// What a message holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The record as JSON.
    #[default]
    Rfc5424,
    /// A CEF message.
    Cef,
}

/// When messages count as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// When the receiver has closed the connection.
    #[default]
    Close,
    /// When they were handed to the operating system.
    None,
}

/// What kind of program sends, as RFC 5424 counts: the names that syslog daemons use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub enum Facility {
    User = 1,
    Daemon = 3,
    Auth = 4,
    Authpriv = 10,
    Audit = 13,
    Alert = 14,
    #[default]
    Local0 = 16,
    Local1 = 17,
    Local2 = 18,
    Local3 = 19,
    Local4 = 20,
    Local5 = 21,
    Local6 = 22,
    Local7 = 23,
}

impl SyslogConfig {
    /// What `SinkPlugin::validate` does.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let host = self.host().ok_or_else(|| {
            let message = "is not a host and a port; write for example siem.example:6514 or [2001:db8::1]:6514";
            ConfigError::new("address", message)
        })?;
        match self.transport {
            Transport::Tls => {
                self.client()?;
                let (name, at) = match &self.tls.server_name {
                    Some(name) => (name.as_str(), "tls.server_name"),
                    None => (host, "address"),
                };
                if ServerName::try_from(name).is_err() {
                    return Err(ConfigError::new(at, format!("{name:?} can't be the name in a certificate")));
                }
            }
            Transport::Tcp if self.tls != TlsOptions::default() => {
                let message = "is for transport = \"tls\" only; leave it out, or change the transport";
                return Err(ConfigError::new("tls", message));
            }
            Transport::Tcp => {}
        }
        for (key, text, limit) in
            [("hostname", self.hostname.as_deref(), 255), ("app_name", Some(self.app_name.as_str()), 48)]
        {
            let fits = |text: &str| (1..=limit).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
            if !text.is_none_or(fits) {
                let message = format!("must be 1 to {limit} printable ASCII characters without spaces");
                return Err(ConfigError::new(key, message));
            }
        }
        let smallest = (LONGEST_HEADER + split::MIN_LIMIT) as u64;
        within("max_record_bytes", self.max_record_bytes, Size(smallest)..=Size(64 << 20))?;
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        within("commit_interval", self.commit_interval, Span(second / 100)..=Span(minute * 5))?;
        within("commit_bytes", self.commit_bytes, Size(64 << 10)..=Size(1 << 30))?;
        within("timeout", self.timeout, Span(second)..=Span(minute * 5))
    }

    /// The host in the address; none when the address isn't one.
    pub(crate) fn host(&self) -> Option<&str> {
        let (host, port) = self.address.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
        (is_port && !host.is_empty() && !host.contains(char::is_whitespace)).then_some(host)
    }

    /// The part of the configuration that all clients have in common, checked.
    pub(crate) fn client(&self) -> Result<ClientConfig, ConfigError> {
        let TlsOptions { ca, certificate, key, .. } = self.tls.clone();
        let client = ClientConfig { ca, certificate, key, ..ClientConfig::default() };
        client.validate().map_err(|error| error.within("tls"))?;
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(extra: Value) -> Result<(), ConfigError> {
        let mut table = json!({ "address": "siem.example:6514" });
        table.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        actlog_core::config::deserialize::<SyslogConfig>(table)?.validate()
    }

    #[test]
    fn what_cannot_work_is_refused_at_its_key() {
        for fine in [
            json!({}),
            json!({ "address": "[::1]:6514" }),
            json!({ "address": "10.0.0.1:514", "transport": "tcp", "hostname": "audit", "facility": "authpriv" }),
            json!({ "tls": { "ca": "ca.pem", "server_name": "siem" }, "max_record_bytes": "64 KiB" }),
        ] {
            check(fine).unwrap();
        }
        for (table, key) in [
            (json!({ "address": "siem.example" }), "address"),
            (json!({ "address": "siem.example:0" }), "address"),
            (json!({ "address": "::1:514" }), "address"),
            (json!({ "address": ":514" }), "address"),
            (json!({ "address": "a b:514" }), "address"),
            (json!({ "address": "a_b!:514" }), "address"),
            (json!({ "transport": "udp" }), "transport"),
            (json!({ "transport": "tcp", "tls": { "ca": "ca.pem" } }), "tls"),
            (json!({ "tls": { "certificate": "c.pem" } }), "tls.key"),
            (json!({ "tls": { "server_name": "not a name" } }), "tls.server_name"),
            (json!({ "hostname": "two words" }), "hostname"),
            (json!({ "hostname": "" }), "hostname"),
            (json!({ "app_name": "x".repeat(49) }), "app_name"),
            (json!({ "facility": "local8" }), "facility"),
            (json!({ "max_record_bytes": "2 KiB" }), "max_record_bytes"),
            (json!({ "commit_interval": "1 ms" }), "commit_interval"),
            (json!({ "timeout": "1 h" }), "timeout"),
        ] {
            let error = check(table.clone()).unwrap_err();
            assert_eq!(error.path, key, "{table}: {error}");
        }
    }
}
