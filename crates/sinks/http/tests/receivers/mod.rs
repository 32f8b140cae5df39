//! Stand-ins for receivers. Each is as strict as the real one: what it would refuse is refused here, and noted, so that
//! a test can ask whether anything was.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it; it is a part of the tests")]

pub(crate) mod azure;
pub(crate) mod cloudevents;
pub(crate) mod elasticsearch;
pub(crate) mod otlp;
pub(crate) mod plain;
pub(crate) mod relay;
pub(crate) mod splunk;

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actlog_core::AuditRecord;
use actlog_testkit::compliance::Outage;
use actlog_testkit::server::{Bytes, Request, Response, Server, StatusCode, empty, json};
use serde_json::Value;
use uuid::Uuid;

/// A record with this text in it is one that no receiver takes.
pub(crate) const UNACCEPTABLE: &str = "a value that this receiver does not take";

/// What a receiver keeps, and what it thinks of what it got.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Ids of records, in the order in which they came; those of divided records when all parts are there.
    pub(crate) ids: Vec<Uuid>,
    /// What the real receiver would never get from a sink that knows its protocol.
    pub(crate) violations: Vec<String>,
    /// Bodies of the requests that were let in, decompressed.
    pub(crate) bodies: Vec<Bytes>,
    parts: BTreeMap<Uuid, BTreeMap<u64, u64>>,
}

impl Kept {
    /// Refuses what no sink should have sent.
    pub(crate) fn violation(&mut self, status: StatusCode, what: impl Into<String>) -> Response<Bytes> {
        let what = what.into();
        self.violations.push(what.clone());
        json(status, &serde_json::json!({ "error": what }))
    }

    /// Takes a record, or a part of one: the parts' numbers are in its `Extra`, the whole's Id is their CorrelationId.
    pub(crate) fn take(&mut self, id: Uuid, correlation: &Value, extra: &Value) {
        let (Some(part), Some(parts)) = (extra["Part"].as_u64(), extra["Parts"].as_u64()) else {
            self.ids.push(id);
            return;
        };
        let whole: Uuid = correlation.as_str().unwrap().parse().unwrap();
        let there = self.parts.entry(whole).or_default();
        there.insert(part, parts);
        if there.len() as u64 == parts {
            self.ids.push(whole);
            self.parts.remove(&whole);
        }
    }

    /// Takes a record in our own form.
    pub(crate) fn take_record(&mut self, record: &[u8]) -> Result<(), String> {
        let decoded = AuditRecord::decode(record).map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_slice(record).map_err(|error| error.to_string())?;
        self.take(decoded.id, &value["CorrelationId"], &value["Extra"]);
        Ok(())
    }
}

/// How a kind of receiver answers.
pub(crate) trait Rules: Send + Sync + 'static {
    /// Answers a request, whose body is decompressed.
    fn answer(&self, request: &Request<Bytes>, kept: &mut Kept) -> Response<Bytes>;
}

impl<R: Rules + ?Sized> Rules for Arc<R> {
    fn answer(&self, request: &Request<Bytes>, kept: &mut Kept) -> Response<Bytes> {
        (**self).answer(request, kept)
    }
}

/// A kind of receiver, and how the sink is told of it.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) rules: Arc<dyn Rules>,
    /// Whether records arrive in the journal's order.
    pub(crate) is_ordered: bool,
    config: String,
}

impl Kind {
    fn new(name: &'static str, rules: impl Rules, is_ordered: bool, config: &str) -> Self {
        Self { name, rules: Arc::new(rules), is_ordered, config: config.to_owned() }
    }

    /// The sink's configuration, with the secrets in files that [`put_secrets`] makes. A table may follow, no key.
    pub(crate) fn config(&self, url: &str) -> String {
        let client = "client.allow_private = true\nbatch = { count = 7, age = \"10 ms\" }";
        format!("url = \"{url}\"\n{client}\n{}\n", self.config.replace("{url}", url))
    }
}

/// The secrets that the configurations name.
pub(crate) fn put_secrets(folder: &Path) {
    std::fs::write(folder.join("hec"), splunk::TOKEN).unwrap();
    std::fs::write(folder.join("entra"), azure::SECRET).unwrap();
}

/// Every kind of receiver, in each way in which it can be spoken to.
pub(crate) fn kinds() -> Vec<Kind> {
    let azure_config = format!(
        "format = \"azure-logs\"\nazure = {{ rule = \"{}\", stream = \"{}\" }}\nauth.entra = {{ tenant = \"{}\", \
         application = {{ client_id = \"{}\", secret.file = \"entra\", authority = \"{{url}}\" }} }}",
        azure::RULE,
        azure::STREAM,
        azure::TENANT,
        azure::CLIENT
    );
    let hec = "format = \"splunk-hec\"\nauth.splunk.file = \"hec\"\n";
    vec![
        Kind::new("json", plain::Plain::json(), true, "format = \"json\"\ncompression = \"zstd\""),
        Kind::new("ndjson", plain::Plain::ndjson(), true, "format = \"ndjson\""),
        Kind::new(
            "ndjson in parts",
            plain::Plain::ndjson(),
            true,
            "format = \"ndjson\"\ncompression = \"gzip\"\nmax_record_bytes = \"4 KiB\"",
        ),
        Kind::new(
            "cloudevents",
            cloudevents::CloudEvents::allowing("*"),
            true,
            "format = \"cloudevents\"\ncloudevents.handshake = true",
        ),
        Kind::new("splunk-hec", splunk::Splunk::default(), false, &format!("{hec}splunk.index = \"audit\"")),
        Kind::new("splunk-hec with acknowledgement", splunk::Splunk::with_acks(), false, hec),
        Kind::new(
            "elasticsearch",
            elasticsearch::Elasticsearch::with_busy_items(3),
            false,
            "format = \"elasticsearch\"",
        ),
        Kind::new("otlp", otlp::Otlp, false, "format = \"otlp\""),
        Kind::new("azure-logs", azure::Azure::new(), false, &azure_config),
    ]
}

struct Shared {
    rules: Box<dyn Rules>,
    kept: Mutex<Kept>,
    outage: Mutex<Option<Outage>>,
    script: Mutex<VecDeque<Response<Bytes>>>,
    seen: Mutex<Vec<Seen>>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) at: tokio::time::Instant,
}

/// A receiver on a port of its own. It ends when it is dropped.
pub(crate) struct Receiver {
    pub(crate) server: Server,
    shared: Arc<Shared>,
}

impl Receiver {
    pub(crate) async fn start(rules: impl Rules) -> Self {
        let shared = Arc::new(Shared {
            rules: Box::new(rules),
            kept: Mutex::default(),
            outage: Mutex::default(),
            script: Mutex::default(),
            seen: Mutex::default(),
        });
        let answering = Arc::clone(&shared);
        let server = Server::start(move |request| {
            let shared = Arc::clone(&answering);
            async move { shared.answer(request).await }
        })
        .await;
        Self { server, shared }
    }

    /// The same where no future can be awaited, as in the compliance kit's adapters.
    pub(crate) fn start_now(rules: impl Rules) -> Self {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(Self::start(rules)))
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared.kept.lock().unwrap()
    }

    pub(crate) fn ids(&self) -> Vec<Uuid> {
        self.kept().ids.clone()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn set_outage(&self, outage: Option<Outage>) {
        *self.shared.outage.lock().unwrap() = outage;
    }

    /// Answers the next request with this, whatever it is.
    pub(crate) fn answer_next(&self, status: u16, headers: &[(&'static str, &str)], body: &str) {
        let mut answer = Response::new(Bytes::from(body.to_owned()));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            answer.headers_mut().insert(*name, value.parse().unwrap());
        }
        self.shared.script.lock().unwrap().push_back(answer);
    }

    /// Nothing came that the real receiver would have refused.
    pub(crate) fn check(&self) {
        assert_eq!(self.kept().violations, Vec::<String>::new());
    }
}

impl Shared {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let at = tokio::time::Instant::now();
        self.seen.lock().unwrap().push(Seen { path: request.uri().path().to_owned(), headers, at });
        loop {
            let outage = *self.outage.lock().unwrap();
            match outage {
                None => break,
                Some(Outage::Fails) => return empty(StatusCode::SERVICE_UNAVAILABLE),
                // Until the client gives up, or the outage ends.
                Some(Outage::Hangs) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        if let Some(answer) = self.script.lock().unwrap().pop_front() {
            return answer;
        }
        let mut kept = self.kept.lock().unwrap();
        let (head, body) = request.into_parts();
        let body = match head.headers.get("content-encoding").map(hyper::header::HeaderValue::as_bytes) {
            None => body,
            Some(b"gzip") => {
                let mut plain = Vec::new();
                match flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain) {
                    Ok(_) => plain.into(),
                    Err(error) => return kept.violation(StatusCode::BAD_REQUEST, format!("no gzip: {error}")),
                }
            }
            Some(b"zstd") => match zstd::decode_all(&body[..]) {
                Ok(plain) => plain.into(),
                Err(error) => return kept.violation(StatusCode::BAD_REQUEST, format!("no zstd: {error}")),
            },
            Some(other) => {
                let what = format!("a coding that nobody knows: {}", String::from_utf8_lossy(other));
                return kept.violation(StatusCode::UNSUPPORTED_MEDIA_TYPE, what);
            }
        };
        kept.bodies.push(body.clone());
        self.rules.answer(&Request::from_parts(head, body), &mut kept)
    }
}

/// The value of a header; empty when it is not there.
pub(crate) fn header<'r>(request: &'r Request<Bytes>, name: &str) -> &'r str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether a record is one that no receiver takes.
pub(crate) fn is_unacceptable(body: &[u8]) -> bool {
    memchr::memmem::find(body, UNACCEPTABLE.as_bytes()).is_some()
}
