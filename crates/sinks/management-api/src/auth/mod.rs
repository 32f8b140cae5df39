//! Who may ask: registered clients, the tokens that they get, and what a token says.
//!
//! | file | is |
//! |---|---|
//! | `clients`, `register` | the clients file, and how a change of it is seen |
//! | `secret_hash`, `certificate` | what a client proves its identity with, as it is stored |
//! | `grant`, `form`, `assertion`, `guesses`, `refusal` | the token endpoints: request, proof by certificate, slow guessing, errors |
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
mod grant;
mod guesses;
mod jwt;
mod keys;
mod refusal;
mod register;
mod secret_hash;
mod tokens;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actlog_core::{BuildContext, BuildError, Clock};
use actlog_http::{Head, Response, json};
use actlog_office::Cloud;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, WWW_AUTHENTICATE};
use ring::hmac;
use ring::rand::SystemRandom;
use serde::Serialize;
use tokio::sync::Semaphore;
use uuid::Uuid;

pub(crate) use actlog_http::oauth::Endpoint;
#[cfg(test)]
pub(crate) use clients::Clients;
pub(crate) use register::read as registered;

use crate::config::{Config, TenantConfig};
use assertion::Used;
use guesses::Guesses;
use keys::Keys;
use refusal::Refusal;
use register::Register;

/// The interface's application id in Entra, which some clients name in place of its URL.
const APPLICATION_ID: &str = "c5393580-f805-4401-95e8-94b7a6ef2fc2";
/// Secrets that are hashed at once.
const HASHING_AT_ONCE: usize = 2;

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
