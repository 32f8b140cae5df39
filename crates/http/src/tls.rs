//! TLS from PEM files that may be renewed while the server runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use actlog_core::{BuildError, ConfigError};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ServerConfig};

use crate::config::TlsConfig;

/// How often the files are looked at, at most.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// What tells one version of the two files from the next.
type Stamp = [(SystemTime, u64); 2];

/// TLS 1.2 and 1.3 with the certificate that the files hold at present.
///
/// Invariant: there is always a certificate to serve with. Files that can't be used (a certificate that is renewed
/// before its key) leave the one before in place, are reported once, and are tried again when they change.
#[derive(Debug)]
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    state: Mutex<State>,
}

struct State {
    acceptor: TlsAcceptor,
    stamp: Option<Stamp>,
    checked: Instant,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("stamp", &self.stamp).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files; relative paths are seen from `folder`.
    pub(crate) fn load(config: &TlsConfig, folder: &Path) -> Result<Self, BuildError> {
        let certificate = folder.join(&config.certificate);
        let key = folder.join(&config.key);
        // The stamp is taken first: a change between the two steps is then seen at the next look.
        let stamp = stamp(&certificate, &key);
        let acceptor = acceptor(&certificate, &key).map_err(|error| error.within("tls"))?;
        let state = State { acceptor, stamp, checked: Instant::now() };
        Ok(Self { certificate, key, state: Mutex::new(state) })
    }

    /// What the next connection is to be accepted with. Looks at the files when it hasn't for a while.
    pub(crate) async fn acceptor(self: &Arc<Self>) -> TlsAcceptor {
        let (current, is_due) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = state.checked.elapsed() >= CHECK_EVERY;
            if is_due {
                state.checked = Instant::now();
            }
            (state.acceptor.clone(), is_due)
        };
        if !is_due {
            return current;
        }
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || this.reload()).await.unwrap_or(current)
    }

    /// Reads the files again if they have changed.
    fn reload(&self) -> TlsAcceptor {
        let stamp = stamp(&self.certificate, &self.key);
        {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if stamp == state.stamp {
                return state.acceptor.clone();
            }
        }
        let loaded = acceptor(&self.certificate, &self.key);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stamp = stamp;
        match loaded {
            Ok(acceptor) => {
                tracing::info!(certificate = %self.certificate.display(), "the TLS certificate was read again");
                state.acceptor = acceptor;
            }
            Err(error) => {
                tracing::warn!(%error, "the changed TLS certificate can't be used; the one before stays in use");
            }
        }
        state.acceptor.clone()
    }
}

fn stamp(certificate: &Path, key: &Path) -> Option<Stamp> {
    let of = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    Some([of(certificate)?, of(key)?])
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, ConfigError> {
    let unusable = |at: &str, path: &Path, error: &dyn std::fmt::Display| {
        ConfigError::new(at, format!("{}: {error}", path.display()))
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unusable("certificate", certificate, &error))?;
    if chain.is_empty() {
        return Err(unusable("certificate", certificate, &"holds no certificate in PEM form"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("key", key, &error))?;
    let config = server_config(chain, private).map_err(|error| unusable("key", key, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
