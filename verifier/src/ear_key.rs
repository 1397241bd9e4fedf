//! The issuer's ES256 key: signs Attestation Results as JWT (RFC 7515, RFC 7519) for relying parties that read no COSE, and
//! is published as a JWK Set (RFC 7517).
//!
//! It says nothing that the issuer's own key has not signed and the log not recorded: a JWT is the same result once more.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use evidence::digest::Sha256Digest;
use serde::Serialize;
use zeroize::Zeroizing;

/// Media type of a JWK Set (RFC 7517 §8.5.2).
pub const JWK_SET_TYPE: &str = "application/jwk-set+json";

/// Why there is no key, or no signature by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EarKeyError {
    /// Neither PKCS#8 nor on P-256.
    #[error("not a P-256 key in PKCS#8")]
    Unusable,
    /// The system gave no randomness.
    #[error("no randomness for a key or a signature")]
    Randomness,
}

/// An ES256 key.
pub struct EarKey {
    pair: EcdsaKeyPair,
    jwk: Jwk,
}

/// A public key (RFC 7518 §6.2.1), and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Jwk {
    kty: &'static str,
    crv: &'static str,
    x: String,
    y: String,
    r#use: &'static str,
    alg: &'static str,
    kid: String,
}

impl EarKey {
    /// A fresh key, PKCS#8 DER.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, EarKeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| EarKeyError::Randomness)?;
        let document = pair.to_pkcs8v1().map_err(|_| EarKeyError::Unusable)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The key in a PKCS#8 document.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, EarKeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document);
        let pair = pair.map_err(|_| EarKeyError::Unusable)?;
        let jwk = Jwk::of(pair.public_key().as_ref()).ok_or(EarKeyError::Unusable)?;
        Ok(Self { pair, jwk })
    }

    /// Its name: the thumbprint of its public key (RFC 7638).
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.jwk.kid
    }

    /// The JWK Set that it is published in.
    pub fn jwk_set(&self) -> serde_json::Result<Vec<u8>> {
        #[derive(Serialize)]
        struct JwkSet<'a> {
            keys: [&'a Jwk; 1],
        }
        serde_json::to_vec(&JwkSet { keys: [&self.jwk] })
    }

    /// A JWT of these claims, in JSON: header, claims and signature in base64url (RFC 7515 §7.1).
    pub fn sign(&self, claims: &[u8]) -> Result<String, EarKeyError> {
        // its members are ASCII without anything that JSON would escape
        let header = format!(r#"{{"alg":"{}","kid":"{}","typ":"JWT"}}"#, self.jwk.alg, self.jwk.kid);
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| EarKeyError::Randomness)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }
}

impl std::fmt::Debug for EarKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EarKey({})", self.jwk.kid)
    }
}

impl Jwk {
    /// Of an uncompressed point (SEC 1 §2.3.3).
    fn of(point: &[u8]) -> Option<Self> {
        let (x, y) = point.strip_prefix(&[4]).filter(|xy| xy.len() == 64)?.split_at_checked(32)?;
        let (kty, crv) = ("EC", "P-256");
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        // RFC 7638 §3: the required members in the order of their names, with nothing between them
        let thumbprint = Sha256Digest::of(format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#).as_bytes());
        let kid = URL_SAFE_NO_PAD.encode(thumbprint.as_bytes());
        Some(Self { kty, crv, x, y, r#use: "sig", alg: "ES256", kid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        // RFC 7515 appendix A.3.1; the thumbprint of it as RFC 7638 says, by another program
        let decoded = |text| URL_SAFE_NO_PAD.decode(text).unwrap();
        let x = decoded("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
        let y = decoded("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        let jwk = Jwk::of(&[&[4], x.as_slice(), &y].concat()).unwrap();
        assert_eq!(jwk.kid, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
        assert_eq!(Jwk::of(&[4; 64]), None);
        assert_eq!(Jwk::of(&[2; 65]), None);
    }

    #[test]
    fn a_key_survives_its_document_and_another_document_is_none() {
        let document = EarKey::generate().unwrap();
        let key = EarKey::from_pkcs8(&document).unwrap();
        assert_eq!(key.kid(), EarKey::from_pkcs8(&document).unwrap().kid());
        assert_ne!(key.kid(), EarKey::from_pkcs8(&EarKey::generate().unwrap()).unwrap().kid());
        assert!(matches!(EarKey::from_pkcs8(&document[1..]), Err(EarKeyError::Unusable)));
        let ed25519 = crate::state::fresh_signing_key().unwrap().to_pkcs8().unwrap();
        assert!(matches!(EarKey::from_pkcs8(&ed25519), Err(EarKeyError::Unusable)));
    }
}
