//! `azure-logs`: the Logs Ingestion API of Azure Monitor. Rows go through a data collection rule into a table.

use actlog_core::ConfigError;
use actlog_interop::azure;
use serde::Deserialize;
use url::Url;

use super::{Format, Frame, Shape, below};
use crate::config;
use crate::value::excerpt;
use crate::verdict::{Answer, Verdict, reason, standard};

const API_VERSION: &str = "2023-01-01";

/// The Logs Ingestion API.
pub(super) struct Azure {
    url: Url,
    frame: Frame,
}

impl Azure {
    pub(super) fn new(url: Url, options: &config::Azure) -> Result<Self, ConfigError> {
        let mut url = below(&url, &["dataCollectionRules", &options.rule, "streams", &options.stream])?;
        url.query_pairs_mut().append_pair("api-version", API_VERSION);
        Ok(Self { url, frame: Frame::array("application/json") })
    }
}

impl Format for Azure {
    fn url(&self) -> &Url {
        &self.url
    }

    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Own(&azure::row)
    }

    fn read(&self, answer: &Answer, _: usize) -> Verdict {
        if answer.status.is_success() { Verdict::Delivered } else { refusal(answer) }
    }
}

/// What an answer means that is no success, with the words that Azure has for it.
fn refusal(answer: &Answer) -> Verdict {
    #[derive(Deserialize)]
    struct Refusal {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Some(Refusal { error }) = answer.small() else { return standard(answer) };
    let reason = format!("{}: {} ({})", reason(answer), excerpt(&error.message), excerpt(&error.code));
    match standard(answer) {
        Verdict::Retry { after, .. } => Verdict::Retry { reason, after },
        Verdict::Refused { .. } => Verdict::refused(reason),
        _ => Verdict::Fatal(reason),
    }
}
