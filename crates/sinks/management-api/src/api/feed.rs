//! The seven operations.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use actlog_http::{Head, Response, empty, json};
use actlog_office::ContentType;
use actlog_office::feed::{Content, content_time};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::query::{self, Query};
use super::route::Operation;
use super::time::{Window, parameter};
use crate::auth::Caller;
use crate::errors::FeedError;
use crate::store::{BlobError, ContentInfo};
use crate::subscriptions::WebhookRequest;

/// Most entries of a page.
const PAGE_ENTRIES: usize = 500;
/// Most bytes of a page.
const PAGE_BYTES: usize = 256_000;
/// Most bytes of an entry besides what its URL begins with, and its content id, which is there twice.
const CONTENT_BYTES: usize = 176;
/// The same of an attempt to notify.
const NOTIFICATION_BYTES: usize = 256;
/// Most bytes of a content id.
const CONTENT_ID_BYTES: usize = 104;
/// How long a blob may wait for others to be sent.
const BLOB_PATIENCE: Duration = Duration::from_secs(20);

/// One authenticated request on the feed.
pub(super) struct Exchange<'a> {
    pub(super) api: &'a Api,
    pub(super) caller: &'a Caller,
    /// What URLs of the answer begin with: `https://manage.office.com`.
    pub(super) base: &'a str,
    pub(super) head: &'a Head,
    pub(super) body: &'a [u8],
}

impl Exchange<'_> {
    /// Does what is asked; `id` is what the path has in the place of the tenant.
    pub(super) async fn answer(&self, id: &str, operation: Operation) -> Result<Response, FeedError> {
        self.check_tenant(id)?;
        let query = Query::of(self.head);
        self.api.throttle.admit(self.caller.tenant, query.publisher(), &operation)?;
        match operation {
            Operation::Start => self.start(query.content_type()?).await,
            Operation::Stop => self.stop(query.content_type()?).await,
            Operation::List => {
                self.check_some_permission()?;
                Ok(json(StatusCode::OK, &self.api.subscriptions.list(self.caller)))
            }
            Operation::Content => self.content(&query).await,
            Operation::Notifications => self.notifications(&query).await,
            Operation::Blob(content_id) => self.blob(&content_id).await,
            Operation::SensitiveTypes => {
                self.check_some_permission()?;
                query::check_language(self.head)?;
                // Sensitive information types are Microsoft Purview's; there are none here.
                Ok(json(StatusCode::OK, &[(); 0]))
            }
        }
    }

    /// The path's id is the tenant's, or the client's own, as one widespread collector has it.
    fn check_tenant(&self, id: &str) -> Result<(), FeedError> {
        let in_path = uuid::Uuid::try_parse(id).map_err(|_| FeedError::tenant_is_no_guid(id))?;
        let Caller { tenant, client, .. } = self.caller;
        if in_path != *tenant && in_path != *client {
            return Err(FeedError::other_tenant(id, tenant));
        }
        if !self.api.tenants.contains(tenant) {
            return Err(FeedError::unknown_tenant(id));
        }
        Ok(())
    }

    fn check_permission(&self, content_type: ContentType) -> Result<(), FeedError> {
        let roles = self.caller.roles;
        let has = if content_type == ContentType::Dlp { roles.read_dlp } else { roles.read };
        if has { Ok(()) } else { Err(FeedError::missing_permission(&roles.to_string())) }
    }

    fn check_some_permission(&self) -> Result<(), FeedError> {
        let roles = self.caller.roles;
        if roles.read || roles.read_dlp { Ok(()) } else { Err(FeedError::missing_permission("")) }
    }

    async fn start(&self, content_type: ContentType) -> Result<Response, FeedError> {
        self.check_permission(content_type)?;
        let webhook = webhook_of(self.body)?;
        let Api { subscriptions, throttle, .. } = self.api;
        // A start that changes nothing is never throttled: collectors send it with each of their polls.
        if subscriptions.check_enabled(self.caller, content_type).is_err() {
            throttle.admit_start(self.caller, content_type)?;
        }
        let subscription = subscriptions.start(self.caller, content_type, webhook, self.base).await?;
        throttle.note_start(self.caller, content_type);
        self.log(content_type, "a subscription was started or changed");
        Ok(json(StatusCode::OK, &subscription))
    }

    async fn stop(&self, content_type: ContentType) -> Result<Response, FeedError> {
        self.check_permission(content_type)?;
        self.api.subscriptions.stop(self.caller, content_type).await?;
        self.log(content_type, "a subscription was stopped");
        Ok(empty(StatusCode::NO_CONTENT))
    }

    fn log(&self, content_type: ContentType, what: &str) {
        let Caller { tenant, client, .. } = self.caller;
        let (content_type, from) = (content_type.as_str(), self.head.client());
        tracing::info!(%tenant, %client, content_type, %from, "{what}");
    }

    /// A page of a listing.
    async fn content(&self, query: &Query<'_>) -> Result<Response, FeedError> {
        let (content_type, Window { from, to }) = self.listed(query)?;
        let (root, after) = (self.root(), next_page(query)?);
        let limit = page_entries(&root, CONTENT_BYTES);
        let listing = self.api.store.list(self.caller.tenant, content_type, from, to, after, limit);
        let page = listing.await.map_err(|error| failed(&error))?;
        let entries: Vec<_> = page.contents.iter().map(|content| entry_of(&root, content)).collect();
        self.page("content", content_type, Window { from, to }, &entries, page.next)
    }

    /// A page of attempts to notify the client.
    async fn notifications(&self, query: &Query<'_>) -> Result<Response, FeedError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Entry<'a> {
            #[serde(flatten)]
            content: Content<'a>,
            notification_sent: String,
            notification_status: &'static str,
        }
        let (content_type, Window { from, to }) = self.listed(query)?;
        let (root, after) = (self.root(), next_page(query)?);
        let limit = page_entries(&root, NOTIFICATION_BYTES);
        let listing = self.api.subscriptions.notifications(self.caller, content_type, from, to, after, limit);
        let page = listing.await?;
        let attempts = page.notifications.iter();
        let entries: Vec<_> = attempts
            .map(|attempt| Entry {
                content: entry_of(&root, &attempt.content),
                notification_sent: content_time(attempt.sent),
                notification_status: attempt.status,
            })
            .collect();
        self.page("notifications", content_type, Window { from, to }, &entries, page.next)
    }

    /// What both listings need: an enabled subscription of a content type, and a window.
    fn listed(&self, query: &Query<'_>) -> Result<(ContentType, Window), FeedError> {
        let content_type = query.content_type()?;
        self.check_permission(content_type)?;
        self.api.subscriptions.check_enabled(self.caller, content_type)?;
        Ok((content_type, Window::of(query, self.api.clock.now(), self.api.retention)?))
    }

    /// An answer with entries, and in its header `NextPageUri` where the next ones are.
    fn page<T: Serialize>(
        &self,
        operation: &str,
        content_type: ContentType,
        window: Window,
        entries: &[T],
        next: Option<impl Display>,
    ) -> Result<Response, FeedError> {
        let mut response = json(StatusCode::OK, &entries);
        if let Some(next) = next {
            let uri = format!(
                "{}/subscriptions/{operation}?contentType={}&startTime={}&endTime={}&nextPage={next}",
                self.root(),
                content_type.as_str(),
                parameter(window.from),
                parameter(window.to),
            );
            let uri = HeaderValue::try_from(uri).map_err(|error| failed(&error))?;
            response.headers_mut().insert("NextPageUri", uri);
        }
        Ok(response)
    }

    /// What all URLs of the tenant's feed begin with.
    fn root(&self) -> String {
        format!("{}/api/v1.0/{}/activity/feed", self.base, self.caller.tenant)
    }

    async fn blob(&self, content_id: &str) -> Result<Response, FeedError> {
        self.check_some_permission()?;
        let blob = self.api.store.blob(self.caller.tenant, content_id).map_err(|error| match error {
            BlobError::Unknown => FeedError::unknown_content(content_id),
            BlobError::Expired => FeedError::expired_content(content_id),
            BlobError::Invalid => FeedError::invalid_content_id(content_id),
        })?;
        self.check_permission(blob.content_type())?;
        let waiting = tokio::time::timeout(BLOB_PATIENCE, Arc::clone(&self.api.blobs).acquire_owned());
        let Ok(Ok(place)) = waiting.await else { return Err(failed(&"too many blobs are being sent at once")) };
        let read = tokio::task::spawn_blocking(move || blob.read()).await;
        let bytes = read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let mut response = Response::new(Bytes::from_owner(Sending { bytes, _place: place }));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// What has failed is for the log; the client may try again.
fn failed(error: &dyn Display) -> FeedError {
    tracing::error!("a request could not be answered: {error}");
    FeedError::internal()
}

/// The webhook that a start's body asks for. Whatever its type is said to be, it is read as JSON: collectors say all
/// kinds of things, and most send none.
fn webhook_of(body: &[u8]) -> Result<Option<WebhookRequest>, FeedError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "given")]
        webhook: Option<WebhookRequest>,
    }
    /// A webhook that is null is one without an address, which asks for its removal.
    fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WebhookRequest>, D::Error> {
        Option::deserialize(deserializer).map(|webhook| Some(webhook.unwrap_or_default()))
    }
    let wrong = || FeedError::invalid_parameter("webhook", "object");
    match body.trim_ascii() {
        b"" => Ok(None),
        object @ [b'{', ..] => Ok(serde_json::from_slice::<Body>(object).map_err(|_| wrong())?.webhook),
        _ => Err(wrong()),
    }
}

/// Where a listing is to go on.
fn next_page<T: FromStr>(query: &Query<'_>) -> Result<Option<T>, FeedError> {
    let Some(text) = query.get("nextPage") else { return Ok(None) };
    text.parse().map(Some).map_err(|_| FeedError::invalid_next_page(text))
}

/// How many entries a page may have whose URLs begin with `root`, when one has so many bytes besides.
fn page_entries(root: &str, bytes: usize) -> usize {
    PAGE_ENTRIES.min(PAGE_BYTES / (bytes + root.len() + 2 * CONTENT_ID_BYTES))
}

/// A blob on its way to a client; its place among those is given up when the last byte is sent.
struct Sending {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Sending {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn entry_of<'a>(root: &str, content: &'a ContentInfo) -> Content<'a> {
    Content {
        content_uri: Cow::Owned(format!("{root}/audit/{}", content.id)),
        content_id: Cow::Borrowed(&content.id),
        content_type: Cow::Borrowed(content.content_type.as_str()),
        content_created: content.created,
        content_expiration: content.expiration,
    }
}
