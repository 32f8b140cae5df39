//! Whom the client trusts, and what it shows of itself.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use actlog_core::ConfigError;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, RootCertStore};

use super::config::ClientConfig;

/// TLS 1.2 and 1.3, certificates always checked: what [`Client`](super::Client) speaks, for those who speak another
/// protocol than HTTP. Of the configuration, `ca`, `certificate` and `key` count; relative paths are seen from `folder`.
/// It reads files, those of the operating system too.
///
/// # Errors
/// When a certificate or key can't be used, at its key.
pub fn tls_config(config: &ClientConfig, folder: &Path) -> Result<rustls::ClientConfig, ConfigError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(ca) = &config.ca {
        let path = folder.join(ca);
        for certificate in certificates(&path, "ca")? {
            roots.add(certificate).map_err(|error| unusable("ca", &path, &error))?;
        }
    }
    if roots.is_empty() {
        let message = "this system has no certificates of authorities; install its ca-certificates package, or name a \
                       PEM file here";
        return Err(ConfigError::new("ca", message));
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::new("", error.to_string()))?
        .with_root_certificates(roots);
    Ok(match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => {
            let path = folder.join(certificate);
            let chain = certificates(&path, "certificate")?;
            let key = key.load(folder).map_err(|error| error.within("key"))?;
            let key = PrivateKeyDer::from_pem_slice(key.expose())
                .map_err(|_| ConfigError::new("key", "holds no private key in PEM form"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| unusable("certificate", &path, &error))?
        }
        _ => builder.with_no_client_auth(),
    })
}

fn certificates(path: &Path, at: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| unusable(at, path, &error))?;
    if found.is_empty() {
        return Err(unusable(at, path, &"holds no certificate in PEM form"));
    }
    Ok(found)
}

fn unusable(at: &str, path: &Path, error: &dyn Display) -> ConfigError {
    ConfigError::new(at, format!("{}: {error}", path.display()))
}
