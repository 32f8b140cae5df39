//! The sink as a service: built from its configuration, run on the kit's harness, asked over a real socket.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use actlog_core::config::Organizations;
use actlog_core::{
    AuditRecord, BuildContext, Clock, CommandContext, CommandDescriptor, CommandLog, Gap, SinkDescriptor, Status,
    Storage, Timestamp, inventory,
};
use actlog_journal::DiskStorage;
use actlog_sink_management_api::ManagementApiSink;
use actlog_testkit::compliance::{SinkHarness, SinkRun};
use actlog_testkit::http::{Connection, Response};
use actlog_testkit::process::{DEADLINE, free_address, wait_until};
use actlog_testkit::records::Records;
use actlog_testkit::storage::FaultStorage;
use serde_json::Value;
use tempfile::TempDir;

/// The tenant and the client of the recorded sequences, and its secret there.
pub(crate) const TENANT: &str = "41463f53-8812-40f4-890f-865bf6e35190";
pub(crate) const CLIENT: &str = "a6099727-6b7b-482c-b509-1df309acc563";
pub(crate) const SECRET: &str = "s3cret";
/// Where collectors believe to be.
pub(crate) const FEED: &str = "manage.office.com";
pub(crate) const LOGIN: &str = "login.microsoftonline.com";
/// Blobs so small that one large record fills each.
pub(crate) const SMALL_BLOBS: &str = "blob_bytes = \"16 KiB\"";
/// What the service's clock shows at first.
pub(crate) const NOW: &str = "2026-11-23T12:03:00Z";

/// A clock that moves only when it is told to.
#[derive(Clone, Debug)]
pub(crate) struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    pub(crate) fn at(time: &str) -> Self {
        Self(Arc::new(AtomicI64::new(Timestamp::parse(time).unwrap().unix_milliseconds())))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_milliseconds(self.0.load(Ordering::SeqCst))
    }
}

/// There is no journal to state anything in.
#[derive(Debug)]
struct NoLog;

impl CommandLog for NoLog {
    fn state(&self, _: &str, _: &[Gap]) -> Result<(), String> {
        Ok(())
    }
}

/// A running sink with registered clients.
pub(crate) struct Service {
    pub(crate) harness: SinkHarness,
    pub(crate) clock: ManualClock,
    pub(crate) address: SocketAddr,
    pub(crate) storage: Arc<FaultStorage>,
    folder: TempDir,
    config: String,
    /// `[organizations]`
    pub(crate) organizations: Organizations,
    run: Option<SinkRun>,
    records: Records,
    appended: u64,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Service {
    /// A service with one tenant and one client, and further keys of the configuration.
    pub(crate) async fn start(keys: &str) -> Self {
        Self::with_roles(keys, &["ActivityFeed.Read", "ActivityFeed.ReadDlp"]).await
    }

    pub(crate) async fn with_roles(keys: &str, roles: &[&str]) -> Self {
        let mut service = Self::prepare(keys, roles);
        service.run().await;
        service
    }

    /// The same, before it runs.
    pub(crate) fn prepare(keys: &str, roles: &[&str]) -> Self {
        let address = free_address();
        // Behind a proxy that ends TLS, so that URLs are those that collectors expect.
        let config = format!(
            "listen = \"{address}\"\nplaintext = true\nclients = \"clients.toml\"\nblob_age = \"10 ms\"\n\
             tenants.contoso.id = \"{TENANT}\"\ntenants.contoso.domains = [\"contoso.onmicrosoft.com\"]\n\
             tenants.contoso.max_record_bytes = 15000\n{keys}\n"
        );
        let service = Self {
            harness: SinkHarness::new(),
            clock: ManualClock::at(NOW),
            address,
            storage: Arc::new(FaultStorage::new(1)),
            folder: tempfile::tempdir().unwrap(),
            config,
            organizations: Organizations::new(),
            run: None,
            records: Records::new(1),
            appended: 0,
        };
        service.storage.create_directories(service.folder.path()).unwrap();
        service.register(TENANT, CLIENT, SECRET, roles);
        service
    }

    fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage) as _
    }

    /// Registers a client, by the command that operators use.
    pub(crate) fn register(&self, tenant: &str, client: &str, secret: &str, roles: &[&str]) {
        let secret_file = self.folder.path().join("secret");
        std::fs::write(&secret_file, secret).unwrap();
        let file = self.folder.path().join("clients.toml");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut arguments = vec!["add".to_owned(), "--file".to_owned(), text(&file), "--tenant".to_owned()];
        arguments.extend([tenant.to_owned(), "--client".to_owned(), client.to_owned()]);
        arguments.extend(["--secret-file".to_owned(), text(&secret_file)]);
        arguments.extend(roles.iter().flat_map(|role| ["--role".to_owned(), (*role).to_owned()]));
        let clients = inventory::iter::<CommandDescriptor>().find(|command| command.name == "clients").unwrap();
        let context = CommandContext::new(self.folder.path().to_owned(), Arc::new(DiskStorage), Arc::new(NoLog));
        let ended = (clients.run)(context, arguments.into_iter().map(Into::into).collect());
        assert_eq!(format!("{ended:?}"), format!("{:?}", ExitCode::SUCCESS));
    }

    /// The folder of its configuration and its data.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file system of its data folder.
    pub(crate) fn disk(&self) -> &FaultStorage {
        &self.storage
    }

    /// What is in a file of its data folder.
    pub(crate) fn stored(&self, file: &str) -> Vec<u8> {
        self.storage.read(&self.folder.path().join(file), 1 << 20).unwrap()
    }

    /// How the sink says that it is.
    pub(crate) fn health(&self) -> Status {
        self.run.as_ref().unwrap().health.get()
    }

    /// Another text in its configuration, for the next run.
    pub(crate) fn reconfigure(&mut self, from: &str, to: &str) {
        assert!(self.config.contains(from), "{from} is not in {}", self.config);
        self.config = self.config.replace(from, to);
    }

    /// Carries out `actlog clients` on its clients file; says whether it went well.
    pub(crate) fn clients(&self, arguments: &[&str]) -> bool {
        let file = self.folder.path().join("clients.toml");
        let clients = inventory::iter::<CommandDescriptor>().find(|command| command.name == "clients").unwrap();
        let context = CommandContext::new(self.folder.path().to_owned(), Arc::new(DiskStorage), Arc::new(NoLog));
        let mut all: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        all.extend(["--file".into(), file.into()]);
        format!("{:?}", (clients.run)(context, all)) == format!("{:?}", ExitCode::SUCCESS)
    }

    /// Builds the sink from its configuration and runs it.
    pub(crate) async fn run(&mut self) {
        let table: toml::Table = self.config.parse().unwrap();
        let descriptor = SinkDescriptor::of::<ManagementApiSink>("under-test", "0.0.0");
        let factory = (descriptor.load)(serde_json::to_value(table).unwrap()).unwrap();
        let mut cx = BuildContext::new(self.folder.path(), self.storage(), Arc::new(self.clock.clone()));
        cx.config_dir = self.folder.path().to_owned();
        cx.organizations = Arc::new(self.organizations.clone());
        let sink = factory.build(&cx.named("office")).await.unwrap();
        self.run = Some(self.harness.start("office", descriptor.kind, sink));
        wait_until("the listener answers", async || self.try_ask("GET", "/openapi.json").await.is_ok()).await;
    }

    /// Takes the tenant out of the configuration.
    pub(crate) fn leave_out_contoso(&mut self) {
        self.config =
            self.config.lines().filter(|line| !line.starts_with("tenants.contoso")).collect::<Vec<_>>().join("\n");
    }

    /// Ends the sink in good order.
    pub(crate) async fn stop(&mut self) {
        let mut run = self.run.take().unwrap();
        run.shutdown.cancel();
        let ended = run.finished(DEADLINE).await.expect("it ends");
        assert!(ended.is_ok(), "{ended:?}");
    }

    /// Hands it records of the tenant and waits until they are in the feed.
    pub(crate) async fn publish(&mut self, records: usize) {
        for _ in 0..records {
            let record = self.records.next_record();
            self.append(&record);
        }
        self.published().await;
    }

    /// Hands it as many records of a content type, of which each has a blob of its own where `blob_bytes` is 16 KiB.
    pub(crate) async fn publish_blobs(&mut self, content_type: &'static str, blobs: usize) {
        for _ in 0..blobs {
            let record = self.large_record(content_type);
            self.append(&record);
        }
        self.published().await;
    }

    /// The next of the records.
    pub(crate) fn record(&mut self) -> AuditRecord<'static> {
        self.records.next_record()
    }

    /// A record of more than half of 16 KiB.
    pub(crate) fn large_record(&mut self, content_type: &'static str) -> AuditRecord<'static> {
        let (query, content_type) = (Some("q".repeat(9_000).into()), Some(content_type.into()));
        AuditRecord { query, content_type, ..self.records.next_record() }
    }

    pub(crate) fn append(&mut self, record: &AuditRecord<'_>) {
        self.harness.append(record);
        self.appended += 1;
    }

    pub(crate) async fn published(&self) {
        let everything_is_published = self.harness.wait(|harness| harness.cursor() >= self.appended).await;
        assert!(everything_is_published, "the cursor is {} of {}", self.harness.cursor(), self.appended);
        // A listing of the last 24 hours ends now.
        self.clock.advance(Duration::from_secs(60));
    }

    /// Ids of all records that were handed over.
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.harness.entries().iter().map(|entry| entry.id.to_string()).collect()
    }

    async fn try_ask(&self, method: &str, target: &str) -> std::io::Result<Response> {
        self.send(FEED, method, target, &[], b"").await
    }

    /// Sends a request with a host and headers, and reads the answer.
    pub(crate) async fn send(
        &self,
        host: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if method == "POST" || !body.is_empty() {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut request = (request + "\r\n").into_bytes();
        request.extend_from_slice(body);
        self.send_bytes(&request).await
    }

    /// Sends bytes as they are, and reads the answer.
    pub(crate) async fn send_bytes(&self, request: &[u8]) -> std::io::Result<Response> {
        let mut connection = Connection::open(self.address).await?;
        connection.send(request).await?;
        connection.response().await
    }

    /// Asks for a token of version 2.
    pub(crate) async fn ask_for_token(&self, tenant: &str, client: &str, secret: &str) -> Response {
        let form = format!(
            "client_id={client}&scope=https://manage.office.com/.default&grant_type=client_credentials&client_secret={secret}"
        );
        let target = format!("/{tenant}/oauth2/v2.0/token");
        self.send(LOGIN, "POST", &target, &[], form.as_bytes()).await.unwrap()
    }

    /// A token of a client.
    pub(crate) async fn token_of(&self, tenant: &str, client: &str) -> String {
        let answer = self.ask_for_token(tenant, client, SECRET).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        json(&answer)["access_token"].as_str().unwrap().to_owned()
    }

    /// The registered client with a token.
    pub(crate) async fn client(&self) -> Client<'_> {
        Client { service: self, host: FEED.to_owned(), token: self.token_of(TENANT, CLIENT).await }
    }
}

/// Somebody with a token.
#[derive(Clone, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) service: &'a Service,
    pub(crate) host: String,
    pub(crate) token: String,
}

impl Client<'_> {
    /// Asks with any method and headers.
    pub(crate) async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let token = format!("Bearer {}", self.token);
        let mut all = vec![("Authorization", token.as_str())];
        all.extend_from_slice(headers);
        self.service.send(&self.host, method, target, &all, body).await.unwrap()
    }

    /// An operation of the tenant's feed, below `/activity/feed/`.
    pub(crate) async fn get(&self, operation: &str) -> Response {
        self.ask("GET", &feed(operation), &[], b"").await
    }

    pub(crate) async fn post(&self, operation: &str, body: &str) -> Response {
        self.ask("POST", &feed(operation), &[], body.as_bytes()).await
    }

    /// Starts a subscription.
    pub(crate) async fn subscribe(&self, content_type: &str) {
        let answer = self.post(&format!("subscriptions/start?contentType={content_type}"), "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Follows a URL that the service gave, as collectors do.
    pub(crate) async fn follow(&self, uri: &str) -> Response {
        let (host, target) = parts(uri);
        assert_eq!(host, self.host, "the URL {uri} leads elsewhere");
        self.ask("GET", target, &[], b"").await
    }

    /// All entries of a listing, page by page.
    pub(crate) async fn list(&self, query: &str) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut page = self.get(&format!("subscriptions/content?{query}")).await;
        loop {
            assert_eq!(page.status, 200, "{}", page.text());
            let found = json(&page).as_array().unwrap().clone();
            let next = page.header("nextpageuri").map(str::to_owned);
            assert!(!found.is_empty() || next.is_none(), "an empty page that is not the last ends some collectors");
            entries.extend(found);
            match next {
                Some(next) => page = self.follow(&next).await,
                None => return entries,
            }
        }
    }

    /// The records of a content.
    pub(crate) async fn fetch(&self, entry: &Value) -> Vec<Value> {
        let blob = self.follow(entry["contentUri"].as_str().unwrap()).await;
        assert_eq!(blob.status, 200, "{}", blob.text());
        json(&blob).as_array().unwrap().clone()
    }
}

pub(crate) fn feed(operation: &str) -> String {
    format!("/api/v1.0/{TENANT}/activity/feed/{operation}")
}

/// Host and target of a URL that begins as collectors expect it.
pub(crate) fn parts(uri: &str) -> (&str, &str) {
    let rest = uri.strip_prefix("https://").unwrap_or_else(|| panic!("{uri} is not https"));
    rest.split_at(rest.find('/').unwrap())
}

pub(crate) fn json(answer: &Response) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

/// Status and code of an error in the service's form.
pub(crate) fn error(answer: &Response) -> (u16, String) {
    let body = json(answer);
    let keys: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["error"], "{body}");
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    (answer.status, body["error"]["code"].as_str().unwrap().to_owned())
}
