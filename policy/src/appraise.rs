//! Last step of an appraisal: is it allowed today? A policy can only lower
//! trust: it is asked after everything else held, and can say no.

use std::sync::Arc;

use evidence::{
    Claims as EvidenceClaims,
    challenge::Challenge,
    cose::PublicKey,
    digest::{Digest, Sha256Digest},
    ledger::{CheckId, CheckLedger},
    names::NodeId,
    time::UnixSeconds,
    tpm::{CertifiedNodeKey, ClockState, Name, PcrValues, appraisal::TpmClaims, ek::EkEndorser},
};
use firmware_refs::{Matched, denial::ReferenceName, document::MakerName, observed::maker, text::FirmwareVersion};

use serde::Serialize;

use crate::claims::{Claims, Question, ReferenceClaims, TpmFacts};
use crate::denial::{PolicyDenial, ReferenceText};
use crate::engine::Rule;
use crate::set::{PolicyName, PolicySet};

/// Evidence that passed all four steps. Made only by [`PolicySet::appraise`], which needs the proof of the third.
#[derive(Clone, Debug)]
pub struct Affirmed {
    claims: Claims,
    rules: Vec<Rule>,
    complete: Complete,
    challenge: Challenge,
    judged_at: UnixSeconds,
    basis: Basis,
    machine: TpmMachine,
}

/// Exactly the required checks passed. Made only by [`Complete::of`], and [`Affirmed`] needs one.
#[derive(Clone, Copy, Debug)]
struct Complete(CheckLedger);

impl Complete {
    /// A check that is missing was never made; one that nobody asked for says that the two sides disagree about
    /// what this evidence is.
    fn of(passed: CheckLedger, required: CheckLedger) -> Result<Self, PolicyDenial> {
        if passed == required { Ok(Self(passed)) } else { Err(PolicyDenial::ChecksIncomplete { passed, required }) }
    }
}

/// Digests of what a verdict was reached by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    /// SHA-256 of the evidence as received.
    pub evidence: Sha256Digest,
    /// Digest of the enrolment record, the endorsement of TPM evidence.
    pub endorsements: Sha256Digest,
    /// The reference value set that matched.
    pub reference: Arc<ReferenceName>,
    /// Its digest.
    pub reference_set: Sha256Digest,
    /// Digest of all reference values in force.
    pub reference_values: Sha256Digest,
    /// The policy set that was asked.
    pub policy: Arc<PolicyName>,
    /// Its digest.
    pub policy_set: Sha256Digest,
}

/// What a verifier needs of the machine once it is affirmed.
#[derive(Clone, Debug)]
pub struct TpmMachine {
    /// Its name.
    pub node: NodeId,
    /// SHA-256 of the EK's TPM2B_PUBLIC.
    pub ek: Sha256Digest,
    /// Whether an operator pinned the EK, without a certificate.
    pub ek_pinned: bool,
    /// Name of the AK.
    pub ak_name: Name,
    /// Manufacturer of the TPM.
    pub manufacturer: MakerName,
    /// firmwareVersion of the quote.
    pub firmware: FirmwareVersion,
    /// The key that execution keys are wrapped to; keep it to spare verifying it again.
    pub node_key: Arc<CertifiedNodeKey>,
    /// The key that signs its intents and halt records.
    pub record_key: PublicKey,
    /// The clock state to keep.
    pub clock: ClockState,
    /// The quoted values.
    pub pcrs: PcrValues,
    /// The digest over them.
    pub pcr_digest: Option<Digest>,
}

impl PolicySet {
    /// Is it allowed today?
    ///
    /// # Errors
    /// [`PolicyDenial::ChecksIncomplete`] unless exactly the required checks passed; then whatever the set says.
    pub fn appraise(&self, matched: Matched<'_>, now: UnixSeconds) -> Result<Affirmed, PolicyDenial> {
        let bound = matched.bound();
        let complete = Complete::of(matched.ledger(), bound.required())?;
        let EvidenceClaims::Tpm(tpm) = bound.claims();
        let claims = self.claims(&matched, tpm, now);
        let permitted = self.ask_at(&Question::Attest { claims: claims.clone() }, now)?;
        let basis = Basis {
            evidence: bound.evidence_digest(),
            endorsements: tpm.enrolment_digest(),
            reference: Arc::clone(matched.reference()),
            reference_set: matched.set().digest(),
            reference_values: matched.reference_values_digest(),
            policy: Arc::clone(&self.name),
            policy_set: self.digest(),
        };
        Ok(Affirmed {
            claims,
            rules: permitted.into_rules(),
            complete,
            challenge: bound.challenge().clone(),
            judged_at: now,
            basis,
            machine: TpmMachine::of(tpm),
        })
    }

    /// Asks the set at a moment: one that is over permits nothing.
    ///
    /// # Errors
    /// [`PolicyDenial::Expired`], else as for [`PolicySet::ask`].
    pub fn ask_at(&self, question: &Question, now: UnixSeconds) -> Result<crate::engine::Permitted, PolicyDenial> {
        self.in_force(now)?;
        self.ask(question)
    }

    pub(crate) fn in_force(&self, now: UnixSeconds) -> Result<(), PolicyDenial> {
        if now < self.not_after() {
            return Ok(());
        }
        let (ended, now) = (self.not_after().into(), now.into());
        Err(PolicyDenial::Expired { set: Arc::clone(&self.name), ended, now })
    }

    pub(crate) fn claims(&self, matched: &Matched<'_>, tpm: &TpmClaims<'_>, now: UnixSeconds) -> Claims {
        let set = matched.set();
        let document = set.document();
        Claims {
            node: tpm.node_id().to_string(),
            domain: self.document.domain.to_string(),
            kind: "tpm".to_owned(),
            environment: document.environment.to_string(),
            simulated: matches!(tpm.endorsement().endorser(), EkEndorser::Simulated(_)),
            epoch: long(matched.bound().challenge().epoch),
            now: long(now.0),
            reference: ReferenceClaims {
                id: set.id().to_string(),
                version: long(set.version()),
                age_s: long(now.0.saturating_sub(document.issued_at.at().0)),
                grace: matched.is_in_grace(),
            },
            tpm: Some(facts(tpm)),
        }
    }
}

fn facts(tpm: &TpmClaims<'_>) -> TpmFacts {
    let clock = tpm.clock_info();
    TpmFacts {
        ek: tpm.ek_digest().to_string(),
        ek_pinned: matches!(tpm.endorsement().endorser(), EkEndorser::Operator),
        ak: tpm.ak_name().to_string(),
        manufacturer: maker(tpm.endorsement().endorser()).to_string(),
        firmware: FirmwareVersion(tpm.firmware_version()).to_string(),
        bank: tpm.pcrs().bank().to_string(),
        pcrs: tpm.pcrs().iter().map(|(pcr, _)| i64::from(pcr)).collect(),
        event_log: tpm.event_log().is_some(),
        ima_log: tpm.ima_log().is_some(),
        secure_boot: tpm.event_log().map(|log| log.boot().secure_boot),
        reset_count: i64::from(clock.reset_count),
        restart_count: i64::from(clock.restart_count),
    }
}

/// Cedar numbers are signed; what exceeds them is as good as the greatest.
fn long(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl TpmMachine {
    fn of(tpm: &TpmClaims<'_>) -> Self {
        Self {
            node: tpm.node_id().clone(),
            ek: tpm.ek_digest(),
            ek_pinned: matches!(tpm.endorsement().endorser(), EkEndorser::Operator),
            ak_name: *tpm.ak_name(),
            manufacturer: maker(tpm.endorsement().endorser()),
            firmware: FirmwareVersion(tpm.firmware_version()),
            node_key: Arc::clone(tpm.node_key()),
            record_key: tpm.record_key().clone(),
            clock: tpm.clock(),
            pcrs: tpm.pcrs().clone(),
            pcr_digest: tpm.pcr_digest(),
        }
    }
}

impl Affirmed {
    /// What policies judged, for the questions that follow.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The rules that permitted it, by id.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The checks that passed: exactly those required.
    #[must_use]
    pub const fn ledger(&self) -> CheckLedger {
        self.complete.0
    }

    /// The challenge that the evidence answered.
    #[must_use]
    pub const fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// When it was judged.
    #[must_use]
    pub const fn judged_at(&self) -> UnixSeconds {
        self.judged_at
    }

    /// Digests of what the verdict was reached by.
    #[must_use]
    pub const fn basis(&self) -> &Basis {
        &self.basis
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &TpmMachine {
        &self.machine
    }

    /// The verdict as it leaves the program (DESIGN.md §12).
    #[must_use]
    pub fn to_json(&self) -> AffirmedJson<'_> {
        AffirmedJson {
            decision: "affirmed",
            claims: &self.claims,
            rules: &self.rules,
            checks: self.ledger().checks().map(CheckId::name).collect(),
            reference: ReferenceText::of_values(&self.basis.reference),
            policy: ReferenceText::of_policy(&self.basis.policy),
            pcr_digest: self.machine.pcr_digest.map(|digest| digest.to_string()),
            evidence: self.basis.evidence,
        }
    }
}

/// An affirmed appraisal as JSON: `{"decision":"affirmed","claims":{...},...}`.
#[derive(Clone, Debug, Serialize)]
pub struct AffirmedJson<'a> {
    decision: &'static str,
    claims: &'a Claims,
    rules: &'a [Rule],
    checks: Vec<&'static str>,
    reference: ReferenceText,
    policy: ReferenceText,
    pcr_digest: Option<String>,
    evidence: Sha256Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_check_too_few_or_too_many_denies() {
        let all = CheckLedger::of(&CheckId::all().collect::<Vec<_>>());
        assert!(Complete::of(all, all).is_ok());
        assert!(Complete::of(CheckLedger::EMPTY, all).is_err());
        for check in CheckId::all() {
            let but_one = CheckLedger::of(&CheckId::all().filter(|c| *c != check).collect::<Vec<_>>());
            for (passed, required) in [(but_one, all), (all, but_one)] {
                let Err(PolicyDenial::ChecksIncomplete { .. }) = Complete::of(passed, required) else {
                    panic!("{check:?}");
                };
            }
        }
    }
}
