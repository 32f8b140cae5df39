//! The real receivers, rsyslog and syslog-ng from Debian, configured as docs/syslog.md says: its blocks are what they
//! are run with. Every record arrives, with the exact bytes of the journal, whatever happens to the receiver.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use actlog_core::{AuditRecord, Field, Status};
use actlog_testkit::certificates::Authority;
use actlog_testkit::compliance::{DEADLINE, SinkHarness};
use actlog_testkit::fixtures::workspace;
use actlog_testkit::peers;
use actlog_testkit::process::{Process, free_address, wait_until};
use actlog_testkit::records::Records;
use common::{deliver_all, start};
use tempfile::TempDir;

/// A program, and which of its blocks in docs/syslog.md it runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    RsyslogTls,
    /// imptcp.
    RsyslogTcp,
    /// The same with imtcp, which the page says works as well.
    RsyslogImtcp,
    SyslogNgTls,
    SyslogNgTcp,
}

const ALL: [Kind; 5] = [Kind::RsyslogTls, Kind::RsyslogTcp, Kind::RsyslogImtcp, Kind::SyslogNgTls, Kind::SyslogNgTcp];

/// What the page says to do where receivers take longer messages than by default.
const LONGER: &str = "max_record_bytes = \"64 KiB\"\n";

impl Kind {
    fn is_rsyslog(self) -> bool {
        !matches!(self, Self::SyslogNgTls | Self::SyslogNgTcp)
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::RsyslogTls | Self::SyslogNgTls)
    }

    /// Its block in the page.
    fn block(self) -> String {
        let page = std::fs::read_to_string(workspace().join("docs/syslog.md")).unwrap();
        let fence = if self.is_rsyslog() { "```rsyslog\n" } else { "```syslog-ng\n" };
        let block = page.split(fence).nth(if self.is_tls() { 1 } else { 2 }).expect("the page has the block");
        let block = block.split("```").next().unwrap();
        match self {
            Self::RsyslogImtcp => block.replace("imptcp", "imtcp"),
            _ => block.to_owned(),
        }
    }
}

/// A receiver in a folder of its own.
struct Peer {
    kind: Kind,
    package: PathBuf,
    folder: TempDir,
    address: SocketAddr,
    process: Process,
}

impl Peer {
    /// Starts one; `adapt` may change its configuration. None where its package can't be had.
    async fn start(kind: Kind, adapt: impl Fn(String) -> String) -> Option<Self> {
        let package = peers::debian(if kind.is_rsyslog() { "rsyslog-gnutls" } else { "syslog-ng-core" })?;
        let (folder, address) = (TempDir::new().unwrap(), free_address());
        let here = folder.path().display();
        let authority = Authority::new();
        let server = authority.issue(&["localhost", "127.0.0.1"]);
        let client = authority.issue(&["actlog.example"]);
        for (name, content) in [
            ("ca.pem", authority.pem()),
            ("other.pem", Authority::new().pem()),
            ("server.pem", server.certificate),
            ("server.key", server.key),
            ("client.pem", client.certificate),
            ("client.key", client.key),
        ] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let block = kind.block();
        for expected in ["6514", "/var/log/"] {
            assert!(block.contains(expected), "{expected} is to be replaced in {block}");
        }
        let block = ["/etc/rsyslog.d", "/etc/syslog-ng", "/var/log"]
            .iter()
            .fold(block, |block, place| block.replace(place, &here.to_string()));
        let (port, ip) = (address.port(), address.ip());
        let config = if kind.is_rsyslog() {
            let block = block.replace("port=\"6514\"", &format!("address=\"{ip}\" port=\"{port}\""));
            format!("global(workDirectory=\"{here}\")\n{block}")
        } else {
            let block = block.replace("port(6514)", &format!("ip(\"{ip}\") port({port})"));
            format!("@version: 3.38\noptions {{ keep-hostname(yes); }};\n{block}")
        };
        std::fs::write(folder.path().join("config"), adapt(config)).unwrap();
        let process = launch(kind, &package, folder.path());
        let mut peer = Self { kind, package, folder, address, process };
        peer.listens().await;
        Some(peer)
    }

    async fn listens(&mut self) {
        let (address, process) = (self.address, &mut self.process);
        wait_until("the receiver listens", async || {
            assert!(process.is_running(), "{}{}", process.stdout(), process.stderr());
            TcpStream::connect(address).is_ok()
        })
        .await;
    }

    /// `kill -9`, and a new start.
    async fn restart(&mut self) {
        self.process.kill();
        self.process = launch(self.kind, &self.package, self.folder.path());
        self.listens().await;
    }

    /// The sink's configuration for it.
    fn config(&self, more: &str) -> String {
        let (transport, tls) = if self.kind.is_tls() { ("tls", "tls.ca = \"ca.pem\"\n") } else { ("tcp", "") };
        let port = self.address.port();
        format!(
            "address = \"localhost:{port}\"\ntransport = \"{transport}\"\nmax_record_bytes = \"64 KiB\"\n{tls}{more}"
        )
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The whole lines of what it has written.
    fn lines(&self) -> Vec<String> {
        let text = std::fs::read(self.path().join("actlog.jsonl")).unwrap_or_default();
        let text = String::from_utf8(text).unwrap();
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }

    /// Waits until it has written at least so many lines: it does so a moment after it has read them.
    async fn wait_for(&self, lines: usize) {
        wait_until(&format!("{lines} lines of {:?}", self.kind), async || self.lines().len() >= lines).await;
    }
}

fn launch(kind: Kind, package: &Path, folder: &Path) -> Process {
    let file = |name: &str| folder.join(name);
    let modules = |pattern: &str| {
        let found = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib"];
        let found = found.iter().map(|place| package.join(place).join(pattern)).find(|place| place.is_dir());
        found.unwrap_or_else(|| panic!("no {pattern} in {}", package.display()))
    };
    let mut command = if kind.is_rsyslog() {
        let mut command = peers::command(package, "usr/sbin/rsyslogd");
        command.arg("-n").arg("-M").arg(modules("rsyslog")).arg("-f").arg(file("config")).arg("-i").arg(file("pid"));
        command
    } else {
        let mut command = peers::command(package, "usr/sbin/syslog-ng");
        command.args(["--foreground", "--no-caps", "--stderr", "--module-path"]).arg(modules("syslog-ng/3.38"));
        command.arg("-f").arg(file("config")).arg("-R").arg(file("persist"));
        command.arg("-c").arg(file("control")).arg("-p").arg(file("pid"));
        command
    };
    Process::start("receiver", folder, &mut command)
}

fn length(record: &AuditRecord<'_>) -> usize {
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    bytes.len()
}

/// A record that is nearly as long as the receivers take, with text of several scripts.
fn long_record() -> AuditRecord<'static> {
    let mut record = Records::new(7).next_record();
    let text = "漢字 Grüße שלום 🦀 ";
    record.fields = vec![Field::new("description", text.repeat((60 << 10) / text.len()))];
    assert!((60 << 10..63 << 10).contains(&length(&record)));
    record
}

fn journal(records: impl IntoIterator<Item = AuditRecord<'static>>) -> (SinkHarness, Vec<String>) {
    let harness = SinkHarness::new();
    for record in records {
        harness.append(&record);
    }
    let stored = harness.entries().iter().map(|entry| String::from_utf8(entry.bytes.to_vec()).unwrap()).collect();
    (harness, stored)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_arrives_with_the_exact_bytes_of_the_journal() {
    for kind in ALL {
        let Some(peer) = Peer::start(kind, |config| config).await else { return };
        let nasty = Records::new(1).nasty().take(300).chain([long_record()]);
        let (harness, stored) = journal(nasty.filter(|record| length(record) < 63 << 10));
        let failures = deliver_all(&harness, &peer.config(""), peer.path()).await;
        assert_eq!(failures, Vec::<String>::new(), "{kind:?}: {}", peer.process.stderr());
        peer.wait_for(stored.len()).await;
        assert_eq!(peer.lines(), stored, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_longer_than_the_receiver_takes_arrives_in_parts_that_make_it_again() {
    for kind in ALL {
        let with_its_default = |config: String| config.replace("maxMessageSize=\"64k\"", "");
        let Some(peer) = Peer::start(kind, with_its_default).await else { return };
        let records: Vec<_> = Records::new(2).nasty().take(100).chain([long_record()]).collect();
        let (harness, _) = journal(records.clone());
        let config = peer.config("").replace(LONGER, "");
        assert_eq!(deliver_all(&harness, &config, peer.path()).await, Vec::<String>::new(), "{kind:?}");
        wait_until("all records of all parts", async || {
            common::records(peer.lines().iter().map(String::as_str)).len() >= records.len()
        })
        .await;
        assert_eq!(common::records(peer.lines().iter().map(String::as_str)), records, "{kind:?}");
        assert!(peer.lines().len() > records.len(), "none was divided");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_killed_again_and_again_loses_nothing() {
    for kind in ALL {
        let Some(mut peer) = Peer::start(kind, |config| config).await else { return };
        let (harness, stored) = journal(Records::new(3).take(5000));
        // So many bytes that the records take several connections.
        let config = peer.config("commit_interval = \"200 ms\"\ncommit_bytes = \"256 KiB\"\n");
        let delivering = {
            let (harness, folder) = (harness.clone(), peer.path().to_owned());
            tokio::spawn(async move { deliver_all(&harness, &config, &folder).await })
        };
        for kill in 1..=4 {
            let enough = kill * stored.len() / 6;
            wait_until("some records more", async || peer.lines().len() >= enough || delivering.is_finished()).await;
            peer.restart().await;
        }
        let failures = delivering.await.unwrap();
        assert!(!failures.is_empty(), "{kind:?}: the sink has not noticed that the receiver was killed");
        let missing = || {
            let lines = peer.lines();
            let arrived: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
            stored.iter().filter(|record| !arrived.contains(record.as_str())).count()
        };
        wait_until(&format!("all records at {kind:?}"), async || missing() == 0).await;
        eprintln!("{kind:?}: {} lines for {} records, {} failures", peer.lines().len(), stored.len(), failures.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_with_a_certificate_of_another_authority_gets_nothing() {
    for kind in ALL.into_iter().filter(|kind| kind.is_tls()) {
        let Some(peer) = Peer::start(kind, |config| config).await else { return };
        let (harness, _) = journal(Records::new(4).take(5));
        for (config, reason) in [
            (peer.config("").replace("ca.pem", "other.pem"), "BadSignature"),
            (peer.config("tls.server_name = \"siem.example\"\n"), "not valid for name"),
        ] {
            let mut run = start(&harness, &config, peer.path()).await;
            let error = run.finished(DEADLINE).await.expect("the run ends").as_ref().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("TLS"), "{kind:?}: {error}");
            assert_eq!((harness.cursor(), peer.lines().len()), (0, 0));
        }
        assert_eq!(deliver_all(&harness, &peer.config(""), peer.path()).await, Vec::<String>::new());
        peer.wait_for(5).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_a_certificate_takes_records_with_one_and_none_without() {
    for kind in ALL.into_iter().filter(|kind| kind.is_tls()) {
        let strict = |config: String| {
            let strict = config.replace("authMode=\"anon\"", "authMode=\"x509/certvalid\"");
            let strict = strict.replace("peer-verify(optional-untrusted)", "peer-verify(required-trusted)");
            assert_ne!(strict, config);
            strict
        };
        let Some(peer) = Peer::start(kind, strict).await else { return };
        let (harness, stored) = journal(Records::new(5).take(5));
        let mut run = start(&harness, &peer.config(""), peer.path()).await;
        let ended = run.finished(DEADLINE).await.expect("the run ends");
        assert!(ended.is_err(), "{kind:?}: {ended:?}");
        assert_eq!((harness.cursor(), peer.lines().len()), (0, 0), "{kind:?}");
        let config = peer.config("tls.certificate = \"client.pem\"\ntls.key.file = \"client.key\"\n");
        let run = start(&harness, &config, peer.path()).await;
        assert!(harness.wait(|harness| harness.cursor() == 5).await, "{kind:?}: {}", peer.process.stderr());
        assert_eq!(run.health.get(), Status::Ok);
        run.shutdown.cancel();
        peer.wait_for(5).await;
        assert_eq!(peer.lines(), stored);
    }
}
