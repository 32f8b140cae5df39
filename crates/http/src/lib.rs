//! The one hardened HTTP server that plugins use, and with the feature `client` the one HTTP client.
//!
//! The client, its promises and its configuration are in [`client`](client/index.html), the tokens that Microsoft's
//! interfaces want in [`oauth`](oauth/index.html). Neither knows an interface: which URLs are asked, and what is done
//! about an answer's status, is its user's matter.
//!
//! The server takes HTTP/1.1 connections, plain or with TLS 1.2 and 1.3, and hands whole, authenticated, bounded requests to a
//! [`Handler`]. It has no routes and knows nothing of records; the webhook source and the admin listener are handlers.
//!
//! The order of the checks is the design. Nothing is done for a client before the cheaper check has passed:
//!
//! 1. **Connections.** When there are `max_connections`, the one that has waited longest for its client (for a second
//!    at least) is closed in favour of the newcomer; when none waits, the newcomer gets 503 (over TLS: is closed).
//! 2. **Address.** Who isn't in `allow_from` gets 403 before anything is read (over TLS: is closed); behind a trusted
//!    proxy the address that the proxy reports counts.
//! 3. **Head.** Line and headers within `header_timeout` and `max_header_size`; a slow client is closed.
//! 4. **Credentials.** [`Handler::authenticate`] sees the head; nothing of the body is read before it has agreed, and
//!    `Expect: 100-continue` is answered only then.
//! 5. **Announced length.** 413 for more than `max_body`, before reading.
//! 6. **Body.** Within `body_timeout` (408), `max_body` (413), and the process's budget of body bytes (503 with
//!    `Retry-After`), which is charged as the body grows.
//! 7. **Decompression.** gzip and zstd (window of at most 8 MiB) into at most `max_decompressed_body` (413) and the
//!    same budget, on a blocking thread, as many at once as there are processors.
//!
//! Other answers of the server itself: 400 for what is no HTTP, 415 for other codings, 431 for too many headers. Errors
//! have a JSON body, see [`error`]; 400 and 431 for what could not be parsed have none. After an answer that left a body
//! unread the connection is closed, slowly enough for the client to see the answer.
//!
//! Query strings and headers may hold credentials: they appear in no log, error or metric of this crate.

mod auth;
mod body;
mod budget;
#[cfg(feature = "client")]
pub mod client;
mod config;
mod connection;
mod figures;
#[cfg(feature = "client")]
pub mod oauth;
mod peer;
mod request;
mod response;
mod server;
mod tls;

pub use auth::{Authenticator, Credential, CredentialError, WEBHOOK_KEY_PARAMETER};
pub use config::{Limits, ServerConfig, TlsConfig};
pub use peer::ProxyHeader;
pub use request::{Body, Head, QueryPair, Request};
pub use response::{Response, empty, error, json, text, unavailable};
pub use server::{Handler, Server};
