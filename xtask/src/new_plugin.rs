//! `cargo xtask new-plugin`: the beginning of a source or sink, which compiles, registers and passes the compliance kit.
//!
//! What it writes is in xtask/templates, as real code of a plugin that is called `new-plugin`; that name is replaced in
//! its three spellings. Inside of the repository the host is told of the plugin too; outside, a host is written with it.

use std::collections::hash_map::RandomState;
use std::fmt::Write;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use toml::{Table, Value};

use crate::command;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    role: Role,
    /// Its kind in configurations: lower-case letters, digits and single hyphens
    name: String,
    /// Write it into this folder, which must not exist, with a host of its own; else into this repository
    #[arg(long, value_name = "DIR")]
    out_of_tree: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// A way in
    Source,
    /// A way out
    Sink,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
        }
    }

    /// Dependencies, with the features that the template's code needs; of both kinds in the order of the alphabet.
    fn dependencies(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::Source => &[
                ("actlog-core", &[]),
                ("async-trait", &[]),
                ("schemars", &[]),
                ("serde", &[]),
                ("serde_json", &[]),
                ("tokio", &["fs", "io-util"]),
                ("uuid", &[]),
            ],
            Self::Sink => {
                &[("actlog-core", &[]), ("async-trait", &[]), ("schemars", &[]), ("serde", &[]), ("tokio", &["rt"])]
            }
        }
    }

    /// Dependencies of the template's test.
    fn test_dependencies(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::Source => &[("actlog-testkit", &[]), ("tempfile", &[]), ("tokio", &["macros", "rt-multi-thread"])],
            Self::Sink => &[("actlog-testkit", &[]), ("tokio", &["macros", "rt-multi-thread"]), ("uuid", &[])],
        }
    }

    /// The template's files, by their path in the crate.
    fn files(self) -> [(&'static str, &'static str); 4] {
        macro_rules! files {
            ($role:literal) => {
                [
                    ("src/lib.rs", include_str!(concat!("../templates/", $role, "/lib.rs"))),
                    ("tests/compliance.rs", include_str!(concat!("../templates/", $role, "/compliance.rs"))),
                    ("example.toml", include_str!(concat!("../templates/", $role, "/example.toml"))),
                    ("README.md", include_str!(concat!("../templates/", $role, "/README.md"))),
                ]
            };
        }
        match self {
            Self::Source => files!("source"),
            Self::Sink => files!("sink"),
        }
    }
}

/// Writes the plugin, and says what is next.
///
/// # Errors
/// When the name can't be used, the place is taken, or a file can't be written. Nothing is changed that is there
/// already, but for the files that name all plugins.
pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let plugin = Plugin::new(arguments.role, &arguments.name, &command::root())?;
    match &arguments.out_of_tree {
        Some(folder) => {
            plugin.write_out_of_tree(folder)?;
            println!("Wrote {}. Next: cd there, and `cargo test --workspace`.", folder.display());
        }
        None => {
            let folder = plugin.write_in_tree()?;
            println!(
                "Wrote {}, and named it in Cargo.toml, crates/host and CHANGELOG.md.\n\
                 Next: `cargo test -p {}`, then `cargo xtask docs`.",
                folder.display(),
                plugin.package
            );
        }
    }
    Ok(())
}

/// A plugin that is to be written.
struct Plugin {
    role: Role,
    /// `door-bell`
    kind: String,
    /// `actlog-source-door-bell`
    package: String,
    repository: PathBuf,
    /// The repository's manifest, and its dependencies.
    manifest: String,
    dependencies: Table,
}

impl Plugin {
    fn new(role: Role, kind: &str, repository: &Path) -> Result<Self, String> {
        let is_word =
            |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let starts_well = kind.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts_well || kind.len() > 40 || !kind.split('-').all(is_word) {
            return Err(format!(
                "{kind:?} can't be a name: use lower-case letters, digits and single hyphens, 40 at most"
            ));
        }
        let manifest = command::read(&repository.join("Cargo.toml"))?;
        let table: Table = manifest.parse().map_err(|error| format!("Cargo.toml: {error}"))?;
        let dependencies = table.get("workspace").and_then(|table| table.get("dependencies")).and_then(Value::as_table);
        Ok(Self {
            role,
            kind: kind.to_owned(),
            package: format!("actlog-{}-{kind}", role.name()),
            repository: repository.to_owned(),
            dependencies: dependencies.cloned().ok_or("Cargo.toml: there is no [workspace.dependencies]")?,
            manifest,
        })
    }

    /// Text of a template with the plugin's names, and a namespace of its own.
    fn fill(&self, template: &str) -> String {
        let camel: String = self.kind.split('-').map(capitalised).collect();
        let random = || RandomState::new().build_hasher().finish();
        let namespace = (u128::from(random()) << 64) | u128::from(random());
        template
            .replace("new-plugin", &self.kind)
            .replace("new_plugin", &self.kind.replace('-', "_"))
            .replace("NewPlugin", &camel)
            .replace("0x4e41_4d45_5350_4143_4500_0000_0000_0000", &format!("0x{namespace:032x}"))
            .replace("plugin_crate", &self.package.replace('-', "_"))
            .replace("PACKAGE", &self.package)
            .replace("ROLE", self.role.name())
    }

    /// Writes the crate, with `manifest` as its head.
    fn write_crate(
        &self,
        folder: &Path,
        head: &str,
        dependency: &dyn Fn(&str, &[&str]) -> String,
    ) -> Result<(), String> {
        let mut manifest = head.to_owned();
        manifest.push_str("\n[dependencies]\n");
        manifest.extend(self.role.dependencies().iter().map(|(name, features)| dependency(name, features)));
        manifest.push_str("\n[dev-dependencies]\n");
        manifest.extend(self.role.test_dependencies().iter().map(|(name, features)| dependency(name, features)));
        command::write(&folder.join("Cargo.toml"), &manifest)?;
        for (file, template) in self.role.files() {
            command::write(&folder.join(file), &self.fill(template))?;
        }
        Ok(())
    }

    fn description(&self) -> String {
        format!("The {} {} of actlog", self.role.name(), self.kind)
    }

    /// Writes the plugin into this repository. Returns its folder.
    fn write_in_tree(&self) -> Result<PathBuf, String> {
        let place = format!("crates/{}s/{}", self.role.name(), self.kind);
        let folder = self.repository.join(&place);
        vacant(&folder)?;
        // Everything that can be refused comes before anything is written.
        let edits = self.edits(&place)?;
        let inherited: String = ["version", "edition", "rust-version", "license", "publish"]
            .map(|key| format!("{key}.workspace = true\n"))
            .concat();
        let head = format!(
            "[package]\nname = \"{}\"\ndescription = \"{}\"\n{inherited}\n[lints]\nworkspace = true\n",
            self.package,
            self.description()
        );
        self.write_crate(&folder, &head, &|name, features| match features {
            [] => format!("{name}.workspace = true\n"),
            features => format!("{name} = {{ workspace = true, features = {features:?} }}\n"),
        })?;
        for (file, text) in edits {
            command::write(&self.repository.join(file), &text)?;
        }
        Ok(folder)
    }

    /// The files that name all plugins, with this one.
    fn edits(&self, place: &str) -> Result<[(&'static str, String); 4], String> {
        let (role, kind, package) = (self.role.name(), &self.kind, &self.package);
        let read = |file: &'static str| command::read(&self.repository.join(file)).map(|text| Text { file, text });

        let mut workspace = Text { file: "Cargo.toml", text: self.manifest.clone() };
        workspace.insert_after_last(&format!("    \"crates/{role}s/"), &format!("    \"{place}\","))?;
        let dependency = format!("{package} = {{ path = \"{place}\" }}");
        workspace.insert_after_last(&format!("actlog-{role}-"), &dependency)?;

        let mut host = read("crates/host/Cargo.toml")?;
        host.replace("default = [", &format!("default = [\"{role}-{kind}\", "))?;
        host.insert_after_last(&format!("{role}-"), &format!("{role}-{kind} = [\"dep:{package}\"]"))?;
        let dependency = format!("{package} = {{ workspace = true, optional = true }}");
        host.insert_after_last(&format!("actlog-{role}-"), &dependency)?;

        let mut plugins = read("crates/host/src/plugins.rs")?;
        let mention = format!("#[cfg(feature = \"{role}-{kind}\")]\nuse {} as _;", package.replace('-', "_"));
        plugins.insert_after_last(&format!("use actlog_{role}_"), &mention)?;
        plugins.replace(&format!("{role}s: &["), &format!("{role}s: &[(\"{kind}\", \"{role}-{kind}\"), "))?;

        let mut changes = read("CHANGELOG.md")?;
        changes.replace("### Added\n\n", &format!("### Added\n\n- A {role} of the type `{kind}`.\n"))?;
        Ok([workspace, host, plugins, changes].map(|text| (text.file, text.text)))
    }

    /// Writes the plugin and a host with it into a folder of its own.
    fn write_out_of_tree(&self, folder: &Path) -> Result<(), String> {
        vacant(folder)?;
        let of_package = |name: &str, description: &str| {
            format!(
                "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\npublish = false\n\
                 description = \"{description}\"\n"
            )
        };
        let package = of_package(&self.package, &self.description());
        self.write_crate(&folder.join(&self.package), &package, &|name, features| self.pinned(name, features))?;

        let mut manifest = format!("[workspace]\nmembers = [\"{}\"]\n\n", self.package);
        manifest +=
            &of_package(&format!("{}-host", self.kind), &format!("actlog with the {} {}", self.role.name(), self.kind));
        manifest += "\n[dependencies]\n# A path, a version or a Git tag: the same one for all crates of actlog.\n";
        let host = self.repository.join("crates/host");
        let _ =
            writeln!(manifest, "actlog = {{ path = {host:?}, default-features = false, features = [\"sink-file\"] }}");
        let _ = writeln!(manifest, "{} = {{ path = \"{}\" }}", self.package, self.package);
        // The repository's own profile: whoever has that compiled has most of this compiled.
        manifest += "\n[profile.dev]\ndebug = \"line-tables-only\"\n";
        manifest += "\n[profile.dev.package.\"*\"]\nopt-level = 1\ndebug = false\n";
        command::write(&folder.join("Cargo.toml"), &manifest)?;

        let configuration = match self.role {
            Role::Source => include_str!("../templates/host/source.toml"),
            Role::Sink => include_str!("../templates/host/sink.toml"),
        };
        let host = [
            ("src/main.rs", include_str!("../templates/host/main.rs")),
            ("README.md", include_str!("../templates/host/README.md")),
            ("actlog.toml", configuration),
            (".gitignore", "/target\n/actlog-data\n"),
        ];
        for (file, template) in host {
            command::write(&folder.join(file), &self.fill(template))?;
        }
        Ok(())
    }

    /// A dependency as the repository has it, written for a manifest outside of it.
    fn pinned(&self, name: &str, features: &[&str]) -> String {
        let shared = self.dependencies.get(name);
        let of = |key: &str| shared.and_then(|value| value.get(key));
        if let Some(path) = of("path").and_then(Value::as_str) {
            return format!("{name} = {{ path = {:?} }}\n", self.repository.join(path));
        }
        let version = shared.and_then(Value::as_str).or_else(|| of("version").and_then(Value::as_str)).unwrap_or("*");
        let inherited = of("features").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let features: Vec<&str> = inherited.chain(features.iter().copied()).collect();
        let plain = of("default-features").is_none();
        match (plain, &features[..]) {
            (true, []) => format!("{name} = \"{version}\"\n"),
            (true, features) => format!("{name} = {{ version = \"{version}\", features = {features:?} }}\n"),
            (false, features) => {
                format!("{name} = {{ version = \"{version}\", default-features = false, features = {features:?} }}\n")
            }
        }
    }
}

/// A file that is changed by lines and words that it must have.
struct Text {
    file: &'static str,
    text: String,
}

impl Text {
    /// Inserts a line behind the last one that begins like that.
    fn insert_after_last(&mut self, beginning: &str, line: &str) -> Result<(), String> {
        let mut lines: Vec<&str> = self.text.lines().collect();
        let place = lines.iter().rposition(|line| line.starts_with(beginning)).ok_or_else(|| self.lacks(beginning))?;
        lines.insert(place + 1, line);
        self.text = lines.join("\n") + "\n";
        Ok(())
    }

    /// Replaces the first occurrence.
    fn replace(&mut self, old: &str, new: &str) -> Result<(), String> {
        if !self.text.contains(old) {
            return Err(self.lacks(old));
        }
        self.text = self.text.replacen(old, new, 1);
        Ok(())
    }

    fn lacks(&self, what: &str) -> String {
        format!("{}: there is no `{what}` to put the new plugin behind", self.file)
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

fn vacant(folder: &Path) -> Result<(), String> {
    if folder.exists() { Err(format!("{} is there already", folder.display())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of the real repository that name all plugins, in a folder of their own.
    fn copy_of_the_repository() -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for file in ["Cargo.toml", "crates/host/Cargo.toml", "crates/host/src/plugins.rs", "CHANGELOG.md"] {
            command::write(&copy.path().join(file), &command::read(&command::root().join(file)).unwrap()).unwrap();
        }
        copy
    }

    #[test]
    fn in_the_repository_every_file_that_names_all_plugins_names_the_new_one() {
        for role in [Role::Source, Role::Sink] {
            let copy = copy_of_the_repository();
            let plugin = Plugin::new(role, "door-bell", copy.path()).unwrap();
            let folder = plugin.write_in_tree().unwrap();
            let read = |file: &str| command::read(&copy.path().join(file)).unwrap();
            let table = |file: &str| read(file).parse::<Table>().unwrap();
            let (name, package) = (role.name(), format!("actlog-{}-door-bell", role.name()));

            let workspace = table("Cargo.toml");
            let place = format!("crates/{name}s/door-bell");
            assert!(workspace["workspace"]["members"].as_array().unwrap().contains(&Value::from(place.as_str())));
            assert_eq!(workspace["workspace"]["dependencies"][&package]["path"], Value::from(place.as_str()));
            let host = table("crates/host/Cargo.toml");
            let feature = format!("{name}-door-bell");
            assert!(host["features"]["default"].as_array().unwrap().contains(&Value::from(feature.as_str())));
            assert_eq!(host["features"][&feature], Value::from(vec![format!("dep:{package}")]));
            assert_eq!(host["dependencies"][&package]["optional"], Value::from(true));
            let plugins = read("crates/host/src/plugins.rs");
            let mention = format!("#[cfg(feature = \"{feature}\")]\nuse actlog_{name}_door_bell as _;\n");
            assert!(
                plugins.contains(&mention) && plugins.contains(&format!("(\"door-bell\", \"{feature}\")")),
                "{plugins}"
            );
            assert!(read("CHANGELOG.md").contains(&format!("- A {name} of the type `door-bell`.")));

            let manifest = table(&format!("{place}/Cargo.toml"));
            assert_eq!(manifest["lints"]["workspace"], Value::from(true));
            let code = read(&format!("{place}/src/lib.rs"));
            assert!(code.contains("DoorBell") && !code.to_lowercase().contains("new-plugin"), "{code}");
            assert!(folder.join("tests/compliance.rs").exists() && folder.join("README.md").exists());

            let again = plugin.write_in_tree().unwrap_err();
            assert!(again.contains("is there already"), "{again}");
        }
    }

    #[test]
    fn names_that_would_be_no_crate_are_refused() {
        for name in ["", "Door", "door_bell", "-door", "door-", "door--bell", "4711", "../door", &"a".repeat(41)] {
            assert!(Plugin::new(Role::Sink, name, &command::root()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_repository_that_lacks_a_place_for_it_is_left_as_it_is() {
        let copy = copy_of_the_repository();
        command::write(&copy.path().join("CHANGELOG.md"), "# Changes\n").unwrap();
        let error = Plugin::new(Role::Source, "door-bell", copy.path()).unwrap().write_in_tree().unwrap_err();
        assert!(error.starts_with("CHANGELOG.md: "), "{error}");
        assert!(!copy.path().join("crates/sources").exists());
    }
}
