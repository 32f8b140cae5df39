//! One webhook: what a client asks for, and how it is called.

use std::fmt;
use std::sync::Arc;

use actlog_core::Timestamp;
use actlog_http::client::{Client, ClientError, Method, Request, StatusCode};
use actlog_office::feed::Content;
use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use url::Url;
use uuid::Uuid;

use crate::errors::FeedError;

/// Characters of an address and of an authId, at most.
const LONGEST: usize = 2048;
/// Webhooks that are called at once.
const CALLS_AT_ONCE: usize = 64;

/// The webhook that a start asks for. Without an address (null or empty) it asks for the webhook's removal; a start
/// without a webhook at all leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookRequest {
    /// Where notifications are posted to.
    #[serde(default)]
    pub(crate) address: Option<String>,
    /// What they carry in `Webhook-AuthID`.
    #[serde(default)]
    pub(crate) auth_id: Option<String>,
    /// Until when they are sent, as the client writes it; null or empty for ever.
    #[serde(default)]
    pub(crate) expiration: Option<String>,
}

/// What a start changes about the webhook.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing.
    AsItIs,
    Removed,
    Set(Target),
}

/// Where notifications go. The address and the authId may hold what the webhook knows its caller by: no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) address: String,
    pub(super) auth_id: Option<String>,
    pub(super) expiration: Option<Timestamp>,
}

impl Wanted {
    /// Reads what a start asks for.
    ///
    /// # Errors
    /// `AF20002`, `AF20003`, and `AF20021` where the address isn't `https`.
    pub(super) fn of(request: Option<WebhookRequest>, now: Timestamp) -> Result<Self, FeedError> {
        let Some(WebhookRequest { address, auth_id, expiration }) = request else { return Ok(Self::AsItIs) };
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let Some(address) = given(address) else { return Ok(Self::Removed) };
        let url = Url::parse(&address).ok().filter(|_| address.len() <= LONGEST);
        let url = url.ok_or_else(|| FeedError::invalid_parameter("webhook.address", "url"))?;
        if url.scheme() != "https" {
            return Err(FeedError::webhook_not_validated(&address, "The address must begin with HTTPS."));
        }
        let auth_id = given(auth_id);
        let is_header = |text: &String| text.len() <= LONGEST && HeaderValue::from_str(text).is_ok();
        if auth_id.as_ref().is_some_and(|text| !is_header(text)) {
            return Err(FeedError::invalid_parameter("webhook.authId", "string"));
        }
        let expiration = match given(expiration) {
            None => None,
            Some(text) => {
                // Without a zone it is UTC.
                let time = Timestamp::parse(&text).or_else(|_| Timestamp::parse(&format!("{text}Z")));
                let time = time.map_err(|_| FeedError::invalid_parameter("webhook.expiration", "datetime"))?;
                if time <= now {
                    return Err(FeedError::expiration_in_the_past(&text));
                }
                Some(time)
            }
        };
        Ok(Self::Set(Target { address, auth_id, expiration }))
    }
}

/// Calls webhooks.
#[derive(Clone)]
pub(super) struct Caller {
    client: Client,
    calls: Arc<Semaphore>,
}

/// Why a call counts as failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// There was an answer, and another one than 200.
    #[error("it answered with {0}")]
    Status(StatusCode),
    /// There was none, or one that is too large.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Caller {
    pub(super) fn new(client: Client) -> Self {
        Self { client, calls: Arc::new(Semaphore::new(CALLS_AT_ONCE)) }
    }

    /// Asks the webhook whether it is one: it has to answer a code that it is sent with 200.
    ///
    /// # Errors
    /// `AF20021`. Why exactly is in the log; to the client it would say too much of the network here.
    pub(super) async fn validate(&self, target: &Target) -> Result<(), FeedError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            validation_code: &'a str,
        }
        let code = Uuid::new_v4().simple().to_string();
        let request = Request::new(Method::POST, &target.address)
            .json(&Body { validation_code: &code })
            .header("content-type", "application/json; charset=utf-8")
            .header("Webhook-ValidationCode", &code);
        self.call(request, target).await.map_err(|error| {
            tracing::warn!(%error, "a webhook is refused: it could not be validated");
            FeedError::webhook_not_validated(&target.address, "The endpoint did not return HTTP 200.")
        })
    }

    /// Tells the webhook of contents.
    ///
    /// # Errors
    /// When it does not answer with 200.
    pub(super) async fn notify(&self, target: &Target, notifications: &[Entry<'_>]) -> Result<(), CallError> {
        let request = Request::new(Method::POST, &target.address)
            .json(notifications)
            .header("content-type", "application/json; utf-8");
        self.call(request, target).await
    }

    async fn call(&self, request: Request, target: &Target) -> Result<(), CallError> {
        let request = match &target.auth_id {
            Some(id) => request.header("Webhook-AuthID", id),
            None => request,
        };
        // The semaphore is never closed.
        let _turn = self.calls.acquire().await;
        let answer = self.client.send(request).await?;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(CallError::Status(answer.status)) }
    }
}

/// A content, as a notification tells of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry<'a> {
    #[serde(flatten)]
    pub(super) content: Content<'a>,
    pub(super) tenant_id: Uuid,
    pub(super) client_id: Uuid,
}
