//! What passes the fence, and one defect each for what does not.

use evidence::digest::Sha256Digest;
use proptest::prelude::*;

use super::{Fence, Relying};
use crate::{
    artifact::{ARTIFACT_LIFETIME_CAP_S, Artifact, ArtifactId, ArtifactTerms},
    denial::GovernanceDenial,
    fixture::*,
    revocation::{RevocationList, Revoked},
};

fn holder(name: &str) -> Sha256Digest {
    digest(name)
}

fn signed(change: impl FnOnce(&mut ArtifactTerms)) -> Vec<u8> {
    let mut terms = terms();
    change(&mut terms);
    Artifact::issue(terms, receipt(), &key(ISSUER)).unwrap()
}

/// Presents an artifact of the fixture's domain to a relying party that knows of epoch 4 and of these revocations.
fn presented(fence: &mut Fence, bytes: &[u8], by: &str, revoked: &[Revoked], after_s: u64) -> Result<u64, String> {
    let revocations = RevocationList::new(revoked.iter().map(|revoked| (revoked.clone(), text("leaked"))));
    let (domain, keys, audience) = (domain(), keys(ISSUER), domain().node_spiffe_id(&node()));
    let relying =
        Relying { domain: &domain, issuer_keys: &keys, audience: &audience, revocations: &revocations, epoch_min: 4 };
    let admitted = fence.admit(bytes, holder(by), &relying, NOW.plus(after_s));
    admitted.map(|artifact| artifact.terms().lease.seq).map_err(|denial| denial.code().to_owned())
}

fn with_seq(seq: u64) -> Vec<u8> {
    signed(|terms| terms.lease.seq = seq)
}

/// The denial of the second of two holders of one seq.
pub(crate) fn held_twice() -> GovernanceDenial {
    let (domain, keys, audience) = (domain(), keys(ISSUER), domain().node_spiffe_id(&node()));
    let revocations = RevocationList::default();
    let relying =
        Relying { domain: &domain, issuer_keys: &keys, audience: &audience, revocations: &revocations, epoch_min: 4 };
    let mut fence = Fence::default();
    fence.admit(&with_seq(2), holder("one"), &relying, NOW).unwrap();
    fence.admit(&with_seq(2), holder("other"), &relying, NOW).unwrap_err()
}

#[test]
fn a_holder_passes_with_its_newest_artifact_again_and_again() {
    let mut fence = Fence::default();
    for (seq, after_s) in [(2, 0), (2, 5), (3, 10), (3, 20), (7, 30)] {
        assert_eq!(presented(&mut fence, &with_seq(seq), "one", &[], after_s), Ok(seq));
    }
}

#[test]
fn a_clone_is_refused_and_the_first_holder_passes_on() {
    let mut fence = Fence::default();
    assert_eq!(presented(&mut fence, &with_seq(2), "one", &[], 0), Ok(2));
    assert_eq!(presented(&mut fence, &with_seq(2), "other", &[], 1).unwrap_err(), "governance.lease_held_twice");
    assert_eq!(presented(&mut fence, &with_seq(2), "one", &[], 2), Ok(2));
    // Whoever renews has it from then on; the other's is stale.
    assert_eq!(presented(&mut fence, &with_seq(3), "other", &[], 3), Ok(3));
    assert_eq!(presented(&mut fence, &with_seq(2), "one", &[], 4).unwrap_err(), "governance.lease_seq_stale");
    assert_eq!(presented(&mut fence, &with_seq(3), "one", &[], 5).unwrap_err(), "governance.lease_held_twice");
}

#[test]
fn each_defect_has_its_code_and_leaves_no_trace() {
    type Change = fn(&mut ArtifactTerms);
    let cases: [(&str, Change); 5] = [
        ("governance.issuer", |terms| terms.issuer = other_domain().verifier_spiffe_id()),
        ("governance.audience", |terms| terms.audience = other_domain().node_spiffe_id(&node())),
        ("governance.not_yet_valid", |terms| terms.not_before = NOW.plus(1)),
        ("governance.expired", |terms| terms.expires_at = NOW),
        ("governance.epoch_stale", |terms| terms.governance.epoch = 3),
    ];
    let mut fence = Fence::default();
    presented(&mut fence, &with_seq(2), "one", &[], 0).unwrap();
    let before = fence.clone();
    for (code, change) in cases {
        assert_eq!(presented(&mut fence, &signed(change), "one", &[], 0).unwrap_err(), code);
    }
    let forged = Artifact::issue(terms(), receipt(), &key(9)).unwrap();
    assert_eq!(presented(&mut fence, &forged, "one", &[], 0).unwrap_err(), "governance.signature_invalid");
    for revoked in [Revoked::Artifact(ArtifactId([1; 16])), Revoked::Node(node())] {
        assert_eq!(presented(&mut fence, &with_seq(3), "one", &[revoked], 0).unwrap_err(), "governance.revoked");
    }
    assert_eq!(fence, before);
}

#[test]
fn an_epoch_that_was_seen_is_the_lowest_from_then_on() {
    let mut fence = Fence::default();
    let newer = signed(|terms| (terms.governance.epoch, terms.id) = (6, ArtifactId([2; 16])));
    presented(&mut fence, &newer, "one", &[], 0).unwrap();
    assert_eq!(presented(&mut fence, &with_seq(2), "one", &[], 0).unwrap_err(), "governance.epoch_stale");
}

#[test]
fn what_was_seen_survives_a_restart_and_a_clock_that_goes_back() {
    let mut fence = Fence::default();
    presented(&mut fence, &with_seq(5), "one", &[], 50).unwrap();
    let mut fence = Fence::decode(&fence.encode().unwrap()).unwrap();
    assert_eq!(presented(&mut fence, &with_seq(4), "one", &[], 50).unwrap_err(), "governance.lease_seq_stale");
    // Its window ended at 60 s; a clock set back does not open it again.
    assert_eq!(presented(&mut fence, &with_seq(5), "one", &[], 61).unwrap_err(), "governance.expired");
    assert_eq!(presented(&mut fence, &with_seq(5), "one", &[], 0).unwrap_err(), "governance.expired");
    let mut bytes = fence.encode().unwrap();
    bytes.push(0);
    assert_eq!(Fence::decode(&bytes).unwrap_err().code(), "governance.malformed");
}

#[test]
fn a_lease_is_remembered_for_as_long_as_an_older_artifact_can_be_in_its_window() {
    let mut fence = Fence::default();
    presented(&mut fence, &with_seq(3), "one", &[], 0).unwrap();
    let longest = |terms: &mut ArtifactTerms| terms.expires_at = terms.not_before.plus(ARTIFACT_LIFETIME_CAP_S);
    let older = signed(longest);
    let last_s = ARTIFACT_LIFETIME_CAP_S - 31;
    assert_eq!(presented(&mut fence, &older, "one", &[], last_s).unwrap_err(), "governance.lease_seq_stale");
    assert_eq!(presented(&mut fence, &older, "one", &[], last_s + 1).unwrap_err(), "governance.expired");
}

proptest! {
    #[test]
    fn seqs_let_through_never_go_back_and_each_has_one_holder(
        presentations in proptest::collection::vec((1_u64..6, 0_usize..3, 0_u64..20), 1..60),
    ) {
        let artifacts: Vec<_> = (1..6).map(with_seq).collect();
        let (mut fence, mut highest, mut holders) = (Fence::default(), 0, std::collections::BTreeMap::new());
        for (seq, by, after_s) in presentations {
            let (bytes, by) = (&artifacts[usize::try_from(seq).unwrap() - 1], ["one", "two", "three"][by]);
            if presented(&mut fence, bytes, by, &[], after_s).is_ok() {
                prop_assert!(seq >= highest);
                highest = seq;
                prop_assert_eq!(*holders.entry(seq).or_insert(by), by);
            }
        }
    }
}
