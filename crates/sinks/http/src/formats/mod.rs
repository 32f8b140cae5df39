//! What each kind of receiver understands, and what its answers mean.

mod azure;
mod cloudevents;
mod elasticsearch;
mod otlp;
mod plain;
mod splunk;

use actlog_core::{AuditRecord, ConfigError};
use actlog_http::client::Response;
use async_trait::async_trait;
use url::Url;

use crate::config::{Body, Compression, FormatName, HttpConfig};
use crate::link::{Link, Payload};
use crate::verdict::Verdict;

/// A kind of receiver.
#[async_trait]
pub(crate) trait Format: Send + Sync + 'static {
    /// What stands around and between the records of a request.
    fn frame(&self) -> &Frame;

    /// How a record is written.
    fn shape(&self) -> Shape<'_>;

    /// Comes to terms with the receiver, before anything is delivered.
    async fn greet(&self, _link: &Link) -> Verdict {
        Verdict::Delivered
    }

    /// Sends one request with `count` records, and finds out what became of them.
    async fn send(&self, link: &Link, payload: &Payload, count: usize) -> Exchange;
}

/// A request's answer, where there is one, and what it means by the format's own rules.
pub(crate) struct Exchange {
    pub(crate) answer: Option<Response>,
    pub(crate) verdict: Verdict,
}

impl Exchange {
    /// What the format makes of an answer; a request without an answer speaks for itself.
    pub(crate) fn of(answer: Result<Response, Verdict>, read: impl FnOnce(&Response) -> Verdict) -> Self {
        match answer {
            Ok(answer) => {
                let verdict = read(&answer);
                Self { answer: Some(answer), verdict }
            }
            Err(verdict) => Self { answer: None, verdict },
        }
    }
}

/// How a format writes a record.
pub(crate) enum Shape<'f> {
    /// The body as it is.
    Bare,
    /// The body, within something that is made of the record.
    Around(&'f (dyn Fn(&AuditRecord<'_>, &[u8], &mut Vec<u8>) + Send + Sync)),
    /// The record in a form that has no other body.
    Own(&'f (dyn Fn(&AuditRecord<'_>, &mut Vec<u8>) + Send + Sync)),
}

/// What stands around and between the records of a request.
pub(crate) struct Frame {
    pub(crate) content_type: &'static str,
    pub(crate) begin: Vec<u8>,
    pub(crate) between: &'static [u8],
    pub(crate) end: Vec<u8>,
}

impl Frame {
    /// A JSON array.
    fn array(content_type: &'static str) -> Self {
        Self { content_type, begin: b"[".to_vec(), between: b",", end: b"]".to_vec() }
    }

    /// A line for each record.
    fn lines(content_type: &'static str) -> Self {
        Self { content_type, begin: Vec::new(), between: b"\n", end: b"\n".to_vec() }
    }

    /// Bytes of a request besides those of its records and what stands between them.
    pub(crate) fn overhead(&self) -> usize {
        self.begin.len() + self.end.len()
    }
}

/// What holds for a kind of receiver where the configuration says nothing else.
pub(crate) struct Facts {
    pub(crate) body: Body,
    pub(crate) compression: Compression,
    pub(crate) takes_zstd: bool,
    pub(crate) concurrency: u16,
    pub(crate) batch_bytes: usize,
    /// What a request may have at most, whatever is configured.
    pub(crate) most_bytes: usize,
    pub(crate) max_record_bytes: usize,
    pub(crate) max_field_bytes: usize,
}

impl Facts {
    pub(crate) fn of(format: FormatName) -> Self {
        let general = Self {
            body: Body::Record,
            compression: Compression::None,
            takes_zstd: true,
            concurrency: 1,
            batch_bytes: 1 << 20,
            most_bytes: 64 << 20,
            max_record_bytes: usize::MAX,
            max_field_bytes: usize::MAX,
        };
        match format {
            FormatName::Json | FormatName::Ndjson | FormatName::CloudEvents => general,
            // Splunk Cloud takes 1 MB in a request; Splunk Enterprise what max_content_length of limits.conf says.
            FormatName::SplunkHec => Self {
                takes_zstd: false,
                concurrency: 4,
                batch_bytes: 1_000_000,
                max_record_bytes: 1_000_000,
                ..general
            },
            // http.max_content_length is 100 MB; AWS has 10 MiB for small instances.
            FormatName::Elasticsearch => Self {
                body: Body::Ecs,
                compression: Compression::Gzip,
                takes_zstd: false,
                concurrency: 4,
                batch_bytes: 4 << 20,
                ..general
            },
            FormatName::Otlp => Self { compression: Compression::Gzip, concurrency: 4, ..general },
            // A call takes 1 MB, compressed or not, and a field 64 KB; what is longer is cut off by Azure. No column of
            // a row of 64,000 bytes is longer.
            FormatName::AzureLogs => Self {
                compression: Compression::Gzip,
                takes_zstd: false,
                concurrency: 4,
                batch_bytes: 1_000_000,
                most_bytes: 1_000_000,
                max_record_bytes: 64_000,
                max_field_bytes: 64_000,
                ..general
            },
        }
    }
}

/// The format of a configuration that was found valid.
pub(crate) fn build(config: &HttpConfig) -> Result<Box<dyn Format>, ConfigError> {
    let url = Url::parse(&config.url).map_err(|error| ConfigError::new("url", format!("not a URL: {error}")))?;
    Ok(match config.format {
        FormatName::Json => Box::new(plain::Plain::json(url)),
        FormatName::Ndjson => Box::new(plain::Plain::ndjson(url)),
        FormatName::CloudEvents => {
            Box::new(cloudevents::CloudEvents::new(url, config.cloudevents.clone().unwrap_or_default()))
        }
        FormatName::SplunkHec => Box::new(splunk::Splunk::new(url, config.splunk.clone().unwrap_or_default())),
        FormatName::Elasticsearch => {
            let options = config.elasticsearch.clone().unwrap_or_default();
            Box::new(elasticsearch::Elasticsearch::new(url, &options)?)
        }
        FormatName::Otlp => Box::new(otlp::Otlp::new(url)),
        FormatName::AzureLogs => {
            let azure = config.azure.as_ref().ok_or_else(|| ConfigError::new("azure", "is needed for azure-logs"))?;
            Box::new(azure::Azure::new(url, azure)?)
        }
    })
}

/// The URL, with the format's own path where it has none.
fn with_path(mut url: Url, path: &str) -> Url {
    if url.path() == "/" {
        url.set_path(path);
    }
    url
}

/// The URL of something below it.
fn below(base: &Url, segments: &[&str]) -> Result<Url, ConfigError> {
    let mut url = base.clone();
    let mut path = url.path_segments_mut().map_err(|()| ConfigError::new("url", "has no path"))?;
    path.pop_if_empty().extend(segments);
    drop(path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_gets_the_formats_own() {
        let path = |text: &str| with_path(Url::parse(text).unwrap(), "/v1/logs").path().to_owned();
        assert_eq!(path("https://h"), "/v1/logs");
        assert_eq!(path("https://h/"), "/v1/logs");
        assert_eq!(path("https://h/otlp/v1/logs"), "/otlp/v1/logs");
    }

    #[test]
    fn names_of_the_configuration_stay_one_segment_of_the_path() {
        let url = |base: &str| below(&Url::parse(base).unwrap(), &["a/../b?c", "_bulk"]).unwrap().to_string();
        assert_eq!(url("https://h"), "https://h/a%2F..%2Fb%3Fc/_bulk");
        assert_eq!(url("https://h/prefix/"), "https://h/prefix/a%2F..%2Fb%3Fc/_bulk");
    }
}
