//! The sink against receivers that are built on others' libraries: the messages of OpenTelemetry, the SDK of
//! CloudEvents. And the stand-in for Azure against Microsoft's own client, so that both speak of the same interface.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod bench;
mod receivers;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use actlog_core::Status;
use actlog_testkit::fixtures::workspace;
use actlog_testkit::peers;
use bench::Bench;
use receivers::azure;

/// What it takes to start Python, and more.
const DEADLINE: Duration = Duration::from_secs(60);

/// A script of `tests/peers`, and the lines that it prints. It ends when this is dropped.
struct Script {
    child: Child,
    lines: Receiver<String>,
}

impl Script {
    /// None where there is no Python with the packages that it needs.
    fn start(name: &str) -> Option<Self> {
        let script = workspace().join("tests/peers").join(name);
        let mut child = Command::new(peers::python()?).arg(script).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // Ends with the script, or with whoever listens.
            output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Some(Self { child, lines })
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).unwrap()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn everything_arrives(script: &str, config: &str) {
    let Some(script) = Script::start(script) else { return };
    let url = format!("url = \"http://127.0.0.1:{}\"\n", script.line());
    let mut bench = Bench::new();
    let ids = bench.append(300);
    let common = "client.allow_private = true\nconcurrency = 1\nbatch = { count = 70, age = \"10 ms\" }\n";
    let run = bench.start(&format!("{url}{common}{config}")).await;
    bench.committed().await;
    for id in ids {
        assert_eq!(script.line(), id.to_string());
    }
    assert_eq!((run.health.get(), bench.harness.dead_letters().len()), (Status::Ok, 0));
    Bench::stop(run).await;
}

#[tokio::test]
async fn a_receiver_on_the_messages_of_opentelemetry_gets_every_record() {
    everything_arrives("receiver_otlp.py", "format = \"otlp\"\ncompression = \"gzip\"\n").await;
    everything_arrives("receiver_otlp.py", "format = \"otlp\"\ncompression = \"none\"\nbody = \"ocsf\"\n").await;
}

#[tokio::test]
async fn a_consumer_on_the_sdk_of_cloudevents_gets_every_record() {
    for body in ["record", "ecs", "ocsf"] {
        let config = format!("format = \"cloudevents\"\ncloudevents.handshake = true\nbody = \"{body}\"\n");
        everything_arrives("receiver_cloudevents.py", &config).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_microsofts_own_client_sends_is_what_the_stand_in_for_azure_takes() {
    let Some(python) = peers::python() else { return };
    let stand_in = receivers::Receiver::start(azure::Azure::new()).await;
    let id = uuid::Uuid::new_v4();
    let row = format!(r#"{{"TimeGenerated":"2026-03-02T07:00:00Z","SourceRecordId":"{id}"}}"#);
    let upload = |rule: &str, row: &str| {
        let script = workspace().join("tests/peers/azure_upload.py");
        let arguments = [&stand_in.url(), azure::TENANT, azure::CLIENT, azure::SECRET, rule, azure::STREAM, row];
        let output = Command::new(&python).arg(script).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (taken, said) = upload(azure::RULE, &row);
    assert!(taken, "{said}");
    assert_eq!(stand_in.ids(), [id]);
    assert_eq!(stand_in.seen().last().unwrap().headers["content-encoding"], "gzip");
    stand_in.check();
    let (taken, said) = upload("dcr-another", &row);
    assert!(!taken && said.contains("Data collection rule or stream not found"), "{said}");
}
