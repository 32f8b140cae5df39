//! `cargo xtask fuzz`: runs the targets of the folder fuzz/ with libFuzzer.
//!
//! Needs a C++ compiler (libFuzzer is C++) and nothing else: the coverage that guides libFuzzer is switched on by flags
//! of the stable compiler. Sanitizers are left out: our crates have no unsafe code.

use std::path::Path;

use toml::{Table, Value};

use crate::command;

/// What `cargo fuzz` would pass, but for the sanitizer: counters, comparisons, checks.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks --cfg fuzzing";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The target; all of them, one after the other, when left out
    target: Option<String>,
    /// How long each target runs, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Builds the targets and runs them.
///
/// # Errors
/// When a target is unknown, can't be built, or finds something; libFuzzer prints what, and the input is in
/// fuzz/artifacts.
pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let folder = command::root().join("fuzz");
    let known = targets(&command::read(&folder.join("Cargo.toml"))?)?;
    let targets = match &arguments.target {
        None => known,
        Some(target) if known.contains(target) => vec![target.clone()],
        Some(target) => return Err(format!("there is no fuzz target {target:?}; there are: {}", known.join(", "))),
    };
    let host = host()?;
    // With an explicit target, the flags don't reach build scripts and macros.
    let mut build = command::cargo();
    build.current_dir(&folder).args(["build", "--release", "--bins", "--target-dir", "target", "--target", &host]);
    command::succeed(build.env("RUSTFLAGS", FLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    for target in targets {
        println!("=== {target}");
        let program = folder.join("target").join(&host).join("release").join(&target);
        fuzz(&folder, &program, &target, arguments.seconds)?;
    }
    Ok(())
}

fn fuzz(folder: &Path, program: &Path, target: &str, seconds: u32) -> Result<(), String> {
    let [corpus, artifacts] = ["corpus", "artifacts"].map(|kind| folder.join(kind).join(target));
    for folder in [&corpus, &artifacts] {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mut command = std::process::Command::new(program);
    command.arg(&corpus).arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command::succeed(&mut command)
}

/// The programs of the manifest.
fn targets(manifest: &str) -> Result<Vec<String>, String> {
    let manifest: Table = manifest.parse().map_err(|error| format!("fuzz/Cargo.toml: {error}"))?;
    let programs = manifest.get("bin").and_then(Value::as_array).into_iter().flatten();
    Ok(programs.filter_map(|program| Some(program.get("name")?.as_str()?.to_owned())).collect())
}

/// The platform of this machine, as the compiler calls it.
fn host() -> Result<String, String> {
    let mut rustc = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let version = command::output(rustc.arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| format!("rustc does not say what it runs on: {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_programs_of_the_manifest() {
        let manifest = "[package]\nname = \"fuzz\"\n[[bin]]\nname = \"context\"\n[[bin]]\nname = \"segment\"\n";
        assert_eq!(targets(manifest).unwrap(), ["context", "segment"]);
    }
}
