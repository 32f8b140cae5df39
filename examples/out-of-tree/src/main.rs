//! ACME's actlog. The plugins that it has are the crates that it names; a forgotten one does not compile.
#![deny(unused_crate_dependencies)]
use badge_reader as _;

fn main() -> std::process::ExitCode {
    actlog::main()
}
