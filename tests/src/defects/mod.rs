//! Every defect that evidence can have, one at a time, with the denial that it must meet.
//!
//! Genuine evidence is accepted; the same with one defect is refused for exactly that reason. The tables are
//! complete: a test fails when a check or a denial has no case here.

mod identity;
mod logs;
mod node_key;
mod quote;
mod saved;
mod snp;
mod tdx;
mod vtpm;

use std::sync::Arc;

use evidence::{
    Endorsements, EvidenceDenial, TrustAnchors,
    anchors::AnchorSet,
    challenge::{Challenge, TpmDemands},
    denial::EvidenceDenialKind,
    ledger::CheckId,
    time::UnixSeconds,
    tpm::{ClockState, EnrolledTpm, Enrolment, TpmEndorsement},
    verify,
};

use crate::genuine::{Answer, Draft, Machine};

/// Where a defect of a TPM's evidence is put in.
#[derive(Clone, Copy)]
enum Place {
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

/// One row of a table.
struct Defect<P = Place> {
    check: CheckId,
    denial: EvidenceDenialKind,
    name: &'static str,
    place: P,
}

const fn defect<P: Copy>(check: CheckId, denial: EvidenceDenialKind, name: &'static str, place: P) -> Defect<P> {
    Defect { check, denial, name, place }
}

/// One defect of one kind of evidence.
pub struct Case {
    /// What it is a defect of.
    pub of: &'static str,
    /// The check that must not pass.
    pub check: CheckId,
    /// How it must be refused.
    pub denial: EvidenceDenialKind,
    /// What is wrong.
    pub name: &'static str,
    judge: Box<dyn Fn() -> Result<(), EvidenceDenial>>,
}

impl Case {
    /// Judges the evidence that has it.
    ///
    /// # Errors
    /// The denial that it met.
    pub fn judge(&self) -> Result<(), EvidenceDenial> {
        (self.judge)()
    }
}

/// Every row of a table as a case; `judge` puts the defect into genuine evidence and judges it by the whole path.
fn cases<P: Copy + 'static>(
    of: &'static str,
    table: &'static [Defect<P>],
    judge: impl Fn(P) -> Result<(), EvidenceDenial> + Copy + 'static,
) -> impl Iterator<Item = Case> {
    table.iter().map(move |Defect { check, denial, name, place }| {
        let place = *place;
        Case { of, check: *check, denial: *denial, name, judge: Box::new(move || judge(place)) }
    })
}

/// What the challenge demands of the TPM.
fn tpm(challenge: &mut Challenge) -> &mut TpmDemands {
    challenge.demands.tpm_mut().unwrap()
}

/// For edits that give back what they took out.
fn ignore<T>(_: T) {}

/// All of them.
pub fn all() -> Vec<Case> {
    let tpm = |place| run(&mut Machine::default(), Some(place));
    let tables = [identity::DEFECTS, quote::DEFECTS, node_key::DEFECTS, logs::DEFECTS];
    let tpm = tables.into_iter().flat_map(move |table| cases("TPM", table, tpm));
    tpm.chain(snp::all()).chain(tdx::all()).chain(vtpm::all()).chain(saved::all()).collect()
}

/// The same without a defect: all of these are accepted.
pub fn genuine() -> Vec<(String, Result<(), EvidenceDenial>)> {
    let tpm = std::iter::once(("TPM".to_owned(), run(&mut Machine::default(), None)));
    tpm.chain(snp::genuine()).chain(tdx::genuine()).chain(vtpm::genuine()).chain(saved::genuine()).collect()
}

/// Runs a genuine enrolment and appraisal with the defect put in, if any.
fn run(machine: &mut Machine, place: Option<Place>) -> Result<(), EvidenceDenial> {
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
    verify(&evidence, &endorsements, &anchors, now)?.bind(&challenge, now).map(|_| ())
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
