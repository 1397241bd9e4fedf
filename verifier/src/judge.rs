//! One judgement, as a pure function: the same inputs give the same verdict, live, in `appraise` and in a replay.
//!
//! `policy::decide` says whether the machine is affirmed; what it may then run and which keys it may have are
//! questions to the same policy set about the same claims at the same moment.

use evidence::challenge::Challenge;
use evidence::digest::Sha256Digest;
use evidence::evidence::{Endorsements, Evidence};
use evidence::names::ItemName;
use evidence::time::UnixSeconds;
use evidence::tpm::attest::ClockInfo;
use evidence::tpm::{ClockState, TpmEndorsement};
use evidence::{EvidenceDenial, verify};
use governance::intent::Intent;
use policy::claims::{IntentClaims, Question};
use policy::engine::Rule;
use policy::{Affirmed, Denial};

/// Everything that one judgement is made from, trust aside.
pub struct Case {
    /// What came.
    pub evidence: Evidence,
    /// What we hold about the machine.
    pub endorsements: Endorsements,
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
    /// It goes on, and so must the clock of its TPM; else a restart may show: whatever was held before is over.
    pub renewal: bool,
}

/// An affirmed machine, permitted to do what was asked.
pub struct Judgement {
    /// The machine.
    pub affirmed: Affirmed,
    /// The rules that permitted each step, by id.
    pub rules: Vec<Rule>,
    /// The TPM was reset or restarted since it was last seen.
    pub restarted: Option<ClockState>,
}

/// Judges a case: affirmed, and permitted to do what is asked.
pub fn judge(case: &Case, trust: &policy::Trust) -> Result<Judgement, Denial> {
    let (affirmed, restarted) = affirm(case, trust)?;
    let mut rules = affirmed.rules().to_vec();
    if let Asking::Execute(execution) = &case.asks {
        for question in questions(execution, &affirmed) {
            rules.extend_from_slice(trust.policy().ask_at(&question, case.now)?.rules());
        }
    }
    rules.sort_by(|a, b| a.id.cmp(&b.id));
    rules.dedup_by(|a, b| a.id == b.id);
    Ok(Judgement { affirmed, rules, restarted })
}

/// Is the evidence authentic and an answer to the challenge? No more is asked of evidence that is only kept.
pub fn authentic(case: &Case, trust: &policy::Trust) -> Result<Sha256Digest, EvidenceDenial> {
    let bound =
        verify(&case.evidence, &case.endorsements, trust.anchors(), case.now)?.bind(&case.challenge, case.now)?;
    Ok(bound.evidence_digest())
}

/// A machine that starts something anew may have been restarted: then its clock is judged from the restart on. The
/// signature under which it shows its counters is verified before they are looked at.
fn affirm(case: &Case, trust: &policy::Trust) -> Result<(Affirmed, Option<ClockState>), Denial> {
    let first = policy::decide(&case.evidence, &case.endorsements, &case.challenge, trust, case.now);
    let may_have_restarted = match &case.asks {
        Asking::Execute(execution) => !execution.renewal,
        Asking::Nothing => true,
    };
    let Err(Denial::Evidence(EvidenceDenial::TpmRestarted { got, baseline })) = &first else {
        return first.map(|affirmed| (affirmed, None));
    };
    let shown = ClockInfo {
        clock_ms: got.last_clock_ms,
        reset_count: got.reset_count,
        restart_count: got.restart_count,
        safe: true,
    };
    let (true, Some(from)) = (may_have_restarted, baseline.after_logged_restart(shown)) else {
        return first.map(|affirmed| (affirmed, None));
    };
    let endorsements = restarted_at(&case.endorsements, from);
    let affirmed = policy::decide(&case.evidence, &endorsements, &case.challenge, trust, case.now)?;
    Ok((affirmed, Some(from)))
}

fn restarted_at(endorsements: &Endorsements, clock: ClockState) -> Endorsements {
    match endorsements {
        Endorsements::Tpm(tpm) => Endorsements::Tpm(TpmEndorsement { clock, ..tpm.clone() }),
        Endorsements::TpmOnSevSnp(tpm, snp) => {
            Endorsements::TpmOnSevSnp(TpmEndorsement { clock, ..tpm.clone() }, snp.clone())
        }
        Endorsements::SevSnp(_) => endorsements.clone(),
    }
}

fn questions(execution: &Execution, affirmed: &Affirmed) -> Vec<Question> {
    let (claims, intent) = (affirmed.claims(), IntentClaims::of(&execution.intent));
    let scope = IntentClaims::scope_of(&execution.intent);
    let execute =
        Question::Execute { claims: claims.clone(), intent: intent.clone(), scope, renewal: execution.renewal };
    let release = execution.keys.iter().map(|(name, labels)| Question::Release {
        claims: claims.clone(),
        intent: intent.clone(),
        key: name.to_string(),
        labels: labels.clone(),
    });
    std::iter::once(execute).chain(release).collect()
}
