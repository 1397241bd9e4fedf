//! What is judged by, as one immutable snapshot per request: anchors, reference values, policies, revocations and the
//! governance state that names them all. Whatever changes, the epoch moves; whatever is released re-reads the epoch.

use std::sync::Arc;

use evidence::anchors::TrustAnchors;
use evidence::challenge::{Demands, TdxDemands, TpmDemands, TpmOnTdxDemands};
use evidence::cose::PublicKey;
use evidence::digest::{HashAlg, Sha256Digest};
use evidence::kind::EvidenceKind;
use evidence::threshold::Authority;
use evidence::time::UnixSeconds;
use firmware_refs::{ReferenceValues, Requirements};
use governance::governance_state::VerifiedState;
use governance::revocation::RevocationList;
use policy::set::PolicySet;
use policy::trust::GovernanceBasis;

use crate::decision::{SetInForce, TrustInputs};
use crate::fault::Fault;
use crate::federation::Partners;

/// One snapshot.
#[derive(Debug)]
pub struct Trust {
    /// Anchors, reference values and policies.
    pub judging: policy::Trust,
    /// What was taken back.
    pub revocations: RevocationList,
    /// The state in force.
    pub state: VerifiedState,
    /// The same, as it was signed.
    pub state_cose: Vec<u8>,
    /// All of it by digest, for decisions to name.
    pub inputs: TrustInputs,
    /// Our keys, as nodes get them.
    pub bundle: OwnBundle,
    /// The statement that says whose cosignatures nodes count, by each key that signed it; empty before the first.
    pub witnesses: Vec<Vec<u8>>,
}

/// The domain's own trust bundle, as nodes get it at enrolment.
#[derive(Clone, Debug)]
pub struct OwnBundle {
    /// COSE_Sign1 over one payload, one for each authority key that signed.
    pub signatures: Vec<Vec<u8>>,
    /// The policy authority's keys.
    pub authority: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: u8,
}

/// What a snapshot is made of.
#[derive(Clone, Debug)]
pub struct TrustParts {
    /// Whom hardware is trusted by.
    pub anchors: TrustAnchors,
    /// A lab that accepts software TPMs.
    pub lab: bool,
    /// The reference values in force.
    pub references: ReferenceValues,
    /// The policy set in force.
    pub policy: PolicySet,
    /// Everything revoked.
    pub revocations: RevocationList,
    /// The governance state that names the above.
    pub state: VerifiedState,
    /// The same, signed.
    pub state_cose: Vec<u8>,
    /// Our trust bundle.
    pub bundle: Vec<Vec<u8>>,
    /// The statement that says whose cosignatures nodes count, by each key that signed it; empty before the first.
    pub witnesses: Vec<Vec<u8>>,
    /// The policy authority.
    pub authority: Authority,
}

impl Trust {
    /// One snapshot.
    pub fn of(parts: TrustParts) -> Self {
        let TrustParts {
            anchors,
            lab,
            references,
            policy,
            revocations,
            state,
            state_cose,
            bundle,
            witnesses,
            authority,
        } = parts;
        let basis = GovernanceBasis { state: state.digest(), epoch: state.state().epoch };
        let inputs = TrustInputs {
            domain: state.state().domain.clone(),
            lab,
            anchors: anchors.digest(),
            reference_sets: references.sets().iter().map(SetInForce::of).collect(),
            revoked_sets: references.revoked_count(),
            policy: policy.digest(),
            authority: authority.clone(),
            state: basis.state,
            epoch: basis.epoch,
        };
        Self {
            judging: policy::Trust::new(anchors, references, policy, basis),
            revocations,
            state,
            state_cose,
            inputs,
            bundle: OwnBundle {
                signatures: bundle,
                authority: authority.keys().to_vec(),
                threshold: authority.threshold().get(),
            },
            witnesses,
        }
    }

    /// Governance epoch.
    pub fn epoch(&self) -> u64 {
        self.state.state().epoch
    }

    /// Trust anchors.
    pub fn anchors(&self) -> &TrustAnchors {
        self.judging.anchors()
    }

    /// Digest of the governance state.
    pub fn state_digest(&self) -> Sha256Digest {
        self.state.digest()
    }

    /// The signed governance state.
    pub fn state_cose(&self) -> &[u8] {
        &self.state_cose
    }

    /// What was taken back.
    pub fn revocations(&self) -> &RevocationList {
        &self.revocations
    }

    /// What evidence of a stranger of a kind must come with: no logs. What it measures is judged when it asks for
    /// something.
    pub fn enrolment_demands(&self, kind: EvidenceKind) -> Demands {
        let mut demands = self.demands(kind);
        if let Some(tpm) = demands.tpm_mut() {
            (tpm.event_log, tpm.ima_log) = (false, false);
        }
        match demands {
            Demands::Tdx(_) => Demands::Tdx(TdxDemands { event_log: false }),
            Demands::TpmOnTdx(both) => Demands::TpmOnTdx(TpmOnTdxDemands { ccel: false, ..both }),
            demands @ (Demands::Tpm(_) | Demands::SevSnp | Demands::TpmOnSevSnp(_)) => demands,
        }
    }

    /// What evidence of a kind must come with.
    pub fn demands(&self, kind: EvidenceKind) -> Demands {
        let references = self.judging.reference_values();
        let (tpm, ccel) = (|| tpm_demands(references, kind), ccel_demanded(references, kind));
        match kind {
            EvidenceKind::Tpm => Demands::Tpm(tpm()),
            EvidenceKind::SevSnp => Demands::SevSnp,
            EvidenceKind::Tdx => Demands::Tdx(TdxDemands { event_log: ccel }),
            EvidenceKind::TpmOnSevSnp => Demands::TpmOnSevSnp(tpm()),
            EvidenceKind::TpmOnTdx => Demands::TpmOnTdx(TpmOnTdxDemands { tpm: tpm(), ccel }),
        }
    }
}

/// What evidence of a TPM must come with, so that every active reference value can judge it.
///
/// Without an active set nothing can match, but evidence can still be captured to make the first one.
fn tpm_demands(references: &ReferenceValues, kind: EvidenceKind) -> TpmDemands {
    let (pcr_bank, pcrs, event_log, ima_log) = match references.requirements(kind).and_then(Requirements::tpm) {
        Some(required) => (required.bank, required.pcrs.clone(), required.event_log, required.ima_log),
        None => (HashAlg::Sha256, CAPTURED_PCRS.to_vec(), true, false),
    };
    let node_key_pcrs = pcrs.iter().copied().filter(|pcr| !NOT_FOR_KEYS.contains(pcr)).collect();
    TpmDemands { pcr_bank, pcrs, node_key_pcrs, event_log, ima_log }
}

/// Whether the event log of a trust domain must come. Without an active set it must, to make the first one from.
fn ccel_demanded(references: &ReferenceValues, kind: EvidenceKind) -> bool {
    match references.requirements(kind) {
        Some(Requirements::Tdx(tdx) | Requirements::TpmOnTdx(_, tdx)) => tdx.event_log,
        Some(Requirements::Tpm(_) | Requirements::SevSnp | Requirements::TpmOnSevSnp(_)) | None => true,
    }
}

/// Firmware, boot loader and kernel (TCG PC Client PFP §3.3.4).
const CAPTURED_PCRS: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
/// They change while the machine runs (10, 14) or can be reset (16, 23): a key bound to them would be lost or loose.
const NOT_FOR_KEYS: [u8; 4] = [10, 14, 16, 23];

/// Gives the snapshot in force, and the partners as they are.
#[derive(Clone)]
pub struct TrustSource {
    read: Arc<dyn Fn() -> Result<Arc<Trust>, Fault> + Send + Sync>,
    partners: Arc<dyn Fn() -> Arc<Partners> + Send + Sync>,
}

impl TrustSource {
    /// Asks `read` for each request.
    pub fn new(read: impl Fn() -> Result<Arc<Trust>, Fault> + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(read), partners: Arc::new(Arc::default) }
    }

    /// The same, of a domain that has partners.
    #[must_use]
    pub fn with_partners(self, partners: impl Fn() -> Arc<Partners> + Send + Sync + 'static) -> Self {
        Self { partners: Arc::new(partners), ..self }
    }

    /// The partners as they are now: how one stands changes without a change of what we judge by.
    pub fn partners(&self) -> Arc<Partners> {
        (self.partners)()
    }

    /// The snapshot in force, if its governance state still is.
    pub fn current(&self, now: UnixSeconds) -> Result<Arc<Trust>, Fault> {
        let trust = (self.read)()?;
        trust.state.fresh(now).map_err(|denial| Fault::TrustUnavailable { what: denial.to_string() })?;
        Ok(trust)
    }
}
