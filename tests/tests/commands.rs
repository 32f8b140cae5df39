//! The command line, beside a running process and without one.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::path::Path;
use std::process::{Command, Output};

use actlog_testkit::http::post;
use actlog_testkit::process::{Actlog, binary, free_address, wait_until};
use actlog_tests::{context, records};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn actlog(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).current_dir(folder).output().unwrap()
}

fn config(address: std::net::SocketAddr) -> String {
    format!(
        "[sources.dynamics]\ntype = \"crm\"\nlisten = \"{address}\"\n\n\
         [sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\nstatements = true\n"
    )
}

#[tokio::test]
async fn a_published_policy_takes_effect_without_a_restart_and_is_stated_with_who_and_what() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut running = Actlog::start(folder.path(), &config(address)).await;
    assert_eq!(post(address, "/", &context("Update", "account", 1)).await.unwrap().status, 200);

    std::fs::write(folder.path().join("draft.toml"), "[entities.account]\nauditing = false\n").unwrap();
    for arguments in [&["policy", "draft", "draft.toml"][..], &["policy", "validate"], &["policy", "publish"]] {
        let output = running.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }
    assert_eq!(post(address, "/", &context("Update", "account", 2)).await.unwrap().status, 200);
    assert_eq!(post(address, "/", &context("Update", "contact", 3)).await.unwrap().status, 200);

    // An invalid draft changes nothing.
    std::fs::write(folder.path().join("draft.toml"), "colour = 1\n").unwrap();
    let refused = running.command(&["policy", "draft", "draft.toml"]);
    assert!(!refused.status.success() && text(&refused).contains("colour"), "{}", text(&refused));
    // Switching auditing off asks first.
    std::fs::write(folder.path().join("draft.toml"), "start_auditing = false\n").unwrap();
    assert!(running.command(&["policy", "draft", "draft.toml"]).status.success());
    let refused = running.command(&["policy", "publish"]);
    assert!(!refused.status.success() && text(&refused).contains("--confirm"), "{}", text(&refused));
    let published = running.command(&["policy", "publish", "--confirm"]);
    assert!(published.status.success(), "{}", text(&published));
    assert_eq!(post(address, "/", &context("Update", "contact", 4)).await.unwrap().status, 200);

    let metrics = running.metrics().await;
    assert!(metrics.contains("rule=\"entity\"} 1") && metrics.contains("rule=\"start-auditing\"} 1"), "{metrics}");
    let audit = folder.path().join("actlog-data/audit");
    let is_gap = |line: &serde_json::Value| line["Statement"] == "gap" && line["Reason"] == "auditing-off";
    wait_until("the gap is in the file", async || records(&audit).iter().any(is_gap)).await;
    running.stop().await;

    let lines = records(&audit);
    let versions: Vec<_> =
        lines.iter().filter_map(|line| Some((line["EntityName"].as_str()?, line["PolicyVersion"].as_u64()?))).collect();
    assert_eq!(versions, [("account", 1), ("contact", 2)]);
    let statement = lines.iter().find(|line| line["Statement"] == "policy" && line["Version"] == 2).unwrap();
    assert!(statement["Actor"].as_str().unwrap().starts_with("uid "), "{statement}");
    assert!(statement["Changes"].to_string().contains("entities.account.auditing"), "{statement}");
}

#[tokio::test]
async fn commands_that_write_work_without_a_running_process_and_keep_a_second_one_out() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut running = Actlog::start(folder.path(), &config(address)).await;
    let second = running.command(&["run"]);
    assert!(!second.status.success() && text(&second).contains("in use"), "{}", text(&second));
    let status = running.command(&["status"]);
    assert!(status.status.success() && text(&status).contains("audit"), "{}", text(&status));
    running.stop().await;

    let status = running.command(&["status"]);
    assert!(!status.status.success() && text(&status).contains("no actlog process"), "{}", text(&status));
    std::fs::write(folder.path().join("draft.toml"), "start_read_auditing = false\n").unwrap();
    assert!(running.command(&["policy", "draft", "draft.toml"]).status.success());
    let diff = running.command(&["policy", "diff"]);
    assert!(text(&diff).contains("start_read_auditing"), "{}", text(&diff));
    let published = running.command(&["policy", "publish"]);
    assert!(published.status.success() && text(&published).contains("version 2"), "{}", text(&published));
    let history = running.command(&["policy", "history"]);
    assert!(text(&history).contains("version 2"), "{}", text(&history));
    for arguments in [&["journal", "verify"][..], &["journal", "inspect"], &["journal", "repair"], &["sinks", "list"]] {
        let output = running.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }
    running.restart().await;
    assert_eq!(post(address, "/", &context("Retrieve", "account", 1)).await.unwrap().status, 200);
    let excluded = async || running.metrics().await.contains("rule=\"read-auditing\"} 1");
    wait_until("the new policy is in force after the start", excluded).await;
}

#[test]
fn a_configuration_error_names_file_line_key_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("[sinks.audit]\ntype = \"flie\"\n", "actlog.toml:2: sinks.audit.type", "did you mean \"file\""),
        ("[sinks.audit]\ntype = \"file\"\npath = \"x\"\nrotat = 1\n", "actlog.toml:4: sinks.audit", "`rotat`"),
        ("[sources.a]\ntype = \"crm\"\nlisten = \"0.0.0.0:1\"\n", "actlog.toml", "sources.a"),
        ("[journal]\nbudget = \"ten\"\n", "actlog.toml:2: journal.budget", "64 MiB"),
    ];
    for (config, place, remedy) in cases {
        std::fs::write(folder.path().join("actlog.toml"), config).unwrap();
        let output = actlog(folder.path(), &["validate"]);
        assert!(!output.status.success());
        let text = text(&output);
        assert!(text.contains(place) && text.contains(remedy), "{config}\n{text}");
    }
}

#[test]
fn a_file_that_is_not_there_ends_the_start_with_its_name_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let config = "admin.listen = \"off\"\n[sources.old]\ntype = \"crm\"\npath = \"no-such-file.ndjson\"\n";
    std::fs::write(folder.path().join("actlog.toml"), config).unwrap();
    let output = actlog(folder.path(), &["run"]);
    let text = text(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("actlog.toml:4: sources.old.path") && text.contains("no-such-file.ndjson"), "{text}");
}

#[test]
fn init_writes_a_configuration_that_is_good_and_never_writes_over_one() {
    let folder = tempfile::tempdir().unwrap();
    assert!(actlog(folder.path(), &["init"]).status.success());
    let validated = actlog(folder.path(), &["validate"]);
    assert!(validated.status.success(), "{}", text(&validated));
    let again = actlog(folder.path(), &["init"]);
    assert!(!again.status.success() && text(&again).contains("actlog.toml"), "{}", text(&again));
}

#[test]
fn plugins_and_schemas_are_shown_for_people_and_machines() {
    let folder = tempfile::tempdir().unwrap();
    let listed = actlog(folder.path(), &["plugins", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    for (kind, role) in [("crm", "source"), ("file", "sink")] {
        let found = listed.as_array().unwrap().iter().find(|plugin| plugin["kind"] == kind).unwrap();
        assert_eq!(found["role"], role);
        assert!(found["crate"].is_string() && found["version"].is_string(), "{found}");
    }
    let shown = text(&actlog(folder.path(), &["plugins", "show", "crm"]));
    for expected in ["listen", "trusted_proxies", "[default: ", "Example:"] {
        assert!(shown.contains(expected), "{expected} is missing:\n{shown}");
    }
    let schema = actlog(folder.path(), &["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    for key in ["Id", "ClientIP", "QueryResults", "PolicyVersion", "Extra"] {
        assert!(!schema["properties"][key].is_null(), "{key}");
    }
}
