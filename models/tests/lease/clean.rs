//! The model with every rule in place.

use governance::{artifact::LEASE_CAP_MS, lease::RETRY_AFTER_MS};

use super::{Config, LEASE_UNITS, LeaseModel, UNIT_MS, readmission::THRESHOLD, world::Misfortunes};

/// Larger sizes are looked at up to this many steps; the time of a run is what bounds it.
const SAMPLE_STEPS: usize = 600_000;
/// Smaller ones are looked at whole.
const WHOLE: usize = 5_000_000;

pub(crate) fn one_domain(misfortunes: Misfortunes) -> Config {
    Config {
        domains: 1,
        needed: 1,
        horizon: 8,
        attempts: 3,
        stepwise: false,
        misfortunes,
        verifier_skew: vec![0],
        relying_party_skew: 0,
        effects: true,
        views: true,
    }
}

pub(crate) fn several(domains: usize, needed: u8, horizon: u8, misfortunes: Misfortunes) -> Config {
    Config {
        domains,
        needed,
        horizon,
        attempts: 2,
        verifier_skew: vec![0; domains],
        effects: false,
        ..one_domain(misfortunes)
    }
}

pub(crate) fn readmitting() -> Config {
    let misfortunes =
        Misfortunes { readmissions: 2, operator_halts: 2, node_restarts: 1, duplicates: 1, ..Misfortunes::default() };
    Config { horizon: 1, effects: false, ..one_domain(misfortunes) }
}

pub(crate) fn cloned() -> Config {
    let misfortunes = Misfortunes { clones: 1, relying_party_restarts: 1, ..Misfortunes::default() };
    Config { horizon: 4, attempts: 2, views: false, ..one_domain(misfortunes) }
}

/// A relying party that hears of no domain: what it lets through ends with the lease.
pub(crate) fn unheard() -> Config {
    let misfortunes = Misfortunes { revocations: 1, pauses: 1, ..Misfortunes::default() };
    Config { relying_party_skew: -1, views: false, attempts: 2, ..one_domain(misfortunes) }
}

pub(crate) fn revoked() -> Config {
    let misfortunes = Misfortunes { revocations: 1, pauses: 1, duplicates: 1, ..Misfortunes::default() };
    Config { relying_party_skew: -1, ..one_domain(misfortunes) }
}

pub(crate) fn recorded() -> Config {
    let misfortunes = Misfortunes { verifier_restarts: 1, publications: 1, duplicates: 1, ..Misfortunes::default() };
    Config { stepwise: true, horizon: 3, effects: false, ..one_domain(misfortunes) }
}

pub(crate) fn restored() -> Config {
    let misfortunes = Misfortunes { restores: 1, duplicates: 1, ..Misfortunes::default() };
    Config { horizon: 3, effects: false, ..one_domain(misfortunes) }
}

#[test]
fn one_domain_with_revocation_pause_and_a_late_clock_keeps_every_invariant() {
    models::clean("lease, revoked", LeaseModel::new(revoked(), None), SAMPLE_STEPS);
}

#[test]
fn a_cloned_node_never_has_two_holders_let_through() {
    models::clean("lease, cloned", LeaseModel::new(cloned(), None), WHOLE);
}

#[test]
fn a_relying_party_that_hears_nothing_lets_nothing_through_after_the_lease() {
    models::clean("lease, unheard", LeaseModel::new(unheard(), None), WHOLE);
}

#[test]
fn halts_absorb_everything_but_a_readmission_by_the_threshold() {
    models::clean("lease, readmitted", LeaseModel::new(readmitting(), None), SAMPLE_STEPS);
}

#[test]
fn what_is_answered_was_recorded_whatever_crashes() {
    models::clean("lease, recorded", LeaseModel::new(recorded(), None), SAMPLE_STEPS);
}

#[test]
fn a_verifier_on_an_old_database_answers_nobody() {
    models::clean("lease, restored", LeaseModel::new(restored(), None), WHOLE);
}

#[test]
fn two_of_two_domains_keep_every_invariant() {
    let misfortunes = Misfortunes { pauses: 1, revocations: 1, ..Misfortunes::default() };
    models::clean("lease, two of two domains", LeaseModel::new(several(2, 2, 4, misfortunes), None), SAMPLE_STEPS);
}

#[test]
fn one_of_two_domains_keeps_every_invariant() {
    let misfortunes = Misfortunes { revocations: 1, tampers: 1, ..Misfortunes::default() };
    models::clean("lease, one of two domains", LeaseModel::new(several(2, 1, 4, misfortunes), None), SAMPLE_STEPS);
}

#[test]
fn two_of_three_domains_go_on_beside_one_whose_clock_is_a_month_ahead_or_behind() {
    for skew in [-2_592_000, 2_592_000] {
        let config = Config { verifier_skew: vec![0, 0, skew], ..several(3, 2, 3, Misfortunes::default()) };
        models::clean("lease, two of three domains, one clock wrong", LeaseModel::new(config, None), SAMPLE_STEPS);
    }
}

#[test]
fn figures_of_the_model_are_those_of_the_code() {
    // What `verifier init` writes, and what `verifier serve` makes of it.
    let written = include_str!("../../../verifier/src/init.rs");
    assert!(written.contains("LeaseConfig { length_ms: 30_000 }"));
    let served = include_str!("../../../verifier/src/cli/serve.rs");
    assert!(served.contains("renew_after_ms: config.lease.length_ms / LEASE_PARTS"));
    assert!(served.contains(&format!("const LEASE_PARTS: u64 = {LEASE_UNITS};")));
    let issued = include_str!("../../../verifier/src/issuer.rs");
    assert!(issued.contains("expires_at: now.plus(lease_s)"), "a lease's window is its length");
    let authority = include_str!("../../../verifier/src/init.rs");
    assert!(authority.contains("threshold"), "{THRESHOLD}");
    assert_eq!(UNIT_MS, RETRY_AFTER_MS);
    assert!(u64::from(LEASE_UNITS) * UNIT_MS <= LEASE_CAP_MS, "the cap shortens no lease of the model");
}
