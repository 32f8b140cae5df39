//! The compact form of a signed JSON Web Token (RFC 7515): taken apart, and put together.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

/// Bytes of a token, at most: of ours some 900, of a client's assertion with its certificate some 4,000.
const MAXIMUM: usize = 12 << 10;

/// A token in its parts. Nothing of it is verified.
pub(crate) struct Compact<'a> {
    /// What the signature is over.
    pub(crate) signed: &'a [u8],
    /// JSON of the header.
    pub(crate) header: Vec<u8>,
    /// JSON of the claims.
    pub(crate) claims: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart; none where it is not three parts in base64url without padding, or too long.
    pub(crate) fn parse(token: &'a str) -> Option<Self> {
        if token.len() > MAXIMUM {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Self {
            signed: signed.as_bytes(),
            header: decode(header)?,
            claims: decode(claims)?,
            signature: decode(signature)?,
        })
    }
}

/// Puts a token together.
///
/// # Errors
/// What `sign` says, and when header or claims have no form in JSON.
pub(crate) fn compact<E: From<serde_json::Error>>(
    header: &impl Serialize,
    claims: &impl Serialize,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let encoded = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
    let signed = format!("{}.{}", encoded(serde_json::to_vec(header)?), encoded(serde_json::to_vec(claims)?));
    let signature = sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", encoded(signature)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_is_taken_apart_as_it_was_put_together(header: String, claims: String, signature: Vec<u8>) {
            let token = compact::<serde_json::Error>(&header, &claims, |_| Ok(signature.clone())).unwrap();
            let parts = Compact::parse(&token).unwrap();
            prop_assert_eq!(serde_json::from_slice::<String>(&parts.header).unwrap(), header);
            prop_assert_eq!(serde_json::from_slice::<String>(&parts.claims).unwrap(), claims);
            prop_assert_eq!(&parts.signature, &signature);
            prop_assert!(token.as_bytes().starts_with(parts.signed));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}|[A-Za-z0-9_.=-]{0,200}") {
            let _ = Compact::parse(&text);
        }
    }

    #[test]
    fn only_three_parts_without_padding_and_of_bounded_length_are_a_token() {
        assert!(Compact::parse("e30.e30.AA").is_some());
        for wrong in
            ["", ".", "..a", "e30.e30", "e30.e30.AA.AA", "e30=.e30.AA", "e3+.e30.AA", "e30.e30.AB", " e30.e30.AA"]
        {
            assert!(Compact::parse(wrong).is_none(), "{wrong}");
        }
        assert!(Compact::parse(&format!("e30.{}.AA", "A".repeat(MAXIMUM))).is_none());
    }
}
