//! The token endpoints: from a request to a token, or to a refusal.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use actlog_core::Secret;
use actlog_http::{Head, Response, json};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue, PRAGMA};
use ring::hmac;
use serde::Serialize;
use uuid::Uuid;

use super::clients::{Client, StoredSecret, is_current};
use super::form::{Form, Proof};
use super::refusal::Refusal;
use super::secret_hash::SecretHash;
use super::tokens::{self, ProvedBy};
use super::{Auth, Endpoint, Inner, here};
use crate::config::TenantConfig;

/// How long a client may wait until its secret is looked at.
const HASHING_PATIENCE: Duration = Duration::from_secs(10);

impl Auth {
    /// Answers a token request. `tenant` is what the path has in its place, `base` what the client's URL began with:
    /// `https://login.microsoftonline.com`.
    pub(crate) async fn token(
        &self,
        endpoint: Endpoint,
        tenant: &str,
        base: &str,
        head: &Head,
        body: &[u8],
    ) -> Response {
        let mut response = match self.grant(endpoint, tenant, base, head, body).await {
            Ok(response) => response,
            Err(refusal) => {
                tracing::warn!(from = %head.client(), code = refusal.code(), "no token is given");
                let correlation_id = head.header("client-request-id").and_then(|id| Uuid::try_parse(id).ok());
                refusal.response(correlation_id, self.0.clock.now())
            }
        };
        for (name, value) in [(CACHE_CONTROL, "no-store, no-cache"), (PRAGMA, "no-cache")] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    async fn grant(
        &self,
        endpoint: Endpoint,
        tenant_name: &str,
        base: &str,
        head: &Head,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let tenant = self.0.tenant(tenant_name)?;
        let Form { client_id, proof, resource } = Form::read(endpoint, head, body)?;
        if !self.0.is_audience(&resource, head) {
            return Err(Refusal::unknown_resource(endpoint, &resource));
        }
        let id = Uuid::try_parse(&client_id).map_err(|_| Refusal::unknown_client(&client_id))?;
        let clients = self.0.clients.clients();
        let client = clients.get(tenant.id, id);
        let proved_by = match proof {
            Proof::Secret(secrets) => {
                self.check_secret(client, id, secrets, head.client()).await?;
                ProvedBy::Secret
            }
            Proof::Assertion(assertion) => {
                let client = client.ok_or_else(|| Refusal::unknown_client(&client_id))?;
                let is_endpoint = |audience: &str| self.0.is_token_endpoint(audience, tenant, tenant_name, base, head);
                let assertion = std::str::from_utf8(assertion.expose()).unwrap_or_default();
                self.0.used.verify(assertion, client, self.0.clock.now(), is_endpoint).map_err(Refusal::assertion)?;
                ProvedBy::Certificate
            }
        };
        let client = client.ok_or_else(|| Refusal::unknown_client(&client_id))?.clone();
        // A new key is written to disk before it signs.
        let (inner, audience) = (Arc::clone(&self.0), resource.clone());
        let issued = tokio::task::spawn_blocking(move || {
            let key = inner.keys.signing()?;
            tokens::issue(&key, &client, &audience, proved_by, inner.clock.now(), inner.lifetime)
        });
        let failed = |error: &dyn fmt::Display| {
            tracing::error!(%error, "a token could not be made");
            Refusal::internal()
        };
        let issued = issued.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        tracing::info!(tenant = %tenant.id, client = %id, from = %head.client(), ?proved_by, "a token is given");
        Ok(self.0.granted(endpoint, &resource, &issued))
    }

    /// Compares a secret with those of the client. An unknown client costs as much as a wrong secret.
    async fn check_secret(
        &self,
        client: Option<&Client>,
        id: Uuid,
        tried: Vec<Secret>,
        from: IpAddr,
    ) -> Result<(), Refusal> {
        if client.is_some_and(|client| self.0.is_known(client, &tried)) {
            return Ok(());
        }
        // Whoever tries one unknown id after the other guesses as well.
        let guessed = client.map_or(Uuid::nil(), |client| client.client);
        let refuse_guesser = || self.0.guesses.wait(guessed, from).map_or(Ok(()), |wait| Err(Refusal::busy(wait)));
        refuse_guesser()?;
        let turn = tokio::time::timeout(HASHING_PATIENCE, Arc::clone(&self.0.hashing).acquire_owned());
        let Ok(Ok(turn)) = turn.await else { return Err(Refusal::busy(HASHING_PATIENCE)) };
        // The guesses of those before may have come to an end meanwhile.
        refuse_guesser()?;
        let (inner, owned) = (Arc::clone(&self.0), client.cloned());
        let compared = tokio::task::spawn_blocking(move || {
            let found = match &owned {
                Some(client) => find_secret(client, &tried, |stored, secret| stored.hash.matches(secret)),
                None => {
                    let nothing = SecretHash::of_nothing();
                    for secret in &tried {
                        std::hint::black_box(nothing.matches(secret.expose()));
                    }
                    None
                }
            };
            let is_valid = owned.as_ref().zip(found).map(|(client, (stored, secret))| {
                let is_valid = is_current(stored.expires, inner.clock.now());
                if is_valid {
                    inner.remember(client, stored, secret);
                }
                is_valid
            });
            (turn, is_valid)
        });
        // The turn is given up when it is noted what came of it.
        let Ok((_turn, is_valid)) = compared.await else { return Err(Refusal::internal()) };
        match (is_valid, client) {
            (Some(true), _) => {
                self.0.guesses.forget(guessed, from);
                Ok(())
            }
            (Some(false), _) => Err(Refusal::expired_secret(id)),
            (None, known) => {
                self.0.guesses.note(guessed, from);
                Err(known.map_or_else(|| Refusal::unknown_client(&id.to_string()), |_| Refusal::wrong_secret(id)))
            }
        }
    }
}

impl Inner {
    /// Whether an assertion's audience is the token endpoint that it came to, in any of the spellings of its tenant.
    fn is_token_endpoint(&self, audience: &str, tenant: &TenantConfig, name: &str, base: &str, head: &Head) -> bool {
        let audience = audience.split('?').next().unwrap_or_default().to_ascii_lowercase();
        let id = tenant.id.to_string();
        let mut names = tenant.domains.iter().map(String::as_str).chain([name, &id]);
        let bases = here(head);
        let bases = || bases.iter().map(String::as_str).chain([base]);
        names.any(|name| {
            bases().any(|base| {
                let endpoint = audience.strip_prefix(&format!("{base}/{name}/oauth2/").to_ascii_lowercase());
                matches!(endpoint, Some("token" | "v2.0/token"))
            })
        })
    }

    fn granted(&self, endpoint: Endpoint, resource: &str, issued: &tokens::Issued) -> Response {
        #[derive(Serialize)]
        struct V1<'a> {
            token_type: &'static str,
            expires_in: String,
            ext_expires_in: String,
            expires_on: String,
            not_before: String,
            resource: &'a str,
            access_token: &'a str,
        }
        #[derive(Serialize)]
        struct V2<'a> {
            token_type: &'static str,
            expires_in: u64,
            ext_expires_in: u64,
            access_token: &'a str,
        }
        let (token_type, expires_in, access_token) = ("Bearer", self.lifetime.as_secs(), issued.token.as_str());
        match endpoint {
            Endpoint::V1 => json(
                StatusCode::OK,
                &V1 {
                    token_type,
                    expires_in: expires_in.to_string(),
                    ext_expires_in: expires_in.to_string(),
                    expires_on: issued.expires.to_string(),
                    not_before: issued.not_before.to_string(),
                    resource,
                    access_token,
                },
            ),
            Endpoint::V2 => {
                json(StatusCode::OK, &V2 { token_type, expires_in, ext_expires_in: expires_in, access_token })
            }
        }
    }

    /// Whether this very secret was right before, and would be again.
    fn is_known(&self, client: &Client, tried: &[Secret]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tag) = known.get(&(client.tenant, client.client)) else { return false };
        let now = self.clock.now();
        let is_it = |stored: &StoredSecret, secret: &[u8]| {
            is_current(stored.expires, now)
                && hmac::verify(&self.known_key, &remembered(stored, secret), tag.as_ref()).is_ok()
        };
        find_secret(client, tried, is_it).is_some()
    }

    fn remember(&self, client: &Client, stored: &StoredSecret, secret: &Secret) {
        let tag = hmac::sign(&self.known_key, &remembered(stored, secret.expose()));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = self.clients.clients();
        known.retain(|(tenant, client), _| clients.get(*tenant, *client).is_some());
        known.insert((client.tenant, client.client), tag);
    }
}

/// A stored secret that one of the tried ones is, by that comparison. Every pair is compared.
fn find_secret<'a>(
    client: &'a Client,
    tried: &'a [Secret],
    mut is_it: impl FnMut(&StoredSecret, &[u8]) -> bool,
) -> Option<(&'a StoredSecret, &'a Secret)> {
    let pairs = client.secrets.iter().flat_map(|stored| tried.iter().map(move |secret| (stored, secret)));
    // The last that fits: where one has expired, the one that was added later counts.
    pairs.filter(|(stored, secret)| is_it(stored, secret.expose())).last()
}

/// What is remembered of a secret that was right: it goes with the stored hash, so that a changed file forgets it.
fn remembered(stored: &StoredSecret, secret: &[u8]) -> Vec<u8> {
    [stored.hash.to_string().as_bytes(), &[0], secret].concat()
}
