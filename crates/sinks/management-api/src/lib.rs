//! The sink `management-api`: a server of the Office 365 Management Activity API, over the records that actlog captured.
//!
//! Collectors that were written for Microsoft's service work against it without a change: they get a token, start
//! subscriptions, list the content that became available, fetch it blob by blob, or have themselves notified by webhook.
//! It is not a proxy of Microsoft's service and knows no tenant but those of its configuration; it does not search,
//! filter or change what it serves.
//!
//! ```text
//! journal ─► sink: map to Office records, pack ─► store: blobs, listings ◄─┬─ api: the seven operations ◄── collectors
//!                        │                                                 │        ▲
//!                        └─ commit(cursor) once published                  │        └─ auth: registered clients, tokens
//!                                                                          └─ subscriptions: webhooks ──► collectors
//! ```
//!
//! | module | is |
//! |---|---|
//! | `sink` | the run: from the journal into the store, and the server and the webhooks beside it |
//! | `store` | blobs and what is listed when, on disk, for as long as the retention says |
//! | `api` | the operations over HTTP: routes, parameters, pages, errors |
//! | `auth` | registered clients, the token endpoints, tokens |
//! | `subscriptions` | what each client has started, and its webhooks |
//! | `errors` | the interface's error codes and their words |
//! | `plugin` | how the sink is made |
//!
//! Invariants:
//! - Who has no valid token gets nothing of any tenant. On the feed nothing of a body is read before that is known;
//!   nowhere is more than 16 KiB.
//! - A client sees the tenant that its token is of, and no other.
//! - `contentCreated` grows strictly within a tenant's content type, and a blob is listed from that instant on.
//! - A blob that was listed can be fetched, unchanged, until its `contentExpiration`: across restarts and crashes.
//! - No page has more than 500 entries or 256 KB, no blob more than 512 KiB.
//!
//! `docs/management-api.md` is the user's view, `docs/management-api.openapi.json` describes the interface.

mod api;
mod auth;
mod config;
mod errors;
mod plugin;
mod sink;
mod store;
mod subscriptions;

pub use config::{Config, TenantConfig, ThrottleConfig};
pub use sink::ManagementApiSink;
