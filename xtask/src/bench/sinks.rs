//! `cargo xtask bench sinks`: from the journal to receivers, and the feed's lists and blobs.
//!
//! Records are captured once. Then each sink by itself drains the same journal, in a process of its own, to a receiver in
//! this one that takes everything; so the figures hold reading the journal, and nothing of capture. The limit is a process
//! that reads as many bytes from a file and posts them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use actlog_testkit::http::Connection;
use actlog_testkit::records::Records;
use serde_json::Value;

use super::ingest::{free_address, wait_for};
use super::process::{Measured, Usage, build_actlog};
use super::receiver::Receivers;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Records that each sink delivers
    #[arg(long, default_value_t = 500_000)]
    records: usize,
    /// Seed of the generated records
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only sinks whose name begins so
    #[arg(long)]
    only: Option<String>,
    /// The binary to measure; built in release when left out
    #[arg(long)]
    actlog: Option<PathBuf>,
    /// Folder for input and output
    #[arg(long)]
    folder: Option<PathBuf>,
}

const TENANT: &str = "41463f53-8812-40f4-890f-865bf6e35190";
const CLIENT: &str = "a6099727-6b7b-482c-b509-1df309acc563";
const SECRET: &str = "a secret of the benchmark";

/// Name, and configuration below `[sinks.NAME]`; `URL` and `SYSLOG` stand for the receivers.
const SINKS: [(&str, &str); 13] = [
    ("ndjson", "type = \"http\"\nformat = \"ndjson\"\nurl = \"URL\""),
    ("ndjson-zstd", "type = \"http\"\nformat = \"ndjson\"\ncompression = \"zstd\"\nurl = \"URL\""),
    ("json", "type = \"http\"\nformat = \"json\"\nurl = \"URL\""),
    ("cloudevents", "type = \"http\"\nformat = \"cloudevents\"\nurl = \"URL\""),
    (
        "splunk-hec",
        "type = \"http\"\nformat = \"splunk-hec\"\nauth.splunk = { env = \"SECRET\" }\nsplunk.ack = false\nurl = \"URL\"",
    ),
    ("elasticsearch-ecs", "type = \"http\"\nformat = \"elasticsearch\"\ncompression = \"none\"\nurl = \"URL\""),
    ("otlp", "type = \"http\"\nformat = \"otlp\"\ncompression = \"none\"\nurl = \"URL\""),
    (
        "azure-logs",
        "type = \"http\"\nformat = \"azure-logs\"\ncompression = \"none\"\nauth.bearer = { env = \"SECRET\" }\nurl = \"URL\"\n\
         azure = { rule = \"dcr-00000000000000000000000000000000\", stream = \"Custom-Actlog_CL\" }",
    ),
    ("ndjson-ecs", "type = \"http\"\nformat = \"ndjson\"\nbody = \"ecs\"\nurl = \"URL\""),
    ("ndjson-ocsf", "type = \"http\"\nformat = \"ndjson\"\nbody = \"ocsf\"\nurl = \"URL\""),
    ("syslog", "type = \"syslog\"\ntransport = \"tcp\"\naddress = \"SYSLOG\""),
    ("syslog-cef", "type = \"syslog\"\ntransport = \"tcp\"\nformat = \"cef\"\naddress = \"SYSLOG\""),
    (
        FEED,
        "type = \"management-api\"\nlisten = \"FEED\"\nclients = \"clients.toml\"\ntenants.contoso = { id = \"TENANT\" }",
    ),
];
/// The sink whose lists and blobs are measured too.
const FEED: &str = "management-api";

/// A run's figures.
struct Row {
    name: String,
    /// Records, or requests.
    count: u64,
    /// Bytes of the records as they are stored, or of answers.
    bytes: u64,
    usage: Usage,
}

impl Row {
    fn megabytes_per_core_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.usage.cpu.as_secs_f64().max(0.001)
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let root = crate::command::root();
    let actlog = arguments.actlog.clone().map_or_else(|| build_actlog(&root), Ok)?;
    let folder = arguments.folder.clone().unwrap_or_else(|| root.join("target/bench"));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let work = tempfile::tempdir_in(&folder).map_err(|error| error.to_string())?;
    let bench = Bench { actlog, work: work.path().to_owned(), receivers: Receivers::start()?, feed: free_address()? };
    let bytes = bench.capture(arguments.records, arguments.seed)?;
    println!(
        "{} records of {} bytes on average, seed {}; load average {}",
        arguments.records,
        bytes / arguments.records as u64,
        arguments.seed,
        std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    );
    let limit =
        Row { name: "limit: file to socket".to_owned(), count: arguments.records as u64, bytes, usage: bench.limit()? };
    println!("{:<26} {:>12} {:>9} {:>8} {:>8} {:>8}", "", "records/", "MB/", "ratio to", "peak", "wall");
    println!("{:<26} {:>12} {:>9} {:>8} {:>8} {:>8}", "", "core-second", "core-s", "limit", "MiB", "s");
    let print = |row: &Row| {
        println!(
            "{:<26} {:>12.0} {:>9.0} {:>8.2} {:>8} {:>8.2}",
            row.name,
            row.count as f64 / row.usage.cpu.as_secs_f64().max(0.001),
            row.megabytes_per_core_second(),
            row.megabytes_per_core_second() / limit.megabytes_per_core_second(),
            row.usage.peak_memory >> 20,
            row.usage.wall.as_secs_f64()
        );
    };
    print(&limit);
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| name.starts_with(only.as_str()));
    for (name, config) in SINKS.iter().filter(|(name, _)| wanted(name)) {
        let usage = bench.drain(name, config)?;
        print(&Row { name: (*name).to_owned(), count: arguments.records as u64, bytes, usage });
        if *name == FEED {
            bench.serve(config)?.iter().for_each(&print);
        }
    }
    Ok(())
}

struct Bench {
    actlog: PathBuf,
    work: PathBuf,
    receivers: Receivers,
    feed: SocketAddr,
}

impl Bench {
    /// Brings the records into the journal, and says how many bytes they have there.
    fn capture(&self, records: usize, seed: u64) -> Result<u64, String> {
        let path = self.work.join("records.ndjson");
        let text = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(text)?);
        let mut generator = Records::new(seed);
        let mut line = Vec::new();
        for _ in 0..records {
            line.clear();
            generator.next_record().encode(&mut line).map_err(|error| error.to_string())?;
            line.push(b'\n');
            out.write_all(&line).map_err(text)?;
        }
        out.flush().map_err(text)?;
        let source = format!(
            "[sources.records]\ntype = \"records\"\nsender = \"actlog\"\npath = {:?}\n\n\
             [sinks.copy]\ntype = \"file\"\npath = \"{}/stored.jsonl\"\n",
            path.display().to_string(),
            self.work.display()
        );
        let config = self.configure("capture", &source)?;
        Measured::start(Command::new(&self.actlog).arg("--config").arg(&config).arg("run"))?.finish()?;
        let stored = self.work.join("stored.jsonl");
        std::fs::metadata(&stored).map(|file| file.len()).map_err(|error| format!("{}: {error}", stored.display()))
    }

    /// Writes a configuration whose journal keeps everything; says where it is.
    fn configure(&self, name: &str, tables: &str) -> Result<PathBuf, String> {
        let config = self.work.join(format!("{name}.toml"));
        let text = format!(
            "data_dir = \"data\"\nadmin.listen = \"off\"\nlog.level = \"error\"\n\
             journal = {{ min_age = \"1 day\", budget = \"1 TiB\" }}\n\n{tables}\n"
        );
        std::fs::write(&config, text).map_err(|error| error.to_string())?;
        Ok(config)
    }

    fn sink(&self, name: &str, config: &str) -> Result<PathBuf, String> {
        let config = config
            .replace("URL", &format!("http://{}/", self.receivers.http))
            .replace("SYSLOG", &self.receivers.syslog.to_string())
            .replace("FEED", &self.feed.to_string())
            .replace("TENANT", TENANT);
        let private = if config.contains("\"http\"") { "client.allow_private = true\n" } else { "" };
        self.configure(name, &format!("[sinks.{name}]\n{config}\n{private}"))
    }

    fn command(&self, config: &Path) -> Command {
        let mut command = Command::new(&self.actlog);
        command.arg("--config").arg(config).arg("run").env("SECRET", SECRET).current_dir(&self.work);
        command
    }

    /// Lets a sink deliver what is in the journal.
    fn drain(&self, name: &str, config: &str) -> Result<Usage, String> {
        if name == FEED {
            let mut add = Command::new(&self.actlog);
            add.args(["clients", "add", "--file", "clients.toml", "--tenant", TENANT, "--client", CLIENT]);
            add.args(["--secret-env", "SECRET", "--role", "ActivityFeed.Read"]).env("SECRET", SECRET);
            crate::command::succeed(add.current_dir(&self.work).stdout(Stdio::null()))?;
        }
        let config = self.sink(name, config)?;
        Measured::start(self.command(&config).arg("--drain"))?.finish()
    }

    /// What it takes to read the stored records from their file and to post them.
    fn limit(&self) -> Result<Usage, String> {
        let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
        command.args(["bench", "post-file"]).arg(self.work.join("stored.jsonl")).arg(self.receivers.http.to_string());
        Measured::start(&mut command)?.finish()
    }

    /// Lists the feed and fetches its blobs.
    fn serve(&self, config: &str) -> Result<[Row; 2], String> {
        let config = self.sink(FEED, config)?;
        let process = Measured::start(&mut self.command(&config))?;
        wait_for(self.feed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let rows = runtime.map_err(|error| error.to_string())?.block_on(read_feed(self.feed, &process))?;
        process.terminate()?;
        process.finish()?;
        Ok(rows)
    }
}

/// How often the list is read.
const LISTS: u64 = 2000;
/// Bytes of blobs that are fetched at least.
const FETCHED: u64 = 2 << 30;

async fn read_feed(address: SocketAddr, process: &Measured) -> Result<[Row; 2], String> {
    let text = |error: std::io::Error| error.to_string();
    let mut connection = Connection::open(address).await.map_err(text)?;
    let form = format!(
        "grant_type=client_credentials&client_id={CLIENT}&client_secret={}&scope=https://manage.office.com/.default",
        SECRET.replace(' ', "+")
    );
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let token = format!("/{TENANT}/oauth2/v2.0/token");
    let answer = connection.request("POST", &token, &headers, form.as_bytes()).await.map_err(text)?;
    let token: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    let token = token["access_token"].as_str().ok_or_else(|| format!("no token: {}", answer.text()))?;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let root = format!("/api/v1.0/{TENANT}/activity/feed/subscriptions");
    let start = format!("{root}/start?contentType=Audit.General");
    connection.request("POST", &start, &headers, b"").await.map_err(text)?;
    let mut get = async |target: &str| {
        let answer = connection.request("GET", target, &headers, b"").await.map_err(text)?;
        if answer.status == 200 { Ok(answer) } else { Err(format!("{target}: {} {}", answer.status, answer.text())) }
    };
    let path = |url: &str| url.find("/api/").map_or_else(String::new, |at| url[at..].to_owned());

    let began = (Instant::now(), process.cpu()?);
    let usage = |began: (Instant, std::time::Duration)| {
        let cpu = process.cpu()?.saturating_sub(began.1);
        Ok::<_, String>(Usage { wall: began.0.elapsed(), cpu, peak_memory: process.memory() })
    };
    let first = format!("{root}/content?contentType=Audit.General");
    let (mut target, mut bytes, mut blobs) = (first.clone(), 0, VecDeque::new());
    for _ in 0..LISTS {
        let answer = get(&target).await?;
        bytes += answer.body.len() as u64;
        let listed: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        if blobs.len() < LISTS as usize {
            let uris = listed.as_array().into_iter().flatten().filter_map(|content| content["contentUri"].as_str());
            blobs.extend(uris.map(path));
        }
        target = answer.header("nextpageuri").map_or_else(|| first.clone(), path);
    }
    let lists = Row { name: "  lists".to_owned(), count: LISTS, bytes, usage: usage(began)? };
    if blobs.is_empty() {
        return Err("the feed lists nothing".to_owned());
    }

    let began = (Instant::now(), process.cpu()?);
    let (mut bytes, mut count) = (0, 0);
    while bytes < FETCHED {
        blobs.rotate_left(1);
        bytes += get(&blobs[0]).await?.body.len() as u64;
        count += 1;
    }
    let fetched = Row { name: "  blobs".to_owned(), count, bytes, usage: usage(began)? };
    Ok([lists, fetched])
}

/// Reads a file and posts it in bodies of 1 MiB over one connection: a process of its own.
pub(crate) fn post_file(file: &Path, address: &str) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut input = File::open(file).map_err(text)?;
    let mut stream = std::net::TcpStream::connect(address).map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    let (mut body, mut answer) = (vec![0; 1 << 20], [0; 4096]);
    loop {
        let read = input.read(&mut body).map_err(text)?;
        if read == 0 {
            return Ok(());
        }
        let head = format!("POST / HTTP/1.1\r\nhost: {address}\r\ncontent-length: {read}\r\n\r\n");
        stream.write_all(head.as_bytes()).map_err(text)?;
        stream.write_all(&body[..read]).map_err(text)?;
        // The receiver's answers are short: they come in one piece.
        if stream.read(&mut answer).map_err(text)? == 0 {
            return Err("the receiver has closed".to_owned());
        }
    }
}
