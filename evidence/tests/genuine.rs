//! Genuine evidence is accepted, whatever kind of AK signs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use evidence::{
    ledger::{CheckId, CheckLedger},
    verify,
};
use tests::{genuine::Machine, soft_tpm::AkKind};

#[test]
fn genuine_evidence_of_every_ak_kind_passes_every_check_of_this_crate() {
    for kind in AkKind::ALL {
        let machine = Machine::new(kind);
        let challenge = machine.challenge();
        let evidence = machine.answer(&challenge).evidence();
        let endorsements = machine.endorsements();
        let authentic = verify(&evidence, &endorsements, &machine.anchors(), machine.now).unwrap();
        let bound = authentic.bind(&challenge, machine.now).unwrap();
        let later = CheckLedger::of(&[CheckId::T9, CheckId::E9, CheckId::M1]);
        assert_eq!(bound.required().missing(bound.ledger()), CheckLedger::EMPTY, "{kind:?}: more than required");
        assert_eq!(bound.ledger().missing(bound.required()), later, "{kind:?}");
    }
}
