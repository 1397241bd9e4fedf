//! A domain's trust bundle as SPIFFE sees it: a JWK Set of its CA certificates (SPIFFE Trust Domain and Bundle §4).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use governance::trust_bundle::TrustBundle;
use serde_json::{Value, json};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// Media type of the document.
pub const BUNDLE_TYPE: &str = "application/json";

/// A CA certificate that has no place in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a CA certificate of the bundle is not one of a P-256 key")]
pub struct NoSuchKey;

/// The document. There are no JWT-SVID keys: this domain issues none.
pub fn bundle(bundle: &TrustBundle) -> Result<Value, NoSuchKey> {
    let keys = bundle.ca.iter().map(|der| x509_svid_key(der)).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({
        "keys": keys,
        "spiffe_sequence": bundle.sequence,
        "spiffe_refresh_hint": bundle.refresh_hint_s,
    }))
}

fn x509_svid_key(der: &[u8]) -> Result<Value, NoSuchKey> {
    let certificate = Certificate::from_der(der).map_err(|_| NoSuchKey)?;
    let key = certificate.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
    // SEC 1 §2.3.3: an uncompressed point is 04, x, y.
    let Some((4, point)) = key.split_first() else { return Err(NoSuchKey) };
    let Some((x, y)) = point.split_at_checked(COORDINATE_BYTES).filter(|(_, y)| y.len() == COORDINATE_BYTES) else {
        return Err(NoSuchKey);
    };
    Ok(json!({
        "use": "x509-svid",
        "kty": "EC",
        "crv": "P-256",
        "x": URL_SAFE_NO_PAD.encode(x),
        "y": URL_SAFE_NO_PAD.encode(y),
        "x5c": [STANDARD.encode(der)],
    }))
}

/// Bytes of one coordinate on P-256.
const COORDINATE_BYTES: usize = 32;
