//! What is kept of a subscription, and what a start does to it.

use std::collections::VecDeque;

use actlog_core::Timestamp;
use actlog_office::ContentType;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::webhook::{Target, Wanted};
use crate::errors::FeedError;

/// A webhook that has failed so often in a row is disabled: with the waits in between that is most of a day.
pub(super) const MAXIMUM_FAILURES: u32 = 30;
/// Attempts to notify that are remembered.
const MAXIMUM_ATTEMPTS: usize = 1000;

/// Whose subscription, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) tenant: Uuid,
    pub(super) client: Uuid,
    pub(super) content_type: ContentType,
}

impl Key {
    /// The name of its file.
    pub(super) fn file_name(&self) -> String {
        format!("{}.{}.{}.json", self.tenant, self.client, self.content_type.as_str())
    }

    /// The subscription that a file of that name is of.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".json")?.splitn(3, '.');
        let mut id = || Uuid::try_parse(parts.next()?).ok();
        let (tenant, client) = (id()?, id()?);
        Some(Self { tenant, client, content_type: ContentType::parse(parts.next()?)? })
    }
}

/// A subscription. A stopped one is not kept.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscription {
    #[serde(default)]
    pub(super) webhook: Option<Webhook>,
    /// The latest attempts to notify, the oldest first.
    #[serde(default)]
    pub(super) attempts: VecDeque<Attempt>,
    /// The number of the next attempt.
    #[serde(default)]
    next_attempt: u64,
}

/// A webhook, and how far it was notified.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhook {
    pub(super) target: Target,
    /// What URLs in notifications begin with.
    pub(super) base: String,
    /// It was notified of every content up to this one's `contentCreated`, and is not of those from before it was set.
    pub(super) position: Timestamp,
    /// Failures since the last success.
    pub(super) failures: u32,
    /// Changes with each start that sets the webhook: what an earlier one led to doesn't count any more.
    pub(super) version: Uuid,
}

/// How a webhook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WebhookStatus {
    Enabled,
    /// It failed too often.
    Disabled,
    /// Its expiration has passed.
    Expired,
}

impl WebhookStatus {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
        }
    }
}

/// One post of notifications: of the contents that were created from the first to the last, both included.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub(super) number: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) sent: Timestamp,
    pub(super) succeeded: bool,
}

impl Webhook {
    pub(super) fn status(&self, now: Timestamp) -> WebhookStatus {
        if self.target.expiration.is_some_and(|expiration| expiration <= now) {
            WebhookStatus::Expired
        } else if self.failures >= MAXIMUM_FAILURES {
            WebhookStatus::Disabled
        } else {
            WebhookStatus::Enabled
        }
    }
}

impl Subscription {
    /// Does what a start asks for; `base` is what URLs in notifications are to begin with.
    ///
    /// # Errors
    /// `AF20024` when there is nothing to change.
    pub(super) fn start(
        subscription: &mut Option<Self>,
        wanted: &Wanted,
        now: Timestamp,
        base: &str,
    ) -> Result<(), FeedError> {
        let is_new = subscription.is_none();
        let Self { webhook, .. } = subscription.get_or_insert_default();
        match wanted {
            Wanted::AsItIs if !is_new => return Err(FeedError::already_enabled()),
            Wanted::Removed if !is_new && webhook.is_none() => return Err(FeedError::already_enabled()),
            Wanted::AsItIs => {}
            Wanted::Removed => *webhook = None,
            Wanted::Set(target) => {
                let old = webhook.take();
                if let Some(old) = &old
                    && old.target == *target
                    && old.status(now) == WebhookStatus::Enabled
                {
                    return Err(FeedError::already_enabled());
                }
                *webhook = Some(Webhook {
                    target: target.clone(),
                    base: base.to_owned(),
                    // What became available while it was disabled, it is told now.
                    position: old.map_or(now.plus_milliseconds(-1), |old| old.position),
                    failures: 0,
                    version: Uuid::new_v4(),
                });
            }
        }
        Ok(())
    }

    /// Notes that the webhook of that version was notified of the contents from `first` to `last`, or was not. Says how
    /// often it has failed since its last success; none where there is another webhook, or none, by now.
    pub(super) fn note(
        &mut self,
        version: Uuid,
        first: Timestamp,
        last: Timestamp,
        sent: Timestamp,
        succeeded: bool,
    ) -> Option<u32> {
        let webhook = self.webhook.as_mut().filter(|webhook| webhook.version == version)?;
        webhook.failures = if succeeded { 0 } else { webhook.failures.saturating_add(1) };
        if succeeded {
            webhook.position = last;
        }
        if self.attempts.len() >= MAXIMUM_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(Attempt { number: self.next_attempt, first, last, sent, succeeded });
        self.next_attempt += 1;
        Some(webhook.failures)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_files_name_says_whose_it_is(tenant: u128, client: u128, place in 0..ContentType::ALL.len()) {
            let (tenant, client) = (Uuid::from_u128(tenant), Uuid::from_u128(client));
            let key = Key { tenant, client, content_type: ContentType::ALL[place] };
            prop_assert_eq!(Key::of_file(&key.file_name()), Some(key));
        }

        #[test]
        fn no_name_makes_the_parser_panic(name in "\\PC{0,80}|[a-f0-9.-]{0,90}(\\.json)?") {
            let _ = Key::of_file(&name);
        }
    }

    #[test]
    fn attempts_are_remembered_in_a_bounded_number_and_an_earlier_webhooks_not_at_all() {
        let (now, mut subscription) = (Timestamp::default(), None);
        let target = Target { address: "https://a.example".into(), auth_id: None, expiration: None };
        Subscription::start(&mut subscription, &Wanted::Set(target), now, "https://b.example").unwrap();
        let mut subscription = subscription.unwrap();
        let version = subscription.webhook.as_ref().unwrap().version;
        assert_eq!(subscription.note(Uuid::nil(), now, now, now, true), None);
        for _ in 0..MAXIMUM_ATTEMPTS + 10 {
            subscription.note(version, now, now, now, false);
        }
        assert_eq!(subscription.attempts.len(), MAXIMUM_ATTEMPTS);
        assert_eq!(subscription.attempts.back().unwrap().number, MAXIMUM_ATTEMPTS as u64 + 9);
        assert_eq!(subscription.webhook.as_ref().unwrap().status(now), WebhookStatus::Disabled);
        assert_eq!(subscription.note(version, now, now, now, true), Some(0));
    }
}
