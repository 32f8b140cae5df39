//! `splunk-hec`: Splunk's HTTP Event Collector, with acknowledgement by the indexers.
//!
//! A token with acknowledgement answers with an `ackId`, which is asked about on the same channel until it is true,
//! and only once. The codes are those of "Troubleshoot HTTP Event Collector" in Splunk's documentation.

use std::collections::HashMap;
use std::time::Duration;

use actlog_core::Span;
use actlog_http::client::{Method, StatusCode};
use actlog_interop::splunk::{SplunkOptions, event};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;
use uuid::Uuid;

use super::{Format, Frame, Shape, WriteAround, with_path};
use crate::config::{self, Ack};
use crate::link::{Link, Payload};
use crate::value::excerpt;
use crate::verdict::{Answer, Verdict, reason, standard};

const CHANNEL: &str = "x-splunk-request-channel";
/// How long an acknowledgement may take where nothing is configured.
const ACK_TIMEOUT: Duration = Duration::from_secs(120);
/// Pauses between questions for an acknowledgement: they double from the first up to the longest.
const FIRST_QUESTION: Duration = Duration::from_millis(200);
const LONGEST_QUESTION: Duration = Duration::from_secs(10);

/// The HTTP Event Collector.
pub(super) struct Splunk {
    url: Url,
    ack_url: Url,
    frame: Frame,
    write: Box<WriteAround>,
    ack: Ack,
    ack_timeout: Duration,
    /// Acknowledgements are numbered for each channel; another run has another one.
    channel: String,
}

/// Where acknowledgements are asked for. Proxies and older versions have other paths before these: …/collector,
/// …/collector/event, …/collector/event/1.0.
fn ack_path(path: &str) -> String {
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix("/1.0").unwrap_or(path);
    format!("{}/ack", path.strip_suffix("/event").unwrap_or(path))
}

impl Splunk {
    pub(super) fn new(url: Url, options: config::Splunk) -> Self {
        let url = with_path(url, "/services/collector/event");
        let mut ack_url = url.clone();
        ack_url.set_path(&ack_path(url.path()));
        let channel = Uuid::new_v4().to_string();
        ack_url.query_pairs_mut().append_pair("channel", &channel);
        let config::Splunk { host, source, sourcetype, index, ack, ack_timeout } = options;
        let options = SplunkOptions { host, source, sourcetype, index };
        Self {
            url,
            ack_url,
            frame: Frame::lines("application/json"),
            write: Box::new(move |record, body, out| event(record, body, &options, out)),
            ack,
            ack_timeout: ack_timeout.map_or(ACK_TIMEOUT, |Span(timeout)| timeout),
            channel,
        }
    }

    /// Waits until the indexers have what was sent.
    async fn confirmed(&self, link: &Link, ack: u64) -> Verdict {
        let deadline = Instant::now() + self.ack_timeout;
        let question =
            Payload { content_type: "application/json", bytes: Bytes::from(format!("{{\"acks\":[{ack}]}}")) };
        let channel = [(CHANNEL, self.channel.as_str())];
        let mut pause = FIRST_QUESTION;
        loop {
            let asked = link.send(Method::POST, &self.ack_url, Some(&question), &channel);
            match timeout_at(deadline, asked).await.map(|asked| asked.map(|answer| acknowledged(&answer, ack))) {
                Ok(Ok(Acknowledged::Yes)) => return Verdict::Delivered,
                Ok(Ok(Acknowledged::SwitchedOff)) if self.ack == Ack::Required => {
                    return Verdict::retry("the token's acknowledgement was switched off before it came");
                }
                Ok(Ok(Acknowledged::SwitchedOff)) => return Verdict::Delivered,
                Ok(Ok(Acknowledged::Never(verdict)) | Err(verdict @ Verdict::Fatal(_))) => return verdict,
                // The receiver is asked again while there is time: what was sent may well be safe.
                Ok(Ok(Acknowledged::NotYet) | Err(_)) => {}
                Err(_) => return Self::unconfirmed(self.ack_timeout),
            }
            if Instant::now() + pause >= deadline {
                return Self::unconfirmed(self.ack_timeout);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_QUESTION);
        }
    }

    fn unconfirmed(timeout: Duration) -> Verdict {
        Verdict::retry(format!("Splunk has not acknowledged the events within {}", Span(timeout)))
    }
}

#[async_trait]
impl Format for Splunk {
    fn url(&self) -> &Url {
        &self.url
    }

    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Around(&*self.write)
    }

    fn read(&self, answer: &Answer, count: usize) -> Verdict {
        match taken(answer, count) {
            Taken::Without if self.ack == Ack::Required => Verdict::Fatal(
                "the token has no acknowledgement; switch \"Enable indexer acknowledgement\" on for it, or set splunk.ack \
                 = \"auto\""
                    .to_owned(),
            ),
            Taken::With(_) | Taken::Without => Verdict::Delivered,
            Taken::Not(verdict) => verdict,
        }
    }

    async fn send(&self, link: &Link, payload: &Payload, count: usize) -> (Option<Answer>, Verdict) {
        let channel = [(CHANNEL, self.channel.as_str())];
        let extra = if self.ack == Ack::Off { &[][..] } else { &channel[..] };
        match link.post(&self.url, payload, extra).await {
            Ok(answer) => {
                let verdict = match taken(&answer, count) {
                    Taken::With(ack) if self.ack != Ack::Off => self.confirmed(link, ack).await,
                    _ => self.read(&answer, count),
                };
                (Some(answer), verdict)
            }
            Err(verdict) => (None, verdict),
        }
    }
}

/// Whether events were taken.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// They were, and this is what the acknowledgement is to be asked for by.
    With(u64),
    /// They were, and there will be no acknowledgement.
    Without,
    Not(Verdict),
}

/// What the collector answers, as far as it matters.
#[derive(Deserialize)]
struct Reply {
    code: Option<u32>,
    #[serde(rename = "ackId")]
    ack: Option<u64>,
    text: Option<String>,
    #[serde(rename = "invalid-event-number")]
    invalid: Option<usize>,
}

/// What an answer to `count` events means.
fn taken(answer: &Answer, count: usize) -> Taken {
    let Some(said) = answer.small::<Reply>() else {
        // A proxy has answered, or something that only resembles Splunk.
        return if answer.status.is_success() { Taken::Without } else { Taken::Not(standard(answer)) };
    };
    let text = said.text.as_deref().map(excerpt).unwrap_or_default();
    let reason = |code| format!("Splunk answers with code {code} ({text}); {}", reason(answer));
    Taken::Not(match (said.code, answer.status) {
        (Some(0) | None, status) if status.is_success() => {
            return said.ack.map_or(Taken::Without, Taken::With);
        }
        // Disabled, missing or wrong token; an index that the token has not.
        (Some(code @ (1..=4 | 7 | 16)), _) => Verdict::Fatal(reason(code)),
        // No data, or data or one of its events is not as it should be.
        (Some(code @ (5 | 6 | 12 | 13 | 15)), _) => Verdict::Refused {
            reason: reason(code),
            suspect: said.invalid.filter(|place| *place < count),
            is_certain: true,
        },
        // Internal error, busy, unhealthy, shutting down, queues full.
        (Some(code @ (8 | 9 | 18..=20 | 23 | 26 | 27)), _) => {
            Verdict::Retry { reason: reason(code), after: answer.retry_after }
        }
        (Some(code @ (10 | 11)), _) => {
            Verdict::Fatal(format!("{}; the token has acknowledgement: set splunk.ack = \"auto\"", reason(code)))
        }
        (_, status) if status.is_success() => {
            Verdict::retry(format!("Splunk answers with code {} and status 200", said.code.unwrap_or_default()))
        }
        _ => standard(answer),
    })
}

enum Acknowledged {
    Yes,
    NotYet,
    /// The token has no acknowledgement any more: the events were taken, and nothing else can be found out.
    SwitchedOff,
    Never(Verdict),
}

/// What the answer to a question for an acknowledgement means.
fn acknowledged(answer: &Answer, ack: u64) -> Acknowledged {
    #[derive(Deserialize)]
    struct Answers {
        #[serde(default)]
        acks: HashMap<String, bool>,
        code: Option<u32>,
    }
    match answer.small::<Answers>() {
        Some(said) if answer.status.is_success() => {
            if said.acks.get(&ack.to_string()) == Some(&true) {
                Acknowledged::Yes
            } else {
                Acknowledged::NotYet
            }
        }
        Some(Answers { code: Some(14), .. }) => Acknowledged::SwitchedOff,
        _ => match standard(answer) {
            Verdict::Retry { .. } => Acknowledged::NotYet,
            _ if answer.status == StatusCode::NOT_FOUND => Acknowledged::Never(Verdict::Fatal(
                "the receiver has no /services/collector/ack; set splunk.ack = false".to_owned(),
            )),
            Verdict::Fatal(reason) => Acknowledged::Never(Verdict::Fatal(reason)),
            _ => Acknowledged::NotYet,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_asked_for_beside_the_collector_whatever_its_path() {
        for path in ["/services/collector", "/services/collector/event", "/services/collector/event/1.0/"] {
            assert_eq!(ack_path(path), "/services/collector/ack");
        }
    }
}
