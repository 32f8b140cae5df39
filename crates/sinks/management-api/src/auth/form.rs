//! A token request: what the form and the header `Authorization` say.

use std::borrow::Cow;

use actlog_core::Secret;
use actlog_http::Head;
use actlog_http::oauth::Endpoint;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::AUTHORIZATION;

use super::assertion::ASSERTION_TYPE;
use super::refusal::Refusal;

/// What a client proves its identity with.
#[derive(Debug)]
pub(super) enum Proof {
    /// Spellings of one secret: clients don't agree on whether it is to be encoded.
    Secret(Vec<Secret>),
    Assertion(Secret),
}

/// A token request for this interface.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) client_id: String,
    pub(super) proof: Proof,
    /// The resource that the token is to be for, without a slash at its end.
    pub(super) resource: String,
}

impl Form {
    /// Reads a request. Parameters that are not known are passed over.
    ///
    /// # Errors
    /// As Entra answers what it can't read.
    pub(super) fn read(endpoint: Endpoint, head: &Head, body: &[u8]) -> Result<Self, Refusal> {
        let pairs = Pairs::of(body);
        let grant = pairs.get("grant_type")?.ok_or_else(|| Refusal::missing_parameter(endpoint, "grant_type"))?;
        if grant.decoded != "client_credentials" {
            return Err(Refusal::unsupported_grant());
        }
        let target = match endpoint {
            Endpoint::V1 => "resource",
            Endpoint::V2 => "scope",
        };
        let basic = Basic::of(head);
        let client_id = match (pairs.get("client_id")?, &basic) {
            (Some(pair), _) => pair.decoded.trim().to_owned(),
            (None, Some(basic)) => basic.client_id.clone(),
            (None, None) => return Err(Refusal::missing_parameter(endpoint, "client_id")),
        };
        let asked = pairs.get(target)?.ok_or_else(|| Refusal::missing_parameter(endpoint, target))?;
        let asked = asked.decoded.trim();
        let resource = match endpoint {
            Endpoint::V1 => asked,
            Endpoint::V2 => {
                asked.strip_suffix("/.default").ok_or_else(|| Refusal::unknown_resource(endpoint, asked))?
            }
        };
        let proof = match (pairs.get("client_assertion")?, pairs.get("client_secret")?, basic) {
            (Some(assertion), ..) => {
                let kind = pairs.get("client_assertion_type")?;
                if kind.is_none_or(|kind| kind.decoded != ASSERTION_TYPE) {
                    return Err(Refusal::assertion_type());
                }
                Proof::Assertion(Secret::new(assertion.decoded.as_bytes()))
            }
            (None, Some(secret), _) => Proof::Secret(spellings(&secret.decoded, secret.raw)),
            (None, None, Some(basic)) => Proof::Secret(basic.secrets),
            (None, None, None) => return Err(Refusal::missing_proof()),
        };
        Ok(Self { client_id, proof, resource: resource.trim_end_matches('/').to_owned() })
    }
}

/// The decoded secret, and the one that was sent where that differs: some clients don't encode it.
fn spellings(decoded: &str, raw: &str) -> Vec<Secret> {
    let mut secrets = vec![Secret::new(decoded)];
    if raw != decoded {
        secrets.push(Secret::new(raw));
    }
    secrets
}

/// Client id and secret in the header `Authorization` (RFC 6749, 2.3.1).
struct Basic {
    client_id: String,
    secrets: Vec<Secret>,
}

impl Basic {
    fn of(head: &Head) -> Option<Self> {
        let (scheme, value) = head.header(AUTHORIZATION)?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
        let (client_id, secret) = text.split_once(':')?;
        let decode = |text: &str| decoded(text).into_owned();
        Some(Self { client_id: decode(client_id), secrets: spellings(&decode(secret), secret) })
    }
}

/// The pairs of a form. It holds secrets: there is no `Debug`.
struct Pairs<'a>(Vec<(Cow<'a, str>, Pair<'a>)>);

#[derive(Clone)]
struct Pair<'a> {
    decoded: Cow<'a, str>,
    raw: &'a str,
}

impl<'a> Pairs<'a> {
    /// Reads a form; what is not UTF-8 has no pairs.
    fn of(body: &'a [u8]) -> Self {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let pairs = text.trim_ascii_end().split('&').map(|pair| {
            let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), Pair { decoded: decoded(raw), raw })
        });
        Self(pairs.collect())
    }

    /// The value of that name; none where it is empty.
    fn get(&self, name: &str) -> Result<Option<&Pair<'a>>, Refusal> {
        let mut found = self.0.iter().filter(|(key, _)| key == name).map(|(_, pair)| pair);
        let first = found.next();
        if found.next().is_some() {
            return Err(Refusal::repeated_parameter(name));
        }
        Ok(first.filter(|pair| !pair.raw.is_empty()))
    }
}

/// One part of a form, decoded. The part holds none of the characters that divide a form.
fn decoded(part: &str) -> Cow<'_, str> {
    let mut pairs = form_urlencoded::parse(part.as_bytes());
    match pairs.next() {
        // The name up to the first `=`, which the part may hold where it was not encoded.
        Some((name, value)) if part.contains('=') => Cow::Owned(format!("{name}={value}")),
        Some((name, _)) => name,
        None => Cow::Borrowed(""),
    }
}
