//! Client secrets as the clients file holds them: hashed, so that the file gives none away.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SCHEME: &str = "pbkdf2-sha256";
/// What OWASP's Password Storage Cheat Sheet asks for with HMAC-SHA-256.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(600_000 - 1);
/// Fewer protect nothing, more would let one request hold a processor for seconds.
const ALLOWED_ITERATIONS: std::ops::RangeInclusive<u32> = 100_000..=5_000_000;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// A hashed secret: `pbkdf2-sha256$600000$salt$hash`, salt and hash in base64 without padding.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretHash {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl SecretHash {
    /// Hashes a secret with a salt of its own. Takes some tenths of a second of a processor.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub(crate) fn of(secret: &[u8]) -> Result<Self, getrandom::Error> {
        let mut salt = vec![0; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        let mut hash = vec![0; HASH_BYTES];
        pbkdf2::derive(PBKDF2_HMAC_SHA256, ITERATIONS, &salt, secret, &mut hash);
        Ok(Self { iterations: ITERATIONS, salt, hash })
    }

    /// A hash of no secret: comparing with it takes as long as with any other, and never succeeds but by chance.
    pub(crate) fn of_nothing() -> Self {
        Self { iterations: ITERATIONS, salt: vec![0; SALT_BYTES], hash: vec![0; HASH_BYTES] }
    }

    /// Whether this is the hash of that secret. As slow as hashing.
    pub(crate) fn matches(&self, secret: &[u8]) -> bool {
        pbkdf2::verify(PBKDF2_HMAC_SHA256, self.iterations, &self.salt, secret, &self.hash).is_ok()
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, hash) = (STANDARD_NO_PAD.encode(&self.salt), STANDARD_NO_PAD.encode(&self.hash));
        write!(f, "{SCHEME}${}${salt}${hash}", self.iterations)
    }
}

/// Without salt and hash: what is looked for by guessing has no place in logs.
impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretHash({SCHEME}, {})", self.iterations)
    }
}

impl FromStr for SecretHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |what: &str| {
            format!("is no hash of a secret: {what}; `actlog clients add` makes them ({SCHEME}$iterations$salt$hash)")
        };
        let parts: Vec<&str> = text.split('$').collect();
        let [SCHEME, iterations, salt, hash] = parts[..] else {
            return Err(refuse("it has not the four parts"));
        };
        let iterations = iterations.parse().ok().filter(|count| ALLOWED_ITERATIONS.contains(count));
        let iterations = iterations.and_then(NonZeroU32::new).ok_or_else(|| {
            refuse(&format!("the iterations are not {} to {}", ALLOWED_ITERATIONS.start(), ALLOWED_ITERATIONS.end()))
        })?;
        let decode = |part: &str| STANDARD_NO_PAD.decode(part).ok();
        let salt = decode(salt).filter(|salt| (SALT_BYTES..=64).contains(&salt.len()));
        let hash = decode(hash).filter(|hash| hash.len() == HASH_BYTES);
        let (Some(salt), Some(hash)) = (salt, hash) else {
            return Err(refuse("salt or hash is not base64 of the right length"));
        };
        Ok(Self { iterations, salt, hash })
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_secret_is_known_again_by_its_hash_and_no_other_is() {
        let hash = SecretHash::of(b"s+e%c&ret").unwrap();
        let again: SecretHash = hash.to_string().parse().unwrap();
        assert_eq!(again, hash);
        assert!(again.matches(b"s+e%c&ret"));
        for wrong in ["", "s+e%c&re", "s+e%c&ret ", "S+e%c&ret"] {
            assert!(!again.matches(wrong.as_bytes()), "{wrong:?}");
        }
        assert_ne!(SecretHash::of(b"s+e%c&ret").unwrap(), hash, "the salt is not of its own");
        assert!(!format!("{hash:?}").contains(&hash.to_string()[21..]), "{hash:?}");
    }

    #[test]
    fn the_hash_is_that_of_the_standard() {
        // Computed with Python: hashlib.pbkdf2_hmac("sha256", b"secret", bytes(range(16)), 100000).
        let hash = "pbkdf2-sha256$100000$AAECAwQFBgcICQoLDA0ODw$n7ndPI4pRDZreIx+eVpaY1DViEWyo9Ia1l8HtVGB+Dc";
        assert!(hash.parse::<SecretHash>().unwrap().matches(b"secret"));
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_repeated() {
        let good = SecretHash::of_nothing().to_string();
        for wrong in [
            "",
            "canary",
            "canary$600000$AAAAAAAAAAAAAAAAAAAAAA$AAAA",
            &good.replace("600000", "1"),
            &good.replace("600000", "99999999"),
            &good.replace("600000", "-1"),
            &good.replace("$A", "$canary"),
            &format!("{good}$canary"),
        ] {
            let error = wrong.parse::<SecretHash>().unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}|(pbkdf2-sha256)?[$0-9A-Za-z+/=]{0,120}") {
            let _ = text.parse::<SecretHash>();
        }
    }
}
