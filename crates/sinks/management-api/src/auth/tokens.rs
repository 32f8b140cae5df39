//! Access tokens: what is in them, and what is looked at when one comes back.
//!
//! Entra signs with RSA; these are signed with ECDSA on P-256 (ES256), whose keys and signatures are smaller. To clients
//! an access token is opaque, so that none of them looks at it.

use std::io;
use std::time::Duration;

use actlog_core::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clients::{Client, Clients, Role};
use super::jwt::{self, Compact};
use super::keys::{Key, Keys};
use super::{Caller, Roles};

/// How far a token may lie in the future: the clock may have been put back since it was signed.
const LEEWAY_SECONDS: i64 = 60;

/// How a client proved its identity, as the claim `appidacr` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProvedBy {
    Secret,
    Certificate,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: String,
    kid: String,
}

/// The claims of an application's token, as Entra has them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    aud: String,
    iss: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    appid: Uuid,
    appidacr: String,
    idp: String,
    oid: Uuid,
    roles: Vec<Role>,
    sub: Uuid,
    tid: Uuid,
    uti: Uuid,
    ver: String,
}

/// A new token, and from when to when it is valid, in seconds since 1970.
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) not_before: i64,
    pub(crate) expires: i64,
}

/// Makes a token for the client. Takes some microseconds.
///
/// # Errors
/// When it can't be signed.
pub(crate) fn issue(
    key: &Key,
    client: &Client,
    audience: &str,
    proved_by: ProvedBy,
    now: Timestamp,
    lifetime: Duration,
) -> io::Result<Issued> {
    let now = seconds(now);
    let expires = now.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX));
    let issuer = issuer(client.tenant);
    let object = object(client);
    let header = Header { typ: "JWT".into(), alg: "ES256".into(), kid: key.id.clone() };
    let claims = Claims {
        aud: audience.to_owned(),
        iss: issuer.clone(),
        iat: now,
        nbf: now,
        exp: expires,
        appid: client.client,
        appidacr: if proved_by == ProvedBy::Secret { "1" } else { "2" }.to_owned(),
        idp: issuer,
        oid: object,
        roles: client.roles.clone(),
        sub: object,
        tid: client.tenant,
        uti: Uuid::new_v4(),
        ver: "1.0".to_owned(),
    };
    let token = jwt::compact::<io::Error>(&header, &claims, |message| key.sign(message))?;
    Ok(Issued { token, not_before: now, expires })
}

/// Why a token is refused; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is no bearer token, or more than one")]
    Missing,
    #[error("it is no token of three parts, or too long")]
    Malformed,
    #[error("its header is not that of a token that is made here")]
    Header,
    #[error("its algorithm is not the one that tokens are signed with here")]
    Algorithm,
    #[error("it is signed with a key that is not, or no longer, one of ours")]
    UnknownKey,
    #[error("its signature is wrong: it was changed, or signed by somebody else")]
    Signature,
    #[error("its claims are not those of a token that is made here")]
    Claims,
    #[error("it was made for another interface")]
    Audience,
    #[error("it was made by another issuer")]
    Issuer,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet; was the clock put back?")]
    NotYetValid,
    #[error("its client is not registered any more")]
    Revoked,
}

/// Who a token says that it is.
///
/// `is_ours` says whether the audience is this interface. The client's present registration counts: a client that was
/// removed is refused, and a role that was taken away is gone.
///
/// # Errors
/// Why it is refused.
pub(crate) fn verify(
    token: &str,
    keys: &Keys,
    clients: &Clients,
    now: Timestamp,
    is_ours: impl Fn(&str) -> bool,
) -> Result<Caller, Refused> {
    let parts = Compact::parse(token).ok_or(Refused::Malformed)?;
    let header: Header = serde_json::from_slice(&parts.header).map_err(|_| Refused::Header)?;
    // The algorithm is ours to choose, never the token's; the check only makes the log say what was tried.
    if header.alg != "ES256" {
        return Err(Refused::Algorithm);
    }
    let key = keys.find(&header.kid).ok_or(Refused::UnknownKey)?;
    if !key.verifies(parts.signed, &parts.signature) {
        return Err(Refused::Signature);
    }
    let claims: Claims = serde_json::from_slice(&parts.claims).map_err(|_| Refused::Claims)?;
    let now = seconds(now);
    if claims.exp <= now {
        return Err(Refused::Expired);
    }
    if claims.nbf > now.saturating_add(LEEWAY_SECONDS) {
        return Err(Refused::NotYetValid);
    }
    if claims.iss != issuer(claims.tid) {
        return Err(Refused::Issuer);
    }
    if !is_ours(&claims.aud) {
        return Err(Refused::Audience);
    }
    let client = clients.get(claims.tid, claims.appid).ok_or(Refused::Revoked)?;
    if claims.oid != object(client) {
        return Err(Refused::Revoked);
    }
    let has = |role| claims.roles.contains(&role) && client.roles.contains(&role);
    let roles = Roles { read: has(Role::Read), read_dlp: has(Role::ReadDlp) };
    Ok(Caller { tenant: claims.tid, client: claims.appid, roles })
}

fn issuer(tenant: Uuid) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

/// The id of the client's registration: Entra's name for it is the service principal's object id. Who is removed and
/// registered again has another one, so that tokens of before are refused.
fn object(client: &Client) -> Uuid {
    let created = client.created.unix_milliseconds().to_be_bytes();
    Uuid::new_v5(&client.tenant, &[client.client.as_bytes(), &created[..]].concat())
}

/// Whole seconds since 1970.
fn seconds(time: Timestamp) -> i64 {
    time.unix_milliseconds().div_euclid(1000)
}
