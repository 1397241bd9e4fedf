//! Every reason why evidence is refused, not only the first: for people, never
//! for a verdict. What comes after a failed step is looked at all the same,
//! from what the evidence says, and is marked by nothing but its place behind
//! the failure that decided.

use evidence::{
    Claims as EvidenceClaims, Endorsements, Evidence,
    challenge::Challenge,
    digest::Digest,
    event_log::EventLog,
    ima::ImaLog,
    time::UnixSeconds,
    tpm::{PcrSet, PcrValues, TpmEvidence, appraisal::TpmEndorsement, attest::Attest},
    verify,
};
use firmware_refs::{
    observed::{ObservedLog, ObservedTpm, maker},
    text::{FirmwareVersion, KeyName},
};

use crate::claims::Question;
use crate::denial::{Denial, PolicyDenial};
use crate::set::PolicySet;
use crate::trust::Trust;

/// Every denial, the deciding one first; empty when the evidence is affirmed.
#[must_use]
pub fn explain(
    evidence: &Evidence,
    endorsements: &Endorsements,
    challenge: &Challenge,
    trust: &Trust,
    now: UnixSeconds,
) -> Vec<Denial> {
    let authentic = match verify(evidence, endorsements, &trust.anchors, now) {
        Ok(authentic) => authentic,
        Err(denial) => return unproven(denial.into(), evidence, endorsements, trust, now),
    };
    let bound = match authentic.bind(challenge, now) {
        Ok(bound) => bound,
        Err(denial) => return unproven(denial.into(), evidence, endorsements, trust, now),
    };
    match trust.reference_values.compare(&bound) {
        Ok(matched) => {
            let (passed, required) = (matched.ledger(), bound.required());
            let EvidenceClaims::Tpm(tpm) = bound.claims();
            let claims = trust.policy.claims(&matched, tpm, now);
            let mut denials = Vec::new();
            if passed != required {
                denials.push(PolicyDenial::ChecksIncomplete { passed, required }.into());
            }
            denials.extend(policy_denials(&trust.policy, &Question::Attest { claims }, now));
            denials
        }
        Err(first) => {
            let EvidenceClaims::Tpm(tpm) = bound.claims();
            let all = trust.reference_values.all_failures(&ObservedTpm::of(tpm), now);
            if all.is_empty() { vec![first.into()] } else { all.into_iter().map(Denial::from).collect() }
        }
    }
}

/// Everything that a policy set has against a question.
#[must_use]
pub fn policy_denials(set: &PolicySet, question: &Question, now: UnixSeconds) -> Vec<Denial> {
    let expired = set.in_force(now).err();
    let refused = set.judge(question).err().unwrap_or_default();
    expired.into_iter().chain(refused).map(Denial::from).collect()
}

/// The denial that decided, then what reference values have against the evidence, could it be believed.
fn unproven(
    first: Denial,
    evidence: &Evidence,
    endorsements: &Endorsements,
    trust: &Trust,
    now: UnixSeconds,
) -> Vec<Denial> {
    let (Evidence::Tpm(evidence), Endorsements::Tpm(endorsement)) = (evidence, endorsements);
    let parts = evidence.parts();
    let log = parts.event_log.and_then(|bytes| EventLog::parse(bytes).ok());
    let ima = parts.ima_log.and_then(|bytes| ImaLog::parse(bytes).ok());
    let observed = observed(evidence, endorsement, log.as_ref(), ima.as_ref());
    let mut denials = vec![first];
    if let Some(observed) = observed {
        denials.extend(trust.reference_values.all_failures(&observed, now).into_iter().map(Denial::from));
    }
    denials
}

fn observed<'a>(
    evidence: &'a TpmEvidence,
    endorsement: &'a TpmEndorsement,
    log: Option<&'a EventLog<'a>>,
    ima: Option<&'a ImaLog<'a>>,
) -> Option<ObservedTpm<'a>> {
    let parts = evidence.parts();
    let quote = Attest::read(parts.quote).ok()?;
    let enrolled = &endorsement.enrolled;
    Some(ObservedTpm {
        bank: parts.pcrs.bank(),
        pcrs: parts.pcrs.iter().map(|(pcr, value)| (pcr, *value)).collect(),
        event_log: log.map(|log| ObservedLog { log, proven: proven(log, parts.pcrs) }),
        files: ima.map(|log| log.entries()),
        ek: enrolled.ek_digest(),
        ak: KeyName::from_bytes(&enrolled.ak_name().to_bytes()),
        manufacturer: maker(enrolled.endorsement().endorser()),
        firmware: FirmwareVersion(quote.firmware_version),
    })
}

/// Registers whose value the log leads to.
fn proven(log: &EventLog<'_>, values: &PcrValues) -> PcrSet {
    let Ok(replay) = log.replay(values.bank()) else { return PcrSet::EMPTY };
    let leads_to = |pcr: u8, value: &Digest| replay.value(pcr).as_ref() == Some(value);
    let explained = values.iter().filter(|(pcr, value)| leads_to(*pcr, value));
    explained.fold(PcrSet::EMPTY, |set, (pcr, _)| set.with(pcr).unwrap_or(set))
}
