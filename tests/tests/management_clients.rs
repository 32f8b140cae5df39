//! The management API in the real binary, and the clients of others against it.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use actlog_core::AuditRecord;
use actlog_testkit::certificates::Authority;
use actlog_testkit::feed_torture::{FeedTorture, torture};
use actlog_testkit::fixtures::workspace;
use actlog_testkit::http::Connection;
use actlog_testkit::peers;
use actlog_testkit::process::{Actlog, binary, free_address, wait_until};
use actlog_testkit::proxy::ConnectProxy;
use actlog_testkit::records::Records;
use serde_json::{Value, json};

const TENANT: &str = "41463f53-8812-40f4-890f-865bf6e35190";
const CLIENT: &str = "a6099727-6b7b-482c-b509-1df309acc563";
const SECRET: &str = "s3cret of a client";
/// A key of the tests of `actlog-http`, made for them.
const KEY: &str = include_str!("../../crates/http/tests/data/rsa-key.pkcs8.pem");
/// So small blobs that the list of a few thousand records has several pages.
const SMALL_BLOBS: &str = "blob_bytes = \"16 KiB\"\nblob_age = \"100 ms\"\n";

/// A server with a feed in a folder, and what its clients need.
struct Feed {
    folder: tempfile::TempDir,
    actlog: Actlog,
    proxy: ConnectProxy,
    url: String,
}

impl Feed {
    /// Starts it with the given records, which it reads from a file, and with keys for the sink.
    async fn start(records: &[AuditRecord<'_>], keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
        let authority = Authority::new();
        let issued = authority.issue(&["login.microsoftonline.com", "manage.office.com", "127.0.0.1"]);
        write("authority.pem", authority.pem().as_bytes());
        write("certificate.pem", issued.certificate.as_bytes());
        write("key.pem", issued.key.as_bytes());
        write("secret", SECRET.as_bytes());
        let client = rcgen::CertificateParams::new(vec!["actlog".to_owned()]).unwrap();
        let client = client.self_signed(&rcgen::KeyPair::from_pem(KEY).unwrap()).unwrap();
        write("client.pem", client.pem().as_bytes());
        write("client.key", KEY.as_bytes());
        let mut lines = Vec::new();
        for record in records {
            record.encode(&mut lines).unwrap();
            lines.push(b'\n');
        }
        write("records.ndjson", &lines);
        add_client(folder.path(), ["--secret-file", "secret"]);
        add_client(folder.path(), ["--certificate", "client.pem"]);
        let feed = free_address();
        let config = format!(
            "[sources.records]\ntype = \"records\"\nsender = \"actlog\"\npath = \"records.ndjson\"\n\n\
             [sinks.office]\ntype = \"management-api\"\nlisten = \"{feed}\"\nclients = \"clients.toml\"\n\
             tls = {{ certificate = \"certificate.pem\", key = \"key.pem\" }}\n{keys}\
             tenants.contoso = {{ id = \"{TENANT}\" }}\n"
        );
        let actlog = Actlog::start(folder.path(), &config).await;
        let proxy = ConnectProxy::start(feed).await.unwrap();
        Self { folder, actlog, proxy, url: format!("https://{feed}") }
    }

    /// Runs a script of `tests/peers` with an object on its standard input; what it writes is an object too.
    async fn run(&self, python: &Path, script: &str, given: &Value) -> Value {
        let mut command = Command::new(python);
        command.arg(workspace().join("tests/peers").join(script)).current_dir(self.folder.path());
        command.env("HTTPS_PROXY", self.proxy.url());
        command.env("REQUESTS_CA_BUNDLE", self.folder.path().join("authority.pem"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
        let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}\n{}", self.actlog.process.stderr());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaint}"))
    }
}

fn add_client(folder: &Path, credential: [&str; 2]) {
    let mut command = Command::new(binary());
    command.args(["clients", "add", "--file", "clients.toml", "--tenant", TENANT, "--client", CLIENT]);
    command.args(["--role", "ActivityFeed.Read"]).args(credential).current_dir(folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn some_records(count: usize) -> Vec<AuditRecord<'static>> {
    let mut records = Records::new(11);
    (0..count).map(|_| records.next_record()).collect()
}

/// The Id of a record of the feed; the parts of a divided one have it as CorrelationId.
fn identity(record: &Value) -> String {
    let key = if record.get("Part").is_some() { "CorrelationId" } else { "Id" };
    record[key].as_str().unwrap().to_owned()
}

fn ids(records: &[AuditRecord<'_>]) -> BTreeSet<String> {
    records.iter().map(|record| record.id.to_string()).collect()
}

/// The thumbprint by which Entra knows a certificate: SHA-1 of it, in hexadecimal digits.
fn thumbprint(folder: &Path, python: &Path) -> String {
    let code = "import sys\nfrom cryptography import x509\nfrom cryptography.hazmat.primitives import hashes\n\
                pem = open(sys.argv[1], 'rb').read()\n\
                print(x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA1()).hex())";
    let output = Command::new(python).args(["-c", code]).arg(folder.join("client.pem")).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pypi_client_does_its_whole_cycle_and_gets_every_record_by_secret_and_by_certificate() {
    let Some(python) = peers::python() else { return };
    let records = some_records(10_000);
    let feed = Feed::start(&records, SMALL_BLOBS).await;
    let credentials =
        [json!({ "secret": SECRET }), json!({ "key": KEY, "thumbprint": thumbprint(feed.folder.path(), &python) })];
    for mut given in credentials {
        given["tenant"] = TENANT.into();
        given["client"] = CLIENT.into();
        given["expected"] = records.len().into();
        let got = feed.run(&python, "zizhu_cycle.py", &given).await;
        let received: BTreeSet<String> = got["records"].as_array().unwrap().iter().map(identity).collect();
        assert_eq!(received, ids(&records));
        assert!(got["blobs"].as_u64().unwrap() > 500, "the list had one page: {} blobs", got["blobs"]);
        let enabled = |subscriptions: &Value| {
            subscriptions.as_array().unwrap().iter().filter(|entry| entry[1] == "enabled").count()
        };
        assert_eq!((enabled(&got["before"]), enabled(&got["after"])), (0, 0));
    }
    let hosts = BTreeSet::from(["login.microsoftonline.com:443".to_owned(), "manage.office.com:443".to_owned()]);
    assert_eq!(feed.proxy.asked_for(), hosts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_actlog_takes_from_the_feed_is_what_was_captured() {
    let records = some_records(500);
    let feed = Feed::start(&records, "blob_age = \"100 ms\"\n").await;
    let url = &feed.url;
    for credential in
        ["secret = { file = \"../secret\" }", "certificate = \"../client.pem\", key = { file = \"../client.key\" }"]
    {
        for endpoint in ["v1", "v2"] {
            let folder = tempfile::tempdir_in(feed.folder.path()).unwrap();
            let config = format!(
                "[sources.office]\ntype = \"office365\"\nbase_url = \"{url}\"\npoll = \"200 ms\"\n\
                 token_endpoint = \"{endpoint}\"\ncontent_types = [\"Audit.General\"]\n\
                 client = {{ allow_private = true, ca = \"../authority.pem\" }}\n\n[sources.office.tenants.contoso]\n\
                 id = \"{TENANT}\"\n\
                 application = {{ client_id = \"{CLIENT}\", {credential}, authority = \"{url}\" }}\n\n\
                 [sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\n"
            );
            let mut actlog = Actlog::start(folder.path(), &config).await;
            let audit = folder.path().join("actlog-data/audit");
            let found = || {
                let records = actlog_tests::records(&audit);
                let of_part = |record: &Value| record["Extra"].get("Part").is_some();
                let id =
                    |record: &Value| if of_part(record) { &record["CorrelationId"] } else { &record["Id"] }.clone();
                records.iter().map(|record| id(record).as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
            };
            wait_until("all records", async || actlog_tests::lines(&audit) >= records.len()).await;
            actlog.stop().await;
            assert_eq!(found(), ids(&records), "{endpoint}, {credential}");
            let example = &records[0];
            let taken = actlog_tests::records(&audit);
            let taken = taken.iter().find(|record| record["Id"] == example.id.to_string()).unwrap();
            assert_eq!(taken["Operation"], *example.operation);
            assert_eq!(taken["EntityName"], *example.entity_name.as_deref().unwrap());
            assert_eq!(taken["UserId"], *example.user_id.as_deref().unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_is_the_same_after_kill_9() {
    let Some(python) = peers::python() else { return };
    let records = some_records(2_000);
    let mut feed = Feed::start(&records, SMALL_BLOBS).await;
    let given = json!({ "tenant": TENANT, "client": CLIENT, "secret": SECRET, "expected": records.len() });
    let before = feed.run(&python, "zizhu_cycle.py", &given).await;
    feed.actlog.process.kill();
    feed.actlog.restart().await;
    let after = feed.run(&python, "zizhu_cycle.py", &given).await;
    assert_eq!(before["records"], after["records"]);
    assert_eq!(before["blobs"], after["blobs"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_single_tenant_the_clients_file_says_enough() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    add_client(folder.path(), ["--secret-file", "secret"]);
    std::fs::write(folder.path().join("contexts.ndjson"), actlog_tests::context("Update", "account", 1)).unwrap();
    let feed = free_address();
    let config = format!(
        "[sources.contexts]\ntype = \"crm\"\npath = \"contexts.ndjson\"\n\n\
         [sinks.office]\ntype = \"management-api\"\nlisten = \"{feed}\"\nclients = \"clients.toml\"\n"
    );
    let _actlog = Actlog::start(folder.path(), &config).await;
    let mut connection = Connection::open(feed).await.unwrap();
    let form = format!(
        "grant_type=client_credentials&client_id={CLIENT}&client_secret={}&resource=https%3A%2F%2Fmanage.office.com",
        SECRET.replace(' ', "+")
    );
    let target = format!("/{TENANT}/oauth2/token");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = connection.request("POST", &target, &headers, form.as_bytes()).await.unwrap();
    let given: Value = serde_json::from_slice(&answer.body).unwrap();
    let bearer = format!("Bearer {}", given["access_token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let root = format!("/api/v1.0/{TENANT}/activity/feed/subscriptions");
    let start = format!("{root}/start?contentType=Audit.General");
    assert_eq!(connection.request("POST", &start, &headers, b"").await.unwrap().status, 200);
    let list = format!("{root}/content?contentType=Audit.General");
    let is_listed = async || {
        let answer = connection.request("GET", &list, &headers, b"").await.unwrap();
        serde_json::from_slice::<Vec<Value>>(&answer.body).unwrap().len() == 1
    };
    wait_until("the record's blob", is_listed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_clients_that_poll_while_records_come_have_every_id_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let plan = FeedTorture { records: 20_000, seed, every: Duration::from_secs(2), patience: Duration::from_secs(120) };
    let Some(outcome) = torture(folder.path(), &plan, |_, _| ()).await else { return };
    println!("seed {seed}: {outcome}");
    assert!(outcome.is_good(), "seed {seed}: {outcome}");
    assert!(outcome.captured == plan.records && outcome.kills > 0, "seed {seed}: {outcome}");
}
