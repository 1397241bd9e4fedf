//! A genuine machine, and a domain that knows it.
#![allow(dead_code, reason = "each test that has this as a module uses a part of it")]

use evidence::{
    Endorsements, Evidence, TrustAnchors, challenge::Challenge, cose::SigningKey, digest::Sha256Digest,
    names::DomainName, threshold::Authority, time::UnixSeconds, verify,
};
use firmware_refs::{
    InForce, ReferenceValues,
    capture::{CaptureHeader, capture},
    document::SetDocument,
    observed::Observed,
    set::ReferenceValueSet,
    signed::{SignedSet, sign},
};
use policy::{
    Affirmed, Denial, Trust, decide,
    ear::EndorsementUsed,
    explain::explain,
    result::{AttestationResult, Issuance},
    set::{PolicyDocument, PolicySet},
    trust::GovernanceBasis,
};
use tests::{genuine::Machine, subject::Subject};

pub(crate) const LAB: &str = include_str!("../../lab.cedar");

pub(crate) struct World {
    pub(crate) evidence: Evidence,
    pub(crate) endorsements: Endorsements,
    pub(crate) challenge: Challenge,
    pub(crate) trust: Trust,
    pub(crate) now: UnixSeconds,
}

/// What a machine gives, before anybody judges it.
struct Given {
    evidence: Evidence,
    endorsements: Endorsements,
    anchors: TrustAnchors,
    challenge: Challenge,
    now: UnixSeconds,
}

impl Given {
    fn by(machine: &Machine) -> Self {
        let (challenge, endorsements) = (machine.challenge(), machine.endorsements());
        let evidence = machine.answer(&challenge).evidence();
        Self { evidence, endorsements, anchors: machine.anchors(), challenge, now: machine.now }
    }

    fn by_subject(subject: &Subject) -> Self {
        let (challenge, endorsements) = (subject.challenge(), subject.endorsements());
        let evidence = subject.evidence(&challenge);
        Self { evidence, endorsements, anchors: subject.anchors(), challenge, now: subject.now() }
    }

    /// The set that knows exactly this machine.
    fn captured(&self) -> SetDocument {
        let header = CaptureHeader {
            id: "rack".parse().unwrap(),
            version: 3,
            domain: domain(),
            environment: "lab".parse().unwrap(),
            node: "node-1".into(),
            now: self.now.minus(60),
            lifetime_s: 86_400,
        };
        let authentic = verify(&self.evidence, &self.endorsements, &self.anchors, self.now).unwrap();
        let bound = authentic.bind(&self.challenge, self.now).unwrap();
        capture(&Observed::of(bound.claims(), self.now), header).unwrap().set().document().clone()
    }

    fn judged_by(self, document: SetDocument, cedar: &str) -> World {
        let trust = trust(&self, document, cedar);
        let Self { evidence, endorsements, challenge, now, .. } = self;
        World { evidence, endorsements, challenge, trust, now }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(&Machine::default(), LAB)
    }

    /// Evidence of `machine`, judged by what was captured from the genuine one.
    pub(crate) fn of(machine: &Machine, cedar: &str) -> Self {
        Given::by(machine).judged_by(Given::by(&Machine::default()).captured(), cedar)
    }

    /// Evidence of `subject`, judged by what was captured from `known`.
    pub(crate) fn judging(subject: &Subject, known: &Subject, cedar: &str) -> Self {
        Given::by_subject(subject).judged_by(Given::by_subject(known).captured(), cedar)
    }

    /// Evidence of `subject`, judged by what was captured from it, the logs of its TPM left out.
    pub(crate) fn without_logs(subject: &Subject, cedar: &str) -> Self {
        let given = Given::by_subject(subject);
        let document = no_logs(given.captured());
        given.judged_by(document, cedar)
    }

    pub(crate) fn decide(&self) -> Result<Affirmed, Denial> {
        decide(&self.evidence, &self.endorsements, &self.challenge, &self.trust, self.now)
    }

    pub(crate) fn explain(&self) -> Vec<Denial> {
        explain(&self.evidence, &self.endorsements, &self.challenge, &self.trust, self.now)
    }

    /// The result of deciding again.
    pub(crate) fn result(&self, documents: &[EndorsementUsed], issuance: &Issuance) -> AttestationResult {
        AttestationResult::new(&self.decide().unwrap(), documents, &self.trust, issuance).unwrap()
    }
}

pub(crate) fn trust_by_values_only(machine: &Machine) -> Trust {
    let given = Given::by(machine);
    let document = no_logs(given.captured());
    trust(&given, document, LAB)
}

/// Values of a TPM's registers alone.
fn no_logs(mut document: SetDocument) -> SetDocument {
    let tpm = document.tpm.as_mut().unwrap();
    tpm.event.clear();
    tpm.ima = None;
    (tpm.require_event_log, tpm.require_ima_log) = (false, false);
    tpm.pcrs.retain(|pcr| *pcr != 10);
    document
}

fn domain() -> DomainName {
    DomainName::new("a.example").unwrap()
}

fn trust(given: &Given, document: SetDocument, cedar: &str) -> Trust {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let authority = Authority::new(vec![key.public().clone()], 1).unwrap();
    let set = ReferenceValueSet::from_document(document).unwrap();
    let signed = SignedSet::open(&[sign(&set, &key).unwrap()], &domain(), &authority).unwrap();
    let values = ReferenceValues::new(vec![InForce::active(signed)]).unwrap();
    let draft = policy_of(cedar, 2_000_000_000);
    let policy = PolicySet::open(&[draft.sign(&key).unwrap()], &domain(), &authority).unwrap();
    let governance = GovernanceBasis { state: Sha256Digest([8; 32]), epoch: given.challenge.epoch };
    Trust::new(given.anchors.clone(), values, policy, governance)
}

pub(crate) fn policy_of(cedar: &str, not_after: u64) -> PolicySet {
    PolicySet::from_document(PolicyDocument {
        id: "lab".parse().unwrap(),
        version: 2,
        domain: domain(),
        issued_at: UnixSeconds(1_000).into(),
        not_after: UnixSeconds(not_after).into(),
        reason: "test".to_owned().try_into().unwrap(),
        cedar: cedar.to_owned(),
    })
    .unwrap_or_else(|e| panic!("{e}"))
}
