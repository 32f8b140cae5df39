//! A receiver that takes nothing but whole frames of the right form, and keeps what it takes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use actlog_testkit::compliance::DEADLINE;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The longest message that it takes.
pub(crate) const LONGEST: usize = 8000;

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As rsyslog does: it reads to the end, and closes then.
    Good,
    /// It closes each connection at once.
    Closes,
    /// It takes connections and reads nothing.
    Hangs,
    /// It reads, and never closes.
    NeverCloses,
    /// It reads a little, and closes.
    ClosesInTheMiddle,
}

/// A receiver on the loopback interface.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    seen: Arc<Mutex<Seen>>,
    _accepting: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    messages: Vec<String>,
    connections: usize,
    /// What is not as RFC 5424 and RFC 6587 have it.
    faults: Vec<String>,
}

impl Receiver {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Good);
        let seen = Arc::<Mutex<Seen>>::default();
        let mut accepting = JoinSet::new();
        let shared = Arc::clone(&seen);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                connections.spawn(serve(stream, modes.clone(), Arc::clone(&shared)));
            }
        });
        Self { address, mode, seen, _accepting: accepting }
    }

    /// Behaves so from now on, on open connections too.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// The messages that came whole, in the order in which they came.
    pub(crate) fn messages(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        assert!(seen.faults.is_empty(), "{:?}", seen.faults);
        seen.messages.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Waits until it has so many messages.
    pub(crate) async fn wait_for(&self, messages: usize) {
        let come = async {
            while self.messages().len() < messages {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let come = tokio::time::timeout(DEADLINE, come).await;
        come.unwrap_or_else(|_| panic!("{} messages of {messages} came", self.messages().len()));
    }
}

async fn serve(mut stream: TcpStream, mut modes: watch::Receiver<Mode>, seen: Arc<Mutex<Seen>>) {
    let mut bytes = Vec::new();
    let mut has_ended = false;
    loop {
        let mode = *modes.borrow_and_update();
        match mode {
            Mode::Closes => return,
            Mode::Hangs => _ = modes.changed().await,
            _ if has_ended => match mode {
                Mode::NeverCloses => _ = modes.changed().await,
                // What is cut off in the middle does not count.
                _ => return,
            },
            _ => {
                tokio::select! {
                    _ = modes.changed() => {}
                    read = stream.read_buf(&mut bytes) => match read {
                        Ok(0) => has_ended = true,
                        Ok(_) => take(&mut bytes, &seen),
                        Err(_) => return,
                    },
                }
                if mode == Mode::ClosesInTheMiddle && !bytes.is_empty() {
                    return;
                }
            }
        }
    }
}

/// Takes the whole frames from the front of the bytes.
fn take(bytes: &mut Vec<u8>, seen: &Mutex<Seen>) {
    let mut rest = &bytes[..];
    let mut seen = seen.lock().unwrap();
    loop {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = std::str::from_utf8(&rest[..digits]).unwrap();
        let Some(blank) = rest.get(digits) else { break };
        let length = match text.parse::<usize>() {
            Ok(length) if *blank == b' ' && !text.starts_with('0') && length <= LONGEST => length,
            _ => {
                seen.faults.push(format!("not a frame: {}", String::from_utf8_lossy(&rest[..rest.len().min(80)])));
                break;
            }
        };
        let Some(message) = rest.get(digits + 1..digits + 1 + length) else { break };
        match std::str::from_utf8(message) {
            Ok(text) if text.starts_with('<') && text.contains(">1 ") && !text.contains(['\n', '\0']) => {
                seen.messages.push(text.to_owned());
            }
            _ => seen.faults.push(format!("not a message: {}", String::from_utf8_lossy(message))),
        }
        rest = &rest[digits + 1 + length..];
    }
    *bytes = rest.to_vec();
}
