//! Intel's collateral as it is fetched and kept: signed texts, revocation lists and the chains of who signed them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::pem;
use crate::{EvidenceDenial, digest::Sha256Digest};

/// Longest collateral in JSON.
pub const COLLATERAL_CAP_BYTES: usize = 1 << 20;

/// Collateral for one kind of platform and one quoting enclave. Nothing of it is verified.
///
/// In JSON: one object of these names; chains are PEM, lists and signatures hexadecimal, and the signed texts are
/// strings that hold Intel's JSON character by character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collateral {
    /// PCK CA, then the root.
    pub pck_crl_issuer_chain: String,
    /// Root CA's revocation list, DER.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub root_ca_crl: Vec<u8>,
    /// PCK CA's revocation list, DER.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub pck_crl: Vec<u8>,
    /// TCB signing certificate, then the root.
    pub tcb_info_issuer_chain: String,
    /// TCB Info as signed.
    pub tcb_info: String,
    /// r and s, 32 bytes each.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub tcb_info_signature: Vec<u8>,
    /// TCB signing certificate, then the root.
    pub qe_identity_issuer_chain: String,
    /// QE identity as signed.
    pub qe_identity: String,
    /// r and s, 32 bytes each.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub qe_identity_signature: Vec<u8>,
}

/// The same in the parts that are kept one by one: certificates and lists in DER.
#[derive(Clone, Copy, Debug)]
pub struct CollateralParts<'a> {
    /// Root certificate.
    pub root: &'a [u8],
    /// The root's revocation list.
    pub root_crl: &'a [u8],
    /// Certificate of the authority that issues PCK certificates.
    pub pck_ca: &'a [u8],
    /// That authority's revocation list.
    pub pck_crl: &'a [u8],
    /// TCB Info.
    pub tcb_info: SignedPart<'a>,
    /// Identity of the quoting enclave.
    pub qe_identity: SignedPart<'a>,
}

/// A text of collateral, and who signed it.
#[derive(Clone, Copy, Debug)]
pub struct SignedPart<'a> {
    /// As signed.
    pub text: &'a str,
    /// r and s, 32 bytes each.
    pub signature: &'a [u8; 64],
    /// Certificate of the key that signed it, under the root.
    pub signer: &'a [u8],
}

impl Collateral {
    /// Puts collateral together from its parts. The same parts give the same collateral, byte for byte.
    ///
    /// # Errors
    /// [`EvidenceDenial::Malformed`] when a certificate cannot be written in PEM.
    pub fn of(parts: &CollateralParts<'_>) -> Result<Self, EvidenceDenial> {
        let CollateralParts { root, root_crl, pck_ca, pck_crl, tcb_info, qe_identity } = parts;
        Ok(Self {
            pck_crl_issuer_chain: pem::write_chain(&[pck_ca, root])?,
            root_ca_crl: root_crl.to_vec(),
            pck_crl: pck_crl.to_vec(),
            tcb_info_issuer_chain: pem::write_chain(&[tcb_info.signer, root])?,
            tcb_info: tcb_info.text.to_owned(),
            tcb_info_signature: tcb_info.signature.to_vec(),
            qe_identity_issuer_chain: pem::write_chain(&[qe_identity.signer, root])?,
            qe_identity: qe_identity.text.to_owned(),
            qe_identity_signature: qe_identity.signature.to_vec(),
        })
    }

    /// Reads collateral in JSON.
    ///
    /// # Errors
    /// [`EvidenceDenial::TooLarge`], or [`EvidenceDenial::Malformed`] when a part is missing, stands twice or is not
    /// one of these.
    pub fn from_json(bytes: &[u8]) -> Result<Self, EvidenceDenial> {
        if bytes.len() > COLLATERAL_CAP_BYTES {
            let (got_bytes, cap_bytes) = (bytes.len(), COLLATERAL_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "collateral", got_bytes, cap_bytes });
        }
        serde_json::from_slice(bytes).map_err(|error| EvidenceDenial::Malformed {
            structure: "collateral",
            offset: error.column(),
            what: "JSON of its nine parts",
        })
    }

    /// The collateral in JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // strings alone: there is nothing in it that JSON cannot say
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// SHA-256 over all parts with their lengths: names this collateral in caches, results and logs.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::labelled(
            "attestd/tdx-collateral/1",
            &[
                self.pck_crl_issuer_chain.as_bytes(),
                &self.root_ca_crl,
                &self.pck_crl,
                self.tcb_info_issuer_chain.as_bytes(),
                self.tcb_info.as_bytes(),
                &self.tcb_info_signature,
                self.qe_identity_issuer_chain.as_bytes(),
                self.qe_identity.as_bytes(),
                &self.qe_identity_signature,
            ],
        )
    }
}

fn to_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    hex::decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
}
