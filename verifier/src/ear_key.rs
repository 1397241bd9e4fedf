//! The issuer's ES256 key: signs Attestation Results as JWT (RFC 7515, RFC 7519) for relying parties that read no COSE, and
//! is published as a JWK Set (RFC 7517).
//!
//! It says nothing that the issuer's own key has not signed and the log not recorded: a JWT is the same result once more.

use governance::jwk::P256Jwk;
use serde::Serialize;

use crate::es256::{Es256Error, Es256Key};

/// Media type of a JWK Set (RFC 7517 §8.5.2).
pub const JWK_SET_TYPE: &str = "application/jwk-set+json";

/// The key, and as what it is published.
#[derive(Debug)]
pub struct EarKey {
    key: Es256Key,
    jwk: Jwk,
}

/// A public key, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Jwk {
    #[serde(flatten)]
    key: P256Jwk,
    r#use: &'static str,
    alg: &'static str,
    kid: String,
}

impl EarKey {
    /// The key in a PKCS#8 document.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, Es256Error> {
        let key = Es256Key::from_pkcs8(document)?;
        let jwk = P256Jwk::of(key.public().raw()).ok_or(Es256Error::Unusable)?;
        let jwk = Jwk { kid: jwk.thumbprint(), key: jwk, r#use: "sig", alg: "ES256" };
        Ok(Self { key, jwk })
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

    /// A JWT of these claims, in JSON.
    pub fn sign(&self, claims: &[u8]) -> Result<String, Es256Error> {
        self.key.sign(self.kid(), claims)
    }
}
