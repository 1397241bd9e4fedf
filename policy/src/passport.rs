//! Passport: what a partner's signed verdict about this very execution counts for, in the place of evidence.
//!
//! Pure, as [`crate::decide`] is: everything that is relied on of the partner is an argument, so that the same decision can
//! be made again. Each step needs what the one before found. What comes out is never an [`crate::Affirmed`]: nothing here
//! was measured, a partner says so, as far as its grant lets it, and the policies of this domain have the last word.

use std::collections::BTreeMap;

use evidence::{
    EvidenceDenial, EvidenceKind,
    challenge::Challenge,
    cose::{KeySet, PublicKey},
    digest::{Digest, Sha256Digest},
    names::DomainName,
    register::Register,
    tee::PlatformId,
    time::UnixSeconds,
};
use governance::{
    GovernanceDenial,
    artifact::{Artifact, ArtifactTerms, VerifiedArtifact},
    federation_grant::FederationGrant,
    intent::Intent,
    partner::Fresh,
    passport::Passport,
    revocation::{RevocationList, Revoked},
    text::Text,
    trust_bundle::Role,
};
use serde::{Deserialize, Serialize};

use crate::claims::{Claims, Question, ReferenceClaims};
use crate::denial::Denial;
use crate::ear::{Appraisal, AttesterClaims, Ear};
use crate::engine::Rule;
use crate::result::{Answers, Reliance, RelyingResult, ResultRefusal};
use crate::trust::Trust;

/// What is relied on of a partner at one moment: kept with a decision, which can so be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// Which domain.
    pub domain: DomainName,
    /// Its issuer keys whose signatures count.
    pub issuer: Vec<PublicKey>,
    /// What it may assert here.
    pub grant: FederationGrant,
    /// Everything that it has revoked.
    pub revocations: Vec<(Revoked, Text)>,
    /// Its governance state.
    pub state: Sha256Digest,
    /// Seconds since that was issued.
    pub state_age_s: u64,
}

impl Voucher {
    /// Of a partner that is fresh.
    #[must_use]
    pub fn of(fresh: &Fresh<'_>, now: UnixSeconds) -> Self {
        let keys = fresh.bundle().bundle().records(Role::Issuer).iter();
        let counts = keys.filter(|record| record.from <= now && now < record.until);
        Self {
            domain: fresh.domain().clone(),
            issuer: counts.map(|record| record.key.clone()).collect(),
            grant: fresh.grant().clone(),
            revocations: fresh.revocations().entries().map(|(thing, why)| (thing.clone(), why.clone())).collect(),
            state: fresh.state().digest(),
            state_age_s: now.0.saturating_sub(fresh.state().state().issued_at.0),
        }
    }
}

/// The machine as this domain enrolled it: a partner's word about another one is not about this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledMachine {
    /// The kind of evidence that it gives.
    pub kind: EvidenceKind,
    /// SHA-256 of the EK's TPM2B_PUBLIC, of machines with a TPM.
    pub ek: Option<Sha256Digest>,
    /// The platform of its TEE, of machines that are in one.
    pub platform: Option<PlatformId>,
}

/// A passport, and what it must be about.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// As the node signed it.
    pub passport: &'a Passport,
    /// What it must answer.
    pub challenge: &'a Challenge,
    /// The execution.
    pub intent: &'a Intent,
    /// Its digest.
    pub intent_digest: Sha256Digest,
    /// The machine.
    pub machine: &'a EnrolledMachine,
    /// When.
    pub now: UnixSeconds,
}

/// A partner's verdict that may be relied on. Made only by [`rely`].
#[derive(Clone, Debug)]
pub struct Relied {
    artifact: VerifiedArtifact,
    ear: Ear,
    claims: Claims,
    rules: Vec<Rule>,
}

/// May this domain rely on what a partner says of this execution?
///
/// # Errors
/// The first [`Denial`].
pub fn rely(
    presented: Presented<'_>,
    partner: &Voucher,
    trust: &Trust,
    revocations: &RevocationList,
) -> Result<Relied, Denial> {
    let Presented { passport, challenge, now, .. } = presented;
    passport.answers(challenge, now)?; // our nonce, this connection, this request?
    partner.grant.admits_results(&partner.domain)?; // may it vouch at all?
    let artifact = vouching(presented, partner)?; // signed by it, in force, for this execution, within its grant?
    let ear = own_result(presented, partner, &artifact)?; // by its own appraisal, and affirming?
    let appraisal = of_this_machine(presented, partner, &ear, &artifact)?; // of this machine, of a granted kind?
    unrevoked(&artifact, &[revocations, &RevocationList::new(partner.revocations.iter().cloned())])?;
    let claims = claims(appraisal, partner, trust, now);
    let rules = permitted(&claims, &ear, partner, trust, now)?; // and do our own policies take its word today?
    Ok(Relied { artifact, ear, claims, rules })
}

fn vouching(presented: Presented<'_>, partner: &Voucher) -> Result<VerifiedArtifact, GovernanceDenial> {
    let (intent, domain) = (presented.intent, &partner.domain);
    let audience = domain.node_spiffe_id(&intent.node);
    let keys = KeySet::new(&partner.issuer);
    let artifact = Artifact::verify_presented(&presented.passport.artifact, &keys, domain, &audience, presented.now)?;
    let terms = artifact.terms();
    partner.grant.admits_name(domain, &terms.subject)?;
    partner.grant.admits_lease(domain, terms.lease.duration_ms)?;
    if terms.bindings.node != intent.node {
        let (got, expected) = (terms.bindings.node.clone(), intent.node.clone());
        return Err(GovernanceDenial::Node { what: "artifact", got, expected });
    }
    if terms.intent != presented.intent_digest {
        return Err(GovernanceDenial::Workload { got: terms.intent, expected: presented.intent_digest });
    }
    terms.scope.within(&intent.scope)?;
    Ok(artifact)
}

/// The result that the artifact names. A partner that itself relied on somebody's word has no result of its own to show:
/// its artifact names the other's, which counts for nobody here.
fn own_result(
    presented: Presented<'_>,
    partner: &Voucher,
    artifact: &VerifiedArtifact,
) -> Result<Ear, GovernanceDenial> {
    let (cwt, domain) = (&presented.passport.result, &partner.domain);
    if let Some(got) = RelyingResult::claimed_issuer(cwt).filter(|got| *got != domain.verifier_spiffe_id()) {
        return Err(GovernanceDenial::PassportTransitive { domain: domain.clone(), got });
    }
    let keys = KeySet::new(&partner.issuer);
    let reliance = Reliance {
        domain,
        keys: &keys,
        audience: &artifact.terms().audience,
        answers: Answers::Named(artifact.terms().policy.result),
        now: presented.now,
    };
    match RelyingResult::read(cwt, &reliance) {
        Ok(result) => Ok(result.into_ear()),
        Err(ResultRefusal::Signature(cause)) => {
            Err(GovernanceDenial::SignatureInvalid { what: "attestation result", cause })
        }
        Err(ResultRefusal::OtherResult) => {
            Err(GovernanceDenial::PassportMismatch { domain: domain.clone(), what: "result" })
        }
        Err(refusal) => Err(GovernanceDenial::PassportResult { domain: domain.clone(), cause: refusal.to_string() }),
    }
}

fn of_this_machine<'e>(
    presented: Presented<'_>,
    partner: &Voucher,
    ear: &'e Ear,
    artifact: &VerifiedArtifact,
) -> Result<&'e Appraisal, Denial> {
    let mismatch = |what| GovernanceDenial::PassportMismatch { domain: partner.domain.clone(), what };
    let mut appraisals = ear.submods.values();
    let (Some(appraisal), None) = (appraisals.next(), appraisals.next()) else {
        return Err(mismatch("number of appraisals").into());
    };
    let AttesterClaims { node, kind, node_key, registers, tpm, platform } = &appraisal.attester;
    partner.grant.admits_kind(&partner.domain, *kind)?;
    let EnrolledMachine { kind: enrolled, ek, platform: enrolled_on } = presented.machine;
    if kind != enrolled {
        return Err(EvidenceDenial::KindUnexpected { got: *kind, demanded: *enrolled }.into());
    }
    let terms = artifact.terms();
    let facts = [
        ("node", node == presented.intent.node.as_str()),
        ("node key", *node_key == terms.confirmation.key.digest()),
        ("registers", *registers == terms.bindings.measurements),
        ("EK", tpm.as_ref().map(|tpm| tpm.ek) == *ek),
        ("platform", platform == enrolled_on),
        ("judge", appraisal.verifier.domain == partner.domain.as_str()),
        ("evidence", appraisal.verifier.evidence == terms.bindings.evidence),
    ];
    match facts.into_iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(mismatch(what).into()),
        None => Ok(appraisal),
    }
}

/// What either of the two took back counts for nobody.
fn unrevoked(artifact: &VerifiedArtifact, lists: &[&RevocationList]) -> Result<(), GovernanceDenial> {
    lists.iter().try_for_each(|list| list.admits_artifact(artifact.terms()))
}

/// What the policies here see. The names of environment and reference values are the partner's own, and told apart from
/// ours by its name: nothing that it calls `production` is our `production`.
fn claims(appraisal: &Appraisal, partner: &Voucher, trust: &Trust, now: UnixSeconds) -> Claims {
    let (attester, verifier) = (&appraisal.attester, &appraisal.verifier);
    let foreign = |name: &str| format!("{}/{name}", partner.domain);
    Claims {
        node: attester.node.clone(),
        domain: trust.policy().document().domain.to_string(),
        kind: attester.kind.to_string(),
        environment: foreign(&verifier.environment),
        // A result that does not say that the hardware is genuine says as much (AR4SI §2.3.4).
        simulated: appraisal.vector.hardware != Some(2),
        epoch: long(trust.governance().epoch),
        now: long(now.0),
        reference: ReferenceClaims {
            id: foreign(&verifier.reference.id),
            version: long(verifier.reference.version),
            age_s: 0,
            grace: false,
        },
        tpm: None,
        snp: None,
        tdx: None,
    }
}

fn permitted(
    claims: &Claims,
    ear: &Ear,
    partner: &Voucher,
    trust: &Trust,
    now: UnixSeconds,
) -> Result<Vec<Rule>, Denial> {
    let question = Question::Federate {
        partner: partner.domain.to_string(),
        domain: claims.domain.clone(),
        epoch: claims.epoch,
        now: claims.now,
        kind: claims.kind.clone(),
        subject: ear.audience.clone(),
        result_age_s: long(now.0.saturating_sub(ear.issued_at)),
        state_age_s: long(partner.state_age_s),
    };
    Ok(trust.policy().ask_at(&question, now)?.into_rules())
}

/// Cedar numbers are signed; what exceeds them is as good as the greatest.
fn long(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Relied {
    /// The partner's artifact: node key, measurements and lease of this execution there.
    #[must_use]
    pub const fn terms(&self) -> &ArtifactTerms {
        self.artifact.terms()
    }

    /// The record in the partner's log that the artifact was issued by.
    #[must_use]
    pub const fn record(&self) -> Sha256Digest {
        self.artifact.receipt().entry
    }

    /// Every measured register with its value, as the partner found them.
    #[must_use]
    pub const fn measurements(&self) -> &BTreeMap<Register, Digest> {
        &self.artifact.terms().bindings.measurements
    }

    /// The partner's result.
    #[must_use]
    pub const fn ear(&self) -> &Ear {
        &self.ear
    }

    /// What policies judge, for the questions that follow.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The rules that permitted to rely on it.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}
