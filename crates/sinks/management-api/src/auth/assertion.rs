//! Client assertions (RFC 7523): a token that a client has signed with the key of its certificate to say who it is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actlog_core::Timestamp;
use ring::digest::{SHA256, digest};
use rustls_pki_types::{SignatureVerificationAlgorithm, UnixTime};
use serde::Deserialize;
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::clients::{Client, StoredCertificate, is_current};
use super::jwt::Compact;

/// The only `client_assertion_type` there is.
pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How far the client's clock may be off.
const LEEWAY_SECONDS: f64 = 300.0;
/// How long an assertion may be valid for. Libraries write 10 minutes; a captured one must not be good for long.
const LONGEST_SECONDS: f64 = 3600.0;
/// Assertions that are remembered.
const MAXIMUM_USED: usize = 100_000;

/// Why an assertion is refused; for the client, who sees it in `error_description`, and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it is no JSON Web Token, or too long")]
    Malformed,
    #[error("its algorithm is none of RS256, PS256 and ES256")]
    Algorithm,
    #[error("its x5t or x5t#S256 names no certificate that is registered for the client")]
    UnknownCertificate,
    #[error("the certificate has expired")]
    Certificate,
    #[error("its signature is not by the certificate's key")]
    Signature,
    #[error("its claims are not those of a client assertion: aud, iss, sub, exp and jti are needed")]
    Claims,
    #[error("its aud is not the token endpoint")]
    Audience,
    #[error("its iss and sub are not the client id")]
    Issuer,
    #[error("it is not within its valid time range, or that is longer than an hour")]
    Time,
    #[error("it was used before")]
    Replayed,
    #[error("too many assertions are valid at once; try again later")]
    Busy,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    x5t: Option<String>,
    #[serde(rename = "x5t#S256")]
    x5t_s256: Option<String>,
    /// Extensions that a receiver must know; none is known here.
    crit: Option<IgnoredAny>,
}

/// Times are numbers with or without a fraction: some libraries write Python's `time.time()`.
#[derive(Deserialize)]
struct Claims {
    aud: String,
    iss: Uuid,
    sub: Uuid,
    jti: String,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
}

/// The assertions that were used and are still valid.
///
/// They are held in memory: after a restart one that was used before would be taken again until it expires.
#[derive(Debug, Default)]
pub(crate) struct Used(Mutex<HashMap<[u8; 32], f64>>);

impl Used {
    /// Verifies a client's assertion, and takes it once. `is_endpoint` says whether an audience is the token endpoint.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn verify(
        &self,
        assertion: &str,
        client: &Client,
        now: Timestamp,
        is_endpoint: impl Fn(&str) -> bool,
    ) -> Result<(), Refused> {
        let parts = Compact::parse(assertion).ok_or(Refused::Malformed)?;
        let header: Header = serde_json::from_slice(&parts.header).map_err(|_| Refused::Malformed)?;
        let algorithm = Algorithm::named(&header.alg).ok_or(Refused::Algorithm)?;
        if header.crit.is_some() {
            return Err(Refused::Malformed);
        }
        let is_meant =
            |stored: &&StoredCertificate| stored.der.is_named_by(header.x5t.as_deref(), header.x5t_s256.as_deref());
        let stored = client.certificates.iter().find(is_meant).ok_or(Refused::UnknownCertificate)?;
        let signature = algorithm.signature(&parts.signature).ok_or(Refused::Signature)?;
        if !stored.der.verifies(algorithm.verification, parts.signed, &signature) {
            return Err(Refused::Signature);
        }
        let milliseconds = u64::try_from(now.unix_milliseconds()).unwrap_or(0);
        let time = UnixTime::since_unix_epoch(Duration::from_millis(milliseconds));
        if !is_current(stored.expires, now) || !stored.der.is_valid_at(time) {
            return Err(Refused::Certificate);
        }
        let claims: Claims = serde_json::from_slice(&parts.claims).map_err(|_| Refused::Claims)?;
        if claims.iss != client.client || claims.sub != client.client {
            return Err(Refused::Issuer);
        }
        if !is_endpoint(&claims.aud) {
            return Err(Refused::Audience);
        }
        let now = time.as_secs() as f64;
        let begins = claims.nbf.into_iter().chain(claims.iat).fold(f64::NEG_INFINITY, f64::max);
        let is_in_time = now < claims.exp + LEEWAY_SECONDS
            && claims.exp <= now + LONGEST_SECONDS + LEEWAY_SECONDS
            && begins <= now + LEEWAY_SECONDS;
        if !is_in_time {
            return Err(Refused::Time);
        }
        self.take(client, &claims.jti, claims.exp + LEEWAY_SECONDS, now)
    }

    /// Remembers an assertion until `end`.
    fn take(&self, client: &Client, jti: &str, end: f64, now: f64) -> Result<(), Refused> {
        let name = [client.tenant.as_bytes(), client.client.as_bytes(), jti.as_bytes()].concat();
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, &name).as_ref());
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.get(&key).is_some_and(|end| now < *end) {
            return Err(Refused::Replayed);
        }
        if used.len() >= MAXIMUM_USED {
            used.retain(|_, end| now < *end);
        }
        if used.len() >= MAXIMUM_USED {
            return Err(Refused::Busy);
        }
        used.insert(key, end);
        Ok(())
    }
}

/// An algorithm of RFC 7518, as far as certificates' keys are used with it.
struct Algorithm {
    verification: &'static dyn SignatureVerificationAlgorithm,
    is_ecdsa: bool,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        let rsa = |verification| Some(Self { verification, is_ecdsa: false });
        match name {
            "RS256" => rsa(webpki::ring::RSA_PKCS1_2048_8192_SHA256),
            "PS256" => rsa(webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY),
            "ES256" => Some(Self { verification: webpki::ring::ECDSA_P256_SHA256, is_ecdsa: true }),
            _ => None,
        }
    }

    /// The signature as webpki takes it: for ECDSA a token has the two numbers one behind the other, X.509 has them as
    /// a sequence in DER.
    fn signature(&self, signature: &[u8]) -> Option<Vec<u8>> {
        if !self.is_ecdsa {
            return Some(signature.to_vec());
        }
        let (r, s) = signature.split_at_checked(32).filter(|(_, s)| s.len() == 32)?;
        let body = [integer(r), integer(s)].concat();
        // At most 2 * (2 + 33) bytes, so that a length is always one byte.
        let length = u8::try_from(body.len()).ok()?;
        Some([&[0x30, length], &body[..]].concat())
    }
}

/// An INTEGER in DER: no zeros in front but the one that keeps it positive.
fn integer(number: &[u8]) -> Vec<u8> {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len() - 1);
    let digits = &number[first..];
    let sign: &[u8] = if digits[0] & 0x80 == 0 { &[] } else { &[0] };
    let length = u8::try_from(sign.len() + digits.len()).unwrap_or(u8::MAX);
    [&[0x02, length], sign, digits].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_of_two_numbers_becomes_a_sequence_without_needless_zeros() {
        let algorithm = Algorithm::named("ES256").unwrap();
        let number = |first: &[u8], rest: u8| {
            let mut number = vec![rest; 32];
            number[..first.len()].copy_from_slice(first);
            number
        };
        let signature = [number(&[0, 0, 0x7f], 1), number(&[0x80], 2)].concat();
        let der = algorithm.signature(&signature).unwrap();
        assert_eq!(der[..5], [0x30, 67, 0x02, 30, 0x7f]);
        assert_eq!(der[34..38], [0x02, 33, 0, 0x80]);
        assert_eq!(der.len(), 69);
        assert_eq!(integer(&[0; 32]), [0x02, 1, 0]);
        assert_eq!(integer(&[0xff; 32])[..4], [0x02, 33, 0, 0xff]);
        for wrong in [0, 31, 63, 65, 128] {
            assert!(algorithm.signature(&vec![1; wrong]).is_none(), "{wrong} bytes");
        }
    }

    #[test]
    fn what_is_remembered_of_assertions_is_bounded_and_ends_with_them() {
        let used = Used::default();
        let client =
            super::super::clients::Clients::default().entry(Uuid::nil(), Uuid::nil(), Timestamp::default()).clone();
        for jti in 0..MAXIMUM_USED {
            used.take(&client, &jti.to_string(), 100.0, 50.0).unwrap();
        }
        assert_eq!(used.take(&client, "7", 100.0, 50.0), Err(Refused::Replayed));
        assert_eq!(used.take(&client, "new", 100.0, 50.0), Err(Refused::Busy));
        used.take(&client, "new", 200.0, 100.0).unwrap();
        assert_eq!(used.0.lock().unwrap().len(), 1);
    }
}
