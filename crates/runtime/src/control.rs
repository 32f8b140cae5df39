//! The control socket: how commands reach a running process.
//!
//! `<data_dir>/control.sock`, for its owner only; the peer's user id is the actor in what is stated. A line of JSON
//! asks, a line of JSON answers: `{"ok": …}` or `{"error": "…"}`.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actlog_core::Gap;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// How every component is.
    Status,
    /// Puts the draft policy into force.
    PublishPolicy {
        /// Whether the person confirms that auditing is switched off.
        confirm: bool,
    },
    /// Gives dead letters to the sink that refused them once more.
    ReplayDeadLetters {
        /// The sink.
        component: String,
        /// The letters; all of them when empty.
        numbers: Vec<u64>,
    },
    /// Moves a sink's cursor to the end of the journal, and states what it misses.
    SkipSink {
        /// The sink.
        sink: String,
    },
    /// States what a command does, and the gaps that it has found.
    State {
        /// What it does.
        action: String,
        /// From when to when events may be missing.
        gaps: Vec<Gap>,
    },
    /// Forgets the cursor of a sink that is no longer configured.
    ForgetSink {
        /// The sink.
        sink: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ok(serde_json::Value),
    Error(String),
}

/// Why a running process could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Nobody listens: no process runs on this data folder.
    #[error("no actlog process runs on {}", .0.display())]
    NotRunning(PathBuf),
    /// The connection failed.
    #[error("control socket of {}: {error}", .folder.display())]
    Socket {
        /// The data folder.
        folder: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The process refused.
    #[error("{0}")]
    Refused(String),
}

/// Longest line either way.
const MAXIMUM_LINE: u64 = 16 << 20;
/// A peer that sends nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Publishing waits for the disk; nothing takes longer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(120);

/// A path to the socket that fits into the 108 bytes that the system has for one, however long the folder's is. The
/// folder must stay open while the path is used.
fn socket_path(folder: &Path) -> io::Result<(std::fs::File, PathBuf)> {
    use std::os::fd::AsRawFd;
    let open = std::fs::File::open(folder)?;
    let path = folder.join("control.sock");
    if path.as_os_str().len() < 100 {
        return Ok((open, path));
    }
    let short = format!("/proc/self/fd/{}/control.sock", open.as_raw_fd());
    Ok((open, short.into()))
}

/// Asks the process that runs on `folder`.
///
/// # Errors
/// [`ControlError`].
pub async fn ask(folder: &Path, request: &Request) -> Result<serde_json::Value, ControlError> {
    let socket_error = |error| ControlError::Socket { folder: folder.to_owned(), error };
    let not_running = |_| ControlError::NotRunning(folder.to_owned());
    let (_open, path) = socket_path(folder).map_err(not_running)?;
    let mut stream = UnixStream::connect(&path).await.map_err(not_running)?;
    let exchange = async {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = String::new();
        BufReader::new(stream.take(MAXIMUM_LINE)).read_line(&mut answer).await?;
        io::Result::Ok(serde_json::from_str::<Answer>(&answer)?)
    };
    match timeout(ANSWER_PATIENCE, exchange).await {
        Ok(Ok(Answer::Ok(value))) => Ok(value),
        Ok(Ok(Answer::Error(reason))) => Err(ControlError::Refused(reason)),
        Ok(Err(error)) => Err(socket_error(error)),
        Err(_) => Err(socket_error(io::ErrorKind::TimedOut.into())),
    }
}

/// A listening control socket.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Opens the socket. The caller holds the lock on the folder, so a socket that lies there is a leftover.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let (_open, path) = socket_path(folder)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: folder.join("control.sock") })
    }

    /// Answers until `shutdown` fires; one connection after the other, since commands are rare and change things.
    pub(crate) async fn serve<F>(self, shutdown: CancellationToken, handle: impl Fn(Request, String) -> F)
    where
        F: Future<Output = Result<serde_json::Value, String>>,
    {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            let outcome = match accepted {
                Ok((stream, _)) => answer(stream, &handle).await,
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                warn!(%error, "control socket");
            }
        }
        // A leftover does no harm: the next start removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer<F>(stream: UnixStream, handle: &impl Fn(Request, String) -> F) -> io::Result<()>
where
    F: Future<Output = Result<serde_json::Value, String>>,
{
    let actor = format!("uid {}", stream.peer_cred()?.uid());
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    timeout(PATIENCE, (&mut stream).take(MAXIMUM_LINE).read_line(&mut line)).await??;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => match handle(request, actor).await {
            Ok(value) => Answer::Ok(value),
            Err(reason) => Answer::Error(reason),
        },
        Err(error) => Answer::Error(format!("not a request that this version knows: {error}")),
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    timeout(PATIENCE, stream.get_mut().write_all(&bytes)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_answered_with_the_peer_as_actor_even_in_a_folder_with_a_long_name() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        assert!(matches!(ask(&long, &Request::Status).await, Err(ControlError::NotRunning(_))));
        let socket = ControlSocket::open(&long).unwrap();
        let shutdown = CancellationToken::new();
        let served = socket.serve(shutdown.clone(), |request, actor| async move {
            match request {
                Request::Status => Ok(serde_json::json!(actor)),
                _ => Err("refused".to_owned()),
            }
        });
        let asked = async {
            let actor = ask(&long, &Request::Status).await.unwrap();
            assert!(actor.as_str().unwrap().starts_with("uid "), "{actor}");
            let refused = ask(&long, &Request::PublishPolicy { confirm: false }).await.unwrap_err();
            assert_eq!(refused.to_string(), "refused");
            shutdown.cancel();
        };
        tokio::join!(served, asked);
        assert!(!long.join("control.sock").exists());
    }
}
