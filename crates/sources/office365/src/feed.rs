//! One content type of one tenant: lists what became available, and fetches it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actlog_core::{Gap, Gauge, Timestamp};
use actlog_http::client::Backoff;
use actlog_office::errors::Behaviour;
use actlog_office::feed::{Content, content_time};
use bytes::Bytes;
use futures_util::future::{Fuse, FusedFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc, oneshot};
use url::Url;
use uuid::Uuid;

use crate::blob::{self, Blob};
use crate::figures::{Figures, Problems};
use crate::seen::{Key, Seen, content_key, day};
use crate::service::{Failure, Page, Service};
use crate::window::{Plan, Window};

/// Pages of one window, at most. A page names hundreds of blobs; who sends more than this goes in a circle.
const MAXIMUM_PAGES: usize = 10_000;
/// Days that a blob's day may be before or after the present one; whoever names another means something else.
const DAYS_BACK: u32 = 8;
/// How often a blob is fetched again that is no array of records.
const FETCHES: u32 = 3;
/// The pause after a first round that failed, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The longest pause that the service can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// Bytes of blobs in memory, those aside that are coming in.
pub(crate) const ROOM: usize = 64 << 20;

/// What a feed hands over, in the order in which it is to be taken.
pub(crate) enum Delivery {
    /// Records.
    Blob(Blob),
    /// What can't be had. The content is not asked for again.
    Lost { gap: Gap, content: Key, day: u32 },
    /// What was missed, and how far the feed has come thereby.
    Missed { gap: Gap, reached: Reach },
    /// The end of a window: everything before it has been handed over. How far the feed has come, if nothing is left
    /// behind.
    Listed { reached: Option<Reach>, taken: oneshot::Sender<()> },
}

/// How far a feed has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    pub(crate) tenant: Uuid,
    pub(crate) content_type: &'static str,
    pub(crate) until: Timestamp,
}

/// What the feeds share.
pub(crate) struct Shared {
    pub(crate) poll: Duration,
    pub(crate) overlap: Duration,
    pub(crate) since: Duration,
    pub(crate) concurrency: usize,
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// Blobs that may be fetched at the same time.
    pub(crate) slots: Semaphore,
    /// [`ROOM`].
    pub(crate) room: Arc<Semaphore>,
    pub(crate) figures: Figures,
    pub(crate) problems: Problems,
}

/// A feed.
pub(crate) struct Feed {
    pub(crate) service: Arc<Service>,
    pub(crate) content_type: &'static str,
    pub(crate) shared: Arc<Shared>,
    pub(crate) deliveries: mpsc::Sender<Delivery>,
    /// Until when everything is taken.
    pub(crate) reached: Option<Timestamp>,
    /// Whether it is subscribed, as far as is known.
    pub(crate) subscription: Subscribed,
}

/// What is known of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Subscribed {
    #[default]
    Unknown,
    /// It is not enabled, and that is stated; starting it has not succeeded yet.
    Missing,
    Enabled,
}

/// Why a round did not do all that it was to do.
struct Trouble {
    reason: String,
    /// How long to wait, where that is known.
    wait: Option<Duration>,
    /// The subscription may be gone.
    unsubscribed: bool,
}

impl Trouble {
    fn new(reason: String) -> Self {
        Self { reason, wait: None, unsubscribed: false }
    }

    /// Nobody takes in anything any more: the source is stopping.
    fn stopped() -> Self {
        Self::new("nothing is taken in any more".to_owned())
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        let behaviour = failure.behaviour();
        let wait = match behaviour {
            Behaviour::GiveUp(_) => Some(LONGEST_PAUSE),
            _ => failure.wait(),
        };
        Self { reason: failure.to_string(), wait, unsubscribed: behaviour == Behaviour::Subscribe }
    }
}

/// Content that is not known yet.
struct Entry {
    uri: String,
    id: String,
    created: Timestamp,
    expires: Timestamp,
    key: Key,
}

impl Feed {
    /// Goes on until it is dropped.
    pub(crate) async fn run(mut self) {
        let place = format!("{} {}", self.service.name, self.content_type);
        let lag = self.shared.figures.lag(&self.service.name, self.content_type);
        let mut backoff = Backoff::new(FIRST_PAUSE.min(self.shared.poll), LONGEST_PAUSE);
        while !self.deliveries.is_closed() {
            let outcome = self.round().await;
            let begun = self.begin().await;
            self.show_lag(&lag);
            let pause = match outcome.and(begun) {
                Ok(()) => {
                    self.shared.problems.clear(&place);
                    backoff.reset();
                    self.shared.poll
                }
                Err(trouble) => {
                    if trouble.unsubscribed {
                        self.subscription = Subscribed::Unknown;
                    }
                    let wait = trouble.wait.map_or_else(|| backoff.next(), |wait| wait.min(LONGEST_ASKED));
                    self.shared.problems.set(&place, trouble.reason);
                    wait
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn show_lag(&self, lag: &Gauge) {
        if let Some(reached) = self.reached {
            lag.set((self.service.now().unix_milliseconds() - reached.unix_milliseconds()).max(0) / 1000);
        }
    }

    /// Notes where a feed begins that has never reached anything. Should it not get anywhere for days (no permission, no
    /// sign-in), it is known since when something is missing.
    async fn begin(&mut self) -> Result<(), Trouble> {
        if self.reached.is_some() {
            return Ok(());
        }
        // By now the server's clock is known, if the server can be reached.
        let plan = Plan::new(None, self.service.now(), self.shared.since, self.shared.overlap);
        self.finish(Some(plan.begin())).await
    }

    /// Hands over how far the feed has come, and waits until everything before that is taken.
    async fn finish(&mut self, reached: Option<Timestamp>) -> Result<(), Trouble> {
        let (taken, is_taken) = oneshot::channel();
        self.hand_over(Delivery::Listed { reached: reached.map(|until| self.reach(until)), taken }).await?;
        is_taken.await.map_err(|_| Trouble::stopped())?;
        self.reached = self.reached.max(reached);
        Ok(())
    }

    /// Takes what became available since the last round.
    async fn round(&mut self) -> Result<(), Trouble> {
        if self.subscription != Subscribed::Enabled {
            self.subscribe().await?;
            self.subscription = Subscribed::Enabled;
        }
        let plan = Plan::new(self.reached, self.service.now(), self.shared.since, self.shared.overlap);
        if let Some(lost) = plan.lost {
            let what = "what became available in this time was not taken before the service stopped listing it";
            self.miss(lost, "outage", what).await?;
        }
        let mut left = None;
        for window in plan.windows() {
            let listed = self.list(window).await;
            // What is left behind is listed again in the next round. It holds up the position, not what comes after it.
            let broken = match listed {
                Ok(behind) => {
                    left = left.or(behind.map(|trouble| Trouble { wait: Some(self.shared.poll), ..trouble }));
                    None
                }
                Err(trouble) => Some(trouble),
            };
            let reached = (left.is_none() && broken.is_none()).then_some(window.to);
            self.finish(reached).await?;
            if let Some(trouble) = broken {
                return Err(trouble);
            }
        }
        left.map_or(Ok(()), Err)
    }

    /// Makes sure that content is being made available.
    async fn subscribe(&mut self) -> Result<(), Trouble> {
        let subscriptions = self.service.subscriptions().await?;
        let is_mine = |name: &str| name.eq_ignore_ascii_case(self.content_type);
        if subscriptions.iter().any(|one| is_mine(&one.content_type) && one.is_enabled()) {
            return Ok(());
        }
        if let (Some(from), Subscribed::Unknown) = (self.reached, self.subscription) {
            let what = "the subscription was not enabled; what became available meanwhile may be missing";
            let gap = self.gap(Window { from, to: self.service.now().max(from) }, "unsubscribed", what.to_owned());
            // The time is listed all the same: the service may have some of it.
            self.hand_over(Delivery::Missed { gap, reached: self.reach(from) }).await?;
        }
        self.subscription = Subscribed::Missing;
        self.service.start(self.content_type).await?;
        tracing::info!(tenant = &*self.service.name, content_type = self.content_type, "subscription started");
        Ok(())
    }

    /// States a gap, and goes on behind it.
    async fn miss(&mut self, lost: Window, reason: &str, what: &str) -> Result<(), Trouble> {
        let gap = self.gap(lost, reason, what.to_owned());
        self.hand_over(Delivery::Missed { gap, reached: self.reach(lost.to) }).await?;
        self.reached = Some(lost.to);
        Ok(())
    }

    fn gap(&self, window: Window, reason: &str, what: String) -> Gap {
        let detail = format!("tenant {}, {}: {what}", self.service.name, self.content_type);
        Gap { from: window.from, to: Some(window.to), reason: reason.to_owned(), detail: Some(detail) }
    }

    fn reach(&self, until: Timestamp) -> Reach {
        Reach { tenant: self.service.tenant, content_type: self.content_type, until }
    }

    /// Lists a window, and hands over everything in it that is not known. What had to be left behind, if anything.
    ///
    /// # Errors
    /// When it could not be listed to its end.
    async fn list(&self, window: Window) -> Result<Option<Trouble>, Trouble> {
        let mut next = Some(self.service.listing(self.content_type, window));
        let (mut pages, mut waiting) = (0, VecDeque::new());
        let mut taking = FuturesUnordered::new();
        // A page is listed while the blobs of the one before are fetched.
        let mut listing = std::pin::pin!(Fuse::terminated());
        let (mut left, mut broken) = (None, None);
        loop {
            while taking.len() < self.shared.concurrency
                && let Some(entry) = waiting.pop_front()
            {
                taking.push(self.take(entry));
            }
            if waiting.is_empty()
                && listing.is_terminated()
                && let Some(url) = next.take()
            {
                pages += 1;
                listing.set(self.entries(url, pages).fuse());
            }
            tokio::select! {
                page = &mut listing, if !listing.is_terminated() => match page {
                    Ok(page) => {
                        waiting = page.unknown.into();
                        next = page.next;
                        left = left.or(page.unreadable);
                    }
                    Err(trouble) => broken = Some(trouble),
                },
                Some(taken) = taking.next(), if !taking.is_empty() => left = left.or(taken.err()),
                else => break,
            }
        }
        broken.map_or(Ok(left), Err)
    }

    /// Reads a page of a listing, the first one being number 1.
    async fn entries(&self, url: Url, number: usize) -> Result<Entries, Trouble> {
        if number > MAXIMUM_PAGES {
            return Err(Trouble::new(format!("a listing does not end after {MAXIMUM_PAGES} pages")));
        }
        let Page { body, next } = self.service.page(url).await?;
        let (seen, tenant) = (Arc::clone(&self.shared.seen), self.service.tenant);
        let read = tokio::task::spawn_blocking(move || Entries::read(&seen, tenant, &body, next)).await;
        let entries = read.map_err(|error| Trouble::new(format!("reading a page failed: {error}")))??;
        self.shared.figures.blobs_known.inc_by(entries.known);
        Ok(entries)
    }

    /// Fetches a blob and hands it over; or says that it is lost.
    async fn take(&self, entry: Entry) -> Result<(), Trouble> {
        if entry.expires <= self.service.now() {
            return self.lose(entry, "expired", "it had expired before it was fetched").await;
        }
        let Ok(_slot) = self.shared.slots.acquire().await else { return Err(Trouble::stopped()) };
        let body = match self.fetch(&entry.uri).await {
            Ok(body) => body,
            Err(failure) => match failure.behaviour() {
                Behaviour::Expired => return self.lose(entry, "expired", "the service says that it has expired").await,
                Behaviour::DropContent => {
                    let what = format!("the service lists it, and then does not have it: {failure}");
                    return self.lose(entry, "missing", &what).await;
                }
                _ => return Err(failure.into()),
            },
        };
        let bytes = u32::try_from(body.len().clamp(1, ROOM)).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.shared.room).acquire_many_owned(bytes).await else {
            return Err(Trouble::stopped());
        };
        let blob = Blob {
            tenant: Arc::clone(&self.service.name),
            content_type: self.content_type,
            day: self.day_of(&entry),
            content_id: entry.id,
            key: entry.key,
            body,
            _room: room,
        };
        self.hand_over(Delivery::Blob(blob)).await
    }

    /// A blob's bytes. What is no array at all is asked for again: a proxy's page may have come with a good status.
    async fn fetch(&self, uri: &str) -> Result<Bytes, Failure> {
        let mut backoff = Backoff::new(FIRST_PAUSE.min(self.shared.poll), LONGEST_PAUSE);
        let mut body = self.service.blob(uri).await?;
        for _ in 1..FETCHES {
            if blob::begin(&body).is_some() {
                break;
            }
            tokio::time::sleep(backoff.next()).await;
            body = self.service.blob(uri).await?;
        }
        Ok(body)
    }

    async fn lose(&self, entry: Entry, reason: &str, what: &str) -> Result<(), Trouble> {
        let what = format!(
            "content {}, available from {} until {}: {what}; its events, which are older, may be missing",
            entry.id,
            content_time(entry.created),
            content_time(entry.expires)
        );
        let gap = self.gap(Window { from: entry.created, to: entry.created }, reason, what);
        self.hand_over(Delivery::Lost { gap, content: entry.key, day: self.day_of(&entry) }).await
    }

    fn day_of(&self, entry: &Entry) -> u32 {
        let today = day(self.service.now());
        day(entry.created).clamp(today.saturating_sub(DAYS_BACK), today.saturating_add(1))
    }

    async fn hand_over(&self, delivery: Delivery) -> Result<(), Trouble> {
        self.deliveries.send(delivery).await.map_err(|_| Trouble::stopped())
    }
}

/// A page of a listing.
struct Entries {
    unknown: Vec<Entry>,
    /// How many are known.
    known: u64,
    /// What is wrong with an entry, if one can't be read.
    unreadable: Option<Trouble>,
    next: Option<Url>,
}

impl Entries {
    fn read(seen: &Mutex<Seen>, tenant: Uuid, body: &[u8], next: Option<Url>) -> Result<Self, Trouble> {
        #[derive(Deserialize)]
        struct Listed<'a>(#[serde(borrow)] Vec<&'a RawValue>);

        let Listed(listed) = serde_json::from_slice(body)
            .map_err(|error| Trouble::new(format!("a page of the listing is not a JSON array: {error}")))?;
        let mut entries = Self { unknown: Vec::with_capacity(listed.len()), known: 0, unreadable: None, next };
        let mut in_page = HashSet::new();
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in listed {
            let content: Content<'_> = match serde_json::from_str(entry.get()) {
                Ok(content) => content,
                Err(error) => {
                    let reason = format!("an entry of the listing can't be read: {error}");
                    entries.unreadable = Some(Trouble::new(reason));
                    continue;
                }
            };
            let key = content_key(tenant, &content.content_id);
            if !in_page.insert(key) || seen.contains(&key).map_err(|error| Trouble::new(error.to_string()))? {
                entries.known += 1;
                continue;
            }
            entries.unknown.push(Entry {
                uri: content.content_uri.into_owned(),
                id: content.content_id.into_owned(),
                created: content.content_created,
                expires: content.content_expiration,
                key,
            });
        }
        Ok(entries)
    }
}
