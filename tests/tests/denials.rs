//! `docs/denials.md` says of every code what the program says of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use audit::denial::AuditDenialKind;
use evidence::{denial::EvidenceDenialKind, ledger::CheckId};
use firmware_refs::exchange::denial::ImportDenialKind;
use governance::denial::GovernanceDenialKind;
use policy::Denial;
use tests::defects;

const PAGE: &str = include_str!("../../docs/denials.md");
/// Denials as they are declared, stage by stage.
const DECLARED: [(&str, &str); 6] = [
    ("EvidenceDenial", include_str!("../../evidence/src/denial.rs")),
    ("ReferenceDenial", include_str!("../../firmware-refs/src/denial.rs")),
    ("GovernanceDenial", include_str!("../../governance/src/denial.rs")),
    ("PolicyDenial", include_str!("../../policy/src/denial.rs")),
    ("AuditDenial", include_str!("../../audit/src/denial.rs")),
    ("ImportDenial", include_str!("../../firmware-refs/src/exchange/denial.rs")),
];
/// What reference denials advise.
const REFERENCE_HINTS: &str = include_str!("../../firmware-refs/src/denial/text.rs");

/// A row of the page: what is wrong, checks, what to do.
type Row = [&'static str; 3];

/// Every row, by code, in its order.
fn rows() -> Vec<(&'static str, Row)> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        let [code, fact, checks, todo] = cells[..] else { panic!("not a row of four: {row}") };
        (code.strip_suffix('`').unwrap(), [fact, checks, todo])
    })
    .collect()
}

fn row(code: &str) -> Row {
    rows().into_iter().find(|(of, _)| *of == code).unwrap_or_else(|| panic!("no row for {code}")).1
}

/// What an enum's variants say of themselves, in their order.
fn facts(name: &str, source: &str) -> Vec<String> {
    let body = source.split_once(&format!("pub enum {name} {{\n")).unwrap().1.split_once("\n}\n").unwrap().0;
    let (mut facts, mut fact) = (Vec::new(), Vec::new());
    for line in body.lines() {
        match (line.strip_prefix("    /// "), line.strip_prefix("    ")) {
            (Some(text), _) => fact.push(text),
            (None, Some(variant)) if variant.starts_with(|c: char| c.is_ascii_uppercase()) => {
                facts.push(std::mem::take(&mut fact).join(" "));
            }
            (None, _) => {}
        }
    }
    facts
}

#[test]
fn every_code_has_one_row_that_says_what_its_denial_says() {
    let of_audits = AuditDenialKind::all().map(AuditDenialKind::code);
    let of_imports = ImportDenialKind::all().map(ImportDenialKind::code);
    let codes: Vec<_> = Denial::all_codes().into_iter().chain(of_audits).chain(of_imports).collect();
    let rows = rows();
    let listed: Vec<_> = rows.iter().map(|(code, _)| *code).collect();
    assert_eq!(listed, codes, "docs/denials.md lists every code once, in the order in which they are declared");
    let facts: Vec<_> = DECLARED.into_iter().flat_map(|(name, source)| facts(name, source)).collect();
    assert_eq!(facts.len(), codes.len());
    for ((code, [fact, checks, todo]), declared) in rows.iter().zip(&facts) {
        assert_eq!(fact, declared, "{code}");
        assert!(!checks.is_empty() && !todo.is_empty(), "{code}");
    }
}

#[test]
fn the_checks_named_are_those_that_meet_the_denial() {
    let mut met: BTreeMap<EvidenceDenialKind, BTreeSet<CheckId>> = BTreeMap::new();
    for case in defects::all() {
        met.entry(case.denial).or_default().insert(case.check);
    }
    for kind in EvidenceDenialKind::all() {
        let names: Vec<_> = met[&kind].iter().map(|check| check.name()).collect();
        let mut listed: Vec<_> = row(kind.code())[1].split(' ').collect();
        let by_bit = |name: &&str| CheckId::all().position(|check| check.name() == *name).unwrap();
        listed.sort_by_key(by_bit);
        let mut names = names;
        names.sort_by_key(by_bit);
        assert_eq!(listed, names, "{}: as in `tests::defects`", kind.code());
    }
    let known: BTreeSet<_> = CheckId::all().map(CheckId::name).chain(["–", "all"]).collect();
    for (code, [_, checks, _]) in rows() {
        assert!(checks.split(' ').all(|check| known.contains(check)), "{code}: {checks}");
    }
}

#[test]
fn what_to_do_is_what_explain_advises() {
    for kind in EvidenceDenialKind::all() {
        assert_eq!(row(kind.code())[2], kind.hint(), "{}", kind.code());
    }
    for kind in GovernanceDenialKind::all() {
        assert_eq!(row(kind.code())[2], kind.hint(), "{}", kind.code());
    }
    for (code, [_, _, todo]) in rows().into_iter().filter(|(code, _)| code.starts_with("reference.")) {
        for advice in todo.split("; or: ") {
            assert!(REFERENCE_HINTS.contains(&format!("\"{advice}\"")), "{code}: {advice}");
        }
    }
}
