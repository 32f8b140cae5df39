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
    /// Reads secrets and certificates from files; relative paths are seen from `folder`.
    pub(crate) fn new(config: &HttpConfig, folder: &Path) -> Result<Self, ConfigError> {
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
        Ok(Self { client, headers, query, authorization, compression: config.compression(), secrets })
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

/// What a receiver echoes of our credentials goes no further than here, be it as it is or escaped.
fn blot<'s>(body: &mut Bytes, secrets: impl Iterator<Item = &'s Secret>) {
    for secret in secrets.map(Secret::expose).filter(|secret| secret.len() >= SHORTEST_BLOTTED) {
        let begins = memchr::memchr3_iter(secret[0], b'\\', b'%', body);
        let found: Vec<_> = begins.filter_map(|at| Some(at..at + length_of_echo(&body[at..], secret)?)).collect();
        if !found.is_empty() {
            let mut blotted = body.to_vec();
            for place in found {
                blotted[place].fill(b'*');
            }
            *body = blotted.into();
        }
    }
}

/// Bytes that the secret takes at the beginning of the text; none where it is not there. Each of its own bytes may be
/// escaped, as JSON has it (`\/`, `\u002b`) or a URL (`%2B`): some receivers do that with more than they need to.
fn length_of_echo(text: &[u8], secret: &[u8]) -> Option<usize> {
    secret.iter().try_fold(0, |at, byte| {
        let is_byte = |high: u8, low: u8| {
            let digit = |char: u8| char::from(char).to_digit(16);
            digit(high).zip(digit(low)).is_some_and(|(high, low)| high * 16 + low == u32::from(*byte))
        };
        let length = match text[at..] {
            [b'\\', b'u', b'0', b'0', high, low, ..] if is_byte(high, low) => 6,
            [b'\\', escaped, ..] if escaped == *byte => 2,
            [b'%', high, low, ..] if is_byte(high, low) => 3,
            [plain, ..] if plain == *byte => 1,
            _ => return None,
        };
        Some(at + length)
    })
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

    #[test]
    fn an_echo_is_blotted_out_however_it_is_escaped() {
        let secrets = [Secret::new(r"+can/ary=\")];
        for echo in [r"+can/ary=\", r"+can/ary=\\", r"\u002Bcan\/ary\u003d\\", "%2Bcan%2fary%3D%5C"] {
            let mut body = Bytes::from(format!("a {echo} b"));
            blot(&mut body, secrets.iter());
            assert_eq!(body, format!("a {} b", "*".repeat(echo.len())));
        }
        let mut other = Bytes::from_static(b"%+can/ary b% \\u002 +can/ary=");
        blot(&mut other, secrets.iter());
        assert_eq!(&other[..], b"%+can/ary b% \\u002 +can/ary=");
    }
}
