//! Checking what a client presents against several credentials, in constant time.

use std::fmt;

use hyper::header::HeaderName;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::request::Head;

/// The query parameter in which Dataverse sends a webhook key.
pub const WEBHOOK_KEY_PARAMETER: &str = "code";

/// One thing that a request must carry. Only the SHA-256 of the value is kept.
#[derive(Clone)]
struct Requirement {
    place: Place,
    digest: [u8; 32],
}

#[derive(Clone, Debug)]
enum Place {
    Query(String),
    Header(HeaderName),
}

/// Why a credential can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CredentialError {
    /// Somebody who sends nothing would be let in.
    #[error("the value of {0:?} is empty")]
    EmptyValue(String),
    /// The header's name has characters that HTTP doesn't allow.
    #[error("{0:?} is not the name of an HTTP header")]
    HeaderName(String),
}

/// A set of headers and query parameters that a request must carry, all of them.
#[derive(Clone, Default)]
pub struct Credential {
    requirements: Vec<Requirement>,
}

impl fmt::Debug for Credential {
    /// Names only: neither values nor their digests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = self.requirements.iter().map(|requirement| &requirement.place).collect();
        f.debug_struct("Credential").field("places", &places).finish()
    }
}

impl Credential {
    /// A webhook key, which Dataverse sends as `?code=…`.
    ///
    /// # Errors
    /// When the key is empty.
    pub fn webhook_key(key: &[u8]) -> Result<Self, CredentialError> {
        Self::default().with_query(WEBHOOK_KEY_PARAMETER, key)
    }

    /// Requires a query parameter as well.
    ///
    /// # Errors
    /// When the value is empty.
    pub fn with_query(mut self, name: &str, value: &[u8]) -> Result<Self, CredentialError> {
        self.requirements.push(Requirement { place: Place::Query(name.to_owned()), digest: digest(name, value)? });
        Ok(self)
    }

    /// Requires a header as well.
    ///
    /// # Errors
    /// When the value is empty, or the name can't be that of a header.
    pub fn with_header(mut self, name: &str, value: &[u8]) -> Result<Self, CredentialError> {
        let place = HeaderName::try_from(name).map_err(|_| CredentialError::HeaderName(name.to_owned()))?;
        self.requirements.push(Requirement { place: Place::Header(place), digest: digest(name, value)? });
        Ok(self)
    }

    /// Whether the request carries everything that is required, which must be something.
    fn matches(&self, head: &Head) -> Choice {
        let something = Choice::from(u8::from(!self.requirements.is_empty()));
        self.requirements.iter().fold(something, |all, one| all & one.presented(head))
    }
}

fn digest(name: &str, value: &[u8]) -> Result<[u8; 32], CredentialError> {
    if value.is_empty() {
        return Err(CredentialError::EmptyValue(name.to_owned()));
    }
    Ok(Sha256::digest(value).into())
}

/// All credentials that are valid at present: several during a rotation.
///
/// How long a check takes tells nothing of how near a guess is: digests are compared, each whole, and all credentials
/// are looked at whichever of them matches.
#[derive(Clone, Debug, Default)]
pub struct Authenticator {
    credentials: Vec<Credential>,
}

impl Authenticator {
    /// From credentials. Without any, [`check`](Self::check) lets nobody in.
    pub fn new(credentials: Vec<Credential>) -> Self {
        Self { credentials }
    }

    /// The position of the first credential that the request fulfils.
    pub fn check(&self, head: &Head) -> Option<usize> {
        let mut found = None;
        for (position, credential) in self.credentials.iter().enumerate() {
            if bool::from(credential.matches(head)) && found.is_none() {
                found = Some(position);
            }
        }
        found
    }
}

impl Requirement {
    fn presented(&self, head: &Head) -> Choice {
        match &self.place {
            Place::Header(name) => {
                let values = head.headers().get_all(name).iter();
                values.fold(Choice::from(0), |any, value| any | self.equals(value.as_bytes()))
            }
            // A key may be sent encoded (`%2B`) or as it is (`+`): both readings of the text count.
            Place::Query(name) => {
                head.query_pairs().filter(|pair| pair.name == *name).fold(Choice::from(0), |any, pair| {
                    any | self.equals(pair.raw_value.as_bytes()) | self.equals(pair.value.as_bytes())
                })
            }
        }
    }

    fn equals(&self, value: &[u8]) -> Choice {
        Sha256::digest(value).as_slice().ct_eq(&self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> Head {
        let mut request = hyper::Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Head::new(request.body(()).unwrap().into_parts().0, "127.0.0.1".parse().unwrap())
    }

    #[test]
    fn several_keys_are_valid_at_once_and_no_other() {
        let keys = Authenticator::new(vec![
            Credential::webhook_key(b"old+key/==").unwrap(),
            Credential::webhook_key(b"new").unwrap(),
        ]);
        assert_eq!(keys.check(&head("/?code=new", &[])), Some(1));
        assert_eq!(keys.check(&head("/?x=1&code=old%2Bkey%2F%3D%3D", &[])), Some(0));
        assert_eq!(keys.check(&head("/?code=old+key/==", &[])), Some(0));
        for refused in ["/", "/?", "/?code", "/?code=", "/?code=ne", "/?code=newer", "/?Code=new", "/?key=new", "/new"]
        {
            assert_eq!(keys.check(&head(refused, &[])), None, "{refused}");
        }
    }

    #[test]
    fn every_pair_of_a_credential_must_be_there() {
        let both = Credential::default().with_header("X-Key", b"k").unwrap().with_query("token", b"t").unwrap();
        let keys = Authenticator::new(vec![both]);
        assert_eq!(keys.check(&head("/?token=t", &[("x-key", "k")])), Some(0));
        assert_eq!(keys.check(&head("/?token=t", &[])), None);
        assert_eq!(keys.check(&head("/", &[("x-key", "k")])), None);
        assert_eq!(keys.check(&head("/?token=t", &[("x-key", "K")])), None);
    }

    #[test]
    fn empty_credentials_let_nobody_in() {
        assert_eq!(Credential::webhook_key(b"").unwrap_err(), CredentialError::EmptyValue("code".into()));
        assert!(Credential::default().with_header("not a name", b"v").is_err());
        assert_eq!(Authenticator::default().check(&head("/?code=", &[])), None);
        assert_eq!(Authenticator::new(vec![Credential::default()]).check(&head("/?code=", &[])), None);
    }

    #[test]
    fn debug_output_has_neither_keys_nor_digests() {
        let text = format!("{:?}", Credential::webhook_key(b"canary").unwrap());
        assert!(text.contains("code") && !text.contains("canary") && !text.contains("digest"), "{text}");
    }
}
