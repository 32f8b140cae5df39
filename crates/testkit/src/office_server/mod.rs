//! A stand-in for the Office 365 Management Activity API, with Entra's token endpoints beside it.
//!
//! A real HTTP server on the loopback interface, written from the interface's reference and from what has been observed
//! of the live one: subscriptions, listings in pages (shuffled within a page), blobs that expire, the service's error
//! codes, throttling, failures at random. It holds what a [`ContentPlan`] says, made from a seed on demand, so that a
//! million records are cheap. Its clock is its own: it runs as fast as ours, and can be moved on by days. What a client
//! should not do although the service lets it pass is noted as a [violation](OfficeServer::violations).
//!
//! ```no_run
//! # async fn test() {
//! use std::time::Duration;
//! use actlog_core::{Clock, SystemClock};
//! use actlog_testkit::office_server::{ContentPlan, OfficeOptions, OfficeServer};
//!
//! let now = SystemClock.now();
//! let plan = ContentPlan::new(1, 10_000, now.plus_milliseconds(-6 * 86_400_000), now);
//! let server = OfficeServer::start(OfficeOptions::new(plan, now)).await;
//! let keys = server.tenant();                      // id and application, for a configuration
//! server.set_faults(50);                           // 5 of 100 requests fail
//! // … let actlog work on it …
//! server.advance(Duration::from_secs(86_400));
//! let expected = server.content().available();     // each Id once
//! assert_eq!(server.violations(), Vec::<String>::new());
//! # }
//! ```

mod content;
mod records;
mod requests;
mod time;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actlog_core::Timestamp;

pub use self::content::{Blob, Content, ContentPlan};
use crate::entra::Entra;
use crate::random::Random;
use crate::server::{Bytes, Request, Server, StatusCode, empty};

/// The content types that there are.
pub const CONTENT_TYPES: [&str; 5] =
    ["Audit.AzureActiveDirectory", "Audit.Exchange", "Audit.SharePoint", "Audit.General", "DLP.All"];
/// What tokens are asked for: the interface as Entra knows it, wherever it is.
pub const RESOURCE: &str = "https://manage.office.com";
/// Violations of one kind come in numbers; so many are kept.
const MAXIMUM_VIOLATIONS: usize = 100;
/// The stream of choices of failures.
const FAULTS: u64 = 30;

/// How the stand-in is to be.
#[derive(Clone, Debug)]
pub struct OfficeOptions {
    /// What it holds.
    pub plan: ContentPlan,
    /// What its clock shows when it starts.
    pub now: Timestamp,
    /// Entries of one page of a listing.
    pub page_size: usize,
    /// How long blobs can be fetched after they became available.
    pub lifetime: Duration,
    /// Whether the application has the permission that `DLP.All` needs.
    pub may_read_dlp: bool,
    /// Requests in a minute of its clock; one more is throttled. The live service allows 2,000 and more.
    pub requests_per_minute: Option<u32>,
}

impl OfficeOptions {
    /// Pages of 100, content for 7 days, all permissions, no limit of requests.
    pub fn new(plan: ContentPlan, now: Timestamp) -> Self {
        let lifetime = Duration::from_secs(7 * 86_400);
        Self { plan, now, page_size: 100, lifetime, may_read_dlp: true, requests_per_minute: None }
    }
}

/// How many requests were answered, by what they asked for. Refused ones and failures at random are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Lists of subscriptions.
    pub subscriptions: u64,
    /// Starts of subscriptions, also those that changed nothing.
    pub starts: u64,
    /// Pages of listings.
    pub pages: u64,
    /// Blobs.
    pub blobs: u64,
    /// Requests that were throttled or failed, for whatever reason.
    pub failures: u64,
}

/// The running stand-in. It ends when it is dropped.
#[derive(Debug)]
pub struct OfficeServer {
    inner: Arc<Inner>,
    server: Server,
}

#[derive(Debug)]
struct Inner {
    entra: Entra,
    content: Content,
    options: OfficeOptions,
    started: Instant,
    /// Milliseconds that the clock was moved on.
    advanced: AtomicI64,
    /// Another host: nobody may send a token there.
    elsewhere: String,
    _elsewhere: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    enabled: HashSet<&'static str>,
    /// Whether somebody has looked which subscriptions there are.
    has_listed: bool,
    /// Pages that were handed out, by their token.
    pages: HashSet<String>,
    listings: u64,
    /// Blobs that a listing named, by number.
    named: HashSet<u64>,
    /// Until when each content type was listed without a gap.
    reached: HashMap<&'static str, Timestamp>,
    /// Content ids of blobs whose bodies are cut.
    spoiled: HashSet<String>,
    is_down: bool,
    misdirected: u32,
    faults_per_mille: u64,
    faults: Random,
    /// The minute of the clock, and how many requests it had.
    minute: (i64, u32),
    answered: Answered,
    violations: Vec<String>,
}

impl OfficeServer {
    /// The tenant whose feed it is.
    pub const TENANT: &'static str = "41463f53-8812-40f4-890f-865bf6e35190";
    /// The application that is registered there.
    pub const CLIENT_ID: &'static str = "a6099727-6b7b-482c-b509-1df309acc563";
    /// Its secret.
    pub const SECRET: &'static str = "office+stand-in%secret&of the application";

    /// Starts it.
    ///
    /// # Panics
    /// When the plan can't be carried out, or the operating system gives no port.
    pub async fn start(options: OfficeOptions) -> Self {
        let faults = Random::new(options.plan.seed, FAULTS, 0);
        let state = Arc::new(Mutex::new(State {
            enabled: HashSet::new(),
            has_listed: false,
            pages: HashSet::new(),
            listings: 0,
            named: HashSet::new(),
            reached: HashMap::new(),
            spoiled: HashSet::new(),
            is_down: false,
            misdirected: 0,
            faults_per_mille: 0,
            faults,
            minute: (0, 0),
            answered: Answered::default(),
            violations: Vec::new(),
        }));
        let watching = Arc::clone(&state);
        let elsewhere = Server::start(move |request: Request<Bytes>| {
            let state = Arc::clone(&watching);
            async move {
                if request.headers().contains_key("authorization") {
                    violate(&mut lock(&state), "a token was sent to another host");
                }
                empty(StatusCode::NOT_FOUND)
            }
        })
        .await;
        let inner = Arc::new(Inner {
            entra: Entra::new(Self::TENANT, Self::CLIENT_ID, Self::SECRET),
            content: Content::new(options.plan.clone()),
            options,
            started: Instant::now(),
            advanced: AtomicI64::new(0),
            elsewhere: elsewhere.url(),
            _elsewhere: elsewhere,
            state,
        });
        let answering = Arc::clone(&inner);
        let server = Server::start(move |request| {
            let inner = Arc::clone(&answering);
            async move { requests::answer(&inner, &request) }
        })
        .await;
        Self { inner, server }
    }

    /// URL of the interface and of the token endpoints, without a slash at its end.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The token endpoints: to change the secret, to revoke tokens.
    pub fn entra(&self) -> &Entra {
        &self.inner.entra
    }

    /// Keys of a tenant in a configuration, as TOML's inline table; the secret is in the file `secret` beside it.
    pub fn tenant(&self) -> String {
        format!(
            r#"{{ id = "{}", application = {{ client_id = "{}", secret = {{ file = "secret" }}, authority = "{}" }} }}"#,
            Self::TENANT,
            Self::CLIENT_ID,
            self.url()
        )
    }

    /// What the feed holds.
    pub fn content(&self) -> &Content {
        &self.inner.content
    }

    /// What its clock shows.
    pub fn now(&self) -> Timestamp {
        self.inner.now()
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.inner.advanced.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }

    /// From now on, of 1000 requests so many are throttled or fail, in all the ways that are known.
    pub fn set_faults(&self, per_mille: u64) {
        self.state().faults_per_mille = per_mille;
    }

    /// Whether every request fails from now on.
    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// An administrator switches a subscription off.
    pub fn disable(&self, content_type: &str) {
        self.state().enabled.retain(|enabled| *enabled != content_type);
    }

    /// The blob of that id is cut in the middle from now on, or no longer.
    pub fn spoil(&self, content_id: &str, is_spoiled: bool) {
        let mut state = self.state();
        if is_spoiled {
            state.spoiled.insert(content_id.to_owned());
        } else {
            state.spoiled.remove(content_id);
        }
    }

    /// The next page of a listing names URLs of another host.
    pub fn misdirect(&self) {
        self.state().misdirected += 1;
    }

    /// How many requests were answered so far.
    pub fn answered(&self) -> Answered {
        self.state().answered
    }

    /// What clients did that they should not: the first hundred, a sentence each.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.inner.state)
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        let elapsed = self.started.elapsed().as_millis() as i64;
        self.options.now.plus_milliseconds(elapsed + self.advanced.load(Ordering::SeqCst))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn violate(state: &mut State, what: impl Into<String>) {
    if state.violations.len() < MAXIMUM_VIOLATIONS {
        state.violations.push(what.into());
    }
}
