//! Who may post, and for which organisations.

use std::collections::BTreeMap;
use std::path::Path;

use actlog_core::{ConfigError, Organizations, SecretReference};
use actlog_http::{Authenticator, Credential, CredentialError};
use uuid::Uuid;

use crate::config::IntakeKeys;

impl IntakeKeys {
    /// What is wrong with the credentials, without reading the secrets.
    pub(crate) fn validate_credentials(&self) -> Result<(), ConfigError> {
        for (position, credential) in self.credentials.iter().enumerate() {
            if credential.key.is_none() && credential.headers.is_empty() && credential.query.is_empty() {
                let message = "asks for nothing; give key, headers or query";
                return Err(ConfigError::new(format!("credentials[{position}]"), message));
            }
        }
        // Names are checked with any value, since secrets are read later.
        self.authenticate_with(&Organizations::new(), |_| Ok(b"value".to_vec())).map(|_| ())
    }

    /// Reads the secrets. None where nothing is asked for.
    pub(crate) fn doors(&self, folder: &Path, organizations: &Organizations) -> Result<Option<Doors>, ConfigError> {
        if !self.has_credentials() {
            return Ok(None);
        }
        self.authenticate_with(organizations, |secret| Ok(secret.load(folder)?.expose().to_vec())).map(Some)
    }

    fn authenticate_with(
        &self,
        organizations: &Organizations,
        load: impl Fn(&SecretReference) -> Result<Vec<u8>, ConfigError>,
    ) -> Result<Doors, ConfigError> {
        let none = BTreeMap::new();
        let mut ways = Vec::new();
        for (position, key) in self.key.iter().enumerate() {
            ways.push((format!("key[{position}]"), Some(key), &none, &none, [].as_slice()));
        }
        if !self.headers.is_empty() {
            ways.push((String::new(), None, &self.headers, &none, &[]));
        }
        if !self.query.is_empty() {
            ways.push((String::new(), None, &none, &self.query, &[]));
        }
        for (position, way) in self.credentials.iter().enumerate() {
            let at = format!("credentials[{position}]");
            ways.push((at, way.key.as_ref(), &way.headers, &way.query, &way.organizations));
        }
        let mut credentials = Vec::new();
        let mut bindings = Vec::new();
        for (at, key, headers, query, bound_to) in ways {
            let credential = credential(key, headers, query, &load).map_err(|error| error.within(&at))?;
            credentials.push(credential);
            bindings.push(bound_to.iter().map(|name| Binding::new(name, organizations)).collect());
        }
        Ok(Doors { authenticator: Authenticator::new(credentials), bindings })
    }
}

fn credential(
    key: Option<&SecretReference>,
    headers: &BTreeMap<String, SecretReference>,
    query: &BTreeMap<String, SecretReference>,
    load: &impl Fn(&SecretReference) -> Result<Vec<u8>, ConfigError>,
) -> Result<Credential, ConfigError> {
    let unusable = |at: String| move |error: CredentialError| ConfigError::new(at, error.to_string());
    let mut credential = Credential::default();
    if let Some(key) = key {
        credential = Credential::webhook_key(&load(key)?).map_err(unusable(String::new()))?;
    }
    for (name, secret) in headers {
        let at = format!("headers.{name}");
        let value = load(secret).map_err(|error| error.within(&at))?;
        credential = credential.with_header(name, &value).map_err(unusable(at))?;
    }
    for (name, secret) in query {
        let at = format!("query.{name}");
        let value = load(secret).map_err(|error| error.within(&at))?;
        credential = credential.with_query(name, &value).map_err(unusable(at))?;
    }
    Ok(credential)
}

/// The ways in, and for whom each of them is.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) authenticator: Authenticator,
    /// For each credential the organisations that it is bound to; empty: all.
    bindings: Vec<Vec<Binding>>,
}

impl Doors {
    /// Whether who came by a credential may post events of an organisation. What an event doesn't say can't be
    /// checked: with a bound credential it must say its organisation's id or name.
    pub(crate) fn allows(&self, credential: usize, id: Option<Uuid>, unique_name: Option<&str>) -> bool {
        let bound_to = self.bindings.get(credential).map_or([].as_slice(), Vec::as_slice);
        bound_to.is_empty() || bound_to.iter().any(|binding| binding.fits(id, unique_name))
    }
}

/// An organisation, by what is known of it.
#[derive(Debug)]
struct Binding {
    id: Option<Uuid>,
    unique_name: Option<String>,
}

impl Binding {
    fn new(text: &str, organizations: &Organizations) -> Self {
        if let Some(organization) = organizations.get(text) {
            // The table's name stands for the unique name only where nothing better is known.
            let name = organization.unique_name.clone();
            return Self {
                id: organization.id,
                unique_name: name.or(organization.id.is_none().then(|| text.to_owned())),
            };
        }
        match text.parse() {
            Ok(id) => Self { id: Some(id), unique_name: None },
            Err(_) => Self { id: None, unique_name: Some(text.to_owned()) },
        }
    }

    /// Everything that both sides know must be the same, and there must be something that both know.
    fn fits(&self, id: Option<Uuid>, unique_name: Option<&str>) -> bool {
        let same_id = self.id.zip(id).map(|(own, other)| own == other);
        let same_name =
            self.unique_name.as_deref().zip(unique_name).map(|(own, other)| own.eq_ignore_ascii_case(other));
        match (same_id, same_name) {
            (None, None) => false,
            _ => same_id.unwrap_or(true) && same_name.unwrap_or(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use actlog_core::Organization;

    use super::*;

    #[test]
    fn a_bound_credential_speaks_for_its_organisations_only() {
        let (ours, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let contoso = Organization { id: Some(ours), unique_name: Some("unq1".into()), ..Organization::default() };
        let organizations = Organizations::from([("contoso".to_owned(), contoso)]);
        let doors = Doors {
            authenticator: Authenticator::default(),
            bindings: vec![
                vec![],
                vec![Binding::new("contoso", &organizations)],
                vec![Binding::new(&ours.to_string(), &organizations), Binding::new("Unq2", &organizations)],
            ],
        };
        for (credential, id, name, expected) in [
            (0, Some(other), Some("unq2"), true),
            (0, None, None, true),
            (1, Some(ours), Some("UNQ1"), true),
            (1, Some(ours), None, true),
            (1, None, Some("unq1"), true),
            // The right name beside another's id is no way in.
            (1, Some(other), Some("unq1"), false),
            (1, Some(ours), Some("unq2"), false),
            (1, None, None, false),
            (2, Some(other), Some("unq2"), true),
            (2, Some(ours), Some("anything"), true),
            (2, Some(other), Some("unq3"), false),
        ] {
            assert_eq!(doors.allows(credential, id, name), expected, "{credential} {id:?} {name:?}");
        }
    }
}
