//! How the source is configured.

use std::collections::BTreeMap;
use std::time::Duration;

use actlog_core::{Application, ConfigError, Size, Span};
use actlog_http::client::ClientConfig;
use actlog_http::oauth::Endpoint;
use actlog_office::{CONTENT_TYPES, Cloud};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

/// The service lists nothing that became available longer ago.
const LONGEST_SINCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A position holds a line for each tenant and content type, and journals keep up to 1 MiB of it.
const MAXIMUM_TENANTS: usize = 1000;
/// Records grow on their way; a batch must stay far below what the journal takes at once.
const MAXIMUM_BATCH: Size = Size(2 << 20);

/// Configuration of the `office365` source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Office365Config {
    /// The tenants, each by a name of your own, which metrics and messages use.
    pub tenants: BTreeMap<String, TenantConfig>,
    /// The cloud that the tenants are in.
    #[serde(default)]
    pub cloud: Cloud,
    /// Where the interface is, if not where the cloud has it: `https://manage.example.com`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Which of Entra's token endpoints is asked.
    #[serde(default)]
    pub token_endpoint: Endpoint,
    /// What is subscribed to. `DLP.All` needs the permission `ActivityFeed.ReadDlp`; Dynamics 365 is in `Audit.General`.
    #[serde(default = "default_content_types")]
    pub content_types: Vec<String>,
    /// PublisherIdentifier: the tenant of whoever collects, whose share of requests is used. Each tenant's own id when
    /// left out.
    #[serde(default)]
    pub publisher: Option<Uuid>,
    /// How long to wait between two looks at what is available.
    #[serde(default = "default_poll")]
    pub poll: Span,
    /// How much of what was listed before is listed again, since content can be listed late. What is known is not
    /// fetched again.
    #[serde(default = "default_overlap")]
    pub overlap: Span,
    /// How far back the first start reaches, up to 7 days.
    #[serde(default = "default_since")]
    pub since: Span,
    /// Requests per minute to one tenant, at most. The service's own limit is 2,000 or more.
    #[serde(default = "default_requests_per_minute")]
    pub requests_per_minute: u32,
    /// How many blobs are fetched at the same time.
    #[serde(default = "default_concurrency")]
    pub concurrency: u16,
    /// How much is made durable at once, in bytes of records as they come, up to 2 MiB; a single record at least.
    #[serde(default = "default_batch_size")]
    pub batch_size: Size,
    /// How requests are sent.
    #[serde(default)]
    pub client: ClientConfig,
}

/// A tenant.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// Its id in Entra.
    pub id: Uuid,
    /// The application that is registered for actlog there.
    pub application: Application,
    /// The cloud that it is in, if not the others' one.
    #[serde(default)]
    pub cloud: Option<Cloud>,
}

fn default_content_types() -> Vec<String> {
    CONTENT_TYPES.iter().map(ToString::to_string).collect()
}

fn default_poll() -> Span {
    Span(Duration::from_secs(60))
}

fn default_overlap() -> Span {
    Span(Duration::from_secs(3600))
}

fn default_since() -> Span {
    Span(Duration::from_secs(24 * 3600))
}

fn default_requests_per_minute() -> u32 {
    2000
}

fn default_concurrency() -> u16 {
    8
}

fn default_batch_size() -> Size {
    Size(1 << 20)
}

impl TenantConfig {
    /// The application, with the cloud's own authority where none is configured.
    pub(crate) fn application(&self, cloud: Cloud) -> Application {
        let mut application = self.application.clone();
        if application.authority == Cloud::Commercial.authority() {
            cloud.authority().clone_into(&mut application.authority);
        }
        application
    }
}

impl Office365Config {
    /// The content types as the service writes them.
    pub(crate) fn content_types(&self) -> impl Iterator<Item = &'static str> {
        CONTENT_TYPES.into_iter().filter(|known| self.content_types.iter().any(|wanted| wanted == known))
    }

    /// The cloud of a tenant.
    pub(crate) fn cloud_of(&self, tenant: &TenantConfig) -> Cloud {
        tenant.cloud.unwrap_or(self.cloud)
    }

    /// What is wrong with it, as far as that can be seen without any input or output.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=MAXIMUM_TENANTS).contains(&self.tenants.len()) {
            let message = format!("name between 1 and {MAXIMUM_TENANTS} tenants: tenants.NAME = {{ id = \"…\", … }}");
            return Err(ConfigError::new("tenants", message));
        }
        let mut names = BTreeMap::new();
        for (name, tenant) in &self.tenants {
            let within = |error: ConfigError| error.within(&format!("tenants.{name}"));
            tenant.application.validate().map_err(|error| within(error.within("application")))?;
            if let Some(other) = names.insert(tenant.id, name) {
                return Err(within(ConfigError::new("id", format!("is the id of {other} too"))));
            }
        }
        if let Some(unknown) = self.content_types.iter().find(|wanted| !CONTENT_TYPES.contains(&wanted.as_str())) {
            let message = format!("{unknown:?} is none of {}", CONTENT_TYPES.join(", "));
            return Err(ConfigError::new("content_types", message));
        }
        if self.content_types.is_empty() {
            return Err(ConfigError::new(
                "content_types",
                format!("name at least one of {}", CONTENT_TYPES.join(", ")),
            ));
        }
        if let Some(text) = &self.base_url {
            let is_usable = Url::parse(text)
                .is_ok_and(|url| url.has_host() && matches!(url.path(), "/" | "") && url.query().is_none());
            if !is_usable {
                let message = format!("{text:?} is not a URL of a host alone, such as https://manage.office.com");
                return Err(ConfigError::new("base_url", message));
            }
        }
        for (key, span, allowed) in [
            ("poll", self.poll.0, Duration::from_millis(10)..=Duration::from_secs(6 * 3600)),
            ("overlap", self.overlap.0, Duration::ZERO..=LONGEST_SINCE),
            ("since", self.since.0, Duration::ZERO..=LONGEST_SINCE),
        ] {
            if !allowed.contains(&span) {
                let message = format!("must be between {} and {}", Span(*allowed.start()), Span(*allowed.end()));
                return Err(ConfigError::new(key, message));
            }
        }
        if self.requests_per_minute < 10 {
            return Err(ConfigError::new("requests_per_minute", "must be 10 at least"));
        }
        if !(1..=64).contains(&self.concurrency) {
            return Err(ConfigError::new("concurrency", "must be between 1 and 64"));
        }
        if !(1..=MAXIMUM_BATCH.0).contains(&self.batch_size.0) {
            return Err(ConfigError::new("batch_size", format!("must be between 1 byte and {MAXIMUM_BATCH}")));
        }
        self.client.validate().map_err(|error| error.within("client"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut serde_json::Value)) -> Result<(), ConfigError> {
        let mut table = serde_json::json!({
            "tenants": { "contoso": {
                "id": "11111111-1111-1111-1111-111111111111",
                "application": { "client_id": "22222222-2222-2222-2222-222222222222", "secret": { "env": "S" } }
            } }
        });
        change(&mut table);
        actlog_core::config::deserialize::<Office365Config>(table)?.validate()
    }

    #[test]
    fn what_cannot_work_is_refused_at_its_key() {
        check(|_| ()).unwrap();
        check(|table| table["base_url"] = "http://127.0.0.1:8080".into()).unwrap();
        let other = |table: &mut serde_json::Value| table["tenants"]["other"] = table["tenants"]["contoso"].clone();
        type Change<'a> = &'a dyn Fn(&mut serde_json::Value);
        let cases: [(&str, Change<'_>); 10] = [
            ("tenants", &|table| table["tenants"] = serde_json::json!({})),
            ("tenants.other.id", &other),
            ("tenants.contoso.application", &|table| {
                table["tenants"]["contoso"]["application"]["secret"] = serde_json::Value::Null;
            }),
            ("content_types", &|table| table["content_types"] = serde_json::json!(["Audit.Everything"])),
            ("content_types", &|table| table["content_types"] = serde_json::json!([])),
            ("base_url", &|table| table["base_url"] = "https://manage.office.com/api".into()),
            ("poll", &|table| table["poll"] = "1 ms".into()),
            ("since", &|table| table["since"] = "8 days".into()),
            ("client.timeout", &|table| table["client"] = serde_json::json!({ "timeout": "1 ms" })),
            ("batch_size", &|table| table["batch_size"] = "3 MiB".into()),
        ];
        for (path, change) in cases {
            let error = check(change).unwrap_err();
            assert_eq!(error.path, path, "{error}");
        }
    }

    #[test]
    fn an_application_signs_in_where_its_cloud_does_unless_it_says_where() {
        let authority = |authority: Option<&str>| {
            let mut table = serde_json::json!({
                "id": Uuid::nil(), "application": { "client_id": Uuid::nil(), "secret": { "env": "S" } }
            });
            if let Some(authority) = authority {
                table["application"]["authority"] = authority.into();
            }
            let tenant: TenantConfig = actlog_core::config::deserialize(table).unwrap();
            tenant.application(Cloud::China).authority
        };
        assert_eq!(authority(None), Cloud::China.authority());
        assert_eq!(authority(Some("https://login.example.com")), "https://login.example.com");
    }
}
