//! Public P-256 keys as JSON Web Keys (RFC 7517, RFC 7518 §6.2.1), as SPIFFE bundles hold them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use evidence::digest::Sha256Digest;
use serde::Serialize;

use crate::trust_bundle::KeyRecord;

/// Bytes of one coordinate on P-256.
const COORDINATE_BYTES: usize = 32;

/// The members that make the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct P256Jwk {
    crv: &'static str,
    kty: &'static str,
    x: String,
    y: String,
}

impl P256Jwk {
    /// Of an uncompressed point (SEC 1 §2.3.3): 04, x, y.
    #[must_use]
    pub fn of(point: &[u8]) -> Option<Self> {
        let (x, y) = point.strip_prefix(&[4])?.split_at_checked(COORDINATE_BYTES)?;
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        (point.len() == POINT_BYTES).then_some(Self { crv: "P-256", kty: "EC", x, y })
    }

    /// Its thumbprint (RFC 7638 §3): the required members in the order of their names, with nothing between them.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let Self { crv, kty, x, y } = self;
        let digest = Sha256Digest::of(format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#).as_bytes());
        URL_SAFE_NO_PAD.encode(digest.as_bytes())
    }
}

/// A key that verifies JWT-SVIDs, as a bundle holds it (SPIFFE Trust Domain and Bundle §4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JwtSvidJwk {
    r#use: &'static str,
    kid: String,
    #[serde(flatten)]
    key: P256Jwk,
}

impl JwtSvidJwk {
    /// Named as the bundle names it. Nothing for a key of another kind, which no bundle has in this role.
    #[must_use]
    pub fn of(record: &KeyRecord) -> Option<Self> {
        let key = P256Jwk::of(record.key.raw())?;
        Some(Self { r#use: "jwt-svid", kid: record.key.kid().to_string(), key })
    }
}

const POINT_BYTES: usize = 1 + 2 * COORDINATE_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        // RFC 7515 appendix A.3.1; the thumbprint of it as RFC 7638 says, by another program
        let decoded = |text| URL_SAFE_NO_PAD.decode(text).unwrap();
        let x = decoded("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
        let y = decoded("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        let key = P256Jwk::of(&[&[4], x.as_slice(), &y].concat()).unwrap();
        assert_eq!(key.thumbprint(), "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
        for bad in [&[4; 64][..], &[4; 66], &[2; 65], &[]] {
            assert_eq!(P256Jwk::of(bad), None);
        }
    }
}
