//! A domain's trust bundle as SPIFFE sees it: a JWK Set of its CA certificates and of the keys of its JWT-SVIDs (SPIFFE
//! Trust Domain and Bundle §4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use governance::jwk::{JwtSvidJwk, P256Jwk};
use governance::trust_bundle::TrustBundle;
use serde::Serialize;
use serde_json::{Value, json};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// Media type of the document.
pub const BUNDLE_TYPE: &str = "application/json";

/// A key that has no place in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a CA certificate, or a key of JWT-SVIDs, in the bundle is not one of a P-256 key")]
pub struct NoSuchKey;

/// The document.
pub fn bundle(bundle: &TrustBundle) -> Result<Value, NoSuchKey> {
    let mut keys = Vec::new();
    for der in &bundle.ca {
        keys.push(value(&X509SvidJwk::of(der)?)?);
    }
    for record in &bundle.jwt {
        keys.push(value(&JwtSvidJwk::of(record).ok_or(NoSuchKey)?)?);
    }
    Ok(json!({
        "keys": keys,
        "spiffe_sequence": bundle.sequence,
        "spiffe_refresh_hint": bundle.refresh_hint_s,
    }))
}

fn value(key: &impl Serialize) -> Result<Value, NoSuchKey> {
    serde_json::to_value(key).map_err(|_| NoSuchKey)
}

/// A CA by its certificate.
#[derive(Serialize)]
struct X509SvidJwk {
    r#use: &'static str,
    #[serde(flatten)]
    key: P256Jwk,
    x5c: [String; 1],
}

impl X509SvidJwk {
    fn of(der: &[u8]) -> Result<Self, NoSuchKey> {
        let certificate = Certificate::from_der(der).map_err(|_| NoSuchKey)?;
        let key = certificate.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
        let key = P256Jwk::of(key).ok_or(NoSuchKey)?;
        Ok(Self { r#use: "x509-svid", key, x5c: [STANDARD.encode(der)] })
    }
}
