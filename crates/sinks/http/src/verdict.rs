//! What an answer means for the records that were sent.

use std::collections::HashMap;
use std::time::Duration;

use actlog_core::Span;
use actlog_http::client::{ClientError, HeaderMap, Response, StatusCode};
use actlog_http::oauth::TokenError;
use bytes::Bytes;

use serde::Deserialize;

use crate::config::StatusTable;

/// An answer, without what it may have repeated of our credentials.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How long the receiver wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        let retry_after = response.retry_after();
        Self { status: response.status, headers: response.headers, body: response.body, retry_after }
    }
}

impl Answer {
    /// The body as JSON; none where it is larger than such answers are, or something else.
    pub(crate) fn small<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        const LARGEST: usize = 2 << 20;
        if self.body.len() > LARGEST {
            return None;
        }
        serde_json::from_slice(&self.body).ok()
    }
}

/// What the receiver did with a request's records. Places count from 0, in the order in which they were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has all of them for good.
    Delivered,
    /// It has all of them but these.
    Partly {
        /// What it will never take, and why.
        refused: Vec<(usize, String)>,
        /// What it may take later.
        again: Vec<usize>,
        /// Why, for a person; what `again` is empty for has none.
        reason: String,
    },
    /// It has none of them, and may take them later.
    Retry {
        /// Why, for a person.
        reason: String,
        /// How long it wants to be left alone.
        after: Option<Duration>,
    },
    /// It will never take this request, because of a record in it or because of its size.
    Refused {
        /// Why, for a person.
        reason: String,
        /// The record that it complains of, where it says so.
        suspect: Option<usize>,
        /// Whether it is known to be because of a record. A bare 400 may also mean that the receiver takes nothing of
        /// what is sent to this address in this form.
        is_certain: bool,
    },
    /// Nothing can be delivered until somebody changes something.
    Fatal(String),
}

impl Verdict {
    /// Tried again when the back-off says.
    pub(crate) fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// Refused, nobody knows because of which record, or whether it is because of one.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into(), suspect: None, is_certain: false }
    }
}

impl From<ClientError> for Verdict {
    fn from(error: ClientError) -> Self {
        match error {
            // What the configuration has caused, and what the same request would meet again.
            ClientError::Url { .. }
            | ClientError::Request { .. }
            | ClientError::Insecure { .. }
            | ClientError::Forbidden { .. } => Self::Fatal(error.to_string()),
            _ => Self::retry(error.to_string()),
        }
    }
}

impl From<TokenError> for Verdict {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Client(error) => match Self::from(error) {
                Self::Fatal(reason) => Self::Fatal(format!("no token: {reason}")),
                Self::Retry { reason, after } => Self::Retry { reason: format!("no token: {reason}"), after },
                other => other,
            },
            TokenError::Unavailable { retry_after, .. } => {
                Self::Retry { reason: error.to_string(), after: retry_after }
            }
            error if error.is_permanent() => Self::Fatal(error.to_string()),
            error => Self::retry(error.to_string()),
        }
    }
}

/// What a status means that no rule of a format speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Retry,
    Reject,
    Fatal,
}

/// What is done about statuses that are no success.
#[derive(Debug, Default)]
pub(crate) struct Statuses(HashMap<u16, Class>);

impl Statuses {
    pub(crate) fn new(table: &StatusTable) -> Self {
        let class = |statuses: &[u16], class| statuses.iter().map(move |status| (*status, class)).collect::<Vec<_>>();
        let mut all = class(&table.retry, Class::Retry);
        all.extend(class(&table.reject, Class::Reject));
        all.extend(class(&table.fatal, Class::Fatal));
        Self(all.into_iter().collect())
    }

    /// What the configuration says about the answer; none where it says nothing.
    pub(crate) fn configured(&self, answer: &Answer) -> Option<Verdict> {
        self.0.get(&answer.status.as_u16()).map(|class| match verdict(*class, answer) {
            Verdict::Refused { reason, suspect, .. } => Verdict::Refused { reason, suspect, is_certain: true },
            verdict => verdict,
        })
    }
}

/// What a status means in HTTP (RFC 9110, RFC 6585): what passes, what lies in the request's content, and what lies in
/// its address or credentials and would stop every record.
pub(crate) fn standard(answer: &Answer) -> Verdict {
    let class = match answer.status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => Class::Retry,
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Class::Fatal,
        status if status.is_server_error() => Class::Retry,
        StatusCode::UNAUTHORIZED
        | StatusCode::PAYMENT_REQUIRED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::NOT_ACCEPTABLE
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::GONE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::MISDIRECTED_REQUEST
        | StatusCode::UPGRADE_REQUIRED => Class::Fatal,
        status if status.is_client_error() => Class::Reject,
        _ => Class::Fatal,
    };
    verdict(class, answer)
}

fn verdict(class: Class, answer: &Answer) -> Verdict {
    let reason = reason(answer);
    match class {
        Class::Retry => Verdict::Retry { reason, after: answer.retry_after },
        Class::Reject => Verdict::refused(reason),
        Class::Fatal => Verdict::Fatal(reason),
    }
}

/// An answer's status, and what to do about the common ones.
pub(crate) fn reason(answer: &Answer) -> String {
    let status = answer.status.as_u16();
    let advice = match status {
        300..=399 => "; redirects are not followed, so configure the address that is meant",
        401 => "; check auth and headers",
        403 => "; check what these credentials are allowed to do",
        404 | 405 | 410 => "; check url",
        407 => "; the proxy wants credentials: set HTTPS_PROXY to a URL with user name and password",
        413 => "; the request is larger than the receiver takes",
        415 => "; the receiver does not take this format, or this compression",
        _ => "",
    };
    match answer.retry_after {
        Some(after) if status == 429 || status == 503 => {
            format!("the receiver answers with status {status}, and asks to be left alone for {}", Span(after))
        }
        _ => format!("the receiver answers with status {status}{advice}"),
    }
}
