//! Why there is no token, in words that say what to do.

use std::time::Duration;

use actlog_core::ConfigError;
use serde::Deserialize;

use crate::client::{ClientError, Response};

/// Why there is no token. The texts hold neither secrets nor what the token endpoint wrote, but its error numbers.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The application's secret, certificate or key can't be read or used.
    #[error(transparent)]
    Credential(ConfigError),
    /// The token endpoint could not be asked.
    #[error("no token: {0}")]
    Client(#[from] ClientError),
    /// The token endpoint can't answer now.
    #[error("no token: the token endpoint answers with status {status}")]
    Unavailable {
        /// The HTTP status: 429 or 5xx.
        status: u16,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The token endpoint refuses this application.
    #[error("no token: {}", explain(*status, *code))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The number behind `AADSTS`, where there is one.
        code: Option<u32>,
    },
    /// The answer says that there is a token, and holds none.
    #[error("no token: the token endpoint's answer holds none")]
    Unusable,
}

impl TokenError {
    /// Whether trying again is in vain until somebody has done something. Trying again, slowly, is right all the same:
    /// what was done needs no restart.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Credential(_) | Self::Refused { .. })
    }

    /// From an answer that isn't a success.
    pub(super) fn refused(answer: &Response) -> Self {
        #[derive(Deserialize)]
        struct Failure<'a> {
            #[serde(default)]
            error_codes: Vec<u32>,
            #[serde(borrow, default)]
            error_description: std::borrow::Cow<'a, str>,
        }
        let status = answer.status.as_u16();
        let failure: Option<Failure<'_>> = answer.json().ok();
        let code = failure.and_then(|failure| {
            let described = || {
                let (_, rest) = failure.error_description.split_once("AADSTS")?;
                rest.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
            };
            failure.error_codes.first().copied().or_else(described)
        });
        // Some causes that pass by themselves are answered with 400: 50196 is a loop that Entra thinks it sees, 90033
        // and 90024 are its own troubles.
        if status == 429 || status == 408 || status >= 500 || matches!(code, Some(50196 | 90024 | 90033)) {
            return Self::Unavailable { status, retry_after: answer.retry_after() };
        }
        Self::Refused { status, code }
    }
}

/// What the numbers mean that an application can meet, as Microsoft's list of AADSTS error codes has them.
fn explain(status: u16, code: Option<u32>) -> String {
    let Some(code) = code else {
        return format!("the token endpoint refuses with status {status}; check authority, tenant and client_id");
    };
    let meaning = match code {
        7_000_215 => {
            "the client secret is wrong; configure the secret's value, which is shown once when it is made, not its id"
        }
        7_000_222 => "the client secret has expired; make a new one at the application's registration, and replace it",
        7_000_112 => "the application is disabled in this tenant; an administrator must enable it",
        700_016 => "the tenant does not know the application; check client_id, and that it is registered there",
        700_024 => "the certificate's proof is not valid at this time; set this machine's clock",
        700_027 => "the certificate is not registered for the application, or is not valid now; upload it there",
        90_002 => "there is no such tenant; check the tenant's id, and the authority of its cloud",
        900_023 => "the tenant is neither an id nor a domain of one; check it",
        50_034 => "the account does not exist in this tenant; check tenant and client_id",
        50_059 => "no tenant can be found for this; check tenant and authority",
        53_003 => {
            "a conditional access policy forbids this; an administrator must exclude the application or this address"
        }
        500_011 => "the tenant does not know the interface that the token is for; check its URL, and its cloud",
        1_002_012 => "the scope is not valid; check the URL of the interface",
        _ => "look the number up in Microsoft's list of AADSTS error codes",
    };
    format!("AADSTS{code}: {meaning}")
}
