//! The clients file: who is registered, for which tenant, with which proofs of identity.

use std::collections::BTreeMap;
use std::fmt;

use actlog_core::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::certificate::Certificate;
use super::secret_hash::SecretHash;

/// Bytes of a clients file that are read.
pub(crate) const MAXIMUM_FILE: u64 = 16 << 20;
/// Clients that may be registered.
const MAXIMUM_CLIENTS: usize = 10_000;
/// Secrets, and certificates, that one client may have at once: one check costs as many hashes.
const MAXIMUM_PROOFS: usize = 8;

/// A permission of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Every content type but DLP.All.
    #[serde(rename = "ActivityFeed.Read")]
    Read,
    /// DLP.All.
    #[serde(rename = "ActivityFeed.ReadDlp")]
    ReadDlp,
}

impl Role {
    pub(crate) const ALL: [Self; 2] = [Self::Read, Self::ReadDlp];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "ActivityFeed.Read",
            Self::ReadDlp => "ActivityFeed.ReadDlp",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A registered client, with respect to one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    /// The tenant whose feed it may read.
    pub(crate) tenant: Uuid,
    /// Its id: `client_id` and the claim `appid`.
    pub(crate) client: Uuid,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What it may read.
    pub(crate) roles: Vec<Role>,
    /// When it was registered. Tokens of an earlier registration are refused.
    pub(crate) created: Timestamp,
    /// Any of them will do, so that they can be changed without an interruption.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<StoredSecret>,
    /// As well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificates: Vec<StoredCertificate>,
}

/// A secret of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredSecret {
    /// `pbkdf2-sha256$600000$salt$hash`
    pub(crate) hash: SecretHash,
    /// When it was registered.
    pub(crate) created: Timestamp,
    /// From when on it is refused; never, where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Timestamp>,
}

/// A certificate of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredCertificate {
    /// The certificate: DER in base64.
    pub(crate) der: Certificate,
    /// When it was registered.
    pub(crate) created: Timestamp,
    /// From when on it is refused, its own time of validity aside; never, where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Timestamp>,
}

/// Whether what expires then is good for something now.
pub(crate) fn is_current(expires: Option<Timestamp>, now: Timestamp) -> bool {
    expires.is_none_or(|expires| now < expires)
}

/// All registered clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clients(BTreeMap<(Uuid, Uuid), Client>);

/// The file's form.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    clients: Vec<Client>,
}

impl Clients {
    /// The client of that id in the tenant.
    pub(crate) fn get(&self, tenant: Uuid, client: Uuid) -> Option<&Client> {
        self.0.get(&(tenant, client))
    }

    /// The client of that id in the tenant; one without roles and proofs is added where there is none.
    pub(crate) fn entry(&mut self, tenant: Uuid, client: Uuid, now: Timestamp) -> &mut Client {
        self.0.entry((tenant, client)).or_insert_with(|| Client {
            tenant,
            client,
            name: None,
            roles: Vec::new(),
            created: now,
            secrets: Vec::new(),
            certificates: Vec::new(),
        })
    }

    /// Removes the client from the tenant, or from all; says from which.
    pub(crate) fn remove(&mut self, tenant: Option<Uuid>, client: Uuid) -> Vec<Uuid> {
        let is_meant = |key: &(Uuid, Uuid)| key.1 == client && tenant.is_none_or(|tenant| tenant == key.0);
        let meant: Vec<_> = self.0.keys().copied().filter(is_meant).collect();
        for key in &meant {
            self.0.remove(key);
        }
        meant.into_iter().map(|(tenant, _)| tenant).collect()
    }

    /// All of them, by tenant and id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.0.values()
    }

    /// Reads a clients file.
    ///
    /// # Errors
    /// What is wrong with it and where; nothing of what it holds is repeated but ids.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            format!("{}{}", line.map(|line| format!("line {line}: ")).unwrap_or_default(), error.message())
        })?;
        if file.clients.len() > MAXIMUM_CLIENTS {
            return Err(format!(
                "{} clients are more than the {MAXIMUM_CLIENTS} that there may be",
                file.clients.len()
            ));
        }
        let mut clients = BTreeMap::new();
        for client in file.clients {
            let (tenant, id) = (client.tenant, client.client);
            client.check().map_err(|problem| format!("client {id} of tenant {tenant} {problem}"))?;
            if clients.insert((tenant, id), client).is_some() {
                return Err(format!("client {id} of tenant {tenant} is there twice"));
            }
        }
        Ok(Self(clients))
    }

    /// The text of a clients file.
    ///
    /// # Errors
    /// When a client has more proofs than it may have, or something has no form in TOML.
    pub(crate) fn to_text(&self) -> Result<String, String> {
        for client in self.iter() {
            client.check().map_err(|problem| format!("client {} {problem}", client.client))?;
        }
        let file = File { clients: self.iter().cloned().collect() };
        let written = toml::to_string(&file).map_err(|error| error.to_string())?;
        Ok(format!(
            "# Clients of the sink management-api. `actlog clients add|list|revoke` writes this file; a running actlog\n\
             # reads it again when it changes. Secrets are hashed. Keep it readable for its owner only all the same.\n\n{written}"
        ))
    }
}

impl Client {
    fn check(&self) -> Result<(), String> {
        let most = self.secrets.len().max(self.certificates.len());
        if most > MAXIMUM_PROOFS {
            return Err(format!(
                "has {most} secrets or certificates, and {MAXIMUM_PROOFS} is the most; revoke it and add it anew"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn a_client(clients: &mut Clients, id: u128, secrets: usize) {
        let client = clients.entry(Uuid::from_u128(1), Uuid::from_u128(id), Timestamp::default());
        client.roles = Role::ALL.to_vec();
        let stored = StoredSecret { hash: SecretHash::of_nothing(), created: Timestamp::default(), expires: None };
        client.secrets = vec![stored; secrets];
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let mut clients = Clients::default();
        a_client(&mut clients, 2, 2);
        a_client(&mut clients, 3, 0);
        let text = clients.to_text().unwrap();
        assert_eq!(Clients::parse(&text).unwrap(), clients);
        assert_eq!(Clients::parse("").unwrap(), Clients::default());
    }

    #[test]
    fn a_client_has_a_bounded_number_of_secrets() {
        let mut clients = Clients::default();
        a_client(&mut clients, 2, MAXIMUM_PROOFS);
        let text = clients.to_text().unwrap();
        a_client(&mut clients, 2, MAXIMUM_PROOFS + 1);
        assert!(clients.to_text().unwrap_err().contains("revoke"));
        let secret = &text[text.find("[[clients.secrets]]").unwrap()..];
        assert!(Clients::parse(&format!("{text}\n{secret}")).unwrap_err().contains("revoke"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}|(\\[\\[clients\\]\\]\n)?((tenant|client|roles|created) = [\"\\[\\]a-f0-9-]{0,40}\n){0,5}") {
            let _ = Clients::parse(&text);
        }
    }
}
