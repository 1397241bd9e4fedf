//! Every defect that evidence can have, one at a time, with the denial that it must meet.
//!
//! Genuine evidence is accepted; the same with one defect is refused for exactly that reason. The tables are
//! complete: a test fails when a check or a denial has no case here.

mod identity;
mod logs;
mod node_key;
mod quote;
pub mod snp;

use std::sync::Arc;

use evidence::{
    Endorsements, EvidenceDenial, TrustAnchors,
    anchors::AnchorSet,
    challenge::{Challenge, TpmDemands},
    denial::EvidenceDenialKind,
    ledger::{CheckId, CheckLedger},
    time::UnixSeconds,
    tpm::{ClockState, EnrolledTpm, Enrolment, TpmEndorsement},
    verify,
};

use crate::genuine::{Answer, Draft, Machine};

/// Where a defect is put in.
#[derive(Clone, Copy)]
pub enum Place {
    /// The machine, before it enrols and answers.
    Machine(fn(&mut Machine)),
    /// What the verifier trusts.
    Anchors(fn(&mut AnchorSet, &Machine)),
    /// The stored enrolment.
    Enrolment(fn(&mut Enrolment, &Machine)),
    /// The machine, after it enrolled and before it answers.
    Enrolled(fn(&mut Machine)),
    /// What the challenge demands, before the machine sees it.
    Demand(fn(&mut Challenge)),
    /// The answer, before it is signed.
    Draft(fn(&mut Draft, &Machine)),
    /// The answer, after it was signed.
    Answer(fn(&mut Answer, &Machine)),
    /// The bytes on the wire.
    Wire(fn(&mut Vec<u8>)),
    /// The clock state that the verifier holds.
    Clock(fn(&mut ClockState)),
    /// The challenge that the verifier holds the answer against.
    Challenge(fn(&mut Challenge)),
    /// The time at which it is judged.
    Time(fn(&mut UnixSeconds)),
}

/// One defect.
pub struct Defect {
    /// The check that must not pass.
    pub check: CheckId,
    /// How it must be refused.
    pub denial: EvidenceDenialKind,
    /// What is wrong.
    pub name: &'static str,
    /// Where it is put in.
    pub place: Place,
}

const fn defect(check: CheckId, denial: EvidenceDenialKind, name: &'static str, place: Place) -> Defect {
    Defect { check, denial, name, place }
}

/// What the challenge demands of the TPM.
fn tpm(challenge: &mut Challenge) -> &mut TpmDemands {
    challenge.demands.tpm_mut().unwrap()
}

/// For edits that give back what they took out.
fn ignore<T>(_: T) {}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Defect> {
    identity::DEFECTS.iter().chain(quote::DEFECTS).chain(node_key::DEFECTS).chain(logs::DEFECTS)
}

/// Runs a genuine enrolment and appraisal with the defect put in, if any: the whole of this crate's path.
///
/// # Errors
/// The denial that it met.
pub fn run(machine: &mut Machine, place: Option<Place>) -> Result<CheckLedger, EvidenceDenial> {
    if let Some(Place::Machine(edit)) = place {
        edit(machine);
    }
    let mut set = machine.authority.anchor_set();
    if let Some(Place::Anchors(edit)) = place {
        edit(&mut set, machine);
    }
    let anchors = TrustAnchors::new(set).unwrap();
    let mut enrolment = machine.enrol_under(&anchors)?.0;
    if let Some(Place::Enrolment(edit)) = place {
        edit(&mut enrolment, machine);
    }
    let enrolled = EnrolledTpm::verify(&enrolment, &anchors, machine.now)?;
    if let Some(Place::Enrolled(edit)) = place {
        edit(machine);
    }
    let mut clock = ClockState::at(enrolled.baseline());
    if let Some(Place::Clock(edit)) = place {
        edit(&mut clock);
    }
    let endorsements = Endorsements::Tpm(TpmEndorsement { enrolled: Arc::new(enrolled), clock, node_key: None });
    let mut challenge = machine.challenge();
    if let Some(Place::Demand(edit)) = place {
        edit(&mut challenge);
    }
    let evidence = evidence::Evidence::decode(answer(machine, &challenge, place)?)?;
    if let Some(Place::Challenge(edit)) = place {
        edit(&mut challenge);
    }
    let mut now = machine.now;
    if let Some(Place::Time(edit)) = place {
        edit(&mut now);
    }
    let bound = verify(&evidence, &endorsements, &anchors, now)?.bind(&challenge, now)?;
    Ok(bound.ledger())
}

fn answer(machine: &Machine, challenge: &Challenge, place: Option<Place>) -> Result<Vec<u8>, EvidenceDenial> {
    let mut draft = machine.draft(challenge);
    if let Some(Place::Draft(edit)) = place {
        edit(&mut draft, machine);
    }
    let mut answer = machine.sign(&draft);
    if let Some(Place::Answer(edit)) = place {
        edit(&mut answer, machine);
    }
    let mut wire = answer.try_evidence()?.bytes().to_vec();
    if let Some(Place::Wire(edit)) = place {
        edit(&mut wire);
    }
    Ok(wire)
}
