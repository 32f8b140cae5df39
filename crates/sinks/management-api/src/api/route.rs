//! What a request asks for, by its host, method and path.
//!
//! Paths are read as liberally as the service reads them: letters in any case, doubled slashes, `v1` for `v1.0`, encoded
//! characters.

use actlog_http::{Head, Response};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::host::Side;
use crate::auth::Endpoint;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// An operation on the feed; `id` is what the path has in the place of the tenant.
    Feed { id: String, operation: Operation },
    /// What nobody needs a token for.
    Public(Public),
}

/// What nobody needs a token for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Public {
    /// A token.
    Token { tenant: String, endpoint: Endpoint },
    /// What an authority can do and where: version 1 or 2 of the endpoints.
    OpenIdConfiguration { tenant: String, endpoint: Endpoint },
    /// The public keys of tokens.
    Keys,
    /// Which hosts are the authority's.
    Instances,
    /// This interface's description.
    OpenApi,
}

/// An operation on the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Start,
    Stop,
    List,
    Content,
    Notifications,
    /// By contentId, decoded.
    Blob(String),
    SensitiveTypes,
}

impl Operation {
    /// What figures call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::List => "list",
            Self::Content => "content",
            Self::Notifications => "notifications",
            Self::Blob(_) => "audit",
            Self::SensitiveTypes => "dlpSensitiveTypes",
        }
    }

    /// As the service's errors call it.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Start => "StartSubscription",
            Self::Stop => "StopSubscription",
            Self::List => "ListSubscriptions",
            Self::Content => "ListContent",
            Self::Notifications => "ListNotifications",
            Self::Blob(_) => "GetBlob",
            Self::SensitiveTypes => "GetDlpSensitiveTypes",
        }
    }
}

impl Public {
    /// What figures call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::OpenIdConfiguration { .. } | Self::Instances => "discovery",
            Self::Keys => "keys",
            Self::OpenApi => "openapi",
        }
    }
}

impl Route {
    /// Finds what is asked for.
    ///
    /// # Errors
    /// 404 where there is nothing, 405 where another method would do.
    pub(super) fn of(head: &Head, side: Side) -> Result<Self, Box<Response>> {
        let decoded = |segment| percent_decode_str(segment).decode_utf8_lossy().into_owned();
        let segments: Vec<String> = head.path().split('/').filter(|segment| !segment.is_empty()).map(decoded).collect();
        let names: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = match side {
            Side::Login => Self::login(&segments, &names),
            Side::Feed => Self::feed(&segments, &names),
            Side::Both => Self::login(&segments, &names).or_else(|| Self::feed(&segments, &names)),
        };
        let open_api = || (names == ["openapi.json"]).then_some((Method::GET, Self::Public(Public::OpenApi)));
        let Some((method, route)) = found.or_else(open_api) else {
            let message = "No HTTP resource was found that matches the request URI.";
            return Err(refusal(StatusCode::NOT_FOUND, message).into());
        };
        if *head.method() == method {
            return Ok(route);
        }
        let message = "The requested resource does not support this HTTP method.";
        let mut refusal = refusal(StatusCode::METHOD_NOT_ALLOWED, message);
        let allowed = if method == Method::GET { "GET" } else { "POST" };
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        Err(refusal.into())
    }

    fn feed(segments: &[String], names: &[&str]) -> Option<(Method, Self)> {
        let ["api", "v1.0" | "v1", _, "activity", "feed", rest @ ..] = names else { return None };
        let id = segments.get(2)?.clone();
        let (method, operation) = match rest {
            ["subscriptions", "start"] => (Method::POST, Operation::Start),
            ["subscriptions", "stop"] => (Method::POST, Operation::Stop),
            ["subscriptions", "list"] => (Method::GET, Operation::List),
            ["subscriptions", "content"] => (Method::GET, Operation::Content),
            ["subscriptions", "notifications"] => (Method::GET, Operation::Notifications),
            ["audit", _] => (Method::GET, Operation::Blob(segments.last()?.clone())),
            ["resources", "dlpsensitivetypes"] => (Method::GET, Operation::SensitiveTypes),
            _ => return None,
        };
        Some((method, Self::Feed { id, operation }))
    }

    fn login(segments: &[String], names: &[&str]) -> Option<(Method, Self)> {
        let tenant = segments.first()?.clone();
        let (method, public) = match names {
            [_, "oauth2", "token"] => (Method::POST, Public::Token { tenant, endpoint: Endpoint::V1 }),
            [_, "oauth2", "v2.0", "token"] => (Method::POST, Public::Token { tenant, endpoint: Endpoint::V2 }),
            [_, ".well-known", "openid-configuration"] => {
                (Method::GET, Public::OpenIdConfiguration { tenant, endpoint: Endpoint::V1 })
            }
            [_, "v2.0", ".well-known", "openid-configuration"] => {
                (Method::GET, Public::OpenIdConfiguration { tenant, endpoint: Endpoint::V2 })
            }
            [_, "discovery", "keys"] | [_, "discovery", "v2.0", "keys"] => (Method::GET, Public::Keys),
            ["common", "discovery", "instance"] => (Method::GET, Public::Instances),
            _ => return None,
        };
        Some((method, Self::Public(public)))
    }
}

/// An answer in the form that the service's framework has for what no operation answers: `{"Message":"…"}`.
pub(super) fn refusal(status: StatusCode, message: &str) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "Message")]
        message: &'a str,
    }
    actlog_http::json(status, &Body { message })
}
