//! A genuine machine, and a domain that knows it.

use evidence::{
    Bound, Claims, Endorsements, Evidence, challenge::Challenge, cose::SigningKey, digest::Sha256Digest,
    names::DomainName, threshold::Authority, time::UnixSeconds, verify,
};
use firmware_refs::{
    InForce, ReferenceValues,
    capture::{CaptureHeader, capture},
    document::SetDocument,
    observed::{Observed, ObservedTpm},
    set::ReferenceValueSet,
    signed::{SignedSet, sign},
};
use policy::{
    Affirmed, Denial, Trust, decide,
    set::{PolicyDocument, PolicySet},
    trust::GovernanceBasis,
};
use tests::genuine::Machine;

pub(crate) const LAB: &str = include_str!("../../lab.cedar");

pub(crate) struct World {
    pub(crate) evidence: Evidence,
    pub(crate) endorsements: Endorsements,
    pub(crate) challenge: Challenge,
    pub(crate) trust: Trust,
    pub(crate) now: UnixSeconds,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(&Machine::default(), LAB)
    }

    /// Evidence of `machine`, judged by what was captured from the genuine one.
    pub(crate) fn of(machine: &Machine, cedar: &str) -> Self {
        let challenge = machine.challenge();
        Self {
            evidence: machine.answer(&challenge).evidence(),
            endorsements: machine.endorsements(),
            trust: trust(machine, captured(&Machine::default(), |_| {}), cedar),
            challenge,
            now: machine.now,
        }
    }

    pub(crate) fn decide(&self) -> Result<Affirmed, Denial> {
        decide(&self.evidence, &self.endorsements, &self.challenge, &self.trust, self.now)
    }
}

pub(crate) fn trust_by_values_only(machine: &Machine) -> Trust {
    let document = captured(machine, |document| {
        let tpm = document.tpm.as_mut().unwrap();
        tpm.event.clear();
        tpm.ima = None;
        (tpm.require_event_log, tpm.require_ima_log) = (false, false);
        tpm.pcrs.retain(|pcr| *pcr != 10);
    });
    trust(machine, document, LAB)
}

fn captured(machine: &Machine, change: impl FnOnce(&mut SetDocument)) -> SetDocument {
    let challenge = machine.challenge();
    let evidence = machine.answer(&challenge).evidence();
    let endorsements = machine.endorsements();
    let header = CaptureHeader {
        id: "rack".parse().unwrap(),
        version: 3,
        domain: domain(),
        environment: "lab".parse().unwrap(),
        node: "node-1".into(),
        now: machine.now.minus(60),
        lifetime_s: 86_400,
    };
    let authentic = verify(&evidence, &endorsements, &machine.anchors(), machine.now).unwrap();
    let bound: Bound<'_> = authentic.bind(&challenge, machine.now).unwrap();
    let Claims::Tpm(claims) = bound.claims() else { panic!("not of a TPM") };
    let mut document = capture(&Observed::Tpm(ObservedTpm::of(claims)), header).unwrap().set().document().clone();
    change(&mut document);
    document
}

fn domain() -> DomainName {
    DomainName::new("a.example").unwrap()
}

fn trust(machine: &Machine, document: SetDocument, cedar: &str) -> Trust {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let authority = Authority::new(vec![key.public().clone()], 1).unwrap();
    let set = ReferenceValueSet::from_document(document).unwrap();
    let signed = SignedSet::open(&[sign(&set, &key).unwrap()], &domain(), &authority).unwrap();
    let values = ReferenceValues::new(vec![InForce::active(signed)]).unwrap();
    let draft = policy_of(cedar, 2_000_000_000);
    let policy = PolicySet::open(&[draft.sign(&key).unwrap()], &domain(), &authority).unwrap();
    let governance = GovernanceBasis { state: Sha256Digest([8; 32]), epoch: machine.epoch };
    Trust::new(machine.anchors(), values, policy, governance)
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
