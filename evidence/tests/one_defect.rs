//! Genuine evidence with one defect is refused for exactly that defect.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};

use evidence::{denial::EvidenceDenialKind, ledger::CheckId};
use tests::defects;

#[test]
fn genuine_evidence_of_every_kind_is_accepted() {
    for (of, judged) in defects::genuine() {
        judged.unwrap_or_else(|denial| panic!("{of}: {denial}"));
    }
}

#[test]
fn every_defect_meets_exactly_its_denial() {
    let (mut wrong, cases) = (Vec::new(), defects::all());
    for case in &cases {
        let of = format!("{}: {:?} {}", case.of, case.check, case.name);
        match case.judge() {
            Ok(()) => wrong.push(format!("{of}: ACCEPTED")),
            Err(denial) if EvidenceDenialKind::from(&denial) == case.denial => {}
            Err(denial) => wrong.push(format!("{of}: {denial}, want {:?}", case.denial)),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_check_has_at_least_three_defects_and_every_denial_at_least_one() {
    use CheckId::{E9, M1, S7, S10, S12, T9, X10, X12};
    // what only reference values can say: `firmware-refs/tests/defects.rs`
    let later = [T9, E9, M1, S7, S10, S12, X10, X12];
    let mut cases = BTreeMap::new();
    for case in defects::all() {
        *cases.entry(case.check).or_insert(0) += 1;
    }
    // the rules of event logs have more negative vectors beside their code
    let least = |check: CheckId| if check.name().starts_with('E') { 1 } else { 3 };
    let few: Vec<_> = CheckId::all()
        .filter(|check| !later.contains(check))
        .filter(|check| cases.get(check).copied().unwrap_or(0) < least(*check))
        .collect();
    assert!(few.is_empty(), "too few cases: {few:?}");
    let met: BTreeSet<_> = defects::all().iter().map(|case| case.denial).collect();
    let unmet: Vec<_> = EvidenceDenialKind::all().filter(|kind| !met.contains(kind)).collect();
    assert!(unmet.is_empty(), "no case for {unmet:?}");
}

#[test]
fn every_defect_has_a_name_of_its_own() {
    let all = defects::all();
    let names: BTreeSet<_> = all.iter().map(|case| (case.of, case.check, case.name)).collect();
    assert_eq!(names.len(), all.len());
}
