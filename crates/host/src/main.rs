//! The `actlog` binary; everything is in the library, so that a host with other plugins is as short as this.

fn main() -> std::process::ExitCode {
    actlog::main()
}
