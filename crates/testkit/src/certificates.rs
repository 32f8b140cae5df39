//! A certificate authority for tests.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// An authority that nobody trusts but those who are told to.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its private key, both in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// A new authority with a key of its own.
    ///
    /// # Panics
    /// When the operating system gives no random numbers.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "actlog test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = KeyPair::generate().and_then(|key| CertifiedIssuer::self_signed(params, key));
        Self(made.unwrap_or_else(|error| panic!("no certificate authority: {error}")))
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server of these names and addresses.
    ///
    /// # Panics
    /// When one of them is neither.
    pub fn issue(&self, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = CertificateParams::new(names).and_then(|mut params| {
            // Python's TLS refuses certificates that don't say whose key signed them.
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.0)?;
            Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
        });
        made.unwrap_or_else(|error| panic!("no certificate: {error}"))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
