//! A feed whose every blob is laid out by the test, and a source that reads from it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use actlog_core::{BuildContext, Clock, SourceDescriptor, SystemClock, Timestamp};
use actlog_office::feed::content_time;
use actlog_source_office365::Office365Source;
use actlog_testkit::compliance::{SourceHarness, SourceRun};
use actlog_testkit::entra::Entra;
use actlog_testkit::server::{Bytes, Request, Response, Server, StatusCode, empty, json, parameters};
use actlog_testkit::storage::FaultStorage;
use tempfile::TempDir;
use uuid::Uuid;

pub const TENANT: &str = "11111111-1111-1111-1111-111111111111";
pub const CLIENT: &str = "22222222-2222-2222-2222-222222222222";
pub const SECRET: &str = "canary-of-the-secret";
const RESOURCE: &str = "https://manage.office.com";
pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// The interface, with what the test has put there.
pub struct Service {
    server: Server,
    state: Arc<Mutex<State>>,
    pub entra: Arc<Entra>,
}

/// What a test may look at and change at any time.
#[derive(Default)]
pub struct State {
    pub contents: Vec<Content>,
    pub enabled: BTreeSet<String>,
    /// What the next request whose path and query contain the text is answered with, instead of its own answer.
    pub instead: VecDeque<(String, Answer)>,
    /// The paths and queries of all requests, in their order.
    pub requests: Vec<String>,
    /// Milliseconds that this server's clock is ahead.
    pub ahead: i64,
    pub page_size: usize,
}

#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"says the test"}}}}"#);
        Self { status, headers: Vec::new(), body }
    }
}

#[derive(Clone)]
pub struct Content {
    pub content_type: &'static str,
    pub id: String,
    pub created: Timestamp,
    pub expires: Timestamp,
    pub body: String,
    /// Where it is said to be; at this server when none.
    pub uri: Option<String>,
}

impl State {
    pub fn now(&self) -> Timestamp {
        SystemClock.now().plus_milliseconds(self.ahead)
    }

    /// Makes content available that was created so many milliseconds ago.
    pub fn publish(&mut self, id: &str, ago: i64, body: impl Into<String>) -> &mut Content {
        let created = self.now().plus_milliseconds(-ago);
        self.contents.push(Content {
            content_type: "Audit.General",
            id: id.to_owned(),
            created,
            expires: created.plus_milliseconds(7 * DAY),
            body: body.into(),
            uri: None,
        });
        self.contents.last_mut().unwrap()
    }

    /// Answers the next request that contains the text with something else.
    pub fn instead(&mut self, of: &str, answer: Answer) {
        self.instead.push_back((of.to_owned(), answer));
    }

    pub fn count(&self, of: &str) -> usize {
        self.requests.iter().filter(|request| request.contains(of)).count()
    }
}

impl Service {
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State { page_size: 10, ..State::default() }));
        let entra = Arc::new(Entra::new(TENANT, CLIENT, SECRET));
        let (shared, tokens) = (Arc::clone(&state), Arc::clone(&entra));
        let server = Server::start(move |request: Request<Bytes>| {
            let (shared, tokens) = (Arc::clone(&shared), Arc::clone(&tokens));
            async move {
                let mut state = shared.lock().unwrap();
                let mut answer = answer(&mut state, &tokens, &request);
                let date = state.now().to_datetime().to_rfc2822().replace("+0000", "GMT");
                answer.headers_mut().insert("date", date.parse().unwrap());
                answer
            }
        })
        .await;
        Self { server, state, entra }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The source's configuration, with further keys.
    pub fn config(&self, more: &str) -> String {
        let url = self.url();
        format!(
            "base_url = \"{url}\"\npoll = \"20 ms\"\ncontent_types = [\"Audit.General\"]\n\
             requests_per_minute = 1000000\nclient = {{ allow_private = true }}\n{more}\n\
             [tenants.contoso]\nid = \"{TENANT}\"\n\
             application = {{ client_id = \"{CLIENT}\", secret = {{ file = \"secret\" }}, authority = \"{url}\" }}\n"
        )
    }
}

fn answer(state: &mut State, entra: &Entra, request: &Request<Bytes>) -> Response<Bytes> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    if let Some((status, answer)) = entra.answer(path, request.body()) {
        return json(status, &answer);
    }
    let whole = format!("{path}?{query}");
    state.requests.push(whole.clone());
    if let Some(place) = state.instead.iter().position(|(of, _)| whole.contains(of)) {
        let (_, Answer { status, headers, body }) = state.instead.remove(place).unwrap();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        return response;
    }
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if entra.check(authorization, RESOURCE).is_err() {
        let denied = serde_json::json!({ "Message": "Authorization has been denied for this request." });
        return json(StatusCode::UNAUTHORIZED, &denied);
    }
    let parameters = parameters(query);
    let parameter = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(parameter("PublisherIdentifier"), Some(TENANT), "{whole}");
    let prefix = format!("/api/v1.0/{TENANT}/activity/feed/");
    let host = request.headers()["host"].to_str().unwrap();
    match path.strip_prefix(&prefix) {
        Some("subscriptions/list") => {
            let one = |name| serde_json::json!({ "contentType": name, "status": "enabled", "webhook": null });
            json(StatusCode::OK, &state.enabled.iter().map(one).collect())
        }
        Some("subscriptions/start") => {
            let name = parameter("contentType").unwrap().to_owned();
            let is_new = state.enabled.insert(name.clone());
            let error = serde_json::json!({ "error": { "code": "AF20024", "message": "already enabled" } });
            match is_new {
                true => json(StatusCode::OK, &serde_json::json!({ "contentType": name, "status": "enabled" })),
                false => json(StatusCode::BAD_REQUEST, &error),
            }
        }
        Some("subscriptions/content") => {
            let time = |name| Timestamp::parse(&format!("{}Z", parameter(name).unwrap())).unwrap();
            let (from, to) = (time("startTime"), time("endTime"));
            assert!(to.unix_milliseconds() - from.unix_milliseconds() <= DAY, "{whole}");
            assert!(state.now().unix_milliseconds() - from.unix_milliseconds() <= 7 * DAY, "{whole}");
            let skip: usize = parameter("nextPage").map_or(0, |text| text.parse().unwrap());
            let within = |content: &&Content| {
                parameter("contentType") == Some(content.content_type)
                    && from <= content.created
                    && content.created < to
            };
            let all: Vec<&Content> = state.contents.iter().filter(within).collect();
            let page: Vec<_> =
                all.iter().skip(skip).take(state.page_size).map(|content| entry(content, host, &prefix)).collect();
            let mut response = json(StatusCode::OK, &page.into());
            if skip + state.page_size < all.len() {
                let next = skip + state.page_size;
                let base =
                    whole.split("&nextPage").next().unwrap().replace("&PublisherIdentifier", "&publisherIdentifier");
                let base = base.split("&publisherIdentifier").next().unwrap();
                let uri = format!("http://{host}{base}&nextPage={next}");
                response.headers_mut().insert("NextPageUri", uri.parse().unwrap());
            }
            response
        }
        Some(audit) if audit.starts_with("audit/") => {
            let id = &audit["audit/".len()..];
            match state.contents.iter().find(|content| content.id == id) {
                Some(content) if content.expires < state.now() => {
                    let error = serde_json::json!({ "error": { "code": "AF20051", "message": "expired" } });
                    json(StatusCode::NOT_FOUND, &error)
                }
                Some(content) => Response::new(Bytes::from(content.body.clone())),
                None => empty(StatusCode::NOT_FOUND),
            }
        }
        _ => empty(StatusCode::NOT_FOUND),
    }
}

fn entry(content: &Content, host: &str, prefix: &str) -> serde_json::Value {
    let own = || format!("http://{host}{prefix}audit/{}", content.id);
    serde_json::json!({
        "contentUri": content.uri.clone().unwrap_or_else(own),
        "contentId": content.id,
        "contentType": content.content_type,
        "contentCreated": content_time(content.created),
        "contentExpiration": content_time(content.expires),
    })
}

/// A record of its own for each number.
pub fn record(number: u64) -> String {
    format!(
        "{{\"Id\":\"{}\",\"RecordType\":15,\"CreationTime\":\"2026-11-20T10:00:00\",\"Operation\":\"UserLoggedIn\",\
         \"OrganizationId\":\"{TENANT}\",\"UserType\":0,\"UserKey\":\"k\",\"Workload\":\"AzureActiveDirectory\",\
         \"UserId\":\"a@contoso.com\",\"Version\":1}}",
        Uuid::from_u128(u128::from(number) + 1)
    )
}

/// The records of these numbers, as a blob.
pub fn blob(numbers: impl IntoIterator<Item = u64>) -> String {
    format!("[{}]", numbers.into_iter().map(record).collect::<Vec<_>>().join(","))
}

/// The number of the record.
pub fn number_of(id: Uuid) -> Option<u64> {
    u64::try_from(id.as_u128().checked_sub(1)?).ok()
}

/// Where a source runs: its files, its secret, and the journal's stand-in.
pub struct World {
    pub service: Service,
    pub harness: SourceHarness,
    pub storage: FaultStorage,
    folder: TempDir,
    pub config: String,
}

impl World {
    /// With further keys of the configuration.
    pub async fn new(more: &str) -> Self {
        let service = Service::start().await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), SECRET).unwrap();
        let config = service.config(more);
        Self { service, harness: SourceHarness::new(), storage: FaultStorage::new(1), folder, config }
    }

    pub fn build_context(&self) -> BuildContext {
        let mut cx = BuildContext::new("data", Arc::new(self.storage.clone()), Arc::new(SystemClock));
        cx.config_dir = self.folder.path().to_owned();
        cx
    }

    pub async fn start(&self) -> SourceRun {
        let descriptor = SourceDescriptor::of::<Office365Source>("under-test", "0.0.0");
        let table: toml::Table = self.config.parse().unwrap();
        let factory = (descriptor.load)(serde_json::to_value(table).unwrap()).unwrap();
        let source = factory.build(&self.build_context().named("office")).await.unwrap();
        self.harness.start("office", "office365", source)
    }

    /// The numbers of the durable records, in order of number.
    pub fn taken(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> =
            self.harness.durable().iter().map(|stored| number_of(stored.record.id).unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Waits until so many records are durable.
    pub async fn wait_for(&self, records: usize) {
        assert!(self.harness.wait(|harness| harness.durable().len() >= records).await, "{:?}", self.taken());
    }

    /// Waits until a round of listing has begun and ended since now.
    pub async fn wait_for_round(&self) {
        let before = self.service.state().count("subscriptions/content");
        actlog_testkit::process::wait_until("two more rounds", async || {
            self.service.state().count("subscriptions/content") >= before + 2
        })
        .await;
    }

    pub async fn stop(&self, mut run: SourceRun) {
        run.shutdown.cancel();
        let ended = run.finished(actlog_testkit::process::DEADLINE).await;
        assert!(matches!(ended, Some(Ok(()))), "{ended:?}");
    }

    /// The process is killed in the middle of whatever it does.
    pub async fn kill(&mut self, mut run: SourceRun) {
        self.harness.crash();
        run.kill().await;
        self.storage = self.storage.kill();
    }
}
