//! The one hardened HTTP client: other systems' interfaces are asked through it.
//!
//! What it refuses, and what it promises, is the same for everybody who uses it:
//!
//! - **TLS only.** `http` is spoken with this machine alone, and only where `allow_private` is set. Certificates are
//!   checked against the system's roots and the configured ones; there is no switch to leave that out.
//! - **No way inside.** Private, loopback, link-local and other special addresses are refused in every spelling, unless
//!   `allow_private` is set. Names are resolved here and their addresses filtered; what passes is what is connected to,
//!   so a name that changes its address between check and use gains nothing. Through a proxy the proxy resolves names:
//!   there, only addresses that stand in the URL itself are checked, and the proxy must know what it may reach.
//! - **Bounds.** The time of a whole request, from [`Client::send`] to the last byte of the answer; the size of the
//!   answer, decompressed, while it comes.
//! - **No redirects, no cookies.** A 3xx answer is handed back like any other: credentials go where they were meant to.
//! - **No secrets in errors.** They name host and cause; never a query, a header or a body.
//!
//! It speaks HTTP/2 and HTTP/1.1, takes gzip, and keeps connections open for the next request. It doesn't retry: what
//! may be sent twice only its user knows. [`Backoff`] says how long to wait.

mod address;
mod backoff;
mod config;
mod error;
mod request;
mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{ConfigError, Size, Span};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Position, Url};

pub use backoff::Backoff;
pub use config::ClientConfig;
pub use error::ClientError;
pub use hyper::{HeaderMap, Method, StatusCode};
pub use request::{Request, Response};
pub use tls::tls_config;

use config::ProxyRule;
use error::failed;

/// How long a connection may take to come about, at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// An HTTP client. Clones share their connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    direct: reqwest::Client,
    proxied: Option<Proxied>,
    allow_private: bool,
    timeout: Duration,
    max_response: usize,
}

/// The client whose connections go through the proxy, and what goes there.
struct Proxied {
    client: reqwest::Client,
    matcher: Matcher,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("allow_private", &self.0.allow_private).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the certificates, those of the operating system too; relative paths are seen from `folder`.
    ///
    /// # Errors
    /// When a certificate, key or proxy can't be used, at its key.
    pub fn new(config: &ClientConfig, folder: &Path) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut tls = tls_config(config, folder)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let rule = ProxyRule::find(config, |name| std::env::var(name).ok())?;
        let built = |builder: reqwest::ClientBuilder| {
            let builder = builder
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .user_agent(concat!("actlog/", env!("CARGO_PKG_VERSION")));
            builder.build().map_err(|error| ConfigError::new("", format!("no HTTP client: {}", error::cause(&error))))
        };
        let allow_private = config.allow_private;
        let direct = reqwest::Client::builder().no_proxy().dns_resolver(Arc::new(Resolver { allow_private }));
        let proxied = match rule {
            None => None,
            Some(rule) => {
                Some(Proxied { client: built(reqwest::Client::builder().proxy(rule.proxy))?, matcher: rule.matcher })
            }
        };
        Ok(Self(Arc::new(Inner {
            direct: built(direct)?,
            proxied,
            allow_private,
            timeout: config.timeout.0,
            max_response: usize::try_from(config.max_response.0).unwrap_or(usize::MAX),
        })))
    }

    /// Sends the request and takes in the whole answer, whatever its status.
    ///
    /// # Errors
    /// When the request isn't one, its address is forbidden, or there is no whole answer within the bounds.
    pub async fn send(&self, request: Request) -> Result<Response, ClientError> {
        let request::Parts { method, url, headers, body } = request.into_parts()?;
        let host = self.0.check(&url)?;
        let outgoing = self.0.route(&url).request(method, url).headers(headers);
        let outgoing = if body.is_empty() { outgoing } else { outgoing.body(body) };
        match tokio::time::timeout(self.0.timeout, self.0.exchange(outgoing, &host)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout { host, after: Span(self.0.timeout) }),
        }
    }
}

impl Inner {
    /// Refuses what can be refused by the URL alone; gives the host, and port, for errors.
    fn check(&self, url: &Url) -> Result<Arc<str>, ClientError> {
        let refuse = |problem: &str| ClientError::Url { problem: problem.to_owned() };
        let host = url.host().ok_or_else(|| refuse("it has no host"))?;
        let name = url[Position::BeforeHost..Position::BeforePath].into();
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("user name and password in a URL are not supported"));
        }
        let literal = match host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        };
        if let Some(address) = literal.filter(|address| !self.allow_private && !address::is_public(*address)) {
            return Err(ClientError::Forbidden { host: name, address });
        }
        let is_this_machine =
            literal.map_or(host == Host::Domain("localhost"), |address| address.to_canonical().is_loopback());
        match url.scheme() {
            "https" => Ok(name),
            "http" if self.allow_private && is_this_machine => Ok(name),
            _ => Err(ClientError::Insecure { host: name }),
        }
    }

    /// The client that the URL's requests take; `http`, which doesn't leave this machine, takes no proxy.
    fn route(&self, url: &Url) -> &reqwest::Client {
        match (&self.proxied, url.as_str().parse()) {
            (Some(proxied), Ok(uri)) if proxied.matcher.intercept(&uri).is_some() => &proxied.client,
            _ => &self.direct,
        }
    }

    async fn exchange(&self, outgoing: reqwest::RequestBuilder, host: &Arc<str>) -> Result<Response, ClientError> {
        let mut answer = outgoing.send().await.map_err(|error| failed(host, &error))?;
        let announced = answer.content_length().and_then(|length| usize::try_from(length).ok());
        let too_large = || ClientError::TooLarge { host: Arc::clone(host), limit: Size(self.max_response as u64) };
        if announced.is_some_and(|length| length > self.max_response) {
            return Err(too_large());
        }
        let mut body = Vec::with_capacity(announced.unwrap_or_default().min(FIRST_CAPACITY));
        while let Some(piece) = answer.chunk().await.map_err(|error| failed(host, &error))? {
            if piece.len() > self.max_response - body.len() {
                return Err(too_large());
            }
            body.extend_from_slice(&piece);
        }
        let headers = std::mem::take(answer.headers_mut());
        Ok(Response { status: answer.status(), headers, body: body.into(), host: Arc::clone(host) })
    }
}

/// Memory that an announced length gets at once; an announcement alone must not cost more.
const FIRST_CAPACITY: usize = 1 << 20;

/// Resolves names with the operating system's resolver, and drops addresses that are not public.
struct Resolver {
    allow_private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (allowed, refused): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|found| allow_private || address::is_public(found.ip()));
            match (allowed.is_empty(), refused.first()) {
                (true, Some(refused)) => Err(address::Forbidden(refused.ip()).into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}
