//! A partner's life, event by event; and one defect each for what is refused of it.

use evidence::{digest::Sha256Digest, kind::EvidenceKind};

use super::{GAP_CAP_EPOCHS, Growth, LogHead, Partner, PartnerAction, PartnerEvent, Standing};
use crate::{
    denial::GovernanceDenial,
    federation_grant::{FederationGrant, RATE_CAP_PER_MINUTE, STALENESS_CAP_S},
    fixture::*,
    governance_state::{GovernanceState, VerifiedState},
    revocation::{RevocationList, Revoked},
    statement::{Order, Statement, TrustedDomain},
    trust_bundle::{FEDERATION_LIFETIME_CAP_S, Role, TrustBundle, VerifiedBundle},
};

fn verified_bundle(bundle: &TrustBundle) -> VerifiedBundle {
    let signatures = [bundle.sign(&key(11)).unwrap(), bundle.sign(&key(13)).unwrap()];
    TrustBundle::verify(&signatures, &domain(), &authority(), FEDERATION_LIFETIME_CAP_S, NOW).unwrap()
}

/// A state that names what the fixture's partner serves, changed.
fn signed_state(
    epoch: u64,
    previous: Option<Sha256Digest>,
    change: impl FnOnce(&mut GovernanceState),
) -> VerifiedState {
    let mut state = state(epoch, previous);
    state.bundle = verified_bundle(&bundle(8)).digest();
    state.revocations = RevocationList::default().digest().unwrap();
    change(&mut state);
    GovernanceState::verify(&state.sign(&key(ISSUER)).unwrap(), &domain(), &keys(ISSUER), NOW).unwrap()
}

fn head(size: u64) -> LogHead {
    LogHead { size, root: digest(&format!("root {size}")) }
}

fn sees_head(size: u64) -> PartnerEvent {
    PartnerEvent::Head { head: head(size), growth: Growth::Proven }
}

fn sees(state: &VerifiedState) -> PartnerEvent {
    PartnerEvent::State { newest: Box::new(state.clone()), between: Vec::new() }
}

fn sees_over(state: &VerifiedState, between: &[&VerifiedState]) -> PartnerEvent {
    let between = between.iter().map(|state| state.state().encode().unwrap()).collect();
    PartnerEvent::State { newest: Box::new(state.clone()), between }
}

fn proves(state: &VerifiedState, size: u64) -> PartnerEvent {
    PartnerEvent::Proven { state: state.digest(), head: head(size), revocations: RevocationList::default() }
}

fn pinned() -> Partner {
    Partner::pinned(verified_bundle(&bundle(8)), endpoint(), grant(), NOW)
}

/// What the first refusal among the actions says.
fn refusal(actions: &[PartnerAction]) -> &GovernanceDenial {
    let refused = actions.iter().find_map(|action| match action {
        PartnerAction::Refused(denial) => Some(denial),
        _ => None,
    });
    refused.unwrap_or_else(|| panic!("nothing was refused: {actions:?}"))
}

fn obeyed(partner: Partner, event: PartnerEvent) -> Partner {
    let (partner, actions) = partner.on(event, NOW);
    assert!(!actions.iter().any(|action| matches!(action, PartnerAction::Refused(_))), "{actions:?}");
    partner
}

/// Taken through a whole pull of this state.
fn pulled(partner: Partner, state: &VerifiedState, size: u64) -> Partner {
    [sees_head(size), sees(state), proves(state, size)].into_iter().fold(partner, obeyed)
}

fn first_state() -> VerifiedState {
    signed_state(2, Some(digest("state 1")), |_| ())
}

fn fresh() -> (Partner, VerifiedState) {
    let first = first_state();
    (pulled(pinned(), &first, 10), first)
}

pub(crate) type Refusal = (&'static str, fn() -> GovernanceDenial);

fn refused_by_fresh(event: fn(&VerifiedState) -> PartnerEvent) -> GovernanceDenial {
    let (partner, first) = fresh();
    let (_, actions) = partner.on(event(&first), NOW);
    refusal(&actions).clone()
}

fn denied_after(event: fn(&VerifiedState) -> PartnerEvent) -> GovernanceDenial {
    let (partner, first) = fresh();
    let (partner, _) = partner.on(event(&first), NOW);
    partner.fresh(NOW).unwrap_err()
}

/// One defect each.
pub(crate) fn cases() -> Vec<Refusal> {
    vec![
        ("governance.partner_stale", || pinned().fresh(NOW).unwrap_err()),
        ("governance.partner_stale", || fresh().0.fresh(NOW.plus(300)).unwrap_err()),
        ("governance.state_stale", || {
            let grant = FederationGrant { max_staleness_s: 900, ..grant() };
            let partner =
                pulled(Partner::pinned(verified_bundle(&bundle(8)), endpoint(), grant, NOW), &first_state(), 10);
            partner.fresh(NOW.plus(600)).unwrap_err()
        }),
        ("governance.bundle_expired", || {
            let short = TrustBundle { expires_at: NOW.plus(100), ..bundle(8) };
            let state = signed_state(2, Some(digest("1")), |state| state.bundle = verified_bundle(&short).digest());
            let partner = pulled(Partner::pinned(verified_bundle(&short), endpoint(), grant(), NOW), &state, 10);
            partner.fresh(NOW.plus(100)).unwrap_err()
        }),
        ("governance.partner_untrusted", || denied_after(|_| PartnerEvent::Distrusted)),
        ("governance.partner_forked", || denied_after(|_| sees(&signed_state(2, Some(digest("0")), |_| ())))),
        ("governance.partner_rolled_back", || denied_after(|_| sees(&signed_state(1, None, |_| ())))),
        ("governance.state_forked", || refused_by_fresh(|_| sees(&signed_state(2, Some(digest("0")), |_| ())))),
        ("governance.state_forked", || {
            refused_by_fresh(|_| sees(&signed_state(3, Some(digest("another past")), |_| ())))
        }),
        ("governance.state_rolled_back", || refused_by_fresh(|_| sees(&signed_state(1, None, |_| ())))),
        ("governance.state_gap", || refused_by_fresh(|_| sees(&signed_state(4, Some(digest("3")), |_| ())))),
        ("governance.state_gap", || {
            refused_by_fresh(|first| {
                let third = signed_state(3, Some(first.digest()), |_| ());
                sees_over(&signed_state(4, Some(digest("not the third")), |_| ()), &[&third])
            })
        }),
        ("governance.state_unlogged", || {
            let (partner, first) = fresh();
            let next = signed_state(3, Some(first.digest()), |_| ());
            let (_, actions) = obeyed(partner, sees(&next)).on(proves(&next, 11), NOW);
            refusal(&actions).clone()
        }),
        ("governance.state_mismatch", || {
            let (partner, first) = fresh();
            let next = signed_state(3, Some(first.digest()), |_| ());
            let (_, actions) = obeyed(partner, sees(&next)).on(proves(&first, 10), NOW);
            refusal(&actions).clone()
        }),
        ("governance.trust_inconsistent", || {
            let state = signed_state(2, Some(digest("1")), |state| state.bundle = digest("another"));
            refusal(&obeyed(pinned(), sees_head(10)).on(sees(&state), NOW).1).clone()
        }),
        ("governance.trust_inconsistent", || {
            let third =
                |first: &VerifiedState| signed_state(3, Some(first.digest()), |state| state.bundle = digest("another"));
            let (partner, first) = fresh();
            partner.on(sees(&third(&first)), NOW).0.fresh(NOW).unwrap_err()
        }),
        ("governance.trust_inconsistent", || {
            let state = signed_state(2, Some(digest("1")), |state| state.revocations = digest("another"));
            let partner = [sees_head(10), sees(&state)].into_iter().fold(pinned(), obeyed);
            refusal(&partner.on(proves(&state, 10), NOW).1).clone()
        }),
        ("governance.trust_inconsistent", || {
            // What a state relied on before the newest one was seen counts no more once another took its place.
            let (partner, first) = fresh();
            let partner = obeyed(partner, PartnerEvent::Bundle(Box::new(verified_bundle(&bundle(9)))));
            let third = signed_state(3, Some(first.digest()), |state| {
                state.bundle = verified_bundle(&bundle(9)).digest();
            });
            let partner = pulled(partner, &third, 11);
            let fourth = signed_state(4, Some(third.digest()), |_| ());
            refusal(&obeyed(partner, sees_head(12)).on(sees(&fourth), NOW).1).clone()
        }),
        ("governance.bundle_rolled_back", || {
            refused_by_fresh(|_| PartnerEvent::Bundle(Box::new(verified_bundle(&bundle(7)))))
        }),
        ("governance.bundle_forked", || {
            refused_by_fresh(|_| {
                let other = TrustBundle { refresh_hint_s: 7, ..bundle(8) };
                PartnerEvent::Bundle(Box::new(verified_bundle(&other)))
            })
        }),
        ("governance.log_rolled_back", || refused_by_fresh(|_| sees_head(9))),
        ("governance.log_forked", || {
            refused_by_fresh(|_| {
                let other = LogHead { size: 10, root: digest("another root") };
                PartnerEvent::Head { head: other, growth: Growth::Unproven }
            })
        }),
        ("governance.log_forked", || {
            refused_by_fresh(|_| PartnerEvent::Head { head: head(11), growth: Growth::Contradicted })
        }),
        ("governance.log_unproven", || refused_by_fresh(|_| PartnerEvent::Rumoured { head: head(3) })),
        ("governance.log_unproven", || {
            refused_by_fresh(|_| PartnerEvent::Head { head: head(11), growth: Growth::Unproven })
        }),
        ("governance.log_forked", || {
            // Whatever head we hold ourselves.
            refused_by_fresh(|_| PartnerEvent::Equivocated { size: 3, got: Sha256Digest([1; 32]), held: head(3).root })
        }),
        ("governance.partner_forked", || {
            denied_after(|_| PartnerEvent::Equivocated { size: 3, got: digest("one"), held: digest("another") })
        }),
        ("governance.malformed", || {
            let (bytes, _) = fresh().0.memory().unwrap().encode().unwrap();
            Partner::recall(&bytes, digest("what the log names"), None, NOW).unwrap_err()
        }),
        ("governance.grant_name", || grant().admits_name(&domain(), "spiffe://b.example/node/n1").unwrap_err()),
        ("governance.grant_name", || grant().admits_name(&domain(), "spiffe://a.example/verifier").unwrap_err()),
        ("governance.grant_name", || grant().admits_name(&domain(), "spiffe://a.example.x/node/n").unwrap_err()),
        ("governance.grant_kind", || grant().admits_kind(&domain(), EvidenceKind::Tdx).unwrap_err()),
        ("governance.grant_lease", || grant().admits_lease(&domain(), 30_001).unwrap_err()),
        ("governance.grant_rate", || grant().admits_rate(&domain(), 61).unwrap_err()),
        ("governance.grant_results", || grant().admits_results(&domain()).unwrap_err()),
        ("governance.grant_witness", || {
            FederationGrant { witness: false, ..grant() }.admits_witness(&domain()).unwrap_err()
        }),
        ("governance.trust_inconsistent", || {
            let signed = [bundle(8).sign(&key(11)).unwrap(), bundle(8).sign(&key(12)).unwrap()];
            trusted(digest("another bundle")).open(&signed, NOW).unwrap_err()
        }),
        ("governance.threshold_not_met", || {
            let signed = [bundle(8).sign(&key(11)).unwrap()];
            trusted(verified_bundle(&bundle(8)).digest()).open(&signed, NOW).unwrap_err()
        }),
        // A signature is for the domain that made it: that is refused before the name within is read.
        ("governance.threshold_not_met", || {
            let signed = [bundle(8).sign(&key(11)).unwrap(), bundle(8).sign(&key(12)).unwrap()];
            let named = TrustedDomain { domain: other_domain(), ..trusted(verified_bundle(&bundle(8)).digest()) };
            named.open(&signed, NOW).unwrap_err()
        }),
        ("governance.field_invalid", || {
            let order = Order::TrustDomain(Box::new(trusted(digest("bundle"))));
            Statement { order, ..statement() }.sign(&key(11)).unwrap_err()
        }),
        ("governance.field_invalid", || FederationGrant { lease_ms: 0, ..grant() }.bounded().unwrap_err()),
        ("governance.field_invalid", || FederationGrant { path_prefix: text("n"), ..grant() }.bounded().unwrap_err()),
        ("governance.field_invalid", || {
            FederationGrant { rate_per_minute: RATE_CAP_PER_MINUTE + 1, ..grant() }.bounded().unwrap_err()
        }),
        ("governance.field_invalid", || {
            FederationGrant { max_staleness_s: STALENESS_CAP_S + 1, ..grant() }.bounded().unwrap_err()
        }),
    ]
}

#[test]
fn a_pull_makes_it_fresh_until_it_was_not_seen_for_too_long_and_again_once_it_is() {
    let (partner, first) = fresh();
    let relied = partner.fresh(NOW.plus(299)).unwrap();
    assert_eq!((relied.state(), relied.domain(), relied.keys(Role::Issuer).len()), (&first, &domain(), 1));
    assert!(!partner.is_due(NOW.plus(299)) && partner.is_due(NOW.plus(300)));
    let (partner, actions) = partner.on(PartnerEvent::Tick, NOW.plus(300));
    assert_eq!(actions, [PartnerAction::Stands { from: Standing::Fresh, to: Standing::Stale }]);
    assert!(!partner.is_due(NOW.plus(300)), "told once");
    // A time that goes back undoes nothing.
    assert_eq!(partner.standing(NOW), Standing::Stale);
    let (partner, actions) = partner.on(sees(&first), NOW.plus(301));
    assert_eq!(actions, [PartnerAction::Stands { from: Standing::Stale, to: Standing::Fresh }]);
    partner.fresh(NOW.plus(599)).unwrap();
}

#[test]
fn a_state_counts_only_with_all_its_proofs() {
    let first = first_state();
    let partner = obeyed(pinned(), sees_head(10));
    let partner = obeyed(partner, sees(&first));
    assert_eq!((partner.standing(NOW), partner.state()), (Standing::Stale, None));
    let partner = obeyed(partner, proves(&first, 10));
    assert_eq!((partner.standing(NOW), partner.state()), (Standing::Fresh, Some(&first)));
}

#[test]
fn the_states_between_are_fetched_and_walked_without_signatures() {
    let (partner, first) = fresh();
    let third = signed_state(3, Some(first.digest()), |_| ());
    let fourth = signed_state(4, Some(third.digest()), |_| ());
    let (partner, actions) = partner.on(sees(&fourth), NOW);
    assert_eq!(actions[0], PartnerAction::Fetch { from: 3, to: 3 });
    assert_eq!(refusal(&actions).code(), "governance.state_gap");
    assert_eq!(partner.standing(NOW), Standing::Fresh);
    let partner = obeyed(partner, sees_over(&fourth, &[&third]));
    let partner = obeyed(partner, proves(&fourth, 10));
    assert_eq!(partner.state(), Some(&fourth));
    let far = signed_state(6 + GAP_CAP_EPOCHS, Some(digest("far")), |_| ());
    let (_, actions) = partner.on(sees(&far), NOW);
    assert!(!actions.iter().any(|action| matches!(action, PartnerAction::Fetch { .. })), "{actions:?}");
}

#[test]
fn a_chain_that_the_newest_state_names_and_that_leaves_the_held_one_is_a_fork() {
    let (partner, _) = fresh();
    let other = signed_state(3, Some(digest("another second")), |_| ());
    let fourth = signed_state(4, Some(other.digest()), |_| ());
    let (partner, actions) = partner.on(sees_over(&fourth, &[&other]), NOW);
    assert_eq!(refusal(&actions).code(), "governance.state_forked");
    assert_eq!(partner.standing(NOW), Standing::Forked);
}

#[test]
fn a_state_that_was_signed_but_never_proven_is_remembered_against_the_partner() {
    let (partner, first) = fresh();
    let third = signed_state(3, Some(first.digest()), |_| ());
    let partner = obeyed(partner, sees(&third));
    let (bytes, digest) = partner.memory().unwrap().encode().unwrap();
    let partner = Partner::recall(&bytes, digest, partner.head(), NOW).unwrap();
    let other = signed_state(3, Some(first.digest()), |state| state.expires_at = NOW.plus(601));
    let (partner, _) = partner.on(sees(&other), NOW);
    assert_eq!(partner.standing(NOW), Standing::Forked);
}

#[test]
fn a_fork_a_rollback_and_distrust_absorb_whatever_comes() {
    let others: [fn(&VerifiedState) -> PartnerEvent; 3] =
        [|_| sees(&signed_state(2, Some(digest("0")), |_| ())), |_| sees_head(9), |_| PartnerEvent::Distrusted];
    for other in others {
        let (partner, first) = fresh();
        let (partner, actions) = partner.on(other(&first), NOW);
        assert!(actions.contains(&PartnerAction::Remember));
        let stands = partner.standing(NOW);
        assert!(stands != Standing::Fresh && stands != Standing::Stale);
        let (bytes, digest) = partner.memory().unwrap().encode().unwrap();
        let partner = Partner::recall(&bytes, digest, partner.head(), NOW).unwrap();
        let third = signed_state(3, Some(first.digest()), |_| ());
        let partner = [sees_head(12), sees(&first), sees(&third), proves(&third, 12), PartnerEvent::Tick]
            .into_iter()
            .fold(partner, |partner, event| partner.on(event, NOW.plus(1)).0);
        assert_eq!(partner.standing(NOW.plus(1)), stands);
    }
}

#[test]
fn a_restart_keeps_every_high_water_mark_and_forgets_when_it_was_seen() {
    let (partner, first) = fresh();
    let (bytes, digest) = partner.memory().unwrap().encode().unwrap();
    let recalled = Partner::recall(&bytes, digest, partner.head(), NOW).unwrap();
    assert_eq!(recalled.standing(NOW), Standing::Stale);
    for older in [sees_head(9), sees(&signed_state(1, None, |_| ()))] {
        let (partner, _) = recalled.clone().on(older, NOW);
        assert_eq!(partner.standing(NOW), Standing::RolledBack);
    }
    let recalled = obeyed(recalled, sees(&first));
    assert_eq!(recalled.fresh(NOW).unwrap().state(), &first);
}

#[test]
fn a_new_bundle_with_a_state_that_names_it_rotates_the_keys() {
    let (partner, first) = fresh();
    let (partner, actions) = partner.on(PartnerEvent::Bundle(Box::new(verified_bundle(&bundle(9)))), NOW);
    assert_eq!(actions, [PartnerAction::Remember]);
    let digest = partner.bundle().digest();
    // Until a state names it, what was relied on goes on: over a restart, too, after which it must be seen once.
    assert_eq!(partner.fresh(NOW).unwrap().bundle().bundle().sequence, 8);
    let (bytes, logged) = partner.memory().unwrap().encode().unwrap();
    let recalled = obeyed(Partner::recall(&bytes, logged, partner.head(), NOW).unwrap(), sees(&first));
    assert_eq!(recalled.fresh(NOW).unwrap().bundle().bundle().sequence, 8);
    let (older, _) = recalled.on(PartnerEvent::Bundle(Box::new(verified_bundle(&bundle(8)))), NOW);
    assert_eq!(older.standing(NOW), Standing::RolledBack);
    let third = signed_state(3, Some(first.digest()), |state| state.bundle = digest);
    let partner = pulled(partner, &third, 11);
    assert_eq!(partner.fresh(NOW).unwrap().bundle().bundle().sequence, 9);
}

#[test]
fn a_state_that_names_an_unknown_bundle_serves_nobody_until_both_fit_again_over_a_restart_too() {
    let (partner, first) = fresh();
    let (eight, nine) = (verified_bundle(&bundle(8)), verified_bundle(&bundle(9)));
    let third = signed_state(3, Some(first.digest()), |state| state.bundle = nine.digest());
    assert!(partner.fits(&first, &nine) && partner.fits(&third, &nine) && !partner.fits(&third, &eight));
    let (partner, actions) = partner.on(sees(&third), NOW);
    let stands = PartnerAction::Stands { from: Standing::Fresh, to: Standing::Inconsistent };
    assert!(actions.contains(&stands) && actions.contains(&PartnerAction::Remember), "{actions:?}");
    // Neither its proofs nor time make anything else of it.
    let (partner, actions) = partner.on(sees_head(11), NOW).0.on(proves(&third, 11), NOW);
    assert_eq!(refusal(&actions).code(), "governance.trust_inconsistent");
    assert_eq!((partner.standing(NOW.plus(10_000)), partner.state()), (Standing::Inconsistent, Some(&first)));
    let (bytes, logged) = partner.memory().unwrap().encode().unwrap();
    let recalled = Partner::recall(&bytes, logged, partner.head(), NOW).unwrap();
    assert_eq!(recalled.fresh(NOW).unwrap_err().code(), "governance.trust_inconsistent");
    // The bundle that it names makes both fit, and the next pull takes the state.
    let (whole, actions) = recalled.clone().on(PartnerEvent::Bundle(Box::new(nine)), NOW);
    assert!(!actions.iter().any(|action| matches!(action, PartnerAction::Refused(_))), "{actions:?}");
    assert_eq!(whole.standing(NOW), Standing::Stale, "a restart forgets when it was seen");
    assert_eq!(pulled(whole, &third, 12).fresh(NOW).unwrap().bundle().bundle().sequence, 9);
    // So does a newer state that names what is served.
    let fourth = signed_state(4, Some(third.digest()), |_| ());
    assert_eq!(pulled(recalled, &fourth, 12).standing(NOW), Standing::Fresh);
}

#[test]
fn revocations_come_with_the_state_that_names_them() {
    let list = RevocationList::new([(Revoked::Node(node()), text("stolen"))]);
    let state = signed_state(2, Some(digest("1")), |state| state.revocations = list.digest().unwrap());
    let partner = [sees_head(10), sees(&state)].into_iter().fold(pinned(), obeyed);
    let event = PartnerEvent::Proven { state: state.digest(), head: head(10), revocations: list.clone() };
    let partner = obeyed(partner, event);
    let (bytes, digest) = partner.memory().unwrap().encode().unwrap();
    let recalled = obeyed(Partner::recall(&bytes, digest, partner.head(), NOW).unwrap(), sees(&state));
    assert_eq!(recalled.fresh(NOW).unwrap().revocations(), &list);
}

#[test]
fn what_is_within_the_grant_is_admitted() {
    let (grant, partner) = (grant(), domain());
    grant.bounded().unwrap();
    grant.admits_name(&partner, "spiffe://a.example/node/n1").unwrap();
    grant.admits_kind(&partner, EvidenceKind::Tpm).unwrap();
    grant.admits_lease(&partner, 30_000).unwrap();
    grant.admits_rate(&partner, 60).unwrap();
    grant.admits_witness(&partner).unwrap();
    FederationGrant { results: true, ..grant }.admits_results(&partner).unwrap();
}

#[test]
fn what_a_grant_refuses_to_repeat_is_not_printed() {
    let denial = grant().admits_name(&domain(), "spiffe://b\u{1b}[2J\n").unwrap_err().to_string();
    assert!(denial.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{denial:?}");
}

#[test]
fn growth_that_is_not_proven_condemns_nobody_and_counts_as_nothing_seen() {
    let (partner, first) = fresh();
    let unproven = || PartnerEvent::Head { head: head(11), growth: Growth::Unproven };
    let later = NOW.plus(200);
    let partner = [unproven(), sees(&first)].into_iter().fold(partner, |partner, event| partner.on(event, later).0);
    assert_eq!(
        (partner.standing(later), partner.seen_at(), partner.head()),
        (Standing::Fresh, Some(NOW), Some(head(10)))
    );
    // It serves on under what is held, and not a second longer for what came unproven.
    assert_eq!(partner.fresh(NOW.plus(300)).unwrap_err().code(), "governance.partner_stale");
    let again = [sees_head(11), sees(&first)].into_iter();
    let partner = again.fold(partner, |partner, event| partner.on(event, NOW.plus(301)).0);
    assert_eq!(partner.standing(NOW.plus(301)), Standing::Fresh);
}

#[test]
fn a_head_that_others_saw_and_that_is_never_proven_makes_a_partner_stale_until_it_is() {
    let (partner, first) = fresh();
    let rumoured = || PartnerEvent::Rumoured { head: head(30) };
    let pull = [sees_head(10), rumoured(), sees(&first)].into_iter();
    let partner = pull.fold(partner, |partner, event| partner.on(event, NOW.plus(200)).0);
    assert_eq!(partner.standing(NOW.plus(299)), Standing::Fresh);
    assert_eq!(partner.fresh(NOW.plus(300)).unwrap_err().code(), "governance.partner_stale");
    // Nor does a newer state count beside it.
    let third = signed_state(3, Some(first.digest()), |_| ());
    let (partner, _) = partner.on(rumoured(), NOW.plus(300));
    let (partner, actions) = partner.on(sees(&third), NOW.plus(300)).0.on(proves(&third, 10), NOW.plus(300));
    assert_eq!(refusal(&actions).code(), "governance.state_unlogged");
    assert_eq!(partner.state(), Some(&first));
    // Once it is proven, the next pull brings everything.
    let pull = [sees_head(10), sees(&third), proves(&third, 10)].into_iter();
    let partner = pull.fold(partner, |partner, event| partner.on(event, NOW.plus(302)).0);
    assert_eq!(partner.standing(NOW.plus(302)), Standing::Fresh);
}
