//! An actlog with everything configured that has a secret, and everything that it writes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use actlog_core::{Clock, SystemClock};
use actlog_testkit::dataverse_server::DataverseServer;
use actlog_testkit::http::Connection;
use actlog_testkit::office_server::{ContentPlan, OfficeOptions, OfficeServer};
use actlog_testkit::process::{Actlog, binary, free_address, wait_until};
use serde_json::json;
use uuid::Uuid;

use crate::canary::{Canaries, percent_encoded};
use crate::{RSA_SECRET_AT, rsa_key};

/// Where the private number begins in the DER form of an elliptic key.
const ELLIPTIC_SECRET_AT: usize = 36;

/// What a record says that must be found where records are: so it is known that the search looks there.
const PUBLIC: &str = "c0ffee00-0000-4000-8000-00000000beef";

/// When commands are run that do what they are for.
pub(crate) const WORKING: &str = "while everything works";

pub(crate) fn actlog(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).current_dir(folder).output().unwrap()
}

pub(crate) struct World {
    pub(crate) actlog: Actlog,
    pub(crate) dataverse: DataverseServer,
    pub(crate) office: OfficeServer,
    canaries: Canaries,
    folder: tempfile::TempDir,
    /// What is started as actlog.
    host: PathBuf,
    config: String,
    listeners: Listeners,
    /// What the listeners ask for, and a key that is wrong; all of them secrets.
    key: String,
    header: String,
    wrong: String,
    /// What was printed and answered, by where.
    outputs: Vec<(String, Vec<u8>)>,
    tokens: BTreeSet<String>,
}

/// Where the sources listen.
#[derive(Clone, Copy)]
struct Listeners {
    crm: SocketAddr,
    tls: SocketAddr,
    admin: SocketAddr,
    records: SocketAddr,
    mse: SocketAddr,
}

impl World {
    pub(crate) async fn start() -> Self {
        let mut canaries = Canaries::default();
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        let file = |name: &str, content: &str| std::fs::write(secrets.join(name), format!("{content}\n")).unwrap();
        let secret = |canaries: &mut Canaries, name: &str| {
            let secret = canaries.text(name);
            file(name, &secret);
            secret
        };
        let dataverse = DataverseServer::start().await;
        dataverse.entra().change_secret(&secret(&mut canaries, "dataverse"));
        dataverse.insert("systemusers", json!({ "domainname": "ann@contoso.com", "fullname": "Ann" }));
        dataverse.insert("audits", json!({ "action": 64, "operation": 4, "objecttypecode": "systemuser" }));
        let now = SystemClock.now();
        let plan = ContentPlan::new(1, 200, now.plus_milliseconds(-3_600_000), now);
        let office = OfficeServer::start(OfficeOptions::new(plan, now)).await;
        office.entra().change_secret(&secret(&mut canaries, "office"));
        let (key, header) = (secret(&mut canaries, "key"), secret(&mut canaries, "header"));
        let wrong = canaries.text("wrong-key");
        secret(&mut canaries, "hash-key");

        // A certificate that an application signs in with, and one of a listener.
        let pem = std::fs::read_to_string(rsa_key()).unwrap();
        canaries.private_key("application's key", &pem, RSA_SECRET_AT);
        let rsa = rcgen::KeyPair::from_pem(&pem).unwrap();
        let elliptic = rcgen::KeyPair::generate().unwrap();
        canaries.private_key("listener's key", &elliptic.serialize_pem(), ELLIPTIC_SECRET_AT);
        for (name, key) in [("application", &rsa), ("listener", &elliptic)] {
            let certificate =
                rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(key).unwrap();
            file(&format!("{name}.pem"), &certificate.pem());
            file(&format!("{name}.key"), &key.serialize_pem());
        }

        let [crm, tls, admin, records, mse] = std::array::from_fn(|_| free_address());
        let (url, tenant, id) = (dataverse.url(), DataverseServer::TENANT, DataverseServer::CLIENT_ID);
        let organization =
            dataverse.organization("contoso").replace("file = \"secret\"", "file = \"secrets/dataverse\"");
        let office_tenant = office.tenant().replace("file = \"secret\"", "file = \"secrets/office\"");
        let office_url = office.url();
        // `fabrikam` signs in by certificate; `tailspin` has TLS where the other side has none.
        let config = format!(
            r#"{organization}
[organizations.fabrikam]
tenant = "{tenant}"
url = "{url}"
application = {{ client_id = "{id}", certificate = "secrets/application.pem", key = {{ file = "secrets/application.key" }}, authority = "{url}" }}
[organizations.tailspin]
tenant = "{tenant}"
url = "{https}"
application = {{ client_id = "{id}", secret = {{ file = "secrets/dataverse" }}, authority = "{https}" }}

[policy]
hash_key = {{ file = "secrets/hash-key" }}

[sources.crm]
type = "crm"
listen = "{crm}"
key = [{{ file = "secrets/key" }}, {{ env = "ACTLOG_SECOND_KEY" }}]
[sources.crm-tls]
type = "crm"
listen = "{tls}"
tls = {{ certificate = "secrets/listener.pem", key = "secrets/listener.key" }}
headers = {{ X-Key = {{ file = "secrets/header" }} }}
[sources.records]
type = "records"
listen = "{records}"
headers = {{ X-Key = {{ file = "secrets/header" }} }}
[sources.mse]
type = "mse"
listen = "{mse}"
query = {{ token = {{ file = "secrets/key" }} }}
[sources.admin-events]
type = "admin"
listen = "{admin}"
key = {{ file = "secrets/key" }}
[sources.admin-audits]
type = "admin"
organization = "contoso"
poll = "100 ms"
client = {{ allow_private = true }}
[sources.admin-certificate]
type = "admin"
organization = "fabrikam"
poll = "100 ms"
client = {{ allow_private = true }}
[sources.office]
type = "office365"
base_url = "{office_url}"
poll = "1 s"
tenants.contoso = {office_tenant}
tenants.tailspin = {{ id = "{id}", application = {{ client_id = "{id}", secret = {{ file = "secrets/office" }}, authority = "{https}" }} }}
client = {{ allow_private = true }}

[enrichments.users]
type = "directory"
organization = "contoso"
refresh = "1 s"
client = {{ allow_private = true }}

[sinks.audit]
type = "file"
path = "{{data_dir}}/audit/{{date}}.jsonl"
"#,
            https = url.replace("http://", "https://"),
        );
        // The environment is a place for secrets too: a host that has it set.
        let host = secrets.join("actlog");
        let second = canaries.text("second-key").replace('\'', "");
        let script = format!("#!/bin/sh\nACTLOG_SECOND_KEY='{second}' exec '{}' \"$@\"\n", binary().display());
        std::fs::write(&host, script).unwrap();
        std::fs::set_permissions(&host, std::fs::Permissions::from_mode(0o700)).unwrap();
        let traced = format!("{config}\n[log]\nlevel = \"trace\"\n");
        let mut world = Self {
            actlog: Actlog::start_host(&host, folder.path(), &traced).await,
            host,
            dataverse,
            office,
            canaries,
            folder,
            config,
            listeners: Listeners { crm, tls, admin, records, mse },
            key,
            header,
            wrong,
            outputs: Vec::new(),
            tokens: BTreeSet::new(),
        };
        world.collect_tokens();
        world
    }
}

impl World {
    /// Posts that are taken and posts that are refused, at every listener.
    pub(crate) async fn post_good_and_bad(&mut self) {
        let (key, header, wrong) = (percent_encoded(&self.key), self.header.clone(), self.wrong.clone());
        let wrong_key = percent_encoded(&wrong);
        let good = json!({ "MessageName": "Update", "PrimaryEntityName": "account", "PrimaryEntityId": PUBLIC,
                           "OperationId": Uuid::new_v4(), "Stage": 40, "Depth": 1,
                           "OrganizationId": DataverseServer::ORGANIZATION_ID })
        .to_string();
        let event = json!({ "Event": "BackupAndRestore", "Operation": "BackUpEnvironment", "UserId": "ann@contoso.com",
                            "CreationTime": "2026-01-01T00:00:00Z" })
        .to_string();
        let record = json!({ "RecordType": 21, "Version": 1, "Workload": "CRM", "CreationTime": "2026-01-01T00:00:00Z",
                             "Operation": "Update", "Id": Uuid::new_v4() })
        .to_string();
        let engagement = json!({ "Entity": "Search Topic", "Action": "Create",
                                 "CreationTime": "2026-01-01T00:00:00Z" })
        .to_string();
        let Listeners { crm, admin, records, mse, .. } = self.listeners;
        for (address, right, header, body) in [
            (crm, format!("/?code={key}"), None, &good),
            (admin, format!("/?code={key}"), None, &event),
            (records, "/".to_owned(), Some(&header), &record),
            (mse, format!("/?token={key}"), None, &engagement),
        ] {
            let own = header.map(|header| ("X-Key", header.as_str()));
            self.request(address, &right, own, body.as_bytes(), &[200]).await;
            self.request(address, &right, own, b"{\"half\": ", &[400]).await;
            self.request(address, &right, own, b"\x00\xFF", &[400]).await;
            // What is not where it should be, or not what it should be, is still somebody's secret.
            for (target, header) in [
                (format!("/?code={wrong_key}"), None),
                (format!("/?token={wrong_key}&code={wrong_key}"), None),
                (format!("/{key}?{key}"), Some(("Authorization", format!("Bearer {}", self.key)))),
                ("/".to_owned(), Some(("X-Key", wrong.clone()))),
                ("/".to_owned(), Some(("X-Keys", self.header.clone()))),
            ] {
                let header = header.as_ref().map(|(name, value)| (*name, value.as_str()));
                self.request(address, &target, header, body.as_bytes(), &[401]).await;
            }
            let broken = format!("GET /?code={key} HTTP/9\r\nX-Key: {}\r\n\r\n", self.header);
            self.send(address, broken.as_bytes()).await;
        }
        // No TLS where TLS is expected.
        let plain = format!("GET /?code={key} HTTP/1.1\r\nhost: a\r\nX-Key: {}\r\n\r\n", self.header);
        self.send(self.listeners.tls, plain.as_bytes()).await;
    }

    async fn request(
        &mut self,
        address: SocketAddr,
        target: &str,
        header: Option<(&str, &str)>,
        body: &[u8],
        statuses: &[u16],
    ) {
        let headers: Vec<_> = [("Content-Type", "application/json")].into_iter().chain(header).collect();
        let mut connection = Connection::open(address).await.unwrap();
        let answer = connection.request("POST", target, &headers, body).await.unwrap();
        assert!(statuses.contains(&answer.status), "{address}: {}: {}", answer.status, answer.text());
        self.keep("an answer", format!("{:?}", answer.headers).as_bytes());
        self.keep("an answer", &answer.body);
    }

    /// Sends bytes, and keeps what comes back, if anything does.
    async fn send(&mut self, address: SocketAddr, bytes: &[u8]) {
        let mut connection = Connection::open(address).await.unwrap();
        connection.send(bytes).await.unwrap();
        if let Ok(answer) = connection.response().await {
            self.keep("an answer", &answer.body);
        }
    }

    pub(crate) async fn wait_for_records_of_every_source(&mut self) {
        let audit = self.folder.path().join("actlog-data/audit");
        // Both that read the audit table find the same rows; the first of them has the record.
        for source in
            ["crm\"", "records\"", "mse\"", "admin-events\"", "admin-audits\"|admin-certificate\"", "office\""]
        {
            let members: Vec<_> = source.split('|').map(|source| format!("\"Source\":\"{source}")).collect();
            wait_until(&format!("a record of the source {source}"), async || {
                let files = std::fs::read_dir(&audit).into_iter().flatten();
                let mut texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default());
                texts.any(|text| members.iter().any(|member| text.contains(member)))
            })
            .await;
        }
    }

    /// Runs every command that there is; what they print is kept.
    pub(crate) fn run_commands(&mut self, when: &str) {
        std::fs::write(self.folder.path().join("new.toml"), "[entities.account]\nvalues = \"hash\"\n").unwrap();
        // With things as they should be, all but the last six succeed.
        const FAIL: usize = 6;
        let commands = [
            "validate",
            "plugins",
            "plugins --json",
            "plugins show crm",
            "schema",
            "status",
            "status --json",
            "policy draft new.toml",
            "policy validate",
            "policy diff",
            "policy diff --live contoso --allow-private",
            "policy diff --live fabrikam --allow-private",
            "policy publish",
            "policy show",
            "policy history",
            "journal inspect",
            "journal statements",
            "journal verify",
            "deadletters list",
            "deadletters list --json",
            "sinks list",
            "directory ann@contoso.com",
            "dataverse --organization contoso --allow-private register --url https://actlog.example/ --key-file secrets/key --apply",
            "dataverse --organization contoso --allow-private status --format json",
            "dataverse --organization contoso --allow-private recover",
            "dataverse --organization contoso --allow-private apply-policy",
            "dataverse --organization contoso --allow-private import-policy",
            "dataverse --organization fabrikam --allow-private status",
            "dataverse --organization contoso --allow-private unregister --apply",
            "policy diff --live tailspin --allow-private",
            "policy diff --live contoso",
            "deadletters show crm 1",
            "deadletters replay crm",
            "dataverse --organization tailspin --allow-private status",
            "run --no-such-flag",
        ];
        for (place, command) in commands.iter().enumerate() {
            let output = self.actlog.command(&command.split(' ').collect::<Vec<_>>());
            let succeeds = place + FAIL < commands.len();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(when != WORKING || output.status.success() == succeeds, "{command}: {}: {errors}", output.status);
            let place = format!("`actlog {command}` {when}");
            self.keep(&place, &output.stdout);
            self.keep(&place, &output.stderr);
        }
    }

    /// Remembers the tokens that were handed out, before they are revoked.
    pub(crate) fn collect_tokens(&mut self) {
        self.tokens.extend(self.dataverse.entra().tokens());
        self.tokens.extend(self.office.entra().tokens());
    }

    /// The secrets that are configured are right, or are not right any more.
    pub(crate) fn change_secrets(&mut self, are_right: bool) {
        for (server, name) in [(self.dataverse.entra(), "dataverse"), (self.office.entra(), "office")] {
            let secret = std::fs::read_to_string(self.folder.path().join("secrets").join(name)).unwrap();
            server.change_secret(if are_right { secret.trim() } else { "nobody knows this one" });
            server.revoke_all();
        }
    }

    /// What the process has logged.
    pub(crate) fn log(&self) -> String {
        self.actlog.process.stderr()
    }

    pub(crate) async fn restart_with_json_logs(&mut self) {
        self.actlog.stop().await;
        // A process that can't sign in from the beginning does not become ready.
        self.change_secrets(true);
        self.office.set_down(false);
        self.office.set_faults(0);
        let (stdout, stderr) = (self.actlog.process.stdout(), self.log());
        self.keep("standard output", stdout.as_bytes());
        self.keep("the log", stderr.as_bytes());
        let config = format!("{}\n[log]\nlevel = \"trace\"\nformat = \"json\"\n", self.config);
        self.actlog = Actlog::start_host(&self.host, self.folder.path(), &config).await;
    }

    pub(crate) fn keep(&mut self, place: &str, bytes: &[u8]) {
        self.outputs.push((place.to_owned(), bytes.to_vec()));
    }

    /// Every secret that is in an output, or in any file but those where secrets are kept.
    pub(crate) fn found(&mut self) -> Vec<String> {
        for token in &self.tokens {
            self.canaries.watch("token", token.as_bytes());
        }
        let folder = self.folder.path();
        let mut found: Vec<_> =
            self.outputs.iter().flat_map(|(place, bytes)| self.canaries.found(place, bytes)).collect();
        found.extend(self.canaries.found_below(folder, &folder.join("secrets")));

        // The search would have found something: tokens were there, trace lines were written, and what a record says in
        // public is found in the journal and in the sink's file.
        assert!(self.tokens.len() > 2, "{} tokens", self.tokens.len());
        let printed = |wanted: &str| {
            self.outputs.iter().any(|(_, bytes)| memchr::memmem::find(bytes, wanted.as_bytes()).is_some())
        };
        assert!(printed("TRACE") && printed("AADSTS7000215"), "the log has its finest level and the refusals");
        let mut public = Canaries::default();
        public.watch("public", PUBLIC.as_bytes());
        let places = public.found_below(folder, &folder.join("secrets")).join("\n");
        assert!(places.contains("/journal/") && places.contains("/audit/"), "{places}");
        found
    }
}
