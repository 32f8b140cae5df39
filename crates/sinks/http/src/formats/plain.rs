//! `json` and `ndjson`: any webhook that takes records as they are. Every status of the 200s is a yes.
//!
//! One receiver says more: another actlog's `records` source names the records of a batch that it does not take.

use serde::Deserialize;
use url::Url;

use super::{Format, Frame, Shape};
use crate::value::excerpt;
use crate::verdict::{Answer, Verdict, standard};

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

impl Format for Plain {
    fn url(&self) -> &Url {
        &self.url
    }

    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Bare
    }

    fn read(&self, answer: &Answer, count: usize) -> Verdict {
        if !answer.status.is_success() {
            return standard(answer);
        }
        let Some(said) = answer.small::<Reply>() else { return Verdict::Delivered };
        if said.more_rejected > 0 {
            // It takes each record once, so what it has by now may come again.
            let reason = "the receiver refuses more records than it names".to_owned();
            return Verdict::Refused { reason, suspect: None, is_certain: true };
        }
        let refused: Vec<_> = said.rejected.into_iter().filter_map(|one| one.refusal(count)).collect();
        match refused.is_empty() {
            true => Verdict::Delivered,
            false => Verdict::Partly { refused, again: Vec::new(), reason: String::new() },
        }
    }
}

/// What another actlog answers (`docs/webhooks.md`, Batches). `accepted` tells it from other answers.
#[derive(Deserialize)]
struct Reply {
    #[serde(rename = "accepted")]
    _accepted: u64,
    rejected: Vec<Rejection>,
    #[serde(default)]
    more_rejected: u64,
}

#[derive(Deserialize)]
struct Rejection {
    /// The line, or the number in the array, from 1.
    line: usize,
    reason: String,
}

impl Rejection {
    fn refusal(self, count: usize) -> Option<(usize, String)> {
        let place = self.line.checked_sub(1).filter(|place| *place < count)?;
        Some((place, format!("the receiver refuses it: {}", excerpt(&self.reason))))
    }
}
