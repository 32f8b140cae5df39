//! Cargo, as tests run it on crates of other people: the example, generated hosts.

#![expect(clippy::expect_used, reason = "whatever goes wrong here fails the test that asked for it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The root of this repository.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// The target folder of this test run, so that what is compiled already is not compiled again.
///
/// # Panics
/// When the test's executable is not in such a folder.
pub fn target() -> PathBuf {
    let executable = std::env::current_exe().expect("a test has an executable");
    // target/debug/deps/name-hash
    executable.ancestors().nth(3).expect("cargo runs tests from target/PROFILE/deps").to_owned()
}

/// The executable of that name which cargo built last.
pub fn executable(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

/// Runs cargo in a folder, with the dependencies of this repository's lock file, without network, and into the target
/// folder of this test run.
///
/// # Panics
/// When cargo can't be run.
pub fn cargo(folder: &Path, arguments: &[&str]) -> Output {
    std::fs::copy(repository().join("Cargo.lock"), folder.join("Cargo.lock")).expect("the lock file can be copied");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder).args(arguments).args(["--offline", "--color", "never"]);
    // What cargo tells its children about the crate under test is not meant for other crates.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_CRATE_NAME" {
            command.env_remove(name);
        }
    }
    command.env("CARGO_TARGET_DIR", target()).output().expect("cargo can be run")
}

/// What a program printed, when it succeeded.
///
/// # Panics
/// With its errors, when it failed.
pub fn succeeds(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program's errors, when it failed.
///
/// # Panics
/// When it succeeded.
pub fn fails(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it succeeded, and should not have:\n{errors}");
    errors
}
