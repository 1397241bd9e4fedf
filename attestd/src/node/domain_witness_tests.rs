//! What others say of a domain's log: whose cosignatures a node counts, and what other domains were shown.

use super::*;

/// A witness policy as this domain's authority, or another, orders it.
fn ordered(authority: u8, sequence: u64, quorum: u8, keys: &[u8]) -> Vec<Vec<u8>> {
    use governance::statement::{Order, STATEMENT_VERSION, Statement};
    use governance::witness_policy::{PinnedWitness, WitnessPolicy};
    let witness = |seed: &u8| PinnedWitness {
        name: Text::new(witness_name_of(*seed)).unwrap(),
        key: SigningKey::from_seed(&[*seed; 32]).unwrap().public().clone(),
    };
    let statement = Statement {
        version: STATEMENT_VERSION,
        domain: DomainName::new("a.example").unwrap(),
        sequence,
        order: Order::CountWitnesses(Box::new(WitnessPolicy { quorum, witnesses: keys.iter().map(witness).collect() })),
        reason: Text::new("pinned").unwrap(),
        issued_at: NOW.minus(5),
        expires_at: NOW.plus(5),
    };
    vec![statement.sign(&SigningKey::from_seed(&[authority; 32]).unwrap()).unwrap()]
}

fn witness_name_of(seed: u8) -> String {
    if seed == 40 { "a.example/witness".to_owned() } else { format!("w{seed}.example/witness") }
}

/// The genuine authorization, its checkpoint cosigned by these.
fn cosigned(bench: &Bench, by: &[u8]) -> Authorization {
    let mut answer = bench.sign(&bench.said(1));
    let mut receipt = Receipt::decode(&answer.receipt).unwrap();
    for seed in by {
        let key = SigningKey::from_seed(&[*seed; 32]).unwrap();
        receipt.checkpoint =
            audit::checkpoint::cosign(receipt.checkpoint.as_bytes(), &witness_name_of(*seed), &key, NOW).unwrap();
    }
    answer.receipt = receipt.encode().unwrap();
    answer
}

#[test]
fn cosignatures_are_counted_here_whatever_the_verifier_did() {
    let lab = Bench::new();
    let domain = Domain { lab: false, ..lab.domain.clone() };
    let authority_of_svids = Arc::clone(&lab.authority_of_svids);
    let production = Bench { domain, authority_of_svids, ..Bench::new() };
    assert_eq!(lab.accept(cosigned(&lab, &[]), &mut seen(), None), Ok(0));
    let none = production.accept(cosigned(&lab, &[41, 42]), &mut seen(), None);
    assert_eq!(none.unwrap_err(), "governance.witness_policy_absent");
    for bench in [&lab, &production] {
        let mut pinned = seen();
        bench.domain.witnessed_by(&ordered(1, 3, 2, &[41, 42, 43]), &mut pinned, NOW).unwrap();
        let judged = |by: &[u8]| bench.accept(cosigned(bench, by), &mut pinned.clone(), None).err().unwrap_or_default();
        assert_eq!(judged(&[41, 43]), "");
        assert_eq!(judged(&[41, 42, 43]), "");
        assert_eq!(judged(&[41]), "audit.quorum_not_met");
        // A stranger and the domain itself are no witnesses of it.
        assert_eq!(judged(&[41, 44]), "audit.quorum_not_met");
        assert_eq!(judged(&[41, 40]), "audit.quorum_not_met");
        assert_eq!(judged(&[41, 41]), "audit.note_signature");
    }
}

#[test]
fn a_witness_policy_is_the_authoritys_and_never_goes_back() {
    let bench = Bench::new();
    let mut pinned = seen();
    let mut take = |order: &[Vec<u8>]| {
        let taken = bench.domain.witnessed_by(order, &mut pinned, NOW).map_err(|denial| denial.code().to_owned());
        taken.err().unwrap_or_default()
    };
    assert_eq!(take(&ordered(1, 3, 2, &[41, 42])), "");
    assert_eq!(take(&ordered(1, 3, 2, &[41, 42])), "", "said again");
    assert_eq!(take(&ordered(1, 2, 1, &[41])), "governance.statement_replayed");
    assert_eq!(take(&ordered(1, 3, 1, &[41])), "governance.statement_replayed");
    assert_eq!(take(&ordered(9, 4, 1, &[41])), "governance.threshold_not_met");
    assert_eq!(take(&ordered(1, 4, 1, &[41])), "");
    assert_eq!(pinned.witnesses.as_ref().map(|held| (held.sequence, held.policy.quorum)), Some((4, 1)));
    // One that counts the domain's own key would have been refused by the domain; here it lets nothing through.
    let mut own = seen();
    bench.domain.witnessed_by(&ordered(1, 3, 1, &[40]), &mut own, NOW).unwrap();
    let judged = bench.accept(cosigned(&bench, &[40]), &mut own, None);
    assert_eq!(judged.unwrap_err(), "governance.field_invalid");
}

#[test]
fn what_another_domain_was_shown_contradicts_only_by_the_logs_own_signature() {
    let bench = Bench::new();
    let newest = bench.checkpoint(7, leaf_hash(b"this"));
    let judge = |note: &str| bench.domain.shown_elsewhere(note.as_bytes(), Some(&newest), NOW);
    assert_eq!(judge(&bench.checkpoint(9, leaf_hash(b"later"))).unwrap().map(|head| head.size), Some(9));
    let forged = Bench { log_key: SigningKey::from_seed(&[9; 32]).unwrap(), ..Bench::new() };
    assert_eq!(judge(&forged.checkpoint(7, leaf_hash(b"that"))).unwrap(), None);
    let denial = judge(&bench.checkpoint(7, leaf_hash(b"that"))).unwrap_err();
    assert!(matches!(denial, AcceptDenial::LogForked { size: 7 }));
}
