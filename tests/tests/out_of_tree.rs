//! The example: a host of somebody's own, with a source and a command of its own, outside of the workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use actlog_tests::cargo;
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

fn success(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The records in the files of the file sink.
fn records(folder: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder.join("audit")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let lines = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_example_builds_runs_and_takes_each_event_once() {
    let example = cargo::repository().join("examples/out-of-tree");
    // All targets, so that the program and its tests are compiled with the same features.
    cargo::succeeds(cargo::cargo(&example, &["build", "--workspace", "--all-targets"]));
    // Its own tests are the compliance kit: what somebody else's plugin is measured by.
    let tests = cargo::succeeds(cargo::cargo(&example, &["test", "--workspace"]));
    assert!(tests.contains("the_source_keeps_the_contract_of_components ... ok"), "{tests}");
    let host = cargo::executable("acme-actlog");
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let run = |arguments: &[&str]| cargo::run(&host, folder, arguments);
    fs::write(folder.join("actlog.toml"), CONFIGURATION).unwrap();

    // It lists what is compiled in: its own source and command, the file sink, and no `crm`.
    let plugins: Value = serde_json::from_str(&success(run(&["plugins", "--json"]))).unwrap();
    let of = |kind: &str| plugins.as_array().unwrap().iter().find(|plugin| plugin["kind"] == kind).cloned();
    let source = of("badge-reader").unwrap();
    assert_eq!((&source["role"], &source["crate"]), (&"source".into(), &"badge-reader".into()));
    assert_eq!(source["version"], "0.1.0");
    assert_eq!(of("badges").unwrap()["role"], "command");
    assert_eq!(of("file").unwrap()["role"], "sink");
    assert_eq!(of("crm"), None);
    assert!(success(run(&["plugins", "show", "badge-reader"])).contains("path"));

    // The first run: two events, and a line that is none.
    let export = folder.join("badges.csv");
    fs::write(&export, format!("{HEADER}{}the controller was restarted\n{}", event(1, "granted"), event(2, "refused")))
        .unwrap();
    success(run(&["--config", "actlog.toml", "run"]));
    let first = records(folder);
    let operations: Vec<&str> = first.iter().filter_map(|record| record["Operation"].as_str()).collect();
    assert_eq!(operations, ["DoorOpened", "DoorRefused"]);
    assert_eq!(first[0]["CreationTime"], "2026-03-02T06:58:12Z");
    assert_eq!(first[0]["ObjectId"], "Server room, east");
    assert_eq!(first[0]["UserId"], "ada@contoso.example");
    assert_eq!(first[0]["Extra"]["Badge"], "0x5A31");
    assert_eq!(first[0]["Source"], "doors");
    let letters = success(run(&["--config", "actlog.toml", "deadletters", "list"]));
    assert!(letters.contains("doors") && letters.contains("badges.csv at byte"), "{letters}");

    // A restart takes up what was added, and nothing twice: neither by its position …
    fs::write(&export, fs::read_to_string(&export).unwrap() + &event(3, "granted")).unwrap();
    success(run(&["--config", "actlog.toml", "run"]));
    let second = records(folder);
    assert_eq!(second.len(), 3, "{second:#?}");
    assert_eq!(second[..2], first[..]);
    // … nor where the same events come in another export.
    fs::write(folder.join("again.csv"), format!("{HEADER}{}{}", event(2, "refused"), event(4, "granted"))).unwrap();
    fs::write(folder.join("actlog.toml"), CONFIGURATION.replace("badges.csv", "again.csv")).unwrap();
    success(run(&["--config", "actlog.toml", "run"]));
    let third = records(folder);
    assert_eq!(third.len(), 4, "{third:#?}");

    // Its command.
    assert_eq!(success(run(&["badges", "again.csv"])).trim(), "2  Server room, east");
    let output = run(&["badges", "badges.csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 3: "));
}
