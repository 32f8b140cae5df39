//! `cloudevents`: CloudEvents 1.0 in batches, and the agreement that "HTTP 1.1 Web Hooks for Event Delivery" (version
//! 1.0, section 4) asks for before the first delivery.

use actlog_http::client::Method;
use actlog_interop::cloudevents;
use async_trait::async_trait;
use url::Url;

use super::{Format, Frame, Shape};
use crate::config;
use crate::link::Link;
use crate::verdict::{Verdict, standard};

/// The name that this sender gives itself where none is configured.
const ORIGIN: &str = "actlog";

/// Batches of CloudEvents.
pub(super) struct CloudEvents {
    url: Url,
    frame: Frame,
    /// The name that this sender gives itself; none where the receiver is not asked.
    origin: Option<String>,
}

impl CloudEvents {
    pub(super) fn new(url: Url, options: config::CloudEvents) -> Self {
        let origin = options.handshake.then(|| options.origin.unwrap_or_else(|| ORIGIN.to_owned()));
        Self { url, frame: Frame::array("application/cloudevents-batch+json"), origin }
    }
}

#[async_trait]
impl Format for CloudEvents {
    fn url(&self) -> &Url {
        &self.url
    }

    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Around(&cloudevents::event)
    }

    async fn greet(&self, link: &Link) -> Verdict {
        let Some(origin) = &self.origin else { return Verdict::Delivered };
        let asked = link.send(Method::OPTIONS, &self.url, None, &[("webhook-request-origin", origin)]).await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(verdict) => return verdict,
        };
        if !answer.status.is_success() {
            return standard(&answer);
        }
        let allowed = answer.headers.get("webhook-allowed-origin").and_then(|value| value.to_str().ok());
        match allowed.map(str::trim) {
            Some(allowed) if allowed == "*" || allowed.eq_ignore_ascii_case(origin) => Verdict::Delivered,
            _ => Verdict::Fatal(format!(
                "the receiver does not allow deliveries from {origin:?}; its answer needs the header \
                 WebHook-Allowed-Origin with that name or *"
            )),
        }
    }
}
