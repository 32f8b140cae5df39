//! `elasticsearch`: the `_bulk` interface of Elasticsearch and OpenSearch.
//!
//! Every record is created in a data stream under its own Id, so that one that was sent twice is there once: 409 says
//! that it is there already. A bulk request is answered with 200 whatever became of its items; each has a status.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use actlog_core::{AuditRecord, ConfigError};
use serde::{Deserialize, Deserializer, de};
use url::Url;

use super::{Format, Frame, Shape, below};
use crate::config::{self, MAXIMUM_COUNT};
use crate::value::excerpt;
use crate::verdict::{Answer, Verdict, standard};

/// What of the answer is looked at; the rest need not come over the network.
const FILTER: &str = "errors,items.*.status,items.*.error.type,items.*.error.reason,error.type";

/// The `_bulk` interface.
pub(super) struct Elasticsearch {
    url: Url,
    frame: Frame,
}

impl Elasticsearch {
    pub(super) fn new(url: Url, options: &config::Elasticsearch) -> Result<Self, ConfigError> {
        let index = options.index.clone().unwrap_or_else(|| format!("logs-{}-{}", options.dataset, options.namespace));
        let mut url = below(&url, &[&index, "_bulk"])?;
        url.query_pairs_mut().append_pair("filter_path", FILTER);
        Ok(Self { url, frame: Frame::lines("application/x-ndjson") })
    }
}

/// The action, then the document, on a line each. Nobody names the index: the URL does.
fn create(record: &AuditRecord<'_>, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"create\":{\"_id\":\"");
    out.extend_from_slice(record.id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes());
    out.extend_from_slice(b"\"}}\n");
    out.extend_from_slice(body);
}

impl Format for Elasticsearch {
    fn url(&self) -> &Url {
        &self.url
    }

    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Around(&create)
    }

    fn read(&self, answer: &Answer, count: usize) -> Verdict {
        if answer.status.is_success() { outcome(answer, count) } else { refusal(answer) }
    }
}

/// An answer to a bulk request, as far as it matters.
#[derive(Deserialize)]
struct Bulk<'a> {
    errors: bool,
    #[serde(borrow, default)]
    items: Items<'a>,
}

/// No more items than a request can have had; an answer with more is none.
#[derive(Default)]
struct Items<'a>(Vec<Item<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<'a>(PhantomData<Item<'a>>);
        impl<'de: 'a, 'a> de::Visitor<'de> for Visitor<'a> {
            type Value = Items<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of items")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = array.next_element()? {
                    if items.len() == MAXIMUM_COUNT as usize {
                        return Err(de::Error::custom("more items than were sent"));
                    }
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(Visitor(PhantomData))
    }
}

/// The only member is named after the action.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, alias = "index")]
    create: Outcome<'a>,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    status: u16,
    #[serde(borrow, default)]
    error: Option<Failure<'a>>,
}

#[derive(Deserialize)]
struct Failure<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    /// Null where an exception has no message.
    reason: Option<String>,
}

/// What an answer to `count` items means.
fn outcome(answer: &Answer, count: usize) -> Verdict {
    let bulk: Bulk<'_> = match serde_json::from_slice(&answer.body) {
        Ok(bulk) => bulk,
        Err(error) => {
            // Its own words could hold what was sent.
            let place = format!("line {} column {}", error.line(), error.column());
            return Verdict::retry(format!("the answer is not one to a bulk request, at {place}"));
        }
    };
    if !bulk.errors {
        return Verdict::Delivered;
    }
    if bulk.items.0.len() != count {
        return Verdict::retry(format!("{count} items were sent, and the answer has {}", bulk.items.0.len()));
    }
    let (mut refused, mut again, mut reason) = (Vec::new(), Vec::new(), String::new());
    for (place, Item { create: outcome }) in bulk.items.0.into_iter().enumerate() {
        let kind = outcome.error.as_ref().map_or("", |error| error.kind.as_ref());
        match outcome.status {
            200..=299 | 409 => {}
            // A full disk blocks an index for writing; that passes when somebody makes room.
            status if status == 429 || status >= 500 || kind == "cluster_block_exception" => {
                if again.is_empty() {
                    reason = format!("an item is answered with status {status} ({})", excerpt(kind));
                }
                again.push(place);
            }
            status @ (401 | 403 | 404) => {
                return Verdict::Fatal(format!(
                    "an item is answered with status {status} ({}); check that the data stream's template is there, and \
                     what these credentials are allowed to do",
                    excerpt(kind)
                ));
            }
            status => {
                let why =
                    outcome.error.as_ref().and_then(|error| error.reason.as_deref()).map(excerpt).unwrap_or_default();
                refused.push((place, format!("status {status}, {}: {why}", excerpt(kind))));
            }
        }
    }
    Verdict::Partly { refused, again, reason }
}

/// What an answer means that is no success: it speaks of the whole request.
fn refusal(answer: &Answer) -> Verdict {
    #[derive(Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow)]
        error: Failure<'a>,
    }
    let kind = answer.small::<Refusal<'_>>().map(|refusal| refusal.error.kind);
    match kind.as_deref() {
        Some("cluster_block_exception") => Verdict::Retry {
            reason: format!("the index is blocked for writing (status {})", answer.status.as_u16()),
            after: answer.retry_after,
        },
        _ => standard(answer),
    }
}
