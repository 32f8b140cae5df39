//! Real counterparts: clients, receivers and validators of others that tests run our side against.
//!
//! Nothing is installed on the machine: Python packages go into an environment of their own below `target/peers`, Debian
//! packages are unpacked there. Several test processes may ask at once; one makes it, the others wait.
//!
//! Where a counterpart can't be had, the test says so and is skipped. With `CI=true` in the environment it fails instead,
//! so that a green run has seen them all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use crate::fixtures::{say_skipped, workspace};

/// The Python interpreter of an environment that holds the packages of `tests/peers/requirements.txt`.
///
/// # Panics
/// When it can't be made and `CI` is set.
pub fn python() -> Option<PathBuf> {
    let requirements = workspace().join("tests/peers/requirements.txt");
    let make = |folder: &Path| {
        let wanted = fs::read(&requirements)?;
        let marker = folder.join("requirements.txt");
        if fs::read(&marker).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        remove(folder)?;
        let created = run(Command::new("python3").args(["-m", "venv"]).arg(folder));
        if let Err(error) = created {
            // Debian keeps the part of Python that makes environments in a package of its own.
            run(Command::new("apt-get").args(["install", "-y", "-qq", "python3-venv"])).map_err(|_| error)?;
            remove(folder)?;
            run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        }
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
        run(&mut pip)?;
        fs::write(marker, wanted)
    };
    had("Python packages", "python", make).map(|folder| folder.join("bin/python"))
}

/// A folder with the files of a Debian package, and of all that it needs and this machine has not: `usr/sbin/rsyslogd`
/// and so on. `/` where the package is installed. See [`command`] for running a program from there.
///
/// # Panics
/// When it can't be had and `CI` is set.
pub fn debian(package: &str) -> Option<PathBuf> {
    let installed = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    if installed.is_ok_and(|output| output.stdout == b"installed") {
        return Some(PathBuf::from("/"));
    }
    let make = |folder: &Path| {
        let marker = folder.join("unpacked");
        if marker.exists() {
            return Ok(());
        }
        remove(folder)?;
        fs::create_dir_all(folder)?;
        let list = || {
            let mut list = Command::new("apt-get");
            run(list.args(["install", "--print-uris", "-qq", "--no-install-recommends", package]))
        };
        // A machine whose lists of packages were cleared away fetches them first.
        let lines = list().or_else(|_| run(Command::new("apt-get").args(["update", "-qq"])).and_then(|_| list()))?;
        // 'http://…' name_version_architecture.deb size digest
        let files = lines.lines().filter_map(|line| line.split(' ').nth(1));
        let names: Vec<&str> = files.filter_map(|file| file.split('_').next()).collect();
        run(Command::new("apt-get").args(["download", "-qq"]).args(&names).current_dir(folder))?;
        for entry in fs::read_dir(folder)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(folder))?;
                fs::remove_file(file)?;
            }
        }
        fs::write(marker, "")
    };
    had(&format!("the Debian package {package}"), &format!("debian-{package}"), make)
}

/// A command that runs a program of [`debian`]'s folder, with the libraries that lie there.
///
/// # Panics
/// When the folder can't be read.
pub fn command(folder: &Path, program: &str) -> Command {
    let mut command = Command::new(folder.join(program));
    if folder != Path::new("/") {
        let mut folders = Vec::new();
        folders_of_libraries(folder, &mut folders).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        command.env("LD_LIBRARY_PATH", folders.join(":"));
    }
    command
}

fn folders_of_libraries(folder: &Path, found: &mut Vec<String>) -> io::Result<()> {
    let mut has_libraries = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders_of_libraries(&entry.path(), found)?;
        } else {
            has_libraries |= entry.file_name().to_string_lossy().contains(".so");
        }
    }
    if has_libraries {
        found.push(folder.display().to_string());
    }
    Ok(())
}

/// Makes a folder of that name below `target/peers` unless it is there; one process at a time.
fn had(what: &str, name: &str, make: impl Fn(&Path) -> io::Result<()>) -> Option<PathBuf> {
    let peers = workspace().join("target/peers");
    let folder = peers.join(name);
    let made = fs::create_dir_all(&peers).and_then(|()| {
        let lock = File::create(peers.join(format!("{name}.lock")))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        make(&folder)
    });
    match made {
        Ok(()) => Some(folder),
        Err(error) if std::env::var_os("CI").is_some() => panic!("{what}: {error}"),
        Err(error) => {
            say_skipped(format_args!("{what} can't be had: {error}"));
            None
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs a command to its end; what it prints, or what it complains of.
fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{command:?}: {}: {}", output.status, complaint.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_of_the_requirements_can_be_used() {
        let Some(python) = python() else { return };
        let modules = "import cloudevents, jsonschema, msal, ocsf_json_schema, ZIZHUOffice365ManagementAPI";
        run(Command::new(python).args(["-c", modules])).unwrap();
    }

    #[test]
    fn a_program_of_a_debian_package_runs_without_being_installed() {
        for (package, program) in [("rsyslog", "usr/sbin/rsyslogd"), ("syslog-ng-core", "usr/sbin/syslog-ng")] {
            let Some(folder) = debian(package) else { return };
            let version = run(command(&folder, program).arg(if package == "rsyslog" { "-v" } else { "-V" })).unwrap();
            assert!(version.contains("syslog"), "{version}");
        }
    }
}
