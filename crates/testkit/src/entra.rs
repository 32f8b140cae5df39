//! The token endpoints of Entra, as far as client credentials need them: both versions, one tenant, one application.
//!
//! It stands in for `https://login.microsoftonline.com` in the stand-ins of the interfaces that ask for its tokens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actlog_core::{Clock, SystemClock};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::server::parameters;

/// Hands out tokens for one application of one tenant, and knows them again.
#[derive(Debug)]
pub struct Entra {
    tenant: String,
    client_id: String,
    secret: Mutex<String>,
    /// How long tokens are valid; in seconds.
    lifetime: AtomicU64,
    issued: AtomicU64,
    /// Token and audience, and until when it is valid.
    tokens: Mutex<HashMap<String, (String, Instant)>>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// There is none.
    Missing,
    /// It was never handed out, was revoked, or has expired.
    Invalid,
    /// It was handed out for another interface.
    Audience,
}

impl Entra {
    /// The endpoints of `tenant`, where the application `client_id` has that secret.
    pub fn new(tenant: &str, client_id: &str, secret: &str) -> Self {
        Self {
            tenant: tenant.to_owned(),
            client_id: client_id.to_owned(),
            secret: Mutex::new(secret.to_owned()),
            lifetime: AtomicU64::new(3599),
            issued: AtomicU64::new(0),
            tokens: Mutex::default(),
        }
    }

    /// Another secret is the right one from now on.
    pub fn change_secret(&self, secret: &str) {
        secret.clone_into(&mut self.secret.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Tokens handed out from now on are valid for so long.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.lifetime.store(lifetime.as_secs(), Ordering::Relaxed);
    }

    /// No token that was handed out so far is valid any more.
    pub fn revoke_all(&self) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many tokens were handed out.
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// Every token that is valid now: for tests that search outputs for them.
    pub fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Answers `POST` on a token endpoint; none where the path is none.
    pub fn answer(&self, path: &str, form: &[u8]) -> Option<(StatusCode, Value)> {
        let path = path.strip_prefix('/')?;
        let (tenant, is_v2) = match path.strip_suffix("/oauth2/v2.0/token") {
            Some(tenant) => (tenant, true),
            None => (path.strip_suffix("/oauth2/token")?, false),
        };
        let form = parameters(&String::from_utf8_lossy(form));
        Some(self.issue(tenant, is_v2, &form).unwrap_or_else(|(status, error, code, what)| {
            let description = format!("AADSTS{code}: {what}");
            (status, json!({ "error": error, "error_description": description, "error_codes": [code] }))
        }))
    }

    fn issue(&self, tenant: &str, is_v2: bool, form: &[(String, String)]) -> Result<(StatusCode, Value), Refusal> {
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let bad = |error, code, what| Err((StatusCode::BAD_REQUEST, error, code, what));
        if tenant != self.tenant {
            return bad("invalid_request", 90002, "Tenant not found. Check the tenant id.");
        }
        if field("grant_type") != Some("client_credentials") {
            return bad("unsupported_grant_type", 70003, "The grant type is not supported.");
        }
        if field("client_id") != Some(&self.client_id) {
            return bad("unauthorized_client", 700016, "Application was not found in the directory.");
        }
        match (field("client_secret"), field("client_assertion")) {
            (Some(secret), None) => {
                if secret != *self.secret.lock().unwrap_or_else(PoisonError::into_inner) {
                    let what = "Invalid client secret provided.";
                    return Err((StatusCode::UNAUTHORIZED, "invalid_client", 7_000_215, what));
                }
            }
            (None, Some(assertion)) => {
                let kind = field("client_assertion_type");
                if kind != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
                    return bad("invalid_request", 70002, "The client_assertion_type is not supported.");
                }
                let endpoint = if is_v2 { "/oauth2/v2.0/token" } else { "/oauth2/token" };
                if !self.is_ours(assertion, endpoint) {
                    let what = "Client assertion failed signature or claims validation.";
                    return Err((StatusCode::UNAUTHORIZED, "invalid_client", 700_027, what));
                }
            }
            _ => {
                let what = "The request body must contain 'client_assertion' or 'client_secret'.";
                return Err((StatusCode::UNAUTHORIZED, "invalid_client", 7_000_218, what));
            }
        }
        let audience = if is_v2 { field("scope").and_then(|s| s.strip_suffix("/.default")) } else { field("resource") };
        let Some(audience) = audience.map(|audience| audience.trim_end_matches('/')).filter(|a| !a.is_empty()) else {
            return bad("invalid_request", 900_144, "The request body must contain 'scope' or 'resource'.");
        };
        let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        let token = format!("stand-in-token-{number}-{}", uuid::Uuid::new_v4().simple());
        let seconds = self.lifetime.load(Ordering::Relaxed);
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(token.clone(), (audience.to_owned(), until));
        // The first version writes its numbers as texts.
        let answer = if is_v2 {
            json!({ "token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token })
        } else {
            let expires_in = seconds.to_string();
            json!({ "token_type": "Bearer", "expires_in": expires_in, "resource": audience, "access_token": token })
        };
        Ok((StatusCode::OK, answer))
    }

    /// Whether an assertion names a certificate and has the claims that Entra wants, for now and for this endpoint. Its
    /// signature can't be checked: the stand-in does not know the certificate.
    fn is_ours(&self, assertion: &str, endpoint: &str) -> bool {
        let mut parts = assertion.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap_or_default());
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let read = |json: &[u8]| serde_json::from_slice::<Value>(json).unwrap_or_default();
        let (header, claims) = (read(&header), read(&claims));
        let now = SystemClock.now().unix_milliseconds() / 1000;
        let names_certificate = header["x5t"].is_string() || header["x5t#S256"].is_string();
        let is_signed = ["RS256", "PS256"].iter().any(|algorithm| header["alg"] == *algorithm) && !signature.is_empty();
        let is_by_client = claims["iss"] == *self.client_id && claims["sub"] == *self.client_id;
        let audience = claims["aud"].as_str().unwrap_or_default();
        let is_for_us = audience.ends_with(&format!("/{}{endpoint}", self.tenant));
        let is_now = claims["nbf"].as_i64().is_none_or(|from| from <= now + 300)
            && claims["exp"].as_i64().is_some_and(|until| until > now);
        names_certificate && is_signed && is_by_client && is_for_us && is_now && claims["jti"].is_string()
    }

    /// Checks the `Authorization` header of a request to the interface `audience` (without a slash at its end).
    ///
    /// # Errors
    /// Why the request is to be refused.
    pub fn check(&self, authorization: Option<&str>, audience: &str) -> Result<(), TokenFault> {
        let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).ok_or(TokenFault::Missing)?;
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        match tokens.get(token) {
            Some((_, until)) if *until < Instant::now() => Err(TokenFault::Invalid),
            Some((intended, _)) if intended != audience => Err(TokenFault::Audience),
            Some(_) => Ok(()),
            None => Err(TokenFault::Invalid),
        }
    }
}

/// Status, OAuth's error, Entra's code, and what it says.
type Refusal = (StatusCode, &'static str, u32, &'static str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_needs_a_certificate_and_the_claims_of_this_application() {
        let entra = Entra::new("t", "app", "secret");
        let ask = |header: &Value, claims: &Value| {
            let parts = [header.to_string(), claims.to_string(), "signature".to_owned()];
            let assertion = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
            let form = format!(
                "grant_type=client_credentials&client_id=app&resource=http://x&client_assertion={assertion}\
                 &client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            );
            entra.answer("/t/oauth2/token", form.as_bytes()).unwrap().0
        };
        let header = json!({ "alg": "RS256", "typ": "JWT", "x5t": "abc" });
        let soon = SystemClock.now().unix_milliseconds() / 1000 + 600;
        let claims =
            json!({ "aud": "https://login/t/oauth2/token", "iss": "app", "sub": "app", "exp": soon, "jti": "1" });
        assert_eq!(ask(&header, &claims), StatusCode::OK);
        assert_eq!(ask(&json!({ "alg": "none", "x5t": "abc" }), &claims), StatusCode::UNAUTHORIZED);
        assert_eq!(ask(&json!({ "alg": "RS256" }), &claims), StatusCode::UNAUTHORIZED);
        for (claim, value) in
            [("aud", json!("https://login/u/oauth2/token")), ("iss", json!("other")), ("exp", json!(1))]
        {
            let mut claims = claims.clone();
            claims[claim] = value;
            assert_eq!(ask(&header, &claims), StatusCode::UNAUTHORIZED, "{claim}");
        }
    }

    #[test]
    fn tokens_are_for_the_right_application_and_one_interface() {
        let entra = Entra::new("t", "app", "s+e%c&ret");
        let ask = |path: &str, form: &str| entra.answer(path, form.as_bytes());
        let good = "grant_type=client_credentials&client_id=app&client_secret=s%2Be%25c%26ret";
        assert_eq!(ask("/t/other", good), None);
        let (status, answer) = ask("/t/oauth2/v2.0/token", &format!("{good}&scope=http://x/.default")).unwrap();
        assert_eq!((status, &answer["expires_in"]), (StatusCode::OK, &json!(3599)));
        let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
        assert_eq!(entra.check(Some(&bearer), "http://x"), Ok(()));
        assert_eq!(entra.check(Some(&bearer), "http://y"), Err(TokenFault::Audience));
        assert_eq!(entra.check(Some("Bearer x"), "http://x"), Err(TokenFault::Invalid));
        assert_eq!(entra.check(None, "http://x"), Err(TokenFault::Missing));
        entra.revoke_all();
        assert_eq!(entra.check(Some(&bearer), "http://x"), Err(TokenFault::Invalid));
        let (_, v1) = ask("/t/oauth2/token", &format!("{good}&resource=http://x/")).unwrap();
        assert_eq!(v1["expires_in"], "3599");
        for (path, form, code) in [
            ("/u/oauth2/token", good.to_owned(), 90002),
            ("/t/oauth2/token", good.replace("26ret", "26red"), 7_000_215),
            ("/t/oauth2/token", good.replace("app", "other"), 700_016),
            ("/t/oauth2/token", good.to_owned(), 900_144),
        ] {
            let (status, answer) = ask(path, &form).unwrap();
            assert!(status.is_client_error() && answer["error_codes"][0] == code, "{form}: {answer}");
        }
    }
}
