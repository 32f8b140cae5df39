//! One tenant's interface: its requests, paced, signed in, retried, and judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use actlog_core::{Clock, Counter, Timestamp};
use actlog_http::client::{Backoff, Client, ClientError, Method, Request, Response};
use actlog_http::oauth::{TokenError, TokenSource};
use actlog_office::errors::{Behaviour, ServiceError};
use actlog_office::feed::{Subscription, parameter_time};
use bytes::Bytes;
use url::Url;
use uuid::Uuid;

use crate::figures::Figures;
use crate::turns::Turns;
use crate::window::Window;

/// How often one thing is asked for, one time after the other.
const ATTEMPTS: u32 = 5;
/// The pause after the first failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Who is to wait longer does not stand in the way of others meanwhile: the failure is handed back.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The name that content can be attributed to a collector by.
const PUBLISHER: &str = "PublisherIdentifier";

/// One tenant's interface.
pub(crate) struct Service {
    /// The tenant's configured name.
    pub(crate) name: Arc<str>,
    pub(crate) tenant: Uuid,
    client: Client,
    tokens: TokenSource,
    /// `https://manage.office.com/api/v1.0/{tenant}/activity/feed/`
    root: Url,
    publisher: String,
    turns: Turns,
    clock: Arc<dyn Clock>,
    /// Milliseconds that the server's clock is ahead of ours.
    ahead: AtomicI64,
    outcomes: Outcomes,
}

/// Counters of requests.
struct Outcomes {
    answered: Counter,
    throttled: Counter,
    unauthorized: Counter,
    refused: Counter,
    failed: Counter,
    unanswered: Counter,
}

/// Why something could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{error}")]
    Service { error: ServiceError, retry_after: Option<Duration> },
    #[error("the service names a URL of another host than its own ({0}); no token is sent there")]
    Foreign(String),
}

impl Failure {
    /// What to do about it.
    pub(crate) fn behaviour(&self) -> Behaviour {
        const CONFIGURATION: &str = "check the source's configuration";
        match self {
            Self::Service { error, .. } => error.behaviour,
            Self::Token(error) if error.is_permanent() => Behaviour::GiveUp(CONFIGURATION),
            Self::Token(_) => Behaviour::Retry,
            Self::Client(ClientError::Connect { .. } | ClientError::Timeout { .. } | ClientError::Protocol { .. }) => {
                Behaviour::Retry
            }
            Self::Client(_) | Self::Foreign(_) => Behaviour::GiveUp(CONFIGURATION),
        }
    }

    /// How long the other side wants to be left alone.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Service { error, retry_after } => retry_after.or_else(|| error.wait()),
            Self::Token(TokenError::Unavailable { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }

    /// Whether it may be different the next time, even though the status says that there is nothing: only a code of the
    /// service's own says so for sure.
    fn is_doubtful(&self) -> bool {
        matches!(self, Self::Service { error, .. }
            if error.behaviour == Behaviour::DropContent && error.code.is_none())
    }
}

/// A page of a listing.
pub(crate) struct Page {
    pub(crate) body: Bytes,
    pub(crate) next: Option<Url>,
}

/// What a [`Service`] is made from.
pub(crate) struct Access {
    pub(crate) name: Arc<str>,
    pub(crate) tenant: Uuid,
    pub(crate) client: Client,
    pub(crate) tokens: TokenSource,
    pub(crate) base: Url,
    pub(crate) publisher: Uuid,
    pub(crate) requests_per_minute: u32,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Service {
    pub(crate) fn new(access: Access, figures: &Figures) -> Self {
        let Access { name, tenant, client, tokens, base, publisher, requests_per_minute, clock } = access;
        let mut root = base;
        root.set_path(&format!("/api/v1.0/{tenant}/activity/feed/"));
        let outcome = |outcome| figures.requests(&name, outcome);
        Self {
            outcomes: Outcomes {
                answered: outcome("answered"),
                throttled: outcome("throttled"),
                unauthorized: outcome("unauthorized"),
                refused: outcome("refused"),
                failed: outcome("failed"),
                unanswered: outcome("unanswered"),
            },
            turns: Turns::new(requests_per_minute, figures.waits(&name)),
            publisher: publisher.to_string(),
            ahead: AtomicI64::new(0),
            name,
            tenant,
            client,
            tokens,
            root,
            clock,
        }
    }

    /// The time by the server's clock, as it was last seen; before the first answer, by ours.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().plus_milliseconds(self.ahead.load(Ordering::Relaxed))
    }

    /// What is subscribed to.
    pub(crate) async fn subscriptions(&self) -> Result<Vec<Subscription>, Failure> {
        let answer = self.ask(Method::GET, self.operation("subscriptions/list", &[])).await?;
        Ok(answer.json()?)
    }

    /// Starts a subscription, or leaves one that is started as it is.
    pub(crate) async fn start(&self, content_type: &str) -> Result<(), Failure> {
        let url = self.operation("subscriptions/start", &[("contentType", content_type)]);
        match self.ask(Method::POST, url).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.behaviour() == Behaviour::Done => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// The URL of a listing's first page.
    pub(crate) fn listing(&self, content_type: &str, window: Window) -> Url {
        let (from, to) = (parameter_time(window.from), parameter_time(window.to));
        let parameters = [("contentType", content_type), ("startTime", &from), ("endTime", &to)];
        self.operation("subscriptions/content", &parameters)
    }

    /// A page of a listing.
    pub(crate) async fn page(&self, url: Url) -> Result<Page, Failure> {
        let answer = self.ask(Method::GET, url).await?;
        let next = match answer.headers.get("NextPageUri").map(|value| value.to_str()) {
            None => None,
            Some(Ok(text)) => Some(self.own(text)?),
            Some(Err(_)) => return Err(Failure::Foreign("its name is not readable".to_owned())),
        };
        Ok(Page { body: answer.body, next })
    }

    /// The content at a URL that a listing names.
    pub(crate) async fn blob(&self, url: &str) -> Result<Bytes, Failure> {
        Ok(self.ask(Method::GET, self.own(url)?).await?.body)
    }

    fn operation(&self, path: &str, parameters: &[(&str, &str)]) -> Url {
        let mut url = self.root.clone();
        url.set_path(&format!("{}{path}", self.root.path()));
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        self.with_publisher(url)
    }

    /// A URL that the service names, if it is the service's own.
    fn own(&self, text: &str) -> Result<Url, Failure> {
        let url = Url::parse(text).map_err(|error| Failure::Foreign(error.to_string()))?;
        if url.origin() != self.root.origin() || !url.username().is_empty() || url.password().is_some() {
            return Err(Failure::Foreign(url.host_str().unwrap_or("none").to_owned()));
        }
        Ok(self.with_publisher(url))
    }

    fn with_publisher(&self, mut url: Url) -> Url {
        if !url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case(PUBLISHER)) {
            url.query_pairs_mut().append_pair(PUBLISHER, &self.publisher);
        }
        url
    }

    /// Asks until there is an answer, or it makes no sense to ask again at once.
    async fn ask(&self, method: Method, url: Url) -> Result<Response, Failure> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut is_renewed = false;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let failure = match self.ask_once(method.clone(), &url).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = match failure.behaviour() {
                Behaviour::RenewToken if !is_renewed => Duration::ZERO,
                Behaviour::SlowDown | Behaviour::Retry => failure.wait().unwrap_or_else(|| backoff.next()),
                _ if failure.is_doubtful() => backoff.next(),
                _ => return Err(failure),
            };
            if attempts == ATTEMPTS || wait > LONGEST_WAIT {
                return Err(failure);
            }
            match failure.behaviour() {
                Behaviour::SlowDown => self.turns.pause(wait),
                Behaviour::RenewToken => is_renewed = true,
                _ => tokio::time::sleep(wait).await,
            }
        }
    }

    async fn ask_once(&self, method: Method, url: &Url) -> Result<Response, Failure> {
        self.turns.next().await;
        let token = self.tokens.token().await?;
        let request = Request::new(method, url).header("accept", "application/json").bearer(&token);
        let answer = self.client.send(request).await.inspect_err(|_| {
            self.outcomes.unanswered.inc();
        })?;
        self.note_time(&answer);
        if answer.status.is_success() {
            self.outcomes.answered.inc();
            return Ok(answer);
        }
        let error = ServiceError::from_answer(answer.status.as_u16(), &answer.body);
        let outcome = match error.behaviour {
            Behaviour::RenewToken => {
                self.tokens.forget(&token);
                &self.outcomes.unauthorized
            }
            Behaviour::SlowDown => &self.outcomes.throttled,
            Behaviour::Retry => &self.outcomes.failed,
            _ => &self.outcomes.refused,
        };
        outcome.inc();
        Err(Failure::Service { error, retry_after: answer.retry_after() })
    }

    /// Windows are judged by the server's clock, so that is the one to go by.
    fn note_time(&self, answer: &Response) {
        let date = answer.headers.get("date").and_then(|value| value.to_str().ok());
        let date = date.and_then(|text| chrono::DateTime::parse_from_rfc2822(text).ok());
        if let Some(date) = date {
            let ahead = date.timestamp_millis() - self.clock.now().unix_milliseconds();
            self.ahead.store(ahead, Ordering::Relaxed);
        }
    }
}
