//! A load of HTTP posts, and the bare server that it is compared with.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a load met.
pub(crate) struct Answers {
    /// How long all of it took.
    pub(crate) wall: Duration,
    /// Times to the answer, ascending.
    pub(crate) latencies: Vec<Duration>,
}

impl Answers {
    /// The time within which this share of the answers came.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let place = (self.latencies.len() as f64 * share) as usize;
        self.latencies.get(place.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Posts all bodies over so many connections, each posting one after the other; every answer must be 200.
pub(crate) fn post_all(
    address: SocketAddr,
    path: &str,
    content_type: &str,
    bodies: Vec<Vec<u8>>,
    connections: usize,
) -> Result<Answers, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {content_type}\r\n");
    let (head, bodies) = (Arc::new(head), Arc::new(bodies));
    let began = Instant::now();
    let latencies = runtime.block_on(async {
        let tasks: Vec<_> = (0..connections)
            .map(|first| tokio::spawn(post_some(address, Arc::clone(&head), Arc::clone(&bodies), first, connections)))
            .collect();
        let mut latencies = Vec::with_capacity(bodies.len());
        for task in tasks {
            latencies.extend(task.await.map_err(|error| error.to_string())??);
        }
        Ok::<_, String>(latencies)
    });
    let wall = began.elapsed();
    let mut latencies = latencies?;
    latencies.sort_unstable();
    Ok(Answers { wall, latencies })
}

async fn post_some(
    address: SocketAddr,
    head: Arc<String>,
    bodies: Arc<Vec<Vec<u8>>>,
    first: usize,
    step: usize,
) -> Result<Vec<Duration>, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).await.map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    let mut latencies = Vec::with_capacity(bodies.len() / step + 1);
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    for body in bodies.iter().skip(first).step_by(step) {
        request.clear();
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        request.extend_from_slice(body);
        let began = Instant::now();
        stream.write_all(&request).await.map_err(text)?;
        read_answer(&mut stream, &mut answer).await?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

/// Reads one answer: head, and as much body as it announces.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<(), String> {
    answer.clear();
    loop {
        let read = stream.read_buf(answer).await.map_err(|error| error.to_string())?;
        if read == 0 {
            return Err(format!("the connection ended within an answer: {}", String::from_utf8_lossy(answer)));
        }
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200 ") {
            return Err(format!("not 200: {}", String::from_utf8_lossy(answer)));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
        if answer.len() >= end + 4 + length {
            return Ok(());
        }
    }
}

/// Reads bodies and answers 200; prints its address first, ends with the process.
pub(crate) fn bare_server() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let answered = async |request: Request<Incoming>| {
        let body = request.into_body().collect().await;
        std::hint::black_box(body.map(|body| body.to_bytes().len()).unwrap_or(0));
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    };
    runtime.map_err(|error| error.to_string())?.block_on(async move {
        let text = |error: std::io::Error| error.to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(text)?;
        println!("{}", listener.local_addr().map_err(text)?);
        let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(text)?;
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted.map_err(text)?.0,
                _ = ended.recv() => return Ok(()),
            };
            stream.set_nodelay(true).map_err(text)?;
            tokio::spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new();
                // A client that goes away is no matter here.
                let _ = connection.serve_connection(TokioIo::new(stream), service_fn(answered)).await;
            });
        }
    })
}
