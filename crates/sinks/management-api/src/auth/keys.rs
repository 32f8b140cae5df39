//! The keys that tokens are signed with: on disk, one after the other.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use actlog_core::{Clock, Storage, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};

/// Bytes of the file of keys, at most. A key takes some 300.
const MAXIMUM_FILE: u64 = 1 << 20;

/// A P-256 key.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its thumbprint (RFC 7638): `kid` in tokens.
    pub(crate) id: String,
    created: Timestamp,
    pair: EcdsaKeyPair,
    stored: StoredKey,
}

/// The public half, as a JSON Web Key (RFC 7517).
#[derive(Debug, Serialize)]
pub(crate) struct PublicKey {
    kty: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    kid: String,
    crv: &'static str,
    x: String,
    y: String,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<StoredKey>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    created: Timestamp,
    /// PKCS #8, base64.
    private: String,
}

impl std::fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredKey({})", self.created)
    }
}

impl Key {
    fn generate(created: Timestamp) -> io::Result<Self> {
        let failed = |_| io::Error::other("no key could be made");
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).map_err(failed)?;
        Self::load(StoredKey { created, private: STANDARD.encode(document) })
    }

    fn load(stored: StoredKey) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a key in it can't be read");
        let der = STANDARD.decode(&stored.private).map_err(|_| wrong())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new())
            .map_err(|_| wrong())?;
        let (x, y) = coordinates(&pair).ok_or_else(wrong)?;
        // The members that RFC 7638 names, in the order of their names.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        Ok(Self { id, created: stored.created, pair, stored })
    }

    /// Signs, in the form of ES256: both numbers one behind the other.
    pub(crate) fn sign(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| io::Error::other("a token could not be signed"))?.as_ref().to_vec())
    }

    /// Whether this key made the signature.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key());
        public.verify(message, signature).is_ok()
    }

    fn public(&self) -> Option<PublicKey> {
        let (x, y) = coordinates(&self.pair)?;
        Some(PublicKey { kty: "EC", usage: "sig", alg: "ES256", kid: self.id.clone(), crv: "P-256", x, y })
    }
}

/// The public point: an uncompressed one is 4, x, y (SEC 1, 2.3.3).
fn coordinates(pair: &EcdsaKeyPair) -> Option<(String, String)> {
    let point = pair.public_key().as_ref().strip_prefix(&[4])?;
    let (x, y) = point.split_at_checked(32)?;
    Some((URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y)))
}

/// The key in use, and those before it whose tokens may still be valid; the newest last.
///
/// Invariants: no token is signed with a key that is not on disk. A key verifies until the last token that it signed has
/// expired.
#[derive(Debug)]
pub(crate) struct Keys {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    rotation: Duration,
    lifetime: Duration,
    current: RwLock<Arc<Vec<Arc<Key>>>>,
    rotating: Mutex<()>,
}

impl Keys {
    /// Reads the file of keys, if there is one. A key is used for `rotation`; its tokens live for `lifetime`. Blocks.
    ///
    /// # Errors
    /// When the file can't be read or is none.
    pub(crate) fn open(
        path: PathBuf,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        rotation: Duration,
        lifetime: Duration,
    ) -> io::Result<Self> {
        let keys = match storage.read(&path, MAXIMUM_FILE) {
            Ok(bytes) => {
                let file: File = serde_json::from_slice(&bytes).map_err(|error| {
                    // What serde says of a value could hold parts of a key.
                    let (line, column) = (error.line(), error.column());
                    let message = format!(
                        "is not the file of keys that it should be (line {line}, column {column}); move it away: new \
                         keys are made, and clients get new tokens by themselves"
                    );
                    io::Error::new(io::ErrorKind::InvalidData, message)
                })?;
                file.keys.into_iter().map(|stored| Key::load(stored).map(Arc::new)).collect::<io::Result<Vec<_>>>()?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let current = RwLock::new(Arc::new(keys));
        Ok(Self { path, storage, clock, rotation, lifetime, current, rotating: Mutex::default() })
    }

    /// The key to sign with: a new one where the newest has been in use for long enough. Blocks.
    ///
    /// # Errors
    /// When a new one can't be made or stored.
    pub(crate) fn signing(&self) -> io::Result<Arc<Key>> {
        let now = self.clock.now();
        let usable = |keys: &[Arc<Key>]| {
            let newest = keys.last()?;
            (now < plus(newest.created, self.rotation)).then(|| Arc::clone(newest))
        };
        if let Some(key) = usable(&self.all()) {
            return Ok(key);
        }
        let _rotating = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.all();
        if let Some(key) = usable(&old) {
            return Ok(key);
        }
        let key = Arc::new(Key::generate(now)?);
        // The newest was in use until now, each before it until its successor was made.
        let ends = old.iter().skip(1).map(|successor| successor.created).chain([now]);
        let mut keys: Vec<Arc<Key>> = std::iter::zip(old.iter(), ends)
            .filter(|(_, end)| now <= plus(*end, self.lifetime))
            .map(|(key, _)| Arc::clone(key))
            .collect();
        keys.push(Arc::clone(&key));
        let file = File { keys: keys.iter().map(|key| key.stored.clone()).collect() };
        if let Some(folder) = self.path.parent() {
            self.storage.create_directories(folder)?;
        }
        self.storage.replace(&self.path, &serde_json::to_vec_pretty(&file)?)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        tracing::info!(kid = key.id, "tokens are signed with a new key from now on");
        Ok(key)
    }

    /// The key of that id.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Key>> {
        self.all().iter().find(|key| key.id == id).cloned()
    }

    /// The public halves.
    pub(crate) fn public(&self) -> Vec<PublicKey> {
        self.all().iter().filter_map(|key| key.public()).collect()
    }

    fn all(&self) -> Arc<Vec<Arc<Key>>> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn plus(time: Timestamp, span: Duration) -> Timestamp {
    time.plus_milliseconds(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use actlog_core::SystemClock;
    use actlog_testkit::storage::FaultStorage;

    use super::*;

    fn open(storage: &Arc<FaultStorage>) -> io::Result<Keys> {
        let (storage, clock) = (Arc::clone(storage) as Arc<dyn Storage>, Arc::new(SystemClock));
        let hour = Duration::from_secs(3600);
        Keys::open("/data/sinks/office/keys.json".into(), storage, clock, hour, hour)
    }

    #[test]
    fn a_file_of_keys_that_is_damaged_is_refused_without_being_shown_or_written_over() {
        let storage = Arc::new(FaultStorage::new(1));
        let keys = open(&storage).unwrap();
        let key = keys.signing().unwrap();
        assert_eq!(open(&storage).unwrap().signing().unwrap().id, key.id);
        let good = storage.read(&keys.path, MAXIMUM_FILE).unwrap();
        let text = String::from_utf8(good).unwrap();
        for broken in
            [&text[..text.len() / 2], &text.replace("private", "canary"), &text.replace("\"M", "\"canary"), ""]
        {
            storage.replace(&keys.path, broken.as_bytes()).unwrap();
            let error = open(&storage).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
            assert_eq!(storage.read(&keys.path, MAXIMUM_FILE).unwrap(), broken.as_bytes());
        }
        assert!(!format!("{key:?}").contains(&key.stored.private), "{key:?}");
    }
}
