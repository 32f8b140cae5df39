//! Tokens of Entra, or of another authorization server, for an application that signs in as itself: the client
//! credentials grant of OAuth 2.0.
//!
//! A [`TokenSource`] asks for a token when one is needed, keeps it until shortly before its end, and lets one request
//! at a time do the asking, however many wait. Secret, certificate and key are read from where they are each time a
//! token is asked for, so that a rotation needs no restart.

mod credential;
mod error;

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actlog_core::{Application, ConfigError, Secret, SecretReference};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use crate::client::{Client, Method, Request, Response};

pub use error::TokenError;

use credential::Credential;

/// Which of the two token endpoints is asked. Both give tokens for the same interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// `/oauth2/token`, which is told the resource.
    V1,
    /// `/oauth2/v2.0/token`, which is told the scope `<resource>/.default`.
    #[default]
    V2,
}

/// How long before its end a token is renewed; a token that doesn't live twice as long is renewed at half its life.
const RENEW_BEFORE_END: Duration = Duration::from_secs(5 * 60);

/// How long a token is kept that says nothing of its end.
const UNKNOWN_LIFE: Duration = Duration::from_secs(5 * 60);

/// No token is believed to live longer.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long the old token is used before a renewal that failed is tried again.
const RETRY_RENEWAL: Duration = Duration::from_secs(30);

/// Tokens for one interface, as one application in one tenant. Clones share them.
#[derive(Clone)]
pub struct TokenSource(Arc<Inner>);

struct Inner {
    client: Client,
    credential: Credential,
    url: String,
    /// What the token is for, as a pair of the form.
    target: Option<(&'static str, String)>,
    current: Mutex<Option<Token>>,
    /// Held by whoever asks for a token; the others wait for what it gets.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Token {
    secret: Secret,
    renew: Instant,
    end: Instant,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("url", &self.0.url).field("target", &self.0.target).finish_non_exhaustive()
    }
}

impl TokenSource {
    /// `tenant` is a tenant's id or one of its domains, `resource` the interface's URL, such as
    /// `https://manage.office.com`. Relative paths of the application are seen from `config_dir`.
    ///
    /// # Errors
    /// When the application's secret or certificate can't be read or used, at its key.
    pub fn new(
        client: Client,
        tenant: &str,
        application: &Application,
        endpoint: Endpoint,
        resource: &str,
        config_dir: &Path,
    ) -> Result<Self, ConfigError> {
        if tenant.is_empty() || !tenant.chars().all(|char| char.is_ascii_alphanumeric() || char == '-' || char == '.') {
            return Err(ConfigError::new("tenant", format!("{tenant:?} is neither a tenant's id nor a domain")));
        }
        let path = match endpoint {
            Endpoint::V1 => "oauth2/token",
            Endpoint::V2 => "oauth2/v2.0/token",
        };
        let url = format!("{}/{tenant}/{path}", application.authority.trim_end_matches('/'));
        if url::Url::parse(&url).is_err() {
            return Err(ConfigError::new("authority", format!("{:?} is not a URL", application.authority)));
        }
        let credential = Credential::new(application, config_dir)?;
        // What can't be read now is a mistake in the configuration.
        credential.form(&url)?;
        let resource = resource.trim_end_matches('/');
        let target = match endpoint {
            Endpoint::V1 => ("resource", resource.to_owned()),
            Endpoint::V2 => ("scope", format!("{resource}/.default")),
        };
        Ok(Self::asking(client, credential, url, Some(target)))
    }

    /// The same at any authorization server (RFC 6749, 4.4): its token endpoint, the client's id and secret, and the
    /// scopes with spaces between them. Relative paths are seen from `config_dir`.
    ///
    /// # Errors
    /// When the URL is none, or the secret can't be read, at its key.
    pub fn for_client(
        client: Client,
        token_url: &str,
        client_id: &str,
        secret: &SecretReference,
        scope: Option<&str>,
        config_dir: &Path,
    ) -> Result<Self, ConfigError> {
        if url::Url::parse(token_url).is_err() {
            return Err(ConfigError::new("token_url", "not a URL"));
        }
        let credential = Credential::of_client(client_id, secret, config_dir);
        credential.form(token_url)?;
        let target = scope.map(|scope| ("scope", scope.to_owned()));
        Ok(Self::asking(client, credential, token_url.to_owned(), target))
    }

    fn asking(client: Client, credential: Credential, url: String, target: Option<(&'static str, String)>) -> Self {
        let (current, asking) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { client, credential, url, target, current, asking }))
    }

    /// The token: the one at hand, or a new one when that nears its end. While the old one is still valid, a renewal
    /// that fails is an entry in the log and not an error.
    ///
    /// # Errors
    /// When there is no token, and none is given.
    pub async fn token(&self) -> Result<Secret, TokenError> {
        let is_fresh = |token: &Token| Instant::now() < token.renew;
        if let Some(token) = self.0.current().filter(is_fresh) {
            return Ok(token.secret);
        }
        let _asking = self.0.asking.lock().await;
        let at_hand = self.0.current();
        if let Some(token) = at_hand.clone().filter(is_fresh) {
            return Ok(token.secret);
        }
        let token = match (self.0.ask().await, at_hand) {
            (Ok(token), _) => token,
            (Err(error), Some(old)) if Instant::now() < old.end => {
                tracing::warn!(%error, "a token could not be renewed; the one at hand is still valid");
                Token { renew: Instant::now() + RETRY_RENEWAL, ..old }
            }
            (Err(error), _) => return Err(error),
        };
        let secret = token.secret.clone();
        *self.0.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(secret)
    }

    /// Gives up a token that the interface answered with 401: the next is a new one. When somebody else has done so
    /// already, the one that is at hand by now stays.
    pub fn forget(&self, refused: &Secret) {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.take_if(|token| token.secret == *refused);
    }
}

impl Inner {
    fn current(&self) -> Option<Token> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask(&self) -> Result<Token, TokenError> {
        let credential = self.credential.form(&self.url).map_err(TokenError::Credential)?;
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.target.iter().map(|(name, value)| (*name, value.as_str())));
        form.extend(credential.iter().map(|(name, value)| (*name, value.as_str())));
        let asked = Instant::now();
        let request = Request::new(Method::POST, &self.url).header("accept", "application/json").form(&form);
        let answer = self.client.send(request).await?;
        if answer.status.is_success() { token(&answer, asked) } else { Err(TokenError::refused(&answer)) }
    }
}

/// What both endpoints answer with; v1 writes numbers as strings.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    access_token: Cow<'a, str>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<Duration>,
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds<'a> {
        Number(u64),
        Text(#[serde(borrow)] Cow<'a, str>),
    }
    let seconds = match Option::<Seconds<'_>>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Seconds::Number(seconds)) => seconds,
        Some(Seconds::Text(text)) => {
            text.trim().parse().map_err(|_| serde::de::Error::custom("not a number of seconds"))?
        }
    };
    Ok(Some(Duration::from_secs(seconds)))
}

fn token(answer: &Response, asked: Instant) -> Result<Token, TokenError> {
    let answer: Answer<'_> = answer.json()?;
    if answer.access_token.is_empty() {
        return Err(TokenError::Unusable);
    }
    let life = answer.expires_in.unwrap_or(UNKNOWN_LIFE).min(LONGEST_LIFE);
    let secret = Secret::new(answer.access_token.as_bytes());
    Ok(Token { secret, renew: asked + renew_after(life), end: asked + life })
}

fn renew_after(life: Duration) -> Duration {
    life.saturating_sub(RENEW_BEFORE_END).max(life / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_before_they_end() {
        let after = |seconds| renew_after(Duration::from_secs(seconds)).as_secs();
        assert_eq!(after(3600), 3300);
        assert_eq!(after(600), 300);
        assert_eq!(after(60), 30);
        assert_eq!(after(0), 0);
    }

    #[test]
    fn the_life_of_a_token_comes_as_a_number_or_as_text() {
        let life = |json: &str| serde_json::from_str::<Answer<'_>>(json).map(|answer| answer.expires_in);
        let hour = Some(Duration::from_secs(3599));
        assert_eq!(life(r#"{"access_token":"t","expires_in":3599}"#).unwrap(), hour);
        assert_eq!(life(r#"{"expires_in":"3599","access_token":"t","ext_expires_in":1}"#).unwrap(), hour);
        assert_eq!(life(r#"{"access_token":"t"}"#).unwrap(), None);
        assert_eq!(life(r#"{"access_token":"t","expires_in":null}"#).unwrap(), None);
        assert!(life(r#"{"access_token":"t","expires_in":"soon"}"#).is_err());
        assert!(life(r#"{"access_token":"t","expires_in":-1}"#).is_err());
        assert!(life(r#"{"expires_in":3599}"#).is_err());
    }
}
