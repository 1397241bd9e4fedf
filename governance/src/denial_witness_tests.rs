//! One defect each: what a witness policy is refused for.

use evidence::time::UnixSeconds;

use super::Case;
use crate::{
    denial::GovernanceDenial,
    fixture::*,
    statement::{Order, Statement},
    witness_policy::{HeldWitnessPolicy, PinnedWitness, WitnessPolicy},
};

fn witnesses(change: impl FnOnce(&mut WitnessPolicy)) -> Result<Vec<Vec<u8>>, GovernanceDenial> {
    let mut policy = witness_policy();
    change(&mut policy);
    let order = Order::CountWitnesses(Box::new(policy));
    [11, 12].iter().map(|seed| Statement { order: order.clone(), ..statement() }.sign(&key(*seed))).collect()
}

fn counted(
    signatures: &[Vec<u8>],
    held: Option<&HeldWitnessPolicy>,
    now: UnixSeconds,
) -> Result<HeldWitnessPolicy, GovernanceDenial> {
    HeldWitnessPolicy::accept(signatures, &domain(), &authority(), held, now)
}

fn held_policy(sequence: u64) -> HeldWitnessPolicy {
    HeldWitnessPolicy { sequence, statement: digest("another"), policy: witness_policy() }
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        ("governance.field_invalid", || witnesses(|policy| policy.quorum = 0).unwrap_err()),
        ("governance.field_invalid", || witnesses(|policy| policy.quorum = 3).unwrap_err()),
        ("governance.field_invalid", || {
            witnesses(|policy| policy.witnesses[1].name = text("b.example/witness")).unwrap_err()
        }),
        ("governance.field_invalid", || {
            witnesses(|policy| policy.witnesses[1].key = policy.witnesses[0].key.clone()).unwrap_err()
        }),
        ("governance.field_invalid", || witnesses(|policy| policy.witnesses[1].name = text("c example")).unwrap_err()),
        ("governance.field_invalid", || {
            let policy = witness_policy();
            let many = (0..17)
                .map(|seed| PinnedWitness { key: key(100 + seed).public().clone(), ..policy.witnesses[0].clone() });
            witnesses(|policy| policy.witnesses = many.collect()).unwrap_err()
        }),
        ("governance.field_invalid", || {
            let mut policy = witness_policy();
            policy.witnesses[0].key = key(3).public().clone();
            policy.is_of_others(&bundle(8)).unwrap_err()
        }),
        ("governance.field_invalid", || {
            let readmission = [11, 12].map(|seed| statement().sign(&key(seed)).unwrap());
            counted(&readmission, None, NOW).unwrap_err()
        }),
        ("governance.threshold_not_met", || counted(&witnesses(|_| ()).unwrap()[..1], None, NOW).unwrap_err()),
        ("governance.not_yet_valid", || counted(&witnesses(|_| ()).unwrap(), None, NOW.minus(60)).unwrap_err()),
        ("governance.statement_replayed", || {
            counted(&witnesses(|_| ()).unwrap(), Some(&held_policy(10)), NOW).unwrap_err()
        }),
        ("governance.statement_replayed", || {
            // The authority used one sequence twice.
            counted(&witnesses(|_| ()).unwrap(), Some(&held_policy(9)), NOW).unwrap_err()
        }),
    ]
}

#[test]
fn a_witness_policy_stands_until_the_next_one() {
    let signed = witnesses(|_| ()).unwrap();
    let long_after = NOW.plus(365 * 24 * 3600);
    let first = counted(&signed, Some(&held_policy(8)), long_after).unwrap();
    assert_eq!((first.sequence, &first.policy), (9, &witness_policy()));
    assert_eq!(counted(&signed, Some(&first), long_after).unwrap(), first);
    witness_policy().is_of_others(&bundle(8)).unwrap();
}
