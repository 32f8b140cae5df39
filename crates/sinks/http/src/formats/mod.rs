//! What each kind of receiver understands, and what its answers mean.

mod azure;
mod cloudevents;
mod elasticsearch;
mod otlp;
mod plain;
mod splunk;

use actlog_core::{AuditRecord, ConfigError};
use actlog_http::client::{HeaderMap, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use url::Url;

use crate::config::{Body, Compression, FormatName, HttpConfig};
use crate::link::{Link, Payload};
use crate::verdict::{Answer, Verdict, standard};

/// A kind of receiver.
#[async_trait]
pub(crate) trait Format: Send + Sync + 'static {
    /// Where records are posted.
    fn url(&self) -> &Url;

    /// What stands around and between the records of a request.
    fn frame(&self) -> &Frame;

    /// How a record is written.
    fn shape(&self) -> Shape<'_>;

    /// What an answer to a request with `count` records means.
    fn read(&self, answer: &Answer, _count: usize) -> Verdict {
        if answer.status.is_success() { Verdict::Delivered } else { standard(answer) }
    }

    /// Comes to terms with the receiver, before anything is delivered.
    async fn greet(&self, _link: &Link) -> Verdict {
        Verdict::Delivered
    }

    /// Sends a request with `count` records, and finds out what became of them. Where there was an answer, it comes
    /// with that.
    async fn send(&self, link: &Link, payload: &Payload, count: usize) -> (Option<Answer>, Verdict) {
        match link.post(self.url(), payload, &[]).await {
            Ok(answer) => {
                let verdict = self.read(&answer, count);
                (Some(answer), verdict)
            }
            Err(verdict) => (None, verdict),
        }
    }
}

/// How a format writes a record.
pub(crate) enum Shape<'f> {
    /// The body as it is.
    Bare,
    /// The body, within something that is made of the record.
    Around(&'f WriteAround),
    /// The record in a form that has no other body.
    Own(&'f WriteOwn),
}

/// Appends a record around its body.
pub(crate) type WriteAround = dyn Fn(&AuditRecord<'_>, &[u8], &mut Vec<u8>) + Send + Sync;
/// Appends a record.
pub(crate) type WriteOwn = dyn Fn(&AuditRecord<'_>, &mut Vec<u8>) + Send + Sync;

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
            // Splunk Cloud takes 1 MB in a request; Splunk Enterprise what max_content_length of limits.conf says. A record
            // stays a little below, so that one fits whatever is around it.
            FormatName::SplunkHec => {
                Self { takes_zstd: false, concurrency: 4, batch_bytes: 1_000_000, max_record_bytes: 900_000, ..general }
            }
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

/// What an answer of any bytes means to the format of a configuration: the places of records that it names, of `count`
/// that were sent. None where it speaks of no record, or the configuration has no format. For fuzzing.
pub(crate) fn places(config: &HttpConfig, status: u16, body: &[u8], count: usize) -> Option<Vec<usize>> {
    let format = build(config).ok()?;
    let status = StatusCode::from_u16(status).ok()?;
    let body = Bytes::copy_from_slice(body);
    let answer = Answer { status, headers: HeaderMap::new(), body, retry_after: None };
    match format.read(&answer, count) {
        Verdict::Partly { refused, mut again, .. } => {
            again.extend(refused.into_iter().map(|(place, _)| place));
            Some(again)
        }
        Verdict::Refused { suspect, .. } => suspect.map(|place| vec![place]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn config(format: &str) -> HttpConfig {
        let azure = (format == "azure-logs").then(|| json!({ "rule": "dcr-1", "stream": "Custom-A" }));
        let table = json!({ "url": "https://h.example/", "format": format, "azure": azure });
        actlog_core::config::deserialize(table).unwrap()
    }

    fn read(format: &str, status: u16, body: &str, count: usize) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        let body = Bytes::copy_from_slice(body.as_bytes());
        let answer = Answer { status, headers: HeaderMap::new(), body, retry_after: None };
        build(&config(format)).unwrap().read(&answer, count)
    }

    const FORMATS: [&str; 7] = ["json", "ndjson", "cloudevents", "splunk-hec", "elasticsearch", "otlp", "azure-logs"];

    /// What is nearly an answer.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            "[{}\\[\\]:,\"]",
            "-?[0-9]{1,21}",
            "\"(code|ackId|text|invalid-event-number|errors|items|create|index|status|error|type|reason)\"",
            "\"(partialSuccess|rejectedLogRecords|errorMessage|message|[a-z\u{0}-\u{20}é]{0,9})\"",
            "true|false|null",
        ];
        prop_oneof![vec(any::<u8>(), 0..200), vec(word, 0..40).prop_map(|words| words.concat().into_bytes())]
    }

    proptest! {
        #[test]
        fn no_answer_makes_a_format_panic_or_name_a_record_that_was_not_sent(
            body in nearly(), status in 200_u16..600, count in 1_usize..50,
        ) {
            for format in FORMATS {
                for place in places(&config(format), status, &body, count).unwrap_or_default() {
                    prop_assert!(place < count, "{format}: {place} of {count}");
                }
            }
        }

        #[test]
        fn every_item_of_a_bulk_answer_is_there_or_refused_or_sent_again(
            statuses in vec(prop_oneof![
                Just(200_u16), Just(201), Just(409), Just(400), Just(413), Just(429), Just(500), Just(503)
            ], 1..40),
        ) {
            let item = |status: &u16| match status {
                200 | 201 => json!({ "create": { "status": status } }),
                _ => json!({ "create": { "status": status, "error": { "type": "t", "reason": "r\n" } } }),
            };
            let answer = json!({ "errors": true, "items": statuses.iter().map(item).collect::<Vec<_>>() });
            let verdict = read("elasticsearch", 200, &answer.to_string(), statuses.len());
            let Verdict::Partly { refused, again, .. } = verdict else { panic!("{verdict:?}") };
            let with = |wanted: &[u16]| {
                let all = statuses.iter().enumerate().filter(|(_, status)| wanted.contains(status));
                all.map(|(place, _)| place).collect::<Vec<_>>()
            };
            prop_assert_eq!(refused.into_iter().map(|(place, _)| place).collect::<Vec<_>>(), with(&[400, 413]));
            prop_assert_eq!(again, with(&[429, 500, 503]));
        }
    }

    #[test]
    fn a_bulk_answer_without_errors_is_a_yes_and_one_that_lacks_items_is_none() {
        assert_eq!(read("elasticsearch", 200, r#"{"took":1,"errors":false,"items":[]}"#, 3), Verdict::Delivered);
        for (body, count) in [
            (r#"{"errors":true,"items":[{"create":{"status":400}}]}"#.to_owned(), 2),
            (r#"{"errors":true}"#.to_owned(), 1),
            // Far more items than any request has.
            (
                format!(
                    r#"{{"errors":true,"items":[{}{{"create":{{"status":1}}}}]}}"#,
                    r#"{"create":{"status":1}},"#.repeat(100_000)
                ),
                1,
            ),
        ] {
            let verdict = read("elasticsearch", 200, &body, count);
            assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
        }
    }

    #[test]
    fn a_refusal_without_words_is_a_refusal() {
        let item = r#"{"create":{"status":500,"error":{"type":"null_pointer_exception","reason":null}}}"#;
        let verdict = read("elasticsearch", 200, &format!(r#"{{"errors":true,"items":[{item}]}}"#), 1);
        assert!(matches!(&verdict, Verdict::Partly { again, .. } if again == &[0]), "{verdict:?}");
        let partial = r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":null}}"#;
        let verdict = read("otlp", 200, partial, 2);
        assert!(matches!(&verdict, Verdict::Partly { refused, .. } if refused.len() == 2), "{verdict:?}");
    }

    #[test]
    fn an_item_that_would_be_refused_with_every_other_one_stops_the_sink() {
        for status in [401, 403, 404] {
            let body =
                json!({ "errors": true, "items": [{ "create": { "status": status, "error": { "type": "t" } } }] });
            let verdict = read("elasticsearch", 200, &body.to_string(), 1);
            assert!(matches!(verdict, Verdict::Fatal(_)), "{verdict:?}");
        }
        let full = json!({ "create": { "status": 403, "error": { "type": "cluster_block_exception" } } });
        let body = json!({ "errors": true, "items": [full] }).to_string();
        let verdict = read("elasticsearch", 200, &body, 1);
        assert!(matches!(&verdict, Verdict::Partly { again, .. } if again == &[0]), "{verdict:?}");
    }

    #[test]
    fn another_actlog_names_what_it_does_not_take_and_no_other_answer_is_taken_for_that() {
        let refused = r#"{"accepted":2,"rejected":[{"line":2,"reason":"no record"},{"line":9,"reason":"x"}]}"#;
        let verdict = read("ndjson", 200, refused, 3);
        assert!(matches!(&verdict, Verdict::Partly { refused, .. } if refused.len() == 1 && refused[0].0 == 1));
        for yes in [r#"{"accepted":3,"rejected":[]}"#, r#"{"rejected":[{"line":1,"reason":"x"}]}"#, "ok", ""] {
            assert_eq!(read("json", 200, yes, 3), Verdict::Delivered, "{yes}");
        }
        let more = read("json", 200, r#"{"accepted":0,"rejected":[{"line":1,"reason":"x"}],"more_rejected":2}"#, 3);
        assert!(matches!(more, Verdict::Refused { .. }), "{more:?}");
    }

    #[test]
    fn the_collectors_codes_say_what_becomes_of_events() {
        let answer = |status, code: u32, more: &str| {
            read("splunk-hec", status, &format!(r#"{{"text":"t","code":{code}{more}}}"#), 5)
        };
        assert_eq!(answer(200, 0, ""), Verdict::Delivered);
        for (status, code) in [(403, 1), (401, 2), (401, 3), (403, 4), (400, 7), (400, 10), (400, 11)] {
            assert!(matches!(answer(status, code, ""), Verdict::Fatal(_)), "{code}");
        }
        for (status, code) in [(500, 8), (503, 9), (503, 18), (503, 23), (429, 26), (200, 99)] {
            assert!(matches!(answer(status, code, ""), Verdict::Retry { .. }), "{code}");
        }
        for (code, number, suspect) in [(6, 3, Some(3)), (12, 0, Some(0)), (13, 4, Some(4)), (15, 5, None)] {
            let verdict = answer(400, code, &format!(r#","invalid-event-number":{number}"#));
            assert!(matches!(&verdict, Verdict::Refused { suspect: found, .. } if *found == suspect), "{verdict:?}");
        }
    }

    #[test]
    fn statuses_without_words_mean_what_http_says() {
        for format in FORMATS {
            for status in [408, 425, 429, 500, 502, 503, 504, 507, 529] {
                assert!(matches!(read(format, status, "", 2), Verdict::Retry { .. }), "{format} {status}");
            }
            for status in [301, 307, 401, 403, 404, 405, 407, 410, 415, 501, 505] {
                assert!(matches!(read(format, status, "<html>", 2), Verdict::Fatal(_)), "{format} {status}");
            }
            for status in [400, 413, 422, 431] {
                assert!(matches!(read(format, status, "", 2), Verdict::Refused { .. }), "{format} {status}");
            }
        }
    }

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
