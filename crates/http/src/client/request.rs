//! What is sent, and what comes back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::Secret;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::ClientError;

/// A request. What is wrong with its parts is said by [`Client::send`](super::Client::send).
#[derive(Clone)]
pub struct Request {
    parts: Result<Parts, ClientError>,
}

#[derive(Clone)]
pub(super) struct Parts {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl fmt::Debug for Request {
    /// Method and host only: everything else may hold what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts.as_ref().map(|parts| (&parts.method, parts.url.host()));
        f.debug_struct("Request").field("to", &parts).finish_non_exhaustive()
    }
}

impl Request {
    /// A request with that method.
    pub fn new(method: Method, url: impl AsRef<str>) -> Self {
        let url = Url::parse(url.as_ref()).map_err(|error| ClientError::Url { problem: error.to_string() });
        Self { parts: url.map(|url| Parts { method, url, headers: HeaderMap::new(), body: Bytes::new() }) }
    }

    /// A GET request.
    pub fn get(url: impl AsRef<str>) -> Self {
        Self::new(Method::GET, url)
    }

    /// With a header, in place of what was there under that name. No error shows its value.
    #[must_use]
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.and(|parts| {
            let problem =
                |what: &str| ClientError::Request { problem: format!("header {name:?}: its {what} can't be one") };
            let key = HeaderName::try_from(name).map_err(|_| problem("name"))?;
            let mut value = HeaderValue::from_bytes(value.as_ref()).map_err(|_| problem("value"))?;
            value.set_sensitive(key == AUTHORIZATION);
            parts.headers.insert(key, value);
            Ok(())
        })
    }

    /// With a bearer token.
    #[must_use]
    pub fn bearer(self, token: &Secret) -> Self {
        self.header(AUTHORIZATION.as_str(), [b"Bearer ", token.expose()].concat())
    }

    /// With a body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        self.and(|parts| {
            parts.body = body.into();
            Ok(())
        })
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.header(CONTENT_TYPE.as_str(), "application/json").body(body),
            // What the value says of itself could hold parts of it.
            Err(_) => self.and(|_| Err(ClientError::Request { problem: "its body has no JSON form".to_owned() })),
        }
    }

    /// With the pairs of a form as body.
    #[must_use]
    pub fn form(self, pairs: &[(&str, &str)]) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.header(CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded").body(body)
    }

    pub(super) fn into_parts(self) -> Result<Parts, ClientError> {
        self.parts
    }

    fn and(mut self, change: impl FnOnce(&mut Parts) -> Result<(), ClientError>) -> Self {
        if let Ok(parts) = &mut self.parts
            && let Err(error) = change(parts)
        {
            self.parts = Err(error);
        }
        self
    }
}

/// An answer, whatever its status.
#[derive(Clone)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body, decompressed.
    pub body: Bytes,
    pub(super) host: Arc<str>,
}

impl fmt::Debug for Response {
    /// Without headers and body, which may hold what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("length", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Response {
    /// How long the server wants to be left alone: `Retry-After`, in seconds or as a date, which is compared with the
    /// server's own clock where it sent that.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = DateTime::parse_from_rfc2822(text).ok()?;
        let date = self.headers.get(DATE).and_then(|date| DateTime::parse_from_rfc2822(date.to_str().ok()?).ok());
        let now = date.map_or_else(Utc::now, |date| date.to_utc());
        Some((until.to_utc() - now).to_std().unwrap_or_default())
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// When it isn't the JSON that was expected; the error says where, and shows nothing of it.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| ClientError::Protocol {
            host: Arc::clone(&self.host),
            cause: format!(
                "the answer (status {}, {} bytes) is not the JSON that was expected, at line {} column {}",
                self.status.as_u16(),
                self.body.len(),
                error.line(),
                error.column()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(HeaderName, &str)]) -> Response {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        Response {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers,
            body: Bytes::from_static(b"{\"a\":\"canary\"}"),
            host: "h".into(),
        }
    }

    #[test]
    fn retry_after_is_read_in_both_its_forms() {
        let seconds = |headers: &[(HeaderName, &str)]| answer(headers).retry_after().map(|wait| wait.as_secs());
        assert_eq!(seconds(&[]), None);
        assert_eq!(seconds(&[(RETRY_AFTER, "17")]), Some(17));
        assert_eq!(seconds(&[(RETRY_AFTER, "soon")]), None);
        assert_eq!(seconds(&[(RETRY_AFTER, "-1")]), None);
        let date = (DATE, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(seconds(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:50:37 GMT"), date.clone()]), Some(60));
        assert_eq!(seconds(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:00:00 GMT"), date]), Some(0));
        assert_eq!(seconds(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:00:00 GMT")]), Some(0));
    }

    #[test]
    fn an_answer_that_is_not_as_expected_is_not_repeated_in_the_error() {
        let error = answer(&[]).json::<Vec<u8>>().unwrap_err();
        assert!(error.to_string().contains("line 1") && !format!("{error} {error:?}").contains("canary"), "{error}");
        assert!(!format!("{:?}", answer(&[])).contains("canary"));
    }

    #[test]
    fn what_cannot_be_sent_is_said_without_its_value() {
        for request in [
            Request::get("https://h/").header("x-key", "canary\n"),
            Request::get("https://h/").header("no name", "canary"),
            Request::get("https://h/").bearer(&Secret::new("canary\r\nx: y")),
            Request::get("canary"),
        ] {
            assert!(!format!("{request:?}").contains("canary"));
            let Err(error) = request.into_parts() else { panic!("taken") };
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
        let request = Request::get("https://h/?canary").bearer(&Secret::new("canary")).form(&[("a", "canary")]);
        assert!(!format!("{request:?}").contains("canary"), "{request:?}");
    }
}
