//! A node's TPM identity: EK, AK and record key, proven to belong together once, kept, and re-proven from what was
//! kept whenever it is used (T1-T4).
//!
//! [`Candidate`] (structures and EK chain judged) → [`PendingActivation`] (a secret only that TPM can open went
//! out) → [`Enrolment`] (the secret came back, signed for by the AK). There is no other way to an [`Enrolment`],
//! and none from a consumed activation to a second one.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use super::{
    attest::ClockInfo,
    credential::{Credential, Randomness, make_credential},
    ek::{EkEndorsement, endorse_ek},
    public::{Name, Public},
    signature::VerifyingKey,
    template::{ak_template, ek_template},
};
use crate::{
    EvidenceDenial,
    anchors::TrustAnchors,
    cbor, cose,
    digest::Sha256Digest,
    ledger::{CheckId, CheckLedger},
    names::NodeId,
    time::UnixSeconds,
};

/// Longest encoded enrolment: six certificates of 16 KiB, and keys.
pub const ENROLMENT_CAP_BYTES: usize = 128 * 1024;

/// What a node says it is. Nothing of it is believed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The node's name in the domain.
    pub node_id: NodeId,
    /// TPM2B_PUBLIC of the EK.
    pub ek_public: ByteBuf,
    /// DER certificates, the EK's first; may be empty for a pinned EK.
    pub ek_chain: Vec<ByteBuf>,
    /// TPM2B_PUBLIC of the AK.
    pub ak_public: ByteBuf,
    /// COSE_Key of the node's record key.
    pub record_key: ByteBuf,
}

/// The record of a proven identity: stored, content-addressed, logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Who and which keys.
    pub identity: Identity,
    /// Governance epoch of the activation.
    pub epoch: u64,
    /// When the activation was completed.
    pub enrolled_at: UnixSeconds,
    /// The activation secret, spent: it opens nothing and is kept so that the proof can be checked again.
    pub secret: ByteBuf,
    /// [`activation_digest`] over node, EK, AK Name, epoch and secret.
    pub activation: Sha256Digest,
    /// TPMS_ATTEST of the AK's quote over [`enrolment_qualifying_data`]. Also the clock baseline.
    pub proof: ByteBuf,
    /// TPMT_SIGNATURE over it.
    pub proof_signature: ByteBuf,
}

/// Qualifying data of the quote that ends an enrolment: SHA-256 over the label, the activation secret and the
/// record key, each with its length. Ties the record key to the AK.
#[must_use]
pub fn enrolment_qualifying_data(secret: &[u8], record_key: &[u8]) -> [u8; 32] {
    Sha256Digest::labelled("attestd/enrol/1", &[secret, record_key]).0
}

/// What an activation is bound to (T4): node id, EK, AK Name and epoch, with the secret that proves them.
#[must_use]
pub fn activation_digest(identity: &Identity, ak_name: &Name, epoch: u64, secret: &[u8]) -> Sha256Digest {
    let ek = ek_digest(&identity.ek_public);
    let parts: [&[u8]; 6] = [
        identity.node_id.as_str().as_bytes(),
        ek.as_bytes(),
        &ak_name.to_bytes(),
        &identity.record_key,
        &epoch.to_be_bytes(),
        secret,
    ];
    Sha256Digest::labelled("attestd/activation/1", &parts)
}

/// SHA-256 of the EK's TPM2B_PUBLIC: what pins and allow-lists name a TPM by.
#[must_use]
pub fn ek_digest(ek_public: &[u8]) -> Sha256Digest {
    Sha256Digest::of(ek_public)
}

/// An identity whose EK is endorsed and whose AK has the right template (T1-T3), with its AK key parsed.
#[derive(Debug)]
pub struct Candidate {
    endorsement: EkEndorsement,
    ak_name: Name,
    ak: VerifyingKey,
    record_key: cose::PublicKey,
    ledger: CheckLedger,
}

impl Candidate {
    /// Judges `identity` at `now`.
    ///
    /// # Errors
    /// The first denial of T1, T2 or T3, or of the record key.
    pub fn verify(identity: &Identity, anchors: &TrustAnchors, now: UnixSeconds) -> Result<Self, EvidenceDenial> {
        let mut ledger = CheckLedger::EMPTY;
        let ek = Public::read(&identity.ek_public)?;
        ek_template(&ek)?;
        let endorsement = endorse_ek(&identity.ek_public, &ek, &identity.ek_chain, anchors, now)?;
        ledger.pass(CheckId::T1);
        ledger.pass(CheckId::T2);
        let ak_public = Public::read(&identity.ak_public)?;
        ak_template(&ak_public)?;
        let ak = VerifyingKey::from_public(&ak_public)?;
        ledger.pass(CheckId::T3);
        let record_key = cose::PublicKey::from_cose_key(&identity.record_key)
            .map_err(|_| EvidenceDenial::KeyUnusable { what: "record key is not a COSE_Key of ours" })?;
        Ok(Self { endorsement, ak_name: ak_public.name(), ak, record_key, ledger })
    }

    /// The AK's Name, computed from its public area.
    #[must_use]
    pub const fn ak_name(&self) -> &Name {
        &self.ak_name
    }

    /// Who vouches for the EK, and what is known of the TPM by that.
    #[must_use]
    pub const fn endorsement(&self) -> &EkEndorsement {
        &self.endorsement
    }
}

/// An activation that waits for its secret. Consumed by the answer, whatever it is.
pub struct PendingActivation {
    identity: Identity,
    epoch: u64,
    secret: Zeroizing<[u8; 32]>,
}

impl PendingActivation {
    /// Judges `identity` and makes the credential that only its TPM can open.
    ///
    /// `secret` and `randomness` are fresh random bytes of the caller.
    ///
    /// # Errors
    /// As [`Candidate::verify`] and [`make_credential`].
    pub fn start(
        identity: Identity,
        epoch: u64,
        secret: Zeroizing<[u8; 32]>,
        randomness: &Randomness,
        anchors: &TrustAnchors,
        now: UnixSeconds,
    ) -> Result<(Self, Credential), EvidenceDenial> {
        let candidate = Candidate::verify(&identity, anchors, now)?;
        let ek = Public::read(&identity.ek_public)?;
        let credential = make_credential(&ek, candidate.ak_name(), &*secret, randomness)?;
        Ok((Self { identity, epoch, secret }, credential))
    }

    /// Takes the node's answer: the secret, and the AK's quote over [`enrolment_qualifying_data`].
    ///
    /// # Errors
    /// [`EvidenceDenial::ActivationSecret`] for another secret, and the denials of [`EnrolledTpm::verify`].
    pub fn complete(
        self,
        secret: &[u8],
        proof: &[u8],
        proof_signature: &[u8],
        anchors: &TrustAnchors,
        now: UnixSeconds,
    ) -> Result<(Enrolment, EnrolledTpm), EvidenceDenial> {
        if aws_lc_rs::constant_time::verify_slices_are_equal(secret, &*self.secret).is_err() {
            return Err(EvidenceDenial::ActivationSecret);
        }
        let ak_name = Public::read(&self.identity.ak_public)?.name();
        let enrolment = Enrolment {
            activation: activation_digest(&self.identity, &ak_name, self.epoch, secret),
            identity: self.identity,
            epoch: self.epoch,
            enrolled_at: now,
            secret: ByteBuf::from(secret),
            proof: ByteBuf::from(proof),
            proof_signature: ByteBuf::from(proof_signature),
        };
        let enrolled = EnrolledTpm::verify(&enrolment, anchors, now)?;
        Ok((enrolment, enrolled))
    }
}

impl Enrolment {
    /// Its deterministic CBOR.
    ///
    /// # Errors
    /// When it cannot be encoded, which no record made here has.
    pub fn to_cbor(&self) -> Result<Vec<u8>, cbor::CborError> {
        cbor::to_vec(self)
    }

    /// Reads a record; it proves nothing until [`EnrolledTpm::verify`].
    ///
    /// # Errors
    /// [`EvidenceDenial::Cbor`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, EvidenceDenial> {
        Ok(cbor::from_slice(bytes, cbor::Caps::bytes(ENROLMENT_CAP_BYTES))?)
    }

    /// SHA-256 of its deterministic CBOR: its name in stores and logs.
    ///
    /// # Errors
    /// As [`Enrolment::to_cbor`].
    pub fn digest(&self) -> Result<Sha256Digest, cbor::CborError> {
        Ok(Sha256Digest::of(&self.to_cbor()?))
    }

    /// SHA-256 of the EK's TPM2B_PUBLIC.
    #[must_use]
    pub fn ek_digest(&self) -> Sha256Digest {
        ek_digest(&self.identity.ek_public)
    }
}

/// A TPM identity proven under given anchors for a span of time (T1-T4). Made only by [`EnrolledTpm::verify`].
#[derive(Debug)]
pub struct EnrolledTpm {
    node_id: NodeId,
    digest: Sha256Digest,
    ek_digest: Sha256Digest,
    candidate: Candidate,
    baseline: ClockInfo,
    anchors_digest: Sha256Digest,
}

impl EnrolledTpm {
    /// Re-runs T1-T4 on a record: EK chain under `anchors` at `now`, templates, AK proof, activation.
    ///
    /// # Errors
    /// The first denial of T1-T3; [`EvidenceDenial::ActivationMismatch`] when the record's parts do not belong
    /// together or the AK did not sign for this secret and record key.
    pub fn verify(enrolment: &Enrolment, anchors: &TrustAnchors, now: UnixSeconds) -> Result<Self, EvidenceDenial> {
        let identity = &enrolment.identity;
        let mut candidate = Candidate::verify(identity, anchors, now)?;
        let expected = activation_digest(identity, &candidate.ak_name, enrolment.epoch, &enrolment.secret);
        if enrolment.secret.len() != 32 || expected != enrolment.activation {
            return Err(EvidenceDenial::ActivationMismatch { what: "activation digest" });
        }
        let signed = candidate.ak.verify(&enrolment.proof, &enrolment.proof_signature)?;
        signed.attest().quote()?;
        if signed.attest().extra_data != enrolment_qualifying_data(&enrolment.secret, &identity.record_key) {
            return Err(EvidenceDenial::ActivationMismatch { what: "AK signed for another secret or record key" });
        }
        let baseline = signed.attest().clock;
        candidate.ledger.pass(CheckId::T4);
        Ok(Self {
            node_id: identity.node_id.clone(),
            digest: enrolment.digest()?,
            ek_digest: enrolment.ek_digest(),
            candidate,
            baseline,
            anchors_digest: anchors.digest(),
        })
    }

    /// Is it still proven: same anchors, `now` within the validity of every certificate?
    ///
    /// # Errors
    /// [`EvidenceDenial::EnrolmentNotCurrent`]; verify the record anew.
    pub fn current(&self, anchors: &TrustAnchors, now: UnixSeconds) -> Result<CheckLedger, EvidenceDenial> {
        let (not_before, not_after) = self.validity();
        if anchors.digest() == self.anchors_digest && not_before <= now && now <= not_after {
            Ok(self.candidate.ledger)
        } else {
            Err(EvidenceDenial::EnrolmentNotCurrent { not_before, not_after, now })
        }
    }

    /// From and until when the chain is valid, both included.
    #[must_use]
    pub const fn validity(&self) -> (UnixSeconds, UnixSeconds) {
        self.candidate.endorsement.validity()
    }

    /// The node's name.
    #[must_use]
    pub const fn node_id(&self) -> &NodeId {
        &self.node_id
    }

    /// Digest of the enrolment record.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// SHA-256 of the EK's TPM2B_PUBLIC.
    #[must_use]
    pub const fn ek_digest(&self) -> Sha256Digest {
        self.ek_digest
    }

    /// Who vouches for the EK.
    #[must_use]
    pub const fn endorsement(&self) -> &EkEndorsement {
        &self.candidate.endorsement
    }

    /// The AK's Name.
    #[must_use]
    pub const fn ak_name(&self) -> &Name {
        &self.candidate.ak_name
    }

    /// The AK, for its one scheme.
    #[must_use]
    pub const fn ak(&self) -> &VerifyingKey {
        &self.candidate.ak
    }

    /// The node's record key.
    #[must_use]
    pub const fn record_key(&self) -> &cose::PublicKey {
        &self.candidate.record_key
    }

    /// Clock and counters when the AK was proven.
    #[must_use]
    pub const fn baseline(&self) -> ClockInfo {
        self.baseline
    }
}
