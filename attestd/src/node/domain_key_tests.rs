//! Which keys of a domain count at a node, and when.

use super::*;

#[test]
fn a_newer_bundle_is_followed_only_if_the_pinned_authority_signed_it_and_it_moves_on() {
    let bench = Bench::new();
    let stranger = SigningKey::from_seed(&[9; 32]).unwrap();
    let authority = &bench.authority;
    assert_eq!(bench.follows(authority, NOW, |_| ()), "held");
    assert_eq!(bench.follows(authority, NOW, |next| next.sequence = 2), "taken");
    assert_eq!(bench.follows(&stranger, NOW, |next| next.sequence = 2), "governance.threshold_not_met");
    assert_eq!(bench.follows(authority, NOW, |next| next.sequence = 0), "governance.bundle_rolled_back");
    assert_eq!(bench.follows(authority, NOW, |next| next.refresh_hint_s = 61), "governance.bundle_forked");
    let elsewhere = |next: &mut TrustBundle| next.domain = DomainName::new("b.example").unwrap();
    assert_eq!(bench.follows(authority, NOW, elsewhere), "governance.threshold_not_met");
    let moved = |next: &mut TrustBundle| {
        next.sequence = 2;
        next.authority = Authority::new(vec![stranger.public().clone()], 1).unwrap();
    };
    assert_eq!(bench.follows(authority, NOW, moved), "governance.field_invalid");
    let late = NOW.plus(1_000);
    assert_eq!(bench.follows(authority, late, |next| next.sequence = 2), "governance.bundle_expired");
    let early = NOW.minus(11);
    assert_eq!(bench.follows(authority, early, |next| next.sequence = 2), "governance.not_yet_valid");
}

#[test]
fn what_a_key_signs_counts_from_its_announcement_to_its_removal() {
    let bench = Bench::new();
    let next_issuer = SigningKey::from_seed(&[8; 32]).unwrap();
    let authority_of_svids = Arc::clone(&bench.authority_of_svids);
    let issuer = SigningKey::from_seed(&[8; 32]).unwrap();
    let rotated = Bench { issuer, authority_of_svids, ..Bench::new() };
    let signed = || rotated.sign(&rotated.said(1));
    let follow = |change: &dyn Fn(&mut TrustBundle)| {
        let bundle = bench.domain.newer(&bench.bundle(&bench.authority, change), NOW).unwrap().unwrap();
        bench.domain.hold(bundle);
    };
    let announced = |from| KeyRecord { key: next_issuer.public().clone(), from, until: NOW.plus(1_000) };
    // Never announced; announced for later; announced, in its time; the old one removed.
    assert_eq!(bench.accept(signed(), &mut seen(), None).unwrap_err(), "governance.signature_invalid");
    follow(&|next| {
        next.sequence = 2;
        next.issuer.push(announced(NOW.plus(1)));
    });
    assert_eq!(bench.accept(signed(), &mut seen(), None).unwrap_err(), "governance.signature_invalid");
    follow(&|next| {
        next.sequence = 3;
        next.issuer[1] = announced(NOW);
    });
    assert_eq!(bench.accept(signed(), &mut seen(), None), Ok(0));
    assert_eq!(bench.accept(bench.sign(&bench.said(1)), &mut seen(), None), Ok(0));
    follow(&|next| {
        next.sequence = 4;
        next.issuer.remove(0);
    });
    assert_eq!(bench.accept(signed(), &mut seen(), None), Ok(0));
    let retired = bench.accept(bench.sign(&bench.said(1)), &mut seen(), None);
    assert_eq!(retired.unwrap_err(), "governance.signature_invalid");
}

#[test]
fn a_checkpoint_by_a_retired_log_key_is_still_compared_with() {
    let bench = Bench::new();
    let mut seen = seen();
    bench.accept(bench.sign(&bench.said(1)), &mut seen, None).unwrap();
    let authority_of_svids = Arc::clone(&bench.authority_of_svids);
    let log_key = SigningKey::from_seed(&[8; 32]).unwrap();
    let rotated = Bench { log_key, authority_of_svids, ..Bench::new() };
    let signed = bench.bundle(&bench.authority, |next| {
        next.sequence = 2;
        next.log[0].key = rotated.log_key.public().clone();
    });
    bench.domain.hold(bench.domain.newer(&signed, NOW).unwrap().unwrap());
    let newer = rotated.checkpoint(3, leaf_hash(b"more"));
    let forked = rotated.checkpoint(2, leaf_hash(b"another history"));
    let denial = bench.domain.checkpointed(forked.as_bytes(), &mut seen, NOW).unwrap_err();
    assert!(matches!(denial, AcceptDenial::LogForked { size: 2 }));
    bench.domain.checkpointed(newer.as_bytes(), &mut seen, NOW).unwrap();
    assert_eq!(seen.checkpoint, Some(newer));
}

#[test]
fn nothing_counts_under_a_bundle_that_has_run_out() {
    let bench = Bench::new();
    let short = bench.bundle(&bench.authority, |next| {
        next.sequence = 2;
        next.expires_at = NOW.plus(5);
    });
    bench.domain.hold(bench.domain.newer(&short, NOW).unwrap().unwrap());
    let (answer, late) = (bench.sign(&bench.said(1)), NOW.plus(5));
    let asked = Asked {
        intent: &bench.intent,
        intent_digest: bench.intent.digest().unwrap(),
        node_key: &bench.node_key,
        evidence: EVIDENCE,
        held: None,
    };
    let denied = bench.domain.accept(&answer, asked, &mut seen(), late).map(drop);
    assert_eq!(denied.map_err(|denial| denial.code()), Err("governance.bundle_expired"));
    let checkpoint = bench.checkpoint(1, leaf_hash(b"first"));
    let denied = bench.domain.checkpointed(checkpoint.as_bytes(), &mut seen(), late);
    assert_eq!(denied.map_err(|denial| denial.code()), Err("governance.bundle_expired"));
}
