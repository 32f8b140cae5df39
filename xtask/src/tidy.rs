//! `cargo xtask tidy`: rules of the repository that no compiler checks.
//!
//! Each rule is a function from the repository's files to what it has found. What clippy can check (panics without a
//! reason, `todo!`, attributes without a reason) is among the lints of the workspace instead.

use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

use crate::{command, coverage};

/// Lines that a source or a document may have.
const MOST_LINES: usize = 1000;

/// What is checked: the files that Git knows or would add, by their path from the root.
struct Repository {
    root: PathBuf,
    texts: Vec<(String, String)>,
}

/// Checks all rules.
///
/// # Errors
/// Everything that was found.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let repository = Repository::read(root)?;
    let rules = [
        required_files(&repository),
        lengths(&repository),
        words(&repository),
        crate_roots(&repository),
        manifests(&repository)?,
        workspace_dependencies(&repository),
        lock_file(&repository),
        links(&repository),
        coverage(&repository),
    ];
    let findings = rules.concat();
    if findings.is_empty() {
        return Ok(());
    }
    Err(format!("the repository does not keep its rules:\n{}", findings.join("\n")))
}

impl Repository {
    fn read(root: &Path) -> Result<Self, String> {
        let mut git = Command::new("git");
        git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let names = command::output(&mut git)?;
        let mut texts = Vec::new();
        for name in names.split_terminator('\0') {
            // A file that is deleted and not yet committed so is still listed; what is no UTF-8 is no text.
            if let Ok(bytes) = std::fs::read(root.join(name))
                && let Ok(text) = String::from_utf8(bytes)
            {
                texts.push((name.to_owned(), text));
            }
        }
        Ok(Self { root: root.to_owned(), texts })
    }

    fn with_suffix<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts.iter().filter(move |(name, _)| name.ends_with(suffix)).map(|(name, text)| (&name[..], &text[..]))
    }

    fn text(&self, name: &str) -> &str {
        self.texts.iter().find(|(present, _)| present == name).map_or("", |(_, text)| text)
    }
}

/// What everybody looks for.
fn required_files(repository: &Repository) -> Vec<String> {
    let missing = ["README.md", "CHANGELOG.md"].into_iter().filter(|name| repository.text(name).is_empty());
    missing.map(|name| format!("{name}: is missing or empty")).collect()
}

/// A file that is longer wants to be two.
fn lengths(repository: &Repository) -> Vec<String> {
    let files = [".rs", ".md", ".toml", ".sh"].into_iter().flat_map(|suffix| repository.with_suffix(suffix));
    files
        .filter(|(_, text)| text.lines().count() > MOST_LINES)
        .map(|(name, text)| format!("{name}: {} lines, more than {MOST_LINES}", text.lines().count()))
        .collect()
}

/// Paths of a machine, addresses of registries, and marks of work that is not done.
fn words(repository: &Repository) -> Vec<String> {
    // In two parts, so that this file does not find itself.
    let mut forbidden: Vec<(String, &str)> = [
        (concat!("/wo", "rk/"), "a path of one machine"),
        (concat!("/ro", "ot/"), "a path of one machine"),
        (concat!("index.", "crates.io"), "the address of a registry"),
        (concat!("static.", "crates.io"), "the address of a registry"),
        (concat!("TO", "DO"), "a mark of work that is not done"),
        (concat!("FIX", "ME"), "a mark of work that is not done"),
    ]
    .map(|(word, what)| (word.to_owned(), what))
    .to_vec();
    let here = [Some(repository.root.clone()), std::env::var_os("CARGO_HOME").map(PathBuf::from)];
    for folder in here.into_iter().flatten().filter(|folder| folder.components().count() > 2) {
        forbidden.push((folder.display().to_string(), "a path of this machine"));
    }
    let mut findings = Vec::new();
    for (name, text) in &repository.texts {
        for (number, line) in text.lines().enumerate() {
            if let Some((word, what)) = forbidden.iter().find(|(word, _)| line.contains(word)) {
                findings.push(format!("{name}:{}: {word:?} is {what}", number + 1));
            }
        }
    }
    findings
}

/// Each crate begins by saying what it is.
fn crate_roots(repository: &Repository) -> Vec<String> {
    let roots = ["src/lib.rs", "src/main.rs"].into_iter().flat_map(|suffix| repository.with_suffix(suffix));
    roots
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(name, _)| format!("{name}: does not begin with `//! `, what the crate is"))
        .collect()
}

/// Members inherit lints and versions, and plugins know neither each other nor what runs them.
fn manifests(repository: &Repository) -> Result<Vec<String>, String> {
    let root: Table = parse("Cargo.toml", repository.text("Cargo.toml"))?;
    let members = root.get("workspace").and_then(|workspace| workspace.get("members")).and_then(Value::as_array);
    let mut findings = Vec::new();
    for member in members.into_iter().flatten().filter_map(Value::as_str) {
        let name = format!("{member}/Cargo.toml");
        let manifest: Table = parse(&name, repository.text(&name))?;
        let inherits =
            |table: Option<&Value>| table.and_then(|table| table.get("workspace")) == Some(&Value::Boolean(true));
        if !inherits(manifest.get("lints")) {
            findings.push(format!("{name}: lacks `[lints] workspace = true`"));
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dependency, value) in manifest.get(kind).and_then(Value::as_table).into_iter().flatten() {
                if !inherits(Some(value)) {
                    findings.push(format!("{name}: {dependency} is not `workspace = true`"));
                }
                if kind == "dependencies" && is_plugin(member) && !may_be_used_by_plugins(dependency) {
                    findings.push(format!("{name}: a plugin must not depend on {dependency}"));
                }
            }
        }
    }
    Ok(findings)
}

fn is_plugin(member: &str) -> bool {
    ["crates/sources/", "crates/sinks/", "crates/enrichments/", "crates/commands/"]
        .iter()
        .any(|folder| member.starts_with(folder))
}

fn may_be_used_by_plugins(dependency: &str) -> bool {
    let is_plugin = ["actlog-source-", "actlog-sink-", "actlog-enrichment-", "actlog-command-"]
        .iter()
        .any(|prefix| dependency.starts_with(prefix));
    !is_plugin && !["actlog", "actlog-runtime", "actlog-journal"].contains(&dependency)
}

/// Every crate from outside has a reason.
fn workspace_dependencies(repository: &Repository) -> Vec<String> {
    let text = repository.text("Cargo.toml");
    let lines = text.lines().enumerate().skip_while(|(_, line)| *line != "[workspace.dependencies]").skip(1);
    lines
        .take_while(|(_, line)| !line.starts_with('['))
        .filter(|(_, line)| line.contains('=') && !line.starts_with('#'))
        .filter(|(_, line)| !line.contains("path = ") && !line.contains("# "))
        .map(|(number, line)| format!("Cargo.toml:{}: no reason behind `{line}`", number + 1))
        .collect()
}

/// Everything comes from the public registry: no Git repository, no mirror.
fn lock_file(repository: &Repository) -> Vec<String> {
    const REGISTRY: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let lines = repository.text("Cargo.lock").lines().enumerate();
    lines
        .filter(|(_, line)| line.starts_with("source = ") && *line != REGISTRY)
        .map(|(number, line)| format!("Cargo.lock:{}: {line} is not the public registry", number + 1))
        .collect()
}

/// The page on coverage has every row of the specification, each with tests that are there.
fn coverage(repository: &Repository) -> Vec<String> {
    coverage::check(repository.text(coverage::PAGE), |name| Some(repository.text(name)))
}

/// Links between documents lead somewhere.
fn links(repository: &Repository) -> Vec<String> {
    let mut findings = Vec::new();
    // Documents in templates are written for the place where they will be.
    for (name, text) in repository.with_suffix(".md").filter(|(name, _)| !name.contains("/templates/")) {
        let folder = repository.root.join(name);
        let folder = folder.parent().unwrap_or(&repository.root);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            let path = link.split('#').next().unwrap_or_default();
            let is_file = !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:");
            if is_file && !folder.join(path).exists() {
                findings.push(format!("{name}: the link to {path} leads nowhere"));
            }
        }
    }
    findings
}

fn parse(name: &str, text: &str) -> Result<Table, String> {
    text.parse().map_err(|error| format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(files: &[(&str, &str)]) -> Repository {
        let texts = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Repository { root: PathBuf::from("/nowhere/at/all"), texts }
    }

    #[test]
    fn this_repository_keeps_its_rules() {
        run(&command::root()).unwrap_or_else(|findings| panic!("{findings}"));
    }

    #[test]
    fn missing_files_and_long_files_are_found() {
        let long = "\n".repeat(MOST_LINES + 1);
        let found = repository(&[("README.md", "x"), ("src/long.rs", &long), ("data.csv", &long)]);
        assert_eq!(required_files(&found), ["CHANGELOG.md: is missing or empty"]);
        assert_eq!(lengths(&found), ["src/long.rs: 1001 lines, more than 1000"]);
    }

    #[test]
    fn paths_of_machines_registries_and_unfinished_work_are_found() {
        let text = ["fine", concat!("/wo", "rk/x"), concat!("// TO", "DO: later"), "/nowhere/at/all/x"].join("\n");
        let found = words(&repository(&[("a.rs", &text), ("b.toml", concat!("index.", "crates.io"))]));
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].starts_with("a.rs:2: ") && found[3].starts_with("b.toml:1: "), "{found:?}");
    }

    #[test]
    fn a_crate_that_does_not_say_what_it_is_is_found() {
        let found = crate_roots(&repository(&[("a/src/lib.rs", "mod x;"), ("b/src/main.rs", "//! The host.")]));
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn manifests_that_go_their_own_way_are_found() {
        let root = "[workspace]\nmembers = [\"crates/sinks/a\"]";
        let good = "[lints]\nworkspace = true\n[dependencies]\nactlog-core.workspace = true\n";
        let check =
            |text: &str| manifests(&repository(&[("Cargo.toml", root), ("crates/sinks/a/Cargo.toml", text)])).unwrap();
        assert_eq!(check(good), [""; 0]);
        assert_eq!(check(&good.replace("workspace = true\n[dep", "[dep")).len(), 1);
        assert_eq!(check(&format!("{good}serde = \"1\"\n")).len(), 1);
        for forbidden in ["actlog", "actlog-runtime", "actlog-source-crm"] {
            let found = check(&format!("{good}{forbidden}.workspace = true\n"));
            assert_eq!(found, [format!("crates/sinks/a/Cargo.toml: a plugin must not depend on {forbidden}")]);
        }
    }

    #[test]
    fn dependencies_without_a_reason_or_from_elsewhere_are_found() {
        let manifest =
            "[workspace.dependencies]\na = { path = \"a\" }\nb = \"1\" # because\nc = \"1\"\n\n[profile.dev]\nd = 1\n";
        let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\nsource = \"git+https://example.org\"\n";
        let found = repository(&[("Cargo.toml", manifest), ("Cargo.lock", lock)]);
        assert_eq!(workspace_dependencies(&found), ["Cargo.toml:4: no reason behind `c = \"1\"`"]);
        assert_eq!(lock_file(&found).len(), 1);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let text = "[a](https://example.org) [b](#here) [c](missing.md#there)";
        assert_eq!(links(&repository(&[("x.md", text)])), ["x.md: the link to missing.md leads nowhere"]);
    }
}
