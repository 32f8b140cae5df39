//! How a client is configured.

use std::path::PathBuf;
use std::time::Duration;

use actlog_core::{ConfigError, SecretReference, Size, Span};
use hyper_util::client::proxy::matcher::Matcher;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// How requests are sent to other systems.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// PEM file with certificates of authorities that are trusted besides the operating system's.
    pub ca: Option<PathBuf>,
    /// PEM file with the certificate, and its chain, that this client shows to servers that ask for one.
    pub certificate: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key: Option<SecretReference>,
    /// URL of an HTTP proxy that all requests go through. Left out, the environment's `HTTPS_PROXY` (or `ALL_PROXY`)
    /// counts, with the exceptions of `NO_PROXY`; there the URL may hold a user name and password.
    pub proxy: Option<String>,
    /// Lets requests go to private, loopback and link-local addresses, and to this machine without TLS.
    pub allow_private: bool,
    /// How long a request may take, from its first byte to the answer's last.
    pub timeout: Span,
    /// Largest answer that is taken, decompressed.
    pub max_response: Size,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            ca: None,
            certificate: None,
            key: None,
            proxy: None,
            allow_private: false,
            timeout: Span(Duration::from_secs(60)),
            max_response: Size(64 << 20),
        }
    }
}

impl ClientConfig {
    /// Looks for what can't work, without any input or output.
    ///
    /// # Errors
    /// What is wrong and what to do, at its key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match (&self.certificate, &self.key) {
            (Some(_), None) => return Err(ConfigError::new("key", "the certificate's private key is missing")),
            (None, Some(_)) => return Err(ConfigError::new("certificate", "the certificate of the key is missing")),
            _ => {}
        }
        if let Some(proxy) = &self.proxy {
            let url = proxy_url(proxy).map_err(|problem| ConfigError::new("proxy", problem))?;
            if !url.username().is_empty() || url.password().is_some() {
                let message = "a password has no place in a configuration; leave proxy out, and set the environment \
                               variable HTTPS_PROXY to the URL with user name and password";
                return Err(ConfigError::new("proxy", message));
            }
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.timeout.0) {
            return Err(ConfigError::new("timeout", "must be between 1 s and 1 hour"));
        }
        if !(1 << 10..=1 << 30).contains(&self.max_response.0) {
            return Err(ConfigError::new("max_response", "must be between 1 KiB and 1 GiB"));
        }
        Ok(())
    }
}

/// A proxy, and the requests that it is for.
pub(super) struct ProxyRule {
    pub(super) proxy: reqwest::Proxy,
    pub(super) matcher: Matcher,
}

impl ProxyRule {
    /// The configured proxy, for everything; else the environment's, with its exceptions.
    pub(super) fn find(
        config: &ClientConfig,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, ConfigError> {
        let first = |names: [&'static str; 4]| {
            names.into_iter().find_map(|name| Some((name, environment(name)?))).filter(|(_, value)| !value.is_empty())
        };
        let (name, proxy, exceptions) = match &config.proxy {
            Some(proxy) => ("", proxy.clone(), String::new()),
            None => {
                let Some((name, proxy)) = first(["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]) else {
                    return Ok(None);
                };
                (name, proxy, environment("NO_PROXY").or_else(|| environment("no_proxy")).unwrap_or_default())
            }
        };
        // A proxy that can't be used must not make requests go directly, as if there were none.
        let refuse = |problem: String| match name {
            "" => ConfigError::new("proxy", problem),
            name => ConfigError::new("", format!("the environment variable {name}: {problem}")),
        };
        let url = proxy_url(&proxy).map_err(refuse)?;
        let matcher = Matcher::builder().https(url.as_str().to_owned()).no(exceptions).build();
        let proxy = reqwest::Proxy::all(url).map_err(|error| refuse(super::error::cause(&error)))?;
        Ok(Some(Self { proxy, matcher }))
    }
}

/// Reads a proxy's URL; one without a scheme is `http`, as everywhere. The text of an error doesn't hold it.
fn proxy_url(text: &str) -> Result<Url, String> {
    let absolute = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&absolute).map_err(|error| format!("not the URL of a proxy: {error}"))?;
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err("not the URL of an HTTP proxy; write for example http://proxy.example:3128".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(table: serde_json::Value) -> Result<(), ConfigError> {
        actlog_core::config::deserialize::<ClientConfig>(table)?.validate()
    }

    #[test]
    fn what_cannot_work_is_refused_at_its_key() {
        check(serde_json::json!({})).unwrap();
        check(serde_json::json!({ "proxy": "proxy.example:3128", "timeout": "5 min" })).unwrap();
        for (table, key) in [
            (serde_json::json!({ "certificate": "c.pem" }), "key"),
            (serde_json::json!({ "key": { "env": "K" } }), "certificate"),
            (serde_json::json!({ "proxy": "socks5://proxy.example" }), "proxy"),
            (serde_json::json!({ "proxy": "http://user:canary@proxy.example" }), "proxy"),
            (serde_json::json!({ "timeout": "1 ms" }), "timeout"),
            (serde_json::json!({ "max_response": "10 GiB" }), "max_response"),
        ] {
            let error = check(table).unwrap_err();
            assert!(error.path == key && !error.message.contains("canary"), "{error}");
        }
    }

    /// Which of two hosts go through the proxy that the configuration and the environment give.
    fn proxied(proxy: Option<&str>, environment: &[(&str, &str)]) -> Result<[bool; 2], ConfigError> {
        let config = ClientConfig { proxy: proxy.map(str::to_owned), ..ClientConfig::default() };
        let value = |name: &str| Some(environment.iter().find(|pair| pair.0 == name)?.1.to_owned());
        let rule = ProxyRule::find(&config, value)?;
        Ok(["https://inside.example/", "https://outside.example/"]
            .map(|url| rule.as_ref().is_some_and(|rule| rule.matcher.intercept(&url.parse().unwrap()).is_some())))
    }

    #[test]
    fn the_environment_gives_a_proxy_and_its_exceptions_unless_one_is_configured() {
        let no = ("NO_PROXY", "inside.example");
        assert_eq!(proxied(None, &[]).unwrap(), [false, false]);
        assert_eq!(proxied(None, &[no]).unwrap(), [false, false]);
        assert_eq!(proxied(None, &[("HTTPS_PROXY", "p:1"), no]).unwrap(), [false, true]);
        assert_eq!(proxied(None, &[("all_proxy", "http://u:p@p:1")]).unwrap(), [true, true]);
        assert_eq!(proxied(None, &[("HTTPS_PROXY", ""), ("ALL_PROXY", "p:1")]).unwrap(), [false, false]);
        assert_eq!(proxied(Some("http://p:1"), &[("HTTPS_PROXY", "q:1"), no]).unwrap(), [true, true]);
    }

    #[test]
    fn a_proxy_of_the_environment_that_cannot_be_used_is_an_error_and_not_a_direct_connection() {
        let error = proxied(None, &[("HTTPS_PROXY", "socks5://user:canary@p")]).unwrap_err();
        assert!(error.message.contains("HTTPS_PROXY") && !error.message.contains("canary"), "{error}");
        assert!(proxied(None, &[("HTTPS_PROXY", "http://")]).is_err());
    }
}
