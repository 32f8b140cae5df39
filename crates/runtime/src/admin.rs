//! The admin listener: `/healthz`, `/readyz`, `/metrics`. It shows no record, takes no command, and needs no key.

use std::sync::Arc;

use actlog_core::Metrics;
use actlog_http::{Handler, Head, Request, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};

/// What the listener asks.
pub(crate) trait Observed: Send + Sync + 'static {
    /// Why the process is not ready; none when it is.
    fn not_ready(&self) -> Option<String>;

    /// Brings the gauges up to date that nobody else does.
    fn refresh_metrics(&self);
}

pub(crate) struct Admin<O> {
    pub(crate) observed: Arc<O>,
    pub(crate) metrics: Metrics,
}

impl<O: Observed> Handler for Admin<O> {
    type Principal = ();

    fn authenticate(&self, head: &Head) -> Result<(), Box<Response>> {
        if !["/healthz", "/readyz", "/metrics"].contains(&head.path()) {
            let message = "there are /healthz, /readyz and /metrics";
            return Err(Box::new(actlog_http::error(StatusCode::NOT_FOUND, "not-found", message)));
        }
        if !["GET", "HEAD"].contains(&head.method().as_str()) {
            return Err(Box::new(actlog_http::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "GET is allowed",
            )));
        }
        Ok(())
    }

    async fn handle(&self, request: Request<()>) -> Response {
        match request.head.path() {
            "/healthz" => actlog_http::text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.observed.not_ready() {
                None => actlog_http::text(StatusCode::OK, "ready\n"),
                Some(reason) => actlog_http::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
            },
            _ => {
                self.observed.refresh_metrics();
                let mut metrics = actlog_http::text(StatusCode::OK, self.metrics.encode());
                let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                metrics.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
                metrics
            }
        }
    }
}
