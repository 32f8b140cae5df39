//! Why the Web API did not do what it was asked.

use std::time::Duration;

use actlog_http::client::{ClientError, Response};
use actlog_http::oauth::TokenError;
use serde::Deserialize;

/// Longest text of the environment that an error repeats, in characters.
const LONGEST_MESSAGE: usize = 500;

/// Why a request of the Web API failed. The texts name method and path; they hold no query, no body and no token.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebApiError {
    /// There is no token to ask with.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There was no answer, or none that can be read.
    #[error("{what}: {error}")]
    Client {
        /// Method and path.
        what: String,
        /// What went wrong.
        error: ClientError,
    },
    /// The environment refuses.
    #[error("{what}: {}", refusal(*status, code, message))]
    Refused {
        /// Method and path.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The platform's error code, such as `0x80040217`; empty where the answer has none.
        code: String,
        /// What the platform says.
        message: String,
        /// How long the environment wants to be left alone, where that is why.
        retry_after: Option<Duration>,
    },
    /// A link leads away from the environment; it was not followed.
    #[error("{environment} gives a link that leads to {host:?}; it is not followed")]
    Elsewhere {
        /// URL of the environment.
        environment: String,
        /// Where the link leads.
        host: String,
    },
    /// The answer is not one to this request.
    #[error("{what}: {problem}")]
    Answer {
        /// Method and path.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl WebApiError {
    pub(super) fn refused(what: String, answer: &Response, retry_after: Option<Duration>) -> Self {
        #[derive(Default, Deserialize)]
        struct Outer {
            error: Inner,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Inner {
            code: String,
            message: String,
        }
        let Outer { error: Inner { code, message } } = answer.json().unwrap_or_default();
        let plain = |text: String, longest| text.replace(char::is_control, " ").chars().take(longest).collect();
        Self::Refused {
            what,
            status: answer.status.as_u16(),
            code: plain(code, 20),
            message: plain(message, LONGEST_MESSAGE),
            retry_after,
        }
    }

    /// The HTTP status that the environment refused with.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether trying again is in vain until somebody has done something.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Token(error) => error.is_permanent(),
            Self::Refused { status, .. } => (400..500).contains(status) && !matches!(status, 408 | 429),
            Self::Elsewhere { .. } => true,
            Self::Client { .. } | Self::Answer { .. } => false,
        }
    }
}

fn refusal(status: u16, code: &str, message: &str) -> String {
    let advice = match status {
        401 => "; the environment does not know the application: add it as an application user",
        403 => "; the application user needs a security role with this privilege",
        429 => "; the environment's service protection limits are reached: try later",
        _ => "",
    };
    match (code, message) {
        ("", "") => format!("status {status}{advice}"),
        (code, "") => format!("status {status}, {code}{advice}"),
        ("", message) => format!("status {status}: {message}{advice}"),
        (code, message) => format!("status {status}: {message} ({code}){advice}"),
    }
}
