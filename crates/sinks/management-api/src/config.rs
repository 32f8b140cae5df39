//! The sink's configuration, and what can be wrong with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use actlog_core::config::{Organizations, within};
use actlog_core::{ConfigError, Size, Span};
use actlog_http::client::ClientConfig;
use actlog_http::{Limits, ProxyHeader, ServerConfig, TlsConfig};
use actlog_office::output::Mode;
use actlog_office::split::MIN_LIMIT;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

/// Largest body that any request of this interface needs: a token request with a certificate's assertion.
pub(crate) const MAXIMUM_BODY: Size = Size(16 << 10);
/// Largest blob. Collectors that take no more than 1 MiB lose the rest of a listing without a word.
const MAXIMUM_BLOB: Size = Size(512 << 10);
/// Longest `public_url`: it is in each entry of a page.
const LONGEST_URL: usize = 1024;
const DAY: Duration = Duration::from_secs(86_400);

/// `[sinks.NAME]` with `type = "management-api"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on, such as `127.0.0.1:8443` or `[::]:443`. The interface and the token endpoints are
    /// on this one listener.
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
    /// Networks that clients may come from; all when left out.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub allow_from: Vec<IpNet>,
    /// Limits of the listener on sizes, times and counts. Bodies of more than 16 KiB are never taken.
    #[serde(default)]
    pub limits: Limits,

    /// The file of registered clients, which `actlog clients` writes. Relative paths are seen from the configuration
    /// file's folder. It is read again when it changes.
    pub clients: PathBuf,
    /// What the URLs in answers begin with, such as `https://feed.example.com`. Left out, they begin with the host that
    /// the client asked, which is right for collectors that can't be told another host than Microsoft's.
    #[serde(default)]
    pub public_url: Option<String>,
    /// The Office 365 tenants whose feeds are served, by names of your own. Left out, those that `[organizations]` name.
    #[serde(default)]
    pub tenants: BTreeMap<String, TenantConfig>,

    /// How long content can be listed and fetched after it became available; 1 hour to 10 years.
    #[serde(default = "default_retention")]
    pub retention: Span,
    /// Most bytes of content on disk. When they are reached the sink takes nothing more until content expires.
    #[serde(default = "default_budget")]
    pub budget: Size,
    /// Largest blob of content, decompressed; 16 to 512 KiB. A single record that came from Office may have up to
    /// 64 KiB all the same.
    #[serde(default = "default_blob_bytes")]
    pub blob_bytes: Size,
    /// How long a record may wait for others until its blob becomes available; 10 ms to 1 h.
    #[serde(default = "default_blob_age")]
    pub blob_age: Span,

    /// Limits on how often clients may ask, as Microsoft's service has them. Left out, there are none.
    #[serde(default)]
    pub throttle: ThrottleConfig,
    /// How long a token is valid; 5 min to 24 h.
    #[serde(default = "default_token_lifetime")]
    pub token_lifetime: Span,
    /// After how long tokens are signed with a new key; at least 1 h, and no less than tokens live.
    #[serde(default = "default_key_rotation")]
    pub key_rotation: Span,
    /// How webhooks of clients are called.
    #[serde(default = "default_webhooks")]
    pub webhooks: ClientConfig,
}

fn default_retention() -> Span {
    Span(7 * DAY)
}

fn default_budget() -> Size {
    Size(4 << 30)
}

fn default_blob_bytes() -> Size {
    MAXIMUM_BLOB
}

fn default_blob_age() -> Span {
    Span(Duration::from_secs(5))
}

fn default_token_lifetime() -> Span {
    Span(Duration::from_secs(3600))
}

fn default_key_rotation() -> Span {
    Span(30 * DAY)
}

fn default_webhooks() -> ClientConfig {
    ClientConfig { timeout: Span(Duration::from_secs(10)), max_response: Size(64 << 10), ..ClientConfig::default() }
}

/// One tenant whose feed is served.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// The tenant's id: the GUID in the paths of the interface, and in tokens.
    pub id: Uuid,
    /// Its domains, such as `contoso.onmicrosoft.com`, which clients may name in place of the id to get a token.
    #[serde(default)]
    pub domains: Vec<String>,
    /// What a Dynamics 365 record looks like: `spec` (Operation is the SDK message) or `observed` (as Office writes it,
    /// with the Operation `CrmDefaultActivity`).
    #[serde(default)]
    pub mode: Mode,
    /// Largest record in bytes; a larger one is divided into several that share a CorrelationId. Office's is 3072.
    #[serde(default = "default_max_record_bytes")]
    pub max_record_bytes: usize,
}

fn default_max_record_bytes() -> usize {
    3072
}

impl TenantConfig {
    /// A tenant with defaults.
    pub fn new(id: Uuid) -> Self {
        Self { id, domains: Vec::new(), mode: Mode::default(), max_record_bytes: default_max_record_bytes() }
    }
}

/// Limits on how often clients may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ThrottleConfig {
    /// Requests in a minute, for each tenant and PublisherIdentifier. Microsoft's baseline is 2000.
    pub requests_per_minute: Option<u32>,
    /// Whether a stopped subscription can be started again only 15 minutes after its last start.
    pub starts: bool,
}

impl Config {
    /// What `SinkPlugin::validate` does.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        self.server().validate()?;
        self.public_base()?;
        let second = Duration::from_secs(1);
        within("retention", self.retention, Span(3600 * second)..=Span(3653 * DAY))?;
        within("budget", self.budget, Size(16 << 20)..=Size(1 << 50))?;
        within("blob_bytes", self.blob_bytes, Size(16 << 10)..=MAXIMUM_BLOB)?;
        within("blob_age", self.blob_age, Span(second / 100)..=Span(3600 * second))?;
        within("token_lifetime", self.token_lifetime, Span(300 * second)..=Span(DAY))?;
        let shortest = self.token_lifetime.max(Span(3600 * second));
        within("key_rotation", self.key_rotation, shortest..=Span(3653 * DAY))?;
        if self.throttle.requests_per_minute == Some(0) {
            let message = "0 would let nobody in; leave it out for no limit";
            return Err(ConfigError::new("throttle.requests_per_minute", message));
        }
        self.webhooks.validate().map_err(|error| error.within("webhooks"))?;
        self.validate_tenants().map_err(|error| error.within("tenants"))
    }

    fn validate_tenants(&self) -> Result<(), ConfigError> {
        let mut ids = BTreeMap::new();
        let mut domains = BTreeMap::new();
        for (name, tenant) in &self.tenants {
            if let Some(other) = ids.insert(tenant.id, name) {
                return Err(ConfigError::new(format!("{name}.id"), format!("is the id of {other} too")));
            }
            for domain in &tenant.domains {
                if let Some(other) = domains.insert(domain.to_ascii_lowercase(), name) {
                    let message = format!("{domain:?} is a domain of {other} too");
                    return Err(ConfigError::new(format!("{name}.domains"), message));
                }
            }
            // A record must fit into a blob.
            let most = usize::try_from(self.blob_bytes.0).unwrap_or(usize::MAX) - 2;
            if !(MIN_LIMIT..=most).contains(&tenant.max_record_bytes) {
                let message = format!("must be between {MIN_LIMIT} and {most} bytes");
                return Err(ConfigError::new(format!("{name}.max_record_bytes"), message));
            }
        }
        Ok(())
    }

    /// The listener.
    pub(crate) fn server(&self) -> ServerConfig {
        let most = self.limits.max_body.min(MAXIMUM_BODY);
        let unpacked = self.limits.max_decompressed_body.min(MAXIMUM_BODY);
        ServerConfig {
            listen: self.listen,
            tls: self.tls.clone(),
            plaintext: self.plaintext,
            trusted_proxies: self.trusted_proxies.clone(),
            proxy_header: self.proxy_header,
            allow_from: self.allow_from.clone(),
            limits: Limits { max_body: most, max_decompressed_body: unpacked, ..self.limits.clone() },
        }
    }

    /// `public_url` without a slash at its end.
    pub(crate) fn public_base(&self) -> Result<Option<String>, ConfigError> {
        let Some(text) = &self.public_url else { return Ok(None) };
        let wrong = |problem: String| ConfigError::new("public_url", problem);
        let url = Url::parse(text).map_err(|error| wrong(format!("not a URL: {error}")))?;
        let is_base = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if text.len() > LONGEST_URL {
            return Err(wrong(format!("is longer than {LONGEST_URL} characters")));
        }
        if !matches!(url.scheme(), "https" | "http") || url.host().is_none() || !is_base || url.password().is_some() {
            return Err(wrong("must be like https://feed.example.com".to_owned()));
        }
        Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// `https` or `http`: how clients see the listener, themselves or through a proxy that ends TLS.
    pub(crate) fn scheme(&self) -> &'static str {
        let is_plain = self.tls.is_none() && !self.plaintext && self.trusted_proxies.is_empty();
        if is_plain { "http" } else { "https" }
    }

    /// Every tenant that is served: the configured ones, and those that only `[organizations]` name, with defaults.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn tenants(&self, organizations: &Organizations) -> Result<Vec<TenantConfig>, ConfigError> {
        let mut tenants: Vec<TenantConfig> = self.tenants.values().cloned().collect();
        for id in organizations.values().filter_map(|organization| organization.tenant) {
            if tenants.iter().all(|tenant| tenant.id != id) {
                tenants.push(TenantConfig::new(id));
            }
        }
        if tenants.is_empty() {
            let message = "whose feed is to be served is not said; add [sinks.NAME.tenants.NAME] with id = \"…\", or \
                           tenant = \"…\" to [organizations.NAME]";
            return Err(ConfigError::new("tenants", message));
        }
        Ok(tenants)
    }
}

#[cfg(test)]
mod tests {
    use actlog_core::config::Organization;
    use serde_json::{Value, json};

    use super::*;

    const TENANT: &str = "11111111-1111-1111-1111-111111111111";

    fn config(keys: Value) -> Result<Config, ConfigError> {
        let mut table = json!({ "listen": "127.0.0.1:8443", "clients": "clients.toml" });
        for (key, value) in keys.as_object().unwrap() {
            table[key] = value.clone();
        }
        let config: Config = actlog_core::config::deserialize(table)?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn what_cannot_work_is_refused_at_its_key() {
        config(json!({})).unwrap();
        let tenant = |keys: Value| {
            let mut tenant = json!({ "id": TENANT });
            for (key, value) in keys.as_object().unwrap() {
                tenant[key] = value.clone();
            }
            tenant
        };
        for (keys, key) in [
            (json!({ "listen": "0.0.0.0:8443" }), "listen"),
            (json!({ "limits": { "max_connections": 0 } }), "limits.max_connections"),
            (json!({ "public_url": "feed.example.com" }), "public_url"),
            (json!({ "public_url": "ftp://feed.example.com" }), "public_url"),
            (json!({ "public_url": "https://user:canary@feed.example.com" }), "public_url"),
            (json!({ "public_url": "https://feed.example.com?x" }), "public_url"),
            (json!({ "retention": "1 s" }), "retention"),
            (json!({ "budget": "1 MiB" }), "budget"),
            (json!({ "blob_bytes": "1 MiB" }), "blob_bytes"),
            (json!({ "blob_age": "2 h" }), "blob_age"),
            (json!({ "token_lifetime": "1 s" }), "token_lifetime"),
            (json!({ "token_lifetime": "24 h", "key_rotation": "2 h" }), "key_rotation"),
            (json!({ "throttle": { "requests_per_minute": 0 } }), "throttle.requests_per_minute"),
            (json!({ "webhooks": { "timeout": "1 ms" } }), "webhooks.timeout"),
            (json!({ "tenants": { "a": tenant(json!({})), "b": tenant(json!({})) } }), "tenants.b.id"),
            (json!({ "tenants": { "a": tenant(json!({ "domains": ["x.com", "X.com"] })) } }), "tenants.a.domains"),
            (json!({ "tenants": { "a": tenant(json!({ "max_record_bytes": 100 })) } }), "tenants.a.max_record_bytes"),
            (
                json!({ "blob_bytes": "16 KiB", "tenants": { "a": tenant(json!({ "max_record_bytes": 20_000 })) } }),
                "tenants.a.max_record_bytes",
            ),
        ] {
            let error = config(keys).unwrap_err();
            assert!(error.path == key && !error.message.contains("canary"), "{error}");
        }
    }

    #[test]
    fn tenants_are_the_configured_ones_and_those_of_the_organizations() {
        let none = config(json!({})).unwrap();
        assert_eq!(none.tenants(&Organizations::new()).unwrap_err().path, "tenants");
        let id = |number: u128| Some(Uuid::from_u128(number));
        let organization = |tenant| Organization { tenant, ..Organization::default() };
        let organizations = Organizations::from([
            ("a".to_owned(), organization(TENANT.parse().ok())),
            ("b".to_owned(), organization(id(2))),
            ("c".to_owned(), organization(id(2))),
            ("d".to_owned(), organization(None)),
        ]);
        let one = config(json!({ "tenants": { "x": { "id": TENANT, "max_record_bytes": 4096 } } })).unwrap();
        let tenants = one.tenants(&organizations).unwrap();
        let sizes: Vec<_> = tenants.iter().map(|tenant| (tenant.id.to_string(), tenant.max_record_bytes)).collect();
        assert_eq!(sizes, [(TENANT.to_owned(), 4096), (Uuid::from_u128(2).to_string(), 3072)]);
    }

    #[test]
    fn urls_are_https_unless_nothing_but_this_machine_can_be_the_client() {
        assert_eq!(config(json!({})).unwrap().scheme(), "http");
        assert_eq!(config(json!({ "plaintext": true })).unwrap().scheme(), "https");
        assert_eq!(config(json!({ "trusted_proxies": ["127.0.0.1/32"] })).unwrap().scheme(), "https");
        let base = config(json!({ "public_url": "https://feed.example.com/" })).unwrap().public_base();
        assert_eq!(base.unwrap().as_deref(), Some("https://feed.example.com"));
    }

    #[test]
    fn no_body_is_taken_that_this_interface_does_not_need() {
        let server = config(json!({ "limits": { "max_connections": 7 } })).unwrap().server();
        assert_eq!((server.limits.max_body, server.limits.max_connections), (MAXIMUM_BODY, 7));
    }
}
