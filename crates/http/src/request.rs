//! What a handler gets.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use bytes::Bytes;
use hyper::header::{AsHeaderName, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};

use crate::budget::Reservation;

/// A request before its body: all that authentication may look at.
pub struct Head {
    parts: Parts,
    client: IpAddr,
}

/// One pair of a query string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryPair<'a> {
    /// The name, decoded.
    pub name: Cow<'a, str>,
    /// The value, decoded: `%2B` is `+`, `+` is a space.
    pub value: Cow<'a, str>,
    /// The value as it was sent.
    pub raw_value: &'a str,
}

impl Head {
    pub(crate) fn new(parts: Parts, client: IpAddr) -> Self {
        Self { parts, client }
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The path, as it was sent: nothing in it is decoded.
    pub fn path(&self) -> &str {
        self.parts.uri.path()
    }

    /// The query string as it was sent. It may hold credentials: it must not get into logs or answers.
    pub fn query(&self) -> Option<&str> {
        self.parts.uri.query()
    }

    /// The pairs of the query string.
    pub fn query_pairs(&self) -> impl Iterator<Item = QueryPair<'_>> {
        self.query().unwrap_or_default().split('&').filter_map(|pair| {
            let (name, value) = form_urlencoded::parse(pair.as_bytes()).next()?;
            Some(QueryPair { name, value, raw_value: pair.split_once('=').map_or("", |(_, value)| value) })
        })
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The first header of that name, when it is text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// The media type of the body, in its sender's letters, without parameters.
    pub fn content_type(&self) -> Option<&str> {
        Some(self.header(CONTENT_TYPE)?.split(';').next()?.trim())
    }

    /// The client's address, seen through trusted proxies. Where a trusted proxy doesn't tell it, the proxy's.
    pub fn client(&self) -> IpAddr {
        self.client
    }
}

impl fmt::Debug for Head {
    /// Without query string and headers, which may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("method", self.method())
            .field("path", &self.path())
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// An authenticated request with its whole body.
#[derive(Debug)]
pub struct Request<P> {
    /// Method, path, query, headers, client.
    pub head: Head,
    /// What [`Handler::authenticate`](crate::Handler::authenticate) found out.
    pub principal: P,
    /// The body, decompressed. Its bytes count towards the process's budget until it is dropped.
    pub body: Body,
}

/// A request's body, decompressed.
#[derive(Debug, Default)]
pub struct Body {
    pub(crate) bytes: Bytes,
    #[expect(dead_code, reason = "held for what its drop does")]
    pub(crate) reservation: Option<Reservation>,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Vec<u8>> for Body {
    /// A body that counts towards no budget, for tests of handlers.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), reservation: None }
    }
}
