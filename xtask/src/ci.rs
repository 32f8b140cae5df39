//! `cargo xtask ci`: what must hold before a change goes in.
//!
//! Two cores must do in 20 minutes, so each thing is compiled once: the tests, the generated documents and the example
//! use what the build step made (same features, same profile, same target folder). Clippy and rustdoc have artefacts of
//! their own in any case.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::{command, docs, tidy};

/// A step's name, and what it does.
type Step = (String, Box<dyn FnOnce() -> Result<(), String>>);

/// Runs all steps; their output goes to the terminal as it comes.
///
/// # Errors
/// The first step that fails.
pub(crate) fn run() -> Result<(), String> {
    let started = Instant::now();
    let steps = steps()?;
    let count = steps.len();
    let mut durations = Vec::new();
    for (number, (name, step)) in steps.into_iter().enumerate() {
        println!("\n=== {} of {count}: {name}", number + 1);
        let began = Instant::now();
        let outcome = step();
        let took = began.elapsed();
        if let Err(message) = outcome {
            return Err(format!("{message}\nci: FAILED after {}: {name}", shown(started.elapsed())));
        }
        println!("=== {name}: ok, {}", shown(took));
        durations.push((name, took));
    }
    println!();
    for (name, took) in durations {
        println!("{:>10}  {name}", shown(took));
    }
    println!("ci: ok, {count} steps in {}", shown(started.elapsed()));
    Ok(())
}

fn steps() -> Result<Vec<Step>, String> {
    let cargo_step = |name: &str, arguments: &[&str]| -> Step {
        let mut command = command::cargo();
        command.args(arguments);
        (name.to_owned(), Box::new(move || command::succeed(&mut command)))
    };
    let deny = ["--", "-D", "warnings"];
    let mut steps = vec![
        cargo_step("formatting", &["fmt", "--all", "--check"]),
        ("formatting outside of the workspace".to_owned(), Box::new(format_outsiders)),
        ("rules of the repository".to_owned(), Box::new(|| tidy::run(&command::root()))),
        cargo_step(
            "clippy",
            &[&["clippy", "--locked", "--workspace", "--all-targets", "--all-features"], &deny[..]].concat(),
        ),
    ];
    // Each feature by itself: a host with one plugin must not need what another one brings.
    let mut variants = vec![("no features".to_owned(), Vec::new())];
    variants
        .extend(features()?.into_iter().map(|name| (format!("feature {name}"), vec!["--features".to_owned(), name])));
    for (name, feature) in variants {
        let mut arguments = vec!["clippy", "--locked", "--package", "actlog", "--no-default-features"];
        arguments.extend(feature.iter().map(String::as_str));
        arguments.extend(deny);
        steps.push(cargo_step(&format!("the host with {name}"), &arguments));
    }
    let mut rustdoc = command::cargo();
    rustdoc.args(["doc", "--locked", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    steps.push(("documentation".to_owned(), Box::new(move || command::succeed(&mut rustdoc))));
    steps.push(cargo_step("build", &["build", "--locked", "--workspace", "--all-targets"]));
    steps.push(("generated documents".to_owned(), Box::new(|| docs::check(&docs::actlog()?))));
    // The tests run the program that is there already.
    let mut tests = command::cargo();
    tests.args(["test", "--locked", "--workspace"]);
    steps.push(("tests".to_owned(), Box::new(move || command::succeed(tests.env("ACTLOG_BIN", docs::actlog()?)))));
    Ok(steps)
}

/// Checks the code that cargo does not see as part of the workspace: the example, the fuzz targets, the templates.
fn format_outsiders() -> Result<(), String> {
    let mut git = Command::new("git");
    git.current_dir(command::root());
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]);
    let files = command::output(git.args(["examples/*.rs", "fuzz/*.rs", "xtask/templates/*.rs"]))?;
    // One that is deleted and not yet committed so is still listed.
    let files = files.split_terminator('\0').filter(|file| command::root().join(file).exists());
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.current_dir(command::root()).args(["--check", "--edition", "2024"]).args(files);
    command::succeed(&mut rustfmt)
}

/// The features of the host, one for each plugin.
fn features() -> Result<Vec<String>, String> {
    let file = command::root().join("crates/host/Cargo.toml");
    let manifest: toml::Table =
        command::read(&file)?.parse().map_err(|error| format!("{}: {error}", file.display()))?;
    let features = manifest.get("features").and_then(toml::Value::as_table);
    let features = features.ok_or_else(|| format!("{}: there is no table `features`", file.display()))?;
    Ok(features.keys().filter(|name| *name != "default").cloned().collect())
}

/// A duration for people: `9 min 05 s`, `12.3 s`.
fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plugin_of_the_host_is_checked_by_itself() {
        let names: Vec<String> = steps().unwrap().into_iter().map(|(name, _)| name).collect();
        for wanted in ["the host with no features", "the host with feature source-crm", "tests"] {
            assert!(names.iter().any(|name| name == wanted), "{wanted} is not among {names:?}");
        }
    }

    #[test]
    fn durations_are_for_people() {
        assert_eq!(shown(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(shown(Duration::from_secs(545)), "9 min 05 s");
    }
}
