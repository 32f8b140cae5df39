//! Real processes: the binary itself, started, killed and looked at from outside.
//!
//! Everything that is waited for has a deadline, and a panic that says what did not come, with what the process wrote.
//! A process that a test leaves behind is killed when its handle is dropped. Linux only.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::fixtures::workspace;
use crate::http;

/// How long the helpers here wait for a process to do what it should.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at a condition that nobody announces.
const PAUSE: Duration = Duration::from_millis(10);

/// The path of the `actlog` binary.
///
/// It is what `ACTLOG_BIN` names. Where that is not set, it is built once by this process, in the profile that
/// `ACTLOG_PROFILE` names (`dev`, `release`, `bench`), else the profile of the test itself.
///
/// # Panics
/// When it can't be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("ACTLOG_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    // Tests lie in <target>/<profile>/deps.
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("where is this test? {error}"));
    let own = test.ancestors().nth(2).unwrap_or_else(|| panic!("{} is not in a target folder", test.display()));
    let target = own.parent().unwrap_or(own);
    let profile =
        std::env::var("ACTLOG_PROFILE").unwrap_or_else(|_| match own.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev".to_owned(),
            Some(profile) => profile.to_owned(),
        });
    // Cargo puts "bench" with "release" and "test" with "dev".
    let folder = match profile.as_str() {
        "dev" | "test" => "debug",
        "bench" => "release",
        other => other,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "actlog", "--bin", "actlog", "--profile", &profile]);
    command.arg("--target-dir").arg(target).current_dir(workspace());
    match command.status() {
        Ok(status) if status.success() => target.join(folder).join("actlog"),
        Ok(status) => panic!("building actlog ended with {status}"),
        Err(error) => panic!("cargo can't be started: {error}"),
    }
}

/// An address on the loopback interface that nothing listens on. Each call gives another one.
///
/// # Panics
/// When the operating system has none.
pub fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for _ in 0..1000 {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = address.unwrap_or_else(|error| panic!("no free port: {error}"));
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(address.port()) {
            return address;
        }
    }
    panic!("the operating system gives the same ports again and again");
}

/// Waits until a condition holds.
///
/// # Panics
/// When it does not hold within [`DEADLINE`]; `what` says what was waited for.
pub async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < end, "waited {} s for this, and it did not come: {what}", DEADLINE.as_secs());
        tokio::time::sleep(PAUSE).await;
    }
}

/// A running process. Its output goes to files, so that it can be read at any time and never blocks.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts it. Its output goes to the files `<name>.stdout` and `<name>.stderr` in that folder; its input is empty.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Self {
        let (stdout, stderr) = (folder.join(format!("{name}.stdout")), folder.join(format!("{name}.stderr")));
        let create = |path: &Path| File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        command.stdin(Stdio::null()).stdout(create(&stdout)).stderr(create(&stderr));
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
        Self { child, name: name.to_owned(), stdout, stderr }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once, as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end: SIGTERM.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn terminate(&mut self) {
        let pid = i32::try_from(self.id()).ok().and_then(rustix::process::Pid::from_raw);
        let sent = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        assert!(self.is_running() && matches!(sent, Some(Ok(()))), "{} is gone already\n{}", self.name, self.stderr());
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not within [`DEADLINE`].
    pub async fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
                Ok(None) => panic!("{} did not end within {} s\n{}", self.name, DEADLINE.as_secs(), self.stderr()),
                Err(error) => panic!("{} can't be waited for: {error}", self.name),
            }
        }
    }

    /// The most memory that it has had so far, in bytes (`VmHWM`).
    ///
    /// # Panics
    /// When it is gone.
    pub fn peak_memory(&self) -> u64 {
        let status = read(Path::new(&format!("/proc/{}/status", self.id())));
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
        match kibibytes.and_then(|text| text.trim().parse::<u64>().ok()) {
            Some(kibibytes) => kibibytes * 1024,
            None => panic!("{} is gone, and its memory can't be seen\n{}", self.name, self.stderr()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read(path: &Path) -> String {
    // A process that is gone has no files in /proc; what it wrote need not be UTF-8.
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// `actlog run` in a folder of its own.
#[derive(Debug)]
pub struct Actlog {
    /// The process.
    pub process: Process,
    /// Where health and metrics are.
    pub admin: SocketAddr,
    binary: PathBuf,
    folder: PathBuf,
}

impl Actlog {
    /// Writes the configuration to `actlog.toml` in the folder, with an admin listener added, starts `actlog run` and
    /// waits until it is ready. The configuration must not have a table `[admin]`.
    ///
    /// # Panics
    /// When it does not become ready within [`DEADLINE`].
    pub async fn start(folder: &Path, config: &str) -> Self {
        Self::start_host(binary(), folder, config).await
    }

    /// The same with another host's binary.
    ///
    /// # Panics
    /// As [`Actlog::start`].
    pub async fn start_host(binary: &Path, folder: &Path, config: &str) -> Self {
        let admin = free_address();
        let path = folder.join("actlog.toml");
        let text = format!("{config}\n[admin]\nlisten = \"{admin}\"\n");
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (binary, folder) = (binary.to_path_buf(), folder.to_path_buf());
        let mut actlog = Self { process: run(&binary, &folder), admin, binary, folder };
        actlog.ready().await;
        actlog
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Panics
    /// When it does not within [`DEADLINE`], or the process ends.
    pub async fn ready(&mut self) {
        let end = Instant::now() + DEADLINE;
        loop {
            let answer = http::get(self.admin, "/readyz").await;
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return;
            }
            let (running, late) = (self.process.is_running(), Instant::now() > end);
            if !running || late {
                let what = if running { "is not ready" } else { "has ended" };
                let answer = answer.map(|answer| answer.text());
                panic!("actlog {what}; /readyz: {answer:?}; it wrote:\n{}", self.process.stderr());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Starts it again, with the same configuration and data, once it has ended or was killed.
    ///
    /// # Panics
    /// As [`Actlog::start`].
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = run(&self.binary, &self.folder);
        self.ready().await;
    }

    /// SIGTERM; waits for the end.
    ///
    /// # Panics
    /// When it does not end well within [`DEADLINE`].
    pub async fn stop(&mut self) {
        self.process.terminate();
        let status = self.process.ended().await;
        assert!(status.success(), "actlog ended with {status}; it wrote:\n{}", self.process.stderr());
    }

    /// The metrics, as text.
    ///
    /// # Panics
    /// When they can't be had.
    pub async fn metrics(&self) -> String {
        match http::get(self.admin, "/metrics").await {
            Ok(answer) if answer.status == 200 => answer.text(),
            other => panic!("no metrics: {other:?}; actlog wrote:\n{}", self.process.stderr()),
        }
    }

    /// Runs another command of the binary on the same configuration, and gives its output.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--config").arg(self.folder.join("actlog.toml")).current_dir(&self.folder);
        command.output().unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"))
    }
}

fn run(binary: &Path, folder: &Path) -> Process {
    let mut command = Command::new(binary);
    command.arg("run").arg("--config").arg(folder.join("actlog.toml")).current_dir(folder);
    Process::start("actlog", folder, &mut command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn shell(folder: &Path, script: &str) -> Process {
        Process::start("shell", folder, Command::new("sh").args(["-c", script]))
    }

    #[tokio::test]
    async fn output_and_end_of_a_process_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell(folder.path(), "echo out; echo err >&2; exit 3");
        assert_eq!(process.ended().await.code(), Some(3));
        assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("out\n", "err\n"));
        assert!(!process.is_running());
    }

    #[tokio::test]
    async fn a_process_can_be_asked_to_end_and_be_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell(folder.path(), "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done");
        wait_until("the shell is up", async || process.stdout() == "up\n").await;
        assert!(process.peak_memory() > 64 * 1024);
        process.terminate();
        assert_eq!(process.ended().await.code(), Some(5));
        let mut process = shell(folder.path(), "trap '' TERM; while :; do sleep 0.01; done");
        process.kill();
        assert_eq!(process.ended().await.signal(), Some(9));
    }

    #[test]
    fn a_process_does_not_outlive_its_handle() {
        let folder = tempfile::tempdir().unwrap();
        let process = shell(folder.path(), "while :; do sleep 0.01; done");
        let status = PathBuf::from(format!("/proc/{}/status", process.id()));
        assert!(status.exists());
        drop(process);
        assert!(!status.exists());
    }

    #[test]
    fn free_addresses_differ() {
        let addresses: BTreeSet<SocketAddr> = (0..20).map(|_| free_address()).collect();
        assert_eq!(addresses.len(), 20);
    }
}
