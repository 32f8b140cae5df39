//! Notifications: each enabled webhook is told of the content that becomes available, in order, at least once.
//!
//! A webhook that fails is tried again after a minute, then two, four, and so on up to an hour, each wait shortened at
//! random by up to a half. After [`MAXIMUM_FAILURES`] failures in a row it is disabled, until a start enables it. The
//! position moves with success only, so that nothing is left out in between.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use actlog_core::Timestamp;
use actlog_http::client::Backoff;
use actlog_office::feed::Content;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Subscriptions;
use super::state::{Key, MAXIMUM_FAILURES, Webhook, WebhookStatus};
use super::webhook::Entry;
use crate::store::ContentInfo;

/// Contents that one notification tells of, at most: some 60 KiB.
const BATCH: usize = 100;
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How long nothing is done for a webhook after a failure of our own.
const TROUBLE_WAIT: Duration = Duration::from_secs(10);

impl Subscriptions {
    /// Notifies webhooks until the shutdown. A notification that is under way then is given up; it is sent again at the
    /// next start.
    pub(crate) async fn deliver(self, shutdown: CancellationToken) {
        let mut changed = self.0.changed.subscribe();
        let mut tasks = JoinSet::new();
        let mut running = HashMap::new();
        loop {
            changed.borrow_and_update();
            let served: HashSet<Key> = running.values().copied().collect();
            for key in self.with_webhook().into_iter().filter(|key| !served.contains(key)) {
                running.insert(tasks.spawn(self.clone().serve(key)).id(), key);
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                // The sender is ours.
                _ = changed.changed() => {}
                Some(ended) = tasks.join_next_with_id() => {
                    match ended {
                        Ok((id, ())) => drop(running.remove(&id)),
                        Err(error) => {
                            tracing::error!(%error, "the notification of a webhook has ended; it begins anew");
                            if let Some(key) = running.remove(&error.id()) {
                                // Stands in for it, so that it isn't at once.
                                running.insert(tasks.spawn(tokio::time::sleep(TROUBLE_WAIT)).id(), key);
                            }
                        }
                    }
                }
            }
        }
        tasks.shutdown().await;
        // What is being written goes on without its task; it is over before the next run reads.
        drop(self.0.changing.lock().await);
    }

    /// Notifies one webhook, for as long as it is enabled.
    async fn serve(self, key: Key) {
        let (mut changed, mut published) = (self.0.changed.subscribe(), self.0.store.published());
        let end = Timestamp::from_unix_milliseconds(i64::MAX);
        loop {
            changed.borrow_and_update();
            published.borrow_and_update();
            let Some(webhook) = self.enabled_webhook(&key) else { return };
            let from = webhook.position.plus_milliseconds(1);
            // Who was removed is told nothing, and may come back.
            let limit = if self.0.auth.is_registered(key.tenant, key.client) { BATCH } else { 0 };
            let Ok(page) = self.0.store.list(key.tenant, key.content_type, from, end, None, limit).await else {
                // The sink is about to begin anew.
                tokio::time::sleep(TROUBLE_WAIT).await;
                continue;
            };
            let (Some(first), Some(last)) = (page.contents.first(), page.contents.last()) else {
                let ended = tokio::select! {
                    ended = published.changed() => ended,
                    ended = changed.changed() => ended,
                };
                if ended.is_err() {
                    return;
                }
                continue;
            };
            let root = format!("{}/api/v1.0/{}/activity/feed", webhook.base, key.tenant);
            let entries: Vec<Entry<'_>> = page.contents.iter().map(|content| entry(&key, &root, content)).collect();
            let sent = self.0.clock.now();
            let outcome = self.0.webhooks.notify(&webhook.target, &entries).await;
            let succeeded = outcome.is_ok();
            let noted = self
                .edit(key, false, |subscription| {
                    let subscription = subscription.as_mut();
                    Ok(subscription
                        .and_then(|it| it.note(webhook.version, first.created, last.created, sent, succeeded)))
                })
                .await;
            let (tenant, client, content_type) = (key.tenant, key.client, key.content_type.as_str());
            match (noted, outcome) {
                // What was not stored is sent again.
                (Err(_), _) => tokio::time::sleep(TROUBLE_WAIT).await,
                (Ok(None), _) | (Ok(Some(_)), Ok(())) => {}
                (Ok(Some(failures)), Err(error)) => {
                    tracing::warn!(%tenant, %client, content_type, failures, %error, "a webhook was not notified");
                    if failures >= MAXIMUM_FAILURES {
                        tracing::error!(%tenant, %client, content_type, "a webhook is disabled: it failed too often");
                        return;
                    }
                    self.pause(&key, &webhook, wait(failures), &mut changed).await;
                }
            }
        }
    }

    /// Waits, unless the webhook becomes another one meanwhile.
    async fn pause(&self, key: &Key, webhook: &Webhook, wait: Duration, changed: &mut watch::Receiver<u64>) {
        let over = tokio::time::sleep(wait);
        tokio::pin!(over);
        let is_still = || self.enabled_webhook(key).is_some_and(|present| present.version == webhook.version);
        while is_still() {
            tokio::select! {
                () = &mut over => return,
                _ = changed.changed() => {}
            }
        }
    }

    fn enabled_webhook(&self, key: &Key) -> Option<Webhook> {
        let webhook = self.0.subscriptions().get(key)?.webhook.clone()?;
        (webhook.status(self.0.clock.now()) == WebhookStatus::Enabled).then_some(webhook)
    }

    fn with_webhook(&self) -> Vec<Key> {
        let now = self.0.clock.now();
        let is_enabled = |webhook: &Webhook| webhook.status(now) == WebhookStatus::Enabled;
        let subscriptions = self.0.subscriptions();
        let with =
            subscriptions.iter().filter(|(_, subscription)| subscription.webhook.as_ref().is_some_and(is_enabled));
        with.map(|(key, _)| *key).collect()
    }
}

/// The wait after so many failures in a row.
fn wait(failures: u32) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16));
    Backoff::new(full, LONGEST_WAIT).next()
}

fn entry<'a>(key: &Key, root: &str, content: &'a ContentInfo) -> Entry<'a> {
    Entry {
        content: Content {
            content_uri: Cow::Owned(format!("{root}/audit/{}", content.id)),
            content_id: Cow::Borrowed(&content.id),
            content_type: Cow::Borrowed(content.content_type.as_str()),
            content_created: content.created,
            content_expiration: content.expiration,
        },
        tenant_id: key.tenant,
        client_id: key.client,
    }
}
