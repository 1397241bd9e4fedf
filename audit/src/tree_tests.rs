use evidence::cose::KeySet;

use super::*;
use crate::fixture::{World, digest, domain, id, issuer_keys, key};
use crate::record::VerifiedRecord;

fn steps(entries: &[Vec<u8>], domain: &DomainName, keys: &KeySet) -> Vec<Step> {
    let step = |(index, entry): (u64, &Vec<u8>)| {
        let record = VerifiedRecord::verify(entry, domain, keys).unwrap();
        Step { index, digest: record.digest(), record: record.record().clone() }
    };
    (0..).zip(entries).map(step).collect()
}

fn tree(world: &World) -> Tree {
    Tree::of(steps(&world.entries, &domain(), &issuer_keys()))
}

/// `depth kind` of each row, with how many records are in it.
fn drawn(tree: &Tree, taken: &BTreeSet<usize>) -> Vec<String> {
    let line = |row: &Row| {
        let kind = tree.leaves()[row.leaves[0]].step.record.kind();
        let again = if row.again { " again" } else { "" };
        format!("{} {kind} {}{again}", row.depth, row.leaves.len())
    };
    tree.rows(taken).iter().map(line).collect()
}

fn all(tree: &Tree) -> BTreeSet<usize> {
    (0..tree.leaves().len()).collect()
}

#[test]
fn executions_hang_from_the_enrolment_and_their_steps_from_them() {
    let mut world = World::told();
    let intent = world.intent(3);
    world.granted(intent, 3, 1, false);
    for seq in 2..6 {
        world.granted(intent, 3, seq, true);
    }
    let tree = tree(&world);
    let rows = [
        "0 enrolment 1",
        "1 intent 1",
        "2 authorization 1",
        "2 release 1",
        "2 renewal 1",
        "2 denial 1",
        "2 halt 1",
        "1 readmission 1",
        "1 intent 1",
        "2 authorization 1",
        "2 end 1",
        "1 intent 1",
        "2 authorization 1",
        "2 renewal 4",
    ];
    assert_eq!(drawn(&tree, &all(&tree)), rows);
}

#[test]
fn a_child_hangs_from_the_grant_that_it_names_and_is_found_from_both_ends() {
    let mut world = World::empty();
    world.enrol();
    let parent = world.intent(1);
    let granted = world.granted(parent, 1, 1, false);
    let granted = Sha256Digest::of(&world.entries[granted as usize]);
    let other = world.intent(2);
    world.granted(other, 2, 1, false);
    let child = digest("child");
    let mut record = world.record(child, RecordBody::Intent { intent: child });
    record.parents.push(granted);
    let entry = record.sign(&key(crate::fixture::ISSUER)).unwrap();
    world.log(entry);
    world.granted(child, 3, 1, false);
    // What halts the node ends all three.
    world.halt();
    let tree = tree(&world);
    let of_parent = tree.lineage(&tree.about(&hex::encode(id(1).as_slice())));
    let rows = [
        "0 enrolment 1",
        "1 intent 1",
        "2 authorization 1",
        "3 intent 1",
        "4 authorization 1",
        "4 halt 1",
        "2 halt 1 again",
    ];
    assert_eq!(drawn(&tree, &of_parent), rows);
    // From the child up: what ended its parent is no part of how it came to be, but that it is its own end.
    assert_eq!(drawn(&tree, &tree.lineage(&tree.about(&child.to_string()))), rows);
    let whole = drawn(&tree, &all(&tree));
    assert_eq!(whole.iter().filter(|row| row.contains("halt")).count(), 3, "{whole:?}");
    assert_eq!(whole.iter().filter(|row| row.contains("again")).count(), 2, "{whole:?}");
    assert!(drawn(&tree, &tree.lineage(&tree.about(&other.to_string()))).iter().all(|row| !row.starts_with('3')));
    assert!(tree.about("ffffffffffffffffffffffffffffffff").is_empty());
}

#[test]
fn what_follows_from_another_domains_record_says_so_and_what_is_absent_is_named() {
    let mut world = World::empty();
    world.enrol();
    let intent = world.intent(1);
    world.granted(intent, 1, 1, false);
    let theirs = Sha256Digest::of(world.entries.last().unwrap());
    let b = DomainName::new("b.example").unwrap();
    let mut other = World::empty();
    other.enrol();
    let enrolled = steps(&other.entries, &domain(), &issuer_keys());
    let mut child = other.record(intent, RecordBody::Intent { intent });
    let mut enrolled = enrolled.into_iter().next().unwrap();
    enrolled.record.domain = b.clone();
    enrolled.digest = digest("their enrolment");
    child.domain = b;
    child.elsewhere = [(domain(), vec![theirs])].into();
    let child = Step { index: 1, digest: digest("child"), record: child };
    let mut both = steps(&world.entries, &domain(), &issuer_keys());
    both.extend([enrolled.clone(), child.clone()]);
    let tree = Tree::of(both);
    let of_child = tree.lineage(&[4].into());
    assert_eq!(drawn(&tree, &of_child), ["0 enrolment 1", "1 intent 1", "2 authorization 1", "3 intent 1"]);
    let alone = Tree::of(vec![enrolled, child]);
    assert_eq!(alone.leaves()[1].absent, [(domain(), theirs)]);
    assert_eq!(drawn(&alone, &all(&alone)), ["0 enrolment 1", "1 intent 1"]);
}
