//! A process under measurement.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a process took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Time of the clock.
    pub(crate) wall: Duration,
    /// User and system time.
    pub(crate) cpu: Duration,
    /// The most memory that it had, in bytes.
    pub(crate) peak_memory: u64,
}

/// A running process; killed when dropped.
pub(crate) struct Measured {
    child: Child,
    began: Instant,
    peak_memory: u64,
}

impl Measured {
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        let child = command.stdin(Stdio::null()).spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self { child, began: Instant::now(), peak_memory: 0 })
    }

    /// The first line that it prints; its standard output must be piped.
    pub(crate) fn first_line(&mut self) -> Result<String, String> {
        let out = self.child.stdout.take().ok_or("standard output is not piped")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).map_err(|error| error.to_string())?;
        Ok(line.trim().to_owned())
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Result<Duration, String> {
        state_and_cpu(self.child.id()).map(|(_, cpu)| cpu)
    }

    /// The most memory that it had so far, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        peak_memory(self.child.id())
    }

    /// Asks it to end (SIGTERM).
    pub(crate) fn terminate(&self) -> Result<(), String> {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status();
        kill.map(drop).map_err(|error| format!("kill: {error}"))
    }

    /// Waits until it ends and says what it took; an error when it did not end well.
    pub(crate) fn finish(mut self) -> Result<Usage, String> {
        let pid = self.child.id();
        // A process that has ended and was not waited for still shows its times.
        let cpu = loop {
            self.peak_memory = self.peak_memory.max(peak_memory(pid));
            let (state, cpu) = state_and_cpu(pid)?;
            if state == 'Z' {
                break cpu;
            }
            sleep(Duration::from_millis(5));
        };
        let wall = self.began.elapsed();
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("the measured process ended with {status}"));
        }
        Ok(Usage { wall, cpu, peak_memory: self.peak_memory })
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // When it has ended already, there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state_and_cpu(pid: u32) -> Result<(char, Duration), String> {
    /// Clock ticks a second in /proc: USER_HZ, 100 on every Linux that Rust supports.
    const TICKS: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| error.to_string())?;
    // The second field is the name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(')').ok_or("unreadable /proc/PID/stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let state = fields.first().and_then(|field| field.chars().next()).unwrap_or('Z');
    Ok((state, Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS)))
}

fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Builds the release binary and says where it is.
pub(crate) fn build_actlog(root: &Path) -> Result<std::path::PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).current_dir(root).args(["build", "--release", "--package", "actlog"]).status();
    if !status.map_err(|error| error.to_string())?.success() {
        return Err("actlog could not be built".to_owned());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    Ok(target.join("release/actlog"))
}
