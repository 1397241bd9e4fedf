//! Announcing, activating and retiring, one defect each.

use evidence::time::UnixSeconds;

use super::*;
use crate::fixture::*;

/// The second bundle of the fixture's domain announces this issuer.
const NEXT: u8 = 77;
const LIFE_S: u64 = 600;

fn short(sequence: u64, issued_at: UnixSeconds) -> TrustBundle {
    let record =
        |seed| vec![KeyRecord { key: key(seed).public().clone(), from: UnixSeconds(0), until: NOW.plus(99_999) }];
    let (issuer, witness, ca) = (record(ISSUER), record(4), vec![serde_bytes::ByteBuf::from([1; 9])]);
    TrustBundle { issued_at, expires_at: issued_at.plus(LIFE_S), issuer, witness, ca, ..bundle(sequence) }
}

fn announcing(from: UnixSeconds) -> TrustBundle {
    let mut next = short(9, NOW);
    next.issuer.push(KeyRecord { key: key(NEXT).public().clone(), from, until: from.plus(10_000) });
    next
}

fn history() -> Vec<TrustBundle> {
    vec![short(8, NOW.minus(60)), announcing(NOW.plus(2 * LIFE_S))]
}

fn kid(seed: u8) -> String {
    key(seed).public().kid().to_string()
}

fn active(bundle: &TrustBundle) -> impl Fn(OnlineRole) -> Option<String> {
    |role| names(bundle, role).into_iter().next()
}

/// Whether a bundle without the first issuer, which signs until `until`, may follow at `now`.
fn without_the_first(signs: u8, until: UnixSeconds, now: UnixSeconds) -> Result<(), GovernanceDenial> {
    let held = announcing(NOW.plus(2 * LIFE_S));
    let mut next = held.clone();
    next.issuer.remove(0);
    let active = |role| if role == OnlineRole::Issuer { Some(kid(signs)) } else { active(&held)(role) };
    retires(&held, &next, active, |_, _| until, now)
}

pub(crate) fn cases() -> Vec<crate::partner::tests::Refusal> {
    vec![
        ("governance.key_unannounced", || {
            may_sign(&history(), OnlineRole::Issuer, &kid(78), 5, NOW.plus(9_999)).unwrap_err()
        }),
        ("governance.key_unannounced", || may_sign(&[], OnlineRole::Ca, "", 5, NOW).unwrap_err()),
        ("governance.key_too_early", || {
            let now = NOW.plus(2 * LIFE_S + 4);
            may_sign(&history(), OnlineRole::Issuer, &kid(NEXT), 5, now).unwrap_err()
        }),
        ("governance.key_too_early", || {
            announces(&short(8, NOW.minus(60)), &announcing(NOW.plus(2 * LIFE_S - 1))).unwrap_err()
        }),
        ("governance.key_in_use", || without_the_first(ISSUER, UnixSeconds(0), NOW.plus(9_999)).unwrap_err()),
        ("governance.key_in_use", || without_the_first(NEXT, NOW.plus(9_999), NOW.plus(9_998)).unwrap_err()),
    ]
}

#[test]
fn a_key_signs_once_two_bundles_have_lived_since_its_announcement() {
    announces(&short(8, NOW.minus(60)), &announcing(NOW.plus(2 * LIFE_S))).unwrap();
    let (at, due) = announced(&history(), OnlineRole::Issuer, &kid(NEXT)).unwrap();
    assert_eq!((at, due), (NOW, NOW.plus(2 * LIFE_S)));
    may_sign(&history(), OnlineRole::Issuer, &kid(NEXT), 5, NOW.plus(2 * LIFE_S + 5)).unwrap();
    // The key that the domain was founded with needs no announcement.
    may_sign(&history(), OnlineRole::Issuer, &kid(ISSUER), 5, NOW).unwrap();
}

#[test]
fn a_bundle_that_lived_longer_before_makes_the_successor_wait_longer_but_never_longer_than_two_days() {
    let long = TrustBundle { expires_at: NOW.plus(4 * LIFE_S), ..short(8, NOW) };
    assert_eq!(earliest(&long, &short(9, NOW)), NOW.plus(8 * LIFE_S));
    let founding = TrustBundle { expires_at: NOW.plus(365 * 86_400), ..short(8, NOW) };
    assert_eq!(earliest(&founding, &short(9, NOW)), NOW.plus(2 * 86_400));
}

#[test]
fn an_announcement_that_was_taken_back_counts_from_when_it_was_made_again() {
    let again = TrustBundle { sequence: 11, issued_at: NOW.plus(100), ..announcing(NOW.plus(2 * LIFE_S)) };
    let history = [history(), vec![short(10, NOW.plus(50)), again]].concat();
    assert_eq!(announced(&history, OnlineRole::Issuer, &kid(NEXT)).unwrap().0, NOW.plus(100));
}

#[test]
fn a_key_leaves_when_what_it_signed_has_ended_or_it_signed_nothing() {
    without_the_first(NEXT, NOW.plus(9_999), NOW.plus(9_999)).unwrap();
    let held = announcing(NOW.plus(2 * LIFE_S));
    retires(&held, &short(10, NOW), active(&short(9, NOW)), |_, _| NOW.plus(9_999), NOW).unwrap();
}
