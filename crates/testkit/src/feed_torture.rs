//! The `management-api` sink in the real binary, with three clients that poll it while it is filled: the PyPI client, a
//! plain poller, and another actlog, which is killed over and over. In the end each of them must have every record.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::certificates::Authority;
use crate::fixtures::workspace;
use crate::http::Connection;
use crate::peers;
use crate::process::{Actlog, Process, binary, free_address};
use crate::proxy::ConnectProxy;
use crate::random::Random;
use crate::records::Records;
use crate::torture::audit_files;

/// How to torture.
#[derive(Clone, Debug)]
pub struct FeedTorture {
    /// Records that are captured.
    pub records: u64,
    /// Of all choices.
    pub seed: u64,
    /// The polling actlog is killed about so long after it is ready.
    pub every: Duration,
    /// How long the clients may take to come to the end, once everything is captured.
    pub patience: Duration,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct FeedOutcome {
    /// Records that were acknowledged.
    pub captured: u64,
    /// Records that each client lacks, by client. Must be 0.
    pub lost: [u64; 3],
    /// Records, or parts of them, that a client got in two blobs. Must be 0.
    pub doubled: u64,
    /// Ids that nobody sent. Must be 0.
    pub foreign: u64,
    /// How often the polling actlog was killed.
    pub kills: u64,
    /// The most memory that the server had, in bytes.
    pub peak_memory: u64,
    /// The largest page or blob, in bytes.
    pub largest_answer: u64,
    /// Pages behind first pages.
    pub further_pages: u64,
    /// Listings as the plain poller saw them: how many, and the times that half and 99 of 100 did not exceed.
    pub lists: u64,
    /// In milliseconds.
    pub list_p50: f64,
    /// In milliseconds.
    pub list_p99: f64,
    /// How long it took, in seconds.
    pub seconds: u64,
}

/// Clients by the place that they have in [`FeedOutcome::lost`].
const CLIENTS: [&str; 3] = ["zizhu", "requests", "actlog"];
/// Largest answer that every client takes: Wazuh loses the rest of a window otherwise.
pub const ANSWER_LIMIT: u64 = 1 << 20;

impl FeedOutcome {
    /// Whether every promise was kept.
    pub fn is_good(&self) -> bool {
        let broken = self.lost.iter().sum::<u64>() + self.doubled + self.foreign;
        broken == 0 && self.largest_answer < ANSWER_LIMIT
    }
}

impl fmt::Display for FeedOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} captured; lost:", self.captured)?;
        for (client, lost) in CLIENTS.iter().zip(self.lost) {
            write!(f, " {client} {lost}")?;
        }
        write!(
            f,
            "; {} doubled, {} foreign; {} kills; {} MiB at most; largest answer {} KiB; {} listings and {} further \
             pages, p50 {:.1} ms, p99 {:.1} ms; {} s",
            self.doubled,
            self.foreign,
            self.kills,
            self.peak_memory >> 20,
            self.largest_answer >> 10,
            self.lists,
            self.further_pages,
            self.list_p50,
            self.list_p99,
            self.seconds
        )
    }
}

const TENANT: Uuid = Uuid::from_u128(0x41463f53_8812_40f4_890f_865bf6e35190);
const CLIENT: Uuid = Uuid::from_u128(0xa6099727_6b7b_482c_b509_1df309acc563);
/// The secret of the clients, and the key of the source.
const SECRET: &str = "a secret of the torture";
/// Purpose of the random numbers that say when the client is killed.
const MOMENTS: u64 = 2002;
/// Records of a post.
const BATCH: u64 = 500;
/// Posts that are under way at once.
const CONNECTIONS: u64 = 2;

/// Tortures a server in a folder; `progress` is called now and then with what was captured, and how often the client was
/// killed. None where there is no Python to run clients with.
///
/// # Panics
/// When a process does not start, or ends badly by itself.
pub async fn torture(folder: &Path, plan: &FeedTorture, mut progress: impl FnMut(u64, u64)) -> Option<FeedOutcome> {
    let python = peers::python()?;
    let scene = Scene::new(folder);
    let mut server = Actlog::start(&scene.folder("server"), &scene.server()).await;
    let target = scene.feed;
    let proxy = ConnectProxy::start(target).await.unwrap_or_else(|error| panic!("no proxy: {error}"));
    let mut pollers = ["zizhu", "requests"].map(|client| scene.poller(&python, client, &proxy));
    let mut actlog = Actlog::start(&scene.folder("client"), &scene.client()).await;

    let (began, mut random, mut kills) = (Instant::now(), Random::new(plan.seed, MOMENTS, 0), 0);
    let posting: Vec<_> =
        (0..CONNECTIONS).map(|number| tokio::spawn(post(scene.source, plan.clone(), number))).collect();
    let most = u64::try_from(plan.every.as_millis()).unwrap_or(u64::MAX / 2).max(1);
    while kills == 0 || posting.iter().any(|task| !task.is_finished()) {
        tokio::time::sleep(Duration::from_millis(random.below(2 * most))).await;
        actlog.process.kill();
        kills += 1;
        progress(count_lines(&scene.folder("client")), kills);
        actlog.restart().await;
    }
    let mut expected = HashSet::new();
    for task in posting {
        expected.extend(task.await.unwrap_or_else(|error| panic!("a poster: {error}")));
    }
    // The sink commits what is in published blobs; then the pollers may take their last look.
    let is_published = async || {
        let status = server.command(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        status["cursors"]["office"]["waiting"] == 0
    };
    wait_for("everything is published", plan.patience, is_published).await;
    std::fs::write(scene.folder.join("until"), "").unwrap_or_else(|error| panic!("{error}"));
    for poller in &mut pollers {
        let name = format!("a poller: {}", poller.stderr());
        wait_for(&name, plan.patience, async || !poller.is_running()).await;
    }
    let all_are_there = async || audited(&scene.folder("client")).0.len() >= expected.len();
    // Whether they are is counted below.
    let _ = tokio::time::timeout(plan.patience, async {
        while !all_are_there().await {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    let peak_memory = server.process.peak_memory();
    actlog.stop().await;
    server.stop().await;

    let mut outcome = FeedOutcome {
        captured: expected.len() as u64,
        kills,
        peak_memory,
        seconds: began.elapsed().as_secs(),
        ..FeedOutcome::default()
    };
    let (of_actlog, doubled) = audited(&scene.folder("client"));
    outcome.doubled += doubled;
    let found = [scene.found("zizhu"), scene.found("requests"), of_actlog];
    for (lost, found) in outcome.lost.iter_mut().zip(&found) {
        *lost = expected.difference(found).count() as u64;
        outcome.foreign += found.difference(&expected).count() as u64;
    }
    scene.figures(&mut outcome);
    Some(outcome)
}

/// The folders, addresses and keys of a run.
struct Scene {
    folder: PathBuf,
    source: SocketAddr,
    feed: SocketAddr,
}

impl Scene {
    fn new(folder: &Path) -> Self {
        let scene = Self { folder: folder.to_owned(), source: free_address(), feed: free_address() };
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        };
        for name in ["server", "client"] {
            std::fs::create_dir(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let authority = Authority::new();
        let issued = authority.issue(&["login.microsoftonline.com", "manage.office.com", "127.0.0.1"]);
        write("authority.pem", &authority.pem());
        write("certificate.pem", &issued.certificate);
        write("key.pem", &issued.key);
        write("secret", SECRET);
        let mut add = Command::new(binary());
        add.args(["clients", "add", "--file", "clients.toml", "--tenant", &TENANT.to_string()]);
        add.args(["--client", &CLIENT.to_string(), "--secret-env", "SECRET", "--role", "ActivityFeed.Read"]);
        let added = add.env("SECRET", SECRET).current_dir(folder).output();
        match added {
            Ok(output) if output.status.success() => scene,
            other => panic!("clients add: {other:?}"),
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn server(&self) -> String {
        format!(
            "[sources.feed]\ntype = \"records\"\nlisten = \"{}\"\nsender = \"actlog\"\n\
             headers = {{ x-key = {{ file = \"../secret\" }} }}\n\n\
             [sinks.office]\ntype = \"management-api\"\nlisten = \"{}\"\nclients = \"../clients.toml\"\n\
             tls = {{ certificate = \"../certificate.pem\", key = \"../key.pem\" }}\n\
             tenants.contoso = {{ id = \"{TENANT}\" }}\n",
            self.source, self.feed
        )
    }

    fn client(&self) -> String {
        let url = format!("https://{}", self.feed);
        format!(
            "[sources.office]\ntype = \"office365\"\nbase_url = \"{url}\"\npoll = \"200 ms\"\n\
             content_types = [\"Audit.General\"]\nrequests_per_minute = 1000000\n\
             client = {{ allow_private = true, ca = \"../authority.pem\" }}\n\n\
             [sources.office.tenants.contoso]\nid = \"{TENANT}\"\n\
             application = {{ client_id = \"{CLIENT}\", secret = {{ file = \"../secret\" }}, authority = \"{url}\" }}\n\n\
             [sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\n\
             rotate = {{ size = \"64 MiB\" }}\n"
        )
    }

    fn poller(&self, python: &Path, client: &str, proxy: &ConnectProxy) -> Process {
        let given = json!({
            "tenant": TENANT, "client": CLIENT, "secret": SECRET, "until": self.folder("until"),
            "out": self.folder(client),
        });
        let path = self.folder(&format!("{client}.config"));
        std::fs::write(&path, given.to_string()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut command = Command::new(python);
        command.arg(workspace().join("tests/peers/poll_feed.py")).arg(client).arg(&path).current_dir(&self.folder);
        command.env("HTTPS_PROXY", proxy.url()).env("REQUESTS_CA_BUNDLE", self.folder("authority.pem"));
        Process::start(&format!("poller-{client}"), &self.folder, &mut command)
    }

    /// The Ids that a poller has written down.
    fn found(&self, client: &str) -> HashSet<Uuid> {
        let path = self.folder(client);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            let said = std::fs::read_to_string(self.folder(&format!("poller-{client}.stderr"))).unwrap_or_default();
            panic!("{}: {error}\n{said}", path.display())
        });
        text.lines().map(|line| line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
    }

    fn figures(&self, outcome: &mut FeedOutcome) {
        let read = |client: &str| -> Value {
            let bytes = std::fs::read(self.folder(&format!("{client}.json"))).unwrap_or_default();
            serde_json::from_slice(&bytes).unwrap_or_default()
        };
        let (plain, zizhu) = (read("requests"), read("zizhu"));
        // A poller that has left no figures has failed, and must not look good.
        for figures in [&plain, &zizhu] {
            outcome.doubled += figures["doubled"].as_u64().unwrap_or(u64::from(u32::MAX));
        }
        outcome.largest_answer = plain["largest_answer"].as_u64().unwrap_or(u64::MAX);
        outcome.further_pages = plain["further_pages"].as_u64().unwrap_or_default();
        outcome.lists = plain["lists"].as_u64().unwrap_or_default();
        outcome.list_p50 = plain["list_p50_ms"].as_f64().unwrap_or(f64::INFINITY);
        outcome.list_p99 = plain["list_p99_ms"].as_f64().unwrap_or(f64::INFINITY);
    }
}

/// Posts a share of the records, and gives their Ids.
async fn post(address: SocketAddr, plan: FeedTorture, number: u64) -> Vec<Uuid> {
    let mut records = Records::new(plan.seed.wrapping_mul(1_000_003).wrapping_add(number));
    let share = plan.records / CONNECTIONS;
    let mut connection = Connection::open(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    let headers = [("content-type", "application/x-ndjson"), ("x-key", SECRET)];
    let mut posted = Vec::new();
    let mut body = Vec::new();
    while (posted.len() as u64) < share {
        body.clear();
        for _ in 0..BATCH.min(share - posted.len() as u64) {
            let record = records.next_record();
            record.encode(&mut body).unwrap_or_else(|error| panic!("{error}"));
            body.push(b'\n');
            posted.push(record.id);
        }
        loop {
            match connection.request("POST", "/", &headers, &body).await {
                Ok(answer) if answer.status == 200 => break,
                Ok(answer) if answer.status == 503 => tokio::time::sleep(Duration::from_millis(200)).await,
                other => panic!("a post: {other:?}"),
            }
        }
    }
    posted
}

/// Waits longer than [`wait_until`] does.
async fn wait_for(what: &str, patience: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + patience;
    while !condition().await {
        assert!(Instant::now() < end, "waited {} s in vain: {what}", patience.as_secs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    id: Uuid,
    correlation_id: Option<Uuid>,
    #[serde(default)]
    extra: LineExtra,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LineExtra {
    part: Option<u32>,
}

/// The Ids that the polling actlog has in its files, those of divided records once, and how many lines are there twice.
fn audited(folder: &Path) -> (HashSet<Uuid>, u64) {
    let (mut seen, mut found, mut doubled) = (HashSet::new(), HashSet::new(), 0);
    for file in audit_files(folder) {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // The last line may be on its way.
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Ok(line) = serde_json::from_slice::<Line>(line) {
                doubled += u64::from(!seen.insert(line.id));
                found.insert(line.extra.part.and(line.correlation_id).unwrap_or(line.id));
            }
        }
    }
    (found, doubled)
}

fn count_lines(folder: &Path) -> u64 {
    let files = audit_files(folder).into_iter();
    let lines = files.map(|file| {
        let bytes = std::fs::read(&file).unwrap_or_default();
        bytes.iter().filter(|byte| **byte == b'\n').count() as u64
    });
    lines.sum()
}
