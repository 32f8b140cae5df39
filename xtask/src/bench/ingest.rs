//! `cargo xtask bench ingest`: from a context to a durable record in a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use actlog_testkit::generator::Generator;

use super::load::{self, Answers};
use super::process::{Measured, Usage, build_actlog};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Contexts for the runs from files
    #[arg(long, default_value_t = 200_000)]
    contexts: usize,
    /// Contexts for each run over HTTP
    #[arg(long, default_value_t = 100_000)]
    posts: usize,
    /// Connections of the load over HTTP
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Contexts in a batch over HTTP
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Seed of the generated contexts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The binary to measure; built in release when left out
    #[arg(long)]
    actlog: Option<PathBuf>,
    /// Folder for input and output; on the disk that is to be measured
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// A run's figures.
struct Row {
    name: String,
    records: usize,
    bytes: u64,
    usage: Usage,
    answers: Option<Answers>,
    /// Records per core-second of the limit or peer.
    peer: Option<f64>,
}

impl Row {
    fn records_per_core_second(&self) -> f64 {
        self.records as f64 / self.usage.cpu.as_secs_f64().max(0.001)
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let root = crate::command::root();
    let actlog = match &arguments.actlog {
        Some(actlog) => actlog.clone(),
        None => build_actlog(&root)?,
    };
    let folder = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => root.join("target/bench"),
    };
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let work = tempfile::tempdir_in(&folder).map_err(|error| error.to_string())?;
    let work = work.path();

    let plain = work.join("contexts.ndjson");
    let bytes = generate(&plain, arguments.contexts, arguments.seed)?;
    let gzip = work.join("contexts.ndjson.gz");
    compress(&plain, &gzip)?;
    println!(
        "{} contexts of {} bytes on average, seed {}; load average {}",
        arguments.contexts,
        bytes / arguments.contexts as u64,
        arguments.seed,
        std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    );

    let mut rows = vec![from_file(&actlog, work, "plain file", &plain, arguments.contexts, bytes)?];
    let written = std::fs::metadata(work.join("plain-file.jsonl")).map_err(|error| error.to_string())?.len();
    let record_bytes = usize::try_from(written).unwrap_or(usize::MAX) / arguments.contexts;
    rows.push(from_file(&actlog, work, "gzip file", &gzip, arguments.contexts, bytes)?);

    let (limit, sync_p50, sync_p99) = limit(work, &plain, record_bytes)?;
    let limit = Row {
        name: "limit: parse, hash, copy, sync".into(),
        records: arguments.contexts,
        bytes,
        usage: limit,
        answers: None,
        peer: None,
    };
    for row in &mut rows {
        row.peer = Some(limit.records_per_core_second());
    }

    // Contexts that differ from those of the files, and from run to run: duplicates would be cheap.
    let single = bodies(arguments.posts, arguments.seed + 1);
    let single_bytes = single.iter().map(|body| body.len() as u64).sum();
    let batches: Vec<Vec<u8>> = bodies(arguments.posts, arguments.seed + 2)
        .chunks(arguments.batch.max(1))
        .map(|chunk| chunk.join(&b'\n'))
        .collect();
    let batch_bytes = batches.iter().map(|body| body.len() as u64).sum();
    let peers = [
        bare(single.clone(), single_bytes, arguments.posts, arguments.connections, "bare server, single posts")?,
        bare(batches.clone(), batch_bytes, arguments.posts, arguments.connections, "bare server, batches")?,
    ];
    let mut row = over_http(&actlog, work, "single posts", "application/json", single, single_bytes, arguments)?;
    row.peer = Some(peers[0].records_per_core_second());
    rows.push(row);
    let name = format!("batches of {}", arguments.batch);
    let mut row = over_http(&actlog, work, &name, "application/x-ndjson", batches, batch_bytes, arguments)?;
    row.peer = Some(peers[1].records_per_core_second());
    rows.push(row);

    println!(
        "record: {record_bytes} bytes; sync of a 1 MiB group: p50 {:.1} ms, p99 {:.1} ms",
        millis(sync_p50),
        millis(sync_p99)
    );
    println!(
        "{:<34} {:>12} {:>9} {:>10} {:>8} {:>8} {:>9} {:>9} {:>8}",
        "", "records/", "MB/", "records/", "ratio to", "peak", "ack p50", "ack p99", "wall"
    );
    println!(
        "{:<34} {:>12} {:>9} {:>10} {:>8} {:>8} {:>9} {:>9} {:>8}",
        "", "core-second", "core-s", "second", "limit", "MiB", "ms", "ms", "s"
    );
    rows.push(limit);
    rows.extend(peers);
    rows.iter().for_each(print);
    Ok(())
}

fn print(row: &Row) {
    let per_core = row.records_per_core_second();
    // Over HTTP the load's own time counts: start and end of the process do not.
    let wall = row.answers.as_ref().map_or(row.usage.wall, |answers| answers.wall).as_secs_f64();
    let megabytes = row.bytes as f64 / 1e6 / row.usage.cpu.as_secs_f64().max(0.001);
    let ratio = row.peer.map_or_else(String::new, |peer| format!("{:.2}", per_core / peer));
    let latency = |share: f64| {
        row.answers.as_ref().map_or_else(String::new, |answers| format!("{:.2}", millis(answers.percentile(share))))
    };
    println!(
        "{:<34} {per_core:>12.0} {megabytes:>9.0} {:>10.0} {ratio:>8} {:>8} {:>9} {:>9} {wall:>8.2}",
        row.name,
        row.records as f64 / wall,
        row.usage.peak_memory >> 20,
        latency(0.5),
        latency(0.99),
    );
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn generate(file: &Path, contexts: usize, seed: u64) -> Result<u64, String> {
    let text = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file).map_err(text)?);
    let mut generator = Generator::new(seed);
    let (mut body, mut bytes) = (Vec::new(), 0);
    for _ in 0..contexts {
        body.clear();
        generator.body(&mut body);
        body.push(b'\n');
        bytes += body.len() as u64;
        out.write_all(&body).map_err(text)?;
    }
    out.into_inner().map_err(|error| text(error.into_error()))?.sync_all().map_err(text)?;
    Ok(bytes)
}

fn bodies(count: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut generator = Generator::new(seed);
    let mut next = || {
        let mut body = Vec::new();
        generator.body(&mut body);
        body
    };
    (0..count).map(|_| next()).collect()
}

fn compress(plain: &Path, gzip: &Path) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let out = BufWriter::new(File::create(gzip).map_err(text)?);
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
    std::io::copy(&mut File::open(plain).map_err(text)?, &mut encoder).map_err(text)?;
    encoder.finish().map_err(text)?.flush().map_err(text)
}

/// Writes a configuration with this source and a file sink; says where it is.
fn configure(work: &Path, name: &str, source: &str) -> Result<PathBuf, String> {
    let name = name.replace(' ', "-");
    let config = work.join(format!("{name}.toml"));
    let text = format!(
        "data_dir = \"{name}\"\nadmin.listen = \"off\"\nlog.level = \"warn\"\n\n\
         [sources.contexts]\ntype = \"crm\"\n{source}\n\n\
         [sinks.audit]\ntype = \"file\"\npath = \"{}/{name}.jsonl\"\n",
        work.display()
    );
    std::fs::write(&config, text).map_err(|error| error.to_string())?;
    Ok(config)
}

fn from_file(actlog: &Path, work: &Path, name: &str, input: &Path, records: usize, bytes: u64) -> Result<Row, String> {
    let config = configure(work, name, &format!("path = {:?}", input.display().to_string()))?;
    let process = Measured::start(Command::new(actlog).arg("--config").arg(&config).arg("run"))?;
    let usage = process.finish()?;
    Ok(Row { name: name.to_owned(), records, bytes, usage, answers: None, peer: None })
}

fn limit(work: &Path, contexts: &Path, record_bytes: usize) -> Result<(Usage, Duration, Duration), String> {
    let out = work.join("limit.out");
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.args(["bench", "limit"]).arg(contexts).arg(&out).arg(record_bytes.to_string()).stdout(Stdio::piped());
    let mut process = Measured::start(&mut command)?;
    let line = process.first_line()?;
    let usage = process.finish()?;
    let micros: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
    let [p50, p99] = micros[..] else { return Err(format!("the limit printed {line:?}")) };
    Ok((usage, Duration::from_micros(p50), Duration::from_micros(p99)))
}

fn bare(bodies: Vec<Vec<u8>>, bytes: u64, records: usize, connections: usize, name: &str) -> Result<Row, String> {
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.args(["bench", "bare-server"]).stdout(Stdio::piped());
    let mut process = Measured::start(&mut command)?;
    let address = process.first_line()?.parse().map_err(|error| format!("bare server: {error}"))?;
    let answers = load::post_all(address, "/", "application/json", bodies, connections)?;
    process.terminate()?;
    let usage = process.finish()?;
    Ok(Row { name: name.to_owned(), records, bytes, usage, answers: Some(answers), peer: None })
}

fn over_http(
    actlog: &Path,
    work: &Path,
    name: &str,
    content_type: &str,
    bodies: Vec<Vec<u8>>,
    bytes: u64,
    arguments: &Arguments,
) -> Result<Row, String> {
    let address = free_address()?;
    let config = configure(work, name, &format!("listen = \"{address}\"\nkey = {{ env = \"ACTLOG_BENCH_KEY\" }}"))?;
    let mut command = Command::new(actlog);
    command.arg("--config").arg(&config).arg("run").env("ACTLOG_BENCH_KEY", "bench-bench-bench-bench");
    let process = Measured::start(&mut command)?;
    wait_for(address)?;
    let path = "/?code=bench-bench-bench-bench";
    let answers = load::post_all(address, path, content_type, bodies, arguments.connections)?;
    process.terminate()?;
    let usage = process.finish()?;
    Ok(Row { name: name.to_owned(), records: arguments.posts, bytes, usage, answers: Some(answers), peer: None })
}

/// An address that was free a moment ago.
pub(super) fn free_address() -> Result<SocketAddr, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}

pub(super) fn wait_for(address: SocketAddr) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            return Err(format!("nothing listens on {address} after 20 s"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
