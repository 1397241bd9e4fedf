//! The platform of a stranger's TEE, proved by evidence over its node id and record key.

use std::sync::Arc;

use evidence::challenge::Challenge;
use evidence::cose::PublicKey;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::tee::EnrolledPlatform;
use evidence::tpm::{ClockState, EnrolledTpm, TpmEndorsement};
use evidence::{Evidence, EvidenceDenial, EvidenceKind};

use super::record::{PlatformEnrolment, Proof};
use crate::admission::Enrolling;
use crate::desk::Desk;
use crate::endorsements::{At, Unendorsed};
use crate::evidence_store::BlobKind;
use crate::fault::Fault;
use crate::nodes::{BootSeen, ClockSeen, Machine, NodeIdentity};
use crate::platforms::{Held, Whose};
use crate::refusal::Refused;
use crate::trust::Trust;

/// What a stranger answered to a challenge that is used up.
pub(super) struct Answered {
    pub(super) cmw: Vec<u8>,
    pub(super) challenge: Challenge,
}

/// A platform that evidence proved.
pub(super) struct ProvenPlatform {
    enrolled: EnrolledPlatform,
    kind: EvidenceKind,
    boot: BootSeen,
    proof: Proof,
    kept: Vec<(BlobKind, Vec<u8>)>,
}

/// Judges a stranger's evidence: authentic, and an answer to the challenge. What it measures is judged when it asks for
/// something, by the reference values of then.
pub(super) async fn prove(
    desk: &Arc<Desk>,
    trust: &Arc<Trust>,
    answered: Answered,
    id: NodeId,
    key: PublicKey,
    tpm: Option<&Arc<EnrolledTpm>>,
) -> Result<ProvenPlatform, Refused> {
    let Answered { cmw, challenge } = answered;
    let bytes = cmw.clone();
    let evidence = Evidence::decode(cmw).map_err(Refused::unproven)?;
    let (kind, demanded) = (evidence.kind(), challenge.demands.kind());
    if kind != demanded {
        return Err(Refused::unproven(EvidenceDenial::KindUnexpected { got: kind, demanded }));
    }
    let now = desk.now()?;
    let tpm = tpm.map(|enrolled| TpmEndorsement {
        enrolled: enrolled.clone(),
        clock: ClockState::at(enrolled.baseline()),
        node_key: None,
    });
    let held = desk.platforms.held(&evidence, kind, Whose::Stranger(id, key), tpm, trust.anchors(), At::Now(now)).await;
    let (Held { endorsements, documents }, enrolled) = held.map_err(|unendorsed| match unendorsed {
        Unendorsed::Denied(denial) => Refused::unproven(denial),
        Unendorsed::Fault(fault) => fault.into(),
    })?;
    let boot = desk.boot_of(evidence, endorsements, challenge.clone(), trust.clone(), now).await?;
    let unwritable = |error: evidence::cbor::CborError| Fault::Bug { what: error.to_string() };
    let challenge = evidence::cbor::to_vec(&challenge).map_err(unwritable)?;
    let proof = Proof {
        evidence: Sha256Digest::of(&bytes),
        challenge: Sha256Digest::of(&challenge),
        endorsements: documents.iter().map(|document| document.digest).collect(),
        at: now,
    };
    let mut kept = vec![(BlobKind::Evidence, bytes), (BlobKind::Challenge, challenge)];
    kept.extend(documents.into_iter().map(|document| (BlobKind::Endorsement, document.bytes)));
    Ok(ProvenPlatform { enrolled: (*enrolled).clone(), kind, boot, proof, kept })
}

impl ProvenPlatform {
    /// A TEE without a TPM.
    pub(super) fn alone(self) -> Result<Enrolling, Fault> {
        let machine = Machine::Tee(self.enrolled.platform().clone());
        let boot = BootSeen { clock: ClockSeen::default(), report_id: self.boot.report_id };
        self.into_enrolling(machine, None, boot, Vec::new(), true)
    }

    /// The TEE around `tpm`. Whether a maker vouches for the TPM matters less than who vouches for what emulates it, but
    /// both must.
    pub(super) fn around(self, tpm: Enrolling) -> Result<Enrolling, Fault> {
        let Machine::Tpm(identity) = tpm.identity.machine else {
            return Err(Fault::Bug { what: "a TPM that enrols is no TPM".to_owned() });
        };
        let machine = Machine::TpmOn(identity, self.enrolled.platform().clone());
        let boot = self.boot;
        self.into_enrolling(machine, Some(tpm.identity.enrolment), boot, tpm.kept, tpm.endorsed)
    }

    fn into_enrolling(
        self,
        machine: Machine,
        tpm: Option<Sha256Digest>,
        boot: BootSeen,
        mut kept: Vec<(BlobKind, Vec<u8>)>,
        endorsed: bool,
    ) -> Result<Enrolling, Fault> {
        let record = PlatformEnrolment::of(&self.enrolled, self.kind, tpm, self.proof)
            .to_kept()
            .map_err(|error| Fault::Bug { what: error.to_string() })?;
        let identity = NodeIdentity {
            id: self.enrolled.node_id().clone(),
            machine,
            record_key: self.enrolled.record_key().clone(),
            enrolment: Sha256Digest::of(&record),
        };
        kept.extend(self.kept);
        kept.push((BlobKind::PlatformEnrolment, record));
        Ok(Enrolling { identity, boot, endorsed, kept })
    }
}
