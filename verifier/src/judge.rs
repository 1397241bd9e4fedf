//! One judgement, as a pure function: the same inputs give the same verdict, live, in `appraise` and in a replay.
//!
//! `policy::decide` says whether the machine is affirmed; what it may then run and which keys it may have are
//! questions to the same policy set about the same claims at the same moment.

use std::borrow::Cow;

use evidence::challenge::Challenge;
use evidence::digest::Sha256Digest;
use evidence::evidence::{Endorsements, Evidence};
use evidence::names::ItemName;
use evidence::node_key::AttestedNodeKey;
use evidence::sev_snp::{Launch, SnpEndorsement};
use evidence::time::UnixSeconds;
use evidence::tpm::attest::ClockInfo;
use evidence::tpm::{ClockState, TpmEndorsement};
use evidence::{EvidenceDenial, TrustAnchors, verify};
use governance::GovernanceDenial;
use governance::intent::Intent;
use governance::node_key::NodeKey;
use governance::revocation::{RevocationList, Revoked};
use policy::claims::{Claims, IntentClaims, Question};
use policy::ear::EndorsementUsed;
use policy::engine::Rule;
use policy::{Affirmed, Denial};
use serde::{Deserialize, Serialize};

use crate::nodes::BootSeen;

/// Everything that one judgement is made from, trust aside.
pub struct Case {
    /// What came.
    pub evidence: Evidence,
    /// What we hold about the machine.
    pub endorsements: Endorsements,
    /// Digest of its enrolment.
    pub enrolment: Sha256Digest,
    /// The vendors' documents that the endorsements were made from.
    pub documents: Vec<EndorsementUsed>,
    /// What it answers.
    pub challenge: Challenge,
    /// SHA-256 of its deterministic CBOR.
    pub challenge_digest: Sha256Digest,
    /// What is asked of it.
    pub asks: Asking,
    /// When.
    pub now: UnixSeconds,
}

/// What an affirmed machine is to do.
pub enum Asking {
    /// Nothing: it is only to be affirmed.
    Nothing,
    /// To run this, with these keys.
    Execute(Box<Execution>),
}

/// An execution as policies see it.
pub struct Execution {
    /// The intent.
    pub intent: Intent,
    /// Its digest.
    pub intent_digest: Sha256Digest,
    /// Keys to be released, with their labels; none when an execution goes on.
    pub keys: Vec<(ItemName, Vec<String>)>,
    /// Whether it begins or goes on.
    pub course: Course,
}

/// Whether an execution begins or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Course {
    /// It begins: its machine may have been started anew since it was last seen.
    Begins,
    /// It goes on, and so must the boot of its machine and whoever holds its node key.
    GoesOn {
        /// Digest of the node key that its live artifact is bound to.
        node_key: Sha256Digest,
    },
}

impl Course {
    const fn is_renewal(self) -> bool {
        match self {
            Self::Begins => false,
            Self::GoesOn { .. } => true,
        }
    }

    /// A node key in memory is made when the daemon starts and dies with it: under another one, guest or daemon was started
    /// anew, and what ran under the old one is gone. This is all that shows the relaunch of a trust domain, whose quotes
    /// have no REPORT_ID. A TPM makes its node key anew when the PCRs that it shall be bound to change; its restarts show
    /// in its clock (T8).
    fn held_to(self, attested: &AttestedNodeKey) -> Result<(), GovernanceDenial> {
        match (self, attested) {
            (Self::GoesOn { .. }, AttestedNodeKey::XWing(key)) => {
                self.goes_on(&NodeKey::from_cose_key(key.cose_key())?)
            }
            (Self::GoesOn { .. }, AttestedNodeKey::Tpm(_)) | (Self::Begins, _) => Ok(()),
        }
    }

    /// Whether this holder of a key is the one that the execution was authorized for.
    pub(crate) fn goes_on(self, key: &NodeKey) -> Result<(), GovernanceDenial> {
        match self {
            Self::Begins => Ok(()),
            Self::GoesOn { node_key } => key.continues(node_key),
        }
    }
}

/// An affirmed machine, permitted to do what was asked.
pub struct Judgement {
    /// The machine.
    pub affirmed: Affirmed,
    /// The rules that permitted each step, by id.
    pub rules: Vec<Rule>,
    /// How its machine was started anew since it was last seen.
    pub restarted: Restarted,
}

/// What shows that a machine was started anew: nothing, its TPM's counters, its SNP guest's REPORT_ID, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarted {
    /// The TPM's clock from the restart on.
    pub tpm: Option<ClockState>,
    /// Whether the guest was launched anew (S13).
    pub guest: bool,
}

impl Restarted {
    /// Whether anything shows it.
    pub fn is_some(&self) -> bool {
        self.tpm.is_some() || self.guest
    }

    fn held_to(self, endorsements: &Endorsements) -> Endorsements {
        let tpm = |tpm: &TpmEndorsement| TpmEndorsement { clock: self.tpm.unwrap_or(tpm.clock), ..tpm.clone() };
        let snp = |snp: &SnpEndorsement| SnpEndorsement {
            launch: if self.guest { Launch::Any } else { snp.launch },
            ..snp.clone()
        };
        match endorsements {
            Endorsements::Tpm(endorsement) => Endorsements::Tpm(tpm(endorsement)),
            Endorsements::SevSnp(endorsement) => Endorsements::SevSnp(snp(endorsement)),
            Endorsements::Tdx(endorsement) => Endorsements::Tdx(endorsement.clone()),
            Endorsements::TpmOnSevSnp(of_tpm, of_guest) => Endorsements::TpmOnSevSnp(tpm(of_tpm), snp(of_guest)),
            Endorsements::TpmOnTdx(of_tpm, of_guest) => Endorsements::TpmOnTdx(tpm(of_tpm), of_guest.clone()),
        }
    }

    /// Endorsements that hold the machine to what it shows from the restart on, when `denial` is that it was restarted.
    /// Each of the two is taken once: a second denial stands.
    fn shown_by(&mut self, denial: &EvidenceDenial, endorsements: &Endorsements) -> Option<Endorsements> {
        if let (EvidenceDenial::TpmRestarted { got, baseline }, None) = (denial, self.tpm) {
            let shown = ClockInfo {
                clock_ms: got.last_clock_ms,
                reset_count: got.reset_count,
                restart_count: got.restart_count,
                safe: true,
            };
            self.tpm = Some(baseline.after_logged_restart(shown)?);
            return Some(self.held_to(endorsements));
        }
        if let (EvidenceDenial::SnpReportId { .. }, false) = (denial, self.guest) {
            self.guest = true;
            return Some(self.held_to(endorsements));
        }
        None
    }
}

/// Judges a case: affirmed, permitted to do what is asked, and nothing that it measures or matched is revoked.
pub fn judge(case: &Case, trust: &policy::Trust, revocations: &RevocationList) -> Result<Judgement, Denial> {
    let (affirmed, restarted) = affirm(case, trust)?;
    let mut rules = affirmed.rules().to_vec();
    if let Asking::Execute(execution) = &case.asks {
        execution.course.held_to(&affirmed.machine().node_key)?;
        let intent = IntentClaims::of(&execution.intent);
        for question in questions(execution, affirmed.claims(), &intent) {
            rules.extend_from_slice(trust.policy().ask_at(&question, case.now)?.rules());
        }
    }
    rules.sort_by(|a, b| a.id.cmp(&b.id));
    rules.dedup_by(|a, b| a.id == b.id);
    none_revoked(&affirmed, revocations)?;
    Ok(Judgement { affirmed, rules, restarted })
}

/// The boot that a stranger's evidence shows, once it is authentic and an answer to the challenge.
pub fn boot(
    evidence: &Evidence,
    endorsements: &Endorsements,
    challenge: &Challenge,
    trust: &policy::Trust,
    now: UnixSeconds,
) -> Result<BootSeen, EvidenceDenial> {
    let bound = verify(evidence, endorsements, trust.anchors(), now)?.bind(challenge, now)?;
    let claims = bound.claims();
    Ok(BootSeen {
        clock: claims.tpm().map(|tpm| tpm.clock().into()).unwrap_or_default(),
        report_id: claims.snp().map(|snp| *snp.report().report_id),
    })
}

/// Is the evidence authentic and an answer to the challenge? No more is asked of evidence that is only kept: its machine
/// may have been started anew, as it is to show what it measures from now on.
pub fn authentic(case: &Case, trust: &policy::Trust) -> Result<Sha256Digest, EvidenceDenial> {
    let endorsements = since_boot(&case.evidence, &case.endorsements, trust.anchors(), case.now);
    let bound = verify(&case.evidence, &endorsements, trust.anchors(), case.now)?.bind(&case.challenge, case.now)?;
    Ok(bound.evidence_digest())
}

/// Endorsements that hold a machine to the boot that its evidence shows, if it was started anew since it was last seen.
pub fn since_boot<'e>(
    evidence: &Evidence,
    endorsements: &'e Endorsements,
    anchors: &TrustAnchors,
    now: UnixSeconds,
) -> Cow<'e, Endorsements> {
    let mut restarted = Restarted::default();
    let mut held = Cow::Borrowed(endorsements);
    while let Err(denial) = verify(evidence, &held, anchors, now) {
        let Some(next) = restarted.shown_by(&denial, endorsements) else { break };
        held = Cow::Owned(next);
    }
    held
}

/// Refuses a machine that measures something revoked, or that matched reference values which were.
fn none_revoked(affirmed: &Affirmed, revocations: &RevocationList) -> Result<(), GovernanceDenial> {
    let measured = affirmed.machine().measurements.values();
    measured.copied().map(Revoked::Measurement).try_for_each(|value| revocations.admits(&value))?;
    revocations.admits(&Revoked::ReferenceSet(affirmed.basis().reference_set))
}

/// A machine that starts something anew may have been restarted: then its boot is judged from the restart on. The
/// signature under which it shows its boot is verified before that is looked at.
fn affirm(case: &Case, trust: &policy::Trust) -> Result<(Affirmed, Restarted), Denial> {
    let may_have_restarted = match &case.asks {
        Asking::Execute(execution) => !execution.course.is_renewal(),
        Asking::Nothing => true,
    };
    let mut restarted = Restarted::default();
    let mut from_here = None;
    loop {
        let endorsements = from_here.as_ref().unwrap_or(&case.endorsements);
        let decided = policy::decide(&case.evidence, endorsements, &case.challenge, trust, case.now);
        let next = match &decided {
            Err(Denial::Evidence(denial)) if may_have_restarted => restarted.shown_by(denial, &case.endorsements),
            Err(_) | Ok(_) => None,
        };
        match next {
            Some(next) => from_here = Some(next),
            None => return decided.map(|affirmed| (affirmed, restarted)),
        }
    }
}

/// What the policies are asked about an execution on the machine of these claims.
pub(crate) fn questions<'a>(execution: &Execution, claims: &'a Claims, intent: &'a IntentClaims) -> Vec<Question<'a>> {
    let claims = || Cow::Borrowed(claims);
    let intent = || Cow::Borrowed(intent);
    let scope = IntentClaims::scope_of(&execution.intent);
    let renewal = execution.course.is_renewal();
    let execute = Question::Execute { claims: claims(), intent: intent(), scope, renewal };
    let release = execution.keys.iter().map(|(name, labels)| Question::Release {
        claims: claims(),
        intent: intent(),
        key: name.to_string(),
        labels: labels.clone(),
    });
    std::iter::once(execute).chain(release).collect()
}
