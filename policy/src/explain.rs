//! Every reason why evidence is refused, not only the first: for people, never
//! for a verdict. What comes after a failed step is looked at all the same,
//! from what the evidence says, and is marked by nothing but its place behind
//! the failure that decided.

use std::borrow::Cow;

use evidence::{
    Endorsements, Evidence, EvidenceKind,
    challenge::Challenge,
    digest::Digest,
    event_log::EventLog,
    ima::ImaLog,
    sev_snp::SnpReport,
    time::UnixSeconds,
    tpm::{PcrSet, PcrValues, TpmEvidence, appraisal::TpmEndorsement, attest::Attest},
    verify,
};
use firmware_refs::{
    observed::{Observed, ObservedLog, ObservedSnp, ObservedTpm, maker},
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
            let claims = trust.policy.claims(&matched, now);
            let mut denials = Vec::new();
            if passed != required {
                denials.push(PolicyDenial::ChecksIncomplete { passed, required }.into());
            }
            denials.extend(policy_denials(&trust.policy, &Question::Attest { claims: Cow::Owned(claims) }, now));
            denials
        }
        Err(first) => {
            let observed = Observed::of(bound.claims(), bound.judged_at());
            let all = trust.reference_values.all_failures(&observed, now);
            if all.is_empty() { vec![first.into()] } else { all.into_iter().map(Denial::from).collect() }
        }
    }
}

/// Everything that a policy set has against a question.
#[must_use]
pub fn policy_denials(set: &PolicySet, question: &Question<'_>, now: UnixSeconds) -> Vec<Denial> {
    let expired = set.in_force(now).err();
    let refused = set.judge(question).err().unwrap_or_default();
    expired.into_iter().chain(refused).map(Denial::from).collect()
}

/// Shows `look` what the evidence says was measured, proven or not: to say what it differs in, never for a verdict. None
/// where nothing can be said: of a trust domain whose quote is not proven, or of bytes that do not read.
pub fn measured<R>(
    evidence: &Evidence,
    endorsements: &Endorsements,
    challenge: &Challenge,
    trust: &Trust,
    now: UnixSeconds,
    look: impl FnOnce(&Observed<'_>) -> R,
) -> Option<R> {
    let Ok(authentic) = verify(evidence, endorsements, &trust.anchors, now) else {
        return claimed(evidence, endorsements, look);
    };
    match authentic.bind(challenge, now) {
        Ok(bound) => Some(look(&Observed::of(bound.claims(), bound.judged_at()))),
        Err(_) => claimed(evidence, endorsements, look),
    }
}

/// The denial that decided, then what reference values have against the evidence, could it be believed.
fn unproven(
    first: Denial,
    evidence: &Evidence,
    endorsements: &Endorsements,
    trust: &Trust,
    now: UnixSeconds,
) -> Vec<Denial> {
    let failures = claimed(evidence, endorsements, |observed| trust.reference_values.all_failures(observed, now));
    std::iter::once(first).chain(failures.into_iter().flatten().map(Denial::from)).collect()
}

/// Shows `look` what evidence claims that nobody proved.
fn claimed<R>(evidence: &Evidence, endorsements: &Endorsements, look: impl FnOnce(&Observed<'_>) -> R) -> Option<R> {
    let parts = evidence.tpm().map(TpmEvidence::parts);
    let log = parts.and_then(|parts| parts.event_log).and_then(|bytes| EventLog::parse(bytes).ok());
    let ima = parts.and_then(|parts| parts.ima_log).and_then(|bytes| ImaLog::parse(bytes).ok());
    let on_tpm = evidence.tpm().zip(endorsements.tpm());
    let on_tpm = on_tpm.and_then(|(evidence, held)| observed(evidence, held, log.as_ref(), ima.as_ref()));
    let on_snp = evidence.snp_report().and_then(|bytes| SnpReport::parse(bytes).ok()).zip(endorsements.snp());
    let on_snp = on_snp.and_then(|(report, held)| ObservedSnp::unproven(&report, held));
    // of a trust domain, what its platform is worth is not known before its quote is proven
    let observed = match (evidence.kind(), on_tpm, on_snp) {
        (EvidenceKind::Tpm, Some(tpm), _) => Observed::Tpm(tpm),
        (EvidenceKind::SevSnp, _, Some(snp)) => Observed::SevSnp(snp),
        (EvidenceKind::TpmOnSevSnp, Some(tpm), Some(snp)) => Observed::TpmOnSevSnp(tpm, snp),
        (
            EvidenceKind::Tpm
            | EvidenceKind::SevSnp
            | EvidenceKind::Tdx
            | EvidenceKind::TpmOnSevSnp
            | EvidenceKind::TpmOnTdx,
            _,
            _,
        ) => return None,
    };
    Some(look(&observed))
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
