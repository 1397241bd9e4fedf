//! The inputs of one decision, by digest: enough to make it again, bit for bit.

use std::collections::BTreeMap;

use evidence::cbor::{self, Caps};
use evidence::digest::Sha256Digest;
use evidence::evidence::Endorsements;
use evidence::names::{DomainName, ItemName};
use evidence::sev_snp::Launch;
use evidence::threshold::Authority;
use evidence::time::UnixSeconds;
use evidence::tpm::ClockState;
use firmware_refs::InForce;
use policy::ear::EndorsementUsed;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::fault::Fault;
use crate::judge::{Asking, Case, Course, Execution};
use crate::trust::Trust;

/// Version of the record.
const VERSION: u8 = 1;
/// Longest decision that is read back.
const DECISION_CAP_BYTES: usize = 64 * 1024;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Version of this record.
    pub version: u8,
    /// The program that decided: the same build must give the same bytes.
    pub build: String,
    /// When.
    pub now: UnixSeconds,
    /// The evidence as received.
    pub evidence: Sha256Digest,
    /// The enrolment it was judged by.
    pub enrolment: Sha256Digest,
    /// What its machine had last shown of its boot.
    pub boot: BootBefore,
    /// Vendors' documents that it was judged by.
    pub endorsements: Vec<EndorsementUsed>,
    /// The challenge.
    pub challenge: Sha256Digest,
    /// What was asked.
    pub asked: Option<AskedFor>,
    /// What it was judged by.
    pub trust: TrustInputs,
}

/// What a machine had last shown of its boot: nothing for kinds that show nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootBefore {
    /// Clock of its TPM.
    pub clock: Option<ClockState>,
    /// REPORT_ID of its SNP guest.
    pub report_id: Option<ByteArray<32>>,
}

/// An execution, as the policies were asked about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedFor {
    /// The intent.
    pub intent: Sha256Digest,
    /// Keys to be released, with the labels that they had.
    pub keys: BTreeMap<ItemName, Vec<String>>,
    /// Whether it was to begin or to go on.
    pub course: Course,
}

/// A trust snapshot, by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustInputs {
    /// The domain.
    pub domain: DomainName,
    /// A lab that accepts software TPMs.
    pub lab: bool,
    /// The anchors, as data.
    pub anchors: Sha256Digest,
    /// Reference value sets in force.
    pub reference_sets: Vec<SetInForce>,
    /// How many reference value sets had been revoked by then; which those are, their history says.
    #[serde(default)]
    pub revoked_sets: usize,
    /// The policy set.
    pub policy: Sha256Digest,
    /// Whose signatures count.
    pub authority: Authority,
    /// Digest of the governance state.
    pub state: Sha256Digest,
    /// Its epoch.
    pub epoch: u64,
}

/// A reference value set in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetInForce {
    /// The set.
    pub set: Sha256Digest,
    /// Superseded, and still matching until then.
    pub grace_until: Option<UnixSeconds>,
}

impl BootBefore {
    fn of(endorsements: &Endorsements) -> Self {
        let (tpm, snp) = (endorsements.tpm(), endorsements.snp());
        let report_id = snp.and_then(|snp| match snp.launch {
            Launch::Same(report_id) => Some(ByteArray::new(report_id)),
            Launch::Any => None,
        });
        Self { clock: tpm.map(|tpm| tpm.clock), report_id }
    }
}

impl SetInForce {
    pub(crate) fn of(set: &InForce) -> Self {
        Self { set: set.set().digest(), grace_until: set.grace_until() }
    }
}

impl AskedFor {
    pub(crate) fn of(execution: &Execution) -> Self {
        Self {
            intent: execution.intent_digest,
            keys: execution.keys.iter().cloned().collect(),
            course: execution.course,
        }
    }
}

impl Decision {
    /// The decision about a case under a trust snapshot.
    pub(crate) fn of(case: &Case, trust: &Trust) -> Self {
        let asked = match &case.asks {
            Asking::Nothing => None,
            Asking::Execute(execution) => Some(AskedFor::of(execution)),
        };
        Self {
            version: VERSION,
            build: build(),
            now: case.now,
            evidence: case.evidence.digest(),
            enrolment: case.enrolment,
            boot: BootBefore::of(&case.endorsements),
            endorsements: case.documents.clone(),
            challenge: case.challenge_digest,
            asked,
            trust: trust.inputs.clone(),
        }
    }

    /// As it is kept.
    pub(crate) fn to_kept(&self) -> Result<Vec<u8>, Fault> {
        cbor::to_vec(self).map_err(|error| Fault::Bug { what: error.to_string() })
    }

    /// Reads a kept decision.
    pub fn from_kept(bytes: &[u8]) -> Result<Self, cbor::CborError> {
        cbor::from_slice(bytes, Caps::bytes(DECISION_CAP_BYTES))
    }
}

/// Name and version of this program, as results carry it.
pub fn build() -> String {
    format!("verifier {}", env!("CARGO_PKG_VERSION"))
}
