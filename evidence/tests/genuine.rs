//! Genuine evidence passes every check of this crate; what is left is said by reference values alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use evidence::{
    Endorsements, Evidence, TrustAnchors,
    challenge::Challenge,
    ledger::{
        CheckId::{self, E9, M1, S2, S4, S7, S8, S9, S10, S12, T9, X6, X8, X9, X10, X12, X13},
        CheckLedger,
    },
    time::UnixSeconds,
    verify,
};
use tests::{
    genuine::Machine,
    genuine_snp::{Product, SnpGuest},
    genuine_tdx::TdxGuest,
    genuine_vtpm::VTpmGuest,
    soft_tpm::AkKind,
};

const TPM_LATER: [CheckId; 3] = [T9, E9, M1];
const SNP_LATER: [CheckId; 7] = [S2, S4, S7, S8, S9, S10, S12];
const TDX_LATER: [CheckId; 7] = [X6, X8, X9, X10, X12, X13, E9];

fn judge(
    evidence: &Evidence,
    endorsements: &Endorsements,
    anchors: &TrustAnchors,
    challenge: &Challenge,
    now: UnixSeconds,
    later: &[&[CheckId]],
) {
    let bound = verify(evidence, endorsements, anchors, now).unwrap().bind(challenge, now).unwrap();
    assert_eq!(bound.required().missing(bound.ledger()), CheckLedger::EMPTY, "{}: more than required", evidence.kind());
    assert_eq!(bound.ledger().missing(bound.required()), CheckLedger::of(&later.concat()), "{}", evidence.kind());
}

#[test]
fn genuine_evidence_of_every_kind_passes_every_check_of_this_crate() {
    for kind in AkKind::ALL {
        let machine = Machine::new(kind);
        let challenge = machine.challenge();
        let evidence = machine.answer(&challenge).evidence();
        judge(&evidence, &machine.endorsements(), &machine.anchors(), &challenge, machine.now, &[&TPM_LATER]);
    }
    for product in Product::ALL {
        for vlek in [false, true] {
            let mut guest = SnpGuest::new(product);
            if vlek {
                guest.use_vlek("CN=cc.example");
            }
            let challenge = guest.challenge();
            let evidence = guest.evidence(&challenge);
            judge(&evidence, &guest.endorsements(), &guest.anchors(), &challenge, guest.now, &[&SNP_LATER]);
        }
    }
    for version in [4, 5] {
        let guest = TdxGuest::new(version);
        let challenge = guest.challenge();
        let evidence = guest.evidence(&challenge);
        judge(&evidence, &guest.endorsements(), &guest.anchors(), &challenge, guest.now, &[&TDX_LATER]);
    }
    for (guest, of_tee) in [(VTpmGuest::on_snp(), SNP_LATER), (VTpmGuest::on_tdx(), TDX_LATER)] {
        let (challenge, now) = (guest.challenge(), guest.tpm.now);
        let evidence = guest.evidence(&challenge);
        judge(&evidence, &guest.endorsements(), &guest.anchors(), &challenge, now, &[&TPM_LATER, &of_tee]);
    }
}
