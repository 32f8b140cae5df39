//! `json` and `ndjson`: any webhook that takes records as they are. Every status of the 200s is a yes.

use async_trait::async_trait;
use url::Url;

use super::{Exchange, Format, Frame, Shape};
use crate::link::{Link, Payload};
use crate::verdict::{Verdict, standard};

/// Records as they are, in an array or on lines.
pub(super) struct Plain {
    url: Url,
    frame: Frame,
}

impl Plain {
    pub(super) fn json(url: Url) -> Self {
        Self { url, frame: Frame::array("application/json") }
    }

    pub(super) fn ndjson(url: Url) -> Self {
        Self { url, frame: Frame::lines("application/x-ndjson") }
    }
}

#[async_trait]
impl Format for Plain {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Bare
    }

    async fn send(&self, link: &Link, payload: &Payload, _: usize) -> Exchange {
        Exchange::of(link.post(&self.url, payload, &[]).await, |answer| {
            if answer.status.is_success() { Verdict::Delivered } else { standard(answer) }
        })
    }
}
