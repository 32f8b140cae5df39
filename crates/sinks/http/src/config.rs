//! The sink's configuration, and what can be wrong with it.

use std::collections::BTreeMap;
use std::time::Duration;

use actlog_core::config::{only_for, within};
use actlog_core::{Application, ConfigError, SecretReference, Size, Span};
use actlog_http::client::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::formats::Facts;
use crate::value::Value;

/// What `batch.count` may be at most.
pub(crate) const MAXIMUM_COUNT: u32 = 100_000;

/// `[sinks.NAME]` with `type = "http"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where the records go, such as `https://hooks.example.com/audit`. A URL without a path gets the format's own:
    /// `/services/collector/event` for `splunk-hec`, `/v1/logs` for `otlp`. For `elasticsearch` it is the cluster's, for
    /// `azure-logs` the data collection endpoint's.
    pub url: String,
    /// What the receiver understands: `json` (an array per request), `ndjson` (a line per record), `cloudevents`
    /// (batches), `splunk-hec`, `elasticsearch` (also OpenSearch), `otlp` (logs over HTTP, JSON), `azure-logs` (Logs
    /// Ingestion API).
    #[serde(default)]
    pub format: FormatName,
    /// The shape of a record inside of the format: `record` (as it is stored), `ecs` (Elastic Common Schema), `ocsf`
    /// (Open Cybersecurity Schema Framework). Left out: `ecs` for `elasticsearch`, else `record`. `azure-logs` has a
    /// shape of its own.
    #[serde(default)]
    pub body: Option<Body>,
    /// Headers that each request gets: `{ x-tenant = "contoso", x-key = { env = "HOOK_KEY" } }`.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
    /// Parameters that each URL gets, where the receiver has its key there: `{ sig = { file = "signature" } }`.
    #[serde(default)]
    pub query: BTreeMap<String, Value>,
    /// The `Authorization` header: one of `bearer`, `basic`, `splunk`, `api_key`, `oauth2`, `entra`. Other headers that
    /// hold a key belong to `headers`.
    #[serde(default)]
    pub auth: Option<Auth>,
    /// How bodies are compressed: `none`, `gzip`, or `zstd` (not for `splunk-hec`, `elasticsearch`, `azure-logs`). Left
    /// out: `gzip` for `elasticsearch`, `otlp` and `azure-logs`, else `none`.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// How much goes into one request.
    #[serde(default)]
    pub batch: Batch,
    /// How many requests are on their way at once, 1 to 64. With 1, records arrive in the journal's order. Left out: 1
    /// for `json`, `ndjson` and `cloudevents`, else 4.
    #[serde(default)]
    pub concurrency: Option<u16>,
    /// Largest record that is sent, in bytes of the shape that is sent; larger ones are divided into parts. At least
    /// 2 KiB. Left out: 64000 bytes for `azure-logs`, 900000 for `splunk-hec`, else no limit.
    #[serde(default)]
    pub max_record_bytes: Option<Size>,
    /// Longest text in a record, in bytes; records with longer ones are divided into parts. At least 1 KiB. Left out:
    /// 64000 bytes for `azure-logs`, else no limit.
    #[serde(default)]
    pub max_field_bytes: Option<Size>,
    /// What is done about an answer's status, where it is not what the format's own rules say.
    #[serde(default)]
    pub status: StatusTable,
    /// `cloudevents` only: the agreement with the receiver.
    #[serde(default)]
    pub cloudevents: Option<CloudEvents>,
    /// `splunk-hec` only: what events are filed under, and acknowledgement.
    #[serde(default)]
    pub splunk: Option<Splunk>,
    /// `elasticsearch` only: where documents go.
    #[serde(default)]
    pub elasticsearch: Option<Elasticsearch>,
    /// `azure-logs` only, and needed there: the data collection rule.
    #[serde(default)]
    pub azure: Option<Azure>,
    /// How requests are sent.
    #[serde(default)]
    pub client: ClientConfig,
}

/// What the receiver understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FormatName {
    /// An array of records.
    #[default]
    Json,
    /// Records, a line each.
    Ndjson,
    /// Batches of CloudEvents 1.0.
    #[serde(rename = "cloudevents")]
    CloudEvents,
    /// Splunk's HTTP Event Collector.
    SplunkHec,
    /// The `_bulk` interface of Elasticsearch and OpenSearch.
    Elasticsearch,
    /// OpenTelemetry logs over HTTP, as JSON.
    Otlp,
    /// The Logs Ingestion API of Azure Monitor.
    AzureLogs,
}

/// The shape of a record inside of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// As it is stored.
    Record,
    /// Elastic Common Schema.
    Ecs,
    /// Open Cybersecurity Schema Framework.
    Ocsf,
}

/// What the `Authorization` header holds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// `Bearer`, and a token: `{ bearer = { env = "TOKEN" } }`.
    Bearer(SecretReference),
    /// `Splunk`, and a token of the HTTP Event Collector.
    Splunk(SecretReference),
    /// `ApiKey`, and a key of Elasticsearch in its encoded form.
    ApiKey(SecretReference),
    /// A user name and a password.
    Basic(Basic),
    /// A token that an authorization server gives for client credentials.
    #[serde(rename = "oauth2")]
    OAuth2(OAuth2),
    /// A token of Entra for an application.
    Entra(Entra),
}

/// A user name and a password.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: SecretReference,
}

/// The client credentials grant at any authorization server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    /// URL of the token endpoint.
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub secret: SecretReference,
    /// The scopes that are asked for, with spaces between them.
    #[serde(default)]
    pub scope: Option<String>,
}

/// The client credentials grant at Entra.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entra {
    /// The tenant's id, or one of its domains.
    pub tenant: String,
    /// The application.
    pub application: Application,
    /// What the token is for. Left out with `azure-logs`: `https://monitor.azure.com`; national clouds have their own.
    #[serde(default)]
    pub resource: Option<String>,
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// How much goes into one request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// How many records at most, up to 100000.
    pub count: u32,
    /// How many bytes at most, before compression, 1 KiB to 64 MiB; a single record at least. Left out: 1 MiB.
    pub bytes: Option<Size>,
    /// How long a record waits for others at most, up to 5 min.
    pub age: Span,
}

impl Default for Batch {
    fn default() -> Self {
        Self { count: 1000, bytes: None, age: Span(Duration::from_secs(1)) }
    }
}

/// Statuses, and what is done about them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StatusTable {
    /// The request is sent again, after a pause.
    pub retry: Vec<u16>,
    /// The receiver will never take it: the records become dead letters, after it was found out which of them it is.
    pub reject: Vec<u16>,
    /// Nothing can be delivered until somebody changes something: the sink fails, and begins anew after a pause.
    pub fatal: Vec<u16>,
}

/// `cloudevents`: the agreement with the receiver.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CloudEvents {
    /// Whether the receiver is asked for its permission first, as "HTTP 1.1 Web Hooks for Event Delivery" has it.
    pub handshake: bool,
    /// The name that this sender gives itself there: a DNS name. Left out: `actlog`.
    pub origin: Option<String>,
}

/// `splunk-hec`: what events are filed under, and acknowledgement.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Splunk {
    /// The events' host. Left out: the record's instance.
    pub host: Option<String>,
    /// The events' source. Left out: the token's.
    pub source: Option<String>,
    /// The events' source type. Left out: the token's.
    pub sourcetype: Option<String>,
    /// The events' index. Left out: the token's.
    pub index: Option<String>,
    /// Whether a record counts as delivered only when Splunk has acknowledged that it is indexed: `"auto"` (where the
    /// token has acknowledgement), `true`, `false`.
    pub ack: Ack,
    /// How long an acknowledgement may take, 1 s to 1 h; then the events are sent again. 2 min when left out.
    pub ack_timeout: Option<Span>,
}

/// Whether acknowledgements are waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "AckValue")]
#[schemars(with = "AckValue")]
pub enum Ack {
    /// Where the token has them.
    #[default]
    Auto,
    /// Always; a token without them is an error.
    Required,
    /// Never.
    Off,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum AckValue {
    Switch(bool),
    Word(String),
}

impl TryFrom<AckValue> for Ack {
    type Error = &'static str;

    fn try_from(value: AckValue) -> Result<Self, Self::Error> {
        match value {
            AckValue::Switch(true) => Ok(Self::Required),
            AckValue::Switch(false) => Ok(Self::Off),
            AckValue::Word(word) if word == "auto" => Ok(Self::Auto),
            AckValue::Word(_) => Err("must be \"auto\", true or false"),
        }
    }
}

/// `elasticsearch`: where documents go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Elasticsearch {
    /// The data stream's dataset.
    pub dataset: String,
    /// The data stream's namespace.
    pub namespace: String,
    /// The data stream or index, if not `logs-<dataset>-<namespace>`.
    pub index: Option<String>,
}

impl Default for Elasticsearch {
    fn default() -> Self {
        Self { dataset: "actlog.audit".to_owned(), namespace: "default".to_owned(), index: None }
    }
}

/// `azure-logs`: the data collection rule.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Azure {
    /// The rule's immutable id: `dcr-…`.
    pub rule: String,
    /// The stream in that rule: `Custom-…`.
    pub stream: String,
}

impl HttpConfig {
    /// What `SinkPlugin::validate` does.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let facts = Facts::of(self.format);
        let url = Url::parse(&self.url).map_err(|error| ConfigError::new("url", format!("not a URL: {error}")))?;
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
            return Err(ConfigError::new("url", "must begin with https:// and name a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let message = "user name and password have no place in a URL; write auth = { basic = { … } }";
            return Err(ConfigError::new("url", message));
        }
        let name = self.format;
        only_for(self.cloudevents.is_some(), name == FormatName::CloudEvents, "cloudevents", "cloudevents")?;
        only_for(self.splunk.is_some(), name == FormatName::SplunkHec, "splunk", "splunk-hec")?;
        only_for(self.elasticsearch.is_some(), name == FormatName::Elasticsearch, "elasticsearch", "elasticsearch")?;
        only_for(self.azure.is_some(), name == FormatName::AzureLogs, "azure", "azure-logs")?;
        if name == FormatName::AzureLogs {
            if self.azure.is_none() {
                return Err(ConfigError::new("azure", "azure-logs needs { rule = \"dcr-…\", stream = \"Custom-…\" }"));
            }
            if self.body.is_some() {
                return Err(ConfigError::new("body", "azure-logs has a shape of its own; leave it out"));
            }
        }
        if self.compression == Some(Compression::Zstd) && !facts.takes_zstd {
            return Err(ConfigError::new("compression", "this receiver takes gzip or none"));
        }
        self.validate_headers()?;
        within("batch.count", self.batch.count, 1..=MAXIMUM_COUNT)?;
        within("batch.bytes", Size(self.batch_bytes() as u64), Size(1 << 10)..=Size(facts.most_bytes as u64))?;
        within("batch.age", self.batch.age, Span::default()..=Span(Duration::from_secs(300)))?;
        within("concurrency", self.concurrency(), 1..=64)?;
        let smallest_record = Size(actlog_office::split::MIN_LIMIT as u64);
        for (key, limit, least) in [
            ("max_record_bytes", self.max_record_bytes, smallest_record),
            ("max_field_bytes", self.max_field_bytes, Size(1 << 10)),
        ] {
            if let Some(limit) = limit {
                within(key, limit, least..=Size(1 << 30))?;
            }
        }
        let is_name =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        let origin = self.cloudevents.as_ref().and_then(|options| options.origin.as_deref());
        if origin.is_some_and(|origin| !is_name(origin)) {
            return Err(ConfigError::new("cloudevents.origin", "is not a DNS name, such as actlog.example.com"));
        }
        if let Some(timeout) = self.splunk.as_ref().and_then(|splunk| splunk.ack_timeout) {
            let (second, hour) = (Span(Duration::from_secs(1)), Span(Duration::from_secs(3600)));
            within("splunk.ack_timeout", timeout, second..=hour)?;
        }
        self.validate_auth()?;
        self.status.validate()?;
        self.client.validate().map_err(|error| error.within("client"))
    }

    fn validate_headers(&self) -> Result<(), ConfigError> {
        for name in self.headers.keys() {
            let at = |message: &str| Err(ConfigError::new(format!("headers.{name}"), message));
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
                return at("can't be the name of a header");
            }
            if self.auth.is_some() && name.eq_ignore_ascii_case("authorization") {
                return at("is what auth is for; leave one of the two out");
            }
        }
        Ok(())
    }

    fn validate_auth(&self) -> Result<(), ConfigError> {
        match &self.auth {
            Some(Auth::OAuth2(oauth2)) if Url::parse(&oauth2.token_url).is_err() => {
                Err(ConfigError::new("auth.oauth2.token_url", "not a URL"))
            }
            Some(Auth::Entra(entra)) => {
                if entra.resource.is_none() && self.format != FormatName::AzureLogs {
                    return Err(ConfigError::new("auth.entra.resource", "say what the token is for: a URL"));
                }
                entra.application.validate().map_err(|error| error.within("auth.entra.application"))
            }
            Some(Auth::Basic(basic)) if basic.user.contains(':') => {
                Err(ConfigError::new("auth.basic.user", "a user name can't hold a colon"))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of one request, before compression.
    pub(crate) fn batch_bytes(&self) -> usize {
        let own = Facts::of(self.format).batch_bytes;
        self.batch.bytes.map_or(own, |Size(bytes)| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// How bodies are compressed.
    pub(crate) fn compression(&self) -> Compression {
        self.compression.unwrap_or(Facts::of(self.format).compression)
    }

    /// Requests on their way at once.
    pub(crate) fn concurrency(&self) -> u16 {
        self.concurrency.unwrap_or(Facts::of(self.format).concurrency)
    }
}

impl StatusTable {
    fn validate(&self) -> Result<(), ConfigError> {
        let mut seen = BTreeMap::new();
        for (list, statuses) in [("retry", &self.retry), ("reject", &self.reject), ("fatal", &self.fatal)] {
            for (place, status) in statuses.iter().enumerate() {
                let at = |message: String| Err(ConfigError::new(format!("status.{list}[{place}]"), message));
                if !(300..=599).contains(status) {
                    return at(format!("{status} is not a status that a refusal can have: 300 to 599"));
                }
                if let Some(other) = seen.insert(status, list) {
                    return at(format!("{status} is in status.{other} already"));
                }
            }
        }
        Ok(())
    }
}
