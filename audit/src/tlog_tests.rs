use std::collections::HashMap;

use super::*;

fn leaves(size: u64) -> (CompactRange, HashMap<NodeId, TreeHash>, Vec<TreeHash>) {
    let (mut range, mut nodes, mut roots) = (CompactRange::empty(), HashMap::new(), vec![empty_root()]);
    for i in 0..size {
        nodes.extend(range.append(leaf_hash(&i.to_be_bytes())).unwrap());
        roots.push(range.root());
    }
    (range, nodes, roots)
}

/// MTH as RFC 6962 §2.1 defines it, recursively.
fn defined_root(leaves: &[TreeHash]) -> TreeHash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        many => {
            let k = usize::try_from(split_point(many.len() as u64)).unwrap();
            node_hash(&defined_root(&many[..k]), &defined_root(&many[k..]))
        }
    }
}

#[test]
fn a_proof_tells_which_root_a_larger_tree_has_and_a_wrong_one_tells_nothing() {
    let (_, nodes, roots) = leaves(40);
    let at = |size: u64| roots[usize::try_from(size).unwrap()];
    for new in 4..40 {
        for size in 3..new {
            let proof = ProofPlan::consistency(proof_base(size), new).unwrap().build(&nodes).unwrap();
            assert_eq!(committed_root(size, new, &at(new), &proof), Some(at(size)), "{size} of {new}");
            assert_eq!(committed_root(size, new, &leaf_hash(b"x"), &proof), None);
            assert_eq!(committed_root(size, new, &at(new), &[]), None);
            for bent in 0..proof.len() {
                let mut proof = proof.clone();
                proof[bent] = leaf_hash(b"x");
                assert_eq!(committed_root(size, new, &at(new), &proof), None, "{size} of {new}, hash {bent}");
            }
        }
    }
}

#[test]
fn known_roots() {
    // Test vectors of RFC 6962 implementations: the empty tree and the single empty leaf.
    assert_eq!(empty_root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(leaf_hash(b"").to_string(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
}

#[test]
fn compact_range_follows_the_definition() {
    let (range, nodes, roots) = leaves(70);
    let leaves: Vec<_> = (0..70_u64).map(|i| leaf_hash(&i.to_be_bytes())).collect();
    for size in 0..=70_usize {
        assert_eq!(roots[size], defined_root(&leaves[..size]), "size {size}");
        let read = CompactRange::read(size as u64, &nodes).unwrap();
        assert_eq!(read.root(), roots[size]);
    }
    assert_eq!(CompactRange::read(70, &nodes).unwrap(), range);
}

#[test]
fn every_inclusion_proof_verifies_and_any_change_does_not() {
    let (_, nodes, roots) = leaves(40);
    for size in 1..=40_u64 {
        let root = roots[size as usize];
        for index in 0..size {
            let leaf = leaf_hash(&index.to_be_bytes());
            let proof = ProofPlan::inclusion(index, size).unwrap().build(&nodes).unwrap();
            verify_inclusion(&leaf, index, size, &proof, &root).unwrap();
            assert!(verify_inclusion(&leaf_hash(b"x"), index, size, &proof, &root).is_err());
            assert!(verify_inclusion(&leaf, index, size, &proof, &leaf_hash(b"x")).is_err());
            if size > 1 {
                assert!(verify_inclusion(&leaf, (index + 1) % size, size, &proof, &root).is_err());
                assert!(verify_inclusion(&leaf, index, size, &proof[1..], &root).is_err());
            }
            let mut longer = proof.clone();
            longer.push(root);
            assert!(verify_inclusion(&leaf, index, size, &longer, &root).is_err());
            for at in 0..proof.len() {
                let mut bent = proof.clone();
                bent[at].0[0] ^= 1;
                assert!(verify_inclusion(&leaf, index, size, &bent, &root).is_err());
            }
        }
    }
}

#[test]
fn every_consistency_proof_verifies_and_any_change_does_not() {
    let (_, nodes, roots) = leaves(40);
    for new in 1..=40_u64 {
        for old in 1..=new {
            let (a, b) = (roots[old as usize], roots[new as usize]);
            let proof = ProofPlan::consistency(old, new).unwrap().build(&nodes).unwrap();
            verify_consistency(old, &a, new, &b, &proof).unwrap();
            assert!(verify_consistency(old, &leaf_hash(b"x"), new, &b, &proof).is_err());
            assert!(verify_consistency(old, &a, new, &leaf_hash(b"x"), &proof).is_err());
            let mut longer = proof.clone();
            longer.push(a);
            assert!(verify_consistency(old, &a, new, &b, &longer).is_err());
            for at in 0..proof.len() {
                let mut bent = proof.clone();
                bent[at].0[31] ^= 1;
                assert!(verify_consistency(old, &a, new, &b, &bent).is_err());
            }
            if !proof.is_empty() {
                assert!(verify_consistency(old, &a, new, &b, &proof[1..]).is_err());
            }
        }
    }
}

#[test]
fn impossible_requests_are_refused() {
    assert!(matches!(ProofPlan::inclusion(3, 3), Err(AuditDenial::IndexBeyondTree { index: 3, size: 3 })));
    assert!(matches!(ProofPlan::consistency(0, 3), Err(AuditDenial::SizesNotOrdered { old: 0, new: 3 })));
    assert!(matches!(ProofPlan::consistency(4, 3), Err(AuditDenial::SizesNotOrdered { old: 4, new: 3 })));
    assert!(matches!(ProofPlan::inclusion(0, u64::MAX), Err(AuditDenial::TreeTooLarge { .. })));
    let none: HashMap<NodeId, TreeHash> = HashMap::new();
    assert!(matches!(CompactRange::read(1, &none), Err(AuditDenial::NodeMissing { .. })));
}
