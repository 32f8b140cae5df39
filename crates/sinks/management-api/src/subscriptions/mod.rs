//! What clients have subscribed to, and the webhooks that tell them of new content.
//!
//! A subscription is a client's, for one tenant and content type. Each has a file of its own under
//! `sinks/NAME/subscriptions` in the data folder, which is replaced whole with each change.
//!
//! Invariants:
//! - What a start or stop was answered with is on disk.
//! - A webhook is told of every content that became available since it was set, in order, at least once, for as long as
//!   the content is kept: across restarts, failures, and while it was disabled.
//! - A webhook that hangs delays nobody but itself.

mod delivery;
mod state;
mod webhook;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actlog_core::{BuildContext, BuildError, Clock, Size, Storage, Timestamp};
use actlog_http::client::{Client, ClientConfig};
use actlog_office::ContentType;
use serde::Serialize;
use tokio::sync::watch;

pub(crate) use webhook::WebhookRequest;

use crate::auth::{Auth, Caller};
use crate::config::Config;
use crate::errors::FeedError;
use crate::store::{ContentInfo, Store};
use state::{Attempt, Key, Subscription};
use webhook::Wanted;

/// Bytes of a subscription's file, at most. With all its attempts it has some 150,000.
const MAXIMUM_FILE: u64 = 1 << 20;

/// Largest answer of a webhook that is taken, whatever the configuration allows: only its status is looked at.
const LARGEST_ANSWER: Size = Size(64 << 10);

/// A subscription as the interface shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscriptionView {
    content_type: &'static str,
    status: &'static str,
    webhook: Option<WebhookView>,
}

/// Its webhook.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookView {
    status: &'static str,
    address: String,
    auth_id: Option<String>,
    expiration: Option<Timestamp>,
}

/// An attempt to notify a client of a content.
#[derive(Clone, Debug)]
pub(crate) struct Notification {
    /// The content.
    pub(crate) content: ContentInfo,
    /// When it was sent: `notificationSent`.
    pub(crate) sent: Timestamp,
    /// `notificationStatus`: `success` or `failed`.
    pub(crate) status: &'static str,
}

/// A page of attempts.
#[derive(Clone, Debug)]
pub(crate) struct NotificationPage {
    /// In the order of the attempts.
    pub(crate) notifications: Vec<Notification>,
    /// Where the next page begins; none behind the last one.
    pub(crate) next: Option<NotificationPlace>,
}

/// A place in a listing of attempts: behind a content of an attempt. Its text is for `nextPage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotificationPlace {
    attempt: u64,
    created: Timestamp,
}

impl fmt::Display for NotificationPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.attempt, self.created.unix_milliseconds())
    }
}

/// A text that is no place in a listing of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidPlace;

impl FromStr for NotificationPlace {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let (attempt, created) = text.split_once('.').ok_or(InvalidPlace)?;
        let created = created.parse().map_err(|_| InvalidPlace)?;
        let created = Timestamp::from_unix_milliseconds(created);
        Ok(Self { attempt: attempt.parse().map_err(|_| InvalidPlace)?, created })
    }
}

/// Every client's subscriptions. Clones share them.
#[derive(Clone)]
pub(crate) struct Subscriptions(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    store: Store,
    auth: Auth,
    webhooks: webhook::Caller,
    subscriptions: Mutex<BTreeMap<Key, Subscription>>,
    /// Held by whoever changes one, until that is on disk.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// Counts what starts and stops have changed.
    changed: watch::Sender<u64>,
}

impl fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriptions").field("folder", &self.0.folder).finish_non_exhaustive()
    }
}

impl Inner {
    fn subscriptions(&self) -> MutexGuard<'_, BTreeMap<Key, Subscription>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a subscription, or removes what is stored of it. Blocks.
    fn store(&self, key: &Key, subscription: Option<&Subscription>) -> io::Result<()> {
        let path = self.folder.join(key.file_name());
        match subscription {
            Some(subscription) => self.storage.replace(&path, &serde_json::to_vec(subscription)?),
            None => match self.storage.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => self.storage.sync_directory(&self.folder),
            },
        }
    }
}

impl Subscriptions {
    /// Reads what is stored. A file that can't be used is reported and passed over: its client finds no subscription, and
    /// starts it again. Blocks.
    ///
    /// # Errors
    /// When the folder can't be used, or the configuration of webhooks.
    pub(crate) fn open(cx: &BuildContext, config: &Config, store: Store, auth: Auth) -> Result<Self, BuildError> {
        let folder = cx.data_dir.join("sinks").join(&*cx.name).join("subscriptions");
        let failed = |error| BuildError::File { path: folder.display().to_string(), error };
        let max_response = config.webhooks.max_response.min(LARGEST_ANSWER);
        let calls = ClientConfig { max_response, ..config.webhooks.clone() };
        let client = Client::new(&calls, &cx.config_dir).map_err(|error| error.within("webhooks"))?;
        cx.storage.create_directories(&folder).map_err(failed)?;
        let mut subscriptions = BTreeMap::new();
        for file in cx.storage.list(&folder).map_err(failed)? {
            let name = file.path.file_name().and_then(|name| name.to_str());
            let Some(key) = name.and_then(Key::of_file) else { continue };
            let read = cx.storage.read(&file.path, MAXIMUM_FILE);
            match read.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
                Ok(subscription) => drop(subscriptions.insert(key, subscription)),
                Err(error) => {
                    let path = file.path.display();
                    tracing::error!(%path, %error, "a subscription is lost: its file can't be read");
                }
            }
        }
        Ok(Self(Arc::new(Inner {
            folder,
            storage: Arc::clone(&cx.storage),
            clock: Arc::clone(&cx.clock),
            store,
            auth,
            webhooks: webhook::Caller::new(client),
            subscriptions: Mutex::new(subscriptions),
            changing: Arc::default(),
            changed: watch::Sender::default(),
        })))
    }

    /// The caller's subscriptions.
    pub(crate) fn list(&self, caller: &Caller) -> Vec<SubscriptionView> {
        let now = self.0.clock.now();
        let subscriptions = self.0.subscriptions();
        let of_caller = ContentType::ALL.into_iter().filter_map(|content_type| {
            let subscription = subscriptions.get(&key(caller, content_type))?;
            Some(view(content_type, subscription, now))
        });
        of_caller.collect()
    }

    /// Starts a subscription, or changes its webhook, which is validated first. `base` is what URLs in notifications are
    /// to begin with: `https://manage.office.com`.
    ///
    /// # Errors
    /// `AF20024` when there is nothing to change; `AF20002`, `AF20003`, `AF20021` for webhooks that can't be used, and
    /// then nothing is changed.
    pub(crate) async fn start(
        &self,
        caller: &Caller,
        content_type: ContentType,
        webhook: Option<WebhookRequest>,
        base: &str,
    ) -> Result<SubscriptionView, FeedError> {
        let (key, now) = (key(caller, content_type), self.0.clock.now());
        let wanted = Wanted::of(webhook, now)?;
        // Whether there is anything to do is known before the webhook is asked.
        Subscription::start(&mut self.get(&key), &wanted, now, base)?;
        if let Wanted::Set(target) = &wanted {
            self.0.webhooks.validate(target).await?;
        }
        let started = self.edit(key, true, |subscription| {
            Subscription::start(subscription, &wanted, now, base)?;
            Ok(subscription.as_ref().map(|subscription| view(content_type, subscription, now)))
        });
        started.await?.ok_or_else(FeedError::internal)
    }

    /// Stops a subscription. What becomes available until it is started again is not notified.
    ///
    /// # Errors
    /// `AF20022` when there is none.
    pub(crate) async fn stop(&self, caller: &Caller, content_type: ContentType) -> Result<(), FeedError> {
        let stopped = self.edit(key(caller, content_type), true, |subscription| {
            subscription.take().map(drop).ok_or_else(FeedError::no_subscription)
        });
        stopped.await
    }

    /// Whether the caller has a subscription.
    ///
    /// # Errors
    /// `AF20022` when it hasn't.
    pub(crate) fn check_enabled(&self, caller: &Caller, content_type: ContentType) -> Result<(), FeedError> {
        let is_there = self.0.subscriptions().contains_key(&key(caller, content_type));
        if is_there { Ok(()) } else { Err(FeedError::no_subscription()) }
    }

    /// Attempts to notify the caller of contents with `from <= contentCreated < to`: those behind `after`, at most
    /// `limit`. The last 1,000 posts are remembered, each with up to 100 contents.
    ///
    /// # Errors
    /// `AF50000` when the contents can't be listed.
    pub(crate) async fn notifications(
        &self,
        caller: &Caller,
        content_type: ContentType,
        from: Timestamp,
        to: Timestamp,
        after: Option<NotificationPlace>,
        limit: usize,
    ) -> Result<NotificationPage, FeedError> {
        let attempts = self.get(&key(caller, content_type)).map(|subscription| subscription.attempts);
        let mut notifications = Vec::new();
        let mut next = None;
        for Attempt { number, first, last, sent, succeeded } in attempts.into_iter().flatten() {
            let from = match after {
                Some(place) if number < place.attempt => continue,
                Some(place) if number == place.attempt => place.created.plus_milliseconds(1).max(first),
                _ => first,
            }
            .max(from);
            let to = last.plus_milliseconds(1).min(to);
            if from >= to {
                continue;
            }
            let room = limit - notifications.len();
            if room == 0 {
                break;
            }
            let page = self.0.store.list(caller.tenant, content_type, from, to, None, room).await;
            let page = page.map_err(|_| FeedError::internal())?;
            let status = if succeeded { "success" } else { "failed" };
            for content in page.contents {
                next = Some(NotificationPlace { attempt: number, created: content.created });
                notifications.push(Notification { content, sent, status });
            }
        }
        // A full page may be the last one; then the next one is empty.
        let next = next.filter(|_| notifications.len() >= limit);
        Ok(NotificationPage { notifications, next })
    }

    fn get(&self, key: &Key) -> Option<Subscription> {
        self.0.subscriptions().get(key).cloned()
    }

    /// Changes a subscription: on disk first, then in memory. `tell` says whether those who serve webhooks are to look.
    ///
    /// # Errors
    /// What `edit` says, and `AF50000` when it can't be stored; nothing is changed then.
    async fn edit<T>(
        &self,
        key: Key,
        tell: bool,
        edit: impl FnOnce(&mut Option<Subscription>) -> Result<T, FeedError>,
    ) -> Result<T, FeedError> {
        let changing = Arc::clone(&self.0.changing).lock_owned().await;
        let mut subscription = self.get(&key);
        let outcome = edit(&mut subscription)?;
        let inner = Arc::clone(&self.0);
        // It goes on to its end when the caller is gone meanwhile.
        let stored = tokio::task::spawn_blocking(move || {
            let _changing = changing;
            inner.store(&key, subscription.as_ref())?;
            match subscription {
                Some(subscription) => drop(inner.subscriptions().insert(key, subscription)),
                None => drop(inner.subscriptions().remove(&key)),
            }
            if tell {
                inner.changed.send_modify(|count| *count += 1);
            }
            io::Result::Ok(())
        });
        let failed = |error: &dyn fmt::Display| {
            tracing::error!(%error, "a subscription could not be stored");
            FeedError::internal()
        };
        stored.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        Ok(outcome)
    }
}

fn key(caller: &Caller, content_type: ContentType) -> Key {
    Key { tenant: caller.tenant, client: caller.client, content_type }
}

fn view(content_type: ContentType, subscription: &Subscription, now: Timestamp) -> SubscriptionView {
    let webhook = subscription.webhook.as_ref().map(|webhook| WebhookView {
        status: webhook.status(now).as_str(),
        address: webhook.target.address.clone(),
        auth_id: webhook.target.auth_id.clone(),
        expiration: webhook.target.expiration,
    });
    SubscriptionView { content_type: content_type.as_str(), status: "enabled", webhook }
}
