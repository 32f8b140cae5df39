//! actlog with a plugin of our own. The plugins that it has are the crates that it names; a forgotten one does not
//! compile.
#![deny(unused_crate_dependencies)]
use plugin_crate as _;

fn main() -> std::process::ExitCode {
    actlog::main()
}
