//! Last step of an appraisal: is it allowed today? A policy can only lower
//! trust: it is asked after everything else held, and can say no.

use std::borrow::Cow;
use std::sync::Arc;

use evidence::{
    challenge::Challenge,
    digest::Sha256Digest,
    ledger::{CheckId, CheckLedger},
    time::UnixSeconds,
};
use firmware_refs::{Matched, denial::ReferenceName};
use serde::Serialize;

use crate::claims::{Claims, Question, ReferenceClaims, SnpFacts, TdxFacts, TpmFacts};
use crate::denial::{PolicyDenial, ReferenceText};
use crate::engine::Rule;
pub use crate::machine::{Machine, TpmMachine};
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
    machine: Machine,
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
    /// Names what was enrolled, which the evidence was held against.
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

impl PolicySet {
    /// Is it allowed today?
    ///
    /// # Errors
    /// [`PolicyDenial::ChecksIncomplete`] unless exactly the required checks passed; then whatever the set says.
    pub fn appraise(&self, matched: Matched<'_>, now: UnixSeconds) -> Result<Affirmed, PolicyDenial> {
        let bound = matched.bound();
        let complete = Complete::of(matched.ledger(), bound.required())?;
        let machine = Machine::of(bound);
        let claims = self.claims(&matched, now);
        let permitted = self.ask_at(&Question::Attest { claims: Cow::Borrowed(&claims) }, now)?;
        let basis = Basis {
            evidence: bound.evidence_digest(),
            endorsements: bound.claims().enrolment_digest(),
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
            machine,
        })
    }

    /// Asks the set at a moment: one that is over permits nothing.
    ///
    /// # Errors
    /// [`PolicyDenial::Expired`], else as for [`PolicySet::ask`].
    pub fn ask_at(&self, question: &Question<'_>, now: UnixSeconds) -> Result<crate::engine::Permitted, PolicyDenial> {
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

    pub(crate) fn claims(&self, matched: &Matched<'_>, now: UnixSeconds) -> Claims {
        let proven = matched.bound().claims();
        let set = matched.set();
        let document = set.document();
        Claims {
            node: proven.node_id().to_string(),
            domain: self.document.domain.to_string(),
            kind: proven.kind().to_string(),
            environment: document.environment.to_string(),
            simulated: proven.is_simulated(),
            epoch: long(matched.bound().challenge().epoch),
            now: long(now.0),
            reference: ReferenceClaims {
                id: set.id().to_string(),
                version: long(set.version()),
                age_s: long(now.0.saturating_sub(document.issued_at.at().0)),
                grace: matched.is_in_grace(),
            },
            tpm: proven.tpm().map(TpmFacts::of),
            snp: proven.snp().map(SnpFacts::of),
            tdx: proven.tdx().map(TdxFacts::of),
        }
    }
}

/// Cedar numbers are signed; what exceeds them is as good as the greatest.
fn long(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
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
    pub const fn machine(&self) -> &Machine {
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
            register_digest: self.machine.register_digest.to_string(),
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
    register_digest: String,
    evidence: Sha256Digest,
}

#[cfg(test)]
mod tests {
    use ::tests::subject::{KINDS, Subject};

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

    #[test]
    fn each_check_that_a_kind_of_evidence_must_pass_is_one_that_denies_when_it_did_not_run() {
        for kind in KINDS {
            let required = Subject::of(kind).judge().unwrap();
            Complete::of(required, required).unwrap();
            for check in required.checks() {
                let passed = CheckLedger::of(&required.checks().filter(|c| *c != check).collect::<Vec<_>>());
                let denial = Complete::of(passed, required).unwrap_err();
                let failure = crate::denial::Denial::from(denial).failure();
                assert_eq!((failure.code, failure.claim.as_str()), ("policy.checks_incomplete", "checks"), "{kind}");
                assert_eq!(failure.got, format!("not passed: {check:?}; not asked for: "));
            }
        }
    }
}
