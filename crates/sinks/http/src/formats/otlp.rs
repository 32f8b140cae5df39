//! `otlp`: OpenTelemetry logs over HTTP, in the JSON form (OTLP 1, "OTLP/HTTP").
//!
//! A receiver that takes a request but not all of its records says how many, and not which. Sending them again is
//! forbidden there, so all of that request's records become dead letters: none is lost, and the reason says that most
//! of them were taken.
//!
//! Of the 5xx only 502, 503 and 504 are to be sent again, by the protocol. The others are about the receiver all the
//! same, and not about the records, so they are sent again too: nothing becomes a dead letter because of them.

use actlog_interop::otlp;
use serde::Deserialize;
use url::Url;

use super::{Format, Frame, Shape, with_path};
use crate::value::excerpt;
use crate::verdict::{Answer, Verdict, standard};

/// Logs over HTTP.
pub(super) struct Otlp {
    url: Url,
    frame: Frame,
}

impl Otlp {
    pub(super) fn new(url: Url) -> Self {
        let (mut begin, mut end) = (Vec::new(), Vec::new());
        otlp::begin(&mut begin);
        otlp::end(&mut end);
        let frame = Frame { content_type: "application/json", begin, between: b",", end };
        Self { url: with_path(url, "/v1/logs"), frame }
    }
}

impl Format for Otlp {
    fn url(&self) -> &Url {
        &self.url
    }

    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Around(&otlp::log_record)
    }

    fn read(&self, answer: &Answer, count: usize) -> Verdict {
        if answer.status.is_success() { outcome(answer, count) } else { standard(answer) }
    }
}

/// 64-bit numbers are texts in this form; some write them as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

/// What an answer to `count` records means.
fn outcome(answer: &Answer, count: usize) -> Verdict {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Success {
        partial_success: Option<PartialSuccess>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct PartialSuccess {
        rejected_log_records: Option<Number>,
        error_message: Option<String>,
    }
    // A receiver that answers with something else, or nothing, says with its status that all is well.
    let said = answer.small::<Success>().and_then(|success| success.partial_success);
    let Some(PartialSuccess { rejected_log_records: Some(rejected), error_message }) = said else {
        return Verdict::Delivered;
    };
    let rejected = match rejected {
        Number::Number(number) => number,
        Number::Text(text) => text.parse().unwrap_or(0),
    };
    if rejected == 0 {
        return Verdict::Delivered;
    }
    let reason = format!(
        "the receiver refused {rejected} of {count} records that were sent together, this one perhaps: {}",
        excerpt(error_message.as_deref().unwrap_or_default())
    );
    let refused = (0..count).map(|place| (place, reason.clone())).collect();
    Verdict::Partly { refused, again: Vec::new(), reason: String::new() }
}
