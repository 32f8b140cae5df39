//! What an application proves its identity with.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use actlog_core::{Application, ConfigError, Secret, SecretReference};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use uuid::Uuid;

/// How long a proof by certificate is valid; it is used at once.
const ASSERTION_SECONDS: u64 = 600;

/// Where an application's means of proof are.
pub(super) struct Credential {
    client_id: String,
    means: Means,
    folder: PathBuf,
}

enum Means {
    Secret(SecretReference),
    Certificate { certificate: PathBuf, key: SecretReference },
}

/// The pairs that a credential adds to the form. They are secret: they go into a request and nowhere else.
type Pairs = Vec<(&'static str, String)>;

impl Credential {
    pub(super) fn new(application: &Application, folder: &Path) -> Result<Self, ConfigError> {
        application.validate()?;
        let means = match (&application.secret, &application.certificate, &application.key) {
            (None, Some(certificate), Some(key)) => {
                Means::Certificate { certificate: folder.join(certificate), key: key.clone() }
            }
            (Some(secret), ..) => Means::Secret(secret.clone()),
            _ => return Err(ConfigError::new("", "give a secret, or a certificate with its key")),
        };
        Ok(Self { client_id: application.client_id.to_string(), means, folder: folder.to_owned() })
    }

    /// A client of any authorization server, with a secret.
    pub(super) fn of_client(client_id: &str, secret: &SecretReference, folder: &Path) -> Self {
        Self { client_id: client_id.to_owned(), means: Means::Secret(secret.clone()), folder: folder.to_owned() }
    }

    /// Reads secret, or certificate and key, and makes the proof out of it that the token endpoint at `url` takes.
    pub(super) fn form(&self, url: &str) -> Result<Pairs, ConfigError> {
        let mut pairs = vec![("client_id", self.client_id.clone())];
        match &self.means {
            Means::Secret(secret) => {
                let secret = secret.load(&self.folder).map_err(|error| error.within("secret"))?;
                let text = std::str::from_utf8(secret.expose());
                let text = text.map_err(|_| ConfigError::new("secret", "the secret is not UTF-8 text"))?;
                pairs.push(("client_secret", text.to_owned()));
            }
            Means::Certificate { certificate, key } => {
                let chain = CertificateDer::from_pem_file(certificate)
                    .map_err(|error| ConfigError::new("certificate", format!("{}: {error}", certificate.display())))?;
                let key = key.load(&self.folder).and_then(|pem| rsa_key(&pem)).map_err(|error| error.within("key"))?;
                if !contains(&chain, key.public_key().as_ref()) {
                    let message = "is not the private key of the certificate; replace both together";
                    return Err(ConfigError::new("key", message));
                }
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                pairs.push(("client_assertion_type", kind.to_owned()));
                pairs.push(("client_assertion", self.assertion(&chain, &key, url)?));
            }
        }
        Ok(pairs)
    }

    /// A JSON Web Token that says who asks, signed with the private key (RFC 7523; the claims that Entra wants).
    fn assertion(&self, certificate: &CertificateDer<'_>, key: &RsaKeyPair, url: &str) -> Result<String, ConfigError> {
        #[derive(Serialize)]
        struct Header {
            alg: &'static str,
            typ: &'static str,
            x5t: String,
            #[serde(rename = "x5t#S256")]
            x5t_s256: String,
        }
        #[derive(Serialize)]
        struct Claims<'a> {
            aud: &'a str,
            iss: &'a str,
            sub: &'a str,
            jti: Uuid,
            nbf: u64,
            iat: u64,
            exp: u64,
        }
        let thumbprint = |algorithm: &'static Algorithm| URL_SAFE_NO_PAD.encode(digest(algorithm, certificate));
        let header = Header {
            alg: "RS256",
            typ: "JWT",
            x5t: thumbprint(&SHA1_FOR_LEGACY_USE_ONLY),
            x5t_s256: thumbprint(&SHA256),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (iss, jti) = (self.client_id.as_str(), Uuid::new_v4());
        let claims = Claims { aud: url, iss, sub: iss, jti, nbf: now, iat: now, exp: now + ASSERTION_SECONDS };
        let failed = |_| ConfigError::new("key", "nothing can be signed with it");
        let encoded = |json: serde_json::Result<Vec<u8>>| json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(failed);
        let (header, claims) = (encoded(serde_json::to_vec(&header))?, encoded(serde_json::to_vec(&claims))?);
        let signed = format!("{header}.{claims}");
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| ConfigError::new("key", "nothing can be signed with it"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// An RSA key of PKCS #8 (`PRIVATE KEY`) or PKCS #1 (`RSA PRIVATE KEY`).
fn rsa_key(pem: &Secret) -> Result<RsaKeyPair, ConfigError> {
    let refuse = |message: &str| ConfigError::new("", message);
    if contains(pem.expose(), b"ENCRYPTED") {
        return Err(refuse("the private key is encrypted; store it decrypted, readable for actlog only"));
    }
    let key = PrivateKeyDer::from_pem_slice(pem.expose()).map_err(|_| refuse("holds no private key in PEM form"))?;
    let pair = match &key {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(refuse("is not an RSA key; Entra wants one of 2048 bits or more for a certificate")),
    };
    pair.map_err(|error| refuse(&format!("is not an RSA key of 2048 to 4096 bits ({error})")))
}

/// Whether `part` is in `whole`: a certificate holds its public key byte by byte.
fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}
