//! Certificates that clients prove their identity with.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use webpki::{EndEntityCert, KeyUsage};

/// A registered certificate, in DER; base64 in the clients file.
///
/// It is trusted because it was registered: no authority is asked. Its own time of validity counts.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Certificate(CertificateDer<'static>);

impl Certificate {
    /// Takes a certificate in.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn new(der: CertificateDer<'static>) -> Result<Self, String> {
        EndEntityCert::try_from(&der).map_err(|error| format!("is no certificate: {error:?}"))?;
        Ok(Self(der))
    }

    /// SHA-256 of the certificate, in hexadecimal, as `openssl x509 -fingerprint -sha256` shows it without colons.
    pub(crate) fn thumbprint(&self) -> String {
        hex::encode_upper(digest::digest(&SHA256, &self.0))
    }

    /// Whether a header of a JSON Web Token means this certificate: `x5t` is SHA-1, `x5t#S256` SHA-256.
    pub(crate) fn is_named_by(&self, x5t: Option<&str>, x5t_s256: Option<&str>) -> bool {
        let is = |algorithm, text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
            bytes.is_ok_and(|bytes| bytes == digest::digest(algorithm, &self.0).as_ref())
        };
        match (x5t_s256, x5t) {
            (Some(text), _) => is(&SHA256, text),
            (None, Some(text)) => is(&SHA1_FOR_LEGACY_USE_ONLY, text),
            (None, None) => false,
        }
    }

    /// Whether the signature is by the certificate's key.
    pub(crate) fn verifies(
        &self,
        algorithm: &dyn SignatureVerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        // Registration has seen to it that it can be parsed.
        EndEntityCert::try_from(&self.0)
            .is_ok_and(|certificate| certificate.verify_signature(algorithm, message, signature).is_ok())
    }

    /// Whether `now` is within its time of validity.
    pub(crate) fn is_valid_at(&self, now: UnixTime) -> bool {
        let Ok(certificate) = EndEntityCert::try_from(&self.0) else { return false };
        // webpki looks at the time first of all; that no authority vouches for the certificate is as it should be.
        let verified = certificate.verify_for_usage(&[], &[], &[], now, KeyUsage::client_auth(), None, None);
        !matches!(
            verified,
            Err(webpki::Error::CertExpired { .. }
                | webpki::Error::CertNotValidYet { .. }
                | webpki::Error::InvalidCertValidity)
        )
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.thumbprint())
    }
}

impl Serialize for Certificate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Certificate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: String = String::deserialize(deserializer)?.split_ascii_whitespace().collect();
        let der = STANDARD.decode(text).map_err(|_| serde::de::Error::custom("is not base64 of a certificate"))?;
        Self::new(der.into()).map_err(serde::de::Error::custom)
    }
}
