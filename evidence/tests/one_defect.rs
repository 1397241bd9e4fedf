//! Genuine evidence with one defect is refused for exactly that defect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};

use evidence::{denial::EvidenceDenialKind, ledger::CheckId};
use simulators::amd::Product;
use tests::{
    defects::{
        all, run,
        snp::{self, SnpDefect, TURIN_DEFECTS, VCEK_DEFECTS, VLEK_DEFECTS},
    },
    genuine::Machine,
};

/// Defects of SNP evidence, with the product and kind of key that they are of.
fn all_snp() -> impl Iterator<Item = (Product, bool, &'static SnpDefect)> {
    let of = |product, vlek| move |defect| (product, vlek, defect);
    let vceks = VCEK_DEFECTS.iter().map(of(Product::Milan, false));
    let vleks = VLEK_DEFECTS.iter().map(of(Product::Milan, true));
    vceks.chain(vleks).chain(TURIN_DEFECTS.iter().map(of(Product::Turin, false)))
}

#[test]
fn genuine_snp_evidence_of_every_product_is_authentic() {
    for product in Product::ALL {
        for vlek in [false, true] {
            snp::run(product, vlek, None).unwrap_or_else(|denial| panic!("{product:?} {vlek}: {denial}"));
        }
    }
}

#[test]
fn every_snp_defect_meets_exactly_its_denial() {
    let mut wrong = Vec::new();
    for (product, vlek, defect) in all_snp() {
        let (check, name) = (defect.check, defect.name);
        match snp::run(product, vlek, Some(defect.place)) {
            Ok(()) => wrong.push(format!("{product:?} {check:?} {name}: ACCEPTED")),
            Err(denial) if EvidenceDenialKind::from(&denial) == defect.denial => {}
            Err(denial) => wrong.push(format!("{product:?} {check:?} {name}: {denial}, want {:?}", defect.denial)),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all_snp().count(), wrong.join("\n"));
    let names: BTreeSet<_> = all_snp().map(|(product, vlek, d)| (product.name(), vlek, d.check, d.name)).collect();
    assert_eq!(names.len(), all_snp().count());
}

#[test]
fn every_defect_meets_exactly_its_denial() {
    run(&mut Machine::default(), None).expect("without a defect it is accepted");
    let mut wrong = Vec::new();
    for defect in all() {
        match run(&mut Machine::default(), Some(defect.place)) {
            Ok(_) => wrong.push(format!("{:?} {}: ACCEPTED", defect.check, defect.name)),
            Err(denial) if EvidenceDenialKind::from(&denial) == defect.denial => {}
            Err(denial) => {
                wrong.push(format!("{:?} {}: {denial}, want {:?}", defect.check, defect.name, defect.denial))
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all().count(), wrong.join("\n"));
}

#[test]
fn every_check_has_at_least_three_defects_and_every_denial_at_least_one() {
    // decided by later stages
    let later = [CheckId::T9, CheckId::E9, CheckId::M1];
    let mut cases = BTreeMap::new();
    for defect in all() {
        *cases.entry(defect.check).or_insert(0usize) += 1;
    }
    for (_, _, defect) in all_snp() {
        *cases.entry(defect.check).or_insert(0usize) += 1;
    }
    // kinds of evidence that have no defects here yet: empty when every kind has its cases
    let reached =
        [CheckId::S1, CheckId::S2, CheckId::S3, CheckId::S4, CheckId::S5, CheckId::S6, CheckId::S8, CheckId::S9];
    let is_unreached = |check: &CheckId| check.name().starts_with(['S', 'X']) && !reached.contains(check);
    let unreached: Vec<_> = CheckId::all().filter(is_unreached).collect();
    // the rules of event logs have their negative vectors beside their code
    let few: Vec<_> = CheckId::all()
        .filter(|check| !later.contains(check) && !unreached.contains(check))
        .filter(|check| cases.get(check).copied().unwrap_or(0) < if check.name().starts_with('E') { 1 } else { 3 })
        .collect();
    assert!(few.is_empty(), "too few cases: {few:?}");
    let met: BTreeSet<_> =
        all().map(|defect| defect.denial).chain(all_snp().map(|(_, _, defect)| defect.denial)).collect();
    let elsewhere = [
        // in `enrolment.rs`: the answer to an activation
        EvidenceDenialKind::ActivationSecret,
        // of saved evidence alone: lists that no quote covers, registers without a quote, certificates of AKs
        EvidenceDenialKind::ImaOrder,
        EvidenceDenialKind::ImaSignature,
        EvidenceDenialKind::RegisterUnproven,
        EvidenceDenialKind::AkKeyMismatch,
        // in `tdx_defects.rs`: quotes and collateral of TDX
        EvidenceDenialKind::QuoteField,
        EvidenceDenialKind::AttestationKeyUnbound,
        EvidenceDenialKind::QeIdentityMismatch,
        EvidenceDenialKind::CollateralSignature,
        EvidenceDenialKind::CollateralValidity,
        EvidenceDenialKind::CollateralField,
        EvidenceDenialKind::CollateralMismatch,
        EvidenceDenialKind::TdxModuleUnknown,
        EvidenceDenialKind::TdxModuleMismatch,
        EvidenceDenialKind::TcbLevelMissing,
        EvidenceDenialKind::TcbStatusUnknown,
        EvidenceDenialKind::TcbRevoked,
        EvidenceDenialKind::DebugEnabled,
        EvidenceDenialKind::TdAttributes,
        // in `event_log`: the registers of trust domains
        EvidenceDenialKind::RtmrReplayMismatch,
        // of saved evidence alone, or where a TEE's evidence meets its enrolment
        EvidenceDenialKind::TdReportMismatch,
        EvidenceDenialKind::SnpReportId,
        EvidenceDenialKind::RuntimeClaimsMismatch,
        EvidenceDenialKind::MeasurementUnexpected,
        EvidenceDenialKind::PlatformMismatch,
    ];
    let unmet: Vec<_> =
        EvidenceDenialKind::all().filter(|kind| !met.contains(kind) && !elsewhere.contains(kind)).collect();
    assert!(unmet.is_empty(), "no case for {unmet:?}");
}

#[test]
fn every_defect_has_a_name_of_its_own() {
    let names: BTreeSet<_> = all().map(|defect| (defect.check, defect.name)).collect();
    assert_eq!(names.len(), all().count());
}
