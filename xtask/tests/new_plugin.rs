//! What `cargo xtask new-plugin` writes outside of the repository compiles, registers and passes the compliance kit.

use std::fs;
use std::process::Command;

use actlog_tests::cargo::{self, succeeds};

#[test]
fn a_new_plugin_compiles_registers_and_passes_the_compliance_kit() {
    let temporary = tempfile::tempdir().unwrap();
    for role in ["source", "sink"] {
        let folder = temporary.path().join(role);
        let kind = format!("new-{role}");
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask.args(["new-plugin", role, &kind, "--out-of-tree"]).arg(&folder);
        succeeds(xtask.output().unwrap());
        // With the features of the example and of the source, what was compiled for them serves the sink too.
        let manifest = folder.join(format!("actlog-{role}-{kind}/Cargo.toml"));
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, text.replace("features = [\"rt\"]", "features = [\"rt\", \"fs\", \"io-util\"]")).unwrap();

        succeeds(cargo::cargo(&folder, &["build", "--workspace", "--all-targets"]));
        let tests = succeeds(cargo::cargo(&folder, &["test", "--workspace"]));
        assert!(tests.contains(&format!("the_{role}_keeps_the_contract_of_components ... ok")), "{tests}");

        let host = cargo::executable(&format!("{kind}-host"));
        let run =
            |arguments: &[&str]| succeeds(Command::new(&host).current_dir(&folder).args(arguments).output().unwrap());
        let plugins = run(&["plugins"]);
        let listed = |line: &str| line.starts_with(&kind) && line.contains(&format!("actlog-{role}-{kind}"));
        assert!(plugins.lines().any(listed), "{plugins}");
        run(&["--config", "actlog.toml", "validate"]);
        let shown = run(&["plugins", "show", &kind]);
        assert!(shown.contains("[required]") && folder.join("README.md").exists(), "{shown}");
    }
}
