//! Who may ask: registered clients, the tokens that they get, and what a token says.
//!
//! | file | is |
//! |---|---|
//! | `clients`, `register` | the clients file, and how a change of it is seen |
//! | `secret_hash`, `certificate` | what a client proves its identity with, as it is stored |
//! | `form`, `assertion`, `guesses`, `refusal` | the token endpoints: request, proof by certificate, slow guessing, errors |
//! | `jwt`, `keys`, `tokens` | access tokens |
//! | `discovery` | what libraries ask for before they ask for a token |
//! | `command` | `actlog clients` |
//!
//! Invariants:
//! - No token is given without a proof that the clients file knows, and none is taken whose client it doesn't know now.
//! - A secret is compared by its hash, by two at most at once, and by who was wrong often ever more slowly.
//! - No secret, assertion, hash, token or private key is in a log, an error, or `Debug`.

mod assertion;
mod certificate;
mod clients;
mod command;
mod discovery;
mod form;
mod guesses;
mod jwt;
mod keys;
mod refusal;
mod register;
mod secret_hash;
mod tokens;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actlog_core::{BuildContext, BuildError, Clock, Secret};
use actlog_http::{Head, Response, json};
use actlog_office::Cloud;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, HOST, HeaderValue, PRAGMA, WWW_AUTHENTICATE};
use ring::hmac;
use ring::rand::SystemRandom;
use serde::Serialize;
use tokio::sync::Semaphore;
use uuid::Uuid;

pub(crate) use actlog_http::oauth::Endpoint;

use crate::config::{Config, TenantConfig};
use assertion::Used;
use clients::{Client, StoredSecret, is_current};
use form::{Form, Proof};
use guesses::Guesses;
use keys::Keys;
use refusal::Refusal;
use register::Register;
use secret_hash::SecretHash;
use tokens::ProvedBy;

/// The interface's application id in Entra, which some clients name in place of its URL.
const APPLICATION_ID: &str = "c5393580-f805-4401-95e8-94b7a6ef2fc2";
/// Secrets that are hashed at once.
const HASHING_AT_ONCE: usize = 2;
/// How long a client may wait for its turn.
const HASHING_PATIENCE: Duration = Duration::from_secs(10);

/// What a client may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    /// `ActivityFeed.Read`: every content type but DLP.All.
    pub(crate) read: bool,
    /// `ActivityFeed.ReadDlp`: DLP.All.
    pub(crate) read_dlp: bool,
}

/// The names, one after the other, as error AF10001 has them.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.read, self.read_dlp) {
            (false, false) => "",
            (true, false) => "ActivityFeed.Read",
            (false, true) => "ActivityFeed.ReadDlp",
            (true, true) => "ActivityFeed.Read ActivityFeed.ReadDlp",
        })
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The tenant whose feed the token is for.
    pub(crate) tenant: Uuid,
    /// The client.
    pub(crate) client: Uuid,
    /// What it may read.
    pub(crate) roles: Roles,
}

/// A request without a token that is valid here. The reason is in the log, and not for who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denied;

impl Denied {
    /// The answer, in the form that the service's framework has.
    pub(crate) fn response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            #[serde(rename = "Message")]
            message: &'static str,
        }
        let body = Body { message: "Authorization has been denied for this request." };
        let mut response = json(StatusCode::UNAUTHORIZED, &body);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }
}

/// Clients, keys and tokens. Clones share them.
#[derive(Clone)]
pub(crate) struct Auth(Arc<Inner>);

struct Inner {
    clients: Register,
    keys: Keys,
    clock: Arc<dyn Clock>,
    tenants: Vec<TenantConfig>,
    /// What the interface is reached under, besides the host of a request.
    public_base: Option<String>,
    lifetime: Duration,
    used: Used,
    guesses: Guesses,
    hashing: Arc<Semaphore>,
    /// For each client the secret that was right before, keyed and hashed: it needn't be hashed slowly once more.
    known: Mutex<HashMap<(Uuid, Uuid), hmac::Tag>>,
    known_key: hmac::Key,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("clients", &self.0.clients).finish_non_exhaustive()
    }
}

impl Auth {
    /// Reads the clients file and the keys. A clients file that can't be used registers nobody; see [`Auth::problem`].
    /// Blocks.
    ///
    /// # Errors
    /// When the configuration names no tenant, or the file of keys can't be used.
    pub(crate) fn open(config: &Config, cx: &BuildContext) -> Result<Self, BuildError> {
        let path = cx.data_dir.join("sinks").join(&*cx.name).join("keys.json");
        let (storage, clock) = (Arc::clone(&cx.storage), Arc::clone(&cx.clock));
        let lifetime = config.token_lifetime.0;
        let keys = Keys::open(path.clone(), storage, clock, config.key_rotation.0, lifetime)
            .map_err(|error| BuildError::File { path: path.display().to_string(), error })?;
        let known_key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| BuildError::Other("the operating system gives no random numbers".to_owned()))?;
        Ok(Self(Arc::new(Inner {
            clients: Register::open(cx.config_dir.join(&config.clients)),
            keys,
            clock: Arc::clone(&cx.clock),
            tenants: config.tenants(&cx.organizations)?,
            public_base: config.public_base()?,
            lifetime,
            used: Used::default(),
            guesses: Guesses::default(),
            hashing: Arc::new(Semaphore::new(HASHING_AT_ONCE)),
            known: Mutex::default(),
            known_key,
        })))
    }

    /// What is wrong with the clients file, for the sink's health.
    pub(crate) fn problem(&self) -> Option<String> {
        self.0.clients.problem()
    }

    /// Whether the client is registered at this moment.
    pub(crate) fn is_registered(&self, tenant: Uuid, client: Uuid) -> bool {
        self.0.clients.clients().get(tenant, client).is_some()
    }

    /// Who a request's bearer token says that it is. Looks at the clients file's metadata, and reads it when it has
    /// changed; else nothing of it waits for anything.
    ///
    /// # Errors
    /// When there is no token, or it is not valid here and now.
    pub(crate) fn authorize(&self, head: &Head) -> Result<Caller, Denied> {
        use tokens::Refused;
        let now = self.0.clock.now();
        let verified = bearer(head).ok_or(Refused::Missing).and_then(|token| {
            let is_ours = |audience: &str| self.0.is_audience(audience, head);
            tokens::verify(token, &self.0.keys, &self.0.clients.clients(), now, is_ours)
        });
        verified.map_err(|reason| {
            let from = head.client();
            match reason {
                Refused::Missing | Refused::Expired => tracing::info!(%from, %reason, "a token is refused"),
                _ => tracing::warn!(%from, %reason, "a token is refused"),
            }
            Denied
        })
    }

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
                self.0
                    .used
                    .verify(assertion, client, self.0.clock.now(), is_endpoint)
                    .map_err(Refusal::assertion)?;
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
        let refuse_guesser = || self.0.guesses.wait(id, from).map_or(Ok(()), |wait| Err(Refusal::busy(wait)));
        refuse_guesser()?;
        let turn = tokio::time::timeout(HASHING_PATIENCE, Arc::clone(&self.0.hashing).acquire_owned());
        let Ok(Ok(turn)) = turn.await else { return Err(Refusal::busy(HASHING_PATIENCE)) };
        // The guesses of those before may have come to an end meanwhile.
        refuse_guesser()?;
        let (inner, owned) = (Arc::clone(&self.0), client.cloned());
        let compared = tokio::task::spawn_blocking(move || {
            let _turn = turn;
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
            let (client, (stored, secret)) = (owned.as_ref()?, found?);
            let is_valid = is_current(stored.expires, inner.clock.now());
            if is_valid {
                inner.remember(client, stored, secret);
            }
            Some(is_valid)
        });
        match (compared.await, client) {
            (Ok(Some(true)), _) => {
                self.0.guesses.forget(id, from);
                Ok(())
            }
            (Ok(Some(false)), _) => Err(Refusal::expired_secret(id)),
            (Ok(None), known) => {
                self.0.guesses.note(id, from);
                Err(known.map_or_else(|| Refusal::unknown_client(&id.to_string()), |_| Refusal::wrong_secret(id)))
            }
            (Err(_), _) => Err(Refusal::internal()),
        }
    }

    /// The OpenID configuration of a tenant; `base` is what its URLs begin with.
    pub(crate) fn openid_configuration(&self, endpoint: Endpoint, tenant: &str, base: &str) -> Response {
        match self.0.tenant(tenant) {
            Ok(found) => discovery::openid_configuration(endpoint, tenant, found.id, base),
            Err(refusal) => refusal.response(None, self.0.clock.now()),
        }
    }

    /// The keys that tokens are signed with, as a set of JSON Web Keys.
    pub(crate) fn keys(&self) -> Response {
        discovery::keys(&self.0.keys.public())
    }

    /// Which hosts are the authority's, and where the configuration of the tenant is whose `authorization_endpoint` the
    /// query names.
    pub(crate) fn instances(&self, base: &str, head: &Head) -> Response {
        let asked = head.query_pairs().find(|pair| pair.name == "authorization_endpoint");
        let tenant = asked.and_then(|pair| Some(pair.value.split_once("://")?.1.split('/').nth(1)?.to_owned()));
        match self.0.tenant(tenant.as_deref().unwrap_or_default()) {
            Ok(tenant) => discovery::instances(base, tenant.id),
            Err(refusal) => refusal.response(None, self.0.clock.now()),
        }
    }
}

impl Inner {
    /// The tenant that a path means, by its id or one of its domains.
    fn tenant(&self, name: &str) -> Result<&TenantConfig, Refusal> {
        let id = Uuid::try_parse(name).ok();
        let is_meant = |tenant: &&TenantConfig| {
            id == Some(tenant.id) || tenant.domains.iter().any(|domain| domain.eq_ignore_ascii_case(name))
        };
        self.tenants.iter().find(is_meant).ok_or_else(|| {
            let is_label = |label: &str| {
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            let is_domain = name.contains('.') && name.len() <= 253 && name.split('.').all(is_label);
            if id.is_some() || is_domain { Refusal::unknown_tenant(name) } else { Refusal::invalid_tenant(name) }
        })
    }

    /// Whether a token for that audience is one for this interface: Microsoft's URLs for it in all clouds, its
    /// application id, and what it is reached under here.
    fn is_audience(&self, audience: &str, head: &Head) -> bool {
        let is = |known: &str| audience.eq_ignore_ascii_case(known);
        is(APPLICATION_ID)
            || Cloud::ALL.iter().any(|cloud| is(cloud.base_url()))
            || self.public_base.as_deref().is_some_and(is)
            || here(head).iter().any(|base| is(base))
    }

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

/// What the client's URL may have begun with, by the header `Host`.
fn here(head: &Head) -> Vec<String> {
    let Some(host) = head.header(HOST) else { return Vec::new() };
    let default = |port| host.strip_suffix(port).unwrap_or(host);
    vec![format!("https://{}", default(":443")), format!("http://{}", default(":80"))]
}

/// The one bearer token of a request.
fn bearer(head: &Head) -> Option<&str> {
    let mut values = head.headers().get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}
