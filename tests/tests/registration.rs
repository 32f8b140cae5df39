//! The guards of registration: what would fail in silence, a plugin that is not there, must fail aloud.
//!
//! Each guard is tried beside its counterpart that must work, so that a test can't pass because nothing works.

#![expect(clippy::unwrap_used, reason = "clippy sees tests only where it says #[test], and not what they call")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use actlog_tests::cargo::{self, fails, succeeds};
use serde_json::Value;

/// The end of a manifest with the example's profile. With that, and the example's features (see [`features`]), the
/// crates that were compiled for the example are not compiled again for each host here.
const PROFILE: &str = r#"
[profile.dev]
debug = "line-tables-only"

[profile.dev.package."*"]
opt-level = 1
debug = false
"#;

/// Dependencies that bring the features of the example and its tests.
fn features() -> String {
    let testkit = cargo::repository().join("crates/testkit");
    let tokio = "tokio = { version = \"1\", features = [\"fs\", \"io-util\", \"macros\", \"rt-multi-thread\"] }\n";
    format!("actlog-testkit = {{ path = {testkit:?} }}\ncsv = \"1\"\ntempfile = \"3\"\n{tokio}")
}

fn write(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn core() -> String {
    format!("actlog-core = {{ path = {:?} }}\n", cargo::repository().join("crates/core"))
}

/// A crate in `folder/NAME` that registers a command.
fn plugin(folder: &Path, name: &str, command: &str) {
    let manifest = format!(
        "[package]\nname = {name:?}\nversion = \"1.2.3\"\nedition = \"2024\"\n[dependencies]\n{}{}",
        core(),
        features()
    );
    write(folder.join(name).join("Cargo.toml"), &manifest);
    let code =
        format!("actlog_core::register_command!({command:?}, \"A test's\", |_, _| std::process::ExitCode::SUCCESS);\n");
    write(folder.join(name).join("src/lib.rs"), &code);
}

/// A host in `folder` with plugins from folders in it, of which the code mentions some.
fn host(folder: &Path, name: &str, plugins: &[&str], mentioned: &[&str]) {
    let actlog = cargo::repository().join("crates/host");
    let dependencies: String = plugins.iter().map(|name| format!("{name} = {{ path = {name:?} }}\n")).collect();
    let manifest = format!(
        "[workspace]\n[package]\nname = {name:?}\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n\
         actlog = {{ path = {actlog:?}, default-features = false, features = [\"sink-file\"] }}\n{dependencies}{PROFILE}"
    );
    write(folder.join("Cargo.toml"), &manifest);
    let uses: String = mentioned.iter().map(|name| format!("use {} as _;\n", name.replace('-', "_"))).collect();
    let code = format!(
        "#![deny(unused_crate_dependencies)]\n{uses}\nfn main() -> std::process::ExitCode {{\n    actlog::main()\n}}\n"
    );
    write(folder.join("src/main.rs"), &code);
}

fn run(host: &str, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(cargo::executable(host)).current_dir(folder).args(arguments).output().unwrap()
}

#[test]
fn a_plugin_crate_that_a_custom_host_does_not_mention_fails_the_build() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    plugin(folder, "forgotten-plugin", "forgotten");
    host(folder, "forgetful-host", &["forgotten-plugin"], &[]);
    let errors = fails(cargo::cargo(folder, &["build"]));
    assert!(errors.contains("unused_crate_dependencies") && errors.contains("forgotten_plugin"), "{errors}");

    host(folder, "forgetful-host", &["forgotten-plugin"], &["forgotten-plugin"]);
    succeeds(cargo::cargo(folder, &["build"]));
    let listed = succeeds(run("forgetful-host", folder, &["plugins", "--json"]));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let plugin = listed.as_array().unwrap().iter().find(|plugin| plugin["kind"] == "forgotten").unwrap();
    assert_eq!((&plugin["crate"], &plugin["version"]), (&"forgotten-plugin".into(), &"1.2.3".into()));
}

#[test]
fn a_plugin_crate_that_plugins_rs_does_not_mention_fails_the_build() {
    // A copy of the host of this repository, in a workspace that points back to the other crates.
    let (repository, temporary) = (cargo::repository(), tempfile::tempdir().unwrap());
    let folder = temporary.path();
    let manifest = fs::read_to_string(repository.join("Cargo.toml")).unwrap();
    let (_, shared) = manifest.split_once("[workspace.package]").unwrap();
    let shared = shared
        .replace("path = \"crates/host\"", "path = \"host\"")
        .replace("path = \"crates/", &format!("path = \"{}/crates/", repository.display()));
    let members = "[workspace]\nresolver = \"3\"\nmembers = [\"host\", \"features\"]\n[workspace.package]";
    write(folder.join("Cargo.toml"), &format!("{members}{shared}"));
    plugin(folder, "features", "features");
    copy(&repository.join("crates/host"), &folder.join("host"));
    let build = ["build", "--workspace", "--lib", "--no-default-features", "--features", "actlog/sink-file"];
    succeeds(cargo::cargo(folder, &build));

    let plugins = folder.join("host/src/plugins.rs");
    let code = fs::read_to_string(&plugins).unwrap();
    let mention = "use actlog_sink_file as _;";
    assert!(code.contains(mention), "plugins.rs mentions its plugins in another way now: {code}");
    fs::write(&plugins, code.replace(mention, "use std as _;")).unwrap();
    let errors = fails(cargo::cargo(folder, &build));
    assert!(errors.contains("unused_crate_dependencies") && errors.contains("actlog_sink_file"), "{errors}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_kind_that_two_crates_register_stops_the_host_with_both_names() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let plugins = ["first-plugin", "second-plugin"];
    for name in plugins {
        plugin(folder, name, "same");
    }
    host(folder, "doubled-host", &plugins, &plugins);
    succeeds(cargo::cargo(folder, &["build"]));
    for arguments in [&["run"][..], &["validate"], &["plugins"]] {
        let output = run("doubled-host", folder, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(errors.contains("first-plugin and second-plugin") && errors.contains("\"same\""), "{errors}");
    }
}

#[test]
fn a_second_version_of_core_is_refused_by_cargo() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    plugin(folder, "current-plugin", "current");
    plugin(folder, "old-plugin", "old");
    let manifest = |plugins: &str| {
        format!(
            "[workspace]\n[package]\nname = \"host\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n{plugins}"
        )
    };
    let both = manifest("current-plugin = { path = \"current-plugin\" }\nold-plugin = { path = \"old-plugin\" }\n");
    write(folder.join("Cargo.toml"), &both);
    write(folder.join("src/main.rs"), "fn main() {}\n");
    let resolve = ["tree"];
    succeeds(cargo::cargo(folder, &resolve));

    // The same crate, at another version and place.
    let real = fs::read_to_string(cargo::repository().join("crates/core/Cargo.toml")).unwrap();
    let links = real.lines().find(|line| line.starts_with("links = ")).unwrap();
    let old = format!("[package]\nname = \"actlog-core\"\nversion = \"0.0.1\"\nedition = \"2024\"\n{links}\n");
    write(folder.join("old-core/Cargo.toml"), &old);
    write(folder.join("old-core/build.rs"), "fn main() {}\n");
    write(folder.join("old-core/src/lib.rs"), "");
    let old_plugin = folder.join("old-plugin/Cargo.toml");
    let current = fs::read_to_string(&old_plugin).unwrap();
    fs::write(&old_plugin, current.replace(&core(), "actlog-core = { path = \"../old-core\" }\n")).unwrap();
    let errors = fails(cargo::cargo(folder, &resolve));
    assert!(errors.contains("links to the native library `actlog-core`"), "{errors}");
}
