//! ES256 keys, which sign JSON Web Tokens (RFC 7515, RFC 7518 §3.4, RFC 7519) for those who read no COSE.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use evidence::cose::PublicKey;
use zeroize::Zeroizing;

/// Why there is no key, or no signature by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Es256Error {
    /// Neither PKCS#8 nor on P-256.
    #[error("not a P-256 key in PKCS#8")]
    Unusable,
    /// The system gave no randomness.
    #[error("no randomness for a key or a signature")]
    Randomness,
}

/// An ES256 key.
pub struct Es256Key {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl Es256Key {
    /// A fresh key, PKCS#8 DER.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, Es256Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| Es256Error::Randomness)?;
        let document = pair.to_pkcs8v1().map_err(|_| Es256Error::Unusable)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The key in a PKCS#8 document.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, Es256Error> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document);
        let pair = pair.map_err(|_| Es256Error::Unusable)?;
        let public = PublicKey::p256(pair.public_key().as_ref()).map_err(|_| Es256Error::Unusable)?;
        Ok(Self { pair, public })
    }

    /// Its public half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A JWT of these claims, in JSON: header, claims and signature in base64url (RFC 7515 §7.1). `kid`: ASCII without
    /// anything that JSON would escape.
    pub fn sign(&self, kid: &str, claims: &[u8]) -> Result<String, Es256Error> {
        let header = format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"JWT"}}"#);
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| Es256Error::Randomness)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }
}

impl std::fmt::Debug for Es256Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Es256Key({})", self.public.kid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_document_and_another_document_is_none() {
        let document = Es256Key::generate().unwrap();
        let key = Es256Key::from_pkcs8(&document).unwrap();
        assert_eq!(key.public(), Es256Key::from_pkcs8(&document).unwrap().public());
        assert_ne!(key.public(), Es256Key::from_pkcs8(&Es256Key::generate().unwrap()).unwrap().public());
        assert!(matches!(Es256Key::from_pkcs8(&document[1..]), Err(Es256Error::Unusable)));
        let ed25519 = crate::state::fresh_signing_key().unwrap().to_pkcs8().unwrap();
        assert!(matches!(Es256Key::from_pkcs8(&ed25519), Err(Es256Error::Unusable)));
    }
}
