//! The way to the receiver: addresses, headers, credentials.

use std::path::Path;

use actlog_core::{ConfigError, Secret};
use actlog_http::client::{Client, Method, Request, StatusCode};
use actlog_http::oauth::{Endpoint, TokenSource};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use url::Url;

use crate::config::{Auth, Compression, HttpConfig};
use crate::verdict::{Answer, Verdict};

/// What the token is for where `azure-logs` says nothing else.
const AZURE_RESOURCE: &str = "https://monitor.azure.com";

/// Shorter secrets would blot out what is none.
const SHORTEST_BLOTTED: usize = 6;

/// Sends requests with what the configuration adds to them.
pub(crate) struct Link {
    client: Client,
    headers: Vec<(String, Secret)>,
    /// Secrets behind the `?` of each URL.
    query: Vec<(String, Secret)>,
    authorization: Authorization,
    compression: Compression,
    /// What no answer may carry on into a log or a dead letter.
    secrets: Vec<Secret>,
}

enum Authorization {
    None,
    Fixed(Secret),
    Tokens(TokenSource),
}

/// A request's body, as it is sent.
#[derive(Clone)]
pub(crate) struct Payload {
    pub(crate) content_type: &'static str,
    pub(crate) bytes: Bytes,
}

impl Link {
    /// Reads secrets and certificates; relative paths are seen from `folder`.
    pub(crate) fn new(config: &HttpConfig, compression: Compression, folder: &Path) -> Result<Self, ConfigError> {
        let client = Client::new(&config.client, folder).map_err(|error| error.within("client"))?;
        let mut secrets = Vec::new();
        let mut load = |table: &std::collections::BTreeMap<String, crate::value::Value>, key: &str| {
            let mut loaded = Vec::new();
            for (name, value) in table {
                let (value, is_secret) = value.load(folder).map_err(|error| error.within(&format!("{key}.{name}")))?;
                if is_secret {
                    secrets.push(value.clone());
                }
                loaded.push((name.clone(), value));
            }
            Ok::<_, ConfigError>(loaded)
        };
        let (headers, query) = (load(&config.headers, "headers")?, load(&config.query, "query")?);
        let authorization = match &config.auth {
            None => Authorization::None,
            Some(auth) => authorization(auth, &client, &mut secrets, folder).map_err(|error| error.within("auth"))?,
        };
        Ok(Self { client, headers, query, authorization, compression, secrets })
    }

    /// Posts a body that is compressed as configured.
    pub(crate) async fn post(&self, url: &Url, payload: &Payload, extra: &[(&str, &str)]) -> Result<Answer, Verdict> {
        let coding = match self.compression {
            Compression::None => None,
            Compression::Gzip => Some(("content-encoding", "gzip")),
            Compression::Zstd => Some(("content-encoding", "zstd")),
        };
        let all: Vec<_> = coding.into_iter().chain(extra.iter().copied()).collect();
        self.send(Method::POST, url, Some(payload), &all).await
    }

    /// Sends a request. A token that is refused is replaced by a new one, once.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        payload: Option<&Payload>,
        extra: &[(&str, &str)],
    ) -> Result<Answer, Verdict> {
        let mut is_renewed = false;
        loop {
            let mut request = Request::new(method.clone(), self.complete(url));
            if let Some(payload) = payload {
                request = request.header("content-type", payload.content_type).body(payload.bytes.clone());
            }
            for (name, value) in extra {
                request = request.header(name, value);
            }
            for (name, value) in &self.headers {
                request = request.header(name, value.expose());
            }
            let mut used = None;
            match &self.authorization {
                Authorization::None => {}
                Authorization::Fixed(value) => request = request.header("authorization", value.expose()),
                Authorization::Tokens(tokens) => {
                    let token = tokens.token().await?;
                    request = request.bearer(&token);
                    used = Some((tokens, token));
                }
            }
            let mut answer = Answer::from(self.client.send(request).await?);
            if answer.status == StatusCode::UNAUTHORIZED
                && let Some((tokens, token)) = &used
            {
                tokens.forget(token);
                if !std::mem::replace(&mut is_renewed, true) {
                    continue;
                }
            }
            let token = used.as_ref().map(|(_, token)| token);
            blot(&mut answer.body, self.secrets.iter().chain(token));
            return Ok(answer);
        }
    }

    /// The URL with the configured parameters.
    fn complete(&self, url: &Url) -> Url {
        let mut url = url.clone();
        if !self.query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in &self.query {
                pairs.append_pair(name, &String::from_utf8_lossy(value.expose()));
            }
        }
        url
    }
}

fn authorization(
    auth: &Auth,
    client: &Client,
    secrets: &mut Vec<Secret>,
    folder: &Path,
) -> Result<Authorization, ConfigError> {
    let mut fixed = |scheme: &str, reference: &actlog_core::SecretReference| {
        let secret = reference.load(folder)?;
        let value = Secret::new([scheme.as_bytes(), b" ", secret.expose()].concat());
        secrets.push(secret);
        Ok::<_, ConfigError>(Authorization::Fixed(value))
    };
    match auth {
        Auth::Bearer(token) => fixed("Bearer", token).map_err(|error| error.within("bearer")),
        Auth::Splunk(token) => fixed("Splunk", token).map_err(|error| error.within("splunk")),
        Auth::ApiKey(key) => fixed("ApiKey", key).map_err(|error| error.within("api_key")),
        Auth::Basic(basic) => {
            let password = basic.password.load(folder).map_err(|error| error.within("basic.password"))?;
            let encoded = STANDARD.encode([basic.user.as_bytes(), b":", password.expose()].concat());
            let value = Secret::new(format!("Basic {encoded}"));
            secrets.extend([password, Secret::new(encoded)]);
            Ok(Authorization::Fixed(value))
        }
        Auth::OAuth2(oauth2) => {
            let (url, id, scope) = (&oauth2.token_url, &oauth2.client_id, oauth2.scope.as_deref());
            let tokens = TokenSource::for_client(client.clone(), url, id, &oauth2.secret, scope, folder);
            tokens.map(Authorization::Tokens).map_err(|error| error.within("oauth2"))
        }
        Auth::Entra(entra) => {
            let resource = entra.resource.as_deref().unwrap_or(AZURE_RESOURCE);
            let (tenant, application) = (&entra.tenant, &entra.application);
            let tokens = TokenSource::new(client.clone(), tenant, application, Endpoint::V2, resource, folder);
            tokens.map(Authorization::Tokens).map_err(|error| error.within("entra"))
        }
    }
}

/// What a receiver echoes of our credentials goes no further than here.
fn blot<'s>(body: &mut Bytes, secrets: impl Iterator<Item = &'s Secret>) {
    for secret in secrets.filter(|secret| secret.expose().len() >= SHORTEST_BLOTTED) {
        let found: Vec<usize> = memchr::memmem::find_iter(body, secret.expose()).collect();
        if !found.is_empty() {
            let mut blotted = body.to_vec();
            for at in found {
                blotted[at..at + secret.expose().len()].fill(b'*');
            }
            *body = blotted.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_echoes_of_our_credentials_is_blotted_out() {
        let secrets = [Secret::new("canary-1"), Secret::new("canary-22"), Secret::new("ok")];
        let mut body = Bytes::from_static(b"{\"text\":\"ok: canary-1 canary-22 canary-1\"}");
        blot(&mut body, secrets.iter());
        assert_eq!(&body[..], b"{\"text\":\"ok: ******** ********* ********\"}");
    }
}
