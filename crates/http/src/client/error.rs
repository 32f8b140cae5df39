//! Why there is no answer.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use actlog_core::{Size, Span};
use tokio_rustls::rustls;

use super::address;

/// Why a request has no answer, or none that can be read.
///
/// The texts name host and cause. They never hold a path, a query, a header or a body.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL is none, or has parts that are not supported.
    #[error("the URL can't be used: {problem}")]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// A header or body can't be sent as it is.
    #[error("the request can't be sent: {problem}")]
    Request {
        /// What is wrong with it.
        problem: String,
    },
    /// The URL isn't `https`.
    #[error("{host}: only https is spoken with other machines; http only with this one, where allow_private is set")]
    Insecure {
        /// Host, and port where given.
        host: Arc<str>,
    },
    /// The host is inside this machine or network.
    #[error(
        "{host}: {address} is a private, local or special address; set allow_private = true if requests may go there"
    )]
    Forbidden {
        /// Host, and port where given.
        host: Arc<str>,
        /// What it stands for.
        address: IpAddr,
    },
    /// There is no connection: no such name, no route, nobody there, the proxy refuses.
    #[error("{host}: no connection: {cause}")]
    Connect {
        /// Host, and port where given.
        host: Arc<str>,
        /// What went wrong.
        cause: String,
    },
    /// The two could not agree on TLS; mostly a certificate that isn't trusted.
    #[error("{host}: TLS: {cause}")]
    Tls {
        /// Host, and port where given.
        host: Arc<str>,
        /// What went wrong.
        cause: String,
    },
    /// There was no whole answer in time.
    #[error("{host}: no whole answer within {after}")]
    Timeout {
        /// Host, and port where given.
        host: Arc<str>,
        /// How long was waited.
        after: Span,
    },
    /// The answer is larger than `max_response`.
    #[error("{host}: the answer is larger than {limit}")]
    TooLarge {
        /// Host, and port where given.
        host: Arc<str>,
        /// The limit that it exceeds, decompressed.
        limit: Size,
    },
    /// What came is not HTTP, ended too early, or isn't what its headers or its user expect.
    #[error("{host}: {cause}")]
    Protocol {
        /// Host, and port where given.
        host: Arc<str>,
        /// What went wrong.
        cause: String,
    },
}

/// Finds out what is behind the error that the library gives.
pub(super) fn failed(host: &Arc<str>, error: &reqwest::Error) -> ClientError {
    let host = Arc::clone(host);
    for link in links(error) {
        if let Some(forbidden) = link.downcast_ref::<address::Forbidden>() {
            return ClientError::Forbidden { host, address: forbidden.0 };
        }
        if let Some(error) = link.downcast_ref::<rustls::Error>() {
            return ClientError::Tls { host, cause: error.to_string() };
        }
    }
    let cause = cause(error);
    if error.is_connect() { ClientError::Connect { host, cause } } else { ClientError::Protocol { host, cause } }
}

/// The innermost error's text: the outer ones only repeat what was being done, and may name the URL.
pub(super) fn cause(error: &reqwest::Error) -> String {
    links(error).last().map_or_else(|| "for no known reason".to_owned(), ToString::to_string)
}

/// The errors behind an error. `io::Error` leaves out of its `source` what it wraps itself.
fn links<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |link| {
        let link: &'a (dyn Error + 'static) = *link;
        let wrapped = link.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => link.source(),
        }
    })
}
