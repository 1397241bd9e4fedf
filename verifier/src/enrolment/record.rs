//! What is kept of a TEE's enrolment, so that its identity can be read back and its proof judged again.

use evidence::cbor::{self, Caps};
use evidence::cose::PublicKey;
use evidence::digest::Sha256Digest;
use evidence::kind::EvidenceKind;
use evidence::names::NodeId;
use evidence::tee::{EnrolledPlatform, PlatformId};
use evidence::time::UnixSeconds;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Version of the record.
const VERSION: u8 = 1;
/// Longest record that is read back.
const RECORD_CAP_BYTES: usize = 8 * 1024;

/// One enrolment of a TEE, or of a TPM in one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformEnrolment {
    /// [`VERSION`].
    version: u8,
    /// The node.
    pub node_id: NodeId,
    /// The kind of evidence that it gives.
    pub kind: EvidenceKind,
    /// The platform that signed it.
    pub platform: PlatformId,
    /// COSE_Key of the record key.
    record_key: ByteBuf,
    /// Digest of the enrolment of its TPM, for kinds that have one.
    pub tpm: Option<Sha256Digest>,
    /// Digest of the evidence that proved it.
    pub evidence: Sha256Digest,
    /// Digest of the challenge that the evidence answered.
    pub challenge: Sha256Digest,
    /// Digests of the endorsements that it was judged by.
    pub endorsements: Vec<Sha256Digest>,
    /// When.
    pub at: UnixSeconds,
}

/// What proved an enrolment, by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The evidence.
    pub evidence: Sha256Digest,
    /// The challenge.
    pub challenge: Sha256Digest,
    /// The endorsements.
    pub endorsements: Vec<Sha256Digest>,
    /// When.
    pub at: UnixSeconds,
}

impl PlatformEnrolment {
    /// The record of `platform`, proved by `proof`.
    #[must_use]
    pub fn of(platform: &EnrolledPlatform, kind: EvidenceKind, tpm: Option<Sha256Digest>, proof: Proof) -> Self {
        let Proof { evidence, challenge, endorsements, at } = proof;
        Self {
            version: VERSION,
            node_id: platform.node_id().clone(),
            kind,
            platform: platform.platform().clone(),
            record_key: ByteBuf::from(platform.record_key().cose_key()),
            tpm,
            evidence,
            challenge,
            endorsements,
            at,
        }
    }

    /// As it is kept: deterministic CBOR.
    pub fn to_kept(&self) -> Result<Vec<u8>, cbor::CborError> {
        cbor::to_vec(self)
    }

    /// Reads a kept record.
    pub fn from_kept(bytes: &[u8]) -> Result<Self, cbor::CborError> {
        cbor::from_slice(bytes, Caps::bytes(RECORD_CAP_BYTES))
    }

    /// The identity that it proved; `None` when its record key is none, which was judged before it was kept.
    #[must_use]
    pub fn enrolled(&self) -> Option<EnrolledPlatform> {
        let record_key = PublicKey::from_cose_key(&self.record_key).ok()?;
        Some(EnrolledPlatform::new(self.node_id.clone(), self.platform.clone(), record_key))
    }
}
