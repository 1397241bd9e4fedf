//! The claims set in JSON, as the payload of a JWT (draft-ietf-rats-ear-04 §3, RFC 7519, RFC 9711 §7.2.2): the claims of the
//! CWT under their names. Fields stand in one order and nothing stands between them, so that the same result gives the
//! same bytes.
//!
//! What JSON cannot say exactly is text: byte strings of ours are hexadecimal, the nonce base64url (RFC 9711 §7.2.2), and
//! numbers that may not fit into the 53 bits of a JSON number (RFC 8259 §6) are hexadecimal with 0x.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, Serializer};

use crate::ear::{Appraisal, AttesterClaims, Ear, Nonce, Tier, TrustVector, VerifierClaims, VerifierId};

impl Ear {
    /// The claims set as JSON.
    ///
    /// # Errors
    /// When it cannot be written: a defect, since all of it is text, numbers and lists of them.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let submods = self.submods.iter().map(|(name, appraisal)| (name.as_str(), appraisal.into())).collect();
        serde_json::to_vec(&EarJson {
            eat_profile: &self.profile,
            iss: &self.issuer,
            aud: &self.audience,
            iat: self.issued_at,
            exp: self.expires_at,
            eat_nonce: self.nonce.as_ref().map(|Nonce(nonce)| URL_SAFE_NO_PAD.encode(nonce)),
            ear_verifier_id: (&self.verifier).into(),
            ear_status: self.status.name(),
            submods,
        })
    }
}

#[derive(Serialize)]
struct EarJson<'a> {
    eat_profile: &'a str,
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    eat_nonce: Option<String>,
    ear_verifier_id: VerifierIdJson<'a>,
    ear_status: &'static str,
    submods: BTreeMap<&'a str, AppraisalJson<'a>>,
}

#[derive(Serialize)]
struct VerifierIdJson<'a> {
    developer: &'a str,
    build: &'a str,
}

impl<'a> From<&'a VerifierId> for VerifierIdJson<'a> {
    fn from(id: &'a VerifierId) -> Self {
        Self { developer: &id.developer, build: &id.build }
    }
}

#[derive(Serialize)]
struct AppraisalJson<'a> {
    ear_status: &'static str,
    #[serde(serialize_with = "named")]
    ear_trustworthiness_vector: &'a TrustVector,
    ear_appraisal_policy_ids: &'a [String],
    ear_attester_claims: &'a AttesterClaims,
    ear_verifier_claims: &'a VerifierClaims,
}

impl<'a> From<&'a Appraisal> for AppraisalJson<'a> {
    fn from(appraisal: &'a Appraisal) -> Self {
        Self {
            ear_status: Tier::name(appraisal.status),
            ear_trustworthiness_vector: &appraisal.vector,
            ear_appraisal_policy_ids: &appraisal.policies,
            ear_attester_claims: &appraisal.attester,
            ear_verifier_claims: &appraisal.verifier,
        }
    }
}

/// The claims made, by name.
fn named<S: Serializer>(vector: &&TrustVector, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(vector.named())
}

/// A number of up to 64 bits: in CBOR as it is, in JSON hexadecimal.
pub(crate) mod wide {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&format_args!("{value:#x}"))
        } else {
            serializer.serialize_u64(*value)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer);
        }
        let text = String::deserialize(deserializer)?;
        let value = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        value.ok_or_else(|| D::Error::custom("a number is written 0x and up to 16 hexadecimal digits"))
    }
}

/// A byte string: in CBOR as it is, in JSON hexadecimal.
pub(crate) mod octets {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};
    use serde_bytes::ByteBuf;

    pub(crate) fn serialize<S: Serializer>(bytes: &ByteBuf, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex::encode(bytes))
        } else {
            bytes.serialize(serializer)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteBuf, D::Error> {
        if !deserializer.is_human_readable() {
            return ByteBuf::deserialize(deserializer);
        }
        hex::decode(String::deserialize(deserializer)?).map(ByteBuf::from).map_err(D::Error::custom)
    }
}
