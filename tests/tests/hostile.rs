//! What a bad client, a bad sink or a full disk costs: a documented answer, and nothing that was accepted.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use actlog_testkit::http::{Connection, Response, post};
use actlog_testkit::process::{Actlog, free_address, wait_until};
use actlog_tests::{context, records};

/// The promise for capturing to a file, whatever clients do.
const MEMORY_LIMIT: u64 = 256 << 20;

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn source(address: SocketAddr) -> String {
    format!("[sources.dynamics]\ntype = \"crm\"\nlisten = \"{address}\"\n")
}

const FILE_SINK: &str = "[sinks.audit]\ntype = \"file\"\npath = \"{data_dir}/audit/{date}.jsonl\"\n";

/// The binary of the host whose sinks misbehave.
fn test_host() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_test-host"))
}

async fn start(folder: &Path, address: SocketAddr, more: &str) -> Actlog {
    Actlog::start(folder, &format!("{}\n{more}\n{FILE_SINK}", source(address))).await
}

/// Another client is served, and the process has not grown beyond its promise.
async fn assert_unharmed(actlog: &Actlog, address: SocketAddr, number: u128) {
    let answer = post(address, "/", &context("Update", "account", number)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let peak = actlog.process.peak_memory();
    assert!(peak < MEMORY_LIMIT, "{} MiB", peak >> 20);
}

/// Everything up to this number is in the files, once.
async fn assert_all_written(actlog: &mut Actlog, folder: &Path, count: usize) {
    let caught_up = async || {
        let status = actlog.command(&["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap_or_default();
        status["cursors"]["audit"]["waiting"] == 0
    };
    wait_until("the file sink has caught up", caught_up).await;
    actlog.stop().await;
    let records = records(&folder.join("actlog-data/audit"));
    let ids: std::collections::HashSet<_> = records.iter().map(|record| record["Id"].to_string()).collect();
    assert_eq!((records.len(), ids.len()), (count, count));
}

fn gzip_of_zeros(megabytes: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..megabytes {
        encoder.write_all(&vec![b'0'; 1 << 20]).unwrap();
    }
    encoder.finish().unwrap()
}

#[tokio::test]
async fn huge_compressed_and_deeply_nested_bodies_are_refused_and_cost_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut actlog = start(folder.path(), address, "").await;
    let mut written = 0;
    let mut unharmed = async |actlog: &Actlog| {
        written += 1;
        assert_unharmed(actlog, address, written).await;
    };

    // 300 MB announced: refused before any of it is read.
    let mut connection = Connection::open(address).await.unwrap();
    connection
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 300000000\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(connection.response().await.unwrap().status, 413);
    unharmed(&actlog).await;

    // 300 MB in chunks, nothing announced: refused at the limit.
    let mut connection = Connection::open(address).await.unwrap();
    connection
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    for _ in 0..300 {
        // The server may close before everything is sent.
        if connection.send(&chunk).await.is_err() {
            break;
        }
    }
    assert_eq!(connection.response().await.unwrap().status, 413);
    unharmed(&actlog).await;

    // 1 GB of zeros in a megabyte of gzip.
    let bomb = gzip_of_zeros(1024);
    let mut connection = Connection::open(address).await.unwrap();
    let gzip = ("Content-Encoding", "gzip");
    assert_eq!(connection.request("POST", "/", &[JSON, gzip], &bomb).await.unwrap().status, 413);
    unharmed(&actlog).await;

    // Nested 100,000 deep, in a member that is needed and in one that is not.
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for member in ["InputParameters", "Unknown"] {
            let middle = if open == "[" { "" } else { "1" };
            let nested = open.repeat(100_000) + middle + &close.repeat(100_000);
            let body = format!("{{\"MessageName\":\"Update\",\"{member}\":{nested}}}");
            let answer = post(address, "/", body.as_bytes()).await.unwrap();
            assert_eq!(answer.status, 400, "{}", answer.text());
            assert!(answer.text().contains("\"error\""), "{}", answer.text());
            unharmed(&actlog).await;
        }
    }
    let count = usize::try_from(written).unwrap();
    assert_all_written(&mut actlog, folder.path(), count).await;
}

#[tokio::test]
async fn slow_and_idle_clients_do_not_keep_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let limits = "limits = { header_timeout = \"1 s\", body_timeout = \"1 s\" }\n";
    let mut actlog = start(folder.path(), address, limits).await;

    // A head, and a body, of which a part never comes.
    let mut slow_head = Connection::open(address).await.unwrap();
    slow_head.send(b"POST / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.unwrap();
    let mut slow_body = Connection::open(address).await.unwrap();
    slow_body
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
        .await
        .unwrap();
    assert_unharmed(&actlog, address, 1).await;
    let ended = |response: std::io::Result<Response>| response.map_or(true, |response| response.status == 408);
    assert!(ended(slow_head.response().await));
    assert!(ended(slow_body.response().await));

    // A thousand connections that say nothing.
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(Connection::open(address).await.unwrap());
    }
    for number in 2..12 {
        assert_unharmed(&actlog, address, number).await;
    }
    drop(idle);
    assert_all_written(&mut actlog, folder.path(), 11).await;
}

#[tokio::test]
async fn a_hanging_sink_fills_the_journal_and_posts_are_put_off_until_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let config = format!(
        "{}\n{FILE_SINK}\n[journal]\nbudget = \"256 KiB\"\nsegment_size = \"32 KiB\"\n\n\
         [sinks.stuck]\ntype = \"hanging\"\nuntil = \"go\"\n",
        source(address)
    );
    let mut actlog = Actlog::start_host(test_host(), folder.path(), &config).await;
    let mut accepted = 0;
    let refused = loop {
        let answer = post(address, "/", &context("Update", "account", accepted)).await.unwrap();
        match answer.status {
            200 => accepted += 1,
            _ => break answer,
        }
        assert!(accepted < 10_000, "the journal never filled");
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok()), "{refused:?}");
    // The process is there and says what is wrong.
    let ready = actlog_testkit::http::get(actlog.admin, "/readyz").await.unwrap();
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("budget"), "{}", ready.text());
    // It survives being killed in this state.
    actlog.process.kill();
    std::fs::write(folder.path().join("go"), "").unwrap();
    actlog.restart().await;
    let taken = async || post(address, "/", &context("Update", "account", accepted)).await.unwrap().status == 200;
    wait_until("posts are taken again", taken).await;
    let count = usize::try_from(accepted).unwrap() + 1;
    assert_all_written(&mut actlog, folder.path(), count).await;
}

#[tokio::test]
async fn a_sink_that_may_be_skipped_puts_nobody_off_and_what_it_missed_is_stated() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let config = format!(
        "{}\n{FILE_SINK}statements = true\n\n[journal]\nbudget = \"512 KiB\"\nsegment_size = \"32 KiB\"\n\n\
         [sinks.stuck]\ntype = \"hanging\"\nuntil = \"go\"\nwhen_full = \"skip\"\n",
        source(address)
    );
    let mut actlog = Actlog::start_host(test_host(), folder.path(), &config).await;
    let audit = folder.path().join("actlog-data/audit");
    let mut number = 0;
    let skipped = async || {
        for _ in 0..50 {
            let body = context("Update", "account", number);
            if post(address, "/", &body).await.unwrap().status == 200 {
                number += 1;
            }
        }
        let written = records(&audit);
        written.iter().any(|line| line["Statement"] == "skip" && line["Sink"] == "stuck")
    };
    wait_until("the stuck sink is skipped", skipped).await;
    actlog.process.kill();
}

#[tokio::test]
async fn what_a_sink_refuses_waits_in_the_dead_letters_and_can_be_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let config = format!("{}\n{FILE_SINK}\n[sinks.picky]\ntype = \"rejecting\"\nuntil = \"go\"\n", source(address));
    let mut actlog = Actlog::start_host(test_host(), folder.path(), &config).await;
    for (number, message) in ["Create", "Delete", "Update", "Delete"].into_iter().enumerate() {
        assert_eq!(post(address, "/", &context(message, "account", number as u128)).await.unwrap().status, 200);
    }
    let letters = || -> Vec<serde_json::Value> {
        let listed = actlog.command(&["deadletters", "list", "--json"]);
        serde_json::from_slice(&listed.stdout).unwrap_or_default()
    };
    wait_until("two dead letters", async || letters().len() == 2).await;
    assert_eq!(letters()[0]["Record"]["Operation"], "Delete", "{:#?}", letters());
    assert_eq!(letters()[0]["Reason"], "no deletes here");

    std::fs::write(folder.path().join("go"), "").unwrap();
    let replayed = actlog.command(&["deadletters", "replay", "picky"]);
    assert!(replayed.status.success(), "{replayed:?}");
    wait_until("no dead letters", async || letters().is_empty()).await;
    assert_all_written(&mut actlog, folder.path(), 4).await;
}

/// A file system of its own for the data folder; unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the process may still be going down. What stays mounted goes with the machine.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_full_disk_puts_posts_off_and_loses_nothing_that_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("actlog-data");
    let Some(_disk) = SmallDisk::mount(&data, "12m") else {
        actlog_testkit::skip!("mounting a small tmpfs needs root");
    };
    let address = free_address();
    // The files are elsewhere: the disk of the journal alone is full.
    let config = format!(
        "{}\n[journal]\nsegment_size = \"512 KiB\"\n\n[sinks.audit]\ntype = \"file\"\npath = \"audit/{{date}}.jsonl\"\n",
        source(address)
    );
    let mut actlog = Actlog::start(folder.path(), &config).await;
    let filler = data.join("filler");
    let mut accepted = 0;
    for _ in 0..20 {
        assert_eq!(post(address, "/", &context("Update", "account", accepted)).await.unwrap().status, 200);
        accepted += 1;
    }
    // Somebody else fills the disk, to the last block.
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let put_off = async || {
        let answer = post(address, "/", &context("Update", "account", accepted)).await.unwrap();
        match answer.status {
            200 => accepted += 1,
            503 => assert!(answer.header("retry-after").is_some(), "{answer:?}"),
            other => panic!("{other}: {}", answer.text()),
        }
        answer.status == 503
    };
    wait_until("posts are put off", put_off).await;
    std::fs::remove_file(&filler).unwrap();
    let taken = async || post(address, "/", &context("Update", "account", accepted)).await.unwrap().status == 200;
    wait_until("posts are taken again", taken).await;
    let count = usize::try_from(accepted).unwrap() + 1;
    let status = actlog.command(&["journal", "verify"]);
    assert!(status.status.success(), "{status:?}");
    let caught_up = async || records(&folder.path().join("audit")).len() >= count;
    wait_until("every accepted record is in the file", caught_up).await;
    actlog.stop().await;
    assert_eq!(records(&folder.path().join("audit")).len(), count);
}
