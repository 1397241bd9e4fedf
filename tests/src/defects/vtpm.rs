//! A vTPM in a confidential guest: what ties its two halves to each other and to one challenge. What else is wrong with
//! either half meets the denial that it meets alone.

use evidence::{
    Endorsements, Evidence, EvidenceDenial,
    challenge::{Challenge, Demands},
    denial::EvidenceDenialKind as Kind,
    digest::Sha256Digest,
    ledger::CheckId::{S5, S11, S13, T4, T6, X1, X11, X12},
    names::NodeId,
    tee::EnrolledPlatform,
    verify,
};

use super::{Case, Defect, cases, defect};
use crate::{
    genuine::Machine,
    genuine_vtpm::{Tee, VTpmDraft, VTpmGuest},
};

/// Where a defect is put in.
#[derive(Clone, Copy)]
enum Place {
    /// The guest, after it enrolled and before it answers.
    Enrolled(fn(&mut VTpmGuest)),
    /// The answer, before it is made.
    Draft(fn(&mut VTpmDraft)),
    /// The evidence.
    Sent(fn(Evidence, &VTpmGuest) -> Evidence),
    /// What the verifier holds about the guest.
    Held(fn(&mut Endorsements)),
    /// The challenge that the verifier holds the answer against.
    Asked(fn(&mut Challenge)),
}

pub(super) fn all() -> impl Iterator<Item = Case> {
    let on_snp = |place| run(VTpmGuest::on_snp(), Some(place));
    let on_tdx = |place| run(VTpmGuest::on_tdx(), Some(place));
    cases("vTPM on SNP", ON_SNP, on_snp).chain(cases("vTPM on TDX", ON_TDX, on_tdx))
}

pub(super) fn genuine() -> impl Iterator<Item = (String, Result<(), EvidenceDenial>)> {
    [("SNP", VTpmGuest::on_snp()), ("TDX", VTpmGuest::on_tdx())]
        .into_iter()
        .map(|(on, guest)| (format!("vTPM on {on}"), run(guest, None)))
}

fn run(mut guest: VTpmGuest, place: Option<Place>) -> Result<(), EvidenceDenial> {
    let (anchors, mut endorsements, mut challenge) = (guest.anchors(), guest.endorsements(), guest.challenge());
    if let Some(Enrolled(edit)) = place {
        edit(&mut guest);
    }
    let mut draft = guest.draft(&challenge);
    if let Some(Draft(edit)) = place {
        edit(&mut draft);
    }
    let mut evidence = guest.answer(&draft)?;
    match place {
        Some(Sent(edit)) => evidence = edit(evidence, &guest),
        Some(Held(edit)) => edit(&mut endorsements),
        Some(Asked(edit)) => edit(&mut challenge),
        Some(Enrolled(_) | Draft(_)) | None => {}
    }
    let evidence = Evidence::decode(evidence.bytes().to_vec())?;
    let now = guest.tpm.now;
    verify(&evidence, &endorsements, &anchors, now)?.bind(&challenge, now).map(|_| ())
}

/// The same platform, enrolled as somebody else says.
fn platform(endorsements: &mut Endorsements, edit: fn(&EnrolledPlatform) -> EnrolledPlatform) {
    match endorsements {
        Endorsements::TpmOnSevSnp(_, snp) => snp.enrolled = edit(&snp.enrolled).into(),
        Endorsements::TpmOnTdx(_, tdx) => tdx.enrolled = edit(&tdx.enrolled).into(),
        Endorsements::Tpm(_) | Endorsements::SevSnp(_) | Endorsements::Tdx(_) => panic!("not of a vTPM"),
    }
}

fn renamed(enrolled: &EnrolledPlatform) -> EnrolledPlatform {
    let other = NodeId::new("node-2").unwrap();
    EnrolledPlatform::new(other, enrolled.platform().clone(), enrolled.record_key().clone())
}

fn rekeyed(enrolled: &EnrolledPlatform) -> EnrolledPlatform {
    let other = evidence::cose::SigningKey::from_seed(&[8; 32]).unwrap().public().clone();
    EnrolledPlatform::new(enrolled.node_id().clone(), enrolled.platform().clone(), other)
}

/// What the TPM alone would send.
fn tpm_alone(_: Evidence, guest: &VTpmGuest) -> Evidence {
    let Challenge { demands, .. } = guest.challenge();
    let tpm = demands.tpm().unwrap().clone();
    guest.tpm.answer(&Challenge { demands: Demands::Tpm(tpm), ..guest.challenge() }).evidence()
}

/// What the guest alone would send.
fn tee_alone(_: Evidence, guest: &VTpmGuest) -> Evidence {
    match &guest.tee {
        Tee::Snp(snp) => snp.evidence(&guest.challenge()),
        Tee::Tdx(tdx) => tdx.evidence(&guest.challenge()),
    }
}

fn asked_of_the_tpm(challenge: &mut Challenge) {
    challenge.demands = Demands::Tpm(challenge.demands.tpm().unwrap().clone());
}

use Place::{Asked, Draft, Enrolled, Held, Sent};

#[rustfmt::skip]
const ON_SNP: &[Defect<Place>] = &[
    defect(S11, Kind::BindingMismatch, "the report names no AK", Draft(|d| d.ak_name = None)),
    defect(S11, Kind::BindingMismatch, "the report names the AK of another vTPM", Draft(|d| d.ak_name = Some(Machine::default().ak_public.name().to_bytes()))),
    defect(S11, Kind::BindingMismatch, "the report names another node key", Draft(|d| d.node_key = Machine::default().node_key_cose())),
    defect(S11, Kind::BindingMismatch, "the report answers another challenge", Draft(|d| d.tee.nonce[0] ^= 1)),
    defect(S11, Kind::BindingMismatch, "the report is about another subject", Draft(|d| d.tee.subject = Sha256Digest::ZERO)),
    defect(T6, Kind::BindingMismatch, "the quote answers another challenge", Draft(|d| d.tpm.nonce[0] ^= 1)),
    defect(T6, Kind::BindingMismatch, "both answer another challenge", Asked(|c| c.nonce[0] ^= 1)),
    defect(T4, Kind::ActivationMismatch, "a platform that another node enrolled on", Held(|e| platform(e, renamed))),
    defect(T4, Kind::ActivationMismatch, "a platform that enrolled with another record key", Held(|e| platform(e, rekeyed))),
    defect(T6, Kind::KindUnexpected, "the vTPM alone", Sent(tpm_alone)),
    defect(S11, Kind::KindUnexpected, "the guest alone", Sent(tee_alone)),
    defect(S11, Kind::KindUnexpected, "a TPM was asked", Asked(asked_of_the_tpm)),
    defect(S5, Kind::PlatformMismatch, "moved to another chip", Held(|e| platform(e, |enrolled| {
        let id = evidence::tee::PlatformId::AmdChip(Box::new([9; 64]));
        EnrolledPlatform::new(enrolled.node_id().clone(), id, enrolled.record_key().clone())
    }))),
    defect(S13, Kind::SnpReportId, "launched anew", Enrolled(|g| {
        let Tee::Snp(guest) = &mut g.tee else { panic!("not of SNP") };
        guest.machine.fields.report_id[0] ^= 1;
    })),
];

#[rustfmt::skip]
const ON_TDX: &[Defect<Place>] = &[
    defect(X11, Kind::BindingMismatch, "the quote names no AK", Draft(|d| d.ak_name = None)),
    defect(X11, Kind::BindingMismatch, "the quote names the AK of another vTPM", Draft(|d| d.ak_name = Some(Machine::default().ak_public.name().to_bytes()))),
    defect(X11, Kind::BindingMismatch, "the quote names another node key", Draft(|d| d.node_key = Machine::default().node_key_cose())),
    defect(X11, Kind::BindingMismatch, "the TEE answers another challenge", Draft(|d| d.tee.nonce[0] ^= 1)),
    defect(X11, Kind::BindingMismatch, "the TEE's quote is about another subject", Draft(|d| d.tee.subject = Sha256Digest::ZERO)),
    defect(T6, Kind::BindingMismatch, "the TPM answers another challenge", Draft(|d| d.tpm.nonce[0] ^= 1)),
    defect(T6, Kind::BindingMismatch, "both answer another challenge", Asked(|c| c.nonce[0] ^= 1)),
    defect(T4, Kind::ActivationMismatch, "a platform that another node enrolled on", Held(|e| platform(e, renamed))),
    defect(T4, Kind::ActivationMismatch, "a platform that enrolled with another record key", Held(|e| platform(e, rekeyed))),
    defect(T6, Kind::KindUnexpected, "the vTPM alone", Sent(tpm_alone)),
    defect(X11, Kind::KindUnexpected, "the trust domain alone", Sent(tee_alone)),
    defect(X11, Kind::KindUnexpected, "a TPM was asked", Asked(asked_of_the_tpm)),
    defect(X12, Kind::PlatformMismatch, "moved to another platform", Enrolled(|g| {
        let Tee::Tdx(guest) = &mut g.tee else { panic!("not of TDX") };
        guest.machine.pck.ppid[0] ^= 1;
    })),
    defect(X1, Kind::TrailingBytes, "a byte after the quote", Enrolled(|g| {
        let Tee::Tdx(guest) = &mut g.tee else { panic!("not of TDX") };
        guest.machine.quote.trailing = vec![0];
    })),
];
