//! The example: a host of somebody's own, with a source and a command of its own, outside of the workspace.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use actlog_testkit::process::Process;
use actlog_tests::cargo::{self, succeeds};
use actlog_tests::records;
use serde_json::Value;

const CONFIGURATION: &str = r#"
data_dir = "data"

[admin]
listen = "off"

[sources.doors]
type = "badge-reader"
path = "badges.csv"

[sinks.audit]
type = "file"
path = "audit/{date}.jsonl"
"#;

const HEADER: &str = "sequence,time,door,badge,holder,result\n";

fn event(sequence: u32, result: &str) -> String {
    format!("{sequence},2026-03-02T07:58:12+01:00,\"Server room, east\",0x5A31,ada@contoso.example,{result}\n")
}

/// Runs the host until it has read the export to its end.
async fn run_to_the_end(host: &Path, folder: &Path) {
    let mut command = Command::new(host);
    command.current_dir(folder).args(["--config", "actlog.toml", "run"]);
    let mut process = Process::start("run", folder, &mut command);
    let status = process.ended().await;
    assert!(status.success(), "{status}\n{}", process.stderr());
}

#[tokio::test]
async fn the_example_builds_runs_and_takes_each_event_once() {
    let example = cargo::repository().join("examples/out-of-tree");
    // All targets, so that the program and its tests are compiled with the same features.
    succeeds(cargo::cargo(&example, &["build", "--workspace", "--all-targets"]));
    // Its own tests are the compliance kit: what somebody else's plugin is measured by.
    let tests = succeeds(cargo::cargo(&example, &["test", "--workspace"]));
    assert!(tests.contains("the_source_keeps_the_contract_of_components ... ok"), "{tests}");
    let host = cargo::executable("acme-actlog");
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let run =
        |arguments: &[&str]| -> Output { Command::new(&host).current_dir(folder).args(arguments).output().unwrap() };
    fs::write(folder.join("actlog.toml"), CONFIGURATION).unwrap();

    // It lists what is compiled in: its own source and command, the file sink, and no `crm`.
    let plugins: Value = serde_json::from_str(&succeeds(run(&["plugins", "--json"]))).unwrap();
    let of = |kind: &str| plugins.as_array().unwrap().iter().find(|plugin| plugin["kind"] == kind).cloned();
    let source = of("badge-reader").unwrap();
    assert_eq!((&source["role"], &source["crate"]), (&"source".into(), &"badge-reader".into()));
    assert_eq!(source["version"], "0.1.0");
    assert_eq!(of("badges").unwrap()["role"], "command");
    assert_eq!(of("file").unwrap()["role"], "sink");
    assert_eq!(of("crm"), None);
    assert!(succeeds(run(&["plugins", "show", "badge-reader"])).contains("path"));

    // The first run: two events, and a line that is none.
    let export = folder.join("badges.csv");
    fs::write(&export, format!("{HEADER}{}the controller was restarted\n{}", event(1, "granted"), event(2, "refused")))
        .unwrap();
    run_to_the_end(&host, folder).await;
    let first = records(&folder.join("audit"));
    let operations: Vec<&str> = first.iter().filter_map(|record| record["Operation"].as_str()).collect();
    assert_eq!(operations, ["DoorOpened", "DoorRefused"]);
    assert_eq!(first[0]["CreationTime"], "2026-03-02T06:58:12Z");
    assert_eq!(first[0]["ObjectId"], "Server room, east");
    assert_eq!(first[0]["UserId"], "ada@contoso.example");
    assert_eq!(first[0]["Extra"]["Badge"], "0x5A31");
    assert_eq!(first[0]["Source"], "doors");
    let letters = succeeds(run(&["--config", "actlog.toml", "deadletters", "list"]));
    assert!(letters.contains("doors") && letters.contains("badges.csv at byte"), "{letters}");

    // A restart takes up what was added, and nothing twice: neither by its position …
    fs::write(&export, fs::read_to_string(&export).unwrap() + &event(3, "granted")).unwrap();
    run_to_the_end(&host, folder).await;
    let second = records(&folder.join("audit"));
    assert_eq!(second.len(), 3, "{second:#?}");
    assert_eq!(second[..2], first[..]);
    // … nor where the same events come in another export.
    fs::write(folder.join("again.csv"), format!("{HEADER}{}{}", event(2, "refused"), event(4, "granted"))).unwrap();
    fs::write(folder.join("actlog.toml"), CONFIGURATION.replace("badges.csv", "again.csv")).unwrap();
    run_to_the_end(&host, folder).await;
    let third = records(&folder.join("audit"));
    assert_eq!(third.len(), 4, "{third:#?}");

    // Its command.
    assert_eq!(succeeds(run(&["badges", "again.csv"])).trim(), "2  Server room, east");
    let output = run(&["badges", "badges.csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 3: "));
}
