//! The server: accepting, admitting, and one request's way through the checks.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actlog_core::{BuildError, Metrics};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::body::{self, BodyError, BodyLimits, Coding};
use crate::config::ServerConfig;
use crate::connection::{Activity, Admission, Connections, Order, Patience, Phase, Watched};
use crate::figures::Figures;
use crate::peer::{ProxyHeader, client_address, contains};
use crate::request::{Body, Head, Request};
use crate::response::{self, Response};
use crate::tls::Tls;

/// What a plugin serves.
pub trait Handler: Send + Sync + 'static {
    /// Whom a request was found to come from.
    type Principal: Send + 'static;

    /// Decides who is asking, and whether that path and method exist, before anything of the body is read.
    ///
    /// # Errors
    /// The answer that refuses the request: 401, 404, 405 …
    fn authenticate(&self, head: &Head) -> Result<Self::Principal, Box<Response>>;

    /// Answers an authenticated request. Dropped midway when the client goes away.
    fn handle(&self, request: Request<Self::Principal>) -> impl Future<Output = Response> + Send;
}

/// Connections that are told why they are refused, at once; more are closed without a word.
const REFUSALS_AT_ONCE: usize = 64;
/// How long a refused connection may take to read why.
const REFUSAL_TIME: Duration = Duration::from_millis(500);
/// How long accepting rests when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Seconds after which clients are asked to try again.
const RETRY_AFTER_SECONDS: u64 = 5;
/// The answer when all connections are taken and served. Written as it is: no HTTP is spoken with who is refused.
const REFUSED_BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 73\r\n\r\n\
    {\"error\":{\"code\":\"unavailable\",\"message\":\"too many connections at once\"}}";
/// The answer to addresses that aren't allowed.
const REFUSED_ADDRESS: &str = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 70\r\n\r\n\
    {\"error\":{\"code\":\"forbidden\",\"message\":\"this address is not allowed\"}}";

/// A listener that is open and not served yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    settings: Settings,
    tls: Option<Arc<Tls>>,
}

/// What all connections share of the configuration.
#[derive(Debug)]
struct Settings {
    trusted_proxies: Vec<IpNet>,
    proxy_header: ProxyHeader,
    allow_from: Vec<IpNet>,
    body: BodyLimits,
    patience: Patience,
    max_connections: usize,
    max_header_size: usize,
    max_headers: usize,
}

impl Server {
    /// Reads the certificate and opens the listener. Relative paths are seen from `folder`; `budget` is the process's
    /// budget of body bytes, a permit a byte.
    ///
    /// # Errors
    /// When the configuration, the certificate or the address can't be used.
    pub async fn bind(config: &ServerConfig, folder: &Path, budget: Arc<Semaphore>) -> Result<Self, BuildError> {
        config.validate()?;
        let tls = config.tls.as_ref().map(|tls| Tls::load(tls, folder).map(Arc::new)).transpose()?;
        let unusable = |error| BuildError::Listen { address: config.listen.to_string(), error };
        let listener = TcpListener::bind(config.listen).await.map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        let limits = &config.limits;
        // Validation has bounded all sizes far below what fits.
        let bytes = |size: actlog_core::Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        let settings = Settings {
            trusted_proxies: config.trusted_proxies.clone(),
            proxy_header: config.proxy_header,
            allow_from: config.allow_from.clone(),
            body: BodyLimits {
                sent: bytes(limits.max_body),
                decompressed: bytes(limits.max_decompressed_body),
                time: limits.body_timeout.0,
                budget,
            },
            patience: Patience { head: limits.header_timeout.0, idle: limits.idle_timeout.0 },
            max_connections: limits.max_connections,
            max_header_size: bytes(limits.max_header_size),
            max_headers: limits.max_headers,
        };
        Ok(Self { listener, address, settings, tls })
    }

    /// The address that it listens on, with the port that the system chose where the configuration says 0.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` fires; then accepts no more, lets requests that have begun end within `grace`, and
    /// closes what is left.
    pub async fn serve<H: Handler>(
        self,
        handler: Arc<H>,
        metrics: &Metrics,
        shutdown: CancellationToken,
        grace: Duration,
    ) {
        let shared = Arc::new(Shared {
            handler,
            settings: self.settings,
            tls: self.tls,
            epoch: Instant::now(),
            connections: Connections::default(),
            decompressing: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
            figures: Figures::new(metrics),
        });
        let refusals = Arc::new(Semaphore::new(REFUSALS_AT_ONCE));
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => report_panic(ended),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => shared.accept(stream, peer.ip(), &mut tasks, &refusals),
                    Err(error) => shared.rest_after(&error).await,
                },
            }
        }
        drop(self.listener);
        shared.connections.finish();
        let finished = async {
            while let Some(ended) = tasks.join_next().await {
                report_panic(ended);
            }
        };
        if timeout(grace, finished).await.is_err() {
            tracing::warn!(connections = tasks.len(), "connections did not end in time and are closed");
        }
        tasks.shutdown().await;
    }
}

/// A handler's panic costs its connection, nothing else; but it must be seen.
fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a request's handler panicked; its connection was closed");
    }
}

/// What all connections share.
struct Shared<H> {
    handler: Arc<H>,
    settings: Settings,
    tls: Option<Arc<Tls>>,
    epoch: Instant,
    connections: Connections,
    /// How many bodies are decompressed at once: each may take a window of 8 MiB beside its budgeted output.
    decompressing: Semaphore,
    figures: Figures,
}

impl<H: Handler> Shared<H> {
    /// Errors of a single connection pass at once. When the process is out of file descriptors, accepting again at once
    /// would only burn time; and a connection that waits for its client is given up.
    async fn rest_after(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            tracing::warn!(%error, "a connection could not be accepted");
            if self.connections.evict() {
                self.figures.evicted.inc();
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    /// Decides whether a connection is served, and starts its task.
    fn accept(self: &Arc<Self>, stream: TcpStream, peer: IpAddr, tasks: &mut JoinSet<()>, refusals: &Arc<Semaphore>) {
        let settings = &self.settings;
        let is_outsider = !settings.allow_from.is_empty()
            && !contains(&settings.trusted_proxies, peer)
            && !contains(&settings.allow_from, peer);
        let activity = Arc::new(Activity::new(self.epoch));
        let refusal = if is_outsider {
            self.figures.refused_address.inc();
            Some(REFUSED_ADDRESS)
        } else {
            match self.connections.admit(&activity, settings.max_connections) {
                Admission::Free => None,
                Admission::InsteadOfAnother => {
                    self.figures.evicted.inc();
                    None
                }
                Admission::Full => {
                    self.figures.refused_full.inc();
                    Some(REFUSED_BUSY)
                }
            }
        };
        if let Some(answer) = refusal {
            // Over TLS a refusal can't be said before a handshake, which is what is to be saved.
            if let (None, Ok(place)) = (&self.tls, Arc::clone(refusals).try_acquire_owned()) {
                tasks.spawn(async move {
                    let _place = place;
                    let _ = timeout(REFUSAL_TIME, refuse(stream, answer)).await;
                });
            }
            return;
        }
        self.figures.connections.inc();
        let place = Place { shared: Arc::clone(self), activity };
        tasks.spawn(async move { place.shared.serve_connection(stream, peer, &place.activity).await });
    }

    async fn serve_connection(self: &Arc<Self>, stream: TcpStream, peer: IpAddr, activity: &Arc<Activity>) {
        // Answers are small and wanted at once. A failure means that the connection is gone, which reading will show.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return self.serve_stream(stream, peer, activity).await;
        };
        let handshake = async { tls.acceptor().await.accept(stream).await };
        tokio::select! {
            biased;
            accepted = timeout(self.settings.patience.head, handshake) => match accepted {
                Ok(Ok(stream)) => self.serve_stream(stream, peer, activity).await,
                Ok(Err(_)) | Err(_) => {
                    self.figures.handshakes.inc();
                }
            },
            _ = activity.next_order() => {}
        }
    }

    async fn serve_stream<S>(self: &Arc<Self>, stream: S, peer: IpAddr, activity: &Arc<Activity>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Arc::new(Connection { shared: Arc::clone(self), activity: Arc::clone(activity), peer });
        let service = service_fn(|request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, std::convert::Infallible>(connection.answer(request).await) }
        });
        let settings = &self.settings;
        let mut protocol = http1::Builder::new();
        // Time is kept here (see `Activity`): hyper's own timer would count idle time as time for the head.
        protocol
            .header_read_timeout(None)
            .max_headers(settings.max_headers)
            .max_header_size(settings.max_header_size)
            .max_buf_size(settings.max_header_size.max(MINIMUM_BUFFER));
        let served = protocol.serve_connection(TokioIo::new(Watched::new(stream, Arc::clone(activity))), service);
        let mut served = pin!(served);
        let mut timer = pin!(sleep_until(Instant::now() + settings.patience.head));
        loop {
            let order = tokio::select! {
                biased;
                _ = served.as_mut() => return,
                () = too_late(activity, settings.patience, timer.as_mut()) => {
                    self.figures.timed_out.inc();
                    return;
                }
                order = activity.next_order() => order,
            };
            match order {
                Order::Serve => {}
                Order::Finish => served.as_mut().graceful_shutdown(),
                Order::Close => return,
            }
        }
    }
}

/// hyper's least.
const MINIMUM_BUFFER: usize = 8 << 10;

/// Resolves when the client has had its time. The timer is moved only when it fires or would fire too late, so that
/// requests in quick succession don't touch it.
async fn too_late(activity: &Activity, patience: Patience, mut timer: Pin<&mut tokio::time::Sleep>) {
    poll_fn(|cx| {
        loop {
            let deadline = activity.deadline(patience);
            if deadline.is_some_and(|deadline| deadline < timer.deadline()) {
                timer.as_mut().reset(deadline.unwrap_or_else(Instant::now));
            }
            std::task::ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            match deadline {
                Some(deadline) if deadline <= now => return Poll::Ready(()),
                Some(deadline) => timer.as_mut().reset(deadline),
                None => timer.as_mut().reset(now + patience.idle),
            }
        }
    })
    .await;
}

/// Says why, and waits until it is heard.
async fn refuse(mut stream: TcpStream, answer: &str) -> io::Result<()> {
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut discarded = [0; 4 << 10];
    while stream.read(&mut discarded).await? > 0 {}
    Ok(())
}

/// A connection's place among the open ones; given up when dropped, whatever became of its task.
struct Place<H: Handler> {
    shared: Arc<Shared<H>>,
    activity: Arc<Activity>,
}

impl<H: Handler> Drop for Place<H> {
    fn drop(&mut self) {
        self.shared.connections.remove(&self.activity);
        self.shared.figures.connections.dec();
    }
}

/// What the requests of one connection share.
struct Connection<H> {
    shared: Arc<Shared<H>>,
    activity: Arc<Activity>,
    peer: IpAddr,
}

impl<H: Handler> Connection<H> {
    async fn answer(self: Arc<Self>, request: hyper::Request<Incoming>) -> hyper::Response<Tracked> {
        self.activity.enter(Phase::Busy);
        let (parts, incoming) = request.into_parts();
        let has_body = !incoming.is_end_stream();
        let response = match self.check(parts) {
            Ok((head, principal, coding)) => match self.read(incoming, coding).await {
                Ok(body) => self.shared.handler.handle(Request { head, principal, body }).await,
                Err(error) => self.leave_unread(refused_body(error, &self.shared.settings)),
            },
            Err(refusal) if has_body => self.leave_unread(*refusal),
            Err(refusal) => *refusal,
        };
        self.shared.figures.count(response.status());
        response.map(|bytes| Tracked { bytes: Some(bytes), activity: Arc::clone(&self.activity) })
    }

    /// Everything that can be checked before the body: address, credentials, announced length, coding.
    fn check(&self, parts: hyper::http::request::Parts) -> Result<(Head, H::Principal, Coding), Box<Response>> {
        let settings = &self.shared.settings;
        let client = client_address(self.peer, &parts.headers, &settings.trusted_proxies, settings.proxy_header);
        let is_allowed = |client| contains(&settings.allow_from, client);
        if !settings.allow_from.is_empty() && !client.is_some_and(is_allowed) {
            self.shared.figures.refused_address.inc();
            return Err(response::error(StatusCode::FORBIDDEN, "forbidden", "this address is not allowed").into());
        }
        let head = Head::new(parts, client.unwrap_or(self.peer).to_canonical());
        let principal = self.shared.handler.authenticate(&head)?;
        if announced_length(head.headers()).is_some_and(|length| length > settings.body.sent as u64) {
            return Err(refused_body(BodyError::TooLarge, settings).into());
        }
        let Some(coding) = Coding::of(head.headers()) else {
            let message = "the body's Content-Encoding is not supported; send gzip, zstd, or none";
            let mut refusal = response::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-encoding", message);
            refusal.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
            return Err(refusal.into());
        };
        Ok((head, principal, coding))
    }

    async fn read(&self, incoming: Incoming, coding: Coding) -> Result<Body, BodyError> {
        let limits = &self.shared.settings.body;
        let sent = body::read(incoming, limits).await?;
        self.shared.figures.received.inc_by(sent.len() as u64);
        if coding == Coding::Identity {
            return Ok(sent);
        }
        // The semaphore is never closed, so a place is always given; without one there would merely be no limit.
        let _place = self.shared.decompressing.acquire().await;
        let limits = limits.clone();
        let decompressed = tokio::task::spawn_blocking(move || body::decompress(sent, coding, &limits)).await;
        decompressed.unwrap_or(Err(BodyError::Undecodable))
    }

    /// The connection ends with this answer: what is left of the body would be taken for the next request.
    fn leave_unread(&self, mut response: Response) -> Response {
        self.activity.leave_body_unread();
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn refused_body(error: BodyError, settings: &Settings) -> Response {
    let limits = &settings.body;
    match error {
        BodyError::TooLarge => response::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            &format!("the body is larger than the {} bytes that are taken; send it in smaller parts", limits.sent),
        ),
        BodyError::TooLargeDecompressed => response::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            &format!(
                "the decompressed body is larger than the {} bytes that are taken; send it in smaller parts",
                limits.decompressed
            ),
        ),
        BodyError::NoBudget => response::unavailable(RETRY_AFTER_SECONDS, "too much is being received at once"),
        BodyError::TooSlow => response::error(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            &format!("the body did not arrive within {} s", limits.time.as_secs_f64()),
        ),
        BodyError::Broken => response::error(StatusCode::BAD_REQUEST, "broken-body", "the body could not be read"),
        BodyError::Undecodable => response::error(
            StatusCode::BAD_REQUEST,
            "undecodable-body",
            "the body is not what its Content-Encoding says, or is not whole",
        ),
    }
}

/// The body of an answer. When hyper drops it, the answer is written, and the wait for the next request begins.
struct Tracked {
    bytes: Option<Bytes>,
    activity: Arc<Activity>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.activity.enter(Phase::Idle);
    }
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
