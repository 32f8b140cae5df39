//! A server with a handler that tells what it saw, and clients that speak HTTP byte by byte.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "public to the test files")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actlog_core::{BuildContext, Metrics};
use actlog_http::{Authenticator, Credential, Handler, Head, Request, Response, Server, ServerConfig, error, text};
use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; a test that waits this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Answers `<client> <length of the body>`; on `/wait` only once it is released.
pub struct Echo {
    keys: Authenticator,
    pub handled: AtomicUsize,
    pub waiting: Notify,
    pub released: Notify,
}

impl Handler for Echo {
    type Principal = ();

    fn authenticate(&self, head: &Head) -> Result<(), Box<Response>> {
        match self.keys.check(head) {
            Some(_) => Ok(()),
            None => Err(error(StatusCode::UNAUTHORIZED, "unauthorized", "the key is missing or wrong").into()),
        }
    }

    async fn handle(&self, request: Request<()>) -> Response {
        self.handled.fetch_add(1, Ordering::SeqCst);
        match request.head.path() {
            "/wait" => {
                self.waiting.notify_one();
                self.released.notified().await;
            }
            "/panic" => panic!("as the test wants it"),
            _ => {}
        }
        text(StatusCode::OK, format!("{} {}", request.head.client(), request.body.len()))
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub handler: Arc<Echo>,
    pub metrics: Metrics,
    pub budget: Arc<Semaphore>,
    pub shutdown: CancellationToken,
    pub served: JoinHandle<()>,
}

/// Starts a server on a free port of 127.0.0.1, key `secret`.
pub async fn start(adjust: impl FnOnce(&mut ServerConfig)) -> Running {
    start_in(Path::new("."), adjust).await
}

pub async fn start_in(folder: &Path, adjust: impl FnOnce(&mut ServerConfig)) -> Running {
    let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap());
    adjust(&mut config);
    let budget = Arc::new(Semaphore::new(BuildContext::BODY_BUDGET));
    let server = Server::bind(&config, folder, Arc::clone(&budget)).await.unwrap();
    let address = server.local_address();
    let handler = Arc::new(Echo {
        keys: Authenticator::new(vec![Credential::webhook_key(b"secret").unwrap()]),
        handled: AtomicUsize::new(0),
        waiting: Notify::new(),
        released: Notify::new(),
    });
    let (metrics, shutdown) = (Metrics::default(), CancellationToken::new());
    let served = tokio::spawn({
        let (handler, metrics, shutdown) = (Arc::clone(&handler), metrics.clone(), shutdown.clone());
        async move { server.serve(handler, &metrics, shutdown, Duration::from_secs(2)).await }
    });
    Running { address, handler, metrics, budget, shutdown, served }
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

impl Running {
    pub async fn connect(&self) -> TcpStream {
        within("connect", TcpStream::connect(self.address)).await.unwrap()
    }

    /// One request on a connection of its own; the whole answer.
    pub async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may answer and close before it has everything.
        let _ = stream.write_all(request).await;
        read_to_end(&mut stream).await
    }

    /// Waits until the metrics hold a line.
    pub async fn metric(&self, line: &str) {
        let found = async {
            // Metrics without labels are written with empty braces.
            while !self.metrics.encode().lines().any(|present| present.replace("{}", "") == line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, found).await.is_err() {
            panic!("{line:?} is not in\n{}", self.metrics.encode());
        }
    }
}

/// A POST with the right key that asks for the connection to be closed.
pub fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

pub async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    // A reset behind the answer is an end as well.
    let _ = within("end of the answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

/// Reads one answer with a `content-length`, leaving what follows it in the stream.
pub async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = String::new();
    let mut missing = usize::MAX;
    while missing > 0 {
        answer.push(within("a byte of the answer", stream.read_u8()).await.unwrap() as char);
        missing = match answer.split_once("\r\n\r\n") {
            None => 1,
            Some((head, body)) => {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
                length.parse::<usize>().unwrap() - body.len()
            }
        };
    }
    answer
}

pub async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    within("write", stream.write_all(bytes)).await.unwrap();
}

#[track_caller]
pub fn assert_status(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "expected {status}, got {answer:?}");
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
