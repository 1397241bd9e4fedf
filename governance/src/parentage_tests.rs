//! What a child may have, and one defect each for what it may not.

use evidence::names::ItemName;

use super::*;
use crate::fixture::*;

fn parent() -> LiveParent {
    LiveParent { terms: terms(), ends_at: NOW.plus(20) }
}

fn item(name: &str) -> ItemName {
    ItemName::new(name).unwrap()
}

#[test]
fn a_narrower_child_names_all_that_it_descends_from_and_ends_with_it() {
    let child = Parentage::of(&Scope::default(), &parent(), &[], NOW).unwrap();
    let named = |ancestors: &[Ancestor]| {
        ancestors.iter().map(|ancestor| (ancestor.artifact.0[0], ancestor.generation)).collect::<Vec<_>>()
    };
    assert_eq!(named(child.ancestors()), [(1, 1)]);
    let mut of_child = terms();
    of_child.id = ArtifactId([9; 16]);
    of_child.attribution.ancestors = child.ancestors().to_vec();
    let mut elsewhere = parent();
    elsewhere.terms.governance.domain = other_domain();
    elsewhere.terms.id = ArtifactId([5; 16]);
    elsewhere.ends_at = NOW.plus(7);
    let first = LiveParent { terms: of_child, ends_at: NOW.plus(20) };
    let grandchild = Parentage::of(&scope(), &first, &[elsewhere], NOW).unwrap();
    assert_eq!(named(grandchild.ancestors()), [(9, 1), (5, 1), (1, 2)]);
    // The earlier end of the two counts, and the renewal keeps its share of the lease.
    assert_eq!(grandchild.cut(30_000, 10_000, NOW).unwrap(), (7_000, 2_333));
    assert_eq!(grandchild.cut(5_000, 1_000, NOW).unwrap(), (5_000, 1_000));
}

type Case = (&'static str, fn() -> GovernanceDenial);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        ("governance.scope_exceeded", || {
            let wider = Scope { capabilities: [item("net")].into(), ..scope() };
            Parentage::of(&wider, &parent(), &[], NOW).unwrap_err()
        }),
        ("governance.parent_not_live", || {
            Parentage::of(&scope(), &LiveParent { ends_at: NOW, ..parent() }, &[], NOW).unwrap_err()
        }),
        ("governance.parent_not_live", || {
            Parentage::of(&scope(), &parent(), &[], NOW).unwrap().cut(30_000, 10_000, NOW.plus(20)).unwrap_err()
        }),
        ("governance.field_invalid", || {
            let mut deep = parent();
            let artifact = ArtifactId([9; 16]);
            deep.terms.attribution.ancestors =
                vec![Ancestor { domain: domain(), artifact, generation: GENERATIONS_CAP }];
            Parentage::of(&scope(), &deep, &[], NOW).unwrap_err()
        }),
        ("governance.parent_unknown", || GovernanceDenial::ParentUnknown {
            domain: domain(),
            parent: digest("artifact"),
        }),
    ]
}
