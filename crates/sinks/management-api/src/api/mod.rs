//! The interface over HTTP: who asks for what, and the answer.
//!
//! A request's way: its host (which goes into the URLs of the answer), its route, for the feed its token, then its body;
//! only then what it asks for. Everything before the body is in [`Handler::authenticate`].

mod feed;
mod host;
mod query;
mod route;
mod throttle;
mod time;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{BuildContext, Clock, ConfigError, Metrics};
use actlog_http::{Handler, Head, Request, Response};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, EXPIRES, HeaderValue, PRAGMA};
use tokio::sync::Semaphore;
use uuid::Uuid;

use self::feed::Exchange;
use self::host::Side;
use self::route::{Operation, Public, Route, refusal};
use self::throttle::Throttle;
use crate::auth::{Auth, Caller};
use crate::config::Config;
use crate::store::Store;
use crate::subscriptions::Subscriptions;

/// Blobs that are being read or sent at once: with 512 KiB each, 32 MiB.
const BLOBS_IN_FLIGHT: usize = 64;
/// This interface's description.
const OPEN_API: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/management-api.openapi.json"));

/// The handler of the listener.
pub(crate) struct Api {
    auth: Auth,
    store: Store,
    subscriptions: Subscriptions,
    clock: Arc<dyn Clock>,
    /// The tenants that are served.
    tenants: BTreeSet<Uuid>,
    /// What URLs in answers begin with, where the configuration says so.
    public_base: Option<String>,
    scheme: &'static str,
    retention: Duration,
    throttle: Throttle,
    blobs: Arc<Semaphore>,
    metrics: Metrics,
}

/// A request that may go on: what it asks for, and what URLs of the answer begin with.
pub(crate) struct Admitted {
    asked: Asked,
    base: String,
}

/// What is asked for, and for the feed by whom.
enum Asked {
    Feed { caller: Caller, id: String, operation: Operation },
    Public(Public),
}

impl Api {
    /// Over what the sink has opened.
    ///
    /// # Errors
    /// When no tenant is configured, or `public_url` is none.
    pub(crate) fn new(
        config: &Config,
        cx: &BuildContext,
        store: Store,
        auth: Auth,
        subscriptions: Subscriptions,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            auth,
            store,
            subscriptions,
            clock: Arc::clone(&cx.clock),
            tenants: config.tenants(&cx.organizations)?.iter().map(|tenant| tenant.id).collect(),
            public_base: config.public_base()?,
            scheme: config.scheme(),
            retention: config.retention.0,
            throttle: Throttle::new(&config.throttle, &cx.clock),
            blobs: Arc::new(Semaphore::new(BLOBS_IN_FLIGHT)),
            metrics: metrics.clone(),
        })
    }

    /// The answer with the headers that all of them have; counted.
    fn finish(&self, name: &str, mut response: Response) -> Response {
        let headers = response.headers_mut();
        for (header, value) in [(CACHE_CONTROL, "no-cache"), (PRAGMA, "no-cache"), (EXPIRES, "-1")] {
            headers.entry(header).or_insert(HeaderValue::from_static(value));
        }
        if let Some(content_type) = headers.get_mut(CONTENT_TYPE).filter(|value| *value == "application/json") {
            *content_type = HeaderValue::from_static("application/json; charset=utf-8");
        }
        let status = response.status();
        let labels = [("operation", name), ("status", status.as_str())];
        self.metrics.counter("actlog_management_api_requests", "Requests that were answered", &labels).inc();
        response
    }

    fn admit(&self, head: &Head) -> Result<Admitted, (&'static str, Box<Response>)> {
        let Some(host) = host::of(head) else {
            let message = "The Host header is missing, or is no host with or without a port.";
            return Err(("none", refusal(StatusCode::BAD_REQUEST, message).into()));
        };
        let asked = match Route::of(head, Side::of(host)).map_err(|refusal| ("none", refusal))? {
            Route::Feed { id, operation } => match self.auth.authorize(head) {
                Ok(caller) => Asked::Feed { caller, id, operation },
                Err(denied) => return Err((operation.name(), denied.response().into())),
            },
            Route::Public(public) => Asked::Public(public),
        };
        let here = || format!("{}://{}", self.scheme, host::without_default_port(host, self.scheme));
        Ok(Admitted { asked, base: self.public_base.clone().unwrap_or_else(here) })
    }

    async fn feed(&self, exchange: Exchange<'_>, id: &str, operation: Operation) -> Response {
        let client = exchange.caller.client;
        exchange.answer(id, operation).await.unwrap_or_else(|error| {
            // Not its words: they repeat what the client sent, such as a webhook's address with what it is known by.
            tracing::debug!(%client, code = error.code(), "a request is refused");
            error.response()
        })
    }

    async fn public(&self, public: Public, base: &str, head: &Head, body: &[u8]) -> Response {
        match public {
            Public::Token { tenant, endpoint } => self.auth.token(endpoint, &tenant, base, head, body).await,
            Public::OpenIdConfiguration { tenant, endpoint } => self.auth.openid_configuration(endpoint, &tenant, base),
            Public::Keys => self.auth.keys(),
            Public::Instances => self.auth.instances(base, head),
            Public::OpenApi => {
                let mut response = Response::new(OPEN_API.into());
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
        }
    }
}

impl Handler for Api {
    type Principal = Admitted;

    fn authenticate(&self, head: &Head) -> Result<Admitted, Box<Response>> {
        self.admit(head).map_err(|(name, refusal)| Box::new(self.finish(name, *refusal)))
    }

    async fn handle(&self, request: Request<Admitted>) -> Response {
        let Request { head, principal: Admitted { asked, base }, body } = request;
        let (name, response) = match asked {
            Asked::Feed { caller, id, operation } => {
                let name = operation.name();
                let exchange = Exchange { api: self, caller: &caller, base: &base, head: &head, body: &body };
                (name, self.feed(exchange, &id, operation).await)
            }
            Asked::Public(public) => (public.name(), self.public(public, &base, &head, &body).await),
        };
        self.finish(name, response)
    }
}
