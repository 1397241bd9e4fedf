//! Passport: a node's signed word that a partner domain authorized this very execution, given in the place of evidence.
//!
//! RFC 9334 §5.1 (passport model): the node carries one verifier's Attestation Result to another relying party. What the
//! partner signed travels inside what the node signs, with the relying domain's own nonce and the TLS exporter of this
//! connection, so that neither is of use to whoever copied it. How far the partner is believed is its grant's to say.

use evidence::{
    challenge::Challenge,
    cose::{KeySet, Purpose, SigningKey},
    digest::Sha256Digest,
    names::{DomainName, NodeId},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    artifact::ARTIFACT_CAP_BYTES,
    codec::{self, Kind},
    denial::GovernanceDenial,
};

/// Version of the record.
pub const PASSPORT_VERSION: u8 = 1;
/// Longest Attestation Result that it carries, in bytes: the claims set (`policy::result::RESULT_CAP_BYTES`) and its COSE.
pub const PASSPORT_RESULT_CAP_BYTES: usize = 33 * 1024;
/// Longest encoded passport, in bytes.
pub const PASSPORT_CAP_BYTES: usize = ARTIFACT_CAP_BYTES + PASSPORT_RESULT_CAP_BYTES + 2 * 1024;

const KIND: Kind = Kind { name: "passport", cap_bytes: PASSPORT_CAP_BYTES };

/// The record itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passport {
    /// [`PASSPORT_VERSION`].
    pub version: u8,
    /// The domain that is to rely on it.
    pub domain: DomainName,
    /// Whose it is.
    pub node: NodeId,
    /// The domain that judged the node's evidence.
    pub partner: DomainName,
    /// The partner's newest artifact for the execution, as it signed it.
    pub artifact: ByteBuf,
    /// The Attestation Result that the artifact names, as the partner signed it.
    pub result: ByteBuf,
    /// The relying domain's nonce.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 32],
    /// TLS exporter of the connection that it is given on.
    #[serde(with = "serde_bytes")]
    pub channel: [u8; 32],
    /// Governance epoch of the challenge.
    pub epoch: u64,
    /// Subject of the challenge: the intent, or the artifact that is renewed.
    pub subject: Sha256Digest,
    /// Newest record of the node's lineage in the relying domain.
    pub lineage_head: Sha256Digest,
}

impl Passport {
    /// Its deterministic CBOR.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, GovernanceDenial> {
        codec::version(KIND.name, self.version, PASSPORT_VERSION)?;
        codec::write(KIND, self)
    }

    /// Reads a passport; its signature is not judged here.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn decode(payload: &[u8]) -> Result<Self, GovernanceDenial> {
        let passport: Self = codec::read(KIND, payload)?;
        codec::version(KIND.name, passport.version, PASSPORT_VERSION)?;
        Ok(passport)
    }

    /// Signs it with the node's record key.
    ///
    /// # Errors
    /// As for [`Passport::encode`].
    pub fn sign(&self, record_key: &SigningKey) -> Result<Vec<u8>, GovernanceDenial> {
        codec::sign(KIND, Purpose::Passport, &self.domain, &self.encode()?, record_key)
    }

    /// Reads a passport of `node` for `told`, signed by that node's record key.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn verify(
        bytes: &[u8],
        told: &DomainName,
        node: &NodeId,
        record_keys: &KeySet,
    ) -> Result<Self, GovernanceDenial> {
        let signed = codec::verify(KIND, Purpose::Passport, told, bytes, record_keys)?;
        let passport = Self::decode(signed.payload())?;
        codec::addressed(KIND.name, (&passport.domain, told), (&passport.node, node))?;
        Ok(passport)
    }

    /// Refuses it unless it answers this challenge, in time.
    ///
    /// # Errors
    /// [`GovernanceDenial::PassportMismatch`], [`GovernanceDenial::Expired`].
    pub fn answers(&self, challenge: &Challenge, now: UnixSeconds) -> Result<(), GovernanceDenial> {
        let fields = [
            ("nonce", self.nonce == challenge.nonce),
            ("channel", self.channel == challenge.channel),
            ("audience", self.domain.verifier_spiffe_id() == challenge.audience),
            ("epoch", self.epoch == challenge.epoch),
            ("subject", self.subject == challenge.subject),
            ("lineage head", self.lineage_head == challenge.lineage_head),
        ];
        if let Some((what, _)) = fields.into_iter().find(|(_, same)| !same) {
            return Err(GovernanceDenial::PassportMismatch { domain: self.partner.clone(), what });
        }
        if now >= challenge.expires_at {
            return Err(GovernanceDenial::Expired { what: "challenge", expires_at: challenge.expires_at, now });
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "passport_tests.rs"]
pub(crate) mod tests;
