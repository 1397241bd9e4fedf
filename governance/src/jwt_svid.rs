//! JWT-SVIDs (SPIFFE JWT-SVID): how an execution shows who it is where it cannot show a certificate.
//!
//! One is a JWS in compact serialization (RFC 7515 §7.1), signed ES256 by a JWT key of its domain's trust bundle. Whoever
//! judges one asks the keys of the trust domain that it claims, and no others.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use evidence::{cose::CoseDenial, names::DomainName, time::UnixSeconds};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{denial::GovernanceDenial, trust_bundle::KeyRecord};

/// Longest JWT-SVID, in bytes: the longest audiences, escaped and encoded, with room to spare.
pub const JWT_SVID_CAP_BYTES: usize = 8 * 1024;
/// Most audiences of one.
pub const AUDIENCES_CAP: usize = 8;
/// Longest audience, in bytes.
pub const AUDIENCE_CAP_BYTES: usize = 256;
/// Longest life of one, in seconds; its lease may end sooner, and it with that.
pub const JWT_SVID_LIFETIME_CAP_S: u64 = 300;

const WHAT: &str = "JWT-SVID";
/// Longest SPIFFE ID (SPIFFE-ID §2.3), in bytes.
const SPIFFE_ID_CAP_BYTES: usize = 2048;

/// What a domain signs of an execution (JWT-SVID §3).
#[derive(Clone, Debug, Serialize)]
pub struct Claims<'a> {
    /// SPIFFE ID of the execution.
    pub sub: &'a str,
    /// For whom it is.
    pub aud: &'a [String],
    /// First second in which it no longer counts.
    pub exp: UnixSeconds,
    /// When it was issued.
    pub iat: UnixSeconds,
}

/// Admits what may be asked for as audiences.
///
/// # Errors
/// [`GovernanceDenial::FieldInvalid`].
pub fn admit_audiences(audiences: &[String]) -> Result<(), GovernanceDenial> {
    let formed = |audience: &String| {
        (1..=AUDIENCE_CAP_BYTES).contains(&audience.len()) && audience.bytes().all(|b| (0x20..=0x7e).contains(&b))
    };
    if (1..=AUDIENCES_CAP).contains(&audiences.len()) && audiences.iter().all(formed) {
        return Ok(());
    }
    refuse("aud", "1 to 8 audiences, each of 1 to 256 characters of printable ASCII")
}

/// A JWT-SVID in the accepted form, its signature NOT verified: says whose keys to ask.
#[derive(Clone, Debug)]
pub struct ClaimedJwtSvid<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    kid: String,
    judged: Judged,
    claims: Map<String, Value>,
    domain: DomainName,
}

/// A JWT-SVID by a key of its trust domain, for whoever judged it, in force when it was judged.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtSvid {
    spiffe_id: String,
    audiences: Vec<String>,
    expires_at: UnixSeconds,
    claims: Map<String, Value>,
}

/// RFC 7515 §4.1, narrowed to what JWT-SVID §2 knows: whatever else a header asks for is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: Option<String>,
}

/// The claims that are judged.
#[derive(Clone, Debug, Deserialize)]
struct Judged {
    sub: String,
    aud: Vec<String>,
    exp: u64,
    nbf: Option<u64>,
}

impl<'t> ClaimedJwtSvid<'t> {
    /// Reads the form of one.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn read(token: &'t str) -> Result<Self, GovernanceDenial> {
        let (got_bytes, cap_bytes) = (token.len(), JWT_SVID_CAP_BYTES);
        if got_bytes > cap_bytes {
            return Err(GovernanceDenial::TooLarge { what: WHAT, got_bytes, cap_bytes });
        }
        let unformed = || malformed("not three parts in base64url");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(unformed)?;
        let (header, claims) = signed.split_once('.').ok_or_else(unformed)?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| unformed());
        let (header, claims, signature) = (decoded(header)?, decoded(claims)?, decoded(signature)?);
        let header: Header = json(&header)?;
        if header.alg != "ES256" {
            return refuse("alg", "ES256");
        }
        if header.typ.is_some_and(|typ| typ != "JWT" && typ != "JOSE") {
            return refuse("typ", "JWT or JOSE");
        }
        let judged: Judged = json(&claims)?;
        let domain = trust_domain(&judged.sub)?;
        let (kid, claims) = (header.kid, json(&claims)?);
        if kid.len() != KID_CHARACTERS || !kid.bytes().all(|b| b.is_ascii_hexdigit()) {
            return refuse("kid", "16 bytes in hexadecimal");
        }
        Ok(Self { signed, signature, kid, judged, claims, domain })
    }

    /// The trust domain that it claims.
    #[must_use]
    pub const fn domain(&self) -> &DomainName {
        &self.domain
    }

    /// Judges it by the JWT keys of that trust domain.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn verify(self, keys: &[KeyRecord], audience: &str, now: UnixSeconds) -> Result<JwtSvid, GovernanceDenial> {
        let Self { signed, signature, kid, judged, claims, .. } = self;
        let mut in_force = keys.iter().filter(|record| record.from <= now && now < record.until);
        let denied = |cause| GovernanceDenial::SignatureInvalid { what: WHAT, cause };
        let record = in_force.find(|record| record.key.kid().to_string() == kid);
        let record = record.ok_or_else(|| denied(CoseDenial::UnknownKey { kid: kid.clone() }))?;
        if !record.key.verifies(signed.as_bytes(), &signature) {
            return Err(denied(CoseDenial::Signature { kid }));
        }
        let Judged { sub, aud, exp, nbf } = judged;
        let (expires_at, not_before) = (UnixSeconds(exp), UnixSeconds(nbf.unwrap_or(0)));
        if now >= expires_at {
            return Err(GovernanceDenial::Expired { what: WHAT, expires_at, now });
        }
        if now < not_before {
            return Err(GovernanceDenial::NotYetValid { what: WHAT, not_before, now });
        }
        if !aud.iter().any(|of| of == audience) {
            return Err(GovernanceDenial::Audience { got: format!("{aud:?}"), expected: audience.to_owned() });
        }
        Ok(JwtSvid { spiffe_id: sub, audiences: aud, expires_at, claims })
    }
}

impl JwtSvid {
    /// Who shows it.
    #[must_use]
    pub fn spiffe_id(&self) -> &str {
        &self.spiffe_id
    }

    /// For whom it is.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// First second in which it no longer counts.
    #[must_use]
    pub const fn expires_at(&self) -> UnixSeconds {
        self.expires_at
    }

    /// All its claims.
    #[must_use]
    pub fn into_claims(self) -> Map<String, Value> {
        self.claims
    }
}

/// The trust domain of a SPIFFE ID with a path (SPIFFE-ID §2.1, §2.2).
fn trust_domain(spiffe_id: &str) -> Result<DomainName, GovernanceDenial> {
    let segment = |segment: &str| {
        let formed = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        formed && !matches!(segment, "" | "." | "..")
    };
    let parts = spiffe_id.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
    let parts = parts.filter(|(_, path)| spiffe_id.len() <= SPIFFE_ID_CAP_BYTES && path.split('/').all(segment));
    match parts.map(|(domain, _)| DomainName::new(domain)) {
        Some(Ok(domain)) => Ok(domain),
        Some(Err(_)) | None => refuse("sub", "a SPIFFE ID"),
    }
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, GovernanceDenial> {
    // Of an error only its place is repeated: the text is a stranger's.
    serde_json::from_slice(bytes)
        .map_err(|error| malformed(format_args!("not the JSON that is wanted, at {}:{}", error.line(), error.column())))
}

fn malformed(cause: impl std::fmt::Display) -> GovernanceDenial {
    GovernanceDenial::Malformed { what: WHAT, cause: cause.to_string() }
}

const fn refuse<T>(field: &'static str, rule: &'static str) -> Result<T, GovernanceDenial> {
    Err(GovernanceDenial::FieldInvalid { what: WHAT, field, rule })
}

/// A key id in hexadecimal.
const KID_CHARACTERS: usize = 32;

#[cfg(test)]
#[path = "jwt_svid_tests.rs"]
mod tests;
